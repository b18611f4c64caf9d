//! The promise of delivery: an order that is not delivered in time is taken back by itself, as if staff had given it up.
//!
//! ```text
//! paid --built at once--> delivered           (no timer, nothing to cancel)
//!   '--a step is slow--> wait for the end of the time or of building, whichever comes first
//!                          | time is over: the step under way, or the wait for staff, is cancelled and waited for
//!                          '--> late --> undone, refunded, abandoned
//! ```
//! Whether it is late is decided by how building ended: one that came to its end in the same moment is delivered.
use std::pin::pin;

use temporalio_workflow::{WorkflowCancellationToken, WorkflowContext, join};

use crate::{
    attention::{Attended, Halt},
    order::Order,
    wait::{now, wait},
};

/// Runs building until its end, or until the time that was promised is over.
pub(crate) async fn kept(
    ctx: &WorkflowContext<Order>,
    building: impl Future<Output = Result<(), Halt>>,
) -> Result<(), Halt> {
    let Some(within_secs) = ctx.state(Order::deliver_within_secs) else { return building.await };
    let due_at = now(ctx).saturating_add(within_secs);
    let token = ctx.cancellation_token().child_token();
    ctx.state_mut(|s| s.desk_mut().cancelled_by(token.clone()));
    let building = pin!(async {
        let built = building.await;
        ctx.state_mut(Order::building_ended);
        built
    });
    let late = pin!(late(ctx, due_at, token));
    let (built, ()) = join!(building, late);
    match built {
        Err(_) if ctx.state(Order::is_late) => Err(Halt::Late),
        built => built,
    }
}

/// Cancels what is being done when the time is over.
async fn late(ctx: &WorkflowContext<Order>, due_at: i64, token: WorkflowCancellationToken) {
    if ctx.wait_condition(|s| s.is_built() || s.desk().is_slow()).await.is_err() {
        return;
    }
    if ctx.state(Order::is_built) || !ctx.patched("an-order-that-is-late-is-taken-back") {
        return;
    }
    let left_secs = due_at.saturating_sub(now(ctx)).max(0);
    let waited = wait(ctx, left_secs, "the time until delivery that was promised", Order::is_built).await;
    if waited.is_err() || ctx.state(Order::is_built) {
        return;
    }
    token.cancel();
    // A wait looks at its token when it is woken, and what wakes it is a change of state.
    ctx.state_mut(Order::time_is_over);
}
