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

/// How many services and orders are listed at most.
const SERVICES_LIMIT: i64 = 200;
const ORDERS_LIMIT: i64 = 20;

impl Store {
    /// What an account has, owes and may still order.
    pub async fn dashboard(&self, account: AccountId) -> Result<Dashboard, StoreError> {
        let services = self.service_cards(account).await?;
        let next_charges = next_charges(&services);
        Ok(Dashboard {
            orders: self.order_cards(account).await?,
            entitlements: self.entitlement_lines(account).await?,
            services,
            next_charges,
        })
    }

    async fn service_cards(&self, account: AccountId) -> Result<Vec<ServiceCard>, StoreError> {
        let rows = sqlx::query!(
            r#"select s.id, s.order_id, s.hostname, s.dns_name, s.status, host(r.ipv4) as "ipv4?",
                host(r.ipv6) as "ipv6?", p.name as plan_name, pr.amount_minor, pr.currency, pr.term, sub.period_end,
                sub.cancel_at_period_end, sub.phase, sub.destroy_at, s.subscription_id,
                (select i.hosted_url from invoices i where i.subscription_id = sub.id and i.status = 'open'
                    order by i.created_at, i.id limit 1) as open_invoice_url
               from services s
               join subscriptions sub on sub.id = s.subscription_id
               join plans p on p.id = sub.plan_id
               join prices pr on pr.id = sub.price_id
               left join reservations r on r.order_id = s.order_id and r.released_at is null
               where s.account_id = $1 and s.status <> 'undone'
                and (s.status <> 'expired' or s.changed_at > now() - interval '30 days')
               order by s.created_at desc, s.id limit $2"#,
            account.0,
            SERVICES_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading services")?;
        rows.into_iter()
            .map(|row| {
                Ok(ServiceCard {
                    id: ServiceId(row.id),
                    order: OrderId(row.order_id),
                    hostname: row.hostname,
                    dns_name: row.dns_name,
                    ipv4: row.ipv4.map(|address| word(&address, "an address")).transpose()?,
                    ipv6: row.ipv6.map(|address| word(&address, "an address")).transpose()?,
                    status: word(&row.status, "a service's status")?,
                    plan_name: row.plan_name,
                    money: money(row.amount_minor, &row.currency)?,
                    term: word(&row.term, "a price's term")?,
                    period_end: row.period_end,
                    cancel_at_period_end: row.cancel_at_period_end,
                    phase: word(&row.phase, "a subscription's phase")?,
                    destroy_at: row.destroy_at,
                    subscription: SubscriptionId(row.subscription_id),
                    open_invoice_url: row.open_invoice_url,
                })
            })
            .collect()
    }

    async fn order_cards(&self, account: AccountId) -> Result<Vec<OrderCard>, StoreError> {
        let rows = sqlx::query!(
            r#"select o.id, o.hostname, p.name as plan_name, o.status, o.created_at,
                exists (
                    select 1 from attention a where a.order_id = o.id and a.settled_at is null
                ) as "needs_attention!"
               from orders o join plans p on p.id = o.plan_id
               where o.account_id = $1 and o.status <> 'delivered'
               order by o.created_at desc, o.id limit $2"#,
            account.0,
            ORDERS_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading orders")?;
        rows.into_iter()
            .map(|row| {
                Ok(OrderCard {
                    id: OrderId(row.id),
                    hostname: row.hostname,
                    plan_name: row.plan_name,
                    status: word(&row.status, "an order's status")?,
                    created_at: row.created_at,
                    needs_attention: row.needs_attention,
                })
            })
            .collect()
    }

    async fn entitlement_lines(&self, account: AccountId) -> Result<Vec<EntitlementLine>, StoreError> {
        let rows = sqlx::query!(
            r#"select e.subscription_id, e.kind, e.quantity, p.name as plan_name,
                (select count(*) from services s where s.subscription_id = e.subscription_id and s.kind = e.kind
                    and s.status not in ('expired', 'undone')) as "used!"
               from entitlements e
               join subscriptions sub on sub.id = e.subscription_id
               join plans p on p.id = sub.plan_id
               where sub.account_id = $1 and e.closed_at is null
               order by sub.created_at desc, e.kind limit $2"#,
            account.0,
            SERVICES_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading entitlements")?;
        rows.into_iter()
            .map(|row| {
                Ok(EntitlementLine {
                    subscription: SubscriptionId(row.subscription_id),
                    plan_name: row.plan_name,
                    kind: word(&row.kind, "a kind of service")?,
                    quantity: count(row.quantity, "an entitlement")?,
                    used: row.used,
                })
            })
            .collect()
    }
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
