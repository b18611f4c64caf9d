//! Node, machine number and addresses, held for an order before anybody pays.
use crate::{
    Store, StoreError,
    catalogue::number,
    entitlements,
    fault::{Doing, count},
    timeline,
};
use domain::{
    ids::{AccountId, OrderId, ServiceId, SubscriptionId, Vmid},
    order::{OrderStatus, Step},
    plan::Term,
};
use sqlx::PgConnection;

/// An order to write down. Has no `Debug`, because it carries a sealed key.
#[derive(Clone)]
pub struct NewOrder {
    /// Which order.
    pub order: OrderId,
    /// Who buys.
    pub account: AccountId,
    /// The service it will become.
    pub service: ServiceId,
    /// The plan's slug.
    pub plan_slug: String,
    /// Monthly or annual.
    pub term: Term,
    /// The currency's lower-case code.
    pub currency: String,
    /// One DNS label.
    pub hostname: String,
    /// The image's slug.
    pub image: String,
    /// The customer's SSH public key, sealed.
    pub sealed_ssh_key: Option<String>,
    /// How many days are to cost nothing at first. They do only where the plan still says so, and for an account that had
    /// no such days before.
    pub trial_days: u32,
    /// The subscription that covers it, when nothing is paid for it; plan and price are then that one's.
    pub covered_by: Option<SubscriptionId>,
}

/// What became of an attempt to reserve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// Node, number and addresses are held.
    Held(Place),
    /// Nothing was free.
    SoldOut,
}

/// Where a machine may be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node.
    pub node: String,
    /// The machine's number.
    pub vmid: Vmid,
}

impl Store {
    /// Writes an order down and holds node, machine number and addresses for it, in one transaction; opening its payment
    /// page is the next step. For an account that was closed nothing is free. The same order again gives the answer of the
    /// first time, even when it no longer holds them. One that a subscription covers holds its place in the entitlement as
    /// well, and building is the next step.
    ///
    /// *Errors*: [`StoreError::Conflict`] when the order or its service is somebody else's, or when plan, price or image
    /// are not on sale (`not_on_sale`).
    pub async fn reserve(&self, order: &NewOrder) -> Result<Reserved, StoreError> {
        let mut tx = self.begin().await?;
        if let Some(by) = &order.covered_by {
            let held = entitlements::reserve(&mut tx, order, by).await?;
            tx.commit().await.doing("reserving")?;
            return Ok(held);
        }
        if !insert_order(&mut tx, order).await? {
            return answered(&mut tx, order).await;
        }
        // The order's row waits for an account that is being closed: it is seen there, or the closing is seen here.
        let held = if is_closed(&mut tx, order.account).await? {
            Reserved::SoldOut
        } else {
            lock_nodes(&mut tx).await?;
            hold(&mut tx, order.order).await?
        };
        if let Reserved::Held(_) = held {
            sqlx::query!(
                "insert into order_steps (order_id, step, state, finished_at)
                 values ($1, $2, 'done', now()), ($1, $3, 'running', null)",
                order.order.0,
                Step::Reserve.as_str(),
                Step::Checkout.as_str(),
            )
            .execute(&mut *tx)
            .await
            .doing("noting a step")?;
            let line = "A place and an address are reserved for your server.";
            timeline::of_order(&mut tx, order.order, "machine", "reserved", line).await?;
        } else {
            sqlx::query!(
                "update orders set status = $2, closed_at = now() where id = $1",
                order.order.0,
                OrderStatus::SoldOut.as_str(),
            )
            .execute(&mut *tx)
            .await
            .doing("closing an order")?;
            let line = "Sold out: nothing was free to reserve. Nothing was charged.";
            timeline::of_order(&mut tx, order.order, "order", "sold_out", line).await?;
        }
        tx.commit().await.doing("reserving")?;
        Ok(held)
    }

    /// Blocks a number that somebody else was found to use, and holds the next one. When the order holds another number
    /// already, that one is the answer. `SoldOut` when no number is left; the order then keeps the rest of what it holds.
    pub async fn renumber(&self, order: OrderId, taken: Vmid) -> Result<Reserved, StoreError> {
        let mut tx = self.begin().await?;
        let place = lock_reservation(&mut tx, order).await?;
        if place.vmid != taken {
            return Ok(Reserved::Held(place));
        }
        sqlx::query!(
            "update vmids set blocked_at = now(), blocked_reason = $2 where vmid = $1 and blocked_at is null",
            number(taken.0)?,
            format!("somebody else's machine had it when order {order} wanted it"),
        )
        .execute(&mut *tx)
        .await
        .doing("blocking a machine number")?;
        let next = sqlx::query_scalar!(
            "update reservations set vmid = free.vmid
             from (
                select v.vmid from vmids v
                where v.blocked_at is null and not exists (
                    select 1 from reservations r where r.vmid = v.vmid and r.released_at is null)
                order by v.vmid limit 1
             ) free
             where order_id = $1 returning free.vmid",
            order.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("holding another machine number")?;
        tx.commit().await.doing("holding another machine number")?;
        match next {
            Some(vmid) => Ok(Reserved::Held(Place { vmid: Vmid(count(vmid, "a machine's number")?), ..place })),
            None => Ok(Reserved::SoldOut),
        }
    }

    /// Holds the number staff cloned by hand instead of the reserved one. A number that was not among ours is not given
    /// to anybody else afterwards.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`reservations_vmid`) when another order holds that number.
    pub async fn adopt_number(&self, order: OrderId, vmid: Vmid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let place = lock_reservation(&mut tx, order).await?;
        if place.vmid == vmid {
            return Ok(());
        }
        sqlx::query!(
            "insert into vmids (vmid, blocked_at, blocked_reason) values ($1, now(), $2) on conflict (vmid) do nothing",
            number(vmid.0)?,
            format!("cloned by hand for order {order}"),
        )
        .execute(&mut *tx)
        .await
        .doing("adopting a machine number")?;
        sqlx::query!("update reservations set vmid = $2 where order_id = $1", order.0, number(vmid.0)?)
            .execute(&mut *tx)
            .await
            .doing("adopting a machine number")?;
        tx.commit().await.doing("adopting a machine number")
    }
}

/// Gives whether the order is new.
async fn insert_order(db: &mut PgConnection, order: &NewOrder) -> Result<bool, StoreError> {
    if order.trial_days > 0 {
        // One order of an account at a time finds out whether it is the first.
        sqlx::query_scalar!("select id from accounts where id = $1 for no key update", order.account.0)
            .fetch_optional(&mut *db)
            .await
            .doing("locking an account")?;
    }
    let inserted = sqlx::query!(
        "insert into orders (id, account_id, service_id, plan_id, price_id, hostname, image, sealed_ssh_key, status,
            trial_days)
         select $1, $2, $3, p.id, pr.id, $7, i.slug, $9, $10,
            case when $11 <= p.trial_days and not exists (
                select 1 from orders had where had.account_id = $2 and had.trial_days > 0
                    and had.status not in ('lapsed', 'sold_out', 'abandoned')
            ) then $11 else 0 end
         from plans p
         join prices pr on pr.plan_id = p.id and pr.term = $5 and pr.currency = $6 and pr.active
         join images i on i.slug = $8
         where p.slug = $4
         on conflict (id) do nothing",
        order.order.0,
        order.account.0,
        order.service.0,
        order.plan_slug,
        order.term.as_str(),
        order.currency.to_ascii_lowercase(),
        order.hostname,
        order.image,
        order.sealed_ssh_key,
        OrderStatus::AwaitingPayment.as_str(),
        number(order.trial_days)?,
    )
    .execute(db)
    .await
    .doing("writing an order down")?;
    Ok(inserted.rows_affected() == 1)
}

/// What an order was answered the first time.
async fn answered(db: &mut PgConnection, order: &NewOrder) -> Result<Reserved, StoreError> {
    let row = sqlx::query!(
        r#"select o.account_id, o.service_id, r.node as "node?", r.vmid as "vmid?"
           from orders o left join reservations r on r.order_id = o.id where o.id = $1"#,
        order.order.0,
    )
    .fetch_optional(db)
    .await
    .doing("reading an order")?
    .ok_or_else(|| StoreError::conflict("not_on_sale"))?;
    if row.account_id != order.account.0 || row.service_id != order.service.0 {
        return Err(StoreError::conflict("orders_pkey"));
    }
    match (row.node, row.vmid) {
        (Some(node), Some(vmid)) => Ok(Reserved::Held(Place { node, vmid: Vmid(count(vmid, "a machine's number")?) })),
        _ => Ok(Reserved::SoldOut),
    }
}

async fn is_closed(db: &mut PgConnection, account: AccountId) -> Result<bool, StoreError> {
    let closed =
        sqlx::query_scalar!(r#"select closed_at is not null as "closed!" from accounts where id = $1"#, account.0)
            .fetch_one(db)
            .await
            .doing("reading an account")?;
    Ok(closed)
}

/// Lets one transaction at a time choose; what it finds free then stays free until it ends.
pub(crate) async fn lock_nodes(db: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query_scalar!("select name from nodes order by name for no key update")
        .fetch_all(db)
        .await
        .doing("waiting to choose a node")?;
    Ok(())
}

/// Takes the emptiest node with room, the lowest free number and the lowest free addresses. The nodes are locked.
pub(crate) async fn hold(db: &mut PgConnection, order: OrderId) -> Result<Reserved, StoreError> {
    let row = sqlx::query!(
        "insert into reservations (order_id, node, memory_mib, vmid, ipv4, ipv6)
         select o.id, n.name, p.memory_mib, v.vmid, a4.address, a6.address
         from orders o
         join machine_sizes p on p.order_id = o.id
         cross join lateral (
            select n.name from nodes n
            left join reservations r on r.node = n.name and r.released_at is null
            where n.active group by n.name
            having n.memory_mib_limit - coalesce(sum(r.memory_mib), 0) >= p.memory_mib
            order by n.memory_mib_limit - coalesce(sum(r.memory_mib), 0) desc, n.name limit 1
         ) n
         cross join lateral (
            select v.vmid from vmids v where v.blocked_at is null and not exists (
                select 1 from reservations r where r.vmid = v.vmid and r.released_at is null)
            order by v.vmid limit 1
         ) v
         cross join lateral (
            select a.address from addresses a where a.family = 4 and not exists (
                select 1 from reservations r where r.ipv4 = a.address and r.released_at is null)
            order by a.address limit 1
         ) a4
         cross join lateral (
            select a.address from addresses a where a.family = 6 and not exists (
                select 1 from reservations r where r.ipv6 = a.address and r.released_at is null)
            order by a.address limit 1
         ) a6
         where o.id = $1
         returning node, vmid",
        order.0,
    )
    .fetch_optional(db)
    .await
    .doing("reserving")?;
    let Some(row) = row else { return Ok(Reserved::SoldOut) };
    Ok(Reserved::Held(Place { node: row.node, vmid: Vmid(count(row.vmid, "a machine's number")?) }))
}

/// Locks order, nodes and reservation, in that order, and gives what is held.
async fn lock_reservation(db: &mut PgConnection, order: OrderId) -> Result<Place, StoreError> {
    sqlx::query_scalar!("select id from orders where id = $1 for no key update", order.0)
        .fetch_optional(&mut *db)
        .await
        .doing("locking an order")?
        .ok_or_else(|| StoreError::conflict("order_unknown"))?;
    lock_nodes(db).await?;
    let row = sqlx::query!(
        "select node, vmid from reservations where order_id = $1 and released_at is null for no key update",
        order.0,
    )
    .fetch_optional(db)
    .await
    .doing("locking a reservation")?
    .ok_or_else(|| StoreError::conflict("reservation_released"))?;
    Ok(Place { node: row.node, vmid: Vmid(count(row.vmid, "a machine's number")?) })
}
