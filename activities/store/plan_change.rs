//! Another plan for a subscription: the memory it needs, and what is sold and charged from now on.
use crate::{
    Store, StoreError,
    fault::Doing,
    mirror::{covers_too_few, put_difference},
    timeline::{self, Entry, SYSTEM},
};
use domain::{
    ids::{OrderId, SubscriptionId},
    plan::Term,
};
use sqlx::PgConnection;
use uuid::Uuid;

/// What became of another plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanVerdict {
    /// Done.
    Done,
    /// Done, and the machine is as large as it was for the price before.
    SameSize,
    /// The node of a machine has not enough memory left.
    NoRoom,
    /// A disk would have to shrink.
    Shrinks,
    /// It covers fewer services than there are.
    TooMany,
    /// No plan of ours has that price.
    Unknown,
}

/// The plan behind a price.
struct Sold {
    plan: Uuid,
    price: Uuid,
    kind: String,
    service_limit: i32,
    /// The machine that is paid for.
    own: Size,
    /// Each further one.
    further: Size,
    line: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Size {
    cores: i32,
    memory_mib: i32,
    disk_gib: i32,
}

/// An order whose machine follows the plan.
struct Follower {
    order: OrderId,
    covered: bool,
}

impl Store {
    /// Says whether every machine of the subscription can become what the plan of this Stripe price is, room aside, and
    /// whether it covers them all.
    pub async fn check_plan(
        &self,
        subscription: &SubscriptionId,
        stripe_price: &str,
    ) -> Result<PlanVerdict, StoreError> {
        let mut tx = self.begin().await?;
        let Some(sold) = sold(&mut tx, stripe_price).await? else { return Ok(PlanVerdict::Unknown) };
        let followers = lock(&mut tx, subscription).await?;
        if too_many(&followers, &sold) {
            return Ok(PlanVerdict::TooMany);
        }
        for follower in &followers {
            if shrinks(&mut tx, follower, &sold).await? {
                return Ok(PlanVerdict::Shrinks);
            }
        }
        Ok(PlanVerdict::Done)
    }

    /// Holds the memory that the plan of this Stripe price needs for every machine of the subscription, beside what they hold
    /// already. Nothing is held when it is not there for all, a disk would have to shrink, or it does not cover them all.
    pub async fn hold_room_for_plan(
        &self,
        subscription: &SubscriptionId,
        stripe_price: &str,
    ) -> Result<PlanVerdict, StoreError> {
        let mut tx = self.begin().await?;
        let orders = lock(&mut tx, subscription).await?;
        let Some(sold) = sold(&mut tx, stripe_price).await? else { return Ok(PlanVerdict::Unknown) };
        if too_many(&orders, &sold) {
            return Ok(PlanVerdict::TooMany);
        }
        let verdict = hold(&mut tx, &orders, &sold).await?;
        if verdict == PlanVerdict::Done {
            tx.commit().await.doing("holding memory for a plan")?;
        }
        Ok(verdict)
    }

    /// Holds only the memory that the plan needs which each machine was built for or fitted to.
    pub async fn give_room_back(&self, subscription: &SubscriptionId) -> Result<PlanVerdict, StoreError> {
        let mut tx = self.begin().await?;
        for follower in lock(&mut tx, subscription).await? {
            sqlx::query!(
                "update reservations r set memory_mib = m.memory_mib from machine_sizes m
                 where m.order_id = $1 and r.order_id = $1 and r.released_at is null and r.memory_mib <> m.memory_mib",
                follower.order.0,
            )
            .execute(&mut *tx)
            .await
            .doing("giving memory back")?;
        }
        tx.commit().await.doing("giving memory back")?;
        Ok(PlanVerdict::Done)
    }

    /// Notes what the subscription is charged for now: plan and price of the subscription and of the orders it pays for, and
    /// how many services it covers; those it has beyond that stay, and staff are shown them. What a machine cannot become is
    /// not noted for it, but the price is. `before` is the price the machines were fitted to.
    pub async fn apply_plan(
        &self,
        subscription: &SubscriptionId,
        stripe_price: &str,
        before: Option<&str>,
    ) -> Result<PlanVerdict, StoreError> {
        let mut tx = self.begin().await?;
        let orders = lock(&mut tx, subscription).await?;
        let Some(sold) = sold(&mut tx, stripe_price).await? else { return Ok(PlanVerdict::Unknown) };
        let changed = sqlx::query!(
            "update subscriptions set plan_id = $2, price_id = $3 where id = $1 and price_id <> $3",
            subscription.0,
            sold.plan,
            sold.price,
        )
        .execute(&mut *tx)
        .await
        .doing("noting another price")?;
        if too_many(&orders, &sold) {
            let used = i64::try_from(orders.len()).unwrap_or(i64::MAX);
            put_difference(&mut tx, &covers_too_few(subscription, i64::from(sold.service_limit), used)).await?;
        }
        if changed.rows_affected() == 1 {
            cover(&mut tx, subscription, &sold).await?;
            for Follower { order, .. } in &orders {
                let fact = format!("subscription/{subscription}/plan/{}/{order}", Uuid::new_v4());
                let entry = Entry { order: *order, actor: SYSTEM, kind: "subscription", line: &sold.line, fact: &fact };
                timeline::write(&mut tx, entry).await?;
            }
        }
        let verdict = hold(&mut tx, &orders, &sold).await?;
        if verdict == PlanVerdict::Done {
            for Follower { order, .. } in &orders {
                sqlx::query!(
                    "update orders set plan_id = $2, price_id = $3 where id = $1 and (plan_id <> $2 or price_id <> $3)",
                    order.0,
                    sold.plan,
                    sold.price,
                )
                .execute(&mut *tx)
                .await
                .doing("noting another plan")?;
            }
        }
        let before = match before {
            Some(price) => self::sold(&mut tx, price).await?,
            None => None,
        };
        tx.commit().await.doing("noting another plan")?;
        let same = before.is_some_and(|before| orders.iter().all(|one| before.size(one) == sold.size(one)));
        Ok(if same && verdict == PlanVerdict::Done { PlanVerdict::SameSize } else { verdict })
    }
}

impl Sold {
    const fn size(&self, follower: &Follower) -> Size {
        if follower.covered { self.further } else { self.own }
    }
}

/// Whether a plan covers fewer services than these.
fn too_many(followers: &[Follower], sold: &Sold) -> bool {
    usize::try_from(sold.service_limit).is_ok_and(|limit| followers.len() > limit)
}

/// Notes how many services a subscription covers from now on.
async fn cover(db: &mut PgConnection, subscription: &SubscriptionId, sold: &Sold) -> Result<(), StoreError> {
    sqlx::query!(
        "update entitlements set quantity = $3 where subscription_id = $1 and kind = $2 and closed_at is null",
        subscription.0,
        sold.kind,
        sold.service_limit,
    )
    .execute(db)
    .await
    .doing("changing an entitlement")?;
    Ok(())
}

/// Locks the orders of the services it pays for, and the nodes.
async fn lock(db: &mut PgConnection, subscription: &SubscriptionId) -> Result<Vec<Follower>, StoreError> {
    let orders = sqlx::query!(
        "select o.id, o.covered_by from orders o where o.id in (
            select s.order_id from services s where s.subscription_id = $1 and s.status not in ('expired', 'undone'))
         order by o.id for no key update",
        subscription.0,
    )
    .fetch_all(&mut *db)
    .await
    .doing("locking orders")?;
    sqlx::query_scalar!("select name from nodes order by name for no key update")
        .fetch_all(db)
        .await
        .doing("waiting to choose a node")?;
    Ok(orders.into_iter().map(|row| Follower { order: OrderId(row.id), covered: row.covered_by.is_some() }).collect())
}

async fn sold(db: &mut PgConnection, stripe_price: &str) -> Result<Option<Sold>, StoreError> {
    let row = sqlx::query!(
        r#"select p.id as plan_id, pr.id as price_id, p.memory_mib, p.disk_gib, p.cores, p.name, pr.term, p.kind,
            p.service_limit, coalesce(p.further_cores, p.cores) as "further_cores!",
            coalesce(p.further_memory_mib, p.memory_mib) as "further_memory_mib!",
            coalesce(p.further_disk_gib, p.disk_gib) as "further_disk_gib!"
           from prices pr join plans p on p.id = pr.plan_id where pr.stripe_price_id = $1"#,
        stripe_price,
    )
    .fetch_optional(db)
    .await
    .doing("reading a price")?;
    Ok(row.map(|row| {
        let often = if row.term == Term::Annual.as_str() { "yearly" } else { "monthly" };
        Sold {
            plan: row.plan_id,
            price: row.price_id,
            kind: row.kind,
            service_limit: row.service_limit,
            own: Size { cores: row.cores, memory_mib: row.memory_mib, disk_gib: row.disk_gib },
            further: Size {
                cores: row.further_cores,
                memory_mib: row.further_memory_mib,
                disk_gib: row.further_disk_gib,
            },
            line: format!("Your plan is {} now, paid {often}.", row.name),
        }
    }))
}

/// Whether the machine of an order would have to give disk back.
async fn shrinks(db: &mut PgConnection, follower: &Follower, sold: &Sold) -> Result<bool, StoreError> {
    sqlx::query_scalar!(
        r#"select m.disk_gib > $2 as "shrinks!" from machine_sizes m where m.order_id = $1"#,
        follower.order.0,
        sold.size(follower).disk_gib,
    )
    .fetch_one(db)
    .await
    .doing("reading a plan")
}

/// Holds the plan's memory for each machine; what is held beyond it stays until the machine is fitted. The nodes are locked.
async fn hold(db: &mut PgConnection, orders: &[Follower], sold: &Sold) -> Result<PlanVerdict, StoreError> {
    for follower in orders {
        if shrinks(db, follower, sold).await? {
            return Ok(PlanVerdict::Shrinks);
        }
        let (order, memory_mib) = (follower.order, sold.size(follower).memory_mib);
        let fits = sqlx::query_scalar!(
            r#"select n.memory_mib_limit - coalesce((
                    select sum(other.memory_mib) from reservations other
                    where other.node = n.name and other.released_at is null and other.order_id <> r.order_id), 0)
                >= greatest($2, 0) or r.memory_mib >= $2 as "fits!"
               from reservations r join nodes n on n.name = r.node where r.order_id = $1"#,
            order.0,
            memory_mib,
        )
        .fetch_one(&mut *db)
        .await
        .doing("looking for memory")?;
        if !fits {
            return Ok(PlanVerdict::NoRoom);
        }
        sqlx::query!(
            "update reservations set memory_mib = $2 where order_id = $1 and released_at is null and memory_mib < $2",
            order.0,
            memory_mib,
        )
        .execute(&mut *db)
        .await
        .doing("holding memory for a plan")?;
    }
    Ok(PlanVerdict::Done)
}
