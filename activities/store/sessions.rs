//! Web sessions as rows, so that they can be listed and ended from here. A session's id is a credential: its hash alone stands
//! in the table, and people name a session by its handle.
//!
//! The trail hears from the table itself of every session that begins or ends. Whatever ends one says in the same statement where
//! it was asked for (`ez.network`); the setting is over when the statement is.
use crate::{
    Store, StoreError, User, audit,
    fault::{Doing, word},
    members::{Seat, Viewing},
    readers::Readers,
    together::{Found, Together},
};
use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use domain::{
    ids::{AccountId, UserId},
    member::StaffRole,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use std::{collections::HashMap, sync::Arc};
use time::OffsetDateTime;
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

/// The key under which a new session carries where it was begun ([`Whereabouts`]); it goes into columns of its own.
pub const WHERE_KEY: &str = "where";

/// The key under which a loaded session says whether its last use is to be noted again.
pub const RESTED_KEY: &str = "rested";

/// The key under which the pages keep the token of their forms.
pub const FORM_KEY: &str = "csrf";
/// The key under which a loaded session carries what was shown in it ([`Shown`]).
pub const SHOWN_KEY: &str = "shown";

/// What is never written into a session's data.
const OWN_KEYS: [&str; 4] = [WHO_KEY, WHERE_KEY, RESTED_KEY, SHOWN_KEY];

const READING: &str = "reading sessions";

/// How many sessions are listed at once.
const LISTED_LIMIT: i64 = 100;

/// How many ids are tried for a new session. One is 128 random bits, so a second try is never seen.
const ID_ATTEMPTS_LIMIT: u32 = 3;

/// The sessions of the pages, kept in the table `sessions`.
#[derive(Debug, Clone)]
pub struct SessionRows(pub Store);

/// Where a session was begun, and how long it may rest. Has no `Debug`: it says where a person is.
#[derive(Clone, Serialize, Deserialize)]
pub struct Whereabouts {
    /// What the browser seems to be, in our own words.
    pub agent: String,
    /// The address it was begun at.
    pub network: String,
    /// After how many seconds without use it is over.
    pub idle_secs: i32,
    /// The user's epoch when they were let in ([`crate::LogIn::epoch`]); in a later one it is over.
    pub epoch: i32,
    /// Which of their accounts they looked at; not said, it is the one they chose last.
    #[serde(default)]
    pub account: Option<AccountId>,
    /// The word of the second factor that was shown ([`crate::Factor::as_str`]), if any was.
    #[serde(default)]
    pub factor: Option<String>,
    /// Whether whoever begins it said who they are just now.
    #[serde(default)]
    pub proven: bool,
    /// Whether the browser keeps it when it is closed.
    #[serde(default)]
    pub remembered: bool,
    /// When it ends however much it is used; not said, when its cookie does.
    #[serde(default)]
    pub ends_at: Option<OffsetDateTime>,
}

/// What whoever uses a session has shown in it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Shown {
    /// The word of the second factor it was begun with, if any was shown.
    pub factor: Option<String>,
    /// How many seconds ago they last said who they are.
    pub proven_secs: Option<i64>,
    /// Whether the browser keeps it when it is closed.
    #[serde(default)]
    pub remembered: bool,
}

/// One session as its owner reads it. Has no `Debug`: it says where a person is.
#[derive(Clone)]
pub struct SessionLine {
    /// What it is named by; of no use to get in.
    pub handle: Uuid,
    /// What the browser seems to be, in our own words.
    pub agent: Option<String>,
    /// The address it was last used at.
    pub network: Option<String>,
    /// When it was begun.
    pub created_at: OffsetDateTime,
    /// When it was last used, give or take a minute.
    pub used_at: OffsetDateTime,
    /// When it ends, however much it is used.
    pub expires_at: OffsetDateTime,
    /// Whether the browser keeps it when it is closed.
    pub remembered: bool,
    /// Whether it is the one that asks.
    pub is_current: bool,
}

impl Store {
    /// The sessions of a user that live, the one used last first.
    pub async fn sessions_of(
        &self,
        user: UserId,
        current: Option<Id>,
    ) -> core::result::Result<Vec<SessionLine>, StoreError> {
        let current = current.map(|id| key(&id)).unwrap_or_default();
        sqlx::query_as!(
            SessionLine,
            r#"select s.handle, s.agent, s.network, s.created_at, s.used_at, s.expires_at, s.remembered,
                s.id = $2 as "is_current!"
               from sessions s join users u on u.id = s.user_id and u.access_epoch = s.access_epoch
               where s.user_id = $1 and s.expires_at > now()
                and (s.idle_secs is null or s.used_at > now() - make_interval(secs => s.idle_secs))
               order by s.used_at desc, s.handle limit $3"#,
            user.0,
            current,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("listing sessions")
    }

    /// Ends one session of a user. One that is over, or somebody else's, stays as it is.
    pub async fn end_session(&self, user: UserId, handle: Uuid) -> core::result::Result<(), StoreError> {
        sqlx::query!(
            "delete from sessions where user_id = $1 and handle = $2 and set_config('ez.network', $3, true) is not null",
            user.0,
            handle,
            audit::network().unwrap_or_default(),
        )
        .execute(&self.pool)
        .await
        .doing("ending a session")?;
        Ok(())
    }

    /// Ends every session of a user but one.
    pub async fn end_other_sessions(&self, user: UserId, current: Option<Id>) -> core::result::Result<(), StoreError> {
        let current = current.map(|id| key(&id)).unwrap_or_default();
        sqlx::query!(
            "delete from sessions where user_id = $1 and id <> $2 and set_config('ez.network', $3, true) is not null",
            user.0,
            current,
            audit::network().unwrap_or_default(),
        )
        .execute(&self.pool)
        .await
        .doing("ending other sessions")?;
        Ok(())
    }

    /// Notes that a session was used just now, and where; at most once a minute.
    pub async fn session_used(&self, id: Id, network: &str) -> core::result::Result<(), StoreError> {
        sqlx::query!(
            "update sessions set used_at = now(), network = $2
             where id = $1 and used_at < now() - interval '1 minute'",
            key(&id),
            network,
        )
        .execute(&self.pool)
        .await
        .doing("noting the use of a session")?;
        Ok(())
    }

    /// When a session ends however much it is used; nothing when it is over.
    pub async fn session_end(&self, id: Id) -> core::result::Result<Option<OffsetDateTime>, StoreError> {
        sqlx::query_scalar!("select expires_at from sessions where id = $1", key(&id))
            .fetch_optional(&self.pool)
            .await
            .doing("reading the end of a session")
    }

    /// Where sessions that are logged in were used within a day, each place once; a hundred at most.
    pub async fn session_networks(&self) -> core::result::Result<Vec<String>, StoreError> {
        sqlx::query_scalar!(
            r#"select distinct network as "network!" from sessions
               where user_id is not null and network is not null and expires_at > now()
                and used_at > now() - interval '1 day' limit $1"#,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("listing places of sessions")
    }

    /// Ends every session of a user, in every browser.
    pub async fn end_sessions(&self, user: UserId) -> core::result::Result<(), StoreError> {
        sqlx::query!("delete from sessions where user_id = $1", user.0)
            .execute(&self.pool)
            .await
            .doing("ending sessions")?;
        Ok(())
    }

    /// Removes the sessions that are over or rested too long, and gives how many there were.
    pub async fn delete_expired_sessions(&self) -> core::result::Result<u64, StoreError> {
        let deleted = sqlx::query!(
            "delete from sessions where expires_at <= now()
                or (idle_secs is not null and used_at <= now() - make_interval(secs => idle_secs))"
        )
        .execute(&self.pool)
        .await
        .doing("removing old sessions")?;
        Ok(deleted.rows_affected())
    }
}

#[async_trait]
impl SessionStore for SessionRows {
    async fn create(&self, record: &mut Record) -> Result<()> {
        let begun = where_of(record)?;
        for _ in 0..ID_ATTEMPTS_LIMIT {
            let made = sqlx::query!(
                "insert into sessions
                    (id, user_id, data, expires_at, agent, network, idle_secs, access_epoch, account_id, factor, proven_at,
                     remembered)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, (
                    select m.account_id from members m join users u on u.id = m.user_id
                    where m.user_id = $2
                    order by (m.account_id = $9) is true desc, m.chosen_at desc nulls last,
                        m.account_id = u.account_id desc, m.account_id limit 1
                 ), $10, case when $11::boolean then now() end, $12)
                 on conflict (id) do nothing",
                key(&record.id),
                user_of(record),
                data_of(record)?,
                begun.as_ref().and_then(|begun| begun.ends_at).unwrap_or(record.expiry_date),
                begun.as_ref().map(|begun| begun.agent.as_str()),
                begun.as_ref().map(|begun| begun.network.as_str()),
                begun.as_ref().map(|begun| begun.idle_secs),
                begun.as_ref().map_or(0, |begun| begun.epoch),
                begun.as_ref().and_then(|begun| begun.account).map(|account| account.0),
                begun.as_ref().and_then(|begun| begun.factor.as_deref()),
                begun.as_ref().is_some_and(|begun| begun.proven),
                begun.as_ref().is_none_or(|begun| begun.remembered),
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

    /// Writes a session that is there. One that was ended meanwhile stays ended, and the end of one that is logged in is
    /// never moved.
    async fn save(&self, record: &Record) -> Result<()> {
        sqlx::query!(
            "update sessions set user_id = $2, data = $3,
                expires_at = case when user_id is null then $4 else expires_at end
             where id = $1",
            key(&record.id),
            user_of(record),
            data_of(record)?,
            record.expiry_date,
        )
        .execute(&self.0.pool)
        .await
        .map_err(|error| away(&error))?;
        Ok(())
    }

    /// Reads a session, and its user with what they are in the account they look at. It is read anew for every request: one that was
    /// ended anywhere is over here, and so is one that was begun while all of its user's were being ended; an account they do not
    /// belong to any more is not theirs here.
    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let row = self.0.sessions.ask(key(id)).await.map_err(|error| Error::Backend(error.to_string()))?;
        let Some(mut row) = row else { return Ok(None) };
        let mut data: HashMap<String, Value> =
            serde_json::from_value(row.data.take()).map_err(|error| Error::Decode(error.to_string()))?;
        data.retain(|key, _| !OWN_KEYS.contains(&key.as_str()));
        if row.rested {
            data.insert(RESTED_KEY.to_owned(), Value::Bool(true));
        }
        let expiry_date = row.expires_at;
        let (proven_secs, remembered) = (row.proven_secs, row.remembered);
        let shown = Shown { factor: row.factor.take(), proven_secs, remembered };
        if let Some(user) = row.user().map_err(|error| Error::Decode(error.to_string()))? {
            let user = serde_json::to_value(user).map_err(|error| Error::Decode(error.to_string()))?;
            data.insert(WHO_KEY.to_owned(), user);
            let shown = serde_json::to_value(shown).map_err(|error| Error::Decode(error.to_string()))?;
            data.insert(SHOWN_KEY.to_owned(), shown);
        }
        Ok(Some(Record { id: *id, data, expiry_date }))
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        sqlx::query!(
            "delete from sessions where id = $1 and set_config('ez.network', $2, true) is not null",
            key(id),
            audit::network().unwrap_or_default(),
        )
        .execute(&self.0.pool)
        .await
        .map_err(|error| away(&error))?;
        Ok(())
    }
}

/// How sessions are asked for together.
pub(crate) fn together(readers: &Arc<Readers>) -> Together<String, LoadedRow> {
    let readers = Arc::clone(readers);
    Together::new(READING, move |keys| Box::pin(read(Arc::clone(&readers), keys)))
}

async fn read(readers: Arc<Readers>, keys: Vec<String>) -> Found<String, LoadedRow> {
    let rows = readers.ask(&keys, rows).await.doing(READING)?;
    Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
}

async fn rows(db: &mut PgConnection, keys: &[String]) -> core::result::Result<Vec<LoadedRow>, sqlx::Error> {
    sqlx::query_as!(
        LoadedRow,
        r#"select s.id, s.data, s.expires_at,
            s.user_id is not null and s.used_at < now() - interval '1 minute' as "rested!",
            u.id as "user_id?", m.account_id as "account_id?", m.role as "role?",
            a.name as "account_name?", m.accounts as "accounts?", u.name as "name?",
            u.email as "email?", u.staff_role as "staff_role?",
            u.email_verified_at is not null as "email_verified!", s.access_epoch as epoch,
            v.account_id as "viewing?", va.name as "viewing_name?", v.reason as "viewing_reason?",
            v.ends_at as "viewing_ends_at?", s.factor as "factor?",
            extract(epoch from now() - s.proven_at)::bigint as "proven_secs?", s.remembered
           from sessions s left join users u
            on u.id = s.user_id and u.access_epoch = s.access_epoch and u.closed_at is null
           left join lateral (
            select m.account_id, m.role, count(*) over () as accounts from members m where m.user_id = u.id
            order by (m.account_id = s.account_id) is true desc, m.account_id = u.account_id desc, m.account_id
            limit 1
           ) m on true
           left join accounts a on a.id = m.account_id
           left join lateral (
            select v.account_id, v.reason, v.ends_at from viewings v
            where v.session_id = s.id and v.user_id = u.id and v.ended_at is null and v.ends_at > now()
                and u.staff_role is not null
            limit 1
           ) v on true
           left join accounts va on va.id = v.account_id
           where s.id = any($1) and s.expires_at > now() and (s.user_id is null or u.id is not null)
            and (s.idle_secs is null or s.used_at > now() - make_interval(secs => s.idle_secs))"#,
        keys,
    )
    .fetch_all(db)
    .await
}

/// A session as it is read, with everything about its user.
#[derive(Clone)]
pub(crate) struct LoadedRow {
    id: String,
    data: Value,
    expires_at: OffsetDateTime,
    rested: bool,
    user_id: Option<Uuid>,
    account_id: Option<Uuid>,
    role: Option<String>,
    account_name: Option<String>,
    accounts: Option<i64>,
    name: Option<String>,
    email: Option<String>,
    staff_role: Option<String>,
    email_verified: bool,
    epoch: i32,
    viewing: Option<Uuid>,
    viewing_name: Option<String>,
    viewing_reason: Option<String>,
    viewing_ends_at: Option<OffsetDateTime>,
    factor: Option<String>,
    proven_secs: Option<i64>,
    remembered: bool,
}

impl LoadedRow {
    /// The user; nobody when the session is nobody's, or its user belongs to no account.
    fn user(self) -> core::result::Result<Option<User>, StoreError> {
        let (Some(id), Some(account), Some(name), Some(email)) = (self.user_id, self.account_id, self.name, self.email)
        else {
            return Ok(None);
        };
        let (Some(role), Some(account_name), Some(accounts)) = (self.role, self.account_name, self.accounts) else {
            return Ok(None);
        };
        let viewing = match (self.viewing, self.viewing_name, self.viewing_reason, self.viewing_ends_at) {
            (Some(account), Some(name), Some(reason), Some(ends_at)) => {
                Some(Viewing { account: AccountId(account), name, reason, ends_at })
            }
            _ => None,
        };
        let staff = staff_of(self.staff_role.as_deref())?;
        let role = word(&role, "a member's role")?;
        Ok(Some(User {
            id: UserId(id),
            account: AccountId(account),
            name,
            email,
            is_staff: staff.is_some(),
            email_verified: self.email_verified,
            epoch: self.epoch,
            seat: Seat { role, account_name, accounts, staff, viewing },
        }))
    }
}

/// What somebody does here.
pub(crate) fn staff_of(role: Option<&str>) -> core::result::Result<Option<StaffRole>, StoreError> {
    role.map(|role| word(role, "what somebody does here")).transpose()
}

/// What stands in the table for an id.
pub(crate) fn key(id: &Id) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(id.to_string().as_bytes()))
}

fn where_of(record: &Record) -> Result<Option<Whereabouts>> {
    let begun = record.data.get(WHERE_KEY).cloned().map(serde_json::from_value).transpose();
    begun.map_err(|error| Error::Decode(error.to_string()))
}

fn user_of(record: &Record) -> Option<Uuid> {
    record.data.get(USER_KEY).and_then(Value::as_str).and_then(|text| Uuid::parse_str(text).ok())
}

fn data_of(record: &Record) -> Result<Value> {
    let kept: HashMap<&String, &Value> =
        record.data.iter().filter(|(key, _)| !OWN_KEYS.contains(&key.as_str())).collect();
    serde_json::to_value(kept).map_err(|error| Error::Encode(error.to_string()))
}

fn away(error: &sqlx::Error) -> Error {
    Error::Backend(error.to_string())
}
