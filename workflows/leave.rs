//! Before anything is taken away from a customer, the ledger is asked for leave: whether everything is as it has to be, and
//! whether not too much is taken away within the hour. What is held back is asked for again.
use contract::ledger::{Leave, Ledger, Removal};
use domain::{
    UnixSecs,
    billing::{Act, Phase, Standing, SubscriptionView},
    ids::SubscriptionId,
    policy::SubscriptionPolicy,
    removal::RemovalKind,
};
use temporalio_workflow::WorkflowContext;

use crate::{
    attention::{Halt, record},
    subscription::Subscription,
    wait::now,
};

/// How long what is held back waits before it is asked for again: at first, and at most.
const ASK_AGAIN_SECS: (i64, i64) = (1, 300);

/// Gives when to look again if an act has to wait; nothing when it may be done now.
pub(crate) async fn held_until(
    ctx: &WorkflowContext<Subscription>,
    act: &Act,
    view: &SubscriptionView,
) -> Result<Option<UnixSecs>, Halt> {
    let (id, standing, policy) = ctx.state(|s| (s.id(), s.standing_ref().clone(), s.policy()));
    let Some(removal) = removal(&id, act, view, &standing, &policy) else { return Ok(None) };
    if !ctx.patched("what-takes-away-asks-for-leave") {
        return Ok(None);
    }
    match record(ctx, Ledger::ask_leave, removal).await? {
        Leave::Given => {
            ctx.state_mut(|s| s.held().over());
            Ok(None)
        }
        Leave::Held { why, until } => {
            let now = now(ctx);
            let (first, most) = ASK_AGAIN_SECS;
            let secs = ctx.state_mut(|s| s.held().next_secs(now, first, most.min(policy.poll_secs).max(first)));
            ctx.set_current_details(format!("**Held back**: {why}"));
            Ok(Some(until.unwrap_or_default().max(now + secs).min(now + policy.poll_secs.max(1))))
        }
    }
}

/// What an act takes away; nothing when it takes nothing, or there is nothing left to take.
fn removal(
    subscription: &SubscriptionId,
    act: &Act,
    view: &SubscriptionView,
    standing: &Standing,
    policy: &SubscriptionPolicy,
) -> Option<Removal> {
    let of_the_end = |kind, notice_secs| Removal {
        occasion: format!("{kind}/{subscription}/{}", standing.since_restored(&view.period_end.to_string())),
        subscription: subscription.clone(),
        kind,
        invoice: None,
        payment_pending: !view.status.has_ended()
            && view.open_invoice.as_ref().is_some_and(|open| open.payment_pending),
        reminders: 0,
        notice_secs,
        service: None,
    };
    // Staff may keep it, and its customer take it away once more: that is another occasion.
    let of_one = |kind, service, notice_secs| {
        standing.leaving(service).map(|leaving| Removal {
            occasion: format!("{kind}/{subscription}/{}", leaving.instruction.id),
            payment_pending: false,
            service: Some(service),
            ..of_the_end(kind, notice_secs)
        })
    };
    match act {
        Act::Suspend { invoice } => {
            let reminders = standing.overdue.as_ref().map_or(0, |overdue| overdue.reminders_sent);
            let last = usize::try_from(reminders).ok().and_then(|sent| policy.reminders_secs.get(sent.checked_sub(1)?));
            Some(Removal {
                occasion: format!("{}/{subscription}/{}", RemovalKind::Suspend, standing.since_restored(invoice)),
                invoice: Some(invoice.clone()),
                reminders,
                // Whoever is reminded late has as long from then on.
                ..of_the_end(RemovalKind::Suspend, last.map_or(0, |last| policy.suspend_after_secs - last))
            })
        }
        Act::Retain => Some(of_the_end(RemovalKind::Retain, 0)),
        Act::SetServerAside { service } => of_one(RemovalKind::Retain, *service, 0),
        Act::DestroyServer { service } => of_one(RemovalKind::Expire, *service, policy.retention_warning_secs),
        Act::EndSubscription | Act::Expire if standing.phase == Phase::Retained => {
            Some(of_the_end(RemovalKind::Expire, policy.retention_warning_secs))
        }
        _ => None,
    }
}
