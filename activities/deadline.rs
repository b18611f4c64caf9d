//! A step ends by itself before Temporal would end it, so that its own words are heard and not a clock's.
use std::time::{Duration, SystemTime};

use temporalio_sdk::activities::ActivityContext;
use tokio::time::timeout;

use crate::{
    beat::beating,
    fault::{Fault, Vendor},
};

/// How long before Temporal would end it a step ends.
const RESERVE: Duration = Duration::from_secs(2);
/// Of a time too short for the reserve this part is kept, so that even a last short try hears what the vendor says.
const RESERVED_PART: u32 = 4;

/// A worker may be late by this at most, as one whose machine stood still; a clock that says more is wrong.
const LATE_LIMIT: Duration = Duration::from_mins(10);

/// How long one try of a step may still take; at most `limit`.
pub(crate) fn time_left(ctx: &ActivityContext, limit: Duration) -> Duration {
    let info = ctx.info();
    left(info.started_time.zip(info.deadline), SystemTime::now(), limit)
}

/// Start and deadline are by Temporal's clock. Ours only says how much of the time between them is over; one that says that
/// all of it was over long ago, or that it has not begun, is wrong and not asked.
fn left(given: Option<(SystemTime, SystemTime)>, now: SystemTime, limit: Duration) -> Duration {
    let Some((started, deadline)) = given else { return limit };
    let whole = deadline.duration_since(started).unwrap_or_default();
    let over = now.duration_since(started).ok().filter(|over| *over < whole + LATE_LIMIT).unwrap_or_default();
    let rest = whole.saturating_sub(over);
    rest.saturating_sub(RESERVE.min(rest / RESERVED_PART)).min(limit)
}

/// Runs one try of a step to its end, or to the end of its time. It gives signs of life meanwhile.
///
/// *Errors*: the step's own; the outcome is unknown when the vendor was not heard in time. `doing` is for staff.
pub(crate) async fn in_time<T: Send>(
    ctx: &ActivityContext,
    limit: Duration,
    vendor: Vendor,
    doing: &str,
    step: impl Future<Output = Result<T, Fault>> + Send,
) -> Result<T, Fault> {
    let limit = time_left(ctx, limit);
    match timeout(limit, beating(ctx, step)).await {
        Ok(done) => done,
        Err(_) => Err(vendor.outcome_unknown(doing, format!("no answer within {} seconds", limit.as_secs().max(1)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ends_before_temporal_would_end_it_and_a_short_one_still_has_time() {
        let now = SystemTime::UNIX_EPOCH;
        let within = |secs: f64| left(Some((now, now + Duration::from_secs_f64(secs))), now, Duration::from_mins(9));
        assert_eq!(within(20.0), Duration::from_secs(18));
        assert_eq!(within(2.0), Duration::from_millis(1500));
        assert_eq!(within(0.0), Duration::ZERO);
        assert_eq!(within(3_600.0), Duration::from_mins(9));
        assert_eq!(left(None, now, Duration::from_mins(9)), Duration::from_mins(9));
    }

    #[test]
    fn a_clock_that_is_wrong_by_days_takes_no_time_from_a_step() {
        let started = SystemTime::UNIX_EPOCH + Duration::from_hours(48);
        let at = |now| left(Some((started, started + Duration::from_secs(20))), now, Duration::from_mins(9));
        assert_eq!(at(started + Duration::from_secs(8)), Duration::from_secs(10));
        assert_eq!(at(started + Duration::from_mins(9)), Duration::ZERO, "a try that Temporal ended long ago goes on");
        assert_eq!(at(started + Duration::from_hours(36)), Duration::from_secs(18));
        assert_eq!(at(started - Duration::from_hours(36)), Duration::from_secs(18));
    }
}
