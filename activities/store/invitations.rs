//! Invitations to belong to an account: a link that works once, for a week, for whoever reads mail at one address.
use crate::{
    Store, StoreError, User,
    access::{LinkState, Pressed, USER_EPOCH, queue},
    accounts::{NewUser, insert_user, normal},
    audit::{self, Actor, Entry},
    fault::{Doing, word},
    members::{LISTED_LIMIT, locked},
};
use domain::{
    ids::{AccountId, UserId},
    member::MemberRole,
};
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// How many invitations of one account may be open.
const OPEN_LIMIT: i64 = 20;

/// An invitation as whoever has its link reads it. Has no `Debug`: it names people.
#[derive(Clone)]
pub struct Invitation {
    /// To which account.
    pub account: AccountId,
    /// Its name.
    pub account_name: String,
    /// Whom, by their address.
    pub email: String,
    /// What they are to be.
    pub role: MemberRole,
    /// Who invites.
    pub invited_by: UserId,
    /// That person's address.
    pub inviter_email: String,
    /// Until when its link works.
    pub expires_at: OffsetDateTime,
    /// Whether it works.
    pub state: LinkState,
    /// Whether somebody logs in with that address already.
    pub has_user: bool,
}

/// An open invitation as the account's owners read it. Has no `Debug`: it names a person.
#[derive(Clone)]
pub struct InvitationLine {
    /// Which.
    pub id: Uuid,
    /// Whom, by their address.
    pub email: String,
    /// What they are to be.
    pub role: MemberRole,
    /// Until when its link works.
    pub expires_at: OffsetDateTime,
}

/// What became of the wish to invite somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invited {
    /// The letter is queued. An earlier invitation to the same address is worthless.
    Done,
    /// Whoever asked may not, at this moment.
    NotAllowed,
    /// They belong to the account already.
    Member,
    /// Too many invitations are open.
    TooMany,
}

/// What became of an invitation that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// The user belongs to the account.
    Done(UserId, AccountId),
    /// It is for somebody else's address.
    NotTheirs,
    /// Somebody logs in with its address already, and has to.
    HasUser,
    /// It does not work, and how.
    Stale(Pressed),
}

impl Store {
    /// Invites an address to an account. Only an owner whose own address is confirmed may.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the asking user's sessions were ended meanwhile.
    pub async fn invite(&self, by: &User, email: &str, role: MemberRole) -> Result<Invited, StoreError> {
        let (id, email) = (Uuid::new_v4(), normal(email));
        let mut tx = self.begin().await?;
        let standing = locked(&mut tx, by, by.id).await?;
        if !by.email_verified || standing.is_none_or(|standing| standing.own != MemberRole::Owner) {
            return Ok(Invited::NotAllowed);
        }
        let known = sqlx::query!(
            r#"select
                exists (
                    select 1 from members m join users u on u.id = m.user_id where m.account_id = $1 and u.email = $2
                ) as "member!",
                (select count(*) from invitations where account_id = $1 and email <> $2 and used_at is null
                    and withdrawn_at is null and expires_at > now()) as "open!""#,
            by.account.0,
            email,
        )
        .fetch_one(&mut *tx)
        .await
        .doing("looking for invitations")?;
        if known.member {
            return Ok(Invited::Member);
        }
        if known.open >= OPEN_LIMIT {
            return Ok(Invited::TooMany);
        }
        sqlx::query!(
            "update invitations set withdrawn_at = now()
             where account_id = $1 and email = $2 and used_at is null and withdrawn_at is null",
            by.account.0,
            email,
        )
        .execute(&mut *tx)
        .await
        .doing("taking an earlier invitation back")?;
        sqlx::query!(
            "insert into invitations (id, account_id, email, role, invited_by, expires_at)
             values ($1, $2, $3, $4, $5, now() + interval '7 days')",
            id,
            by.account.0,
            email,
            role.as_str(),
            by.id.0,
        )
        .execute(&mut *tx)
        .await
        .doing("inviting")?;
        queue(&mut tx, "member_invitation", id, by.id.0).await?;
        // Not whom: the trail outlives the invitation, and whoever is invited has no account in which it could be forgotten.
        let asked = json!({ "role": role.as_str() });
        audit::note_by(&mut tx, by, "invitation.made", format!("invitation/{id}"), (None, Some(asked))).await?;
        tx.commit().await.doing("inviting")?;
        Ok(Invited::Done)
    }

    /// Takes an open invitation to an account back. One that is over stays as it is. Says whether whoever asks may.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the asking user's sessions were ended meanwhile.
    pub async fn withdraw_invitation(&self, by: &User, id: Uuid) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let standing = locked(&mut tx, by, by.id).await?;
        if standing.is_none_or(|standing| standing.own != MemberRole::Owner) {
            return Ok(false);
        }
        let taken_back = sqlx::query!(
            "update invitations set withdrawn_at = now()
             where id = $1 and account_id = $2 and used_at is null and withdrawn_at is null",
            id,
            by.account.0,
        )
        .execute(&mut *tx)
        .await
        .doing("taking an invitation back")?;
        if taken_back.rows_affected() == 1 {
            audit::note_by(&mut tx, by, "invitation.withdrawn", format!("invitation/{id}"), (None, None)).await?;
        }
        tx.commit().await.doing("taking an invitation back")?;
        Ok(true)
    }

    /// The open invitations of an account, the newest first.
    pub async fn invitations_of(&self, account: AccountId) -> Result<Vec<InvitationLine>, StoreError> {
        let rows = sqlx::query!(
            "select id, email, role, expires_at from invitations
             where account_id = $1 and used_at is null and withdrawn_at is null and expires_at > now()
             order by created_at desc, id limit $2",
            account.0,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("listing invitations")?;
        rows.into_iter()
            .map(|row| {
                let role = word(&row.role, "an invitation's role")?;
                Ok(InvitationLine { id: row.id, email: row.email, role, expires_at: row.expires_at })
            })
            .collect()
    }

    /// An invitation. One that was taken back, or whose account or inviter is gone, counts as used.
    pub async fn invitation(&self, id: Uuid) -> Result<Option<Invitation>, StoreError> {
        let row = sqlx::query!(
            r#"select i.account_id, a.name as account_name, i.email, i.role, i.invited_by, w.email as inviter_email,
                i.expires_at, i.expires_at <= now() as "expired!",
                i.used_at is not null or i.withdrawn_at is not null or a.closed_at is not null
                    or w.closed_at is not null as "used!",
                exists (select 1 from users u where u.email = i.email) as "has_user!"
               from invitations i join accounts a on a.id = i.account_id join users w on w.id = i.invited_by
               where i.id = $1"#,
            id,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading an invitation")?;
        row.map(|row| {
            let state = match (row.used, row.expired) {
                (true, _) => LinkState::Used,
                (false, true) => LinkState::Expired,
                (false, false) => LinkState::Good,
            };
            Ok(Invitation {
                account: AccountId(row.account_id),
                account_name: row.account_name,
                email: row.email,
                role: word(&row.role, "an invitation's role")?,
                invited_by: UserId(row.invited_by),
                inviter_email: row.inviter_email,
                expires_at: row.expires_at,
                state,
                has_user: row.has_user,
            })
        })
        .transpose()
    }

    /// Takes an invitation for whoever is logged in, once. Their address counts as confirmed: the link was read there. Whoever
    /// belongs to the account already stays what they are.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn accept_invitation(&self, id: Uuid, by: &User) -> Result<Accepted, StoreError> {
        let mut tx = self.begin().await?;
        let email = sqlx::query_scalar!(
            "select email from users where id = $1 and access_epoch = $2 and closed_at is null for no key update",
            by.id.0,
            by.epoch,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking a user")?;
        let Some(email) = email else { return Err(StoreError::conflict(USER_EPOCH)) };
        let accepted = take(&mut tx, id, by.id, &email).await?;
        if let Accepted::Done(..) = accepted {
            sqlx::query!(
                "update users set email_verified_at = coalesce(email_verified_at, now()) where id = $1",
                by.id.0,
            )
            .execute(&mut *tx)
            .await
            .doing("confirming an address")?;
            tx.commit().await.doing("taking an invitation")?;
        }
        Ok(accepted)
    }

    /// Takes an invitation for somebody new, once: they get an account of their own, too, as everybody, and their address counts as
    /// confirmed. The address given has to be the invitation's.
    pub async fn join_by_invitation(&self, id: Uuid, user: NewUser) -> Result<Accepted, StoreError> {
        let email = normal(&user.email);
        let mut tx = self.begin().await?;
        let Some(made) = insert_user(&mut tx, &user, &email, false).await? else { return Ok(Accepted::HasUser) };
        let accepted = take(&mut tx, id, made, &email).await?;
        if let Accepted::Done(..) = accepted {
            sqlx::query!("update users set email_verified_at = now() where id = $1", made.0)
                .execute(&mut *tx)
                .await
                .doing("confirming an address")?;
            tx.commit().await.doing("joining an account")?;
        }
        Ok(accepted)
    }
}

/// Uses an invitation up, with the account locked, and makes its address's user a member. Whatever is not done is to be rolled back.
async fn take(db: &mut PgConnection, id: Uuid, user: UserId, email: &str) -> Result<Accepted, StoreError> {
    let account = sqlx::query_scalar!(
        "select id from accounts where closed_at is null and id = (select account_id from invitations where id = $1)
         for no key update",
        id,
    )
    .fetch_optional(&mut *db)
    .await
    .doing("locking an account")?;
    if account.is_none() {
        return Ok(Accepted::Stale(Pressed::Unknown));
    }
    let taken = sqlx::query!(
        "update invitations i set used_at = now(), used_by = $2
         where i.id = $1 and i.used_at is null and i.withdrawn_at is null and i.expires_at > now() and i.email = $3
            and exists (
                select 1 from members m join users u on u.id = m.user_id
                where m.account_id = i.account_id and m.user_id = i.invited_by and m.role = 'owner'
                    and u.closed_at is null
            )
         returning i.account_id, i.role",
        id,
        user.0,
        email,
    )
    .fetch_optional(&mut *db)
    .await
    .doing("using an invitation")?;
    let Some(taken) = taken else { return why_not(db, id, email).await };
    sqlx::query!(
        "insert into members (account_id, user_id, role, chosen_at) values ($1, $2, $3, now())
         on conflict (account_id, user_id) do update set chosen_at = now()",
        taken.account_id,
        user.0,
        taken.role,
    )
    .execute(&mut *db)
    .await
    .doing("making a member")?;
    let entry = Entry {
        actor: Actor::named(&mut *db, &user.to_string()).await?,
        action: "invitation.taken",
        account: Some(AccountId(taken.account_id)),
        subject: format!("invitation/{id}"),
        network: None,
        before: None,
        after: Some(json!({ "role": taken.role })),
    };
    audit::note(db, &entry).await?;
    Ok(Accepted::Done(user, AccountId(taken.account_id)))
}

/// Forgets to what an address was invited until a moment; until now when none is given.
pub(crate) async fn forget_those_to(
    db: &mut PgConnection,
    email: &str,
    until: Option<OffsetDateTime>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from invitations where email = $1 and created_at <= coalesce($2::timestamptz, now())",
        email,
        until,
    )
    .execute(db)
    .await
    .doing("forgetting invitations")?;
    Ok(())
}

async fn why_not(db: &mut PgConnection, id: Uuid, email: &str) -> Result<Accepted, StoreError> {
    let row = sqlx::query!(
        r#"select email, used_at is null and withdrawn_at is null and expires_at <= now() as "expired!"
           from invitations where id = $1"#,
        id,
    )
    .fetch_optional(db)
    .await
    .doing("reading an invitation")?;
    Ok(match row {
        None => Accepted::Stale(Pressed::Unknown),
        Some(row) if row.email != email => Accepted::NotTheirs,
        Some(row) if row.expired => Accepted::Stale(Pressed::Expired),
        Some(_) => Accepted::Stale(Pressed::Used),
    })
}
