//! Another plan: its memory is held first, then it is paid for, then the machine is fitted to it.
//!
//! ```text
//! now: room -> charged at Stripe -> done | refused: the room is given back
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
    ids::SubscriptionId,
    instruction::{Instruction, InstructionState},
    order::Step,
    service::ServiceStatus,
};
use temporalio_workflow::WorkflowContext;

use crate::{
    attention::{Halt, ask, attempt, record},
    instructions::{at_stripe, refused},
    patience,
    subscription::{Subscription, services},
    suspend::{building, write},
};

/// Changes to another price for exactly what was shown. Nothing is charged when there is no room for it.
pub(crate) async fn change(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
    price: &str,
) -> Result<InstructionOutcome, Halt> {
    let subscription = ctx.state(Subscription::id);
    let stage = |stage| PlanChange { subscription: subscription.clone(), price: price.to_owned(), stage };
    match record(ctx, Ledger::change_plan, stage(PlanStage::Room)).await? {
        PlanChanged::Done => {}
        cannot => return Ok(refused(why(cannot))),
    }
    let outcome = at_stripe(ctx, instruction).await?;
    if outcome.state != InstructionState::Done {
        record(ctx, Ledger::change_plan, stage(PlanStage::GiveBack)).await?;
    }
    Ok(outcome)
}

/// Changes to another price when the period ends. Nothing is charged, and no room is held: a look finds the new price.
pub(crate) async fn change_at_end(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
    price: &str,
) -> Result<InstructionOutcome, Halt> {
    let subscription = ctx.state(Subscription::id);
    let check = PlanChange { subscription, price: price.to_owned(), stage: PlanStage::Check };
    match record(ctx, Ledger::change_plan, check).await? {
        PlanChanged::Done => at_stripe(ctx, instruction).await,
        cannot => Ok(refused(why(cannot))),
    }
}

fn why(cannot: PlanChanged) -> &'static str {
    match cannot {
        PlanChanged::Done => "",
        PlanChanged::NoRoom => "Where your server is, there is not enough memory left. Please write to us.",
        PlanChanged::Shrinks => "The disk of your server would have to shrink, and that is not possible.",
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
    let stage = |stage| PlanChange { subscription: id.clone(), price: price.to_owned(), stage };
    let changed = record(ctx, Ledger::change_plan, stage(PlanStage::Apply)).await?;
    if changed != PlanChanged::Done {
        let reason = format!("Stripe charges {price} now, but the server was not changed. {}", why(changed));
        let verdict = ask(ctx, Step::Fit, reason).await?;
        return Ok(matches!(verdict, Verdict::Skip { .. }));
    }
    let nth = ctx.state(|s| s.standing_ref().fitted);
    for service in services(ctx, id).await? {
        if service.status == ServiceStatus::Provisioning {
            return building(ctx).await;
        }
        let fitting = Fitting { machine: service.machine.clone(), runs: service.status == ServiceStatus::Running };
        attempt(ctx, Step::Fit, Machine::fit, fitting, patience::task).await?;
        write(ctx, LetterKind::ServiceResized, id, &service, &format!("{price}/{nth}")).await?;
    }
    record(ctx, Ledger::change_plan, stage(PlanStage::GiveBack)).await?;
    Ok(true)
}
