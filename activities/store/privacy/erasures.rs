//! Wishes that everything about a person goes: asked, confirmed, taken back, carried out.
//!
//! The row decides. Whatever is pressed is one conditional update of it, so of two at the same moment one counts. Locked is
//! always the user first, then the account, then the row.
use super::obstacles::{Obstacle, obstacles, own_account};
use crate::{
    CLOSED_DOMAIN, LinkState, Pressed, Store, StoreError, User,
    access::{
        actor,
        close::{leave_others, lock_memberships, shut},
        end_all, lock_user, queue,
    },
    audit::{self, Actor},
    fault::Doing,
};
use domain::ids::{AccountId, ErasureId, UserId};
use sqlx::PgConnection;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

mod steps;

pub use steps::{ErasureChange, ErasureStep, ForgottenBuyer};

/// How many are listed, or started, at once.
const LISTED_LIMIT: i64 = 100;

/// How an erasure stands. The same words stand in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErasureState {
    /// It waits to be confirmed.
    Asked,
    /// Nobody confirmed it in time, or it was asked for again.
    Lapsed,
    /// The account is closed, and it can be taken back.
    Waiting,
    /// It was taken back.
    TakenBack,
    /// It is being done and cannot be taken back.
    Erasing,
    /// Our tables are done; the last letter is on its way.
    Erased,
    /// It is done.
    Done,
}

impl ErasureState {
    fn read(word: &str) -> Result<Self, StoreError> {
        Ok(match word {
            "asked" => Self::Asked,
            "lapsed" => Self::Lapsed,
            "waiting" => Self::Waiting,
            "taken_back" => Self::TakenBack,
            "erasing" => Self::Erasing,
            "erased" => Self::Erased,
            "done" => Self::Done,
            _ => return Err(StoreError::Corrupt { what: "an erasure's state" }),
        })
    }
}

/// An erasure. Has no `Debug`: until the last letter it names a person.
#[derive(Clone)]
pub struct Erasure {
    /// Which.
    pub id: ErasureId,
    /// Whose.
    pub user: UserId,
    /// Of which account.
    pub account: AccountId,
    /// How it stands.
    pub state: ErasureState,
    /// Where letters about it go: the user's address, or the one they had before the account was closed.
    pub email: Option<String>,
    /// When it was asked for.
    pub asked_at: OffsetDateTime,
    /// Until when it has to be confirmed.
    pub expires_at: OffsetDateTime,
    /// Until when it can be taken back.
    pub due_at: Option<OffsetDateTime>,
    /// When everything went.
    pub erased_at: Option<OffsetDateTime>,
    /// Why it is not begun although it is due.
    pub held_because: Option<String>,
    /// Until when the law wants the books kept; nothing when there are none.
    pub kept_until: Option<Date>,
    /// When what had been kept went, too.
    pub rest_erased_at: Option<OffsetDateTime>,
    /// Whether the time for what can be pressed now is over.
    pub is_late: bool,
}

impl Erasure {
    /// How the link that confirms it stands.
    pub fn confirm_link(&self) -> LinkState {
        match self.state {
            ErasureState::Asked if self.is_late => LinkState::Expired,
            ErasureState::Asked => LinkState::Good,
            ErasureState::Lapsed => LinkState::Expired,
            _ => LinkState::Used,
        }
    }

    /// How the link that takes it back stands.
    pub fn undo_link(&self) -> LinkState {
        match self.state {
            ErasureState::Waiting if self.is_late => LinkState::Expired,
            ErasureState::Waiting => LinkState::Good,
            ErasureState::TakenBack => LinkState::Used,
            _ => LinkState::Expired,
        }
    }
}

/// What became of a confirmation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErasureConfirmed {
    /// The account is closed, and the days begin.
    Done,
    /// Something is in the way; nothing was changed.
    InTheWay(Vec<Obstacle>),
    /// The link does not work.
    Link(Pressed),
}

struct ErasureRow {
    id: Uuid,
    user_id: Uuid,
    account_id: Uuid,
    state: String,
    email: Option<String>,
    asked_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    due_at: Option<OffsetDateTime>,
    erased_at: Option<OffsetDateTime>,
    held_because: Option<String>,
    kept_until: Option<Date>,
    rest_erased_at: Option<OffsetDateTime>,
    is_late: bool,
}

impl TryFrom<ErasureRow> for Erasure {
    type Error = StoreError;

    fn try_from(row: ErasureRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: ErasureId(row.id),
            user: UserId(row.user_id),
            account: AccountId(row.account_id),
            state: ErasureState::read(&row.state)?,
            email: row.email.filter(|email| !email.ends_with(CLOSED_DOMAIN)),
            asked_at: row.asked_at,
            expires_at: row.expires_at,
            due_at: row.due_at,
            erased_at: row.erased_at,
            held_because: row.held_because,
            kept_until: row.kept_until,
            rest_erased_at: row.rest_erased_at,
            is_late: row.is_late,
        })
    }
}

impl Store {
    /// Asks that everything about a user goes, unless something is in the way; a letter asks again. An earlier wish that was
    /// not confirmed lapses, and its link dies.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn ask_erasure(&self, user: &User) -> Result<Vec<Obstacle>, StoreError> {
        let mut tx = self.begin().await?;
        lock_user(&mut tx, user).await?;
        let account = own_account(&mut tx, user.id).await?;
        let found = obstacles(&mut tx, account, user.id.0, user.is_staff).await?;
        if !found.is_empty() {
            return Ok(found);
        }
        sqlx::query!(
            "update erasures set state = 'lapsed', version = version + 1 where user_id = $1 and state = 'asked'",
            user.id.0,
        )
        .execute(&mut *tx)
        .await
        .doing("ending an earlier wish")?;
        let id = Uuid::new_v4();
        sqlx::query!(
            "insert into erasures (id, user_id, account_id, state, expires_at)
             values ($1, $2, $3, 'asked', now() + interval '1 day')",
            id,
            user.id.0,
            account,
        )
        .execute(&mut *tx)
        .await
        .doing("asking for an erasure")?;
        audit::note_of_user(&mut tx, actor(user), "erasure.asked", user.id).await?;
        queue(&mut tx, "erasure_confirm", id, user.id.0).await?;
        tx.commit().await.doing("asking for an erasure")?;
        Ok(found)
    }

    /// An erasure.
    pub async fn erasure(&self, id: ErasureId) -> Result<Option<Erasure>, StoreError> {
        sqlx::query_as!(
            ErasureRow,
            r#"select e.id, e.user_id, e.account_id, e.state, coalesce(e.email, u.email) as email, e.asked_at, e.expires_at,
                e.due_at, e.erased_at, e.held_because, e.kept_until, e.rest_erased_at,
                coalesce(e.due_at, e.expires_at) <= now() as "is_late!"
               from erasures e left join users u on u.id = e.user_id where e.id = $1"#,
            id.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading an erasure")?
        .map(Erasure::try_from)
        .transpose()
    }

    /// Every erasure, the newest first; a hundred at most. Without addresses: staff need none.
    pub async fn erasures(&self) -> Result<Vec<Erasure>, StoreError> {
        let rows = sqlx::query_as!(
            ErasureRow,
            r#"select id, user_id, account_id, state, null::text as email, asked_at, expires_at, due_at, erased_at,
                held_because, kept_until, rest_erased_at, coalesce(due_at, expires_at) <= now() as "is_late!"
               from erasures order by asked_at desc, id limit $1"#,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("listing erasures")?;
        rows.into_iter().map(Erasure::try_from).collect()
    }

    /// Confirms an erasure by its link, once, for the user who asked: the account is closed, and can be had back for
    /// `wait_secs`.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn confirm_erasure(
        &self,
        id: ErasureId,
        by: &User,
        wait_secs: u32,
    ) -> Result<ErasureConfirmed, StoreError> {
        let mut tx = self.begin().await?;
        lock_user(&mut tx, by).await?;
        let memberships = lock_memberships(&mut tx, by.id).await?;
        let account = own_account(&mut tx, by.id).await?;
        let row = sqlx::query!(
            r#"select state, expires_at <= now() as "is_late!" from erasures where id = $1 and user_id = $2 for update"#,
            id.0,
            by.id.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking an erasure")?;
        let Some(row) = row else { return Ok(ErasureConfirmed::Link(Pressed::Unknown)) };
        match (ErasureState::read(&row.state)?, row.is_late) {
            (ErasureState::Asked, false) => {}
            (ErasureState::Asked | ErasureState::Lapsed, _) => return Ok(ErasureConfirmed::Link(Pressed::Expired)),
            _ => return Ok(ErasureConfirmed::Link(Pressed::Used)),
        }
        let found = obstacles(&mut tx, account, by.id.0, by.is_staff).await?;
        if !found.is_empty() {
            return Ok(ErasureConfirmed::InTheWay(found));
        }
        // The account they always have may have become another one since they asked.
        sqlx::query!(
            "update erasures set state = 'waiting', confirmed_at = now(), due_at = now() + make_interval(secs => $2),
                email = (select u.email from users u where u.id = erasures.user_id), version = version + 1,
                account_id = $3
             where id = $1",
            id.0,
            f64::from(wait_secs),
            account,
        )
        .execute(&mut *tx)
        .await
        .doing("confirming an erasure")?;
        audit::act(&mut tx, actor(by)).await?;
        audit::note_of_user(&mut tx, actor(by), "erasure.confirmed", by.id).await?;
        leave_others(&mut tx, by.id, &memberships).await?;
        end_all(&mut tx, by.id.0).await?;
        shut(&mut tx, by.id.0).await?;
        queue(&mut tx, "erasure_waiting", id.0, by.id.0).await?;
        tx.commit().await.doing("confirming an erasure")?;
        Ok(ErasureConfirmed::Done)
    }

    /// Takes an erasure back by its link, once: the account is open again under its address, with another password.
    /// [`Pressed::Taken`] when somebody else has confirmed that address by now; then it stays as it is.
    pub async fn take_erasure_back(&self, id: ErasureId, password_hash: &str) -> Result<Pressed, StoreError> {
        let mut tx = self.begin().await?;
        let user = sqlx::query_scalar!(
            "select id from users where id = (select user_id from erasures where id = $1) for no key update",
            id.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking the user of an erasure")?;
        let Some(user) = user else { return Ok(Pressed::Unknown) };
        let taken = sqlx::query!(
            "update erasures set state = 'taken_back', taken_back_at = now(), held_because = null, version = version + 1
             where id = $1 and state = 'waiting' and due_at > now() returning email",
            id.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("taking an erasure back")?;
        let Some(taken) = taken else {
            let row = sqlx::query_scalar!("select state from erasures where id = $1", id.0)
                .fetch_optional(&mut *tx)
                .await
                .doing("reading an erasure")?;
            return Ok(match row.as_deref().map(ErasureState::read).transpose()? {
                None | Some(ErasureState::Asked) => Pressed::Unknown,
                Some(ErasureState::TakenBack) => Pressed::Used,
                Some(_) => Pressed::Expired,
            });
        };
        let whoever = Actor::named(&mut tx, &user.to_string()).await?;
        audit::act(&mut tx, whoever).await?;
        audit::note_of_user(&mut tx, whoever, "erasure.taken_back", UserId(user)).await?;
        if let Some(email) = &taken.email {
            make_way(&mut tx, email).await?;
        }
        let opened = sqlx::query!(
            "update users set email = coalesce($2, email), password_hash = $3, closed_at = null, email_verified_at = now()
             where id = $1",
            user,
            taken.email,
            password_hash,
        )
        .execute(&mut *tx)
        .await
        .doing("opening a user");
        match opened {
            Ok(_) => {}
            Err(StoreError::Conflict { constraint }) if constraint == "users_email_key" => return Ok(Pressed::Taken),
            Err(fault) => return Err(fault),
        }
        // What they belong to still was closed with them.
        sqlx::query!(
            "update accounts a set closed_at = null from members m where m.user_id = $1 and a.id = m.account_id",
            user,
        )
        .execute(&mut *tx)
        .await
        .doing("opening an account")?;
        sqlx::query!("update erasures set email = null where id = $1", id.0)
            .execute(&mut *tx)
            .await
            .doing("forgetting an address")?;
        queue(&mut tx, "erasure_taken_back", id.0, user).await?;
        tx.commit().await.doing("taking an erasure back")?;
        Ok(Pressed::Done)
    }
}

/// Closes whoever signed up with an address and never confirmed it: whoever has the link from a letter to it has shown whose it is,
/// and nobody keeps them out by signing up in their name.
async fn make_way(db: &mut PgConnection, email: &str) -> Result<(), StoreError> {
    let stranger = sqlx::query_scalar!(
        "select id from users
         where email = $1 and email_verified_at is null and closed_at is null and staff_role is null for no key update",
        email,
    )
    .fetch_optional(&mut *db)
    .await
    .doing("looking for who has an address")?;
    if let Some(stranger) = stranger {
        end_all(db, stranger).await?;
        shut(db, stranger).await?;
    }
    Ok(())
}

/// Whether the data of an account was erased, or is being: what is read at Stripe again names nobody then.
pub(crate) async fn is_erased(db: &mut PgConnection, account: AccountId) -> Result<bool, StoreError> {
    sqlx::query_scalar!(
        r#"select exists (
            select 1 from erasures where account_id = $1 and state in ('erasing', 'erased', 'done')
           ) as "is_erased!""#,
        account.0,
    )
    .fetch_one(db)
    .await
    .doing("looking for an erasure")
}
