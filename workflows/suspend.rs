//! Machines stopped for a missing payment, and started again when it returned.
use contract::{
    ledger::{Ledger, ServiceChange, ServiceRef},
    letter::{LetterInput, LetterKind, LetterSubject},
    machine::Machine,
};
use domain::{UnixSecs, ids::SubscriptionId, order::Step, service::ServiceStatus};
use temporalio_workflow::WorkflowContext;

use crate::{
    attention::{Halt, attempt, attempt_once, record},
    notify, patience,
    subscription::{Subscription, services},
    wait::{now, wait},
};

/// How long an act waits for an order that is still being built before it looks again: at first, and at most.
const BUILDING_POLL_SECS: (i64, i64) = (5, 300);
/// What operators read beside its timer.
const BUILDING: &str = "an order is still being built";

/// Stops every running machine of the subscription, and says why. Gives false when it has to be looked first whether that
/// is still wanted: staff had to be asked, or an order is still being built.
pub(crate) async fn suspend(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    invoice: &str,
) -> Result<bool, Halt> {
    for service in services(ctx, id).await? {
        if service.status == ServiceStatus::Provisioning {
            return building(ctx).await;
        }
        if service.status == ServiceStatus::Running {
            if !stop(ctx, Step::Suspend, &service).await? {
                return Ok(false);
            }
            change(ctx, &service, ServiceStatus::Suspended).await?;
            write(ctx, LetterKind::ServiceSuspended, id, &service, invoice).await?;
        }
    }
    Ok(true)
}

/// Stops one machine. Gives false when staff were asked and want it tried again: the customer may have paid meanwhile.
pub(crate) async fn stop(ctx: &WorkflowContext<Subscription>, step: Step, service: &ServiceRef) -> Result<bool, Halt> {
    let stopped = attempt_once(ctx, step, &Machine::suspend, service.machine.clone(), patience::task).await?;
    Ok(stopped.is_some())
}

/// Waits a while for an order that is still being built, longer each time, or until something is heard, and says that it
/// has to be looked again. Nobody is told when an order is built: most subscriptions never wait for it.
pub(crate) async fn building(ctx: &WorkflowContext<Subscription>) -> Result<bool, Halt> {
    // A run of an earlier release heard nothing meanwhile.
    let listens = ctx.patched("a-wait-for-an-order-being-built-listens");
    let heard = ctx.state(Subscription::heard);
    let (first, most) = BUILDING_POLL_SECS;
    // Reports wake it often; only time that passes makes it more patient.
    let now = now(ctx);
    let waited = ctx.state_mut(|s| s.building_secs(now, 2 * most));
    wait(ctx, waited.clamp(first, most), BUILDING, move |s: &Subscription| listens && s.heard() != heard).await?;
    Ok(false)
}

/// Starts every stopped machine of the subscription again, because it was paid.
pub(crate) async fn resume(ctx: &WorkflowContext<Subscription>, id: &SubscriptionId) -> Result<bool, Halt> {
    let stopped_at: UnixSecs =
        ctx.state(|s| s.standing_ref().suspended_at.or(s.standing_ref().retained_at)).unwrap_or_default();
    start_again(ctx, id, LetterKind::ServiceResumed, &stopped_at.to_string()).await?;
    Ok(true)
}

/// Starts every stopped machine of the subscription again, and says so.
pub(crate) async fn start_again(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    kind: LetterKind,
    fact: &str,
) -> Result<(), Halt> {
    for service in services(ctx, id).await? {
        if matches!(service.status, ServiceStatus::Suspended | ServiceStatus::Retained) {
            attempt(ctx, Step::Resume, Machine::resume, service.machine.clone(), patience::task).await?;
            change(ctx, &service, ServiceStatus::Running).await?;
            write(ctx, kind, id, &service, fact).await?;
        }
    }
    Ok(())
}

/// Notes a change in the life of a service.
pub(crate) async fn change(
    ctx: &WorkflowContext<Subscription>,
    service: &ServiceRef,
    status: ServiceStatus,
) -> Result<(), Halt> {
    record(ctx, Ledger::change_service, ServiceChange { service: service.machine.service, status }).await
}

/// Writes about one service, once for each fact.
pub(crate) async fn write(
    ctx: &WorkflowContext<Subscription>,
    kind: LetterKind,
    id: &SubscriptionId,
    service: &ServiceRef,
    fact: &str,
) -> Result<(), Halt> {
    let stamp = service.machine.service;
    let letter = LetterInput {
        kind,
        subject: LetterSubject::Subscription(id.clone()),
        service: Some(stamp),
        occasion: format!("{kind}/{stamp}/{fact}"),
        patience_secs: None,
    };
    notify::queue(ctx, letter).await
}
