//! One service in full.
use super::{InvoiceLine, ServiceBeside, ServicePage};
use crate::{
    InstructionLine, Store, StoreError,
    catalogue::{money, size},
    fault::{Doing, word},
};
use domain::{
    ids::{AccountId, OrderId, ServiceId, SubscriptionId},
    instruction::{AskKind, InstructionState},
};
use time::OffsetDateTime;

/// What customers tell a subscription.
const OWN_WISHES: [AskKind; 6] = [
    AskKind::ChangePlan,
    AskKind::ChangePlanAtEnd,
    AskKind::KeepPlan,
    AskKind::CancelAtEnd,
    AskKind::GoOn,
    AskKind::CancelNow,
];
/// How many other services are listed at most.
const BESIDE_LIMIT: i64 = 200;
/// How many invoices are listed at most.
const INVOICES_LIMIT: i64 = 24;

/// Whether a customer told it, about the subscription or about this very server.
fn is_own(told: &InstructionLine, service: ServiceId) -> bool {
    let about_it = || told.about.as_deref() == Some(service.to_string().as_str());
    OWN_WISHES.contains(&told.kind) || told.kind == AskKind::RemoveServer && about_it()
}

impl Store {
    /// One service of an account; `None` when there is none, or it is another account's, or it was never delivered.
    pub async fn service_page(
        &self,
        service: ServiceId,
        account: AccountId,
    ) -> Result<Option<ServicePage>, StoreError> {
        let row = sqlx::query!(
            r#"select s.order_id, s.hostname, s.dns_name, s.status, s.subscription_id, p.name as plan_name,
                m.cores as "cores!", m.memory_mib as "memory_mib!", m.disk_gib as "disk_gib!",
                o.covered_by is not null as "covered!", i.name as image_name, pr.amount_minor, pr.currency, pr.term,
                sub.status as subscription_status, sub.phase, sub.period_start, sub.period_end, sub.trial_until,
                sub.cancel_at_period_end, coalesce(s.destroy_at, sub.destroy_at) as destroy_at, s.destroy_at is not null as "removed!",
                s.status <> 'provisioning' and exists (
                    select 1 from credentials c where c.service_id = s.id and c.sealed_password is not null
                ) as "password_waiting!"
               from services s
               join orders o on o.id = s.order_id
               join machine_sizes m on m.order_id = o.id
               join subscriptions sub on sub.id = s.subscription_id
               join plans p on p.id = o.plan_id
               join prices pr on pr.id = sub.price_id
               join images i on i.slug = o.image
               where s.id = $1 and s.account_id = $2 and s.status <> 'undone'"#,
            service.0,
            account.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a service")?;
        let Some(row) = row else { return Ok(None) };
        let (order, subscription) = (OrderId(row.order_id), SubscriptionId(row.subscription_id));
        let place = self.place(order).await?.filter(|place| place.held);
        let invoices = self.invoice_lines(&subscription).await?;
        // The list is newest first, and the oldest unpaid one is the one that is held against the customer.
        let open_invoice_url = invoices
            .iter()
            .rev()
            .find(|invoice| invoice.status == "open")
            .and_then(|invoice| invoice.hosted_url.clone());
        let told = self.instructions(&subscription).await?;
        let next_plan = self.next_plan(&told, row.period_start).await?;
        let pending_plan = self.pending_plan(&subscription).await?;
        let asked = told.into_iter().find(|told| is_own(told, service));
        Ok(Some(ServicePage {
            id: service,
            beside: self.beside(&subscription, service).await?,
            order,
            hostname: row.hostname,
            dns_name: row.dns_name,
            status: word(&row.status, "a service's status")?,
            plan_name: row.plan_name,
            size: size(row.cores, row.memory_mib, row.disk_gib)?,
            image_name: row.image_name,
            money: money(row.amount_minor, &row.currency)?,
            term: word(&row.term, "a price's term")?,
            ipv4: place.as_ref().map(|place| place.ipv4),
            ipv6: place.as_ref().map(|place| place.ipv6),
            subscription,
            subscription_status: word(&row.subscription_status, "a subscription's status")?,
            phase: word(&row.phase, "a subscription's phase")?,
            period_start: row.period_start,
            period_end: row.period_end,
            cancel_at_period_end: row.cancel_at_period_end,
            destroy_at: row.destroy_at,
            removed: row.removed,
            open_invoice_url,
            invoices,
            timeline: self.history(service).await?,
            password_waiting: row.password_waiting,
            asked,
            next_plan,
            pending_plan,
            trial_until: row.trial_until,
            covered: row.covered,
        }))
    }

    /// What else a subscription pays for and is not gone, oldest first.
    async fn beside(
        &self,
        subscription: &SubscriptionId,
        service: ServiceId,
    ) -> Result<Vec<ServiceBeside>, StoreError> {
        sqlx::query!(
            r#"select s.id, s.hostname, o.covered_by is not null as "covered!"
               from services s join orders o on o.id = s.order_id
               where s.subscription_id = $1 and s.id <> $2 and s.status not in ('expired', 'undone')
               order by s.created_at, s.id limit $3"#,
            subscription.0,
            service.0,
            BESIDE_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading services")
        .map(|rows| {
            let named = rows.into_iter();
            named.map(|s| ServiceBeside { id: ServiceId(s.id), hostname: s.hostname, covered: s.covered }).collect()
        })
    }

    /// The name of the plan that was chosen for the end of this period, unless something else was since.
    async fn next_plan(
        &self,
        told: &[InstructionLine],
        period_start: Option<OffsetDateTime>,
    ) -> Result<Option<String>, StoreError> {
        let done = |told: &&InstructionLine| OWN_WISHES.contains(&told.kind) && told.state == InstructionState::Done;
        let newest = told.iter().find(done).filter(|told| told.kind == AskKind::ChangePlanAtEnd);
        let Some(chosen) = newest.filter(|told| told.settled_at > period_start) else { return Ok(None) };
        sqlx::query_scalar!(
            "select p.name from prices pr join plans p on p.id = pr.plan_id where pr.stripe_price_id = $1",
            chosen.about,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a plan")
    }

    pub(super) async fn invoice_lines(&self, subscription: &SubscriptionId) -> Result<Vec<InvoiceLine>, StoreError> {
        let rows = sqlx::query!(
            "select id, status, amount_due_minor, amount_paid_minor, currency, hosted_url, created_at from invoices
             where subscription_id = $1 order by created_at desc, id desc limit $2",
            subscription.0,
            INVOICES_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading invoices")?;
        rows.into_iter()
            .map(|row| {
                Ok(InvoiceLine {
                    id: row.id,
                    status: row.status,
                    amount_due: money(row.amount_due_minor, &row.currency)?,
                    amount_paid: money(row.amount_paid_minor, &row.currency)?,
                    hosted_url: row.hosted_url,
                    created_at: row.created_at,
                })
            })
            .collect()
    }
}
