//! Another plan: its memory is held first, then it is paid for, then the machine is fitted to it.
//!
//! ```text
//! now: room -> charged at Stripe -> done | refused: the room is given back
//!                     '-> waits for the customer's bank -> a look finds the other price | Stripe drops it: given back
//! at the end of the period: checked -> Stripe changes the price when it turns
//! a look finds another price (by instruction, portal or dashboard): noted -> each machine fitted -> letter
//! ```
use contract::{
    attention::Verdict,
    ledger::{InstructionOutcome, Ledger, PlanChange, PlanChanged, PlanStage},
    letter::LetterKind,
    machine::{Fitting, Machine},
};
use domain::{
    billing::{Changing, SubscriptionView},
    ids::SubscriptionId,
    instruction::{Instruction, InstructionState},
    order::Step,
    service::ServiceStatus,
};
use temporalio_workflow::WorkflowContext;

use crate::{
    attention::{Halt, ask, attempt, record},
    instructions::{self, at_stripe, carried_out, done, refused},
    patience, renew,
    subscription::{Subscription, services},
    suspend::{building, write},
};

const WAITS_ALREADY: &str = "Another change waits for its payment. Confirm it, or keep your plan first.";
const NOT_PAID: &str = "It was not confirmed in time, so nothing was charged, and your plan stays as it is.";
const TAKEN_BACK: &str = "You kept your plan. Nothing was charged.";

/// Changes to another price for exactly what was shown. Nothing is charged when there is no room for it. Gives nothing while
/// the payment waits for the customer's bank; the room is held meanwhile.
pub(crate) async fn change(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
    price: &str,
) -> Result<Option<InstructionOutcome>, Halt> {
    let (subscription, waiting) = ctx.state(|s| (s.id(), s.standing_ref().changing.clone()));
    if waiting.as_ref().is_some_and(|waiting| waiting.instruction.id != instruction.id) {
        return Ok(Some(refused(WAITS_ALREADY)));
    }
    let stage = |stage| PlanChange {
        subscription: subscription.clone(),
        price: price.to_owned(),
        stage,
        counts: true,
        before: None,
    };
    match record(ctx, Ledger::change_plan, stage(PlanStage::Room)).await? {
        PlanChanged::Done | PlanChanged::SameSize => {}
        cannot => return Ok(Some(refused(why(cannot)))),
    }
    let may_wait = ctx.patched("a-change-may-wait-for-the-bank");
    let Some(outcome) = carried_out(ctx, instruction, may_wait).await? else {
        let changing = waiting.unwrap_or_else(|| Changing {
            instruction: instruction.clone(),
            price: price.to_owned(),
            asked: false,
            taken_back: false,
        });
        ctx.state_mut(|s| s.change_waits(changing));
        return Ok(None);
    };
    if outcome.state != InstructionState::Done {
        record(ctx, Ledger::change_plan, stage(PlanStage::GiveBack)).await?;
    }
    Ok(Some(outcome))
}

/// Changes to another price when the period ends. Nothing is charged, and no room is held: a look finds the new price.
pub(crate) async fn change_at_end(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
    price: &str,
) -> Result<InstructionOutcome, Halt> {
    let (subscription, waits) = ctx.state(|s| (s.id(), s.standing_ref().changing.is_some()));
    if waits {
        return Ok(refused(WAITS_ALREADY));
    }
    let check =
        PlanChange { subscription, price: price.to_owned(), stage: PlanStage::Check, counts: true, before: None };
    match record(ctx, Ledger::change_plan, check).await? {
        PlanChanged::Done | PlanChanged::SameSize => at_stripe(ctx, instruction).await,
        cannot => Ok(refused(why(cannot))),
    }
}

/// Keeps the plan that was to change: at the end of the period, or as soon as it would have been paid.
pub(crate) async fn keep(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
) -> Result<InstructionOutcome, Halt> {
    let outcome = at_stripe(ctx, instruction).await?;
    if outcome.state == InstructionState::Done {
        ctx.state_mut(Subscription::change_taken_back);
    }
    Ok(outcome)
}

/// Asks the customer to confirm the payment of a change with their bank, once for each change.
pub(crate) async fn ask_to_confirm(ctx: &WorkflowContext<Subscription>, id: &SubscriptionId) -> Result<bool, Halt> {
    if let Some(changing) = ctx.state(|s| s.standing_ref().changing.clone()) {
        renew::write(ctx, LetterKind::PlanConfirmation, id, &changing.instruction.id.to_string()).await?;
    }
    Ok(true)
}

/// Writes down that a change that waited was paid, and done.
pub(crate) async fn settle(ctx: &WorkflowContext<Subscription>, view: &SubscriptionView) -> Result<bool, Halt> {
    if let Some(changing) = ctx.state(|s| s.standing_ref().changing.clone()) {
        instructions::settle(ctx, &changing.instruction, done(view.paid_invoice.clone())).await?;
    }
    Ok(true)
}

/// Gives the room of a change back that was not paid, and says so, unless the customer wanted that or nothing is left.
pub(crate) async fn give_up(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    view: &SubscriptionView,
) -> Result<bool, Halt> {
    let Some(changing) = ctx.state(|s| s.standing_ref().changing.clone()) else { return Ok(true) };
    let (subscription, price) = (id.clone(), changing.price.clone());
    let give_back = PlanChange { subscription, price, stage: PlanStage::GiveBack, counts: true, before: None };
    record(ctx, Ledger::change_plan, give_back).await?;
    if !changing.taken_back && !view.status.has_ended() {
        renew::write(ctx, LetterKind::PlanUnchanged, id, &changing.instruction.id.to_string()).await?;
    }
    let words = if changing.taken_back { TAKEN_BACK } else { NOT_PAID };
    instructions::settle(ctx, &changing.instruction, refused(words)).await?;
    Ok(true)
}

fn why(cannot: PlanChanged) -> &'static str {
    match cannot {
        PlanChanged::Done | PlanChanged::SameSize => "",
        PlanChanged::NoRoom => "Where your server is, there is not enough memory left. Please write to us.",
        PlanChanged::Shrinks => "The disk of your server would have to shrink, and that is not possible.",
        PlanChanged::TooMany => "It covers fewer servers than you have. Remove some of them first.",
        PlanChanged::Unknown => "No plan of ours has that price.",
    }
}

/// Notes the price that is charged now and fits every machine to its plan. What cannot be waits for staff. Gives false when
/// it has to be looked first whether that is still so.
pub(crate) async fn reprice(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    price: &str,
) -> Result<bool, Halt> {
    let (before, nth) = ctx.state(|s| (s.standing_ref().price.clone(), s.standing_ref().fitted));
    let stage = |stage| PlanChange {
        subscription: id.clone(),
        price: price.to_owned(),
        stage,
        counts: true,
        before: before.clone().filter(|_| stage == PlanStage::Apply),
    };
    let changed = record(ctx, Ledger::change_plan, stage(PlanStage::Apply)).await?;
    if !matches!(changed, PlanChanged::Done | PlanChanged::SameSize) {
        let reason = format!("Stripe charges {price} now, but the server was not changed. {}", why(changed));
        let verdict = ask(ctx, Step::Fit, reason).await?;
        return Ok(matches!(verdict, Verdict::Skip { .. }));
    }
    let kind = if changed == PlanChanged::SameSize { LetterKind::TermChanged } else { LetterKind::ServiceResized };
    for service in services(ctx, id).await? {
        if service.status == ServiceStatus::Provisioning {
            return building(ctx).await;
        }
        let fitting = Fitting { machine: service.machine.clone(), runs: service.status == ServiceStatus::Running };
        attempt(ctx, Step::Fit, Machine::fit, fitting, patience::task).await?;
        if ctx.state(|s| s.standing_ref().leaving(service.machine.service).is_some()) {
            continue;
        }
        write(ctx, kind, id, &service, &format!("{price}/{nth}")).await?;
    }
    record(ctx, Ledger::change_plan, stage(PlanStage::GiveBack)).await?;
    Ok(true)
}
