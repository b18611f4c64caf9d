//! The payment activities: Stripe Checkout, subscriptions, invoices and refunds.
#![expect(missing_docs, reason = "the constants that the macro makes of each activity cannot carry a docstring")]
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contract::payment::{CarriedOut, CheckoutRef, CheckoutState, Errand, RefundInput, defs};
use domain::{
    billing::SubscriptionView,
    ids::{OrderId, SubscriptionId},
};
use store::{OrderBrief, Store};
use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};

use crate::{
    deadline::in_time,
    fault::{Fault, Vendor},
};

#[warn(missing_docs)]
pub mod mirror;
#[warn(missing_docs)]
pub mod stripe;

use stripe::{Attempt, StripeApi, checkout::CheckoutOrder, customer::Buyer, subscription::SubscriptionReport};

/// All questions to Stripe together take less than the story allows the step.
const STEP_LIMIT: Duration = Duration::from_secs(18);

/// Takes payments, watches them and gives them back.
pub struct PaymentDesk {
    /// Our own database: the order's row is read, its session and the mirrored invoices are written.
    pub store: Store,
    /// Stripe.
    pub stripe: StripeApi,
    /// Where our own pages are; a customer returns there from Stripe's.
    pub site_url: String,
}

#[activities]
impl PaymentDesk {
    /// What moves money is mirrored soon after, whether Stripe tells of it or not.
    async fn carried_out(&self, stripe: &StripeApi, errand: &Errand, attempt: Attempt) -> Result<CarriedOut, Fault> {
        let outcome = stripe.carry_out(errand, attempt).await?;
        if errand.instruction.what.money().is_some()
            && let Some(customer) = self.store.customer_of_subscription(&errand.subscription).await?
        {
            self.store.ask_for_looks(&[customer]).await?;
        }
        Ok(outcome)
    }

    /// Opens the Checkout Session of an order and writes its address into the order's row.
    ///
    /// *Idempotence*: an order whose row names a session gets that one; else Stripe is asked for one of this order first.
    #[activity(definition = defs::OpenCheckout)]
    pub async fn open_checkout(
        self: Arc<Self>,
        ctx: ActivityContext,
        order: OrderId,
    ) -> Result<CheckoutRef, ActivityError> {
        let step = Box::pin(self.opened(order, attempt(&ctx)));
        Ok(heard(&ctx, "opening the payment page", step).await?)
    }

    /// Says whether a Checkout Session was paid. Reads only.
    #[activity(definition = defs::ReadCheckout)]
    pub async fn read_checkout(
        self: Arc<Self>,
        ctx: ActivityContext,
        checkout: CheckoutRef,
    ) -> Result<CheckoutState, ActivityError> {
        let step = Box::pin(self.stripe.read_checkout(checkout.order, &checkout.session));
        Ok(heard(&ctx, "reading the payment page", step).await?)
    }

    /// Closes a Checkout Session so that it can no longer be paid; says so when it was paid meanwhile.
    ///
    /// *Idempotence*: a closed one stays closed.
    #[activity(definition = defs::ExpireCheckout)]
    pub async fn expire_checkout(
        self: Arc<Self>,
        ctx: ActivityContext,
        checkout: CheckoutRef,
    ) -> Result<CheckoutState, ActivityError> {
        let step = Box::pin(self.closed(checkout, attempt(&ctx)));
        Ok(heard(&ctx, "closing the payment page", step).await?)
    }

    /// Says what Stripe knows about a subscription, and mirrors its invoices.
    ///
    /// *Idempotence*: the mirror is overwritten with what Stripe says now.
    #[activity(definition = defs::ReadSubscription)]
    pub async fn read_subscription(
        self: Arc<Self>,
        ctx: ActivityContext,
        id: SubscriptionId,
    ) -> Result<SubscriptionView, ActivityError> {
        let step = Box::pin(self.mirrored(&id, self.stripe.read_subscription(&id)));
        Ok(heard(&ctx, "reading a subscription", step).await?)
    }

    /// Ends a subscription at Stripe and voids its open invoices. One that was paid meanwhile is left alive.
    ///
    /// *Idempotence*: looks first; an ended one is done.
    #[activity(definition = defs::EndSubscription)]
    pub async fn end_subscription(
        self: Arc<Self>,
        ctx: ActivityContext,
        id: SubscriptionId,
    ) -> Result<SubscriptionView, ActivityError> {
        let stripe = self.stripe_in_run(&ctx);
        let step = Box::pin(self.mirrored(&id, stripe.end_subscription(&id, attempt(&ctx))));
        Ok(heard(&ctx, "ending a subscription", step).await?)
    }

    /// Cancels the subscription of an order that was given up and refunds whatever was paid for it.
    ///
    /// *Idempotence*: looks at the refunds first, so a payment goes back once.
    #[activity(definition = defs::Refund)]
    pub async fn refund(self: Arc<Self>, ctx: ActivityContext, given_up: RefundInput) -> Result<(), ActivityError> {
        let stripe = self.stripe_in_run(&ctx);
        let step = Box::pin(stripe.refund_order(given_up.order, &given_up.subscription, attempt(&ctx)));
        Ok(heard(&ctx, "refunding a payment", step).await?)
    }

    /// Carries out what a person told a subscription to do.
    ///
    /// *Idempotence*: what it makes at Stripe names the instruction and is looked for first; what it changes there is
    /// compared first.
    #[activity(definition = defs::CarryOut)]
    pub async fn carry_out(self: Arc<Self>, ctx: ActivityContext, errand: Errand) -> Result<CarriedOut, ActivityError> {
        let stripe = self.stripe_in_run(&ctx);
        let step = Box::pin(self.carried_out(&stripe, &errand, attempt(&ctx)));
        Ok(heard(&ctx, "carrying out what was asked for", step).await?)
    }
}

/// Ends before Temporal would, in words of our own.
async fn heard<T: Send>(
    ctx: &ActivityContext,
    doing: &str,
    step: impl Future<Output = Result<T, Fault>> + Send,
) -> Result<T, Fault> {
    in_time(ctx, STEP_LIMIT, Vendor::Stripe, doing, step).await
}

fn attempt(ctx: &ActivityContext) -> Attempt {
    Attempt(ctx.info().attempt)
}

impl PaymentDesk {
    /// Staff's retry is an activity of its own, which the machine's tries are not.
    fn stripe_in_run(&self, ctx: &ActivityContext) -> StripeApi {
        let info = ctx.info();
        self.stripe.in_run(&[info.workflow_run_id.as_deref().unwrap_or_default(), info.activity_id.as_str()])
    }

    async fn opened(&self, order: OrderId, attempt: Attempt) -> Result<CheckoutRef, Fault> {
        let Some(brief) = self.store.brief(order).await? else {
            return Err(Vendor::Database.give_up("opening the payment page", format!("there is no order {order}")));
        };
        if let (Some(session), Some(_)) = (&brief.stripe_session_id, &brief.checkout_url) {
            return Ok(CheckoutRef { order, session: session.clone() });
        }
        let customer_id = self.customer(&brief, attempt).await?;
        let asked = CheckoutOrder {
            order,
            account: brief.account,
            service: brief.service,
            customer_id: &customer_id,
            price_id: &brief.stripe_price_id,
            trial_days: brief.trial_days,
            site_url: self.site_url.trim_end_matches('/'),
            ordered: [
                ("plan", brief.plan_slug.clone()),
                ("term", brief.term.to_string()),
                ("currency", brief.money.currency.as_str().to_owned()),
                ("hostname", brief.hostname.clone()),
                ("image", brief.image_slug.clone()),
            ],
        };
        let opened = self.stripe.open_checkout(&asked, attempt).await?;
        self.store.record_checkout(order, &opened.session, &opened.url).await?;
        Ok(CheckoutRef { order, session: opened.session })
    }

    /// An order whose page may have been opened without our hearing of it names no session: it is looked for.
    async fn closed(&self, checkout: CheckoutRef, attempt: Attempt) -> Result<CheckoutState, Fault> {
        let CheckoutRef { order, mut session } = checkout;
        if session.is_empty() {
            let Some(brief) = self.store.brief(order).await? else { return Ok(CheckoutState::Expired) };
            let found = match (brief.stripe_session_id, brief.stripe_customer_id) {
                (Some(known), _) => Some(known),
                (None, Some(customer)) => self.stripe.find_checkout(&customer, order).await?,
                (None, None) => None,
            };
            let Some(found) = found else { return Ok(CheckoutState::Expired) };
            session = found;
        }
        self.stripe.expire_checkout(order, &session, attempt).await
    }

    async fn customer(&self, brief: &OrderBrief, attempt: Attempt) -> Result<String, Fault> {
        if let Some(known) = &brief.stripe_customer_id {
            return Ok(known.clone());
        }
        let deleted = self.store.deleted_customers(brief.account).await?;
        let buyer = Buyer { account: brief.account, name: &brief.customer_name, email: &brief.customer_email, deleted };
        let made = self.stripe.ensure_customer(&buyer, attempt).await?;
        Ok(self.store.set_stripe_customer(brief.account, &made).await?)
    }

    /// Asks for a report and mirrors its period and invoices. When it was read is told by the database's clock, which is the same for
    /// every worker, whatever its own clock says.
    async fn mirrored(
        &self,
        id: &SubscriptionId,
        asked: impl Future<Output = Result<SubscriptionReport, Fault>> + Send,
    ) -> Result<SubscriptionView, Fault> {
        let (clock, told) = (self.store.clock().await?, Instant::now());
        let report = asked.await?;
        let read_at = clock + report.read_at.saturating_duration_since(told);
        self.store.put_period(id, &report.view, &report.invoices, read_at).await?;
        Ok(report.view)
    }
}
