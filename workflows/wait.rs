//! Time as a workflow sees it.
use std::pin::pin;
use std::time::{Duration, SystemTime};

use domain::UnixSecs;
use temporalio_workflow::{
    CancellableFuture, TimerOptions, TimerResult, WaitConditionOptions, WorkflowContext, select,
};

use crate::attention::{Attended, Halt};

/// The time of the current workflow task. It is the same at every replay.
pub(crate) fn now<W>(ctx: &WorkflowContext<W>) -> UnixSecs {
    seconds(ctx.workflow_time())
}

/// A time as whole seconds.
pub(crate) fn seconds(at: Option<SystemTime>) -> UnixSecs {
    at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
        .and_then(|since| UnixSecs::try_from(since.as_secs()).ok())
        .unwrap_or_default()
}

/// Waits until something happened or the time is over, whichever comes first.
pub(crate) async fn wait<W: Attended>(
    ctx: &WorkflowContext<W>,
    secs: i64,
    summary: &str,
    happened: impl FnMut(&W) -> bool,
) -> Result<(), Halt> {
    let limit = Duration::from_secs(u64::try_from(secs).unwrap_or(0));
    let token = ctx.state(|s| s.desk().token());
    let options =
        TimerOptions::builder(limit).summary(summary.to_owned()).maybe_cancellation_token(token.clone()).build();
    let mut timer = pin!(ctx.timer(options));
    let options = WaitConditionOptions::builder().maybe_cancellation_token(token).build();
    let mut condition = pin!(ctx.wait_condition_with_options(happened, options));
    select! {
        fired = timer => match fired {
            TimerResult::Fired => Ok(()),
            TimerResult::Cancelled => Err(Halt::Cancelled),
        },
        met = condition => {
            // A timer that lost the race stays on the server unless it is cancelled.
            timer.cancel();
            met.map_err(|_| Halt::Cancelled)
        },
    }
}
