//! Passkeys, and what browsers were asked to sign with them. What stands in `credential` and `state` is the pages' alone.
use super::{Added, FactorChange, added, lock_confirmed, removed};
use crate::{Store, StoreError, User, access::lock_user, fault::Doing};
use domain::ids::UserId;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

/// What refuses a passkey beyond the last.
pub const PASSKEYS_LIMIT_RULE: &str = "passkeys_limit";

/// What refuses a passkey that is somebody's already.
pub const PASSKEY_TAKEN_RULE: &str = "passkeys_credential_key";

/// How many passkeys one user may have.
const PASSKEYS_LIMIT: i64 = 20;

/// What a browser is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CeremonyKind {
    /// A new passkey.
    Add,
    /// A signature, by whoever is at the door and says no name.
    LogIn,
    /// A signature, as the second step of a log-in.
    Second,
    /// A signature, to say again who one is.
    Again,
}

impl CeremonyKind {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::LogIn => "log_in",
            Self::Second => "second",
            Self::Again => "again",
        }
    }
}

/// A passkey as its owner reads it.
#[derive(Debug, Clone)]
pub struct PasskeyLine {
    /// Which.
    pub id: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// When it was added.
    pub created_at: OffsetDateTime,
    /// When it was last used.
    pub used_at: Option<OffsetDateTime>,
}

/// A passkey as it is checked.
#[derive(Debug, Clone)]
pub struct StoredPasskey {
    /// Which.
    pub id: Uuid,
    /// The public key and what is known of its device.
    pub credential: Value,
}

/// A passkey that somebody adds.
#[derive(Debug, Clone)]
pub struct NewPasskey {
    /// What the browser names it by.
    pub credential_id: Vec<u8>,
    /// The public key and what is known of its device.
    pub credential: Value,
    /// What its owner calls it.
    pub name: String,
}

impl Store {
    pub(super) async fn passkey_lines(&self, user: UserId) -> Result<Vec<PasskeyLine>, StoreError> {
        sqlx::query_as!(
            PasskeyLine,
            "select id, name, created_at, used_at from passkeys where user_id = $1 order by created_at, id",
            user.0,
        )
        .fetch_all(&self.pool)
        .await
        .doing("listing passkeys")
    }

    /// The passkeys of a user, to check a signature with.
    pub async fn passkeys(&self, user: UserId) -> Result<Vec<StoredPasskey>, StoreError> {
        sqlx::query_as!(
            StoredPasskey,
            "select id, credential from passkeys where user_id = $1 order by created_at, id",
            user.0,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading passkeys")
    }

    /// Adds a passkey.
    ///
    /// *Errors*: [`StoreError::Conflict`]: `user_epoch` when all of the user's sessions were ended meanwhile,
    /// [`super::UNCONFIRMED_RULE`] while their address is not confirmed, [`PASSKEYS_LIMIT_RULE`] when there are too many,
    /// [`PASSKEY_TAKEN_RULE`] when it is somebody's already.
    pub async fn add_passkey(
        &self,
        user: &User,
        new: &NewPasskey,
        code_hashes: &[[u8; 32]],
    ) -> Result<Added, StoreError> {
        let mut tx = self.begin().await?;
        lock_confirmed(&mut tx, user).await?;
        let made = sqlx::query!(
            "insert into passkeys (id, user_id, credential_id, credential, name)
             select $1::uuid, $2::uuid, $3::bytea, $4::jsonb, $5::text where (select count(*) from passkeys where user_id = $2) < $6",
            Uuid::new_v4(),
            user.id.0,
            new.credential_id,
            new.credential,
            new.name,
            PASSKEYS_LIMIT,
        )
        .execute(&mut *tx)
        .await
        .doing("adding a passkey")?;
        if made.rows_affected() != 1 {
            return Err(StoreError::conflict(PASSKEYS_LIMIT_RULE));
        }
        let added = added(&mut tx, user, FactorChange::PasskeyAdded, code_hashes).await?;
        tx.commit().await.doing("adding a passkey")?;
        Ok(added)
    }

    /// Takes a passkey of a user away; with the last factor the recovery codes go, too. Gives the epoch that begins, nothing when
    /// there is no such passkey of theirs.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn remove_passkey(&self, user: &User, id: Uuid) -> Result<Option<i32>, StoreError> {
        let mut tx = self.begin().await?;
        lock_user(&mut tx, user).await?;
        let gone = sqlx::query!("delete from passkeys where id = $1 and user_id = $2", id, user.id.0)
            .execute(&mut *tx)
            .await
            .doing("removing a passkey")?;
        if gone.rows_affected() != 1 {
            return Ok(None);
        }
        let epoch = removed(&mut tx, user, FactorChange::PasskeyRemoved).await?;
        tx.commit().await.doing("removing a passkey")?;
        Ok(Some(epoch))
    }

    /// Notes that a passkey was used, with what is known of its device now. Says no when somebody used it meanwhile, or it was
    /// taken away: of two devices with the same count one is a copy.
    pub async fn passkey_used(&self, before: &StoredPasskey, now: &Value) -> Result<bool, StoreError> {
        let noted = sqlx::query!(
            "update passkeys set credential = $3, used_at = now() where id = $1 and credential = $2",
            before.id,
            before.credential,
            now,
        )
        .execute(&self.pool)
        .await
        .doing("noting the use of a passkey")?;
        Ok(noted.rows_affected() == 1)
    }

    /// Keeps what a browser is asked to sign, for ten minutes.
    pub async fn begin_ceremony(
        &self,
        kind: CeremonyKind,
        user: Option<UserId>,
        state: &Value,
    ) -> Result<Uuid, StoreError> {
        let id = Uuid::new_v4();
        sqlx::query!(
            "insert into passkey_ceremonies (id, kind, user_id, state, expires_at)
             values ($1, $2, $3, $4, now() + interval '10 minutes')",
            id,
            kind.as_str(),
            user.map(|user| user.0),
            state,
        )
        .execute(&self.pool)
        .await
        .doing("asking for a passkey")?;
        Ok(id)
    }

    /// Takes away what a browser was asked to sign. Nothing when it was answered before, is too old, or was asked of somebody
    /// else or for something else.
    pub async fn take_ceremony(
        &self,
        id: Uuid,
        kind: CeremonyKind,
        user: Option<UserId>,
    ) -> Result<Option<Value>, StoreError> {
        sqlx::query_scalar!(
            "delete from passkey_ceremonies
             where id = $1 and kind = $2 and user_id is not distinct from $3 and expires_at > now() returning state",
            id,
            kind.as_str(),
            user.map(|user| user.0),
        )
        .fetch_optional(&self.pool)
        .await
        .doing("taking an answer of a passkey")
    }
}
