//! The promise of delivery: an order that is not delivered in time is taken back by itself, as if staff had given it up.
//!
//! ```text
//! paid --built at once--> delivered           (no timer, nothing to cancel)
//!   '--a step is slow--> wait for the end of the time or of building, whichever comes first
//!                          | time is over: the step under way, or the wait for staff, is cancelled and waited for
//!                          '--> late --> refunded, undone, abandoned
//! ```
//! Whether it is late is decided by how building ended: one that came to its end in the same moment is delivered.
use std::pin::pin;

use temporalio_workflow::{WorkflowCancellationToken, WorkflowContext, join};

use crate::{
    attention::{Attended, Halt},
    wait::{now, wait},
};

/// Until when an order has to be built, and whether it was.
#[derive(Debug)]
pub struct Delivery {
    /// How long it may take, in seconds; nothing when it may take as long as it takes.
    within_secs: Option<i64>,
    /// Whether building has come to an end, whichever.
    built: bool,
    /// Whether the time was over before.
    late: bool,
}

impl Delivery {
    /// Nothing is built yet. Nought seconds mean that it may take as long as it takes.
    pub(crate) fn within(secs: u64) -> Self {
        let within_secs = (secs > 0).then(|| i64::try_from(secs).unwrap_or(i64::MAX));
        Self { within_secs, built: false, late: false }
    }
}

/// A workflow that builds something in a time that was promised.
pub trait Promised: Attended {
    /// How far that is.
    fn delivery(&self) -> &Delivery;
    /// The same, to write on.
    fn delivery_mut(&mut self) -> &mut Delivery;
}

fn is_built<W: Promised>(workflow: &W) -> bool {
    workflow.delivery().built
}

/// Runs building until its end, or until the time that was promised is over.
pub(crate) async fn kept<W: Promised>(
    ctx: &WorkflowContext<W>,
    building: impl Future<Output = Result<(), Halt>>,
) -> Result<(), Halt> {
    let Some(within_secs) = ctx.state(|s| s.delivery().within_secs) else { return building.await };
    let due_at = now(ctx).saturating_add(within_secs);
    let token = ctx.cancellation_token().child_token();
    ctx.state_mut(|s| s.desk_mut().cancelled_by(token.clone()));
    let building = pin!(async {
        let built = building.await;
        ctx.state_mut(|s| s.delivery_mut().built = true);
        built
    });
    let late = pin!(late(ctx, due_at, token));
    let (built, ()) = join!(building, late);
    match built {
        Err(_) if ctx.state(|s| s.delivery().late) => Err(Halt::Late),
        built => built,
    }
}

/// Cancels what is being done when the time is over.
async fn late<W: Promised>(ctx: &WorkflowContext<W>, due_at: i64, token: WorkflowCancellationToken) {
    if ctx.wait_condition(|s: &W| is_built(s) || s.desk().is_slow()).await.is_err() {
        return;
    }
    if ctx.state(is_built) || !ctx.patched("an-order-that-is-late-is-taken-back") {
        return;
    }
    let left_secs = due_at.saturating_sub(now(ctx)).max(0);
    let waited = wait(ctx, left_secs, "the time until delivery that was promised", is_built::<W>).await;
    if waited.is_err() || ctx.state(is_built) {
        return;
    }
    token.cancel();
    // A wait looks at its token when it is woken, and what wakes it is a change of state.
    ctx.state_mut(|s| s.delivery_mut().late = true);
}
