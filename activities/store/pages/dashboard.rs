//! What an account has, owes and may still order.
use super::{Dashboard, EntitlementLine, NextCharge, OrderCard, ServiceCard};
use crate::{
    Store, StoreError,
    catalogue::money,
    fault::{Doing, count, word},
};
use domain::{
    billing::Phase,
    ids::{AccountId, OrderId, ServiceId, SubscriptionId},
    service::ServiceStatus,
};
use serde::Deserialize;
use sqlx::{PgConnection, types::Json};
use std::net::IpAddr;
use time::OffsetDateTime;
use uuid::Uuid;

/// How many services and orders are listed at most.
const SERVICES_LIMIT: i64 = 200;
const ORDERS_LIMIT: i64 = 20;

/// A row of each list, as the database writes it into JSON. Points in time are in microseconds since 1970.
#[derive(Deserialize)]
struct ServiceRow {
    id: Uuid,
    order: Uuid,
    hostname: String,
    dns_name: Option<String>,
    status: String,
    ipv4: Option<IpAddr>,
    ipv6: Option<IpAddr>,
    plan_name: String,
    amount_minor: i64,
    currency: String,
    term: String,
    cancel_at_period_end: bool,
    phase: String,
    period_end_us: Option<i64>,
    destroy_at_us: Option<i64>,
    subscription: String,
    open_invoice_url: Option<String>,
    pending_plan: Option<String>,
    trial_until_us: Option<i64>,
}

#[derive(Deserialize)]
struct OrderRow {
    id: Uuid,
    hostname: String,
    plan_name: String,
    status: String,
    created_at_us: i64,
    needs_attention: bool,
}

#[derive(Deserialize)]
struct EntitlementRow {
    subscription: String,
    kind: String,
    quantity: i32,
    plan_name: String,
    used: i64,
}

struct Lists {
    services: Json<Vec<ServiceRow>>,
    orders: Json<Vec<OrderRow>>,
    entitlements: Json<Vec<EntitlementRow>>,
}

impl Store {
    /// What an account has, owes and may still order; one question, because the page is looked at more than any other.
    pub async fn dashboard(&self, account: AccountId) -> Result<Dashboard, StoreError> {
        let lists = loop {
            let mut lane = self.readers.lane().await.doing("reading a dashboard")?;
            let asked = lists(&mut lane.connection, account).await;
            if let Some(asked) = lane.judged(asked) {
                break asked.doing("reading a dashboard")?;
            }
        };
        let services: Vec<ServiceCard> = lists.services.0.into_iter().map(service_card).collect::<Result<_, _>>()?;
        let next_charges = next_charges(&services);
        Ok(Dashboard {
            orders: lists.orders.0.into_iter().map(order_card).collect::<Result<_, _>>()?,
            entitlements: lists.entitlements.0.into_iter().map(entitlement_line).collect::<Result<_, _>>()?,
            services,
            next_charges,
        })
    }
}

async fn lists(db: &mut PgConnection, account: AccountId) -> Result<Lists, sqlx::Error> {
    sqlx::query_as!(
        Lists,
        r#"select
            (select coalesce(json_agg(card), '[]') from (
                select s.id, s.order_id as "order", s.hostname, s.dns_name, s.status, host(r.ipv4) as ipv4,
                    host(r.ipv6) as ipv6, p.name as plan_name, pr.amount_minor, pr.currency, pr.term,
                    sub.cancel_at_period_end, sub.phase,
                    (extract(epoch from sub.period_end) * 1000000)::bigint as period_end_us,
                    (extract(epoch from sub.destroy_at) * 1000000)::bigint as destroy_at_us,
                    (extract(epoch from sub.trial_until) * 1000000)::bigint as trial_until_us,
                    s.subscription_id as subscription,
                    (select i.hosted_url from invoices i where i.subscription_id = sub.id and i.status = 'open'
                        order by i.created_at, i.id limit 1) as open_invoice_url,
                    (select later.name from prices at join plans later on later.id = at.plan_id
                        where at.stripe_price_id = sub.pending_price) as pending_plan
                from services s
                join subscriptions sub on sub.id = s.subscription_id
                join plans p on p.id = sub.plan_id
                join prices pr on pr.id = sub.price_id
                left join reservations r on r.order_id = s.order_id and r.released_at is null
                where s.account_id = $1 and s.status <> 'undone'
                    and (s.status <> 'expired' or s.changed_at > now() - interval '30 days')
                order by s.created_at desc, s.id limit $2
            ) as card) as "services!: Json<Vec<ServiceRow>>",
            (select coalesce(json_agg(card), '[]') from (
                select o.id, o.hostname, p.name as plan_name, o.status,
                    (extract(epoch from o.created_at) * 1000000)::bigint as created_at_us,
                    exists (
                        select 1 from attention a where a.order_id = o.id and a.settled_at is null
                    ) as needs_attention
                from orders o join plans p on p.id = o.plan_id
                where o.account_id = $1 and o.status <> 'delivered'
                order by o.created_at desc, o.id limit $3
            ) as card) as "orders!: Json<Vec<OrderRow>>",
            (select coalesce(json_agg(line), '[]') from (
                select e.subscription_id as subscription, e.kind, e.quantity, p.name as plan_name,
                    (select count(*) from services s where s.subscription_id = e.subscription_id and s.kind = e.kind
                        and s.status not in ('expired', 'undone')) as used
                from entitlements e
                join subscriptions sub on sub.id = e.subscription_id
                join plans p on p.id = sub.plan_id
                where sub.account_id = $1 and e.closed_at is null
                order by sub.created_at desc, e.kind limit $2
            ) as line) as "entitlements!: Json<Vec<EntitlementRow>>""#,
        account.0,
        SERVICES_LIMIT,
        ORDERS_LIMIT,
    )
    .fetch_one(db)
    .await
}

fn service_card(row: ServiceRow) -> Result<ServiceCard, StoreError> {
    Ok(ServiceCard {
        id: ServiceId(row.id),
        order: OrderId(row.order),
        hostname: row.hostname,
        dns_name: row.dns_name,
        ipv4: row.ipv4,
        ipv6: row.ipv6,
        status: word(&row.status, "a service's status")?,
        plan_name: row.plan_name,
        money: money(row.amount_minor, &row.currency)?,
        term: word(&row.term, "a price's term")?,
        period_end: row.period_end_us.map(point).transpose()?,
        cancel_at_period_end: row.cancel_at_period_end,
        phase: word(&row.phase, "a subscription's phase")?,
        destroy_at: row.destroy_at_us.map(point).transpose()?,
        subscription: SubscriptionId(row.subscription),
        open_invoice_url: row.open_invoice_url,
        pending_plan: row.pending_plan,
        trial_until: row.trial_until_us.map(point).transpose()?,
    })
}

fn order_card(row: OrderRow) -> Result<OrderCard, StoreError> {
    Ok(OrderCard {
        id: OrderId(row.id),
        hostname: row.hostname,
        plan_name: row.plan_name,
        status: word(&row.status, "an order's status")?,
        created_at: point(row.created_at_us)?,
        needs_attention: row.needs_attention,
    })
}

fn entitlement_line(row: EntitlementRow) -> Result<EntitlementLine, StoreError> {
    Ok(EntitlementLine {
        subscription: SubscriptionId(row.subscription),
        plan_name: row.plan_name,
        kind: word(&row.kind, "a kind of service")?,
        quantity: count(row.quantity, "an entitlement")?,
        used: row.used,
    })
}

fn point(micros: i64) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
        .map_err(|_| StoreError::Corrupt { what: "a point in time" })
}

/// One charge for each subscription that renews.
fn next_charges(services: &[ServiceCard]) -> Vec<NextCharge> {
    let mut charges: Vec<NextCharge> = Vec::new();
    for card in services {
        let renews = matches!(card.phase, Phase::Active | Phase::PastDue)
            && card.status != ServiceStatus::Expired
            && !card.cancel_at_period_end;
        let known = charges.iter().any(|charge| charge.subscription == card.subscription);
        if let (true, false, Some(at)) = (renews, known, card.period_end) {
            charges.push(NextCharge {
                subscription: card.subscription.clone(),
                plan_name: card.plan_name.clone(),
                money: card.money.clone(),
                at,
            });
        }
    }
    charges.sort_by_key(|charge| charge.at);
    charges
}
