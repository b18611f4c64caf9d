//! clone → configure → resize → protect → start → answer → name
use contract::{
    ledger::{Ledger, Reserved},
    machine::{CloneOutcome, Machine, MachineRef},
    name::Name,
};
use domain::{
    ids::Vmid,
    order::{Step, StepState},
};
use temporalio_workflow::{WorkflowContext, common::ActivityDefinition};

use crate::{
    attention::{Attended, Halt, Outcome, Patience, attempt, note, record},
    patience,
    undo::{Promise, Undo},
};

/// How many machine numbers may turn out to be somebody else's before the order is given up.
const RENUMBER_LIMIT: u32 = 20;

/// Builds the machine of an order. What was begun stands in `undo`, whatever happens.
pub(crate) async fn provision<W: Attended>(
    ctx: &WorkflowContext<W>,
    undo: &mut Undo,
    machine: MachineRef,
) -> Result<(), Halt> {
    let machine = clone(ctx, undo, machine).await?;
    build(ctx, Step::Configure, Machine::configure, &machine, patience::task).await?;
    build(ctx, Step::Resize, Machine::resize, &machine, patience::task).await?;
    build(ctx, Step::Protect, Machine::protect, &machine, patience::task).await?;
    build(ctx, Step::Start, Machine::start, &machine, patience::task).await?;
    build(ctx, Step::Answer, Machine::answer, &machine, patience::task).await?;

    note(ctx, Step::Name, StepState::Running).await?;
    undo.promise(Promise::Withdraw(machine.order));
    let named = attempt(ctx, Step::Name, Name::publish, machine.order, patience::call).await?;
    finish(ctx, Step::Name, &named).await
}

async fn clone<W: Attended>(
    ctx: &WorkflowContext<W>,
    undo: &mut Undo,
    mut machine: MachineRef,
) -> Result<MachineRef, Halt> {
    note(ctx, Step::Clone, StepState::Running).await?;
    for _ in 0..RENUMBER_LIMIT {
        undo.promise(Promise::Destroy(machine.clone()));
        match attempt(ctx, Step::Clone, Machine::clone_template, machine.clone(), patience::task).await? {
            Outcome::Ran(CloneOutcome::Cloned) => {
                return Ok(machine);
            }
            Outcome::Ran(CloneOutcome::Taken) => {
                undo.forget_last();
                machine = match record(ctx, Ledger::renumber, machine).await? {
                    Reserved::Held(next) => next,
                    Reserved::SoldOut => return Err(no_number_left()),
                };
            }
            Outcome::ByHand(number) => {
                machine.vmid = number.and_then(|n| n.trim().parse().ok()).map_or(machine.vmid, Vmid);
                undo.promise(Promise::Destroy(machine.clone()));
                record(ctx, Ledger::adopt_number, machine.clone()).await?;
                note(ctx, Step::Clone, StepState::Skipped).await?;
                return Ok(machine);
            }
        }
    }
    Err(no_number_left())
}

fn no_number_left() -> Halt {
    Halt::Abandoned { reason: "no free machine number was left".to_owned() }
}

async fn build<W, A>(
    ctx: &WorkflowContext<W>,
    step: Step,
    activity: A,
    machine: &MachineRef,
    patience: Patience,
) -> Result<(), Halt>
where
    W: Attended,
    A: ActivityDefinition<Input = MachineRef, Output = ()> + 'static,
{
    note(ctx, step, StepState::Running).await?;
    let built = attempt(ctx, step, activity, machine.clone(), patience).await?;
    finish(ctx, step, &built).await
}

/// A step that ran is done as soon as the next one begins; only one done by hand is written down by itself.
async fn finish<W: Attended>(ctx: &WorkflowContext<W>, step: Step, outcome: &Outcome<()>) -> Result<(), Halt> {
    match outcome {
        Outcome::Ran(()) => Ok(()),
        Outcome::ByHand(_) => note(ctx, step, StepState::Skipped).await,
    }
}
