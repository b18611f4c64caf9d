//! Who belongs to an account, and which of several somebody looks at.
//!
//! Locked are always the users concerned, in the order of their ids, and then the account: whoever changes who belongs to it
//! comes one after the other, and asks what everybody is only then. An account always has an owner, and `users.account_id` is
//! always an account its user owns.
use crate::{
    Store, StoreError, User,
    access::{USER_EPOCH, actor, queue, told},
    audit::{self, Actor},
    fault::{Doing, word},
    sessions, tokens,
};
use domain::{
    ids::{AccountId, UserId},
    member::{MemberRole, StaffRole},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tower_sessions_core::session::Id;
use uuid::Uuid;

/// How many members, accounts or invitations are listed at once.
pub(crate) const LISTED_LIMIT: i64 = 200;

/// What a user is in the account they look at, and here. Has no `Debug`: it names people.
#[derive(Clone, Serialize, Deserialize)]
pub struct Seat {
    /// What they are in the account.
    pub role: MemberRole,
    /// The account's name.
    pub account_name: String,
    /// To how many accounts they belong.
    pub accounts: i64,
    /// What they do here, when they work here.
    pub staff: Option<StaffRole>,
    /// The customer's account that they look at, as one of the staff.
    pub viewing: Option<Viewing>,
}

/// A customer's account that a member of staff looks at. Has no `Debug`: it names a customer.
#[derive(Clone, Serialize, Deserialize)]
pub struct Viewing {
    /// Whose.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Until when.
    pub ends_at: OffsetDateTime,
}

/// One member as the others read it. Has no `Debug`: it names a person.
#[derive(Clone)]
pub struct MemberLine {
    /// Who.
    pub user: UserId,
    /// Their name.
    pub name: String,
    /// Their address.
    pub email: String,
    /// What they are.
    pub role: MemberRole,
    /// Since when.
    pub since: OffsetDateTime,
}

/// One of the accounts somebody belongs to. Has no `Debug`: it may be named after a person.
#[derive(Clone)]
pub struct AccountLine {
    /// Which.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// What they are in it.
    pub role: MemberRole,
}

/// What became of a change of who belongs to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberChange {
    /// It is as was asked.
    Done,
    /// Whoever asked may not, at this moment.
    NotAllowed,
    /// The account would be left without an owner.
    LastOwner,
    /// There is no such member any more.
    Unknown,
}

impl Store {
    /// Who belongs to an account, the owners first; 200 at most.
    pub async fn members(&self, account: AccountId) -> Result<Vec<MemberLine>, StoreError> {
        let rows = sqlx::query!(
            r#"select m.user_id, u.name as "name!", u.email as "email!", m.role, m.created_at from members m
               cross join lateral (select name, email, closed_at from users where id = m.user_id limit 1) u
               where m.account_id = $1 and u.closed_at is null
               order by m.role <> 'owner', m.created_at, m.user_id limit $2"#,
            account.0,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("listing members")?;
        rows.into_iter()
            .map(|row| {
                Ok(MemberLine {
                    user: UserId(row.user_id),
                    name: row.name,
                    email: row.email,
                    role: word(&row.role, "a member's role")?,
                    since: row.created_at,
                })
            })
            .collect()
    }

    /// The accounts a user belongs to, the oldest first; 200 at most.
    pub async fn accounts_of(&self, user: UserId) -> Result<Vec<AccountLine>, StoreError> {
        let rows = sqlx::query!(
            r#"select m.account_id, a.name as "name!", m.role from members m
               cross join lateral (select name, closed_at from accounts where id = m.account_id limit 1) a
               where m.user_id = $1 and a.closed_at is null order by m.created_at, m.account_id limit $2"#,
            user.0,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("listing accounts")?;
        rows.into_iter()
            .map(|row| {
                Ok(AccountLine {
                    account: AccountId(row.account_id),
                    name: row.name,
                    role: word(&row.role, "a member's role")?,
                })
            })
            .collect()
    }

    /// Makes an account the one a session looks at, when its user belongs to it, and says so. Forms that were opened for another
    /// one are worthless from then on.
    pub async fn choose_account(&self, session: Id, user: UserId, account: AccountId) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let chosen = sqlx::query!(
            "update members set chosen_at = now() where user_id = $1 and account_id = $2",
            user.0,
            account.0,
        )
        .execute(&mut *tx)
        .await
        .doing("choosing an account")?;
        if chosen.rows_affected() == 0 {
            return Ok(false);
        }
        let pinned = sqlx::query!(
            "update sessions set account_id = $3, data = data - $4::text where id = $1 and user_id = $2",
            sessions::key(&session),
            user.0,
            account.0,
            sessions::FORM_KEY,
        )
        .execute(&mut *tx)
        .await
        .doing("choosing an account")?;
        tx.commit().await.doing("choosing an account")?;
        Ok(pinned.rows_affected() == 1)
    }

    /// Makes a member something else. Only an owner may.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the asking user's sessions were ended meanwhile.
    pub async fn change_member(&self, by: &User, member: UserId, role: MemberRole) -> Result<MemberChange, StoreError> {
        let mut tx = self.begin().await?;
        let Some(standing) = locked(&mut tx, by, member).await? else { return Ok(MemberChange::NotAllowed) };
        if standing.own != MemberRole::Owner {
            return Ok(MemberChange::NotAllowed);
        }
        let Some(present) = standing.other else { return Ok(MemberChange::Unknown) };
        if present == role {
            return Ok(MemberChange::Done);
        }
        let before = told::first_owner(&mut tx, by.account).await?;
        if present == MemberRole::Owner {
            if standing.owners <= 1 {
                return Ok(MemberChange::LastOwner);
            }
            no_owner_any_more(&mut tx, actor(by), by.account, member).await?;
        }
        become_role(&mut tx, by.account, member, role).await?;
        told::owner_changed(&mut tx, by.account, before).await?;
        note(&mut tx, by, "member.changed", member, (Some(present), Some(role))).await?;
        if member != by.id {
            tell(&mut tx, member).await?;
        }
        tx.commit().await.doing("changing a member")?;
        Ok(MemberChange::Done)
    }

    /// Takes a member out: an owner anybody, everybody themselves. Their sessions lose the account at once, the forms they have
    /// open are worthless, and their open invitations too.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the asking user's sessions were ended meanwhile.
    pub async fn remove_member(&self, by: &User, member: UserId) -> Result<MemberChange, StoreError> {
        let mut tx = self.begin().await?;
        let Some(standing) = locked(&mut tx, by, member).await? else { return Ok(MemberChange::NotAllowed) };
        if standing.own != MemberRole::Owner && member != by.id {
            return Ok(MemberChange::NotAllowed);
        }
        let Some(present) = standing.other else { return Ok(MemberChange::Unknown) };
        let before = told::first_owner(&mut tx, by.account).await?;
        if present == MemberRole::Owner {
            if standing.owners <= 1 {
                return Ok(MemberChange::LastOwner);
            }
            no_owner_any_more(&mut tx, actor(by), by.account, member).await?;
        }
        take_out(&mut tx, by.account, member).await?;
        told::owner_changed(&mut tx, by.account, before).await?;
        note(&mut tx, by, "member.removed", member, (Some(present), None)).await?;
        if member != by.id {
            tell(&mut tx, member).await?;
        }
        tx.commit().await.doing("removing a member")?;
        Ok(MemberChange::Done)
    }

    /// Makes another member an owner, and the owner who asks something else, both or neither.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the asking user's sessions were ended meanwhile.
    pub async fn hand_over(&self, by: &User, to: UserId, then: MemberRole) -> Result<MemberChange, StoreError> {
        if to == by.id {
            return Ok(MemberChange::Unknown);
        }
        let mut tx = self.begin().await?;
        let Some(standing) = locked(&mut tx, by, to).await? else { return Ok(MemberChange::NotAllowed) };
        if standing.own != MemberRole::Owner {
            return Ok(MemberChange::NotAllowed);
        }
        let Some(present) = standing.other else { return Ok(MemberChange::Unknown) };
        let before = told::first_owner(&mut tx, by.account).await?;
        become_role(&mut tx, by.account, to, MemberRole::Owner).await?;
        note(&mut tx, by, "member.changed", to, (Some(present), Some(MemberRole::Owner))).await?;
        if then != MemberRole::Owner {
            no_owner_any_more(&mut tx, actor(by), by.account, by.id).await?;
            become_role(&mut tx, by.account, by.id, then).await?;
            note(&mut tx, by, "member.changed", by.id, (Some(MemberRole::Owner), Some(then))).await?;
        }
        told::owner_changed(&mut tx, by.account, before).await?;
        tell(&mut tx, to).await?;
        tell(&mut tx, by.id).await?;
        tx.commit().await.doing("handing an account over")?;
        Ok(MemberChange::Done)
    }
}

/// Notes what a member was and is.
async fn note(
    db: &mut PgConnection,
    by: &User,
    action: &'static str,
    member: UserId,
    (was, is): (Option<MemberRole>, Option<MemberRole>),
) -> Result<(), StoreError> {
    let words = |role: MemberRole| json!({ "role": role.as_str() });
    audit::note_by(db, by, action, format!("user/{member}"), (was.map(words), is.map(words))).await
}

/// What two people are in an account, with both and the account locked.
pub(crate) struct Standing {
    /// What whoever asks is.
    pub(crate) own: MemberRole,
    /// What the other is, when they belong to it.
    pub(crate) other: Option<MemberRole>,
    /// How many owners it has.
    pub(crate) owners: i64,
}

/// Locks whoever asks, the other and the account asked for. Nothing when whoever asks does not belong to it, or it is closed.
pub(crate) async fn locked(db: &mut PgConnection, by: &User, other: UserId) -> Result<Option<Standing>, StoreError> {
    for user in [by.id.min(other), by.id.max(other)] {
        let epoch = sqlx::query_scalar!(
            "select access_epoch from users where id = $1 and closed_at is null for no key update",
            user.0,
        )
        .fetch_optional(&mut *db)
        .await
        .doing("locking a user")?;
        if user == by.id && epoch != Some(by.epoch) {
            return Err(StoreError::conflict(USER_EPOCH));
        }
    }
    let account = sqlx::query_scalar!(
        "select id from accounts where id = $1 and closed_at is null for no key update",
        by.account.0,
    )
    .fetch_optional(&mut *db)
    .await
    .doing("locking an account")?;
    if account.is_none() {
        return Ok(None);
    }
    let rows = sqlx::query!(
        "select m.user_id, m.role from members m
         cross join lateral (select closed_at from users where id = m.user_id limit 1) u
         where m.account_id = $1 and u.closed_at is null and (m.role = 'owner' or m.user_id in ($2, $3))",
        by.account.0,
        by.id.0,
        other.0,
    )
    .fetch_all(db)
    .await
    .doing("reading members")?;
    let role_of = |user: UserId| -> Result<Option<MemberRole>, StoreError> {
        let row = rows.iter().find(|row| row.user_id == user.0);
        row.map(|row| word(&row.role, "a member's role")).transpose()
    };
    let owners = rows.iter().filter(|row| row.role == MemberRole::Owner.as_str()).count();
    let owners = i64::try_from(owners).unwrap_or(i64::MAX);
    let Some(own) = role_of(by.id)? else { return Ok(None) };
    Ok(Some(Standing { own, other: role_of(other)?, owners }))
}

async fn become_role(
    db: &mut PgConnection,
    account: AccountId,
    member: UserId,
    role: MemberRole,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update members set role = $3 where account_id = $1 and user_id = $2",
        account.0,
        member.0,
        role.as_str(),
    )
    .execute(db)
    .await
    .doing("changing a member")?;
    Ok(())
}

/// What ends together with a membership.
pub(crate) async fn take_out(db: &mut PgConnection, account: AccountId, member: UserId) -> Result<(), StoreError> {
    sqlx::query!("delete from members where account_id = $1 and user_id = $2", account.0, member.0)
        .execute(&mut *db)
        .await
        .doing("removing a member")?;
    sqlx::query!(
        "update sessions set account_id = null, data = data - $3::text
         where user_id = $1 and (account_id = $2 or account_id is null)",
        member.0,
        account.0,
        sessions::FORM_KEY,
    )
    .execute(db)
    .await
    .doing("taking an account from sessions")?;
    Ok(())
}

/// What ends together with owning an account: their open invitations, the tokens they made for it, and that it is the account they
/// always have. Whoever owns no other one gets an empty one.
pub(crate) async fn no_owner_any_more(
    db: &mut PgConnection,
    by: Actor,
    account: AccountId,
    member: UserId,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update invitations set withdrawn_at = now()
         where account_id = $1 and invited_by = $2 and used_at is null and withdrawn_at is null",
        account.0,
        member.0,
    )
    .execute(&mut *db)
    .await
    .doing("taking invitations back")?;
    tokens::revoke_made_by(&mut *db, by, account, member).await?;
    let name = sqlx::query_scalar!("select name from users where id = $1 and account_id = $2", member.0, account.0)
        .fetch_optional(&mut *db)
        .await
        .doing("reading a user")?;
    let Some(name) = name else { return Ok(()) };
    let another = sqlx::query_scalar!(
        "select m.account_id from members m join accounts a on a.id = m.account_id
         where m.user_id = $1 and m.account_id <> $2 and m.role = 'owner' and a.closed_at is null
         order by m.created_at, m.account_id limit 1",
        member.0,
        account.0,
    )
    .fetch_optional(&mut *db)
    .await
    .doing("looking for another account")?;
    let home = match another {
        Some(home) => home,
        None => empty_account(&mut *db, member, &name).await?,
    };
    sqlx::query!("update users set account_id = $2 where id = $1", member.0, home)
        .execute(db)
        .await
        .doing("giving a user another account")?;
    Ok(())
}

async fn empty_account(db: &mut PgConnection, owner: UserId, name: &str) -> Result<Uuid, StoreError> {
    let account = Uuid::new_v4();
    sqlx::query!("insert into accounts (id, name) values ($1, $2)", account, name)
        .execute(&mut *db)
        .await
        .doing("making an account")?;
    sqlx::query!("insert into members (account_id, user_id, role) values ($1, $2, 'owner')", account, owner.0)
        .execute(db)
        .await
        .doing("making a member")?;
    Ok(account)
}

/// Queues the letter that says that what somebody may do has changed.
async fn tell(db: &mut PgConnection, member: UserId) -> Result<(), StoreError> {
    queue(db, "membership_changed", Uuid::new_v4(), member.0).await
}
