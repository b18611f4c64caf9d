//! The end of a subscription: stopped and kept, warned, destroyed.
use contract::{ledger::ServiceRef, letter::LetterKind, machine::Machine, name::Name, payment::Payment};
use domain::{UnixSecs, billing::SubscriptionView, ids::SubscriptionId, order::Step, service::ServiceStatus};
use temporalio_workflow::WorkflowContext;

use crate::{
    attention::{Halt, Outcome, attempt},
    patience, remove,
    subscription::{Subscription, services},
    suspend::{building, change, since_restored, stop, write},
    wait::end_task,
};

/// Stops every machine of the subscription and keeps it for the retention days. Gives false when it has to be looked
/// first whether that is still wanted.
pub(crate) async fn retain(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    period_end: UnixSecs,
) -> Result<bool, Halt> {
    let fact = since_restored(ctx, &period_end.to_string());
    for service in services(ctx, id).await? {
        if service.status == ServiceStatus::Provisioning {
            return building(ctx).await;
        }
        if service.status == ServiceStatus::Running && !stop(ctx, Step::Retain, &service).await? {
            return Ok(false);
        }
        if matches!(service.status, ServiceStatus::Running | ServiceStatus::Suspended) {
            change(ctx, &service, ServiceStatus::Retained).await?;
            write(ctx, LetterKind::ServiceRetained, id, &service, &fact).await?;
        }
    }
    Ok(true)
}

/// Warns that the kept machines will be destroyed.
pub(crate) async fn warn(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    destroy_at: UnixSecs,
) -> Result<bool, Halt> {
    // A task that is done again after its worker died has a later now. The day that is promised has to stand in the history
    // before anybody is told, or two letters name two days.
    if ctx.patched("a-promised-day-is-fixed-before-it-is-told") {
        end_task(ctx, "the day of the end is fixed").await?;
    }
    for service in services(ctx, id).await? {
        write(ctx, LetterKind::DestructionWarning, id, &service, &destroy_at.to_string()).await?;
    }
    Ok(true)
}

/// Ends the subscription at Stripe before anything is destroyed. Gives what Stripe says now: a payment that slipped in
/// leaves it alive.
pub(crate) async fn end_subscription(
    ctx: &WorkflowContext<Subscription>,
    id: SubscriptionId,
) -> Result<SubscriptionView, Halt> {
    loop {
        let ended = attempt(ctx, Step::EndSubscription, Payment::end_subscription, id.clone(), patience::call).await?;
        if let Outcome::Ran(view) = ended {
            return Ok(view);
        }
    }
}

/// Destroys every machine of the subscription and gives back what it held. Gives false when an order is still being built.
pub(crate) async fn expire(ctx: &WorkflowContext<Subscription>, id: &SubscriptionId) -> Result<bool, Halt> {
    for service in services(ctx, id).await? {
        if service.status == ServiceStatus::Provisioning {
            return building(ctx).await;
        }
        destroy(ctx, id, &service, "end").await?;
    }
    remove::went_along(ctx).await?;
    Ok(true)
}

/// Withdraws the name of one machine, destroys it, gives back what it held, and says so.
pub(crate) async fn destroy(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    service: &ServiceRef,
    fact: &str,
) -> Result<(), Halt> {
    let machine = service.machine.clone();
    attempt(ctx, Step::Unname, Name::withdraw, machine.order, patience::call).await?;
    attempt(ctx, Step::Destroy, Machine::destroy, machine, patience::task).await?;
    change(ctx, service, ServiceStatus::Expired).await?;
    write(ctx, LetterKind::ServiceExpired, id, service, fact).await
}
