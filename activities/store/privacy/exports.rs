//! Copies of everything about a person: asked for, kept sealed for some days, fetched once.
use super::{
    personal::{Table, tables},
    statements::{is_trail, read, rows_limit},
};
use crate::{
    Store, StoreError, User,
    access::{actor, lock_user, queue},
    audit,
    fault::Doing,
};
use domain::ids::{AccountId, ExportId, UserId};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

/// How many exports are started at once.
const STARTED_LIMIT: i64 = 50;

/// What became of the wish for a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportAsked {
    /// It is being made.
    Begun,
    /// One is being made already, or was asked for less than an hour ago.
    Already,
}

/// How a copy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportState {
    /// It is being made.
    Asked,
    /// It can be fetched.
    Ready,
    /// It was fetched.
    Used,
    /// Nobody fetched it in time, another one took its place, or its account was closed.
    Gone,
}

/// A copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataExport {
    /// Which.
    pub id: ExportId,
    /// Whose.
    pub user: UserId,
    /// Of which account.
    pub account: AccountId,
    /// How it stands.
    pub state: ExportState,
    /// How large the archive is.
    pub size_bytes: Option<i64>,
    /// When it was asked for.
    pub asked_at: OffsetDateTime,
    /// Until when it can be fetched.
    pub expires_at: Option<OffsetDateTime>,
}

/// What one table says of a person. Has no `Debug`: it is all they told us.
#[derive(Clone)]
pub struct PersonalRows {
    /// The table.
    pub table: &'static Table,
    /// Its rows, one JSON object each.
    pub rows: Vec<Value>,
    /// Whether these are all; otherwise they are the newest.
    pub is_whole: bool,
}

impl PersonalRows {
    /// As many rows as a copy takes.
    ///
    /// *Errors*: [`StoreError::Corrupt`] when there are more, but of the trail: it is without an end.
    fn held(table: &'static Table, mut rows: Vec<Value>) -> Result<Self, StoreError> {
        let limit = rows_limit(table);
        let is_whole = rows.len() <= limit;
        if !is_whole && !is_trail(table) {
            return Err(StoreError::Corrupt { what: "more rows of one person than a copy takes" });
        }
        rows.truncate(limit);
        Ok(Self { table, rows, is_whole })
    }
}

struct ExportRow {
    id: Uuid,
    user_id: Uuid,
    account_id: Uuid,
    state: String,
    is_over: bool,
    size_bytes: Option<i64>,
    asked_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
}

impl From<ExportRow> for DataExport {
    fn from(row: ExportRow) -> Self {
        let state = match (row.state.as_str(), row.is_over) {
            ("asked", _) => ExportState::Asked,
            ("ready", false) => ExportState::Ready,
            ("used", _) => ExportState::Used,
            _ => ExportState::Gone,
        };
        Self {
            id: ExportId(row.id),
            user: UserId(row.user_id),
            account: AccountId(row.account_id),
            state,
            size_bytes: row.size_bytes,
            asked_at: row.asked_at,
            expires_at: row.expires_at,
        }
    }
}

impl Store {
    /// Asks for a copy of what there is about a user and the account that is their own, whichever they look at; at most once an
    /// hour. Two who ask at once ask for one.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn ask_export(&self, user: &User) -> Result<ExportAsked, StoreError> {
        let mut tx = self.begin().await?;
        lock_user(&mut tx, user).await?;
        let made = sqlx::query!(
            "insert into data_exports (id, user_id, account_id, state)
             select $1::uuid, u.id, u.account_id, 'asked' from users u
             where u.id = $2 and not exists (
                select 1 from data_exports
                where user_id = $2 and (state = 'asked' or asked_at > now() - interval '1 hour')
             )",
            Uuid::new_v4(),
            user.id.0,
        )
        .execute(&mut *tx)
        .await
        .doing("asking for a copy")?;
        if made.rows_affected() == 1 {
            audit::note_of_user(&mut tx, actor(user), "copy.asked", user.id).await?;
        }
        tx.commit().await.doing("asking for a copy")?;
        Ok(if made.rows_affected() == 1 { ExportAsked::Begun } else { ExportAsked::Already })
    }

    /// The copy a user asked for last.
    pub async fn last_export(&self, user: UserId) -> Result<Option<DataExport>, StoreError> {
        let row = sqlx::query_as!(
            ExportRow,
            r#"select id, user_id, account_id, state, coalesce(expires_at <= now(), false) as "is_over!", size_bytes,
                asked_at, expires_at
               from data_exports where user_id = $1 order by asked_at desc limit 1"#,
            user.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a copy")?;
        Ok(row.map(DataExport::from))
    }

    /// A copy.
    pub async fn export(&self, id: ExportId) -> Result<Option<DataExport>, StoreError> {
        let row = sqlx::query_as!(
            ExportRow,
            r#"select id, user_id, account_id, state, coalesce(expires_at <= now(), false) as "is_over!", size_bytes,
                asked_at, expires_at
               from data_exports where id = $1"#,
            id.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a copy")?;
        Ok(row.map(DataExport::from))
    }

    /// Copies whose workflow was not started yet, oldest first; and those that are not made two days after: their database was
    /// restored.
    pub async fn exports_to_start(&self) -> Result<Vec<ExportId>, StoreError> {
        let ids = sqlx::query_scalar!(
            "select id from data_exports
             where told_at is null or (state = 'asked' and told_at < now() - interval '2 days')
             order by asked_at, id limit $1",
            STARTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading copies to make")?;
        Ok(ids.into_iter().map(ExportId).collect())
    }

    /// Notes that the workflow of a copy was started.
    pub async fn export_started(&self, id: ExportId) -> Result<(), StoreError> {
        sqlx::query!("update data_exports set told_at = now() where id = $1", id.0)
            .execute(&self.pool)
            .await
            .doing("noting a copy that is being made")?;
        Ok(())
    }

    /// Everything our tables say of a person and their account, as at one moment.
    ///
    /// *Errors*: [`StoreError::Corrupt`] when a table holds more about them than a copy takes; of the trail it takes the newest.
    pub async fn personal_data(&self, account: AccountId, user: UserId) -> Result<Vec<PersonalRows>, StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("set transaction isolation level repeatable read, read only")
            .execute(&mut *tx)
            .await
            .doing("looking at one moment")?;
        let mut all = vec![];
        for table in tables() {
            all.push(PersonalRows::held(table, rows_of(&mut tx, table, account, user).await?)?);
        }
        tx.commit().await.doing("gathering a person's data")?;
        Ok(all)
    }

    /// Keeps a sealed archive for `keep_secs` and queues the letter that leads to it. Earlier ones of the user go. One that is
    /// kept already stays as it is; of a user whose account was closed meanwhile nothing is kept.
    pub async fn keep_export(
        &self,
        id: ExportId,
        sealed: &str,
        size_bytes: i64,
        keep_secs: u32,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let asked = sqlx::query!(
            r#"select e.user_id, u.closed_at is null as "is_open!"
               from data_exports e join users u on u.id = e.user_id
               where e.id = $1 and e.state = 'asked' for no key update of e"#,
            id.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking a copy")?;
        let Some(asked) = asked else { return Ok(()) };
        if !asked.is_open {
            sqlx::query!("update data_exports set state = 'gone' where id = $1", id.0)
                .execute(&mut *tx)
                .await
                .doing("dropping a copy")?;
            return tx.commit().await.doing("dropping a copy");
        }
        sqlx::query!(
            "update data_exports set state = 'gone', sealed_archive = null where user_id = $1 and state = 'ready'",
            asked.user_id,
        )
        .execute(&mut *tx)
        .await
        .doing("dropping earlier copies")?;
        sqlx::query!(
            "update data_exports set state = 'ready', sealed_archive = $2, size_bytes = $3, ready_at = now(),
                expires_at = now() + make_interval(secs => $4)
             where id = $1",
            id.0,
            sealed,
            size_bytes,
            f64::from(keep_secs),
        )
        .execute(&mut *tx)
        .await
        .doing("keeping a copy")?;
        queue(&mut tx, "data_export", id.0, asked.user_id).await?;
        tx.commit().await.doing("keeping a copy")
    }

    /// The sealed archive, while its owner can fetch it. Reads only.
    pub async fn sealed_export(&self, id: ExportId, owner: UserId) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar!(
            r#"select sealed_archive as "sealed!" from data_exports
               where id = $1 and user_id = $2 and state = 'ready' and expires_at > now()"#,
            id.0,
            owner.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a copy")
    }

    /// Uses the link to a copy up, and forgets the archive. Of any number at once one is told that it did.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn use_export(&self, id: ExportId, owner: &User) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        lock_user(&mut tx, owner).await?;
        let used = sqlx::query!(
            "update data_exports set state = 'used', used_at = now(), sealed_archive = null
             where id = $1 and user_id = $2 and state = 'ready' and expires_at > now()",
            id.0,
            owner.id.0,
        )
        .execute(&mut *tx)
        .await
        .doing("fetching a copy")?;
        if used.rows_affected() == 1 {
            audit::note_of_user(&mut tx, actor(owner), "copy.fetched", owner.id).await?;
        }
        tx.commit().await.doing("fetching a copy")?;
        Ok(used.rows_affected() == 1)
    }
}

async fn rows_of(
    db: &mut PgConnection,
    table: &'static Table,
    account: AccountId,
    user: UserId,
) -> Result<Vec<Value>, StoreError> {
    sqlx::query_scalar::<_, Value>(AssertSqlSafe(read(table)))
        .bind(account.0)
        .bind(user.0)
        .fetch_all(db)
        .await
        .doing("gathering a person's data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_never_cut_but_for_the_trail_whose_newest_entries_it_holds() {
        let table = |name: &str| tables().find(|table| table.name == name).expect("a table");
        let rows = |count: usize| (0..count).map(Value::from).collect::<Vec<_>>();
        let few = PersonalRows::held(table("audit"), rows(20_000)).expect("all of it");
        assert_eq!((few.rows.len(), few.is_whole), (20_000, true));
        let many = PersonalRows::held(table("audit"), rows(20_001)).expect("the newest");
        assert_eq!((many.rows.len(), many.rows.first(), many.is_whole), (20_000, Some(&Value::from(0)), false));
        assert!(PersonalRows::held(table("orders"), rows(100_000)).is_ok());
        assert!(PersonalRows::held(table("orders"), rows(100_001)).is_err());
    }
}
