//! Promises to take a step back. A promise is made *before* its step is tried, and kept in reverse; of an order that is late
//! those about money are kept first.
use contract::{
    ledger::{ClosedOrder, Ledger},
    machine::{Machine, MachineRef},
    name::Name,
    order::GivenUp,
    payment::{CheckoutRef, CheckoutState, Payment, RefundInput},
};
use domain::{
    ids::OrderId,
    order::{OrderStatus, Step, StepState},
};
use temporalio_workflow::WorkflowContext;

use crate::{
    attention::{Attended, Halt, Outcome, attempt, note, record, settle_cancelled},
    notify, patience,
    wait::wait,
};

/// How often a payment that is on its way is looked at, before it can be given back; each look waits twice as long.
const PROCESSING_POLL_SECS: i64 = 30;
/// The longest it waits.
const PROCESSING_POLL_LIMIT_SECS: i64 = 3_600;

/// How one step is taken back. Each treats "not there" as done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Close the payment page, and give the money back if it was paid meanwhile.
    CloseCheckout(CheckoutRef),
    /// Give the money back and end the subscription.
    Refund(RefundInput),
    /// Destroy the machine.
    Destroy(MachineRef),
    /// Remove the published names.
    Withdraw(OrderId),
}

impl Promise {
    fn is_about_money(&self) -> bool {
        matches!(self, Self::CloseCheckout(_) | Self::Refund(_))
    }
}

/// The promises made so far.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    promises: Vec<Promise>,
}

impl Undo {
    /// Promises to take a step back. Called before the step is tried; the same promise again is one.
    pub(crate) fn promise(&mut self, promise: Promise) {
        if self.promises.last() != Some(&promise) {
            self.promises.push(promise);
        }
    }

    /// Promises again what an order had promised that was being given up when its workflow was lost, and says why it was.
    pub(crate) fn resume(&mut self, given_up: GivenUp, machine: &MachineRef) -> Halt {
        let order = machine.order;
        if let Some(subscription) = given_up.subscription {
            self.promise(Promise::Refund(RefundInput { order, subscription }));
        }
        if given_up.begun.contains(&Step::Clone) {
            self.promise(Promise::Destroy(machine.clone()));
        }
        if given_up.begun.contains(&Step::Name) {
            self.promise(Promise::Withdraw(order));
        }
        Halt::Abandoned { reason: given_up.reason }
    }

    /// Takes the last promise back: its step was found not to have happened.
    pub(crate) fn forget_last(&mut self) {
        self.promises.pop();
    }

    /// Gives an order up: keeps every promise, closes the order with why, and says whether money went back. What was waited
    /// for when it was cancelled is settled first.
    pub(crate) async fn abandon<W: Attended>(
        self,
        ctx: &WorkflowContext<W>,
        order: OrderId,
        halt: Halt,
    ) -> Result<bool, Halt> {
        let is_late = matches!(halt, Halt::Late);
        let reason = halt.reason();
        ctx.state_mut(|s| s.desk_mut().detach());
        settle_cancelled(ctx, &reason).await;
        let owes_money = self.promises.iter().any(Promise::is_about_money);
        let refunded = if is_late && owes_money && ctx.patched("what-is-late-is-paid-back-first") {
            self.keep_about_money_first(ctx, order).await?
        } else {
            self.keep(ctx).await?
        };
        let closed = ClosedOrder { order, status: OrderStatus::Abandoned, reason, refunded };
        record(ctx, Ledger::close_order, closed).await?;
        Ok(refunded)
    }

    /// Keeps the promises about money and writes to the customer, then keeps the others: a vendor that is away, and so made
    /// the order late, keeps nobody's money.
    async fn keep_about_money_first<W: Attended>(self, ctx: &WorkflowContext<W>, order: OrderId) -> Result<bool, Halt> {
        let (money, others): (Vec<_>, Vec<_>) = self.promises.into_iter().partition(Promise::is_about_money);
        let refunded = Self { promises: money }.keep(ctx).await?;
        if refunded {
            notify::abandoned(ctx, order).await?;
        }
        Self { promises: others }.keep(ctx).await?;
        Ok(refunded)
    }

    /// Keeps every promise, the last one first, and says whether money went back. A step back that fails waits for staff
    /// like any other.
    async fn keep<W: Attended>(self, ctx: &WorkflowContext<W>) -> Result<bool, Halt> {
        let mut refunded = false;
        for promise in self.promises.into_iter().rev() {
            match promise {
                Promise::CloseCheckout(session) => refunded |= close_checkout(ctx, session).await?,
                Promise::Refund(paid) => {
                    refund(ctx, paid).await?;
                    refunded = true;
                }
                Promise::Destroy(machine) => {
                    attempt(ctx, Step::Destroy, Machine::destroy, machine, patience::task).await?;
                    note(ctx, Step::Clone, StepState::Undone).await?;
                }
                Promise::Withdraw(order) => {
                    attempt(ctx, Step::Unname, Name::withdraw, order, patience::call).await?;
                    note(ctx, Step::Name, StepState::Undone).await?;
                }
            }
        }
        Ok(refunded)
    }
}

async fn refund<W: Attended>(ctx: &WorkflowContext<W>, paid: RefundInput) -> Result<(), Halt> {
    attempt(ctx, Step::Refund, Payment::refund, paid, patience::call).await?;
    note(ctx, Step::Payment, StepState::Undone).await
}

/// Closes the payment page, and says whether it had been paid meanwhile and the money went back.
async fn close_checkout<W: Attended>(ctx: &WorkflowContext<W>, session: CheckoutRef) -> Result<bool, Halt> {
    let mut poll_secs = PROCESSING_POLL_SECS;
    loop {
        let closed = attempt(ctx, Step::Checkout, Payment::expire_checkout, session.clone(), patience::call).await?;
        match closed {
            Outcome::Ran(CheckoutState::Paid { subscription }) => {
                refund(ctx, RefundInput { order: session.order, subscription }).await?;
                return Ok(true);
            }
            Outcome::Ran(CheckoutState::Open | CheckoutState::Processing) => {
                wait(ctx, poll_secs, "a payment is on its way", |_| false).await?;
                poll_secs = (poll_secs * 2).min(PROCESSING_POLL_LIMIT_SECS);
            }
            Outcome::Ran(CheckoutState::Expired) | Outcome::ByHand(_) => {
                note(ctx, Step::Checkout, StepState::Undone).await?;
                return Ok(false);
            }
        }
    }
}
