//! Accounts and the people who log in for them.
use crate::{
    Store, StoreError,
    access::{end_all, lock_user, queue},
    audit::{self, Actor},
    factors::forget_those_before,
    fault::{Doing, word},
    members::Seat,
    sessions::staff_of,
};
use domain::{
    ids::{AccountId, UserId},
    member::MemberRole,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// A person who signs up. Has no `Debug`, because it carries a password's hash.
#[derive(Clone)]
pub struct NewUser {
    /// As they wrote it; also the account's first name.
    pub name: String,
    /// Where they read mail; stored in lower case.
    pub email: String,
    /// An Argon2id hash in PHC form.
    pub password_hash: String,
}

/// What became of a sign-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedUp {
    /// Account and user are there, and a letter to confirm the address is queued.
    Created(UserId),
    /// Somebody has that address; they are told by letter, at most once an hour.
    AddressTaken,
}

/// What a log-in is checked against. Has no `Debug`, because it carries a password's hash.
#[derive(Clone)]
pub struct LogIn {
    /// Who.
    pub user: UserId,
    /// An Argon2id hash in PHC form.
    pub password_hash: String,
    /// Whether they work here.
    pub is_staff: bool,
    /// How often all their sessions were ended; what was checked in an earlier epoch is worth nothing.
    pub epoch: i32,
}

/// A person who logs in.
#[derive(Clone, Serialize, Deserialize)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// Which account they look at; where nobody looks, the one they always have.
    pub account: AccountId,
    /// Their name.
    pub name: String,
    /// Lower case.
    pub email: String,
    /// Whether they work here.
    pub is_staff: bool,
    /// Whether the address was confirmed.
    pub email_verified: bool,
    /// How often all their sessions were ended ([`LogIn::epoch`]).
    pub epoch: i32,
    /// What they are in the account, and here.
    pub seat: Seat,
}

/// A request to confirm an address. The link in the letter is made of its id and the portal's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Which.
    pub id: Uuid,
    /// Whose address.
    pub user: UserId,
    /// Until when the link works.
    pub expires_at: OffsetDateTime,
    /// When it was used first.
    pub used_at: Option<OffsetDateTime>,
}

/// What became of a confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// The address is confirmed; also when the link is used again.
    Done,
    /// The link is too old and was never used.
    Expired,
    /// No such link.
    Unknown,
    /// It is about somebody else's address.
    NotTheirs,
}

impl Store {
    /// Makes account, user and the queued letter that asks to confirm the address. Whoever has the address already gets a
    /// letter instead, so the page can give the same answer in both cases.
    pub async fn sign_up(&self, user: NewUser) -> Result<SignedUp, StoreError> {
        let email = normal(&user.email);
        let mut tx = self.begin().await?;
        if let Some(made) = insert_user(&mut tx, &user, &email, false).await? {
            ask(&mut tx, made).await?;
            tx.commit().await.doing("signing up")?;
            return Ok(SignedUp::Created(made));
        }
        tx.rollback().await.doing("signing up")?;
        self.tell_account_exists(&email).await?;
        Ok(SignedUp::AddressTaken)
    }

    /// Queues a letter to whoever has an address that it was tried to be used again, at most once an hour.
    pub(crate) async fn tell_account_exists(&self, email: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        // Locked, so that two sign-ups at once queue one letter.
        let user = sqlx::query_scalar!("select id from users where email = $1 for no key update", email)
            .fetch_optional(&mut *tx)
            .await
            .doing("locking a user")?;
        if let Some(user) = user {
            sqlx::query!(
                "insert into letters (occasion, kind, user_id, state)
                 select $1, 'account_exists', $2, 'queued'
                 where not exists (
                    select 1 from letters
                    where user_id = $2 and kind = 'account_exists' and created_at > now() - interval '1 hour'
                 )",
                format!("account_exists/{}", Uuid::new_v4()),
                user,
            )
            .execute(&mut *tx)
            .await
            .doing("queueing a letter")?;
        }
        tx.commit().await.doing("queueing a letter")
    }

    /// Who logs in with an address, in any case, and with which password.
    pub async fn log_in(&self, email: &str) -> Result<Option<LogIn>, StoreError> {
        let row = sqlx::query!(
            r#"select id, password_hash, staff_role is not null as "is_staff!", access_epoch
               from users where email = $1 and closed_at is null"#,
            normal(email),
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a user")?;
        Ok(row.map(|row| LogIn {
            user: UserId(row.id),
            password_hash: row.password_hash,
            is_staff: row.is_staff,
            epoch: row.access_epoch,
        }))
    }

    /// The user with an address, in any case.
    pub async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        sqlx::query_as!(
            UserRow,
            r#"select u.id, u.account_id, u.name, u.email, u.staff_role,
                u.email_verified_at is not null as "email_verified!", u.access_epoch, a.name as account_name,
                m.role as "role?", (select count(*) from members o where o.user_id = u.id) as "accounts!"
               from users u join accounts a on a.id = u.account_id
               left join members m on m.user_id = u.id and m.account_id = u.account_id where u.email = $1"#,
            normal(email),
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a user")?
        .map(User::try_from)
        .transpose()
    }

    /// A user.
    pub async fn user(&self, user: UserId) -> Result<Option<User>, StoreError> {
        sqlx::query_as!(
            UserRow,
            r#"select u.id, u.account_id, u.name, u.email, u.staff_role,
                u.email_verified_at is not null as "email_verified!", u.access_epoch, a.name as account_name,
                m.role as "role?", (select count(*) from members o where o.user_id = u.id) as "accounts!"
               from users u join accounts a on a.id = u.account_id
               left join members m on m.user_id = u.id and m.account_id = u.account_id where u.id = $1"#,
            user.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a user")?
        .map(User::try_from)
        .transpose()
    }

    /// A request to confirm an address.
    pub async fn verification(&self, id: Uuid) -> Result<Option<Verification>, StoreError> {
        let row = sqlx::query!("select id, user_id, expires_at, used_at from email_verifications where id = $1", id)
            .fetch_optional(&self.pool)
            .await
            .doing("reading a verification")?;
        Ok(row.map(|row| Verification {
            id: row.id,
            user: UserId(row.user_id),
            expires_at: row.expires_at,
            used_at: row.used_at,
        }))
    }

    /// Confirms the address of whoever is logged in. A link used again gives the same answer, however late. Who reads mail at an
    /// address and who signed up with it are one person only when both the link and a way in are in one hand.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn confirm_email(&self, verification: Uuid, by: &User) -> Result<Confirmed, StoreError> {
        let mut tx = self.begin().await?;
        lock_user(&mut tx, by).await?;
        let row = sqlx::query!(
            r#"select user_id, used_at is not null as "used!", expires_at <= now() as "expired!"
               from email_verifications where id = $1 for no key update"#,
            verification,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking a verification")?;
        let Some(row) = row else { return Ok(Confirmed::Unknown) };
        if row.user_id != by.id.0 {
            return Ok(Confirmed::NotTheirs);
        }
        if row.expired && !row.used {
            return Ok(Confirmed::Expired);
        }
        if !row.used {
            sqlx::query!("update email_verifications set used_at = now() where id = $1", verification)
                .execute(&mut *tx)
                .await
                .doing("using a verification")?;
            sqlx::query!(
                "update users set email_verified_at = coalesce(email_verified_at, now()) where id = $1",
                row.user_id,
            )
            .execute(&mut *tx)
            .await
            .doing("confirming an address")?;
            audit::note_of_user(&mut tx, Actor::User(by.id), "user.confirmed", by.id).await?;
        }
        tx.commit().await.doing("confirming an address")?;
        Ok(Confirmed::Done)
    }

    /// Makes an admin whose address counts as confirmed, or makes the user with that address one. The name and the
    /// password become the ones given; the user's sessions end, and their second factors and known devices are forgotten, because
    /// whoever signed up with that address need not be the person who is meant.
    pub async fn create_staff(&self, user: NewUser) -> Result<UserId, StoreError> {
        let email = normal(&user.email);
        let mut tx = self.begin().await?;
        audit::act(&mut tx, Actor::Hand).await?;
        if let Some(made) = insert_user(&mut tx, &user, &email, true).await? {
            tx.commit().await.doing("making a staff user")?;
            return Ok(made);
        }
        tx.rollback().await.doing("making a staff user")?;
        let mut tx = self.begin().await?;
        audit::act(&mut tx, Actor::Hand).await?;
        let id = sqlx::query_scalar!(
            "update users set name = $2, password_hash = $3, is_staff = true,
                email_verified_at = coalesce(email_verified_at, now())
             where email = $1 returning id",
            email,
            user.name,
            user.password_hash,
        )
        .fetch_one(&mut *tx)
        .await
        .doing("changing a staff user")?;
        forget_those_before(&mut tx, Actor::Hand, id).await?;
        sqlx::query!("delete from devices where user_id = $1", id)
            .execute(&mut *tx)
            .await
            .doing("forgetting devices")?;
        end_all(&mut tx, id).await?;
        queue(&mut tx, "password_changed", Uuid::new_v4(), id).await?;
        tx.commit().await.doing("changing a staff user")?;
        Ok(UserId(id))
    }

    /// Gives the user with an address another password, ends their sessions, and tells them by letter. Says whether there is one.
    pub async fn set_password(&self, email: &str, password_hash: &str) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        audit::act(&mut tx, Actor::Hand).await?;
        let user = sqlx::query_scalar!(
            "update users set password_hash = $2 where email = $1 returning id",
            normal(email),
            password_hash,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("changing a password")?;
        if let Some(user) = user {
            end_all(&mut tx, user).await?;
            queue(&mut tx, "password_changed", Uuid::new_v4(), user).await?;
        }
        tx.commit().await.doing("changing a password")?;
        Ok(user.is_some())
    }
}

struct UserRow {
    id: Uuid,
    account_id: Uuid,
    name: String,
    email: String,
    staff_role: Option<String>,
    email_verified: bool,
    access_epoch: i32,
    account_name: String,
    role: Option<String>,
    accounts: i64,
}

impl TryFrom<UserRow> for User {
    type Error = StoreError;

    fn try_from(row: UserRow) -> Result<Self, StoreError> {
        let role = row.role.map(|role| word(&role, "a member's role")).transpose()?.unwrap_or(MemberRole::ReadOnly);
        let staff = staff_of(row.staff_role.as_deref())?;
        Ok(Self {
            id: UserId(row.id),
            account: AccountId(row.account_id),
            name: row.name,
            email: row.email,
            is_staff: staff.is_some(),
            email_verified: row.email_verified,
            epoch: row.access_epoch,
            seat: Seat { role, account_name: row.account_name, accounts: row.accounts, staff, viewing: None },
        })
    }
}

pub(crate) fn normal(email: &str) -> String {
    email.trim().to_lowercase()
}

/// Makes an account with one user, who owns it; `None` when the address is taken, and then the transaction must be rolled back.
pub(crate) async fn insert_user(
    db: &mut PgConnection,
    user: &NewUser,
    email: &str,
    staff: bool,
) -> Result<Option<UserId>, StoreError> {
    let (account, id) = (Uuid::new_v4(), Uuid::new_v4());
    sqlx::query!("insert into accounts (id, name) values ($1, $2)", account, user.name)
        .execute(&mut *db)
        .await
        .doing("making an account")?;
    let made = sqlx::query!(
        "insert into users (id, account_id, name, email, password_hash, is_staff, email_verified_at)
         values ($1, $2, $3, $4, $5, $6, case when $6 then now() end)
         on conflict (email) do nothing",
        id,
        account,
        user.name,
        email,
        user.password_hash,
        staff,
    )
    .execute(db)
    .await
    .doing("making a user")?;
    Ok((made.rows_affected() == 1).then_some(UserId(id)))
}

/// Makes a verification that lasts a day, and queues its letter.
async fn ask(db: &mut PgConnection, user: UserId) -> Result<(), StoreError> {
    let id = Uuid::new_v4();
    sqlx::query!(
        "insert into email_verifications (id, user_id, expires_at) values ($1, $2, now() + interval '1 day')",
        id,
        user.0,
    )
    .execute(&mut *db)
    .await
    .doing("making a verification")?;
    queue(db, "verify_address", id, user.0).await
}
