//! How long each kind of step may take, how often it is tried, and when it runs out of patience.
use std::time::Duration;

use temporalio_workflow::{
    ActivityCancellationType, ActivityCloseTimeouts, ActivityOptions, LocalActivityOptions, RetryPolicy,
    WorkflowCancellationToken,
};

/// The failure type of an activity that must not be repeated by itself.
const GIVE_UP: &str = "give_up";

/// One call of a vendor takes at most this long.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// A call heartbeats too, so a worker that dies in it is noticed after this long.
const CALL_HEARTBEAT_LIMIT: Duration = Duration::from_secs(3);
/// One machine task takes at most this long; it heartbeats, so a worker that dies in it is noticed sooner.
const TASK_LIMIT: Duration = Duration::from_mins(10);
/// A heartbeat is missed after this long.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(10);
/// One database transaction takes at most this long.
const TRANSACTION_LIMIT: Duration = Duration::from_secs(10);
/// A database transaction is tried for this long: without end, as far as a business is concerned. Not said, it would be
/// some hundred seconds.
const TRANSACTION_PATIENCE: Duration = Duration::from_hours(24 * 3_650);
/// The longest pause before a database transaction is tried again: a database that is away for days must not fill the
/// history, which ends a workflow at 51,200 events, and whoever waits shall wait no longer than this once it is back.
const TRANSACTION_PAUSE: Duration = Duration::from_secs(30);
/// A longer pause is a timer, which costs events once and lets the workflow's own task end.
const TIMER_FROM: Duration = Duration::from_secs(5);
/// Mail is tried for this long before a letter waits for staff.
const LETTER_PATIENCE: Duration = Duration::from_hours(72);
const LETTER_SUMMARY: &str = "hand the letter to the mail server";

/// A machine built at one go: as many steps as it has may each be that patient.
const BUILD_STEPS: u64 = 6;

/// One try of a round takes at most this long: Stripe lists the newest event first, so a walk that is broken off begins again.
const ROUND_LIMIT: Duration = Duration::from_hours(1);
/// How long a round is tried; the next one makes up for it.
const ROUND_PATIENCE: Duration = Duration::from_hours(3);

/// A round through what nobody may have told. It heartbeats.
pub(crate) fn round(summary: &str) -> ActivityOptions {
    options(ROUND_LIMIT, ROUND_PATIENCE, Some(HEARTBEAT_LIMIT), None, summary)
}

/// One machine built at one go. It heartbeats; a worker that dies in it is followed by another, which goes on.
pub(crate) fn build(patience_secs: u64, token: Option<WorkflowCancellationToken>, summary: &str) -> ActivityOptions {
    let patience = Duration::from_secs(patience_secs.saturating_mul(BUILD_STEPS));
    options(TASK_LIMIT, patience, Some(HEARTBEAT_LIMIT), token, summary)
}

/// The first try of a vendor call, inside the workflow's own task. It may take as long as any other try, so that two of
/// them never run side by side.
pub(crate) fn at_once(
    patience_secs: u64,
    token: Option<WorkflowCancellationToken>,
    summary: &str,
) -> LocalActivityOptions {
    let limit = CALL_LIMIT.min(Duration::from_secs(patience_secs));
    LocalActivityOptions::builder()
        .start_to_close_timeout(limit)
        .retry_policy(RetryPolicy::builder().maximum_attempts(1).build())
        .maybe_cancellation_token(token)
        .summary(summary.to_owned())
        .build()
}

/// The first try of a letter.
pub(crate) fn letter_at_once(patience_secs: Option<u64>) -> LocalActivityOptions {
    at_once(patience_secs.unwrap_or(CALL_LIMIT.as_secs()), None, LETTER_SUMMARY)
}

/// A vendor call that answers at once.
pub(crate) fn call(patience_secs: u64, token: Option<WorkflowCancellationToken>, summary: &str) -> ActivityOptions {
    options(CALL_LIMIT, Duration::from_secs(patience_secs), Some(CALL_HEARTBEAT_LIMIT), token, summary)
}

/// A machine task that takes its time and heartbeats meanwhile.
pub(crate) fn task(patience_secs: u64, token: Option<WorkflowCancellationToken>, summary: &str) -> ActivityOptions {
    options(TASK_LIMIT, Duration::from_secs(patience_secs), Some(HEARTBEAT_LIMIT), token, summary)
}

/// A letter: nothing else waits for it, so it is tried for days.
pub(crate) fn letter(patience_secs: Option<u64>, token: WorkflowCancellationToken) -> ActivityOptions {
    let patience = patience_secs.map_or(LETTER_PATIENCE, Duration::from_secs);
    options(CALL_LIMIT, patience, Some(CALL_HEARTBEAT_LIMIT), Some(token), LETTER_SUMMARY)
}

/// A database transaction: repeated until the database is back, because nothing can go on without it.
pub(crate) fn transaction(token: Option<WorkflowCancellationToken>, summary: &str) -> LocalActivityOptions {
    LocalActivityOptions::builder()
        .start_to_close_timeout(TRANSACTION_LIMIT)
        .schedule_to_close_timeout(TRANSACTION_PATIENCE)
        .timer_backoff_threshold(TIMER_FROM)
        .retry_policy(
            RetryPolicy::builder()
                .initial_interval(Duration::from_millis(100))
                .backoff_coefficient(2.0)
                .maximum_interval(TRANSACTION_PAUSE)
                .non_retryable_error_types([GIVE_UP])
                .build(),
        )
        .maybe_cancellation_token(token)
        .summary(summary.to_owned())
        .build()
}

fn options(
    attempt: Duration,
    patience: Duration,
    heartbeat: Option<Duration>,
    token: Option<WorkflowCancellationToken>,
    summary: &str,
) -> ActivityOptions {
    ActivityOptions::with_close_timeouts(ActivityCloseTimeouts::ScheduleAndStartToClose {
        schedule_to_close: patience,
        start_to_close: attempt.min(patience),
    })
    .maybe_heartbeat_timeout(heartbeat)
    // A step that is cancelled is waited for, so that taking it back never runs beside it.
    .cancellation_type(ActivityCancellationType::WaitCancellationCompleted)
    .maybe_cancellation_token(token)
    .retry_policy(
        RetryPolicy::builder()
            .initial_interval(Duration::from_millis(200))
            .backoff_coefficient(2.0)
            .maximum_interval(Duration::from_secs(20))
            .non_retryable_error_types([GIVE_UP])
            .build(),
    )
    .summary(summary.to_owned())
    .build()
}
