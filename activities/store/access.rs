//! What somebody changes about their own way in: a forgotten or another password, another address, a lock that is opened by
//! letter. A link works once; what is asked with an address takes the same statements whether anybody has it.
//!
//! Locked is always the user first, then the change.
use crate::{
    Store, StoreError, User,
    audit::{self, Actor},
    factors::{forget_those_before, is_confirmed},
    fault::Doing,
};
use domain::ids::UserId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

pub mod close;
pub mod told;

/// Where the address of a closed user ends; nobody reads mail there. Source: RFC 2606, section 2.
pub const CLOSED_DOMAIN: &str = "@closed.invalid";

/// What refuses whoever was let in before all of the user's sessions were ended.
pub const USER_EPOCH: &str = "user_epoch";

/// What a link is for. The same words stand in the table and sign the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// A forgotten password is replaced.
    ResetPassword,
    /// A log-in that was tried too often is opened again.
    Unlock,
    /// Another address is confirmed.
    ChangeAddress,
    /// An account was closed. It has no link; the row holds whom to tell.
    Close,
}

impl ChangeKind {
    /// The word in the table, which also signs the link.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResetPassword => "reset_password",
            Self::Unlock => "unlock",
            Self::ChangeAddress => "change_address",
            Self::Close => "close",
        }
    }
}

/// How a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// It works.
    Good,
    /// It was used, or something else made it worthless since.
    Used,
    /// It is too old.
    Expired,
}

/// What was asked. Has no `Debug`: it names a person.
#[derive(Clone)]
pub struct AccessChange {
    /// Whose.
    pub user: UserId,
    /// That user's address at this moment.
    pub email: String,
    /// The address that is to be confirmed.
    pub new_email: Option<String>,
    /// The address it replaces.
    pub old_email: Option<String>,
    /// Until when its link works.
    pub expires_at: OffsetDateTime,
    /// Whether its link works.
    pub state: LinkState,
}

/// What became of a link that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressed {
    /// It did what it says.
    Done,
    /// It was used before.
    Used,
    /// It is too old.
    Expired,
    /// There is no such link, or it is somebody else's.
    Unknown,
    /// The address it confirms became somebody else's meanwhile.
    Taken,
}

impl From<LinkState> for Pressed {
    fn from(state: LinkState) -> Self {
        match state {
            LinkState::Good => Self::Done,
            LinkState::Used => Self::Used,
            LinkState::Expired => Self::Expired,
        }
    }
}

impl Store {
    /// What a link is about.
    pub async fn access_change(&self, id: Uuid, kind: ChangeKind) -> Result<Option<AccessChange>, StoreError> {
        let row = sqlx::query!(
            r#"select c.user_id, u.email, c.new_email, c.old_email, c.expires_at,
                c.used_at is not null as "used!", c.expires_at <= now() as "expired!"
               from access_changes c join users u on u.id = c.user_id where c.id = $1 and c.kind = $2"#,
            id,
            kind.as_str(),
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading an access change")?;
        Ok(row.map(|row| AccessChange {
            user: UserId(row.user_id),
            email: row.email,
            new_email: row.new_email,
            old_email: row.old_email,
            expires_at: row.expires_at,
            state: state(row.used, row.expired),
        }))
    }

    /// Queues a letter with a link to replace a forgotten password, for 30 minutes, at most one a minute. One statement, the
    /// same whether anybody has the address.
    pub async fn ask_reset(&self, email: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "with who as (
                select u.id from users u
                where u.email = $1 and u.closed_at is null and not exists (
                    select 1 from access_changes c
                    where c.user_id = u.id and c.kind = 'reset_password' and c.created_at > now() - interval '1 minute'
                )
             ), made as (
                insert into access_changes (id, user_id, kind, expires_at)
                select $2::uuid, id, 'reset_password', now() + interval '30 minutes' from who
                returning id, user_id
             )
             insert into letters (occasion, kind, user_id, state)
             select 'password_reset/' || id, 'password_reset', user_id, 'queued' from made",
            email,
            Uuid::new_v4(),
        )
        .execute(&self.pool)
        .await
        .doing("asking for another password")?;
        Ok(())
    }

    /// Queues a letter that says that somebody's log-in was locked after wrong passwords, with a link that opens it, for a
    /// day; none while an earlier one still works. One statement, the same whether anybody has the address.
    pub async fn tell_locked(&self, email: &str) -> Result<(), StoreError> {
        self.tell_of_lock(email, "log_in_locked").await
    }

    /// The same after wrong codes. A letter about wrong passwords does not take its place: who tries codes knows the password.
    pub async fn tell_codes_locked(&self, email: &str) -> Result<(), StoreError> {
        self.tell_of_lock(email, "codes_locked").await
    }

    async fn tell_of_lock(&self, email: &str, letter: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "with who as (
                select u.id from users u
                where u.email = $1 and u.closed_at is null and not exists (
                    select 1 from access_changes c join letters l on l.occasion = $3::text || '/' || c.id
                    where c.user_id = u.id and c.kind = 'unlock' and c.used_at is null and c.expires_at > now()
                )
             ), made as (
                insert into access_changes (id, user_id, kind, expires_at)
                select $2::uuid, id, 'unlock', now() + interval '1 day' from who
                returning id, user_id
             )
             insert into letters (occasion, kind, user_id, state)
             select $3::text || '/' || id, $3::text, user_id, 'queued' from made",
            email,
            Uuid::new_v4(),
            letter,
        )
        .execute(&self.pool)
        .await
        .doing("telling of a lock")?;
        Ok(())
    }

    /// Queues another letter that asks to confirm an address, at most one a minute and none once it is confirmed. One
    /// statement, the same whether anybody has the address.
    pub async fn ask_verification(&self, email: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "with who as (
                select u.id from users u
                where u.email = $1 and u.email_verified_at is null and u.closed_at is null and not exists (
                    select 1 from email_verifications v
                    where v.user_id = u.id and v.created_at > now() - interval '1 minute'
                )
             ), made as (
                insert into email_verifications (id, user_id, expires_at)
                select $2::uuid, id, now() + interval '1 day' from who
                returning id, user_id
             )
             insert into letters (occasion, kind, user_id, state)
             select 'verify_address/' || id, 'verify_address', user_id, 'queued' from made",
            email,
            Uuid::new_v4(),
        )
        .execute(&self.pool)
        .await
        .doing("asking to confirm an address")?;
        Ok(())
    }

    /// Replaces a forgotten password by a link, once. Every session ends, every known device is forgotten, every other link
    /// of this user dies, the tries counted for these subjects are forgotten, and a letter says that it happened. The address
    /// counts as confirmed: the link was read there. If nobody had confirmed it before, whoever signed up with it may be somebody
    /// else, and keeps no second factor to get in with.
    pub async fn reset_password(
        &self,
        id: Uuid,
        password_hash: &str,
        forgiven: &[(&str, [u8; 32])],
    ) -> Result<Pressed, StoreError> {
        let mut tx = self.begin().await?;
        let Some((user, state)) = locked(&mut tx, id, ChangeKind::ResetPassword).await? else {
            return Ok(Pressed::Unknown);
        };
        if state != LinkState::Good {
            return Ok(state.into());
        }
        let whoever = Actor::named(&mut tx, &user.to_string()).await?;
        audit::act(&mut tx, whoever).await?;
        if !is_confirmed(&mut tx, user).await? {
            forget_those_before(&mut tx, whoever, user).await?;
        }
        sqlx::query!("update users set email_verified_at = coalesce(email_verified_at, now()) where id = $1", user)
            .execute(&mut *tx)
            .await
            .doing("confirming an address")?;
        sqlx::query!("delete from devices where user_id = $1", user)
            .execute(&mut *tx)
            .await
            .doing("forgetting devices")?;
        replace_password(&mut tx, user, password_hash).await?;
        for (route, subject) in forgiven {
            forget(&mut tx, route, subject).await?;
        }
        tx.commit().await.doing("replacing a password")?;
        Ok(Pressed::Done)
    }

    /// Gives a user another password. Every session ends, the one it is done in included; every link of theirs dies, every
    /// known device but this one is forgotten, and a letter says that it happened. Gives the epoch that begins.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn change_password(
        &self,
        user: &User,
        password_hash: &str,
        device: Option<[u8; 32]>,
    ) -> Result<i32, StoreError> {
        let mut tx = self.begin().await?;
        lock_user(&mut tx, user).await?;
        audit::act(&mut tx, actor(user)).await?;
        let device = device.unwrap_or_default();
        sqlx::query!("delete from devices where user_id = $1 and token_hash <> $2", user.id.0, device.as_slice())
            .execute(&mut *tx)
            .await
            .doing("forgetting devices")?;
        let epoch = replace_password(&mut tx, user.id.0, password_hash).await?;
        tx.commit().await.doing("changing a password")?;
        Ok(epoch)
    }

    /// Opens a locked log-in by a link, once: the tries counted for these subjects are forgotten.
    pub async fn unlock(&self, id: Uuid, forgiven: &[(&str, [u8; 32])]) -> Result<Pressed, StoreError> {
        let mut tx = self.begin().await?;
        let Some((user, state)) = locked(&mut tx, id, ChangeKind::Unlock).await? else { return Ok(Pressed::Unknown) };
        if state != LinkState::Good {
            return Ok(state.into());
        }
        let whoever = Actor::named(&mut tx, &user.to_string()).await?;
        audit::note_of_user(&mut tx, whoever, "log_in.opened", UserId(user)).await?;
        sqlx::query!("update access_changes set used_at = now() where id = $1", id)
            .execute(&mut *tx)
            .await
            .doing("using a link")?;
        for (route, subject) in forgiven {
            forget(&mut tx, route, subject).await?;
        }
        tx.commit().await.doing("opening a log-in")?;
        Ok(Pressed::Done)
    }

    /// Asks to confirm another address, for a day; an earlier wish of this kind dies. The old address is told. Of an address
    /// that somebody else has, its owner is told instead, and nothing can be confirmed; the answer is the same.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn ask_address(&self, user: &User, new_email: &str) -> Result<(), StoreError> {
        let id = Uuid::new_v4();
        let mut tx = self.begin().await?;
        lock_user(&mut tx, user).await?;
        sqlx::query!(
            "update access_changes set used_at = now() where user_id = $1 and kind = 'change_address' and used_at is null",
            user.id.0,
        )
        .execute(&mut *tx)
        .await
        .doing("ending an earlier wish")?;
        sqlx::query!(
            "insert into access_changes (id, user_id, kind, new_email, old_email, expires_at)
             select $1::uuid, id, 'change_address', $3::text, email, now() + interval '1 day' from users where id = $2",
            id,
            user.id.0,
            new_email,
        )
        .execute(&mut *tx)
        .await
        .doing("asking for another address")?;
        sqlx::query!(
            "insert into letters (occasion, kind, user_id, state)
             select l.kind || '/' || $1::uuid, l.kind, $2, 'queued'
             from unnest(array['address_changing', 'address_confirm']) as l(kind)
             where l.kind = 'address_changing' or not exists (select 1 from users where email = $3)",
            id,
            user.id.0,
            new_email,
        )
        .execute(&mut *tx)
        .await
        .doing("queueing letters")?;
        tx.commit().await.doing("asking for another address")?;
        self.tell_account_exists(new_email).await
    }

    /// Confirms another address by a link, once, for the user who asked. Every session ends, the one it is done in included;
    /// every other link of theirs dies, the old address is told, and so is Stripe, by the next look at its customer. Gives the
    /// epoch that begins, or how the link stands.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn change_address(&self, id: Uuid, by: &User) -> Result<Result<i32, Pressed>, StoreError> {
        let mut tx = self.begin().await?;
        let Some((user, state)) = locked(&mut tx, id, ChangeKind::ChangeAddress).await? else {
            return Ok(Err(Pressed::Unknown));
        };
        if user != by.id.0 {
            return Ok(Err(Pressed::Unknown));
        }
        lock_user(&mut tx, by).await?;
        if state != LinkState::Good {
            return Ok(Err(state.into()));
        }
        audit::act(&mut tx, actor(by)).await?;
        let changed = sqlx::query!(
            "update users u set email = c.new_email, email_verified_at = now()
             from access_changes c where c.id = $1 and u.id = c.user_id and c.new_email is not null",
            id,
        )
        .execute(&mut *tx)
        .await
        .doing("changing an address");
        match changed {
            Ok(_) => {}
            Err(StoreError::Conflict { constraint }) if constraint == "users_email_key" => {
                return Ok(Err(Pressed::Taken));
            }
            Err(fault) => return Err(fault),
        }
        let epoch = end_all(&mut tx, user).await?;
        queue(&mut tx, "address_changed", id, user).await?;
        told::ask(&mut tx, id, user).await?;
        tx.commit().await.doing("changing an address")?;
        Ok(Ok(epoch))
    }
}

fn state(used: bool, expired: bool) -> LinkState {
    match (used, expired) {
        (true, _) => LinkState::Used,
        (false, true) => LinkState::Expired,
        (false, false) => LinkState::Good,
    }
}

/// Who acts for themself.
pub(crate) fn actor(user: &User) -> Actor {
    if user.is_staff { Actor::Staff(user.id) } else { Actor::User(user.id) }
}

/// Locks a user who is still let in: whatever ended all of their sessions since they were, comes first.
pub(crate) async fn lock_user(db: &mut PgConnection, user: &User) -> Result<(), StoreError> {
    let found = sqlx::query_scalar!(
        "select id from users where id = $1 and access_epoch = $2 and closed_at is null for no key update",
        user.id.0,
        user.epoch,
    )
    .fetch_optional(db)
    .await
    .doing("locking a user")?;
    found.map(|_| ()).ok_or_else(|| StoreError::conflict(USER_EPOCH))
}

/// The user of a link and how it stands, with both locked. None when there is no such link, or its user is closed.
async fn locked(db: &mut PgConnection, id: Uuid, kind: ChangeKind) -> Result<Option<(Uuid, LinkState)>, StoreError> {
    let user = sqlx::query_scalar!(
        "select id from users where closed_at is null and id = (
            select user_id from access_changes where id = $1 and kind = $2
         ) for no key update",
        id,
        kind.as_str(),
    )
    .fetch_optional(&mut *db)
    .await
    .doing("locking the user of a link")?;
    let Some(user) = user else { return Ok(None) };
    let row = sqlx::query!(
        r#"select used_at is not null as "used!", expires_at <= now() as "expired!"
           from access_changes where id = $1 for no key update"#,
        id,
    )
    .fetch_optional(db)
    .await
    .doing("locking a link")?;
    Ok(row.map(|row| (user, state(row.used, row.expired))))
}

async fn replace_password(db: &mut PgConnection, user: Uuid, password_hash: &str) -> Result<i32, StoreError> {
    sqlx::query!("update users set password_hash = $2 where id = $1", user, password_hash)
        .execute(&mut *db)
        .await
        .doing("replacing a password")?;
    let epoch = end_all(db, user).await?;
    queue(db, "password_changed", Uuid::new_v4(), user).await?;
    Ok(epoch)
}

/// Ends every session of a user, also one that is being begun at this moment, and makes every link of theirs worthless. Gives the
/// epoch that begins.
pub(crate) async fn end_all(db: &mut PgConnection, user: Uuid) -> Result<i32, StoreError> {
    let epoch = sqlx::query_scalar!(
        "update users set access_epoch = access_epoch + 1 where id = $1 returning access_epoch",
        user,
    )
    .fetch_one(&mut *db)
    .await
    .doing("beginning an epoch")?;
    sqlx::query!("delete from sessions where user_id = $1", user).execute(&mut *db).await.doing("ending sessions")?;
    sqlx::query!("update access_changes set used_at = now() where user_id = $1 and used_at is null", user)
        .execute(db)
        .await
        .doing("ending links")?;
    Ok(epoch)
}

async fn forget(db: &mut PgConnection, route: &str, subject: &[u8; 32]) -> Result<(), StoreError> {
    sqlx::query!("delete from limits where route = $1 and subject = $2", route, subject.as_slice())
        .execute(db)
        .await
        .doing("forgetting tries")?;
    Ok(())
}

/// Queues a letter to a user about something that happens once.
pub(crate) async fn queue(db: &mut PgConnection, kind: &str, about: Uuid, user: Uuid) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into letters (occasion, kind, user_id, state) values ($1, $2, $3, 'queued')",
        format!("{kind}/{about}"),
        kind,
        user,
    )
    .execute(db)
    .await
    .doing("queueing a letter")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{LinkState, state};

    #[test]
    fn a_link_that_was_used_stays_used_however_old_it_is() {
        assert_eq!(state(false, false), LinkState::Good);
        assert_eq!(state(false, true), LinkState::Expired);
        assert_eq!(state(true, false), LinkState::Used);
        assert_eq!(state(true, true), LinkState::Used);
    }
}
