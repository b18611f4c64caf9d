//! What the workflow of an erasure does to its row and to everything about its person.
use super::{
    super::{
        obstacles::{Obstacle, obstacles},
        personal::tables,
        statements::erase,
    },
    ErasureState, LISTED_LIMIT,
};
use crate::{
    Store, StoreError,
    audit::{self, Actor},
    fault::Doing,
    invitations::forget_those_to,
};
use domain::ids::{AccountId, ErasureId, UserId};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

/// What its workflow does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErasureStep {
    /// Wait for this many seconds, or until something is pressed.
    Wait(i64),
    /// Begin.
    Begin,
    /// It has begun.
    Begun,
    /// Wait for this to go away.
    Held(String),
    /// Nothing more.
    Over,
}

/// An erasure whose workflow has not heard of its last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasureChange {
    /// Which.
    pub id: ErasureId,
    /// Whose.
    pub user: UserId,
    /// The change.
    pub version: i64,
}

/// Whom Stripe is to forget. Has no `Debug`: it names a person.
#[derive(Clone)]
pub struct ForgottenBuyer {
    /// The account the customers were made for.
    pub account: AccountId,
    /// The address they were made with last.
    pub email: Option<String>,
    /// Every customer we know of (`cus_…`).
    pub customers: Vec<String>,
}

impl Store {
    /// Erasures whose workflow has not heard of their last change, oldest first; and those that are due and that no workflow has
    /// looked at for two days: their database was restored.
    pub async fn erasures_to_tell(&self) -> Result<Vec<ErasureChange>, StoreError> {
        let rows = sqlx::query!(
            "select id, user_id, version from erasures
             where told < version or (
                state in ('waiting', 'erasing', 'erased') and due_at < now()
                and coalesce(read_at, due_at) < now() - interval '2 days'
             )
             order by asked_at, id limit $1",
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading erasures to tell of")?;
        Ok(rows
            .into_iter()
            .map(|row| ErasureChange { id: ErasureId(row.id), user: UserId(row.user_id), version: row.version })
            .collect())
    }

    /// Notes that a workflow was told of a change.
    pub async fn erasure_told(&self, id: ErasureId, version: i64) -> Result<(), StoreError> {
        sqlx::query!("update erasures set told = greatest(told, $2) where id = $1", id.0, version)
            .execute(&self.pool)
            .await
            .doing("noting what was told of an erasure")?;
        Ok(())
    }

    /// What an erasure's workflow does next. One that nobody confirmed in time lapses here.
    pub async fn look_at_erasure(&self, id: ErasureId) -> Result<ErasureStep, StoreError> {
        sqlx::query!(
            "update erasures set state = 'lapsed' where id = $1 and state = 'asked' and expires_at <= now()",
            id.0
        )
        .execute(&self.pool)
        .await
        .doing("ending a wish")?;
        let row = sqlx::query!(
            r#"update erasures set read_at = now() where id = $1
               returning state, ceil(extract(epoch from coalesce(due_at, expires_at) - now()))::bigint as "secs!""#,
            id.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading an erasure")?;
        let Some(row) = row else { return Ok(ErasureStep::Over) };
        Ok(match ErasureState::read(&row.state)? {
            ErasureState::Asked => ErasureStep::Wait(row.secs.max(1)),
            ErasureState::Waiting if row.secs > 0 => ErasureStep::Wait(row.secs),
            ErasureState::Waiting | ErasureState::Erasing | ErasureState::Erased => ErasureStep::Begin,
            ErasureState::Lapsed | ErasureState::TakenBack | ErasureState::Done => ErasureStep::Over,
        })
    }

    /// Begins what cannot be taken back, when it is due and nothing is in the way, and writes down until when the law wants
    /// the books kept: `books_years` after the end of the year of the last invoice or payment. Begun once, it stays begun.
    pub async fn begin_erasure(&self, id: ErasureId, books_years: u8) -> Result<ErasureStep, StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query!(
            r#"select user_id, account_id, state, coalesce(due_at <= now(), false) as "is_due!"
               from erasures where id = $1 for update"#,
            id.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking an erasure")?;
        let Some(row) = row else { return Ok(ErasureStep::Over) };
        match (ErasureState::read(&row.state)?, row.is_due) {
            (ErasureState::Erasing | ErasureState::Erased, _) => return Ok(ErasureStep::Begun),
            (ErasureState::Waiting, true) => {}
            (ErasureState::Waiting, false) => return Ok(ErasureStep::Held("it is not due yet".to_owned())),
            _ => return Ok(ErasureStep::Over),
        }
        let found = obstacles(&mut tx, row.account_id, row.user_id, false).await?;
        if !found.is_empty() {
            let why = found.iter().map(Obstacle::words).collect::<Vec<_>>().join("; ");
            sqlx::query!("update erasures set held_because = $2 where id = $1", id.0, why)
                .execute(&mut *tx)
                .await
                .doing("noting why an erasure is held")?;
            tx.commit().await.doing("noting why an erasure is held")?;
            return Ok(ErasureStep::Held(why));
        }
        sqlx::query!(
            "update erasures set state = 'erasing', begun_at = now(), held_because = null, kept_until = (
                select (date_trunc('year', max(books.moment) at time zone 'UTC') + make_interval(years => $2 + 1)
                    - interval '1 day')::date
                from (
                    select i.created_at as moment from invoices i join subscriptions s on s.id = i.subscription_id
                    where s.account_id = $3
                    union all select p.created_at from payments p where p.account_id = $3
                ) books
             )
             where id = $1",
            id.0,
            i32::from(books_years),
            row.account_id,
        )
        .execute(&mut *tx)
        .await
        .doing("beginning an erasure")?;
        audit::note_of_user(&mut tx, Actor::System, "erasure.begun", UserId(row.user_id)).await?;
        tx.commit().await.doing("beginning an erasure")?;
        Ok(ErasureStep::Begun)
    }

    /// Whom Stripe is to forget for an erasure that has begun.
    pub async fn forgotten_buyer(&self, id: ErasureId) -> Result<Option<ForgottenBuyer>, StoreError> {
        let row = sqlx::query!(
            "select account_id, email from erasures where id = $1 and state in ('erasing', 'erased', 'done')",
            id.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading an erasure")?;
        let Some(row) = row else { return Ok(None) };
        let customers = sqlx::query_scalar!(
            r#"select stripe_customer_id as "id!" from accounts where id = $1 and stripe_customer_id is not null
               union select id from billing_customers where account_id = $1 and not deleted
               union select customer_id from payments where account_id = $1
               order by 1"#,
            row.account_id,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading the customers of an account")?;
        Ok(Some(ForgottenBuyer { account: AccountId(row.account_id), email: row.email, customers }))
    }

    /// Removes or blanks everything about the person of an erasure that has begun, as the list of personal data says. Done
    /// again, it changes nothing.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`erasure_not_begun`) when it was not begun.
    pub async fn erase(&self, id: ErasureId) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query_scalar!(
            "select id from users where id = (select user_id from erasures where id = $1) for no key update",
            id.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking the user of an erasure")?;
        let row = sqlx::query!(
            "select user_id, account_id, state, email, confirmed_at from erasures where id = $1 for update",
            id.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking an erasure")?
        .ok_or_else(|| StoreError::conflict("erasure_not_begun"))?;
        match ErasureState::read(&row.state)? {
            ErasureState::Erasing => {}
            ErasureState::Erased | ErasureState::Done => return Ok(()),
            _ => return Err(StoreError::conflict("erasure_not_begun")),
        }
        audit::act(&mut tx, Actor::System).await?;
        if let Some(email) = &row.email {
            // The address was free from the moment on at which it was confirmed; what came later is somebody else's.
            forget_those_to(&mut tx, email, row.confirmed_at).await?;
        }
        erase_person(&mut tx, row.account_id, row.user_id).await?;
        audit::note_of_user(&mut tx, Actor::System, "erasure.done", UserId(row.user_id)).await?;
        audit::forget(&mut tx, UserId(row.user_id), Some(AccountId(row.account_id))).await?;
        sqlx::query!("update erasures set state = 'erased', erased_at = now() where id = $1", id.0)
            .execute(&mut *tx)
            .await
            .doing("noting an erasure")?;
        tx.commit().await.doing("erasing a person's data")
    }

    /// Forgets where the last letter went, and that it went. Done again, it changes nothing.
    pub async fn finish_erasure(&self, id: ErasureId) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let user = sqlx::query_scalar!(
            "update erasures set state = 'done', email = null, done_at = now() where id = $1 and state = 'erased'
             returning user_id",
            id.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("finishing an erasure")?;
        if let Some(user) = user {
            sqlx::query!(
                "delete from letters where user_id = $1 or occasion = 'erasure_done/' || $2::text",
                user,
                id.to_string(),
            )
            .execute(&mut *tx)
            .await
            .doing("forgetting letters")?;
        }
        tx.commit().await.doing("finishing an erasure")
    }
}

/// The histories of accounts of others say who did something by name.
async fn erase_from_histories(db: &mut PgConnection, user: Uuid) -> Result<(), StoreError> {
    let who = user.to_string();
    sqlx::query!(
        "update timeline t set actor = 'somebody who left' from instructions i
         where i.actor = $1 and t.fact = 'instruction/' || i.id",
        who,
    )
    .execute(&mut *db)
    .await
    .doing("erasing a name from histories")?;
    sqlx::query!(
        "update timeline t set actor = 'somebody who left' from attention a
         where a.decided_by = $1 and t.fact = 'attention/' || a.id || '/settled'",
        who,
    )
    .execute(db)
    .await
    .doing("erasing a name from histories")?;
    Ok(())
}

async fn erase_person(db: &mut PgConnection, account: Uuid, user: Uuid) -> Result<(), StoreError> {
    // Other accounts of theirs, in which nothing ever was, were closed with this one; who they belong to goes with the rest.
    sqlx::query!(
        "update accounts a set name = 'erased' from members m
         where m.user_id = $1 and a.id = m.account_id and a.id <> $2 and a.closed_at is not null",
        user,
        account,
    )
    .execute(&mut *db)
    .await
    .doing("erasing the names of accounts")?;
    erase_from_histories(&mut *db, user).await?;
    for statement in tables().filter_map(erase) {
        sqlx::query(AssertSqlSafe(statement))
            .bind(account)
            .bind(user)
            .execute(&mut *db)
            .await
            .doing("erasing a person's data")?;
    }
    Ok(())
}
