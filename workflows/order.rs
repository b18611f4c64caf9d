//! The order workflow: one request for one service.
//!
//! ```text
//! reserve --nothing free--> sold out
//!    v
//! checkout -> paid ----------------> provision -> delivered -> notify
//!    |          (signal or own look)     |
//!    '-- window over --> lapsed          '-- given up, or late --> undone, refunded, abandoned
//! ```
use std::pin::pin;

use contract::{
    WORKFLOW_TASK_LIMIT,
    attention::{Decision, Waiting},
    ledger::{AttentionSubject, ClosedOrder, Ledger, PaidOrder, Reserved},
    order::{CheckoutReply, OrderInput, OrderOutcome, PaymentReported},
    payment::{CheckoutRef, CheckoutState, Payment, RefundInput},
    subscription::SubscriptionInput,
};
use domain::{
    billing::Standing,
    ids::SubscriptionId,
    order::{OrderStatus, Step, StepState},
};
use temporalio_workflow::{
    ChildWorkflowOptions, ParentClosePolicy, SyncWorkflowContext, WorkflowCancellationToken, WorkflowContext,
    WorkflowContextView, WorkflowIdReusePolicy, WorkflowResult, join, workflow, workflow_methods,
};

use crate::{
    attention::{Attended, Desk, Halt, Outcome, attempt, attempt_at_once, note, record, show},
    notify, patience,
    promise::{self, Delivery, Promised},
    provision::provision,
    search,
    subscription::Subscription,
    undo::{Promise, Undo},
    wait::{now, wait},
};

/// How often a payment that takes days (a bank debit) is looked at by ourselves; Stripe reports its end at once.
const PROCESSING_POLL_SECS: i64 = 3_600;

type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// One order, from its reservation to its delivery.
#[workflow]
pub struct Order {
    input: OrderInput,
    desk: Desk,
    status: OrderStatus,
    reply: Option<CheckoutReply>,
    reports: u64,
    delivery: Delivery,
}

impl Attended for Order {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn desk_mut(&mut self) -> &mut Desk {
        &mut self.desk
    }

    fn stage(&self) -> &'static str {
        self.status.as_str()
    }
}

impl Promised for Order {
    fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    fn delivery_mut(&mut self) -> &mut Delivery {
        &mut self.delivery
    }
}

#[workflow_methods]
impl Order {
    #[init]
    fn new(_ctx: &WorkflowContextView, input: OrderInput) -> Self {
        let subject = AttentionSubject::Order(input.order);
        let desk = Desk::new(subject, input.policy.order.step_patience_secs, true).after(input.attention_raised);
        let delivery = Delivery::within(input.policy.order.deliver_within_secs);
        Self { input, desk, status: OrderStatus::AwaitingPayment, reply: None, reports: 0, delivery }
    }

    /// Ends when the order is delivered, lapsed, sold out or abandoned.
    #[run(name = "order")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<OrderOutcome> {
        let mut undo = Undo::default();
        let status = match Self::fulfil(ctx, &mut undo).await {
            Ok(status) => status,
            Err(halt) => Self::give_up(ctx, undo, halt).await?,
        };
        Self::reach(ctx, status);
        ctx.state_mut(|s| {
            s.reply.get_or_insert(CheckoutReply::Closed);
        });
        let handlers = ctx.clone();
        ctx.wait_condition(move |_| handlers.all_handlers_finished()).await?;
        Ok(OrderOutcome { status })
    }

    /// Something happened to this order at Stripe: look there. Any number of these, in any order, is one look.
    #[signal(name = "payment_reported")]
    pub fn payment_reported(&mut self, _ctx: &mut SyncWorkflowContext<Self>, _report: PaymentReported) {
        self.reports += 1;
    }

    /// Refuses an order that belongs to somebody else.
    #[update_validator(checkout)]
    fn check_checkout(&self, _ctx: &WorkflowContextView, input: &OrderInput) -> Result<(), Refusal> {
        if input.account == self.input.account { Ok(()) } else { Err("This order does not exist.".into()) }
    }

    /// Waits until the payment page is open, and says so.
    #[update(name = "checkout")]
    pub async fn checkout(ctx: &mut WorkflowContext<Self>, _input: OrderInput) -> Result<CheckoutReply, Refusal> {
        ctx.wait_condition(|s| s.reply.is_some() || s.desk.waiting().is_some()).await?;
        Ok(ctx.state(|s| s.reply.unwrap_or(CheckoutReply::Delayed)))
    }

    /// What waits for staff, if anything.
    #[query(name = "attention")]
    pub fn attention(&self, _ctx: &WorkflowContextView) -> Option<Waiting> {
        self.desk.waiting().cloned()
    }

    /// Refuses a decision that does not fit what waits.
    #[update_validator(decide)]
    fn check_decision(&self, _ctx: &WorkflowContextView, decision: &Decision) -> Result<(), Refusal> {
        self.desk.refusal(decision).map_or(Ok(()), |why| Err(why.into()))
    }

    /// Takes a staff decision about the step that waits.
    #[update(name = "decide")]
    pub fn decide(&mut self, _ctx: &mut SyncWorkflowContext<Self>, decision: Decision) {
        self.desk.take(decision);
    }

    /// The same as a signal, for Temporal UI; one that does not fit what waits is ignored.
    #[signal(name = "decided")]
    pub fn decided(&mut self, _ctx: &mut SyncWorkflowContext<Self>, decision: Decision) {
        self.desk.take(decision);
    }

    async fn fulfil(ctx: &mut WorkflowContext<Self>, undo: &mut Undo) -> Result<OrderStatus, Halt> {
        let input = ctx.state(|s| s.input.clone());
        let Reserved::Held(machine) = record(ctx, Ledger::reserve, input.clone()).await? else {
            ctx.state_mut(|s| s.reply = Some(CheckoutReply::SoldOut));
            return Ok(OrderStatus::SoldOut);
        };
        // The session has no id yet; the promise finds it by its order.
        undo.promise(Promise::CloseCheckout(CheckoutRef { order: input.order, session: String::new() }));
        if let Some(given_up) = input.given_up.clone() {
            ctx.state_mut(|s| s.reply = Some(CheckoutReply::Closed));
            if given_up.subscription.is_some() {
                Self::reach(ctx, OrderStatus::Provisioning);
            }
            return Err(undo.resume(given_up, &machine));
        }
        let session = Self::open_checkout(ctx, &input).await?;
        let Some(subscription) = Self::await_payment(ctx, session).await? else {
            let reason = "not paid in time".to_owned();
            let closed = ClosedOrder { order: input.order, status: OrderStatus::Lapsed, reason, refunded: false };
            record(ctx, Ledger::close_order, closed).await?;
            return Ok(OrderStatus::Lapsed);
        };
        undo.promise(Promise::Refund(RefundInput { order: input.order, subscription: subscription.clone() }));
        record(ctx, Ledger::paid, PaidOrder { order: input.order, subscription: subscription.clone() }).await?;
        Self::reach(ctx, OrderStatus::Provisioning);
        let life = pin!(Self::start_subscription(ctx, &input, subscription));
        let built = pin!(promise::kept(ctx, provision(ctx, undo, machine)));
        let ((), built) = join!(life, built);
        built?;
        ctx.state_mut(|s| s.desk.detach());
        record(ctx, Ledger::delivered, input.order).await?;
        Ok(OrderStatus::Delivered)
    }

    async fn open_checkout(ctx: &WorkflowContext<Self>, input: &OrderInput) -> Result<CheckoutRef, Halt> {
        let opened = attempt_at_once(ctx, Step::Checkout, Payment::open_checkout, input.order).await?;
        ctx.state_mut(|s| s.reply = Some(CheckoutReply::Ready));
        match opened {
            Outcome::Ran(session) => Ok(session),
            Outcome::ByHand(id) => {
                note(ctx, Step::Payment, StepState::Running).await?;
                Ok(CheckoutRef { order: input.order, session: id.unwrap_or_default() })
            }
        }
    }

    /// Waits for the payment: whichever comes first of a report and the order's own look. At the end of the window the
    /// page is closed at Stripe, and what Stripe says about that counts: a payment that slipped in is honoured.
    async fn await_payment(ctx: &WorkflowContext<Self>, session: CheckoutRef) -> Result<Option<SubscriptionId>, Halt> {
        show(ctx, Step::Payment, StepState::Running);
        let policy = ctx.state(|s| s.input.policy.order.clone());
        let poll_secs = i64::try_from(policy.checkout_poll_secs).unwrap_or(i64::MAX).max(1);
        let deadline = now(ctx).saturating_add(i64::try_from(policy.payment_window_secs).unwrap_or(i64::MAX));
        let mut open = true;
        let mut heard = 0;
        loop {
            // A run of the first release forgot what it was told before it began to wait.
            if ctx.state(|s| s.reports) != heard && !ctx.patched("a-report-before-the-wait-counts") {
                heard = ctx.state(|s| s.reports);
            }
            let left_secs =
                if open { (deadline - now(ctx)).clamp(0, poll_secs) } else { poll_secs.max(PROCESSING_POLL_SECS) };
            if ctx.state(|s| s.reports) == heard {
                wait(ctx, left_secs, "look at the payment", move |s: &Self| s.reports != heard).await?;
            }
            heard = ctx.state(|s| s.reports);
            let over = open && now(ctx) >= deadline;
            let look = session.clone();
            let state = if over {
                attempt(ctx, Step::Payment, Payment::expire_checkout, look, patience::call).await?
            } else {
                attempt_at_once(ctx, Step::Payment, Payment::read_checkout, look).await?
            };
            match state {
                Outcome::Ran(CheckoutState::Open) => open = true,
                Outcome::Ran(CheckoutState::Processing) => open = false,
                Outcome::Ran(CheckoutState::Paid { subscription }) => return Ok(Some(subscription)),
                Outcome::Ran(CheckoutState::Expired) => return Ok(None),
                Outcome::ByHand(id) => return Ok(id.map(|id| SubscriptionId(id.trim().to_owned()))),
            }
        }
    }

    /// From now on the subscription has a life of its own. One that lives already is success.
    async fn start_subscription(ctx: &WorkflowContext<Self>, input: &OrderInput, subscription: SubscriptionId) {
        let options = ChildWorkflowOptions::builder()
            .workflow_id(subscription.workflow_id())
            .task_timeout(WORKFLOW_TASK_LIMIT)
            .id_reuse_policy(WorkflowIdReusePolicy::RejectDuplicate)
            .parent_close_policy(ParentClosePolicy::Abandon)
            .cancellation_token(WorkflowCancellationToken::new())
            .search_attributes(search::at_start("subscription", "active", &input.account.to_string()))
            .static_summary(format!("Subscription of order {}", input.order))
            .build();
        let life = SubscriptionInput {
            subscription,
            account: input.account,
            policy: input.policy.subscription.clone(),
            standing: Standing::default(),
            attention_raised: 0,
            told: Vec::new(),
        };
        let _ = ctx.start_child_workflow(Subscription::run, life, options).await;
    }

    async fn give_up(ctx: &WorkflowContext<Self>, undo: Undo, halt: Halt) -> Result<OrderStatus, Halt> {
        let (order, paid) = ctx.state(|s| (s.input.order, s.status != OrderStatus::AwaitingPayment));
        let refunded = undo.abandon(ctx, order, halt).await?;
        // Paid on the page, although the order had not heard of it when it was given up.
        if paid || (refunded && ctx.patched("whoever-gets-money-back-is-told")) {
            notify::abandoned(ctx, order).await?;
        }
        Ok(OrderStatus::Abandoned)
    }

    fn reach(ctx: &WorkflowContext<Self>, status: OrderStatus) {
        ctx.state_mut(|s| s.status = status);
        search::stage(ctx, status.as_str());
    }
}
