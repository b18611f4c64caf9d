//! One request for one service, from its payment page to its delivery or its end.
use crate::{
    Store, StoreError,
    catalogue::{money, size},
    fault::{Doing, count, word},
    letters, timeline,
};
use domain::{
    ids::{AccountId, OrderId, ServiceId, SubscriptionId, UserId, Vmid},
    money::Money,
    order::{OrderStatus, Step, StepState},
    plan::{MachineSize, Term},
    service::ServiceStatus,
};
use sqlx::PgConnection;
use std::net::IpAddr;

pub mod close;
pub(crate) mod steps;

/// One address held for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The address itself.
    pub address: IpAddr,
    /// How many bits of it are the network.
    pub prefix_length: u8,
    /// Where its packets leave.
    pub gateway: IpAddr,
    /// Who answers its names.
    pub nameserver: IpAddr,
}

/// Where an order's machine is built, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderPlace {
    /// The node.
    pub node: String,
    /// The machine's number.
    pub vmid: Vmid,
    /// The node the template lives on.
    pub template_node: String,
    /// The storage its disk is made on.
    pub storage: String,
    /// Its IPv4 address.
    pub ipv4: Lease,
    /// Its IPv6 address.
    pub ipv6: Lease,
    /// Whether the order still holds it.
    pub held: bool,
}

/// Everything the hands need to know about one order. Has no `Debug`, because it names the customer.
#[derive(Clone)]
pub struct OrderBrief {
    /// Which order.
    pub order: OrderId,
    /// Who buys.
    pub account: AccountId,
    /// The service it becomes; the owner stamp of its machine.
    pub service: ServiceId,
    /// Where it is in its life.
    pub status: OrderStatus,
    /// Why it was closed, once it is.
    pub reason: Option<String>,
    /// Where its service is in its life; none before it is paid.
    pub service_status: Option<ServiceStatus>,
    /// The plan's slug.
    pub plan_slug: String,
    /// The plan's name.
    pub plan_name: String,
    /// The machine's size.
    pub size: MachineSize,
    /// The Stripe price (`price_…`).
    pub stripe_price_id: String,
    /// What is charged each term.
    pub money: Money,
    /// How often.
    pub term: Term,
    /// One DNS label.
    pub hostname: String,
    /// The image's slug.
    pub image_slug: String,
    /// The image's name.
    pub image_name: String,
    /// The template's number.
    pub template_vmid: Vmid,
    /// Where it is built; none when it was sold out.
    pub place: Option<OrderPlace>,
    /// The customer's SSH public key, sealed.
    pub sealed_ssh_key: Option<String>,
    /// The account's Stripe id (`cus_…`), once it has one.
    pub stripe_customer_id: Option<String>,
    /// The account's first user, who gets its letters.
    pub user: UserId,
    /// That user's name.
    pub customer_name: String,
    /// That user's address.
    pub customer_email: String,
    /// The Checkout Session (`cs_…`), once it is open.
    pub stripe_session_id: Option<String>,
    /// Where the customer pays.
    pub checkout_url: Option<String>,
    /// The subscription that pays for it, once it is paid.
    pub subscription: Option<SubscriptionId>,
    /// The published name, without a final dot or with one, as it was recorded.
    pub dns_name: Option<String>,
    /// How many days cost nothing at first.
    pub trial_days: u32,
    /// The subscription that covers it, when nothing was paid for it.
    pub covered_by: Option<SubscriptionId>,
}

impl Store {
    /// Notes that an order was paid: its subscription, its entitlement and its service are there from now on.
    ///
    /// *Errors*: [`StoreError::Conflict`] when the order is closed (`order_closed`), was paid by another subscription
    /// (`order_paid_otherwise`), or the subscription pays for another order (`subscription_of_another_order`).
    pub async fn paid(&self, order: OrderId, subscription: &SubscriptionId) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let locked = lock(&mut tx, order).await?;
        if locked.subscription.as_ref().is_some_and(|paid_by| *paid_by != subscription.0) {
            return Err(StoreError::conflict("order_paid_otherwise"));
        }
        match locked.status {
            OrderStatus::AwaitingPayment => {}
            OrderStatus::Provisioning | OrderStatus::Delivered => return Ok(()),
            OrderStatus::Lapsed | OrderStatus::SoldOut | OrderStatus::Abandoned => {
                return Err(StoreError::conflict("order_closed"));
            }
        }
        sqlx::query!(
            "update orders set status = $2, subscription_id = $3, paid_at = now() where id = $1",
            order.0,
            OrderStatus::Provisioning.as_str(),
            subscription.0,
        )
        .execute(&mut *tx)
        .await
        .doing("noting a payment")?;
        open_service(&mut tx, order, subscription).await?;
        steps::finish(&mut tx, order, Step::Payment).await?;
        let line = match locked.trial_days {
            0 => "Payment received.".to_owned(),
            days => format!("Your {days} days to try it have begun. Nothing was charged."),
        };
        timeline::of_order(&mut tx, order, "payment", "paid", &line).await?;
        tx.commit().await.doing("noting a payment")
    }

    /// Notes that an order is delivered: its service runs, every step that was running is done, and the letter that says
    /// so waits to be sent. Gives the seconds since it was paid (or ordered, when it is covered); nothing when it was noted before.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`order_closed`) when the order is not being built.
    pub async fn delivered(&self, order: OrderId) -> Result<Option<f64>, StoreError> {
        let mut tx = self.begin().await?;
        match lock(&mut tx, order).await?.status {
            OrderStatus::Provisioning => {}
            OrderStatus::Delivered => return Ok(None),
            _ => return Err(StoreError::conflict("order_closed")),
        }
        let taken_secs = sqlx::query_scalar!(
            r#"update orders set status = $2, delivered_at = now() where id = $1
               returning extract(epoch from now() - coalesce(paid_at, created_at))::float8 as "secs!""#,
            order.0,
            OrderStatus::Delivered.as_str(),
        )
        .fetch_one(&mut *tx)
        .await
        .doing("noting a delivery")?;
        let started = sqlx::query!(
            "update services set status = 'running', changed_at = now() where order_id = $1 and status = 'provisioning'",
            order.0,
        )
        .execute(&mut *tx)
        .await
        .doing("noting a delivery")?;
        if started.rows_affected() != 1 {
            return Err(StoreError::Corrupt { what: "the service of a paid order" });
        }
        steps::finish(&mut tx, order, Step::Notify).await?;
        letters::announce_delivery(&mut tx, order).await?;
        timeline::of_order(&mut tx, order, "order", "delivered", "Your server is ready.").await?;
        tx.commit().await.doing("noting a delivery")?;
        Ok(Some(taken_secs))
    }

    /// Keeps the Checkout Session of an order and the address of its page, and notes that its payment is waited for. The
    /// same session again may bring another address.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`order_has_a_session`) when the order has another session: two open pages could
    /// be paid twice.
    pub async fn record_checkout(&self, order: OrderId, session: &str, url: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let recorded = sqlx::query!(
            "update orders set stripe_session_id = $2, checkout_url = $3
             where id = $1 and coalesce(stripe_session_id, $2) = $2",
            order.0,
            session,
            url,
        )
        .execute(&mut *tx)
        .await
        .doing("keeping a payment page")?;
        if recorded.rows_affected() != 1 {
            return Err(StoreError::conflict("order_has_a_session"));
        }
        if lock(&mut tx, order).await?.status == OrderStatus::AwaitingPayment {
            steps::advance(&mut tx, order, Step::Payment, StepState::Running).await?;
        }
        tx.commit().await.doing("keeping a payment page")
    }

    /// Keeps the name that is published for the order's service.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`service_unknown`) when the order was never paid.
    pub async fn set_dns_name(&self, order: OrderId, name: &str) -> Result<(), StoreError> {
        self.put_dns_name(order, Some(name)).await
    }

    /// Notes that nothing is published for the order's service any more.
    pub async fn clear_dns_name(&self, order: OrderId) -> Result<(), StoreError> {
        self.put_dns_name(order, None).await
    }

    async fn put_dns_name(&self, order: OrderId, name: Option<&str>) -> Result<(), StoreError> {
        let put = sqlx::query!("update services set dns_name = $2 where order_id = $1", order.0, name)
            .execute(&self.pool)
            .await
            .doing("keeping a published name")?;
        if put.rows_affected() == 1 || name.is_none() { Ok(()) } else { Err(StoreError::conflict("service_unknown")) }
    }

    /// Keeps the Stripe customer of an account, unless it has one, and gives the one it has.
    ///
    /// *Errors*: [`StoreError::Conflict`] when there is no such account, or another account has that customer.
    pub async fn set_stripe_customer(&self, account: AccountId, id: &str) -> Result<String, StoreError> {
        sqlx::query_scalar!(
            r#"update accounts set stripe_customer_id = coalesce(stripe_customer_id, $2) where id = $1
               returning stripe_customer_id as "id!""#,
            account.0,
            id,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("keeping a customer")?
        .ok_or_else(|| StoreError::conflict("account_unknown"))
    }

    /// The customer at Stripe of the account that a subscription is of.
    pub async fn customer_of_subscription(&self, subscription: &SubscriptionId) -> Result<Option<String>, StoreError> {
        let known = sqlx::query_scalar!(
            "select a.stripe_customer_id from subscriptions s join accounts a on a.id = s.account_id where s.id = $1",
            subscription.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a customer")?;
        Ok(known.flatten())
    }

    /// The Stripe customer of an account (`cus_…`), once it has one.
    pub async fn stripe_customer(&self, account: AccountId) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar!("select stripe_customer_id from accounts where id = $1", account.0)
            .fetch_optional(&self.pool)
            .await
            .doing("reading a customer")
            .map(Option::flatten)
    }

    /// The order a Checkout Session belongs to.
    pub async fn order_of_session(&self, session: &str) -> Result<Option<OrderId>, StoreError> {
        sqlx::query_scalar!("select id from orders where stripe_session_id = $1", session)
            .fetch_optional(&self.pool)
            .await
            .doing("looking for the order of a payment page")
            .map(|id| id.map(OrderId))
    }

    /// The order a service was built for.
    pub async fn order_of_service(&self, service: ServiceId) -> Result<Option<OrderId>, StoreError> {
        sqlx::query_scalar!("select id from orders where service_id = $1", service.0)
            .fetch_optional(&self.pool)
            .await
            .doing("looking for the order of a service")
            .map(|id| id.map(OrderId))
    }

    /// Whether an account may still have days that cost nothing with this order.
    pub async fn trial_is_left(&self, account: AccountId, order: OrderId) -> Result<bool, StoreError> {
        sqlx::query_scalar!(
            r#"select not exists (select 1 from orders where account_id = $1 and id <> $2 and trial_days > 0
                and status not in ('lapsed', 'sold_out', 'abandoned')) as "left!""#,
            account.0,
            order.0,
        )
        .fetch_one(&self.pool)
        .await
        .doing("looking for a trial")
    }

    /// How many orders of an account wait for their payment, and hold something for it.
    pub async fn unpaid_orders(&self, account: AccountId) -> Result<i64, StoreError> {
        sqlx::query_scalar!(
            r#"select count(*) as "count!" from orders where account_id = $1 and status = 'awaiting_payment'"#,
            account.0,
        )
        .fetch_one(&self.pool)
        .await
        .doing("counting unpaid orders")
    }

    /// Everything the hands need to know about one order.
    pub async fn brief(&self, order: OrderId) -> Result<Option<OrderBrief>, StoreError> {
        let row = sqlx::query!(
            r#"select o.account_id, o.service_id, o.status, o.reason, o.hostname, o.sealed_ssh_key, o.stripe_session_id,
                o.checkout_url, o.subscription_id, p.slug as plan_slug, p.name as plan_name, m.cores as "cores!",
                m.memory_mib as "memory_mib!", m.disk_gib as "disk_gib!", o.covered_by, pr.stripe_price_id, pr.amount_minor, pr.currency, pr.term, i.slug as image_slug,
                i.name as image_name, i.template_vmid, a.stripe_customer_id, u.id as "user_id!", u.name as "user_name!",
                u.email as "email!", s.status as "service_status?", s.dns_name, o.trial_days
               from orders o
               join plans p on p.id = o.plan_id
               join machine_sizes m on m.order_id = o.id
               join prices pr on pr.id = o.price_id
               join images i on i.slug = o.image
               join accounts a on a.id = o.account_id
               join lateral (
                (
                    select w.id, w.name, w.email from members m
                    cross join lateral (
                        select id, name, email, created_at, closed_at from users where id = m.user_id limit 1
                    ) w
                    where m.account_id = o.account_id
                    order by w.closed_at is not null, m.role <> 'owner', m.created_at, w.created_at, w.id limit 1
                )
                union all
                (
                    select h.id, h.name, h.email from users h
                    where h.account_id = o.account_id
                        and not exists (select 1 from members m where m.account_id = o.account_id)
                    order by h.created_at, h.id limit 1
                )
               ) u on true
               left join services s on s.order_id = o.id
               where o.id = $1"#,
            order.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading an order")?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(OrderBrief {
            order,
            account: AccountId(row.account_id),
            service: ServiceId(row.service_id),
            status: word(&row.status, "an order's status")?,
            reason: row.reason,
            service_status: row.service_status.map(|status| word(&status, "a service's status")).transpose()?,
            plan_slug: row.plan_slug,
            plan_name: row.plan_name,
            size: size(row.cores, row.memory_mib, row.disk_gib)?,
            stripe_price_id: row.stripe_price_id,
            money: money(row.amount_minor, &row.currency)?,
            term: word(&row.term, "a price's term")?,
            hostname: row.hostname,
            image_slug: row.image_slug,
            image_name: row.image_name,
            template_vmid: Vmid(count(row.template_vmid, "a template's number")?),
            place: self.place(order).await?,
            sealed_ssh_key: row.sealed_ssh_key,
            stripe_customer_id: row.stripe_customer_id,
            user: UserId(row.user_id),
            customer_name: row.user_name,
            customer_email: row.email,
            stripe_session_id: row.stripe_session_id,
            checkout_url: row.checkout_url,
            subscription: row.subscription_id.map(SubscriptionId),
            dns_name: row.dns_name,
            trial_days: count(row.trial_days, "an order's trial")?,
            covered_by: row.covered_by.map(SubscriptionId),
        }))
    }

    /// Where an order's machine is built, or was; `None` when nothing was ever held.
    pub(crate) async fn place(&self, order: OrderId) -> Result<Option<OrderPlace>, StoreError> {
        let row = sqlx::query!(
            r#"select r.node, r.vmid, r.released_at is null as "held!", n.template_node, n.storage,
                host(a4.address) as "ipv4!", a4.prefix_length as ipv4_length, host(a4.gateway) as "ipv4_gateway!",
                host(a4.nameserver) as "ipv4_nameserver!",
                host(a6.address) as "ipv6!", a6.prefix_length as ipv6_length, host(a6.gateway) as "ipv6_gateway!",
                host(a6.nameserver) as "ipv6_nameserver!"
               from reservations r
               join nodes n on n.name = r.node
               join addresses a4 on a4.address = r.ipv4
               join addresses a6 on a6.address = r.ipv6
               where r.order_id = $1"#,
            order.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a reservation")?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(OrderPlace {
            node: row.node,
            vmid: Vmid(count(row.vmid, "a machine's number")?),
            template_node: row.template_node,
            storage: row.storage,
            ipv4: lease(&row.ipv4, row.ipv4_length, &row.ipv4_gateway, &row.ipv4_nameserver)?,
            ipv6: lease(&row.ipv6, row.ipv6_length, &row.ipv6_gateway, &row.ipv6_nameserver)?,
            held: row.held,
        }))
    }
}

fn lease(address: &str, prefix_length: i16, gateway: &str, nameserver: &str) -> Result<Lease, StoreError> {
    Ok(Lease {
        address: word(address, "an address")?,
        prefix_length: u8::try_from(prefix_length).map_err(|_| StoreError::Corrupt { what: "a prefix length" })?,
        gateway: word(gateway, "a gateway")?,
        nameserver: word(nameserver, "a name server")?,
    })
}

/// What an order is decided by.
struct Locked {
    status: OrderStatus,
    subscription: Option<String>,
    trial_days: i32,
    covered: bool,
}

/// Locks an order. It is always locked first.
async fn lock(db: &mut PgConnection, order: OrderId) -> Result<Locked, StoreError> {
    try_lock(db, order).await?.ok_or_else(|| StoreError::conflict("order_unknown"))
}

async fn try_lock(db: &mut PgConnection, order: OrderId) -> Result<Option<Locked>, StoreError> {
    let row = sqlx::query!(
        "select status, subscription_id, trial_days, covered_by from orders where id = $1 for no key update",
        order.0
    )
    .fetch_optional(db)
    .await
    .doing("locking an order")?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Locked {
        status: word(&row.status, "an order's status")?,
        subscription: row.subscription_id,
        trial_days: row.trial_days,
        covered: row.covered_by.is_some(),
    }))
}

/// Makes the subscription, the entitlement and the service of a paid order.
async fn open_service(db: &mut PgConnection, order: OrderId, subscription: &SubscriptionId) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into subscriptions (id, account_id, order_id, plan_id, price_id, status, phase)
         select $2, account_id, id, plan_id, price_id, 'active', 'active' from orders where id = $1
         on conflict (id) do nothing",
        order.0,
        subscription.0,
    )
    .execute(&mut *db)
    .await
    .doing("opening a subscription")?;
    let pays_for = sqlx::query_scalar!("select order_id from subscriptions where id = $1", subscription.0)
        .fetch_one(&mut *db)
        .await
        .doing("reading a subscription")?;
    if pays_for != order.0 {
        return Err(StoreError::conflict("subscription_of_another_order"));
    }
    sqlx::query!(
        "insert into entitlements (subscription_id, kind, quantity)
         select $2, p.kind, p.service_limit from orders o join plans p on p.id = o.plan_id where o.id = $1
         on conflict (subscription_id, kind) do nothing",
        order.0,
        subscription.0,
    )
    .execute(&mut *db)
    .await
    .doing("opening an entitlement")?;
    sqlx::query!(
        "insert into services (id, order_id, account_id, subscription_id, kind, status, hostname)
         select o.service_id, o.id, o.account_id, $2, p.kind, 'provisioning', o.hostname
         from orders o join plans p on p.id = o.plan_id where o.id = $1
         on conflict (order_id) do nothing",
        order.0,
        subscription.0,
    )
    .execute(db)
    .await
    .doing("opening a service")?;
    Ok(())
}
