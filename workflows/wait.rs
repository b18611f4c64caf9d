//! Time as a workflow sees it.
use std::pin::pin;
use std::time::{Duration, SystemTime};

use domain::UnixSecs;
use temporalio_workflow::{
    CancellableFuture, TimerOptions, TimerResult, WaitConditionOptions, WorkflowCancellationToken, WorkflowContext,
    select,
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

/// A wait that goes on over several looks. Reports wake it as often as they come; only time makes it more patient.
#[derive(Default)]
pub(crate) struct LongWait(Option<(UnixSecs, UnixSecs)>);

impl LongWait {
    /// How long to wait until the next look, in seconds: as long as it has been waited, within `first` and `most`. After a
    /// pause of more than twice `most` it is another wait.
    pub(crate) fn next_secs(&mut self, now: UnixSecs, first: i64, most: i64) -> i64 {
        let since = match self.0 {
            Some((since, last)) if now - last <= 2 * most => since,
            _ => now,
        };
        self.0 = Some((since, now));
        (now - since).clamp(first, most)
    }

    /// What it waited for has come.
    pub(crate) fn over(&mut self) {
        self.0 = None;
    }
}

/// The shortest pause that ends a workflow's task.
const TASK_ENDS_SECS: i64 = 1;

/// Ends the workflow's task, so that what it decided stands in the history before anything comes of it: a task that is done
/// again after its worker died decides anew, at another time.
pub(crate) async fn end_task<W: Attended>(ctx: &WorkflowContext<W>, summary: &str) -> Result<(), Halt> {
    wait(ctx, TASK_ENDS_SECS, summary, |_| false).await
}

/// A token for what is waited for in one place, which is cancelled with everything else of the workflow. It has to live as long
/// as the waiting.
///
/// Whatever waits leaves with its token how it is cancelled, which holds the whole workflow, and takes that back only when it is
/// done. Left with the workflow's own token, a workflow that is taken out of memory while it waits would be held by itself for ever.
pub(crate) fn token_here<W: Attended>(ctx: &WorkflowContext<W>) -> WorkflowCancellationToken {
    ctx.state(|s| s.desk().token()).unwrap_or_else(|| ctx.cancellation_token()).child_token()
}

/// Waits until something happened or the time is over, whichever comes first.
pub(crate) async fn wait<W: Attended>(
    ctx: &WorkflowContext<W>,
    secs: i64,
    summary: &str,
    happened: impl FnMut(&W) -> bool,
) -> Result<(), Halt> {
    let limit = Duration::from_secs(u64::try_from(secs).unwrap_or(0));
    let token = token_here(ctx);
    let options = TimerOptions::builder(limit).summary(summary.to_owned()).cancellation_token(token.clone()).build();
    let mut timer = pin!(ctx.timer(options));
    let options = WaitConditionOptions::builder().cancellation_token(token.clone()).build();
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

#[cfg(test)]
mod tests {
    use super::LongWait;

    #[test]
    fn a_wait_grows_with_time_and_not_with_the_number_of_looks() {
        let mut waiting = LongWait::default();
        assert_eq!(waiting.next_secs(1_000, 5, 300), 5);
        assert_eq!((0..50).map(|_| waiting.next_secs(1_001, 5, 300)).max(), Some(5), "reports alone woke it");
        assert_eq!(waiting.next_secs(1_060, 5, 300), 60);
        assert_eq!(waiting.next_secs(1_600, 5, 300), 300);
    }

    #[test]
    fn a_wait_that_is_over_begins_anew() {
        let mut waiting = LongWait::default();
        waiting.next_secs(0, 1, 100);
        assert_eq!(waiting.next_secs(80, 1, 100), 80);
        assert_eq!(waiting.next_secs(300, 1, 100), 1, "after a long pause it is another");
        waiting.next_secs(380, 1, 100);
        waiting.over();
        assert_eq!(waiting.next_secs(381, 1, 100), 1);
    }
}
