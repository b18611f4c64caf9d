//! Subscriptions: what Stripe says about one, and its end.
use std::time::Instant;

use super::{
    Attempt, StripeApi, asked,
    checkout::TRIAL_DAYS,
    invoice::{id_of, is_paid, newest_paid, open_ids, rows},
    plan::next_price,
    read, short, under, write,
};
use crate::{
    call::Kind,
    fault::{Fault, Vendor},
};
use domain::{
    UnixSecs,
    billing::{SubscriptionStatus, SubscriptionView},
    ids::SubscriptionId,
};
use store::InvoiceRow;
use stripe::StripeRequest as _;
use stripe_billing::{
    Invoice, Subscription,
    subscription::{CancelSubscription, RetrieveSubscription, UpdateSubscription},
};

/// Where a subscription at Stripe says by which end which invoices were open before it: `<end>,<invoice>,…`.
const OPEN_AT_END: &str = "open_at_end";
/// How many of them fit into one value of 500 characters.
const OPEN_AT_END_MAX: usize = 14;

/// A subscription as Stripe tells it, and its newest invoices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionReport {
    /// What the workflow decides by.
    pub view: SubscriptionView,
    /// What the pages show, newest first.
    pub invoices: Vec<InvoiceRow>,
    /// When the reading began.
    pub read_at: Instant,
}

/// A subscription as the mirror keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSubscription {
    /// What the workflow decides by.
    pub view: SubscriptionView,
    /// Who pays (`cus_…`).
    pub customer: String,
    /// What is charged (`price_…`).
    pub price: Option<String>,
}

/// One look: the invoices first, then the subscription they are for.
pub(super) struct Look {
    pub(super) subscription: Subscription,
    pub(super) invoices: Vec<Invoice>,
    pub(super) status: SubscriptionStatus,
    read_at: Instant,
}

impl StripeApi {
    /// Says what Stripe knows about a subscription and its newest 24 invoices.
    ///
    /// *Errors*: gives up on a subscription that is not there; that is never taken for one that ended.
    pub async fn read_subscription(&self, id: &SubscriptionId) -> Result<SubscriptionReport, Fault> {
        let look = self.look(id).await?;
        self.report(id, &look).await
    }

    /// Says what Stripe knows about a subscription, who pays for it, and what.
    ///
    /// *Errors*: gives up on a subscription that is not there.
    pub async fn known_subscription(&self, id: &SubscriptionId) -> Result<KnownSubscription, Fault> {
        let look = self.look(id).await?;
        Ok(KnownSubscription {
            view: self.report(id, &look).await?.view,
            customer: look.subscription.customer.id().to_string(),
            price: look.subscription.items.data.first().map(|item| item.price.id.to_string()),
        })
    }

    /// Ends the subscription now, voids what is open, and pays back what was paid after its end. One that is paid is left
    /// alive, and what an end that did not come noted of it is forgotten: it is no payment that came too late.
    ///
    /// *Idempotence*: looks first; an ended one is only tidied up. Cancels under `subscription-<id>/end`.
    pub async fn end_subscription(&self, id: &SubscriptionId, attempt: Attempt) -> Result<SubscriptionReport, Fault> {
        let act = format!("subscription-{id}/end");
        let before = self.look(id).await?;
        if matches!(before.status, SubscriptionStatus::Active | SubscriptionStatus::Trialing) {
            if before.subscription.metadata.contains_key(OPEN_AT_END) {
                self.note_at_end(id, &before, "", &format!("{act}/clear"), attempt).await?;
            }
            return self.report(id, &before).await;
        }
        let after = self.ended(id, &before, &act, attempt).await?;
        self.report(id, &after).await
    }

    /// Cancels at once under `<act>`, voids what is open, and pays back what was paid after the end.
    pub(super) async fn ended(
        &self,
        id: &SubscriptionId,
        before: &Look,
        act: &str,
        attempt: Attempt,
    ) -> Result<Look, Fault> {
        let was_open = self.note_open(id, before, act, attempt).await?;
        self.cancel(id, before.status, act, attempt).await?;
        for invoice in open_ids(&self.invoices(id).await?) {
            self.void(&invoice, act, attempt).await?;
        }
        let after = self.look(id).await?;
        for invoice in paid_too_late(&after, &was_open) {
            self.refund_invoice(&invoice, act, attempt).await?;
        }
        Ok(after)
    }

    /// Writes down at Stripe what is open before the end, and gives it. Whoever repeats a lost end reads it there, so that a
    /// payment of one of them that slipped in is never kept. What another end noted, which did not come, is nothing here.
    async fn note_open(
        &self,
        id: &SubscriptionId,
        before: &Look,
        act: &str,
        attempt: Attempt,
    ) -> Result<Vec<String>, Fault> {
        let end = name_of_end(act, &before.subscription);
        if let Some(noted) = noted_by(&end, &before.subscription) {
            return Ok(noted);
        }
        let open: Vec<String> = open_ids(&before.invoices).into_iter().take(OPEN_AT_END_MAX).collect();
        if open.is_empty() || has_ended(before.status) {
            return Ok(open);
        }
        let note = format!("{end},{}", open.join(","));
        self.note_at_end(id, before, &note, &format!("{act}/note"), attempt).await?;
        Ok(open)
    }

    /// Writes this into the note in place of what stands there; nothing takes it away.
    async fn note_at_end(
        &self,
        id: &SubscriptionId,
        before: &Look,
        note: &str,
        act: &str,
        attempt: Attempt,
    ) -> Result<(), Fault> {
        let stands = before.subscription.metadata.get(OPEN_AT_END).map_or("", String::as_str);
        // Another note, or the same one after another, is another act.
        let key = under(&attempt.key(&format!("{act}/{}", short(&[stands, note]))))?;
        let request = UpdateSubscription::new(id.0.as_str())
            .metadata([(OPEN_AT_END.to_owned(), note.to_owned())])
            .customize()
            .request_strategy(key);
        write("noting what is open before the end", request.send(&self.client)).await.map(|_| ())
    }

    pub(super) async fn look(&self, id: &SubscriptionId) -> Result<Look, Fault> {
        let doing = "reading a subscription";
        let read_at = Instant::now();
        // The invoices first: one that renews meanwhile is not told of with the period before, only at the next look.
        let invoices = self.invoices(id).await?;
        let request = RetrieveSubscription::new(id.0.as_str()).expand(["schedule".to_owned()]);
        let subscription = read(doing, request.send(&self.client)).await?;
        let status = subscription.status.as_str().parse().map_err(|_| {
            let word = subscription.status.as_str();
            Vendor::Stripe.give_up(doing, format!("Stripe calls it {word}, which we do not know"))
        })?;
        Ok(Look { subscription, invoices, status, read_at })
    }

    async fn report(&self, id: &SubscriptionId, look: &Look) -> Result<SubscriptionReport, Fault> {
        let items = &look.subscription.items.data;
        let period_end = items.iter().map(|item| item.current_period_end).max();
        let period_start = items.iter().map(|item| item.current_period_start).max();
        let (Some(period_start), Some(period_end)) = (period_start, period_end) else {
            return Err(Vendor::Stripe.give_up("reading a subscription", format!("{id} has nothing in it")));
        };
        // The portal may end a subscription by a date instead of the flag.
        let ends_by_date = look.subscription.cancel_at.is_some_and(|at| at <= period_end);
        let view = SubscriptionView {
            status: look.status,
            period_start,
            period_end,
            cancel_at_period_end: look.subscription.cancel_at_period_end || ends_by_date,
            paid_invoice: newest_paid(&look.invoices, is_trial(&look.subscription)),
            open_invoice: self.open_invoice(&look.invoices).await?,
            price: items.first().map(|item| item.price.id.to_string()),
            pending: self.pending_change(&look.subscription).await?,
            next_price: next_price(&look.subscription),
            trial_until: trial_until(look),
        };
        Ok(SubscriptionReport { view, invoices: rows(id, &look.invoices)?, read_at: look.read_at })
    }

    /// Cancels at once, under `<act>`. One that has ended already is done.
    pub(super) async fn cancel(
        &self,
        id: &SubscriptionId,
        status: SubscriptionStatus,
        act: &str,
        attempt: Attempt,
    ) -> Result<(), Fault> {
        let doing = "ending a subscription";
        if has_ended(status) {
            return Ok(());
        }
        let request = CancelSubscription::new(id.0.as_str()).customize().request_strategy(under(&attempt.key(act))?);
        match asked(Kind::Write, request.send(&self.client)).await {
            Ok(_) => Ok(()),
            Err(denial) if denial.is_final() && has_ended(self.look(id).await?.status) => Ok(()),
            Err(denial) => Err(denial.on_write(doing)),
        }
    }
}

pub(super) const fn has_ended(status: SubscriptionStatus) -> bool {
    matches!(status, SubscriptionStatus::Canceled | SubscriptionStatus::IncompleteExpired)
}

/// What an end is called in its note. A period later it is another end, although it has the same name.
fn name_of_end(act: &str, subscription: &Subscription) -> String {
    let name = act.rsplit('/').next().unwrap_or(act);
    let period_end = subscription.items.data.iter().map(|item| item.current_period_end).max();
    format!("{name}@{}", period_end.unwrap_or_default())
}

/// What this end noted before.
fn noted_by(end: &str, subscription: &Subscription) -> Option<Vec<String>> {
    let (by, invoices) = subscription.metadata.get(OPEN_AT_END)?.split_once(',')?;
    (by == end).then(|| invoices.split(',').map(str::to_owned).collect())
}

/// Whether it began with days that cost nothing.
fn is_trial(subscription: &Subscription) -> bool {
    subscription.metadata.contains_key(TRIAL_DAYS)
}

/// Until when nothing is charged, while nothing was. Staff extend a period by the same means at Stripe, which is no trial.
fn trial_until(look: &Look) -> Option<UnixSecs> {
    let tries = is_trial(&look.subscription) && look.status == SubscriptionStatus::Trialing;
    let paid = look.invoices.iter().any(|invoice| is_paid(invoice) && invoice.amount_paid > 0);
    look.subscription.trial_end.filter(|_| tries && !paid)
}

/// Invoices that were paid although nothing will be delivered for them any more: between our look and the end, or later.
fn paid_too_late(after: &Look, was_open: &[String]) -> Vec<String> {
    let ended_at = after.subscription.ended_at.or(after.subscription.canceled_at);
    let paid = after.invoices.iter().filter(|invoice| is_paid(invoice));
    paid.filter_map(|invoice| {
        let id = id_of(invoice)?;
        let paid_after = invoice.status_transitions.paid_at.zip(ended_at).is_some_and(|(paid, ended)| paid > ended);
        (paid_after || was_open.contains(&id)).then_some(id)
    })
    .collect()
}
