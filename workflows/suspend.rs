//! Machines stopped for a missing payment, and started again when it returned.
use contract::{
    ledger::{Ledger, ServiceChange, ServiceRef},
    letter::{LetterInput, LetterKind, LetterSubject},
    machine::Machine,
};
use domain::{
    UnixSecs,
    billing::{Phase, SubscriptionView},
    ids::SubscriptionId,
    order::Step,
    service::ServiceStatus,
};
use temporalio_workflow::WorkflowContext;

use crate::{
    attention::{Halt, attempt, attempt_once, record},
    expire, notify, patience,
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
            write(ctx, LetterKind::ServiceSuspended, id, &service, &since_restored(ctx, invoice)).await?;
        }
    }
    Ok(true)
}

/// Stops what runs, or is being built, although its subscription is suspended or over: a further service that got its place
/// in the same moment. After the phase is written down nothing further gets a place, so that this finds everything.
/// Gives true when there was something, and it was stopped as far as it could be: look again.
pub(crate) async fn late_ones(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    view: &SubscriptionView,
    fresh: bool,
) -> Result<bool, Halt> {
    let standing = ctx.state(|s| s.standing_ref().clone());
    let stopped = matches!(standing.phase, Phase::Suspended | Phase::Retained);
    let held = standing.hold_until.is_some_and(|until| now(ctx) < until);
    if !stopped || held || !ctx.patched("what-is-delivered-late-is-stopped") {
        return Ok(false);
    }
    let late = |service: &ServiceRef| matches!(service.status, ServiceStatus::Provisioning | ServiceStatus::Running);
    if !services(ctx, id).await?.iter().any(late) {
        return Ok(false);
    }
    // Nothing is stopped before Stripe was read just now.
    if fresh && standing.phase == Phase::Retained {
        expire::retain(ctx, id, view.period_end).await?;
    } else if fresh {
        let invoice = view.open_invoice.as_ref().map_or("late", |open| &open.id);
        suspend(ctx, id, invoice).await?;
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
    let now = now(ctx);
    let secs = ctx.state_mut(|s| s.building().next_secs(now, first, most));
    wait(ctx, secs, BUILDING, move |s: &Subscription| listens && s.heard() != heard).await?;
    Ok(false)
}

/// Starts every stopped machine of the subscription again, because it was paid.
pub(crate) async fn resume(ctx: &WorkflowContext<Subscription>, id: &SubscriptionId) -> Result<bool, Halt> {
    let stopped_at: UnixSecs =
        ctx.state(|s| s.standing_ref().suspended_at.or(s.standing_ref().retained_at)).unwrap_or_default();
    start_again(ctx, id, LetterKind::ServiceResumed, &stopped_at.to_string()).await?;
    Ok(true)
}

/// Starts every stopped machine of the subscription again, but for those that their customer takes away, and says so.
pub(crate) async fn start_again(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    kind: LetterKind,
    fact: &str,
) -> Result<(), Halt> {
    for service in services(ctx, id).await? {
        let leaves = ctx.state(|s| s.standing_ref().leaving(service.machine.service).is_some());
        if !leaves && matches!(service.status, ServiceStatus::Suspended | ServiceStatus::Retained) {
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
    change_until(ctx, service, status, None).await
}

/// The same, of one that its customer takes away, with when it is destroyed.
pub(crate) async fn change_until(
    ctx: &WorkflowContext<Subscription>,
    service: &ServiceRef,
    status: ServiceStatus,
    destroy_at: Option<UnixSecs>,
) -> Result<(), Halt> {
    record(ctx, Ledger::change_service, ServiceChange { service: service.machine.service, status, destroy_at }).await
}

/// What a letter about a stop names.
pub(crate) fn since_restored(ctx: &WorkflowContext<Subscription>, fact: &str) -> String {
    ctx.state(|s| s.standing_ref().since_restored(fact))
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
