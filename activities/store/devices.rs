//! Browsers that somebody logged in with before. Their cookie holds a random token; its hash alone stands in the table.
use crate::{Store, StoreError, fault::Doing};
use domain::ids::UserId;
use time::OffsetDateTime;
use uuid::Uuid;

/// How many browsers of one user are remembered; of more, those used last.
const DEVICES_LIMIT: i64 = 50;

/// A browser somebody logs in with for the first time. Has no `Debug`: it says where a person is.
#[derive(Clone)]
pub struct NewDevice {
    /// SHA-256 of the token in its cookie.
    pub token_hash: [u8; 32],
    /// What it seems to be, in our own words.
    pub agent: String,
    /// The address it is at.
    pub network: String,
}

/// A known browser. Has no `Debug`: it says where a person is.
#[derive(Clone)]
pub struct Device {
    /// Whose.
    pub user: UserId,
    /// What it seems to be, in our own words.
    pub agent: String,
    /// The address it was at first.
    pub network: String,
    /// When it was first seen.
    pub created_at: OffsetDateTime,
}

impl Store {
    /// The browser with this token, when the user with this address logged in with it before.
    pub async fn known_device(&self, token_hash: &[u8; 32], email: &str) -> Result<Option<Uuid>, StoreError> {
        sqlx::query_scalar!(
            "select d.id from devices d join users u on u.id = d.user_id where d.token_hash = $1 and u.email = $2",
            token_hash.as_slice(),
            email,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("looking for a device")
    }

    /// A known browser; nothing once it was forgotten.
    pub async fn device(&self, id: Uuid) -> Result<Option<Device>, StoreError> {
        let row = sqlx::query!("select user_id, agent, network, created_at from devices where id = $1", id)
            .fetch_optional(&self.pool)
            .await
            .doing("reading a device")?;
        Ok(row.map(|row| Device {
            user: UserId(row.user_id),
            agent: row.agent,
            network: row.network,
            created_at: row.created_at,
        }))
    }

    /// The known browsers of a user.
    pub async fn devices_of(&self, user: UserId) -> Result<Vec<Uuid>, StoreError> {
        sqlx::query_scalar!("select id from devices where user_id = $1", user.0)
            .fetch_all(&self.pool)
            .await
            .doing("listing devices")
    }

    /// Notes that a known browser was used again.
    pub async fn device_seen(&self, id: Uuid) -> Result<(), StoreError> {
        sqlx::query!("update devices set seen_at = now() where id = $1", id)
            .execute(&self.pool)
            .await
            .doing("noting a device")?;
        Ok(())
    }

    /// Remembers a browser. Its owner is told by letter, unless it is the first one, or one of the same kind was at the same
    /// address before: a browser that forgot its cookies is nothing to be told of. Not remembered is one that is let in while all
    /// of the user's sessions are ended.
    pub async fn remember_device(&self, user: UserId, epoch: i32, new: &NewDevice) -> Result<(), StoreError> {
        let id = Uuid::new_v4();
        let mut tx = self.begin().await?;
        // Locked, so that of two first ones at once the second is told of.
        let user = sqlx::query_scalar!(
            "select id from users where id = $1 and access_epoch = $2 for no key update",
            user.0,
            epoch,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking a user")?;
        let Some(user) = user else { return Ok(()) };
        sqlx::query!(
            "insert into letters (occasion, kind, user_id, state)
             select 'new_device/' || $1::uuid, 'new_device', $2, 'queued'
             where exists (select 1 from devices where user_id = $2)
                and not exists (select 1 from devices where user_id = $2 and agent = $3 and network = $4)",
            id,
            user,
            new.agent,
            new.network,
        )
        .execute(&mut *tx)
        .await
        .doing("queueing a letter")?;
        sqlx::query!(
            "insert into devices (id, user_id, token_hash, agent, network) values ($1, $2, $3, $4, $5)",
            id,
            user,
            new.token_hash.as_slice(),
            new.agent,
            new.network,
        )
        .execute(&mut *tx)
        .await
        .doing("remembering a device")?;
        sqlx::query!(
            "delete from devices where user_id = $1
                and id not in (select id from devices where user_id = $1 order by seen_at desc, id limit $2)",
            user,
            DEVICES_LIMIT,
        )
        .execute(&mut *tx)
        .await
        .doing("forgetting devices")?;
        tx.commit().await.doing("remembering a device")
    }
}
