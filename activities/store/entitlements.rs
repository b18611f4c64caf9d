//! What a subscription lets its account have, and further services that it covers. The view `entitlement_use` counts; the
//! rows of subscription and entitlement are locked while one place is given, so that the last one is given once.
use crate::{
    Store, StoreError,
    catalogue::size,
    fault::{Doing, count, word},
    reservations::{NewOrder, Place, Reserved, hold, lock_nodes},
    timeline,
};
use domain::{
    billing::{Phase, SubscriptionStatus},
    ids::{AccountId, OrderId, SubscriptionId, Vmid},
    order::{OrderStatus, Step},
    plan::{MachineSize, Term},
};
use sqlx::PgConnection;

/// What a subscription still covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Further {
    /// The subscription that covers it.
    pub subscription: SubscriptionId,
    /// The plan's slug.
    pub plan_slug: String,
    /// The plan's name.
    pub plan_name: String,
    /// How often it is paid.
    pub term: Term,
    /// In what it is paid (lower case).
    pub currency: String,
    /// The machine a further service gets.
    pub size: MachineSize,
    /// How many services it covers.
    pub quantity: u32,
    /// How many of them are used.
    pub used: u32,
    /// Why nothing further can be ordered now, if nothing can.
    pub refusal: Option<NoPlace>,
}

/// Why a subscription covers nothing further now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoPlace {
    /// Its first service is not delivered.
    NotDelivered,
    /// It is over, or about to be, or what it pays for is stopped.
    Ending,
    /// A payment is missing.
    Unpaid,
    /// So many services are all there are.
    Full {
        /// How many.
        quantity: u32,
    },
    /// It changes to a plan that covers no more.
    Changing {
        /// How many that plan covers.
        quantity: u32,
    },
}

impl NoPlace {
    /// Why, in a sentence for the customer.
    pub fn words(&self) -> String {
        let servers = |quantity: u32| if quantity == 1 { "1 server".to_owned() } else { format!("{quantity} servers") };
        match self {
            Self::NotDelivered => "Your first server is not ready yet. Order another one when it is.".to_owned(),
            Self::Ending => "Your subscription ends or has ended, so it covers no further server.".to_owned(),
            Self::Unpaid => "A payment is missing. Pay the open invoice first, then order another server.".to_owned(),
            Self::Full { quantity } => format!("Your plan covers {}, and every place is taken.", servers(*quantity)),
            Self::Changing { quantity } => {
                format!("Your plan changes soon, and the new one covers {} only.", servers(*quantity))
            }
        }
    }
}

/// What it is decided by.
struct Cover {
    status: String,
    phase: String,
    ends: bool,
    begun_by: String,
    quantity: i32,
    used: i64,
    next_quantity: Option<i32>,
}

impl Cover {
    fn refusal(&self) -> Result<Option<NoPlace>, StoreError> {
        let status: SubscriptionStatus = word(&self.status, "a subscription's status")?;
        let phase: Phase = word(&self.phase, "a subscription's phase")?;
        let quantity = count(self.quantity, "an entitlement")?;
        let next: Option<u32> = self.next_quantity.map(|next| count(next, "an entitlement")).transpose()?;
        let begun_by: OrderStatus = word(&self.begun_by, "an order's status")?;
        let good = matches!(status, SubscriptionStatus::Active | SubscriptionStatus::Trialing);
        Ok(match phase {
            _ if begun_by == OrderStatus::Provisioning => Some(NoPlace::NotDelivered),
            Phase::Retained | Phase::Expired => Some(NoPlace::Ending),
            _ if self.ends || status.has_ended() || begun_by != OrderStatus::Delivered => Some(NoPlace::Ending),
            Phase::PastDue | Phase::Suspended => Some(NoPlace::Unpaid),
            Phase::Active if !good => Some(NoPlace::Unpaid),
            Phase::Active if self.used >= i64::from(quantity) => Some(NoPlace::Full { quantity }),
            Phase::Active => {
                next.filter(|next| self.used >= i64::from(*next)).map(|quantity| NoPlace::Changing { quantity })
            }
        })
    }
}

impl Store {
    /// What a subscription of an account still covers; `None` when there is none, or it is another account's.
    pub async fn further(
        &self,
        subscription: &SubscriptionId,
        account: AccountId,
    ) -> Result<Option<Further>, StoreError> {
        let row = sqlx::query!(
            r#"select p.slug, p.name, pr.term, pr.currency, coalesce(p.further_cores, p.cores) as "cores!",
                coalesce(p.further_memory_mib, p.memory_mib) as "memory_mib!",
                coalesce(p.further_disk_gib, p.disk_gib) as "disk_gib!"
               from subscriptions s join plans p on p.id = s.plan_id join prices pr on pr.id = s.price_id
               where s.id = $1 and s.account_id = $2"#,
            subscription.0,
            account.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading what a subscription covers")?;
        let Some(row) = row else { return Ok(None) };
        let mut db = self.pool.acquire().await.doing("reading what a subscription covers")?;
        let cover = cover(&mut db, subscription).await?;
        Ok(Some(Further {
            subscription: subscription.clone(),
            plan_slug: row.slug,
            plan_name: row.name,
            term: word(&row.term, "a price's term")?,
            currency: row.currency,
            size: size(row.cores, row.memory_mib, row.disk_gib)?,
            quantity: count(cover.quantity, "an entitlement")?,
            used: u32::try_from(cover.used).unwrap_or(u32::MAX),
            refusal: cover.refusal()?,
        }))
    }
}

async fn cover(db: &mut PgConnection, subscription: &SubscriptionId) -> Result<Cover, StoreError> {
    sqlx::query_as!(
        Cover,
        r#"select s.status, s.phase, s.cancel_at_period_end as ends, o.status as begun_by,
            coalesce(u.quantity, 0) as "quantity!", coalesce(u.used, 0) as "used!",
            (select min(next.service_limit) from prices at join plans next on next.id = at.plan_id
                where at.stripe_price_id in (s.next_price, s.pending_price)) as next_quantity
           from subscriptions s join orders o on o.id = s.order_id join plans p on p.id = s.plan_id
           left join entitlement_use u on u.subscription_id = s.id and u.kind = p.kind
           where s.id = $1"#,
        subscription.0,
    )
    .fetch_one(db)
    .await
    .doing("counting what a subscription covers")
}

/// Writes an order down that a subscription covers, and holds its place in the entitlement, node, number and addresses;
/// its service is there from now on. Without a place the order is closed, and says why.
pub(crate) async fn reserve(
    db: &mut PgConnection,
    order: &NewOrder,
    by: &SubscriptionId,
) -> Result<Reserved, StoreError> {
    if !insert(db, order, by).await? {
        return answered(db, order, by).await;
    }
    lock_nodes(db).await?;
    sqlx::query_scalar!(
        "select e.quantity from subscriptions s join entitlements e on e.subscription_id = s.id where s.id = $1
         order by e.kind for no key update",
        by.0,
    )
    .fetch_all(&mut *db)
    .await
    .doing("waiting for a place in an entitlement")?;
    if let Some(refusal) = cover(db, by).await?.refusal()? {
        return refuse(db, order.order, &refusal.words()).await;
    }
    let held = hold(db, order.order).await?;
    if held == Reserved::SoldOut {
        let why = "No machine is free at the moment. Your place in the plan stays yours; try again later.";
        return refuse(db, order.order, why).await;
    }
    sqlx::query!(
        "insert into services (id, order_id, account_id, subscription_id, kind, status, hostname)
         select o.service_id, o.id, o.account_id, $2, p.kind, 'provisioning', o.hostname
         from orders o join plans p on p.id = o.plan_id where o.id = $1",
        order.order.0,
        by.0,
    )
    .execute(&mut *db)
    .await
    .doing("opening a service")?;
    sqlx::query!(
        "insert into order_steps (order_id, step, state, finished_at) values ($1, $2, 'done', now())",
        order.order.0,
        Step::Reserve.as_str(),
    )
    .execute(&mut *db)
    .await
    .doing("noting a step")?;
    let line = "Covered by your plan. A place and an address are reserved for your server.";
    timeline::of_order(db, order.order, "machine", "reserved", line).await?;
    Ok(held)
}

/// Gives whether the order is new.
async fn insert(db: &mut PgConnection, order: &NewOrder, by: &SubscriptionId) -> Result<bool, StoreError> {
    let inserted = sqlx::query!(
        "insert into orders (id, account_id, service_id, plan_id, price_id, hostname, image, sealed_ssh_key, status,
            subscription_id, covered_by)
         select $1, s.account_id, $3, s.plan_id, s.price_id, $5, i.slug, $7, $8, s.id, s.id
         from subscriptions s join images i on i.slug = $6
         where s.id = $4 and s.account_id = $2
         on conflict (id) do nothing",
        order.order.0,
        order.account.0,
        order.service.0,
        by.0,
        order.hostname,
        order.image,
        order.sealed_ssh_key,
        OrderStatus::Provisioning.as_str(),
    )
    .execute(db)
    .await
    .doing("writing an order down")?;
    Ok(inserted.rows_affected() == 1)
}

/// What an order was answered the first time.
async fn answered(db: &mut PgConnection, order: &NewOrder, by: &SubscriptionId) -> Result<Reserved, StoreError> {
    let row = sqlx::query!(
        r#"select o.account_id, o.service_id, o.covered_by, r.node as "node?", r.vmid as "vmid?"
           from orders o left join reservations r on r.order_id = o.id and r.released_at is null where o.id = $1"#,
        order.order.0,
    )
    .fetch_optional(db)
    .await
    .doing("reading an order")?
    .ok_or_else(|| StoreError::conflict("subscription_unknown"))?;
    let same = row.account_id == order.account.0 && row.service_id == order.service.0;
    if !same || row.covered_by.as_ref() != Some(&by.0) {
        return Err(StoreError::conflict("orders_pkey"));
    }
    match (row.node, row.vmid) {
        (Some(node), Some(vmid)) => Ok(Reserved::Held(Place { node, vmid: Vmid(count(vmid, "a machine's number")?) })),
        _ => Ok(Reserved::SoldOut),
    }
}

async fn refuse(db: &mut PgConnection, order: OrderId, why: &str) -> Result<Reserved, StoreError> {
    sqlx::query!(
        "update orders set status = $2, reason = $3, closed_at = now() where id = $1",
        order.0,
        OrderStatus::SoldOut.as_str(),
        why,
    )
    .execute(&mut *db)
    .await
    .doing("closing an order")?;
    timeline::of_order(db, order, "order", "sold_out", why).await?;
    Ok(Reserved::SoldOut)
}

#[cfg(test)]
mod tests {
    use super::{Cover, NoPlace};

    fn cover(status: &str, phase: &str, used: i64, next_quantity: Option<i32>) -> Cover {
        let (status, phase, begun_by) = (status.to_owned(), phase.to_owned(), "delivered".to_owned());
        Cover { status, phase, ends: false, begun_by, quantity: 2, used, next_quantity }
    }

    fn refusal(cover: &Cover) -> Option<NoPlace> {
        cover.refusal().expect("known words")
    }

    #[test]
    fn a_place_is_given_only_while_everything_is_paid_and_goes_on() {
        assert_eq!(refusal(&cover("active", "active", 1, None)), None);
        assert_eq!(refusal(&cover("trialing", "active", 1, Some(2))), None);
        for (status, phase) in [("past_due", "active"), ("past_due", "past_due"), ("active", "suspended")] {
            assert_eq!(refusal(&cover(status, phase, 1, None)), Some(NoPlace::Unpaid), "{status} {phase}");
        }
        for (status, phase) in [("canceled", "active"), ("canceled", "retained"), ("active", "expired")] {
            assert_eq!(refusal(&cover(status, phase, 1, None)), Some(NoPlace::Ending), "{status} {phase}");
        }
        assert_eq!(refusal(&Cover { ends: true, ..cover("active", "active", 1, None) }), Some(NoPlace::Ending));
        let building = Cover { begun_by: "provisioning".to_owned(), ..cover("active", "active", 1, None) };
        assert_eq!(refusal(&building), Some(NoPlace::NotDelivered));
    }

    #[test]
    fn no_more_places_are_given_than_there_are_now_and_will_be() {
        assert_eq!(refusal(&cover("active", "active", 2, None)), Some(NoPlace::Full { quantity: 2 }));
        assert_eq!(refusal(&cover("active", "active", 1, Some(1))), Some(NoPlace::Changing { quantity: 1 }));
        assert_eq!(NoPlace::Full { quantity: 1 }.words(), "Your plan covers 1 server, and every place is taken.");
    }
}
