//! What has to be looked at in Stripe for the mirror. A row says *look*, however often it was asked for; it goes when it was
//! looked at and nobody asked again meanwhile, so a process that dies on the way loses nothing.
use crate::{
    Store, StoreError,
    fault::{Doing, count},
};

/// One look that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueLook {
    /// What to look at: a customer (`cus_…`) or a payment (`ch_…`, `py_…`, `pi_…`).
    pub id: String,
    /// Which asking this answers.
    pub asked: i64,
    /// How many tries failed before.
    pub attempts: u32,
}

/// What a look that cannot be made is called among the payment events that staff see.
const LOOK: &str = "look/";

impl Store {
    /// Asks for looks, in a moment: several events about one thing are one look.
    pub async fn ask_for_looks(&self, ids: &[String]) -> Result<(), StoreError> {
        let mut ids = ids.to_vec();
        // One order for everybody, so that two askers cannot wait for each other.
        ids.sort_unstable();
        ids.dedup();
        sqlx::query!(
            "insert into mirror_looks (id, due_at) select id, now() + interval '300 milliseconds' from unnest($1::text[]) as id
             on conflict (id) do update set asked = mirror_looks.asked + 1,
                attempts = 0, due_at = least(mirror_looks.due_at, excluded.due_at)",
            &ids,
        )
        .execute(&self.pool)
        .await
        .doing("asking for looks")?;
        Ok(())
    }

    /// Takes looks that are due, oldest first. For half a minute nobody else gets them, unless somebody asks again.
    pub async fn due_looks(&self, limit: i64) -> Result<Vec<DueLook>, StoreError> {
        let rows = sqlx::query!(
            "update mirror_looks set due_at = now() + interval '30 seconds'
             where id in (select id from mirror_looks where due_at <= now() order by due_at limit $1 for update skip locked)
             returning id, asked, attempts",
            limit,
        )
        .fetch_all(&self.pool)
        .await
        .doing("taking looks")?;
        rows.into_iter()
            .map(|row| {
                Ok(DueLook { id: row.id, asked: row.asked, attempts: count(row.attempts, "a look's attempts")? })
            })
            .collect()
    }

    /// Notes that it was looked. It is due again at once when somebody asked meanwhile.
    pub async fn looked(&self, look: &DueLook) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let done = sqlx::query!("delete from mirror_looks where id = $1 and asked = $2", look.id, look.asked)
            .execute(&mut *tx)
            .await
            .doing("ending a look")?;
        if done.rows_affected() == 0 {
            sqlx::query!("update mirror_looks set due_at = now(), attempts = 0 where id = $1", look.id)
                .execute(&mut *tx)
                .await
                .doing("putting a look off")?;
        }
        sqlx::query!(
            "update payment_events set state = 'handled', last_error = null, handled_at = now()
             where id = $1 and state = 'unclaimed'",
            format!("{LOOK}{}", look.id),
        )
        .execute(&mut *tx)
        .await
        .doing("taking a look from staff")?;
        tx.commit().await.doing("ending a look")
    }

    /// Notes that a look could not be made. It is due again after a pause that doubles from one second up to five minutes.
    pub async fn look_failed(&self, look: &DueLook, error: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "update mirror_looks set attempts = attempts + 1, last_error = $2,
                due_at = now() + least(power(2, least(attempts, 10)), 300) * interval '1 second'
             where id = $1",
            look.id,
            error,
        )
        .execute(&self.pool)
        .await
        .doing("putting a look off")?;
        Ok(())
    }

    /// Gives up a look and shows staff what could not be looked at, and why.
    pub async fn look_for_staff(&self, look: &DueLook, why: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query!(
            "insert into payment_events
                (id, type, object_id, object_kind, stripe_created_at, livemode, state, last_error)
             values ($1, 'look', $2, 'found', now(), true, 'unclaimed', $3)
             on conflict (id) do update set state = 'unclaimed', last_error = excluded.last_error",
            format!("{LOOK}{}", look.id),
            look.id,
            why,
        )
        .execute(&mut *tx)
        .await
        .doing("showing a look to staff")?;
        sqlx::query!("delete from mirror_looks where id = $1 and asked = $2", look.id, look.asked)
            .execute(&mut *tx)
            .await
            .doing("ending a look")?;
        tx.commit().await.doing("showing a look to staff")
    }

    /// How long the oldest look has waited, in seconds.
    pub async fn oldest_look_secs(&self) -> Result<f64, StoreError> {
        sqlx::query_scalar!(
            r#"select coalesce(extract(epoch from now() - min(asked_at)), 0)::float8 as "secs!" from mirror_looks"#
        )
        .fetch_one(&self.pool)
        .await
        .doing("reading the oldest look")
    }
}
