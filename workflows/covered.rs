//! The workflow of an order that a subscription covers: one request for one further service, for which nothing is paid.
//!
//! ```text
//! reserve --no place--> sold out, with the reason
//!    v  (a place in the entitlement, and a machine's)
//! provision -> delivered -> notify
//!    '-- given up, or late --> undone, the place is free again, abandoned
//! ```
//! It is a workflow of its own, so that a worker of the release before, which would ask for money, leaves it alone.
use contract::{
    attention::{Decision, Waiting},
    ledger::{AttentionSubject, Ledger, Reserved},
    order::{CoverReply, OrderInput, OrderOutcome},
};
use domain::order::OrderStatus;
use temporalio_workflow::{
    SyncWorkflowContext, WorkflowContext, WorkflowContextView, WorkflowResult, workflow, workflow_methods,
};

use crate::{
    attention::{Attended, Desk, Halt, record},
    notify,
    promise::{self, Delivery, Promised},
    provision::provision,
    search,
    undo::Undo,
};

type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// One order that a subscription covers, from its reservation to its delivery.
#[workflow]
pub struct CoveredOrder {
    input: OrderInput,
    desk: Desk,
    status: OrderStatus,
    reply: Option<CoverReply>,
    delivery: Delivery,
}

impl Attended for CoveredOrder {
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

impl Promised for CoveredOrder {
    fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    fn delivery_mut(&mut self) -> &mut Delivery {
        &mut self.delivery
    }
}

#[workflow_methods]
impl CoveredOrder {
    #[init]
    fn new(_ctx: &WorkflowContextView, input: OrderInput) -> Self {
        let subject = AttentionSubject::Order(input.order);
        let desk = Desk::new(subject, input.policy.order.step_patience_secs, true).after(input.attention_raised);
        let delivery = Delivery::within(input.policy.order.deliver_within_secs);
        Self { input, desk, status: OrderStatus::Provisioning, reply: None, delivery }
    }

    /// Ends when the order is delivered, refused or abandoned.
    #[run(name = "covered_order")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<OrderOutcome> {
        let mut undo = Undo::default();
        let status = match Self::fulfil(ctx, &mut undo).await {
            Ok(status) => status,
            Err(halt) => Self::give_up(ctx, undo, halt).await?,
        };
        Self::reach(ctx, status);
        ctx.state_mut(|s| {
            s.reply.get_or_insert(CoverReply::Closed);
        });
        let handlers = ctx.clone();
        ctx.wait_condition(move |_| handlers.all_handlers_finished()).await?;
        Ok(OrderOutcome { status })
    }

    /// Refuses an order that belongs to somebody else.
    #[update_validator(begin)]
    fn check_begin(&self, _ctx: &WorkflowContextView, input: &OrderInput) -> Result<(), Refusal> {
        if input.account == self.input.account { Ok(()) } else { Err("This order does not exist.".into()) }
    }

    /// Waits until it is known whether there is a place, and says so.
    #[update(name = "begin")]
    pub async fn begin(ctx: &mut WorkflowContext<Self>, _input: OrderInput) -> Result<CoverReply, Refusal> {
        ctx.wait_condition(|s| s.reply.is_some() || s.desk.waiting().is_some()).await?;
        Ok(ctx.state(|s| s.reply.unwrap_or(CoverReply::Delayed)))
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

    async fn fulfil(ctx: &WorkflowContext<Self>, undo: &mut Undo) -> Result<OrderStatus, Halt> {
        let input = ctx.state(|s| s.input.clone());
        let Reserved::Held(machine) = record(ctx, Ledger::reserve, input.clone()).await? else {
            ctx.state_mut(|s| s.reply = Some(CoverReply::Refused));
            return Ok(OrderStatus::SoldOut);
        };
        ctx.state_mut(|s| s.reply = Some(CoverReply::Begun));
        Self::reach(ctx, OrderStatus::Provisioning);
        if let Some(given_up) = input.given_up {
            return Err(undo.resume(given_up, &machine));
        }
        promise::kept(ctx, provision(ctx, undo, machine)).await?;
        ctx.state_mut(|s| s.desk.detach());
        record(ctx, Ledger::delivered, input.order).await?;
        Ok(OrderStatus::Delivered)
    }

    async fn give_up(ctx: &WorkflowContext<Self>, undo: Undo, halt: Halt) -> Result<OrderStatus, Halt> {
        let (order, begun) = ctx.state(|s| (s.input.order, s.reply == Some(CoverReply::Begun)));
        undo.abandon(ctx, order, halt).await?;
        if begun {
            notify::abandoned(ctx, order).await?;
        }
        Ok(OrderStatus::Abandoned)
    }

    fn reach(ctx: &WorkflowContext<Self>, status: OrderStatus) {
        ctx.state_mut(|s| s.status = status);
        search::stage(ctx, status.as_str());
    }
}
