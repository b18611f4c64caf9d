//! What Stripe is to be told of whom it writes to: the first owner of an account, at their confirmed address. The look at the customer
//! tells it: a row that waits survives every death.
use crate::{Store, StoreError, fault::Doing};
use domain::ids::AccountId;
use sqlx::PgConnection;
use uuid::Uuid;

/// What a customer at Stripe does not know yet. Has no `Debug`: it names a person.
#[derive(Clone)]
pub struct AddressDue {
    /// Whose.
    pub account: AccountId,
    /// The address of the account's first owner.
    pub email: String,
    /// Their name, when somebody else was it before. Who has another address alone keeps the name they chose at Stripe.
    pub name: Option<String>,
    /// The name it takes the place of; any, when nobody knows whose it was.
    pub instead_of: Option<String>,
    /// The change that brought it.
    pub change: Uuid,
    /// The change Stripe was told of before.
    pub told: Option<Uuid>,
    owner: Uuid,
}

impl Store {
    /// What a customer (`cus_…`) is to be, when Stripe was not told of the newest change.
    pub async fn address_due(&self, customer: &str) -> Result<Option<AddressDue>, StoreError> {
        let row = sqlx::query!(
            r#"select a.id, o.user_id as "owner!", u.email as "email!", u.name as "name!", a.address_asked as "change!",
                a.address_told, a.address_former is not null as "is_another!", f.name as "former?"
               from accounts a
               cross join lateral (
                select user_id from members where account_id = a.id and role = 'owner' order by created_at, user_id limit 1
               ) o
               cross join lateral (select email, name from users where id = o.user_id and closed_at is null limit 1) u
               left join lateral (
                select name from users where id = a.address_former and name <> 'erased' limit 1
               ) f on true
               where a.stripe_customer_id = $1 and a.address_asked is not null
                and a.address_asked is distinct from a.address_told"#,
            customer,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading what Stripe is to be told")?;
        Ok(row.map(|row| AddressDue {
            account: AccountId(row.id),
            email: row.email,
            name: row.is_another.then_some(row.name),
            instead_of: row.former,
            change: row.change,
            told: row.address_told,
            owner: row.owner,
        }))
    }

    /// Notes that Stripe was told. Says whether it knows the newest change now.
    pub async fn address_told(&self, due: &AddressDue) -> Result<bool, StoreError> {
        // If not, the name that stands there now is this owner's.
        let newest = sqlx::query_scalar!(
            r#"update accounts set address_told = $2, address_former = case
                when address_asked = $2 then null when $3 then $4::uuid else address_former end
               where id = $1 returning address_asked = address_told as "newest?""#,
            due.account.0,
            due.change,
            due.name.is_some(),
            due.owner,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("noting what Stripe was told")?;
        Ok(newest.flatten().unwrap_or(true))
    }
}

/// Asks for the customers at Stripe of every account whose first owner somebody is to get the address of a change, where there are any.
pub(super) async fn ask(db: &mut PgConnection, change: Uuid, user: Uuid) -> Result<(), StoreError> {
    let accounts = sqlx::query_scalar!(
        "select m.account_id from members m
         where m.user_id = $1 and m.role = 'owner' and not exists (
            select 1 from members o
            where o.account_id = m.account_id and o.role = 'owner' and (o.created_at, o.user_id) < (m.created_at, m.user_id)
         ) order by m.account_id",
        user,
    )
    .fetch_all(&mut *db)
    .await
    .doing("looking for the accounts of an owner")?;
    for account in accounts {
        ask_for(&mut *db, change, account, None).await?;
    }
    Ok(())
}

/// Asks for the customer of an account to be told; the name of the former first owner is replaced there.
async fn ask_for(db: &mut PgConnection, change: Uuid, account: Uuid, former: Option<Uuid>) -> Result<(), StoreError> {
    sqlx::query!(
        "with asked as (
            update accounts set address_asked = $1, address_former = coalesce(address_former, $3::uuid)
            where id = $2 returning stripe_customer_id
         )
         insert into mirror_looks (id, due_at)
         select stripe_customer_id, now() from asked where stripe_customer_id is not null
         on conflict (id) do update set asked = mirror_looks.asked + 1,
            attempts = 0, due_at = least(mirror_looks.due_at, excluded.due_at)",
        change,
        account,
        former,
    )
    .execute(db)
    .await
    .doing("asking for Stripe to be told")?;
    Ok(())
}

/// Who of the owners of an account belongs to it longest: Stripe writes to them, and the account has their name.
pub(crate) async fn first_owner(db: &mut PgConnection, account: AccountId) -> Result<Option<Uuid>, StoreError> {
    sqlx::query_scalar!(
        "select user_id from members where account_id = $1 and role = 'owner' order by created_at, user_id limit 1",
        account.0,
    )
    .fetch_optional(db)
    .await
    .doing("looking for an account's first owner")
}

/// What follows when who owns an account changed: if somebody else is its first owner now than before, it has their name where it had
/// the other's, and Stripe is told. Whoever handed it over is neither written to nor named by it any more.
pub(crate) async fn owner_changed(
    db: &mut PgConnection,
    account: AccountId,
    before: Option<Uuid>,
) -> Result<(), StoreError> {
    let now = first_owner(&mut *db, account).await?;
    let (Some(before), Some(now)) = (before, now) else { return Ok(()) };
    if before == now {
        return Ok(());
    }
    sqlx::query!(
        "update accounts set name = (select name from users where id = $3)
         where id = $1 and name = (select name from users where id = $2)",
        account.0,
        before,
        now,
    )
    .execute(&mut *db)
    .await
    .doing("naming an account after its owner")?;
    ask_for(db, Uuid::new_v4(), account.0, Some(before)).await
}
