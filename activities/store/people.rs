//! Who works here, and as what. Locked are always everybody concerned and every admin, in the order of their ids: there is always
//! an admin, however many are changed at once.
use crate::{
    Store, StoreError, User,
    access::{USER_EPOCH, actor, end_all},
    accounts::normal,
    audit,
    factors::reset::drop_wish,
    fault::Doing,
    members::LISTED_LIMIT,
    sessions::staff_of,
};
use domain::{ids::UserId, member::StaffRole};
use sqlx::PgConnection;
use std::collections::BTreeSet;
use time::OffsetDateTime;
use uuid::Uuid;

/// One of the staff as admins read it. Has no `Debug`: it names a person.
#[derive(Clone)]
pub struct StaffLine {
    /// Who.
    pub user: UserId,
    /// Their name.
    pub name: String,
    /// Their address.
    pub email: String,
    /// What they do here.
    pub role: StaffRole,
    /// When one of their sessions was used last.
    pub used_at: Option<OffsetDateTime>,
}

/// What became of a change of who works here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaffChange {
    /// It is as was asked; every session of theirs has ended.
    Done(UserId),
    /// Whoever asked may not, at this moment.
    NotAllowed,
    /// Nobody logs in with that address.
    Unknown,
    /// They did not confirm their address yet.
    Unconfirmed,
    /// Nobody would be left who says who works here.
    LastAdmin,
}

impl Store {
    /// Who works here, by what they do; 200 of each at most.
    pub async fn staff_people(&self) -> Result<Vec<StaffLine>, StoreError> {
        let mut people = Vec::new();
        for role in StaffRole::ALL.iter().rev() {
            let rows = sqlx::query!(
                r#"select u.id, u.name, u.email,
                    (select max(s.used_at) from sessions s where s.user_id = u.id) as "used_at?"
                   from users u where u.staff_role = $1 and u.closed_at is null order by u.name, u.id limit $2"#,
                role.as_str(),
                LISTED_LIMIT,
            )
            .fetch_all(&self.pool)
            .await
            .doing("listing staff")?;
            people.extend(rows.into_iter().map(|row| StaffLine {
                user: UserId(row.id),
                name: row.name,
                email: row.email,
                role: *role,
                used_at: row.used_at,
            }));
        }
        Ok(people)
    }

    /// Says what somebody does here from now on, or that they do not work here. Only an admin may. Their sessions end: how long one
    /// lasts was said when it began.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the asking user's sessions were ended meanwhile.
    pub async fn set_staff_role(
        &self,
        by: &User,
        email: &str,
        role: Option<StaffRole>,
    ) -> Result<StaffChange, StoreError> {
        let email = normal(email);
        let mut tx = self.begin().await?;
        let locked = lock_staff(&mut tx, by, &email).await?;
        let Some(asking) = locked.iter().find(|row| row.id == by.id.0 && row.access_epoch == by.epoch) else {
            return Err(StoreError::conflict(USER_EPOCH));
        };
        let is_admin = |row: &&Locked| row.staff_role.as_deref() == Some(StaffRole::Admin.as_str());
        if !is_admin(&asking) {
            return Ok(StaffChange::NotAllowed);
        }
        let Some(who) = locked.iter().find(|row| row.email == email) else { return Ok(StaffChange::Unknown) };
        if !who.confirmed && role.is_some() {
            return Ok(StaffChange::Unconfirmed);
        }
        let becomes_admin = role == Some(StaffRole::Admin);
        if is_admin(&who) && !becomes_admin && locked.iter().filter(is_admin).count() <= 1 {
            return Ok(StaffChange::LastAdmin);
        }
        if staff_of(who.staff_role.as_deref())? == role {
            return Ok(StaffChange::Done(UserId(who.id)));
        }
        // The table itself writes down what they were and are.
        audit::act(&mut tx, actor(by)).await?;
        sqlx::query!(
            "update users set is_staff = $2, staff_role = $3 where id = $1",
            who.id,
            becomes_admin,
            role.map(StaffRole::as_str),
        )
        .execute(&mut *tx)
        .await
        .doing("changing what somebody does here")?;
        if who.staff_role.is_none() {
            drop_wish(&mut tx, actor(by), who.id).await?;
        }
        sqlx::query!("update viewings set ended_at = now() where user_id = $1 and ended_at is null", who.id)
            .execute(&mut *tx)
            .await
            .doing("ending what somebody looks at")?;
        end_all(&mut tx, who.id).await?;
        tx.commit().await.doing("changing what somebody does here")?;
        Ok(StaffChange::Done(UserId(who.id)))
    }
}

/// Somebody concerned, locked.
struct Locked {
    id: Uuid,
    email: String,
    access_epoch: i32,
    staff_role: Option<String>,
    confirmed: bool,
}

/// Locks whoever asks, whom it is about and every admin. An admin who is made meanwhile is not among them, and then one more has to
/// stay than needs to.
async fn lock_staff(db: &mut PgConnection, by: &User, email: &str) -> Result<Vec<Locked>, StoreError> {
    let concerned = sqlx::query_scalar!(
        r#"select id as "id!" from users where staff_role = 'admin'
           union all
           select id from users where email = $1"#,
        email,
    )
    .fetch_all(&mut *db)
    .await
    .doing("looking for staff")?;
    let concerned: BTreeSet<Uuid> = concerned.into_iter().chain([by.id.0]).collect();
    let mut locked = Vec::new();
    for id in concerned {
        let row = sqlx::query_as!(
            Locked,
            r#"select id, email, access_epoch, staff_role, email_verified_at is not null as "confirmed!"
               from users where id = $1 and closed_at is null for no key update"#,
            id,
        )
        .fetch_optional(&mut *db)
        .await
        .doing("locking staff")?;
        locked.extend(row);
    }
    Ok(locked)
}
