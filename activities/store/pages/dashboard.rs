//! What an account has, owes and may still order.
use super::{Dashboard, EntitlementLine, NextCharge, OrderCard, ServiceCard};
use crate::{
    Store, StoreError,
    catalogue::labels::Labels,
    fault::{Doing, count, word},
    readers::Readers,
    together::{Found, Together},
};
use domain::{
    billing::Phase,
    ids::{AccountId, OrderId, ServiceId, SubscriptionId},
    service::ServiceStatus,
};
use sqlx::PgConnection;
use std::{collections::HashMap, sync::Arc};
use time::OffsetDateTime;
use uuid::Uuid;

/// How many services and orders are listed at most.
const SERVICES_LIMIT: i64 = 200;
const ORDERS_LIMIT: i64 = 20;

const READING: &str = "reading dashboards";

/// Which list a row belongs to.
const SERVICE: i32 = 1;
const ORDER: i32 = 2;

/// A row of any of the lists; each fills the columns it has.
#[derive(Clone)]
pub(crate) struct Row {
    account: Uuid,
    list: i32,
    id: Option<Uuid>,
    order: Option<Uuid>,
    hostname: Option<String>,
    dns_name: Option<String>,
    status: Option<String>,
    ipv4: Option<String>,
    ipv6: Option<String>,
    plan: Option<Uuid>,
    price: Option<Uuid>,
    cancel_at_period_end: Option<bool>,
    phase: Option<String>,
    period_end: Option<OffsetDateTime>,
    destroy_at: Option<OffsetDateTime>,
    trial_until: Option<OffsetDateTime>,
    subscription: Option<String>,
    covered: Option<bool>,
    open_invoice_url: Option<String>,
    pending_price: Option<String>,
    created_at: Option<OffsetDateTime>,
    needs_attention: Option<bool>,
    kind: Option<String>,
    quantity: Option<i32>,
    used: Option<i64>,
    open: Option<bool>,
}

impl Store {
    /// What an account has, owes and may still order; one question for all who look at this moment, because
    /// the page is looked at more than any other.
    pub async fn dashboard(&self, account: AccountId) -> Result<Dashboard, StoreError> {
        let mut rows = self.dashboards.ask(account.0).await?.unwrap_or_default();
        // The parts of a union come in any order.
        rows.sort_by(|a, b| (a.list, b.created_at, a.id, &a.kind).cmp(&(b.list, a.created_at, b.id, &b.kind)));
        let labels = self.labels(false).await?;
        let are_known = rows.iter().all(|row| is_known(&labels, row));
        // A plan that is younger than the labels.
        let labels = if are_known { labels } else { self.labels(true).await? };
        board(rows, &labels)
    }
}

/// How dashboards are asked for together.
pub(crate) fn together(readers: &Arc<Readers>) -> Together<Uuid, Vec<Row>> {
    let readers = Arc::clone(readers);
    Together::new(READING, move |accounts| Box::pin(read(Arc::clone(&readers), accounts)))
}

async fn read(readers: Arc<Readers>, accounts: Vec<Uuid>) -> Found<Uuid, Vec<Row>> {
    let rows = readers.ask(&accounts, rows).await.doing(READING)?;
    let mut of_each: HashMap<Uuid, Vec<Row>> = HashMap::with_capacity(accounts.len());
    for row in rows {
        of_each.entry(row.account).or_default().push(row);
    }
    Ok(of_each)
}

async fn rows(db: &mut PgConnection, accounts: &[Uuid]) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"select wanted.account as "account!", l.list as "list!", l.id as "id?", l.order_id as "order?", l.hostname as "hostname?",
                l.dns_name as "dns_name?", l.status as "status?", l.ipv4 as "ipv4?", l.ipv6 as "ipv6?", l.plan_id as "plan?",
                l.price_id as "price?", l.cancel_at_period_end as "cancel_at_period_end?", l.phase as "phase?",
                l.period_end as "period_end?", l.destroy_at as "destroy_at?", l.trial_until as "trial_until?",
                l.subscription_id as "subscription?", l.covered as "covered?", l.open_invoice_url as "open_invoice_url?",
                l.pending_price as "pending_price?", l.created_at as "created_at?", l.needs_attention as "needs_attention?",
                l.kind as "kind?", l.quantity as "quantity?", l.used as "used?", l.open as "open?"
            from unnest($1::uuid[]) as wanted (account)
            cross join lateral (
        (select 1 as list, s.id, s.order_id, s.hostname, s.dns_name, s.status, host(r.ipv4) as ipv4, host(r.ipv6) as ipv6,
                sub.plan_id, sub.price_id, sub.cancel_at_period_end, sub.phase, sub.period_end,
                coalesce(s.destroy_at, sub.destroy_at) as destroy_at, sub.trial_until, s.subscription_id,
                s.order_id <> sub.order_id as covered,
                (select i.hosted_url from invoices i where i.subscription_id = sub.id and i.status = 'open'
                    order by i.created_at, i.id limit 1) as open_invoice_url,
                sub.pending_price, s.created_at, null::bool as needs_attention,
                null as kind, null::integer as quantity, null::bigint as used, null::bool as open
            from services s
            join subscriptions sub on sub.id = s.subscription_id
            left join reservations r on r.order_id = s.order_id and r.released_at is null
            where s.account_id = wanted.account and s.status <> 'undone'
                and (s.status <> 'expired' or s.changed_at > now() - interval '30 days')
            order by s.created_at desc, s.id limit $2)
        union all
        (select 2, o.id, null, o.hostname, null, o.status, null, null, o.plan_id, null, null, null, null, null, null, null, null,
                null, null, o.created_at,
                exists (select 1 from attention a where a.order_id = o.id and a.settled_at is null), null, null, null, null
            from orders o
            where o.account_id = wanted.account and o.status <> 'delivered'
            order by o.created_at desc, o.id limit $3)
        union all
        (select 3, null, null, null, null, null, null, null, sub.plan_id, null, null, null, null, null, null, e.subscription_id,
                null, null, null, sub.created_at, null, e.kind, e.quantity, e.used,
                sub.phase = 'active' and sub.status in ('active', 'trialing') and not sub.cancel_at_period_end
            from entitlement_use e
            join subscriptions sub on sub.id = e.subscription_id
            where sub.account_id = wanted.account
            order by sub.created_at desc, e.kind limit $2)
            ) as l"#,
        accounts,
        SERVICES_LIMIT,
        ORDERS_LIMIT,
    )
    .fetch_all(db)
    .await
}

fn is_known(labels: &Labels, row: &Row) -> bool {
    row.plan.is_none_or(|plan| labels.plan(plan).is_some())
        && row.price.is_none_or(|price| labels.price(price).is_some())
        && row.pending_price.as_deref().is_none_or(|price| labels.plan_of(price).is_some())
}

fn board(rows: Vec<Row>, labels: &Labels) -> Result<Dashboard, StoreError> {
    let (mut services, mut orders, mut entitlements) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        match row.list {
            SERVICE => services.push(service_card(row, labels)?),
            ORDER => orders.push(order_card(row, labels)?),
            _ => entitlements.push(entitlement_line(row, labels)?),
        }
    }
    let next_charges = next_charges(&services);
    Ok(Dashboard { services, orders, entitlements, next_charges })
}

fn service_card(row: Row, labels: &Labels) -> Result<ServiceCard, StoreError> {
    let price = row.price.and_then(|price| labels.price(price));
    let price = price.ok_or(StoreError::Corrupt { what: "a subscription's price" })?;
    let address = |text: Option<String>| text.map(|text| word(&text, "an address")).transpose();
    Ok(ServiceCard {
        id: ServiceId(there(row.id)?),
        order: OrderId(there(row.order)?),
        hostname: there(row.hostname)?,
        dns_name: row.dns_name,
        ipv4: address(row.ipv4)?,
        ipv6: address(row.ipv6)?,
        status: word(&there(row.status)?, "a service's status")?,
        plan_name: plan_name(row.plan, labels)?,
        money: price.money.clone(),
        term: price.term,
        period_end: row.period_end,
        cancel_at_period_end: there(row.cancel_at_period_end)?,
        phase: word(&there(row.phase)?, "a subscription's phase")?,
        destroy_at: row.destroy_at,
        subscription: SubscriptionId(there(row.subscription)?),
        open_invoice_url: row.open_invoice_url,
        pending_plan: row.pending_price.and_then(|price| labels.plan_of(&price).map(str::to_owned)),
        trial_until: row.trial_until,
        covered: there(row.covered)?,
    })
}

fn order_card(row: Row, labels: &Labels) -> Result<OrderCard, StoreError> {
    Ok(OrderCard {
        id: OrderId(there(row.id)?),
        hostname: there(row.hostname)?,
        plan_name: plan_name(row.plan, labels)?,
        status: word(&there(row.status)?, "an order's status")?,
        created_at: there(row.created_at)?,
        needs_attention: there(row.needs_attention)?,
    })
}

fn entitlement_line(row: Row, labels: &Labels) -> Result<EntitlementLine, StoreError> {
    Ok(EntitlementLine {
        subscription: SubscriptionId(there(row.subscription)?),
        plan_name: plan_name(row.plan, labels)?,
        kind: word(&there(row.kind)?, "a kind of service")?,
        quantity: count(there(row.quantity)?, "an entitlement")?,
        used: there(row.used)?,
        open: there(row.open)?,
    })
}

/// A column that its list always fills.
fn there<T>(value: Option<T>) -> Result<T, StoreError> {
    value.ok_or(StoreError::Corrupt { what: "a row of the dashboard" })
}

fn plan_name(plan: Option<Uuid>, labels: &Labels) -> Result<String, StoreError> {
    let name = plan.and_then(|plan| labels.plan(plan)).ok_or(StoreError::Corrupt { what: "a plan's name" })?;
    Ok(name.to_owned())
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
