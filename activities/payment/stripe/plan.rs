//! Another plan: what it costs for the rest of the period, and the change for exactly that.
use contract::payment::CarriedOut;
use domain::{
    UnixSecs,
    billing::{ComingPrice, PendingChange, SubscriptionStatus},
    ids::SubscriptionId,
    money::{Currency, Money},
};
use stripe::StripeRequest as _;
use stripe_billing::{
    Invoice, InvoiceBillingReason, Subscription,
    invoice::{
        CreatePreviewInvoice, CreatePreviewInvoiceSubscriptionDetails, CreatePreviewInvoiceSubscriptionDetailsItems,
        CreatePreviewInvoiceSubscriptionDetailsProrationBehavior,
    },
    subscription::{
        UpdateSubscription, UpdateSubscriptionItems, UpdateSubscriptionPaymentBehavior,
        UpdateSubscriptionProrationBehavior,
    },
};
use time::OffsetDateTime;

use super::{
    Attempt, StripeApi,
    instruction::refused,
    invoice::{id_of, is_paid},
    read, under, write,
};
use crate::fault::{Fault, Vendor};

/// How long a price that was shown holds.
const SHOWN_FOR_SECS: i64 = 3_600;
/// How far the clocks of two of our machines may differ.
const CLOCKS_DIFFER_SECS: i64 = 60;

/// Another plan, as the customer saw it.
pub(super) struct Wish<'a> {
    /// Its price (`price_…`).
    pub(super) price: &'a str,
    /// The moment the rest of the period is counted from.
    pub(super) proration_date: UnixSecs,
    /// What is charged at once.
    pub(super) shown: &'a Money,
    /// Whether a payment that is not there yet is waited for.
    pub(super) may_wait: bool,
}

impl StripeApi {
    /// What a change to this price would charge at once, the rest of the period counted from `proration_date`. Reads only.
    ///
    /// *Source*: Stripe API, "Create a preview invoice".
    pub async fn preview_plan(
        &self,
        id: &SubscriptionId,
        price: &str,
        proration_date: UnixSecs,
    ) -> Result<Money, Fault> {
        let subscription = self.look(id).await?.subscription;
        self.preview(&subscription, price, proration_date).await
    }

    async fn preview(
        &self,
        subscription: &Subscription,
        price: &str,
        proration_date: UnixSecs,
    ) -> Result<Money, Fault> {
        let doing = "asking what another plan costs";
        let item = CreatePreviewInvoiceSubscriptionDetailsItems {
            id: Some(item_of(subscription)?),
            price: Some(price.to_owned()),
            ..CreatePreviewInvoiceSubscriptionDetailsItems::new()
        };
        let details = CreatePreviewInvoiceSubscriptionDetails {
            items: Some(vec![item]),
            proration_behavior: Some(CreatePreviewInvoiceSubscriptionDetailsProrationBehavior::AlwaysInvoice),
            proration_date: Some(proration_date),
            ..CreatePreviewInvoiceSubscriptionDetails::new()
        };
        let request =
            CreatePreviewInvoice::new().subscription(subscription.id.to_string()).subscription_details(details);
        let invoice = read(doing, request.send(&self.client)).await?;
        let currency: Currency = invoice
            .currency
            .to_string()
            .parse()
            .map_err(|_| Vendor::Stripe.give_up(doing, "the currency cannot be read"))?;
        Ok(Money { amount_minor: invoice.amount_due, currency })
    }

    /// Changes to this price for exactly what was shown. It is applied when it is paid. Of what is not paid at once, whoever
    /// `may_wait` waits for a payment that the bank wants confirmed or that is on its way; anything else is given up.
    ///
    /// *Idempotence*: looks at the price and at what waits first, and finds what was paid for it by the moment it was counted
    /// from; changes under `<act>/plan`.
    pub(super) async fn change_plan(
        &self,
        id: &SubscriptionId,
        wish: &Wish<'_>,
        act: &str,
        attempt: Attempt,
    ) -> Result<CarriedOut, Fault> {
        let Wish { price, proration_date, shown, may_wait } = *wish;
        let subscription = match self.look(id).await? {
            look if price_of(&look.subscription).as_deref() == Some(price) => {
                return Ok(CarriedOut::Done { object: paid_for(&look.invoices, proration_date) });
            }
            look if look.status != SubscriptionStatus::Active => {
                return Ok(refused("Only a paid subscription can change its plan."));
            }
            look => look.subscription,
        };
        if let Some(pending) = self.pending_change(&subscription).await? {
            if pending.price != price {
                return Ok(refused("Another change waits for its payment."));
            }
            return self.unpaid(&subscription, may_wait, act, attempt).await;
        }
        if subscription.cancel_at_period_end || subscription.cancel_at.is_some() {
            return Ok(refused("It is cancelled. Take the cancellation back first."));
        }
        let now = OffsetDateTime::now_utc().unix_timestamp();
        // Counted from later on it costs less.
        if !(now - SHOWN_FOR_SECS..=now + CLOCKS_DIFFER_SECS).contains(&proration_date) {
            return Ok(refused("The price that was shown is too old. Look at it again."));
        }
        let due = self.preview(&subscription, price, proration_date).await?;
        if due != *shown {
            return Ok(refused(&format!("It costs {due} now. Look at it again.")));
        }
        self.unschedule(&subscription, act, attempt).await?;
        let item = UpdateSubscriptionItems {
            id: Some(item_of(&subscription)?),
            price: Some(price.to_owned()),
            ..UpdateSubscriptionItems::new()
        };
        let request = UpdateSubscription::new(id.0.as_str())
            .items(vec![item])
            .proration_behavior(UpdateSubscriptionProrationBehavior::AlwaysInvoice)
            .payment_behavior(UpdateSubscriptionPaymentBehavior::PendingIfIncomplete)
            .proration_date(proration_date)
            .customize()
            .request_strategy(under(&attempt.key(&format!("{act}/plan")))?);
        let changed = write("changing the plan", request.send(&self.client)).await?;
        if changed.pending_update.is_some() {
            return self.unpaid(&changed, may_wait, act, attempt).await;
        }
        Ok(CarriedOut::Done { object: latest_invoice(&changed) })
    }

    /// A change that was not paid at once waits for whoever pays, or ends with its invoice.
    async fn unpaid(
        &self,
        subscription: &Subscription,
        may_wait: bool,
        act: &str,
        attempt: Attempt,
    ) -> Result<CarriedOut, Fault> {
        let invoice = latest_invoice(subscription);
        if may_wait && let Some(invoice) = &invoice {
            let payment = self.payment_of(invoice).await?;
            if payment.is_pending || payment.needs_confirmation {
                return Ok(CarriedOut::Waits);
            }
        }
        self.give_change_up(subscription, act, attempt).await?;
        Ok(refused("It could not be paid at once, so nothing was changed. Change your card and try again."))
    }

    /// A change that waits for its payment ends with its invoice.
    pub(super) async fn give_change_up(
        &self,
        subscription: &Subscription,
        act: &str,
        attempt: Attempt,
    ) -> Result<(), Fault> {
        match latest_invoice(subscription).filter(|_| subscription.pending_update.is_some()) {
            Some(invoice) => self.void(&invoice, act, attempt).await,
            None => Ok(()),
        }
    }

    /// The change that waits for its payment, if one does.
    ///
    /// *Source*: Stripe documentation, "Pending updates reference".
    pub(super) async fn pending_change(&self, subscription: &Subscription) -> Result<Option<PendingChange>, Fault> {
        let Some(update) = &subscription.pending_update else { return Ok(None) };
        let item = update.subscription_items.iter().flatten().next();
        let Some(price) = item.map(|item| item.price.id.to_string()) else { return Ok(None) };
        let invoice = latest_invoice(subscription);
        let needs_confirmation = match &invoice {
            Some(invoice) => self.payment_of(invoice).await?.needs_confirmation,
            None => false,
        };
        Ok(Some(PendingChange { price, invoice, until: update.expires_at, needs_confirmation }))
    }
}

/// The price that is charged after this period, where a schedule changes it. The schedule has to be expanded.
pub(super) fn next_price(subscription: &Subscription) -> Option<ComingPrice> {
    let schedule = subscription.schedule.as_ref()?.as_object()?;
    let now = schedule.current_phase.as_ref()?;
    let next = schedule.phases.iter().find(|phase| phase.start_date >= now.end_date)?;
    let price = next.items.first()?.price.id().to_string();
    (price_of(subscription).as_ref() != Some(&price)).then_some(ComingPrice { price, at: next.start_date })
}

pub(super) fn price_of(subscription: &Subscription) -> Option<String> {
    subscription.items.data.first().map(|item| item.price.id.to_string())
}

fn item_of(subscription: &Subscription) -> Result<String, Fault> {
    let item = subscription.items.data.first().map(|item| item.id.to_string());
    item.ok_or_else(|| Vendor::Stripe.give_up("changing the plan", format!("{} has nothing in it", subscription.id)))
}

/// The invoice of a change that was counted from this moment. Another change to the same price, seen at another moment, is
/// not what was paid.
fn paid_for(invoices: &[Invoice], proration_date: UnixSecs) -> Option<String> {
    let is_it = |invoice: &&Invoice| {
        is_paid(invoice)
            && invoice.billing_reason == Some(InvoiceBillingReason::SubscriptionUpdate)
            && invoice.lines.data.iter().any(|line| line.period.start == proration_date)
    };
    invoices.iter().find(is_it).and_then(id_of)
}

fn latest_invoice(subscription: &Subscription) -> Option<String> {
    subscription.latest_invoice.as_ref()?.id().as_ref().map(ToString::to_string)
}
