//! Why nothing about a person can go yet: something lives, or money is owed.
use crate::{
    Living, Store, StoreError, User,
    access::close::{living, memberships},
    fault::Doing,
};
use domain::{
    ids::UserId,
    money::{Currency, Money},
};
use sqlx::PgConnection;
use uuid::Uuid;

/// How many reasons of one kind are listed at once.
const REASONS_LIMIT: i64 = 20;

/// What is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// What keeps an account open at all.
    Living(Living),
    /// A payment is on its way.
    Payment,
    /// Money is on its way back.
    Refund,
    /// A bank asks a payment back, and it is not decided yet.
    Dispute,
    /// The customer owes us this much.
    Debt(Money),
    /// We owe the customer this much.
    Credit(Money),
    /// Others use the account, too.
    Colleagues,
    /// Another account, by its name, that is theirs alone and was used.
    AnotherAccount(String),
}

impl Obstacle {
    /// In words for staff and logs, without a name.
    pub fn words(&self) -> String {
        match self {
            Self::Living(Living::Server(_)) => "a server is still there".to_owned(),
            Self::Living(Living::Order(_)) => "an order is on its way".to_owned(),
            Self::Living(Living::Subscription(_)) => "a subscription has not ended".to_owned(),
            Self::Living(Living::Invoice(_)) => "an invoice is open".to_owned(),
            Self::Living(Living::Staff) => "the user works here".to_owned(),
            Self::Living(Living::Members(_)) => "others belong to an account that nobody else owns".to_owned(),
            Self::Payment => "a payment is on its way".to_owned(),
            Self::Refund => "a refund is on its way".to_owned(),
            Self::Dispute => "a dispute with a bank is not decided".to_owned(),
            Self::Debt(money) => format!("{money} is owed to us"),
            Self::Credit(money) => format!("we owe {money}"),
            Self::Colleagues => "others use the account".to_owned(),
            Self::AnotherAccount(_) => "another account is theirs alone".to_owned(),
        }
    }
}

impl Store {
    /// What is in the way at this moment; empty when everything about the user may go.
    pub async fn obstacles(&self, user: &User) -> Result<Vec<Obstacle>, StoreError> {
        let mut db = self.pool.acquire().await.doing("looking for what is in the way")?;
        let account = own_account(&mut db, user.id).await?;
        obstacles(&mut db, account, user.id.0, user.is_staff).await
    }
}

/// The account that is a user's own, whichever they look at.
pub(crate) async fn own_account(db: &mut PgConnection, user: UserId) -> Result<Uuid, StoreError> {
    sqlx::query_scalar!("select account_id from users where id = $1", user.0)
        .fetch_one(db)
        .await
        .doing("reading a user's account")
}

/// Whether anything was ever ordered or paid in an account. One in which nothing was goes with its owner.
async fn has_a_past(db: &mut PgConnection, account: Uuid) -> Result<bool, StoreError> {
    sqlx::query_scalar!(
        r#"select exists (select 1 from orders where account_id = $1)
            or exists (select 1 from payments where account_id = $1)
            or exists (select 1 from billing_customers where account_id = $1)
            or exists (select 1 from accounts where id = $1 and stripe_customer_id is not null) as "has!""#,
        account,
    )
    .fetch_one(db)
    .await
    .doing("looking for the past of an account")
}

/// The same, inside a transaction.
pub(crate) async fn obstacles(
    db: &mut PgConnection,
    account: Uuid,
    user: Uuid,
    is_staff: bool,
) -> Result<Vec<Obstacle>, StoreError> {
    let memberships = memberships(&mut *db, UserId(user)).await?;
    let alive = living(&mut *db, &memberships, is_staff).await?;
    let rows = sqlx::query!(
        r#"select kind as "kind!", amount_minor as "amount_minor!", currency as "currency?" from (
            select 'payment' as kind, 0::bigint as amount_minor, null::text as currency
            from payments where account_id = $1 and status = 'pending'
            union
            select 'refund', 0, null from refunds r join payments p on p.id = r.payment_id
            where p.account_id = $1 and r.status in ('pending', 'requires_action')
            union
            select 'dispute', 0, null from disputes d join payments p on p.id = d.payment_id
            where p.account_id = $1 and d.status not in ('won', 'lost', 'warning_closed', 'prevented')
            union
            select case when balance_minor > 0 then 'debt' else 'credit' end, abs(balance_minor), currency
            from billing_customers where account_id = $1 and not deleted and balance_minor <> 0
            union
            select 'colleagues', 0, null from members m
            cross join lateral (select closed_at from users where id = m.user_id limit 1) u
            where m.account_id = $1 and m.user_id <> $2 and u.closed_at is null
           ) found order by kind, amount_minor limit $3"#,
        account,
        user,
        REASONS_LIMIT,
    )
    .fetch_all(&mut *db)
    .await
    .doing("looking for money that is owed")?;
    let mut found: Vec<Obstacle> = alive.into_iter().map(Obstacle::Living).collect();
    for one in memberships.into_iter().filter(|one| !one.shared && one.account != account) {
        if has_a_past(&mut *db, one.account).await? {
            found.push(Obstacle::AnotherAccount(one.name));
        }
    }
    for row in rows {
        let money = |amount_minor| -> Result<Money, StoreError> {
            let currency = row.currency.as_deref().unwrap_or_default().parse::<Currency>();
            let currency = currency.map_err(|_| StoreError::Corrupt { what: "the currency of a balance" })?;
            Ok(Money { amount_minor, currency })
        };
        found.push(match row.kind.as_str() {
            "payment" => Obstacle::Payment,
            "refund" => Obstacle::Refund,
            "dispute" => Obstacle::Dispute,
            "debt" => Obstacle::Debt(money(row.amount_minor)?),
            "credit" => Obstacle::Credit(money(row.amount_minor)?),
            _ => Obstacle::Colleagues,
        });
    }
    Ok(found)
}
