//! The mirror of Stripe: subscriptions, their invoices, and the services they pay for.
use crate::{
    Store, StoreError,
    catalogue::money,
    fault::{Doing, word},
    removals::not_held,
    timeline::{self, Entry, SYSTEM},
};
use domain::{
    UnixSecs,
    billing::{Phase, SubscriptionStatus, SubscriptionView},
    ids::{AccountId, OrderId, ServiceId, SubscriptionId, Vmid},
    money::Money,
    plan::Term,
    service::ServiceStatus,
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

mod services;

/// One subscription as last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Which.
    pub id: SubscriptionId,
    /// Who pays.
    pub account: AccountId,
    /// The order that began it.
    pub order: OrderId,
    /// The plan's name.
    pub plan_name: String,
    /// What is charged each term.
    pub money: Money,
    /// How often.
    pub term: Term,
    /// Stripe's word.
    pub status: SubscriptionStatus,
    /// Our phase.
    pub phase: Phase,
    /// When the paid period began.
    pub period_start: Option<OffsetDateTime>,
    /// When it ends.
    pub period_end: Option<OffsetDateTime>,
    /// Whether it ends then instead of renewing.
    pub cancel_at_period_end: bool,
    /// When the machine will be destroyed, if it will.
    pub destroy_at: Option<OffsetDateTime>,
    /// Where the oldest unpaid invoice can be paid.
    pub open_invoice_url: Option<String>,
}

/// One invoice as Stripe tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceRow {
    /// The Stripe id (`in_…`).
    pub id: String,
    /// Whose.
    pub subscription: SubscriptionId,
    /// Stripe's word (`draft`, `open`, `paid`, `uncollectible`, `void`).
    pub status: String,
    /// What was asked.
    pub amount_due: Money,
    /// What was paid, in minor units of the same currency.
    pub amount_paid_minor: i64,
    /// Where it can be read and paid.
    pub hosted_url: Option<String>,
    /// When Stripe made it.
    pub created_at: OffsetDateTime,
    /// What is printed on it besides.
    pub print: InvoicePrint,
}

/// What is printed on an invoice. Amounts are in minor units of its currency.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InvoicePrint {
    /// Its number, once it is finalised.
    pub number: Option<String>,
    /// Stripe's word for why it was made (`subscription_create`, `subscription_cycle`, `subscription_update`).
    pub billing_reason: Option<String>,
    /// When the period it was made in began.
    pub period_start: Option<OffsetDateTime>,
    /// When that period ended.
    pub period_end: Option<OffsetDateTime>,
    /// Before discounts and taxes that come on top.
    pub subtotal_minor: i64,
    /// What is taken off.
    pub discount_minor: i64,
    /// Taxes, whether on top or contained.
    pub tax_minor: i64,
    /// After both.
    pub total_minor: i64,
    /// Where its PDF is.
    pub pdf_url: Option<String>,
    /// When it was paid.
    pub paid_at: Option<OffsetDateTime>,
}

/// A service that a subscription pays for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceBrief {
    /// Which.
    pub service: ServiceId,
    /// The order it was built for.
    pub order: OrderId,
    /// The node its machine lives on.
    pub node: String,
    /// Its machine's number.
    pub vmid: Vmid,
    /// Where it is in its life.
    pub status: ServiceStatus,
    /// Whether it is covered beside the one that is paid for.
    pub covered: bool,
}

impl Store {
    /// The currency an account pays its living subscriptions in (lower case); Stripe takes no other beside it.
    pub async fn account_currency(&self, account: AccountId) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar!(
            "select pr.currency from subscriptions s join prices pr on pr.id = s.price_id
             where s.account_id = $1 and s.status not in ('canceled', 'incomplete_expired')
             order by s.created_at desc, s.id limit 1",
            account.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading what an account pays in")
    }

    /// Mirrors a subscription for the pages. Its history gets a line when a payment carried it further, when it will end
    /// instead of renewing or goes on after all, and when a payment is missing. `held` says that something due is held back;
    /// what was held back before is not wanted any more without it.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`subscription_unknown`) before its order was paid.
    pub async fn mirror_subscription(
        &self,
        id: &SubscriptionId,
        view: &SubscriptionView,
        phase: Phase,
        destroy_at: Option<UnixSecs>,
        held: bool,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let before = sqlx::query!(
            "select order_id, phase, cancel_at_period_end from subscriptions where id = $1 for no key update",
            id.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking a subscription")?
        .ok_or_else(|| StoreError::conflict("subscription_unknown"))?;
        let period_end = moment(view.period_end)?;
        sqlx::query!(
            "update subscriptions set status = $2, phase = case when phase = 'expired' then phase else $3 end, period_start = $4, period_end = $5,
                cancel_at_period_end = $6,
                destroy_at = case when phase = 'expired' then null else $7::timestamptz end, read_at = now(),
                pending_price = $8, pending_invoice = $9, pending_until = $10, next_price = $11, next_price_at = $12,
                trial_until = $13
             where id = $1",
            id.0,
            view.status.as_str(),
            phase.as_str(),
            moment(view.period_start)?,
            period_end,
            view.cancel_at_period_end,
            destroy_at.map(moment).transpose()?,
            view.pending.as_ref().map(|pending| &pending.price),
            view.pending.as_ref().and_then(|pending| pending.invoice.as_ref()),
            view.pending.as_ref().map(|pending| moment(pending.until)).transpose()?,
            view.next_price.as_ref().map(|next| &next.price),
            view.next_price.as_ref().map(|next| moment(next.at)).transpose()?,
            view.trial_until.map(moment).transpose()?,
        )
        .execute(&mut *tx)
        .await
        .doing("mirroring a subscription")?;
        if !held {
            not_held(&mut tx, id, None).await?;
        }
        let order = OrderId(before.order_id);
        tell_payment(&mut tx, order, id, view, period_end).await?;
        let lives = matches!(view.status, SubscriptionStatus::Active | SubscriptionStatus::Trialing);
        if lives && before.cancel_at_period_end != view.cancel_at_period_end {
            let line = if view.cancel_at_period_end {
                format!("Cancelled: it ends on {} and does not renew.", period_end.date())
            } else {
                "Not cancelled any more: it renews again.".to_owned()
            };
            tell_change(&mut tx, order, id, &line).await?;
        }
        if phase == Phase::PastDue && before.phase != phase.as_str() {
            let invoice = view.open_invoice.as_ref().map_or("the newest one", |invoice| &invoice.id);
            tell_change(&mut tx, order, id, &format!("A payment is missing: invoice {invoice} is unpaid.")).await?;
        }
        tx.commit().await.doing("mirroring a subscription")
    }

    /// Mirrors the paid period of a subscription and its invoices as they were `read_at`: what is written to the customer
    /// because of them already says until when they pay. Those of a subscription that is not known yet are left out (the next look
    /// brings them again), and so are those that somebody has read later already; what was read in the future was not.
    pub async fn put_period(
        &self,
        id: &SubscriptionId,
        view: &SubscriptionView,
        invoices: &[InvoiceRow],
        read_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query!(
            "update subscriptions set period_start = $2, period_end = $3
             where id = $1 and (period_start is distinct from $2 or period_end is distinct from $3)",
            id.0,
            moment(view.period_start)?,
            moment(view.period_end)?,
        )
        .execute(&mut *tx)
        .await
        .doing("mirroring a paid period")?;
        put_invoices(&mut tx, invoices, read_at).await?;
        tx.commit().await.doing("mirroring invoices")
    }

    /// The subscription that pays for an order.
    pub async fn subscription_of(&self, order: OrderId) -> Result<Option<SubscriptionId>, StoreError> {
        sqlx::query_scalar!("select subscription_id from orders where id = $1", order.0)
            .fetch_optional(&self.pool)
            .await
            .doing("reading an order")
            .map(|id| id.flatten().map(SubscriptionId))
    }

    /// One subscription as last seen.
    pub async fn subscription(&self, id: &SubscriptionId) -> Result<Option<Subscription>, StoreError> {
        let row = sqlx::query!(
            r#"select s.account_id, s.order_id, s.status, s.phase, s.period_start, s.period_end,
                s.cancel_at_period_end, s.destroy_at, p.name, pr.amount_minor, pr.currency, pr.term,
                (select i.hosted_url from invoices i where i.subscription_id = s.id and i.status = 'open'
                    order by i.created_at, i.id limit 1) as open_invoice_url
               from subscriptions s join plans p on p.id = s.plan_id join prices pr on pr.id = s.price_id
               where s.id = $1"#,
            id.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a subscription")?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Subscription {
            id: id.clone(),
            account: AccountId(row.account_id),
            order: OrderId(row.order_id),
            plan_name: row.name,
            money: money(row.amount_minor, &row.currency)?,
            term: word(&row.term, "a price's term")?,
            status: word(&row.status, "a subscription's status")?,
            phase: word(&row.phase, "a subscription's phase")?,
            period_start: row.period_start,
            period_end: row.period_end,
            cancel_at_period_end: row.cancel_at_period_end,
            destroy_at: row.destroy_at,
            open_invoice_url: row.open_invoice_url,
        }))
    }
}

/// Writes invoices, in one order for everybody, so that two looks at once cannot wait for each other.
pub(crate) async fn put_invoices(
    db: &mut PgConnection,
    invoices: &[InvoiceRow],
    read_at: OffsetDateTime,
) -> Result<(), StoreError> {
    let mut invoices: Vec<&InvoiceRow> = invoices.iter().collect();
    invoices.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    for invoice in invoices {
        let print = &invoice.print;
        sqlx::query!(
            "insert into invoices
                (id, subscription_id, status, amount_due_minor, amount_paid_minor, currency, hosted_url, created_at, read_at,
                 number, billing_reason, period_start, period_end, subtotal_minor, discount_minor, tax_minor, total_minor,
                 pdf_url, paid_at)
             select $1, id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19
             from subscriptions where id = $2
             on conflict (id) do update set status = excluded.status,
                amount_due_minor = excluded.amount_due_minor, amount_paid_minor = excluded.amount_paid_minor,
                currency = excluded.currency, hosted_url = excluded.hosted_url, read_at = excluded.read_at,
                number = excluded.number, billing_reason = excluded.billing_reason,
                period_start = excluded.period_start, period_end = excluded.period_end,
                subtotal_minor = excluded.subtotal_minor, discount_minor = excluded.discount_minor,
                tax_minor = excluded.tax_minor, total_minor = excluded.total_minor, pdf_url = excluded.pdf_url,
                paid_at = excluded.paid_at
             where invoices.read_at <= excluded.read_at or invoices.read_at > clock_timestamp()",
            invoice.id,
            invoice.subscription.0,
            invoice.status,
            invoice.amount_due.amount_minor,
            invoice.amount_paid_minor,
            invoice.amount_due.currency.as_str(),
            invoice.hosted_url,
            invoice.created_at,
            read_at,
            print.number,
            print.billing_reason,
            print.period_start,
            print.period_end,
            print.subtotal_minor,
            print.discount_minor,
            print.tax_minor,
            print.total_minor,
            print.pdf_url,
            print.paid_at,
        )
        .execute(&mut *db)
        .await
        .doing("mirroring an invoice")?;
    }
    Ok(())
}

pub(crate) fn moment(secs: UnixSecs) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::from_unix_timestamp(secs).map_err(|_| StoreError::conflict("time_out_of_range"))
}

/// One line for each paid invoice that carried the subscription further. Stripe moves the period before the invoice of the
/// new one is paid, so the invoice is the fact, not the period.
async fn tell_payment(
    db: &mut PgConnection,
    order: OrderId,
    id: &SubscriptionId,
    view: &SubscriptionView,
    period_end: OffsetDateTime,
) -> Result<(), StoreError> {
    let good = matches!(view.status, SubscriptionStatus::Active | SubscriptionStatus::Trialing);
    let (true, Some(invoice), None) = (good, &view.paid_invoice, &view.open_invoice) else { return Ok(()) };
    tell_unseen_payments(db, order, id, invoice).await?;
    let renewed = sqlx::query_scalar!(
        r#"select exists (select 1 from timeline where order_id = $1 and kind = 'renewal') as "renewed!""#,
        order.0,
    )
    .fetch_one(&mut *db)
    .await
    .doing("reading the timeline")?;
    let line = format!("{} until {}.", if renewed { "Renewed" } else { "Paid" }, period_end.date());
    let fact = format!("subscription/{id}/paid/{invoice}");
    timeline::write(db, Entry { order, actor: SYSTEM, kind: "renewal", line: &line, fact: &fact }).await?;
    Ok(())
}

/// A line for each invoice that was paid before the newest one while nobody looked. One for nothing is none: it begins a
/// trial, or an extended period.
async fn tell_unseen_payments(
    db: &mut PgConnection,
    order: OrderId,
    id: &SubscriptionId,
    newest: &str,
) -> Result<(), StoreError> {
    let unseen = sqlx::query!(
        r#"select i.number, i.paid_at as "paid_at!", 'subscription/' || i.subscription_id || '/paid/' || i.id as "fact!"
           from invoices i
           where i.subscription_id = $1 and i.status = 'paid' and i.paid_at is not null and i.id <> $2 and not (
            i.total_minor = 0 and (coalesce(i.subtotal_minor, 1) = 0
                or exists (select 1 from orders o where o.id = $3 and o.trial_days > 0))
           ) and not exists (
            select 1 from timeline t where t.fact = 'subscription/' || i.subscription_id || '/paid/' || i.id
           )
           order by i.paid_at, i.id"#,
        id.0,
        newest,
        order.0,
    )
    .fetch_all(&mut *db)
    .await
    .doing("reading paid invoices")?;
    for paid in unseen {
        let number = paid.number.map_or_else(|| "An invoice".to_owned(), |number| format!("Invoice {number}"));
        let line = format!("{number} was paid on {}.", paid.paid_at.date());
        timeline::write(db, Entry { order, actor: SYSTEM, kind: "renewal", line: &line, fact: &paid.fact }).await?;
    }
    Ok(())
}

/// A line about a change that the same transaction makes, so that a second call finds nothing changed.
async fn tell_change(db: &mut PgConnection, order: OrderId, id: &SubscriptionId, line: &str) -> Result<(), StoreError> {
    let fact = format!("subscription/{id}/change/{}", Uuid::new_v4());
    timeline::write(db, Entry { order, actor: SYSTEM, kind: "subscription", line, fact: &fact }).await?;
    Ok(())
}
