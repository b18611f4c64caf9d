//! What people told a subscription to do: carried out one after the other, before its next look at Stripe.
//!
//! ```text
//! update `instruct` -> told (kept from run to run) -> written down -> carried out -> what became of it, once
//! ```
use contract::{
    ledger::{InstructionNote, InstructionOutcome, Ledger},
    letter::LetterKind,
    payment::{CarriedOut, Errand, Payment},
};
use domain::{
    UnixSecs,
    billing::Phase,
    instruction::{Ask, Instruction, InstructionState},
    order::Step,
};
use temporalio_workflow::WorkflowContext;

use crate::{
    attention::{Halt, Outcome, attempt_at_once, record},
    plan, remove,
    subscription::Subscription,
    suspend,
    wait::now,
};

/// Carries out everything that was told, oldest first.
pub(crate) async fn carry_out(ctx: &WorkflowContext<Subscription>) -> Result<(), Halt> {
    while let Some(instruction) = ctx.state(Subscription::told_first) {
        // One that an earlier run has seen to, told once more, is over.
        if noted(ctx, &instruction, None).await? == InstructionState::Accepted {
            // What waits is written down when it has come to its end.
            if let Some(outcome) = perform(ctx, &instruction).await? {
                noted(ctx, &instruction, Some(outcome)).await?;
            }
        }
        ctx.state_mut(|s| s.told_over(&instruction));
    }
    Ok(())
}

/// Says of everything that still waits that it cannot be done any more.
pub(crate) async fn refuse(ctx: &WorkflowContext<Subscription>, why: &str) -> Result<(), Halt> {
    while let Some(instruction) = ctx.state(Subscription::told_first) {
        noted(ctx, &instruction, Some(refused(why))).await?;
        ctx.state_mut(|s| s.told_over(&instruction));
    }
    Ok(())
}

/// Writes down what became of an instruction that waited.
pub(crate) async fn settle(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
    outcome: InstructionOutcome,
) -> Result<(), Halt> {
    noted(ctx, instruction, Some(outcome)).await.map(drop)
}

async fn noted(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
    outcome: Option<InstructionOutcome>,
) -> Result<InstructionState, Halt> {
    let subscription = ctx.state(Subscription::id);
    let note = InstructionNote { subscription, instruction: instruction.clone(), outcome };
    record(ctx, Ledger::note_instruction, note).await
}

/// Gives what became of it; nothing while it waits.
async fn perform(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
) -> Result<Option<InstructionOutcome>, Halt> {
    if let Some(why) = instruction.fault(Some(now(ctx))) {
        return Ok(Some(refused(why)));
    }
    match instruction.what {
        Ask::Hold { until } => {
            ctx.state_mut(|s| s.hold_until(Some(until)));
            Ok(Some(done(None)))
        }
        Ask::Release => {
            ctx.state_mut(|s| s.hold_until(None));
            Ok(Some(done(None)))
        }
        Ask::Restore { until } => restore(ctx, instruction, until).await.map(Some),
        Ask::ChangePlan { ref price, .. } => plan::change(ctx, instruction, price).await,
        Ask::ChangePlanAtEnd { ref price } => plan::change_at_end(ctx, instruction, price).await.map(Some),
        Ask::KeepPlan => plan::keep(ctx, instruction).await.map(Some),
        Ask::RemoveServer { service } => remove::ask(ctx, instruction, service).await,
        Ask::KeepServer { service } => remove::keep(ctx, instruction, service).await.map(Some),
        _ => at_stripe(ctx, instruction).await.map(Some),
    }
}

/// Starts again what was stopped at the end, and holds, so that the next look does not stop it once more.
async fn restore(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
    until: UnixSecs,
) -> Result<InstructionOutcome, Halt> {
    let (id, phase) = ctx.state(|s| (s.id(), s.standing_ref().phase));
    if !matches!(phase, Phase::Suspended | Phase::Retained) {
        return Ok(refused("Nothing of it is stopped."));
    }
    suspend::start_again(ctx, &id, LetterKind::ServiceRestored, &instruction.id.to_string()).await?;
    let at = now(ctx);
    ctx.state_mut(|s| {
        s.restored(at);
        s.hold_until(Some(until));
    });
    Ok(done(None))
}

/// Carries it out at Stripe; one that would have to wait cannot be.
pub(crate) async fn at_stripe(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
) -> Result<InstructionOutcome, Halt> {
    let outcome = carried_out(ctx, instruction, false).await?;
    Ok(outcome.unwrap_or_else(|| refused("It waits for its payment.")))
}

/// The same, for whom `may_wait`; gives nothing while it waits for its payment.
pub(crate) async fn carried_out(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
    may_wait: bool,
) -> Result<Option<InstructionOutcome>, Halt> {
    let errand = Errand { subscription: ctx.state(Subscription::id), instruction: instruction.clone(), may_wait };
    Ok(Some(match attempt_at_once(ctx, Step::CarryOut, Payment::carry_out, errand).await {
        Ok(Outcome::Ran(CarriedOut::Done { object })) => done(object),
        Ok(Outcome::Ran(CarriedOut::Refused { why })) => refused(&why),
        Ok(Outcome::Ran(CarriedOut::Waits)) => return Ok(None),
        Ok(Outcome::ByHand(object)) => InstructionOutcome { words: Some("Done by hand.".to_owned()), ..done(object) },
        Err(Halt::Abandoned { reason }) => refused(&format!("Given up by staff: {reason}")),
        Err(halt) => return Err(halt),
    }))
}

pub(crate) fn done(object: Option<String>) -> InstructionOutcome {
    InstructionOutcome { state: InstructionState::Done, words: None, object }
}

pub(crate) fn refused(why: &str) -> InstructionOutcome {
    InstructionOutcome { state: InstructionState::Refused, words: Some(why.to_owned()), object: None }
}
