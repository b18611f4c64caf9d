//! A person who leaves for good: every account that is theirs alone is closed with them, of the others they are a member no more.
//! What was sold and paid stays, because the law wants it kept; the way in does not.
use super::{CLOSED_DOMAIN, actor, end_all, lock_user, queue, told};
use crate::{
    Store, StoreError, User,
    audit::{self, Actor},
    factors::forget_factors,
    fault::Doing,
    invitations::forget_those_to,
    members,
};
use domain::{
    ids::{AccountId, UserId},
    member::MemberRole,
};
use sqlx::PgConnection;
use uuid::Uuid;

/// How many reasons are listed at once.
const REASONS_LIMIT: i64 = 20;

/// What still lives and keeps an account open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Living {
    /// A server that was not removed yet, by its hostname.
    Server(String),
    /// An order on its way, by its hostname.
    Order(String),
    /// A subscription that has not ended, by its plan.
    Subscription(String),
    /// An invoice that is not paid, by its number.
    Invoice(String),
    /// An account that others belong to, and nobody else owns; by its name.
    Members(String),
    /// The user is one of the staff.
    Staff,
}

/// What became of the wish to close an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closing {
    /// It is closed, and nobody gets in any more.
    Done,
    /// It stays as it was, because of these.
    Lives(Vec<Living>),
}

impl Store {
    /// What keeps somebody here at this moment; empty when they may leave for good.
    pub async fn living(&self, user: UserId) -> Result<Vec<Living>, StoreError> {
        let mut db = self.pool.acquire().await.doing("looking for what lives")?;
        let Some(is_staff) = staff_or_not(&mut db, user).await? else { return Ok(Vec::new()) };
        let memberships = memberships(&mut db, user).await?;
        living(&mut db, &memberships, is_staff).await
    }

    /// Closes the way in of a user and the accounts that are theirs alone, unless something lives in one of those, or nobody else
    /// owns an account that others belong to: sessions, devices and links end, the password fits nothing, the address is free for
    /// somebody else, and a letter to it says so. Done again it is done.
    ///
    /// The accounts' rows are locked, so an order that is made at the same moment is seen here or comes too late, and so is
    /// whoever joins or leaves.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn close_account(&self, user: &User) -> Result<Closing, StoreError> {
        let mut tx = self.begin().await?;
        let Some(is_staff) = staff_or_not(&mut tx, user.id).await? else { return Ok(Closing::Done) };
        lock_user(&mut tx, user).await?;
        let memberships = lock_memberships(&mut tx, user.id).await?;
        let living = living(&mut tx, &memberships, is_staff).await?;
        if !living.is_empty() {
            return Ok(Closing::Lives(living));
        }
        audit::act(&mut tx, actor(user)).await?;
        leave_others(&mut tx, user.id, &memberships).await?;
        let id = Uuid::new_v4();
        end_all(&mut tx, user.id.0).await?;
        forget_factors(&mut tx, user.id.0).await?;
        sqlx::query!(
            "insert into access_changes (id, user_id, kind, old_email, expires_at)
             select $1::uuid, id, 'close', email, now() from users where id = $2",
            id,
            user.id.0,
        )
        .execute(&mut *tx)
        .await
        .doing("noting a closed account")?;
        forget_those_to(&mut tx, &user.email, None).await?;
        shut(&mut tx, user.id.0).await?;
        queue(&mut tx, "account_closed", id, user.id.0).await?;
        tx.commit().await.doing("closing an account")?;
        Ok(Closing::Done)
    }
}

/// Shuts the way in of a user for whom nothing lives, after their sessions and links were ended: the password fits nothing, no
/// browser is known, the address is free for somebody else, and the accounts that are theirs alone are closed.
pub(crate) async fn shut(db: &mut PgConnection, user: Uuid) -> Result<(), StoreError> {
    sqlx::query!("delete from devices where user_id = $1", user).execute(&mut *db).await.doing("forgetting devices")?;
    sqlx::query!(
        "update users set closed_at = now(), email = 'closed-' || id || $2::text, password_hash = 'closed',
            email_verified_at = null
         where id = $1",
        user,
        CLOSED_DOMAIN,
    )
    .execute(&mut *db)
    .await
    .doing("closing a user")?;
    for one in memberships(&mut *db, UserId(user)).await?.iter().filter(|one| !one.shared) {
        sqlx::query!("update accounts set closed_at = now() where id = $1", one.account)
            .execute(&mut *db)
            .await
            .doing("closing an account")?;
    }
    Ok(())
}

/// Locks every account of somebody in the order of their ids, as everybody does who locks more than one, and gives what they are there
/// then.
pub(crate) async fn lock_memberships(db: &mut PgConnection, user: UserId) -> Result<Vec<Membership>, StoreError> {
    for one in memberships(&mut *db, user).await? {
        sqlx::query_scalar!("select id from accounts where id = $1 for update", one.account)
            .fetch_optional(&mut *db)
            .await
            .doing("locking an account")?;
    }
    memberships(db, user).await
}

/// An account somebody belongs to.
pub(crate) struct Membership {
    /// Which.
    pub(crate) account: Uuid,
    /// Its name.
    pub(crate) name: String,
    /// Whether others belong to it.
    pub(crate) shared: bool,
    owner: bool,
    /// Whether nobody else owns it.
    only_owner: bool,
}

/// Whether somebody works here; nothing when they left already.
async fn staff_or_not(db: &mut PgConnection, user: UserId) -> Result<Option<bool>, StoreError> {
    sqlx::query_scalar!(
        r#"select staff_role is not null as "staff!" from users where id = $1 and closed_at is null"#,
        user.0,
    )
    .fetch_optional(db)
    .await
    .doing("reading a user")
}

pub(crate) async fn memberships(db: &mut PgConnection, user: UserId) -> Result<Vec<Membership>, StoreError> {
    let rows = sqlx::query!(
        r#"select m.account_id, m.role, (select a.name from accounts a where a.id = m.account_id) as "name!",
            o.others as "others!", o.owners as "owners!"
           from members m
           cross join lateral (
            select count(*) as others, count(*) filter (where t.role = 'owner') as owners from members t
            cross join lateral (select closed_at from users where id = t.user_id limit 1) u
            where t.account_id = m.account_id and t.user_id <> m.user_id and u.closed_at is null
           ) o
           where m.user_id = $1 order by m.account_id"#,
        user.0,
    )
    .fetch_all(db)
    .await
    .doing("reading the accounts of a user")?;
    Ok(rows
        .into_iter()
        .map(|row| Membership {
            account: row.account_id,
            name: row.name,
            shared: row.others > 0,
            owner: row.role == MemberRole::Owner.as_str(),
            only_owner: row.role == MemberRole::Owner.as_str() && row.owners == 0,
        })
        .collect())
}

/// Takes somebody out of the accounts that go on without them, and their open invitations back. The account they always have is
/// theirs alone then.
pub(crate) async fn leave_others(
    db: &mut PgConnection,
    user: UserId,
    memberships: &[Membership],
) -> Result<(), StoreError> {
    sqlx::query!(
        "update invitations set withdrawn_at = now()
         where invited_by = $1 and used_at is null and withdrawn_at is null",
        user.0,
    )
    .execute(&mut *db)
    .await
    .doing("taking invitations back")?;
    for one in memberships.iter().filter(|one| one.shared) {
        let account = AccountId(one.account);
        let before = told::first_owner(&mut *db, account).await?;
        if one.owner {
            members::no_owner_any_more(&mut *db, Actor::User(user), account, user).await?;
        }
        members::take_out(&mut *db, account, user).await?;
        told::owner_changed(&mut *db, account, before).await?;
    }
    Ok(())
}

/// What lives in the accounts that are somebody's alone, or keeps them in one of the others.
pub(crate) async fn living(
    db: &mut PgConnection,
    memberships: &[Membership],
    is_staff: bool,
) -> Result<Vec<Living>, StoreError> {
    let left_alone = memberships.iter().filter(|one| one.shared && one.only_owner);
    let mut found: Vec<Living> = is_staff.then_some(Living::Staff).into_iter().collect();
    found.extend(left_alone.map(|one| Living::Members(one.name.clone())));
    for one in memberships.iter().filter(|one| !one.shared) {
        found.extend(living_in(&mut *db, one.account).await?);
    }
    Ok(found)
}

async fn living_in(db: &mut PgConnection, account: Uuid) -> Result<Vec<Living>, StoreError> {
    let rows = sqlx::query!(
        r#"select kind as "kind!", name as "name!" from (
            select 'server' as kind, hostname as name from services
            where account_id = $1 and status not in ('expired', 'undone')
            union all
            select 'order', hostname from orders
            where account_id = $1 and status in ('awaiting_payment', 'provisioning')
            union all
            select 'subscription', p.name from subscriptions s join plans p on p.id = s.plan_id
            where s.account_id = $1 and s.phase <> 'expired' and not exists (
                select 1 from services v where v.subscription_id = s.id and v.status not in ('expired', 'undone')
            )
            union all
            select 'invoice', coalesce(i.number, i.id)
            from subscriptions s join invoices i on i.subscription_id = s.id and i.status = 'open'
            where s.account_id = $1
           ) living order by kind, name limit $2"#,
        account,
        REASONS_LIMIT,
    )
    .fetch_all(db)
    .await
    .doing("looking for what lives")?;
    let found = rows.into_iter().filter_map(|row| {
        Some(match row.kind.as_str() {
            "server" => Living::Server(row.name),
            "order" => Living::Order(row.name),
            "subscription" => Living::Subscription(row.name),
            "invoice" => Living::Invoice(row.name),
            _ => return None,
        })
    });
    Ok(found.collect())
}
