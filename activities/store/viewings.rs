//! Staff who look at a customer's pages: which account, why, in which session, and until when. The rows stay as the record of it.
use crate::{
    Store, StoreError, User,
    access::actor,
    accounts::normal,
    audit::{self, Actor, Entry},
    fault::Doing,
    members::LISTED_LIMIT,
    sessions,
};
use domain::ids::{AccountId, UserId};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tower_sessions_core::session::Id;
use uuid::Uuid;

/// Once that somebody looked. Has no `Debug`: it names people.
#[derive(Clone)]
pub struct ViewingLine {
    /// Who looked, by name.
    pub by: String,
    /// At which account, by name.
    pub account: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub begun_at: OffsetDateTime,
    /// Until when, at most.
    pub ends_at: OffsetDateTime,
    /// When they ended it themselves.
    pub ended_at: Option<OffsetDateTime>,
}

impl Store {
    /// The account that an address or an account's own id names.
    pub async fn account_named(&self, text: &str) -> Result<Option<AccountId>, StoreError> {
        let id = Uuid::parse_str(text.trim()).ok();
        let found = sqlx::query_scalar!(
            r#"select id as "id!" from accounts where id = $1
               union all
               select account_id from users where email = $2 and closed_at is null
               limit 1"#,
            id,
            normal(text),
        )
        .fetch_optional(&self.pool)
        .await
        .doing("looking for an account")?;
        Ok(found.map(AccountId))
    }

    /// Lets one of the staff look at an account, in one session and for so many seconds; what they looked at before in it ends. Says
    /// whether they may at this moment.
    pub async fn begin_viewing(
        &self,
        by: &User,
        session: Id,
        account: AccountId,
        (reason, secs): (&str, u32),
    ) -> Result<bool, StoreError> {
        let (mut tx, id) = (self.begin().await?, Uuid::new_v4());
        let key = sessions::key(&session);
        // The session's row is locked, so that it looks at one account however many forms are sent.
        let locked = sqlx::query_scalar!(
            "select s.id from sessions s join users u on u.id = s.user_id and u.access_epoch = s.access_epoch
             where s.id = $1 and u.id = $2 and u.access_epoch = $3 and u.closed_at is null
                and u.staff_role is not null
             for update of s",
            key,
            by.id.0,
            by.epoch,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking a session")?;
        if locked.is_none() {
            return Ok(false);
        }
        sqlx::query!("update viewings set ended_at = now() where session_id = $1 and ended_at is null", key)
            .execute(&mut *tx)
            .await
            .doing("ending what was looked at before")?;
        sqlx::query!(
            "insert into viewings (id, user_id, account_id, reason, session_id, ends_at)
             values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))",
            id,
            by.id.0,
            account.0,
            reason,
            key,
            f64::from(secs),
        )
        .execute(&mut *tx)
        .await
        .doing("beginning to look")?;
        let why = json!({ "reason": reason });
        audit::note(&mut tx, &entry(actor(by), "viewing.begun", id, account, Some(why))).await?;
        tx.commit().await.doing("beginning to look")?;
        Ok(true)
    }

    /// Ends what somebody looks at in a session, and makes the forms they have open there worthless.
    pub async fn end_viewing(&self, user: UserId, session: Id) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let key = sessions::key(&session);
        let ended = sqlx::query!(
            "update viewings set ended_at = now() where session_id = $1 and user_id = $2 and ended_at is null
             returning id, account_id",
            key,
            user.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("ending what was looked at")?;
        if let Some(ended) = ended {
            let account = AccountId(ended.account_id);
            audit::note(&mut tx, &entry(Actor::Staff(user), "viewing.ended", ended.id, account, None)).await?;
        }
        sqlx::query!(
            "update sessions set data = data - $3::text where id = $1 and user_id = $2",
            key,
            user.0,
            sessions::FORM_KEY,
        )
        .execute(&mut *tx)
        .await
        .doing("ending forms")?;
        tx.commit().await.doing("ending what was looked at")
    }

    /// Who looked at whom, the newest first; 200 at most.
    pub async fn viewings(&self) -> Result<Vec<ViewingLine>, StoreError> {
        sqlx::query_as!(
            ViewingLine,
            r#"select coalesce((select u.name from users u where u.id = v.user_id), 'somebody who left') as "by!",
                (select a.name from accounts a where a.id = v.account_id) as "account!",
                v.reason, v.begun_at, v.ends_at, v.ended_at
               from viewings v order by v.begun_at desc, v.id limit $1"#,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("listing what was looked at")
    }
}

fn entry(actor: Actor, action: &'static str, id: Uuid, account: AccountId, after: Option<Value>) -> Entry {
    let subject = format!("viewing/{id}");
    Entry { actor, action, account: Some(account), subject, network: None, before: None, after }
}
