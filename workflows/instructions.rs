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
    plan,
    subscription::Subscription,
    suspend,
    wait::now,
};

/// Carries out everything that was told, oldest first.
pub(crate) async fn carry_out(ctx: &WorkflowContext<Subscription>) -> Result<(), Halt> {
    while let Some(instruction) = ctx.state(Subscription::told_first) {
        // One that an earlier run has seen to, told once more, is over.
        if noted(ctx, &instruction, None).await? == InstructionState::Accepted {
            let outcome = perform(ctx, &instruction).await?;
            noted(ctx, &instruction, Some(outcome)).await?;
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

async fn noted(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
    outcome: Option<InstructionOutcome>,
) -> Result<InstructionState, Halt> {
    let subscription = ctx.state(Subscription::id);
    let note = InstructionNote { subscription, instruction: instruction.clone(), outcome };
    record(ctx, Ledger::note_instruction, note).await
}

async fn perform(ctx: &WorkflowContext<Subscription>, instruction: &Instruction) -> Result<InstructionOutcome, Halt> {
    if let Some(why) = instruction.fault(Some(now(ctx))) {
        return Ok(refused(why));
    }
    match instruction.what {
        Ask::Hold { until } => {
            ctx.state_mut(|s| s.hold_until(Some(until)));
            Ok(done(None))
        }
        Ask::Release => {
            ctx.state_mut(|s| s.hold_until(None));
            Ok(done(None))
        }
        Ask::Restore { until } => restore(ctx, instruction, until).await,
        Ask::ChangePlan { ref price, .. } => plan::change(ctx, instruction, price).await,
        Ask::ChangePlanAtEnd { ref price } => plan::change_at_end(ctx, instruction, price).await,
        _ => at_stripe(ctx, instruction).await,
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

pub(crate) async fn at_stripe(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
) -> Result<InstructionOutcome, Halt> {
    let errand = Errand { subscription: ctx.state(Subscription::id), instruction: instruction.clone() };
    match attempt_at_once(ctx, Step::CarryOut, Payment::carry_out, errand).await {
        Ok(Outcome::Ran(CarriedOut::Done { object })) => Ok(done(object)),
        Ok(Outcome::Ran(CarriedOut::Refused { why })) => Ok(refused(&why)),
        Ok(Outcome::ByHand(object)) => {
            Ok(InstructionOutcome { words: Some("Done by hand.".to_owned()), ..done(object) })
        }
        Err(Halt::Abandoned { reason }) => Ok(refused(&format!("Given up by staff: {reason}"))),
        Err(halt) => Err(halt),
    }
}

fn done(object: Option<String>) -> InstructionOutcome {
    InstructionOutcome { state: InstructionState::Done, words: None, object }
}

pub(crate) fn refused(why: &str) -> InstructionOutcome {
    InstructionOutcome { state: InstructionState::Refused, words: Some(why.to_owned()), object: None }
}
