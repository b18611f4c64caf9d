//! clone → configure → resize → protect → start → answer → name
//!
//! The machine's steps are done at one go by one activity, because each activity of its own costs the engine as much as the
//! whole. A step that does not succeed there at once goes on alone: patiently, and then before staff, who retry it, skip it
//! or give the order up. What comes after it is done at one go again.
use contract::{
    ledger::{Ledger, Reserved},
    machine::{Building, Built, CloneOutcome, Machine, MachineRef},
    name::Name,
};
use domain::{
    ids::Vmid,
    order::{Step, StepState},
};
use temporalio_workflow::{ActivityExecutionError, WorkflowContext, common::ActivityDefinition};

use crate::{
    attention::{Attended, Halt, Outcome, attempt, attempt_at_once, note, record, show},
    patience,
    undo::{Promise, Undo},
    wait::token_here,
};

/// How many machine numbers may turn out to be somebody else's before the order is given up.
const RENUMBER_LIMIT: u32 = 20;

/// Builds the machine of an order and names it. What was begun stands in `undo`, whatever happens.
pub(crate) async fn provision<W: Attended>(
    ctx: &WorkflowContext<W>,
    undo: &mut Undo,
    machine: MachineRef,
) -> Result<(), Halt> {
    let machine = build(ctx, undo, machine).await?;

    note(ctx, Step::Name, StepState::Running).await?;
    undo.promise(Promise::Withdraw(machine.order));
    let named = attempt_at_once(ctx, Step::Name, Name::publish, machine.order).await?;
    finish(ctx, Step::Name, &named).await
}

async fn build<W: Attended>(
    ctx: &WorkflowContext<W>,
    undo: &mut Undo,
    mut machine: MachineRef,
) -> Result<MachineRef, Halt> {
    let (mut from, mut renumbered) = (Step::Clone, 0);
    loop {
        if from == Step::Clone {
            undo.promise(Promise::Destroy(machine.clone()));
        }
        let stopped_at = match at_one_go(ctx, &machine, from).await? {
            Built::Ready => return Ok(machine),
            Built::Taken if renumbered == RENUMBER_LIMIT => return Err(no_number_left()),
            Built::Taken => {
                renumbered += 1;
                machine = renumber(ctx, undo, machine).await?;
                continue;
            }
            Built::Stopped { step, .. } => step,
        };
        from = match stopped_at {
            Step::Configure => alone(ctx, stopped_at, Machine::configure, &machine, Step::Resize).await?,
            Step::Resize => alone(ctx, stopped_at, Machine::resize, &machine, Step::Protect).await?,
            Step::Protect => alone(ctx, stopped_at, Machine::protect, &machine, Step::Start).await?,
            Step::Start => alone(ctx, stopped_at, Machine::start, &machine, Step::Answer).await?,
            Step::Answer => {
                alone(ctx, stopped_at, Machine::answer, &machine, Step::Name).await?;
                return Ok(machine);
            }
            _ => {
                machine = clone(ctx, undo, machine).await?;
                Step::Configure
            }
        };
    }
}

/// Runs every step from `from` on, each once. An activity that fails as a whole says no more than that it did not begin.
async fn at_one_go<W: Attended>(ctx: &WorkflowContext<W>, machine: &MachineRef, from: Step) -> Result<Built, Halt> {
    let (step_limit_secs, token) = (ctx.state(|s| s.desk().patience_secs()), token_here(ctx));
    show(ctx, from, StepState::Running);
    let building = Building { machine: machine.clone(), from, step_limit_secs };
    let options = patience::build(step_limit_secs, Some(token.clone()), "Build the server");
    match ctx.execute_activity(Machine::build, building, options).await {
        Ok(built) => Ok(built),
        Err(ActivityExecutionError::Cancelled(_)) => Err(Halt::Cancelled),
        Err(fault) => Ok(Built::Stopped { step: from, reason: fault.to_string() }),
    }
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
            Outcome::Ran(CloneOutcome::Cloned) => return Ok(machine),
            Outcome::Ran(CloneOutcome::Taken) => machine = renumber(ctx, undo, machine).await?,
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

/// Another number for an order whose number is somebody else's; nothing of that machine is ours to take back.
async fn renumber<W: Attended>(
    ctx: &WorkflowContext<W>,
    undo: &mut Undo,
    machine: MachineRef,
) -> Result<MachineRef, Halt> {
    undo.forget_last();
    match record(ctx, Ledger::renumber, machine).await? {
        Reserved::Held(next) => Ok(next),
        Reserved::SoldOut => Err(no_number_left()),
    }
}

fn no_number_left() -> Halt {
    Halt::Abandoned { reason: "no free machine number was left".to_owned() }
}

/// Runs one step by itself, as long as it takes, and gives the one after it.
async fn alone<W, A>(
    ctx: &WorkflowContext<W>,
    step: Step,
    activity: A,
    machine: &MachineRef,
    next: Step,
) -> Result<Step, Halt>
where
    W: Attended,
    A: ActivityDefinition<Input = MachineRef, Output = ()> + 'static,
{
    note(ctx, step, StepState::Running).await?;
    let done = attempt(ctx, step, activity, machine.clone(), patience::task).await?;
    finish(ctx, step, &done).await?;
    Ok(next)
}

/// A step that ran is done as soon as the next one begins; only one done by hand is written down by itself.
async fn finish<W: Attended>(ctx: &WorkflowContext<W>, step: Step, outcome: &Outcome<()>) -> Result<(), Halt> {
    match outcome {
        Outcome::Ran(()) => Ok(()),
        Outcome::ByHand(_) => note(ctx, step, StepState::Skipped).await,
    }
}
