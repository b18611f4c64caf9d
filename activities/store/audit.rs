//! The trail: who did what, when, from where. It is only ever added to; the database refuses everything else.
//!
//! An entry is written in the transaction that does what it tells of. Changes of state, sessions and what lets a person in are
//! written by triggers, so that no way to change them goes past it; what only the program knows is written by [`note`].
//! What says something of a person stands apart and may be forgotten ([`Store::forget_in_audit`]).
//!
//! | file | does |
//! |---|---|
//! | `chain` | links entries, one after the other, and says what a link is |
//! | `verify` | goes through the chain and finds the first place that is not right |
//! | `seen` | remembers the end of the chain, and misses it |
//! | `pages` | what staff search, and what an account's owner reads |
//! | `forget` | takes away what says something of a person |
use crate::{Store, StoreError, User, access::actor, fault::Doing};
use domain::ids::{AccountId, UserId};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

mod chain;
mod forget;
mod pages;
mod seen;
mod verify;

pub(crate) use forget::forget;

pub use chain::{AuditHead, AuditWaiting};
pub use pages::{AuditFilter, AuditLine};
pub use verify::{AuditBreak, AuditStep};

tokio::task_local! {
    /// Where the request came from that is answered just now.
    static ASKED_FROM: String;
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A customer.
    User(UserId),
    /// Somebody who works here.
    Staff(UserId),
    /// The portal by itself.
    System,
    /// A program, with this token.
    Token(Uuid),
    /// Nobody knows: somebody who is not logged in.
    Stranger,
    /// Somebody at the command line, at Temporal or at the database.
    Hand,
}

impl Actor {
    /// The word in the table.
    fn kind(self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Staff(_) => "staff",
            Self::System => "system",
            Self::Token(_) => "token",
            Self::Stranger => "stranger",
            Self::Hand => "hand",
        }
    }

    fn id(self) -> Option<Uuid> {
        match self {
            Self::User(user) | Self::Staff(user) => Some(user.0),
            Self::Token(id) => Some(id),
            Self::System | Self::Stranger | Self::Hand => None,
        }
    }

    /// Whoever a word names: the id of a user of ours, or anything else for somebody past the pages.
    pub(crate) async fn named(db: &mut PgConnection, by: &str) -> Result<Self, StoreError> {
        let Ok(id) = Uuid::parse_str(by) else { return Ok(Self::Hand) };
        let is_staff = sqlx::query_scalar!(r#"select staff_role is not null as "staff!" from users where id = $1"#, id)
            .fetch_optional(db)
            .await
            .doing("reading a user")?;
        Ok(match is_staff {
            Some(true) => Self::Staff(UserId(id)),
            Some(false) => Self::User(UserId(id)),
            None => Self::Hand,
        })
    }
}

/// What happened. Has no `Debug`: it says where a person is.
#[derive(Clone)]
pub struct Entry {
    /// Who.
    pub actor: Actor,
    /// What, in one word of ours: `<topic>.<what became of it>`.
    pub action: &'static str,
    /// Whose, where it is an account's; its owner reads it.
    pub account: Option<AccountId>,
    /// What it is about: `<kind>/<id>`. It can not be forgotten, so it never holds a name or an address.
    pub subject: String,
    /// From where; nothing for where the request that is answered came from ([`asked_from`]).
    pub network: Option<String>,
    /// How it was. May be forgotten.
    pub before: Option<Value>,
    /// How it is now. May be forgotten.
    pub after: Option<Value>,
}

/// Does something for a request that came from there: every entry that is written meanwhile says so.
pub async fn asked_from<T>(network: String, work: impl Future<Output = T>) -> T {
    ASKED_FROM.scope(network, work).await
}

/// Where the request came from that is answered just now.
pub(crate) fn network() -> Option<String> {
    ASKED_FROM.try_with(Clone::clone).ok()
}

/// Writes an entry, in the transaction that does what it tells of.
pub(crate) async fn note(db: &mut PgConnection, entry: &Entry) -> Result<(), StoreError> {
    sqlx::query_scalar!(
        r#"select audit_write($1, $2, $3, $4, $5, null, null, $6, $7, $8) as "id!""#,
        entry.actor.kind(),
        entry.actor.id(),
        entry.account.map(|account| account.0),
        entry.action,
        entry.subject,
        entry.network.clone().or_else(network),
        entry.before.clone(),
        entry.after.clone(),
    )
    .fetch_one(db)
    .await
    .doing("writing the trail")?;
    Ok(())
}

/// Writes an entry about the way in of a user of ours.
pub(crate) async fn note_of_user(
    db: &mut PgConnection,
    actor: Actor,
    action: &'static str,
    user: UserId,
) -> Result<(), StoreError> {
    let account = sqlx::query_scalar!("select account_id from users where id = $1", user.0)
        .fetch_optional(&mut *db)
        .await
        .doing("reading a user")?;
    let entry = Entry {
        actor,
        action,
        account: account.map(AccountId),
        subject: format!("user/{user}"),
        network: None,
        before: None,
        after: None,
    };
    note(db, &entry).await
}

/// Writes an entry about what somebody did in the account they look at.
pub(crate) async fn note_by(
    db: &mut PgConnection,
    by: &User,
    action: &'static str,
    subject: String,
    (before, after): (Option<Value>, Option<Value>),
) -> Result<(), StoreError> {
    let entry = Entry { actor: actor(by), action, account: Some(by.account), subject, network: None, before, after };
    note(db, &entry).await
}

/// Says who acts until the end of the transaction: what the tables write into the trail by themselves names them.
pub(crate) async fn act(db: &mut PgConnection, actor: Actor) -> Result<(), StoreError> {
    let who = actor.id().map_or_else(|| actor.kind().to_owned(), |id| format!("{}:{id}", actor.kind()));
    sqlx::query!(
        r#"select set_config('ez.actor', $1, true) as "actor!", set_config('ez.network', $2, true) as "network!""#,
        who,
        network().unwrap_or_default(),
    )
    .fetch_one(db)
    .await
    .doing("saying who acts")?;
    Ok(())
}

impl Store {
    /// Writes an entry about something that changes no table: a form of staff that is handed to Temporal.
    pub async fn note(&self, entry: &Entry) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        note(&mut tx, entry).await?;
        tx.commit().await.doing("writing the trail")
    }

    /// Notes that somebody who is logged in did not know their password when they were asked for it again.
    pub async fn password_refused(&self, user: &User) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        note_of_user(&mut tx, actor(user), "password.refused", user.id).await?;
        tx.commit().await.doing("writing the trail")
    }

    /// Notes that a second factor did not fit, and whether it locked the way: of somebody whose password was right, or who is
    /// logged in and asked again.
    pub async fn factor_refused(&self, user: UserId, locks: bool) -> Result<(), StoreError> {
        let action = if locks { "factor.locked" } else { "factor.refused" };
        let mut tx = self.begin().await?;
        note_of_user(&mut tx, Actor::Stranger, action, user).await?;
        tx.commit().await.doing("writing the trail")
    }

    /// Notes a log-in that was refused, and whether it locked the way. Nobody known costs the same statement as somebody.
    pub async fn log_in_refused(&self, known: Option<UserId>, locks: bool) -> Result<(), StoreError> {
        let subject = known.map_or_else(|| "user/unknown".to_owned(), |user| format!("user/{user}"));
        sqlx::query_scalar!(
            r#"select audit_write('stranger', null, (select account_id from users where id = $1), $2, $3, null, null, $4,
                null, null) as "id!""#,
            known.map(|user| user.0),
            if locks { "log_in.locked" } else { "log_in.refused" },
            subject,
            network(),
        )
        .fetch_one(&self.pool)
        .await
        .doing("writing the trail")?;
        Ok(())
    }
}
