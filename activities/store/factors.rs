//! Second factors: an app that shows codes, passkeys, and recovery codes for when both are lost. A code is used up by one
//! conditional update, so of two who use the same one at the same time one is refused.
//!
//! Locked is always the user first. Every change ends the user's other sessions, and a letter tells of it.
use crate::{
    Store, StoreError, User,
    access::{actor, end_all, lock_user, queue},
    audit::{self, Actor},
    fault::Doing,
};
use domain::ids::UserId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

pub mod passkeys;
pub mod reset;

use passkeys::PasskeyLine;

/// What the seed of an app is sealed for.
pub const SEED_PURPOSE: &str = "totp-seed";

/// What refuses a factor while nobody has shown that the address is theirs.
pub const UNCONFIRMED_RULE: &str = "users_confirmed";

/// How many recovery codes are made at once.
pub const RECOVERY_CODES: usize = 10;

/// What somebody showed besides their password. The words stand in the table `sessions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// A code of an app.
    App,
    /// A recovery code.
    RecoveryCode,
    /// A passkey, which counts for both.
    Passkey,
}

impl Factor {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::RecoveryCode => "recovery_code",
            Self::Passkey => "passkey",
        }
    }

    /// Reads the word in the table.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::App, Self::RecoveryCode, Self::Passkey].into_iter().find(|factor| factor.as_str() == word)
    }
}

/// What changed about somebody's second factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactorChange {
    /// An app was added.
    AppAdded,
    /// The app was removed.
    AppRemoved,
    /// A passkey was added.
    PasskeyAdded,
    /// A passkey was removed.
    PasskeyRemoved,
    /// New recovery codes replaced the old ones.
    CodesMade,
    /// A recovery code was used.
    CodeUsed,
    /// Staff took every factor away.
    TakenAway,
    /// What was added before the user was shown to be who is meant was forgotten.
    Forgotten,
}

impl FactorChange {
    const ALL: [Self; 8] = [
        Self::AppAdded,
        Self::AppRemoved,
        Self::PasskeyAdded,
        Self::PasskeyRemoved,
        Self::CodesMade,
        Self::CodeUsed,
        Self::TakenAway,
        Self::Forgotten,
    ];

    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AppAdded => "app_added",
            Self::AppRemoved => "app_removed",
            Self::PasskeyAdded => "passkey_added",
            Self::PasskeyRemoved => "passkey_removed",
            Self::CodesMade => "codes_made",
            Self::CodeUsed => "code_used",
            Self::TakenAway => "taken_away",
            Self::Forgotten => "forgotten",
        }
    }

    /// The word in the trail.
    fn action(self) -> &'static str {
        match self {
            Self::AppAdded => "factor.app_added",
            Self::AppRemoved => "factor.app_removed",
            Self::PasskeyAdded => "factor.passkey_added",
            Self::PasskeyRemoved => "factor.passkey_removed",
            Self::CodesMade => "factor.codes_made",
            Self::CodeUsed => "factor.code_used",
            Self::TakenAway => "factor.taken_away",
            Self::Forgotten => "factor.forgotten",
        }
    }
}

/// A change as a letter tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactorChanged {
    /// Whose.
    pub user: UserId,
    /// What.
    pub what: FactorChange,
    /// When.
    pub at: OffsetDateTime,
}

/// The second factors of somebody.
#[derive(Debug, Clone, Default)]
pub struct Factors {
    /// Since when an app shows codes.
    pub app_since: Option<OffsetDateTime>,
    /// The passkeys, the oldest first.
    pub passkeys: Vec<PasskeyLine>,
    /// How many recovery codes were not used yet.
    pub codes_left: i64,
}

impl Factors {
    /// Whether there is any. Recovery codes alone are none: they only stand in for one.
    pub fn any(&self) -> bool {
        self.app_since.is_some() || !self.passkeys.is_empty()
    }
}

/// A factor that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// The epoch that begins: every earlier session has ended.
    pub epoch: i32,
    /// Whether the recovery codes that were brought along count from now on. Whoever has some keeps them.
    pub with_codes: bool,
}

impl Store {
    /// The second factors of a user.
    pub async fn factors(&self, user: UserId) -> Result<Factors, StoreError> {
        let row = sqlx::query!(
            r#"select (select created_at from totp where user_id = $1) as app_since,
                (select count(*) from recovery_codes where user_id = $1 and used_at is null) as "codes_left!""#,
            user.0,
        )
        .fetch_one(&self.pool)
        .await
        .doing("reading second factors")?;
        let passkeys = self.passkey_lines(user).await?;
        Ok(Factors { app_since: row.app_since, passkeys, codes_left: row.codes_left })
    }

    /// How many of the staff there are, and how many of them have a second factor.
    pub async fn staff_factors(&self) -> Result<(i64, i64), StoreError> {
        let row = sqlx::query!(
            r#"select count(*) as "staff!", count(*) filter (where exists (select 1 from totp t where t.user_id = u.id)
                or exists (select 1 from passkeys p where p.user_id = u.id)) as "with_factor!"
               from users u where u.staff_role is not null and u.closed_at is null"#,
        )
        .fetch_one(&self.pool)
        .await
        .doing("counting second factors")?;
        Ok((row.staff, row.with_factor))
    }

    /// The sealed seed of a user's app.
    pub async fn totp_seed(&self, user: UserId) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar!("select sealed_seed from totp where user_id = $1", user.0)
            .fetch_optional(&self.pool)
            .await
            .doing("reading the seed of an app")
    }

    /// Uses up the code of a step of time. Says no when this step, or a later one, was used before.
    pub async fn take_totp_step(&self, user: UserId, step: i64) -> Result<bool, StoreError> {
        let taken = sqlx::query!("update totp set last_step = $2 where user_id = $1 and last_step < $2", user.0, step)
            .execute(&self.pool)
            .await
            .doing("using a code")?;
        Ok(taken.rows_affected() == 1)
    }

    /// Uses up a recovery code, and tells its owner by letter. Says no when there is none like it, or it was used before.
    pub async fn take_recovery_code(&self, user: UserId, code_hash: &[u8; 32]) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let taken = sqlx::query!(
            "update recovery_codes set used_at = now() where user_id = $1 and code_hash = $2 and used_at is null",
            user.0,
            code_hash.as_slice(),
        )
        .execute(&mut *tx)
        .await
        .doing("using a recovery code")?;
        if taken.rows_affected() != 1 {
            return Ok(false);
        }
        let whoever = Actor::named(&mut tx, &user.to_string()).await?;
        note(&mut tx, whoever, user.0, FactorChange::CodeUsed).await?;
        tx.commit().await.doing("using a recovery code")?;
        Ok(true)
    }

    /// Gives a user an app. The step is the one whose code showed that the app is theirs, so that code is used up. Nothing when
    /// there is an app already.
    ///
    /// *Errors*: [`StoreError::Conflict`]: `user_epoch` when all of the user's sessions were ended meanwhile,
    /// [`UNCONFIRMED_RULE`] while their address is not confirmed.
    pub async fn add_totp(
        &self,
        user: &User,
        sealed_seed: &str,
        step: i64,
        code_hashes: &[[u8; 32]],
    ) -> Result<Option<Added>, StoreError> {
        let mut tx = self.begin().await?;
        lock_confirmed(&mut tx, user).await?;
        let made = sqlx::query!(
            "insert into totp (user_id, sealed_seed, last_step) values ($1, $2, $3) on conflict (user_id) do nothing",
            user.id.0,
            sealed_seed,
            step,
        )
        .execute(&mut *tx)
        .await
        .doing("adding an app")?;
        if made.rows_affected() != 1 {
            return Ok(None);
        }
        let added = added(&mut tx, user, FactorChange::AppAdded, code_hashes).await?;
        tx.commit().await.doing("adding an app")?;
        Ok(Some(added))
    }

    /// Takes the app away; with the last factor the recovery codes go, too. Gives the epoch that begins, nothing when there was
    /// no app.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn remove_totp(&self, user: &User) -> Result<Option<i32>, StoreError> {
        let mut tx = self.begin().await?;
        lock_user(&mut tx, user).await?;
        let gone = sqlx::query!("delete from totp where user_id = $1", user.id.0)
            .execute(&mut *tx)
            .await
            .doing("removing an app")?;
        if gone.rows_affected() != 1 {
            return Ok(None);
        }
        let epoch = removed(&mut tx, user, FactorChange::AppRemoved).await?;
        tx.commit().await.doing("removing an app")?;
        Ok(Some(epoch))
    }

    /// Replaces the recovery codes. Gives the epoch that begins, nothing when there is no factor they could stand in for.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn replace_recovery_codes(
        &self,
        user: &User,
        code_hashes: &[[u8; 32]],
    ) -> Result<Option<i32>, StoreError> {
        let mut tx = self.begin().await?;
        lock_user(&mut tx, user).await?;
        if !has_factor(&mut tx, user.id.0).await? {
            return Ok(None);
        }
        sqlx::query!("delete from recovery_codes where user_id = $1", user.id.0)
            .execute(&mut *tx)
            .await
            .doing("removing recovery codes")?;
        insert_codes(&mut tx, user.id.0, code_hashes).await?;
        note(&mut tx, actor(user), user.id.0, FactorChange::CodesMade).await?;
        let epoch = end_all(&mut tx, user.id.0).await?;
        tx.commit().await.doing("making recovery codes")?;
        Ok(Some(epoch))
    }

    /// A change, to be told of.
    pub async fn factor_change(&self, id: Uuid) -> Result<Option<FactorChanged>, StoreError> {
        let row = sqlx::query!("select user_id, what, created_at from factor_changes where id = $1", id)
            .fetch_optional(&self.pool)
            .await
            .doing("reading a change of factors")?;
        let Some(row) = row else { return Ok(None) };
        let what = FactorChange::ALL.into_iter().find(|change| change.as_str() == row.what);
        let what = what.ok_or(StoreError::Corrupt { what: "a change of factors" })?;
        Ok(Some(FactorChanged { user: UserId(row.user_id), what, at: row.created_at }))
    }
}

/// Locks a user who is still let in and has shown that their address is theirs: a factor of anybody else would let them in past
/// its owner.
async fn lock_confirmed(db: &mut PgConnection, user: &User) -> Result<(), StoreError> {
    lock_user(&mut *db, user).await?;
    if is_confirmed(db, user.id.0).await? { Ok(()) } else { Err(StoreError::conflict(UNCONFIRMED_RULE)) }
}

/// Whether somebody has shown that a user's address is theirs.
pub(crate) async fn is_confirmed(db: &mut PgConnection, user: Uuid) -> Result<bool, StoreError> {
    sqlx::query_scalar!(r#"select email_verified_at is not null as "confirmed!" from users where id = $1"#, user)
        .fetch_one(db)
        .await
        .doing("looking whether an address is confirmed")
}

/// Notes what changed and by whom, and queues the letter that tells of it. Whatever ends in the rest of the transaction was ended by
/// them, too.
async fn note(db: &mut PgConnection, by: Actor, user: Uuid, what: FactorChange) -> Result<(), StoreError> {
    audit::act(&mut *db, by).await?;
    audit::note_of_user(&mut *db, by, what.action(), UserId(user)).await?;
    let id = Uuid::new_v4();
    sqlx::query!("insert into factor_changes (id, user_id, what) values ($1, $2, $3)", id, user, what.as_str())
        .execute(&mut *db)
        .await
        .doing("noting a change of factors")?;
    queue(db, "factors_changed", id, user).await
}

/// What follows when a factor was added.
async fn added(
    db: &mut PgConnection,
    user: &User,
    what: FactorChange,
    code_hashes: &[[u8; 32]],
) -> Result<Added, StoreError> {
    let left = sqlx::query_scalar!(
        r#"select count(*) as "left!" from recovery_codes where user_id = $1 and used_at is null"#,
        user.id.0,
    )
    .fetch_one(&mut *db)
    .await
    .doing("counting recovery codes")?;
    if left == 0 {
        insert_codes(db, user.id.0, code_hashes).await?;
    }
    note(db, actor(user), user.id.0, what).await?;
    let epoch = end_all(db, user.id.0).await?;
    Ok(Added { epoch, with_codes: left == 0 })
}

/// What follows when a factor was removed.
async fn removed(db: &mut PgConnection, user: &User, what: FactorChange) -> Result<i32, StoreError> {
    if !has_factor(db, user.id.0).await? {
        sqlx::query!("delete from recovery_codes where user_id = $1", user.id.0)
            .execute(&mut *db)
            .await
            .doing("removing recovery codes")?;
    }
    note(db, actor(user), user.id.0, what).await?;
    end_all(db, user.id.0).await
}

async fn has_factor(db: &mut PgConnection, user: Uuid) -> Result<bool, StoreError> {
    sqlx::query_scalar!(
        r#"select exists (select 1 from totp where user_id = $1)
            or exists (select 1 from passkeys where user_id = $1) as "has!""#,
        user,
    )
    .fetch_one(db)
    .await
    .doing("looking for a second factor")
}

async fn insert_codes(db: &mut PgConnection, user: Uuid, code_hashes: &[[u8; 32]]) -> Result<(), StoreError> {
    let hashes: Vec<Vec<u8>> = code_hashes.iter().map(|hash| hash.to_vec()).collect();
    sqlx::query!(
        "insert into recovery_codes (user_id, code_hash) select $1::uuid, code from unnest($2::bytea[]) as codes(code)
         on conflict do nothing",
        user,
        &hashes[..],
    )
    .execute(db)
    .await
    .doing("making recovery codes")?;
    Ok(())
}

/// Takes every factor of a user away, with what was begun or asked about them.
pub(crate) async fn forget_factors(db: &mut PgConnection, user: Uuid) -> Result<(), StoreError> {
    let doing = "taking second factors away";
    sqlx::query!("delete from totp where user_id = $1", user).execute(&mut *db).await.doing(doing)?;
    sqlx::query!("delete from passkeys where user_id = $1", user).execute(&mut *db).await.doing(doing)?;
    sqlx::query!("delete from recovery_codes where user_id = $1", user).execute(&mut *db).await.doing(doing)?;
    sqlx::query!("delete from passkey_ceremonies where user_id = $1", user).execute(db).await.doing(doing)?;
    Ok(())
}

/// Takes away what somebody who was there before could still get in with, and tells of it where there was anything.
pub(crate) async fn forget_those_before(db: &mut PgConnection, by: Actor, user: Uuid) -> Result<(), StoreError> {
    let had = has_factor(&mut *db, user).await?;
    forget_factors(&mut *db, user).await?;
    reset::drop_wish(&mut *db, by, user).await?;
    if had {
        note(db, by, user, FactorChange::Forgotten).await?;
    }
    Ok(())
}
