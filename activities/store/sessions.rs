//! Web sessions as rows, so that they can be ended from here.
use crate::{Store, StoreError, User, fault::Doing};
use async_trait::async_trait;
use domain::ids::{AccountId, UserId};
use serde_json::Value;
use std::collections::HashMap;
use tower_sessions_core::{
    SessionStore,
    session::{Id, Record},
    session_store::{Error, Result},
};
use uuid::Uuid;

/// The key in a session's data under which the pages keep the user's id.
pub const USER_KEY: &str = "user";

/// The key under which a loaded session carries its [`User`] as they are at this moment: read together with the session,
/// and never written into it.
pub const WHO_KEY: &str = "who";

/// How many ids are tried for a new session. One is 128 random bits, so a second try is never seen.
const ID_ATTEMPTS_LIMIT: u32 = 3;

/// The sessions of the pages, kept in the table `sessions`.
#[derive(Debug, Clone)]
pub struct SessionRows(pub Store);

impl Store {
    /// Ends every session of a user, in every browser.
    pub async fn end_sessions(&self, user: UserId) -> core::result::Result<(), StoreError> {
        sqlx::query!("delete from sessions where user_id = $1", user.0)
            .execute(&self.pool)
            .await
            .doing("ending sessions")?;
        Ok(())
    }

    /// Removes the sessions that are over, and gives how many there were.
    pub async fn delete_expired_sessions(&self) -> core::result::Result<u64, StoreError> {
        let deleted = sqlx::query!("delete from sessions where expires_at <= now()")
            .execute(&self.pool)
            .await
            .doing("removing old sessions")?;
        Ok(deleted.rows_affected())
    }
}

#[async_trait]
impl SessionStore for SessionRows {
    async fn create(&self, record: &mut Record) -> Result<()> {
        for _ in 0..ID_ATTEMPTS_LIMIT {
            let made = sqlx::query!(
                "insert into sessions (id, user_id, data, expires_at) values ($1, $2, $3, $4)
                 on conflict (id) do nothing",
                record.id.to_string(),
                user_of(record),
                data_of(record)?,
                record.expiry_date,
            )
            .execute(&self.0.pool)
            .await
            .map_err(|error| away(&error))?;
            if made.rows_affected() == 1 {
                return Ok(());
            }
            record.id = Id::default();
        }
        Err(Error::Backend("no free session id".to_owned()))
    }

    /// Writes a session that is there. One that was ended meanwhile stays ended.
    async fn save(&self, record: &Record) -> Result<()> {
        sqlx::query!(
            "update sessions set user_id = $2, data = $3, expires_at = $4 where id = $1",
            record.id.to_string(),
            user_of(record),
            data_of(record)?,
            record.expiry_date,
        )
        .execute(&self.0.pool)
        .await
        .map_err(|error| away(&error))?;
        Ok(())
    }

    /// Reads a session, and its user with it. It is read anew for every request: one that was ended anywhere is over here.
    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let key = id.to_string();
        let row = loop {
            let mut lane = self.0.readers.lane().await.map_err(|error| away(&error))?;
            let asked = sqlx::query!(
                r#"select s.data, s.expires_at, u.id as "user_id?", u.account_id as "account_id?", u.name as "name?",
                    u.email as "email?", u.is_staff as "is_staff?", u.email_verified_at is not null as "email_verified!"
                   from sessions s left join users u on u.id = s.user_id
                   where s.id = $1 and s.expires_at > now()"#,
                key,
            )
            .fetch_optional(&mut lane.connection)
            .await;
            if let Some(asked) = lane.judged(asked) {
                break asked.map_err(|error| away(&error))?;
            }
        };
        let Some(row) = row else { return Ok(None) };
        let mut data: HashMap<String, Value> =
            serde_json::from_value(row.data).map_err(|error| Error::Decode(error.to_string()))?;
        data.remove(WHO_KEY);
        if let (Some(id), Some(account), Some(name), Some(email), Some(is_staff)) =
            (row.user_id, row.account_id, row.name, row.email, row.is_staff)
        {
            let (id, account) = (UserId(id), AccountId(account));
            let user = User { id, account, name, email, is_staff, email_verified: row.email_verified };
            let user = serde_json::to_value(user).map_err(|error| Error::Decode(error.to_string()))?;
            data.insert(WHO_KEY.to_owned(), user);
        }
        Ok(Some(Record { id: *id, data, expiry_date: row.expires_at }))
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        sqlx::query!("delete from sessions where id = $1", id.to_string())
            .execute(&self.0.pool)
            .await
            .map_err(|error| away(&error))?;
        Ok(())
    }
}

fn user_of(record: &Record) -> Option<Uuid> {
    record.data.get(USER_KEY).and_then(Value::as_str).and_then(|text| Uuid::parse_str(text).ok())
}

fn data_of(record: &Record) -> Result<Value> {
    let kept: HashMap<&String, &Value> = record.data.iter().filter(|(key, _)| *key != WHO_KEY).collect();
    serde_json::to_value(kept).map_err(|error| Error::Encode(error.to_string()))
}

fn away(error: &sqlx::Error) -> Error {
    Error::Backend(error.to_string())
}
