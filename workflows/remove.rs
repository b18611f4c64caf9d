//! A further server that its customer takes away, one of several that a subscription covers.
//!
//! ```text
//! told -> stopped and kept (the instruction is done) -> destroyed, its place in the plan is free
//!   '---------'-- staff keep it after all: it runs again
//! ```
//! A subscription that ends as a whole takes it along.
use contract::{
    ledger::{InstructionOutcome, ServiceRef},
    letter::LetterKind,
    machine::Machine,
};
use domain::{
    billing::{Leaving, Phase},
    ids::{ServiceId, SubscriptionId},
    instruction::Instruction,
    order::Step,
    service::ServiceStatus,
};
use temporalio_workflow::WorkflowContext;

use crate::{
    attention::{Halt, attempt},
    expire,
    instructions::{done, refused, settle},
    patience,
    subscription::{Subscription, services},
    suspend::{building, change, change_until, stop, write},
    wait::now,
};

const GOES_ALREADY: &str = "It is being removed already.";
const NOT_THERE: &str = "There is no such server any more.";
const PAID_FOR: &str = "It is the server that the plan was begun for. Cancel the plan instead.";
const BEING_BUILT: &str = "It is still being set up. Remove it when it is ready.";
const ENDS_ALTOGETHER: &str = "The subscription has ended, and this server ends with it.";
const NOT_LEAVING: &str = "It is not being removed.";
const KEPT: &str = "Our staff kept it after all.";

/// Takes the wish that a further server goes. Gives what became of it; nothing while it is still to be stopped.
pub(crate) async fn ask(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
    service: ServiceId,
) -> Result<Option<InstructionOutcome>, Halt> {
    let (id, phase, known) =
        ctx.state(|s| (s.id(), s.standing_ref().phase, s.standing_ref().leaving(service).cloned()));
    if let Some(known) = known {
        return Ok(match (known.instruction.id == instruction.id, known.stopped_at) {
            (true, None) => None,
            (true, Some(_)) => Some(done(None)),
            (false, _) => Some(refused(GOES_ALREADY)),
        });
    }
    if matches!(phase, Phase::Retained | Phase::Expired) {
        return Ok(Some(refused(ENDS_ALTOGETHER)));
    }
    match find(ctx, &id, service).await? {
        None => Ok(Some(refused(NOT_THERE))),
        Some(found) if !found.covered => Ok(Some(refused(PAID_FOR))),
        Some(found) if found.status == ServiceStatus::Provisioning => Ok(Some(refused(BEING_BUILT))),
        Some(_) => {
            let leaving = Leaving { service, instruction: instruction.clone(), stopped_at: None };
            ctx.state_mut(|s| s.leaves(leaving));
            Ok(None)
        }
    }
}

/// Stops a server that goes, and keeps it for the retention days. Gives false when it has to be looked first whether that is
/// still wanted.
pub(crate) async fn set_aside(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    service: ServiceId,
) -> Result<bool, Halt> {
    let Some(leaving) = ctx.state(|s| s.standing_ref().leaving(service).cloned()) else { return Ok(true) };
    if let Some(found) = find(ctx, id, service).await? {
        if found.status == ServiceStatus::Provisioning {
            return building(ctx).await;
        }
        if found.status == ServiceStatus::Running && !stop(ctx, Step::Retain, &found).await? {
            return Ok(false);
        }
        let destroy_at = now(ctx) + ctx.state(|s| s.policy().retention_secs);
        change_until(ctx, &found, ServiceStatus::Retained, Some(destroy_at)).await?;
        let fact = format!("{}/{destroy_at}", leaving.instruction.id);
        write(ctx, LetterKind::ServiceRemoved, id, &found, &fact).await?;
    }
    settle(ctx, &leaving.instruction, done(None)).await?;
    Ok(true)
}

/// Destroys a server that was set aside, and gives back what it held. What is paid for by itself, or runs, is left alone.
pub(crate) async fn destroy(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    service: ServiceId,
) -> Result<bool, Halt> {
    let found = find(ctx, id, service).await?;
    if let Some(found) = found.filter(|found| found.covered && found.status == ServiceStatus::Retained) {
        expire::destroy(ctx, id, &found, "removed").await?;
    }
    Ok(true)
}

/// Keeps a server after all, as long as it is not destroyed: it runs again, if its subscription lets it.
pub(crate) async fn keep(
    ctx: &WorkflowContext<Subscription>,
    instruction: &Instruction,
    service: ServiceId,
) -> Result<InstructionOutcome, Halt> {
    let (id, phase, leaving) =
        ctx.state(|s| (s.id(), s.standing_ref().phase, s.standing_ref().leaving(service).cloned()));
    let Some(leaving) = leaving else { return Ok(refused(NOT_LEAVING)) };
    if leaving.stopped_at.is_none() {
        settle(ctx, &leaving.instruction, refused(KEPT)).await?;
        ctx.state_mut(|s| s.stays(service));
        return Ok(done(None));
    }
    let Some(found) = find(ctx, &id, service).await? else { return Ok(refused(NOT_THERE)) };
    match phase {
        Phase::Active | Phase::PastDue => {
            attempt(ctx, Step::Resume, Machine::resume, found.machine.clone(), patience::task).await?;
            change(ctx, &found, ServiceStatus::Running).await?;
            write(ctx, LetterKind::ServiceRestored, &id, &found, &format!("kept/{}", instruction.id)).await?;
        }
        Phase::Suspended => change(ctx, &found, ServiceStatus::Suspended).await?,
        Phase::Retained | Phase::Expired => change(ctx, &found, ServiceStatus::Retained).await?,
    }
    ctx.state_mut(|s| s.stays(service));
    Ok(done(None))
}

/// Everything went with the subscription: wishes that were not carried out before are, now.
pub(crate) async fn went_along(ctx: &WorkflowContext<Subscription>) -> Result<(), Halt> {
    for leaving in ctx.state(|s| s.standing_ref().leaving.clone()) {
        if leaving.stopped_at.is_none() {
            settle(ctx, &leaving.instruction, done(None)).await?;
        }
    }
    Ok(())
}

async fn find(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    service: ServiceId,
) -> Result<Option<ServiceRef>, Halt> {
    Ok(services(ctx, id).await?.into_iter().find(|found| found.machine.service == service))
}
