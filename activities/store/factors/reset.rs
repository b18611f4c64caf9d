//! Somebody lost every factor. Staff ask to take them away, with a reason; their owner is told by letter and may object with one
//! button for as long as the waiting takes. Whoever still gets in with a factor objects by that.
use super::{FactorChange, forget_factors, has_factor, note};
use crate::{
    Store, StoreError, User,
    access::{actor, end_all, queue},
    audit::{self, Actor},
    fault::Doing,
};
use domain::{ids::UserId, member::StaffRole};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// What the link that objects is signed for.
pub const KEEP_PURPOSE: &str = "keep-factors";

/// How many are listed, and how many are carried out at once.
const LIMIT: i64 = 50;

/// What became of the wish to take somebody's factors away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetAsked {
    /// It happens then.
    Asked(OffsetDateTime),
    /// Nobody has the address.
    Nobody,
    /// There is no factor to take away.
    Nothing,
    /// It was asked already.
    Already,
    /// It is the one who asks.
    Oneself,
    /// They work here, and whoever asks is no admin.
    Colleague,
}

/// One such wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactorReset {
    /// Whose factors.
    pub user: UserId,
    /// When it happens.
    pub due_at: OffsetDateTime,
    /// Whether it happened, or was objected to.
    pub ended: bool,
}

/// One that waits, for staff. Has no `Debug`: it names a person.
#[derive(Clone)]
pub struct FactorResetLine {
    /// Whose factors.
    pub email: String,
    /// Who asked.
    pub asked_by: Option<String>,
    /// Why.
    pub reason: String,
    /// When it was asked.
    pub created_at: OffsetDateTime,
    /// When it happens.
    pub due_at: OffsetDateTime,
}

impl Store {
    /// Asks to take every factor of the user with an address away, after so many seconds. The user is told by letter. Of somebody
    /// who works here only an admin asks it, and every other admin is told by letter, too: whoever has no factor left is let in
    /// with a password alone, as what they are.
    pub async fn ask_factor_reset(
        &self,
        email: &str,
        by: &User,
        reason: &str,
        wait_secs: u32,
    ) -> Result<ResetAsked, StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query!(
            r#"select id, staff_role is not null as "works_here!" from users
               where email = $1 and closed_at is null for no key update"#,
            email.trim().to_lowercase(),
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking a user")?;
        let Some(row) = row else { return Ok(ResetAsked::Nobody) };
        let user = row.id;
        if user == by.id.0 {
            return Ok(ResetAsked::Oneself);
        }
        if row.works_here && by.seat.staff != Some(StaffRole::Admin) {
            return Ok(ResetAsked::Colleague);
        }
        if !has_factor(&mut tx, user).await? {
            return Ok(ResetAsked::Nothing);
        }
        let id = Uuid::new_v4();
        let due_at = sqlx::query_scalar!(
            "insert into factor_resets (id, user_id, asked_by, reason, due_at)
             values ($1, $2, $3, $4, now() + make_interval(secs => $5))
             on conflict (user_id) where ended_at is null do nothing returning due_at",
            id,
            user,
            by.id.0,
            reason,
            f64::from(wait_secs),
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("asking to take factors away")?;
        let Some(due_at) = due_at else { return Ok(ResetAsked::Already) };
        audit::note_of_user(&mut tx, actor(by), "factor.reset_asked", UserId(user)).await?;
        queue(&mut tx, "factors_reset", id, user).await?;
        if row.works_here {
            tell_admins(&mut tx, id, user).await?;
        }
        tx.commit().await.doing("asking to take factors away")?;
        Ok(ResetAsked::Asked(due_at))
    }

    /// A wish to take factors away.
    pub async fn factor_reset(&self, id: Uuid) -> Result<Option<FactorReset>, StoreError> {
        let row = sqlx::query!(
            r#"select user_id, due_at, ended_at is not null as "ended!" from factor_resets where id = $1"#,
            id,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a wish to take factors away")?;
        Ok(row.map(|row| FactorReset { user: UserId(row.user_id), due_at: row.due_at, ended: row.ended }))
    }

    /// What waits, the next first.
    pub async fn open_factor_resets(&self) -> Result<Vec<FactorResetLine>, StoreError> {
        sqlx::query_as!(
            FactorResetLine,
            r#"select u.email, b.email as "asked_by?", r.reason, r.created_at, r.due_at
               from factor_resets r join users u on u.id = r.user_id left join users b on b.id = r.asked_by
               where r.ended_at is null order by r.due_at limit $1"#,
            LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("listing wishes to take factors away")
    }

    /// Objects: the factors stay. Says no when it is over already.
    pub async fn keep_factors(&self, id: Uuid) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let kept = sqlx::query_scalar!(
            "update factor_resets set ended_at = now(), outcome = 'kept' where id = $1 and ended_at is null
             returning user_id",
            id,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("keeping factors")?;
        let Some(user) = kept else { return Ok(false) };
        let whoever = Actor::named(&mut tx, &user.to_string()).await?;
        audit::note_of_user(&mut tx, whoever, "factor.kept", UserId(user)).await?;
        tx.commit().await.doing("keeping factors")?;
        Ok(true)
    }

    /// Objects for whoever just showed a factor: it is not lost. Says whether anything was asked.
    pub async fn factor_shown(&self, user: UserId) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        if !end_wish(&mut tx, user.0).await? {
            return Ok(false);
        }
        let whoever = Actor::named(&mut tx, &user.to_string()).await?;
        audit::note_of_user(&mut tx, whoever, "factor.kept", user).await?;
        tx.commit().await.doing("keeping factors")?;
        Ok(true)
    }

    /// Takes every factor of the user with an address away at once: for whoever runs the portal and has nobody to ask. Says whether
    /// there is such a user.
    pub async fn take_factors(&self, email: &str) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let user = sqlx::query_scalar!(
            "select id from users where email = $1 and closed_at is null for no key update",
            email.trim().to_lowercase(),
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking a user")?;
        let Some(user) = user else { return Ok(false) };
        take_away(&mut tx, Actor::Hand, user).await?;
        tx.commit().await.doing("taking factors away")?;
        Ok(true)
    }

    /// Carries out what is due: the factors go, every session ends, and a letter says so. Gives how many it were. Several may do
    /// it side by side.
    pub async fn finish_factor_resets(&self) -> Result<u64, StoreError> {
        let due = sqlx::query!(
            "select id, user_id from factor_resets where ended_at is null and due_at <= now() order by due_at limit $1",
            LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("looking for factors to take away")?;
        let mut finished = 0;
        for reset in due {
            let mut tx = self.begin().await?;
            sqlx::query_scalar!("select id from users where id = $1 for no key update", reset.user_id)
                .fetch_optional(&mut *tx)
                .await
                .doing("locking a user")?;
            let ended = sqlx::query!(
                "update factor_resets set ended_at = now(), outcome = 'done' where id = $1 and ended_at is null",
                reset.id,
            )
            .execute(&mut *tx)
            .await
            .doing("taking factors away")?;
            if ended.rows_affected() != 1 {
                continue;
            }
            take_away(&mut tx, Actor::System, reset.user_id).await?;
            tx.commit().await.doing("taking factors away")?;
            finished += 1;
        }
        Ok(finished)
    }
}

/// Ends what was asked about somebody's factors: it was asked of somebody who was nobody here, or not known to be themself.
pub(crate) async fn drop_wish(db: &mut PgConnection, by: Actor, user: Uuid) -> Result<(), StoreError> {
    if end_wish(&mut *db, user).await? {
        audit::note_of_user(db, by, "factor.kept", UserId(user)).await?;
    }
    Ok(())
}

/// Lets somebody keep their factors, and says whether anything was asked about them.
async fn end_wish(db: &mut PgConnection, user: Uuid) -> Result<bool, StoreError> {
    let ended = sqlx::query!(
        "update factor_resets set ended_at = now(), outcome = 'kept' where user_id = $1 and ended_at is null",
        user,
    )
    .execute(db)
    .await
    .doing("keeping factors")?;
    Ok(ended.rows_affected() > 0)
}

/// Queues a letter to every admin but the one whose factors are to go: they know whether the colleague lost any.
async fn tell_admins(db: &mut PgConnection, id: Uuid, user: Uuid) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into letters (occasion, kind, user_id, state)
         select 'colleague_factors_reset/' || $1::uuid || '/' || u.id, 'colleague_factors_reset', u.id, 'queued'
         from users u where u.staff_role = 'admin' and u.closed_at is null and u.id <> $2",
        id,
        user,
    )
    .execute(db)
    .await
    .doing("queueing letters")?;
    Ok(())
}

async fn take_away(db: &mut PgConnection, by: Actor, user: Uuid) -> Result<(), StoreError> {
    forget_factors(db, user).await?;
    note(db, by, user, FactorChange::TakenAway).await?;
    end_all(db, user).await?;
    Ok(())
}
