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

/// How long one try of a step may still take; at most `limit`.
pub(crate) fn time_left(ctx: &ActivityContext, limit: Duration) -> Duration {
    left(ctx.info().deadline, SystemTime::now(), limit)
}

fn left(deadline: Option<SystemTime>, now: SystemTime, limit: Duration) -> Duration {
    let Some(deadline) = deadline else { return limit };
    let whole = deadline.duration_since(now).unwrap_or_default();
    whole.saturating_sub(RESERVE.min(whole / RESERVED_PART)).min(limit)
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
        let within = |secs: f64| left(Some(now + Duration::from_secs_f64(secs)), now, Duration::from_mins(9));
        assert_eq!(within(20.0), Duration::from_secs(18));
        assert_eq!(within(2.0), Duration::from_millis(1500));
        assert_eq!(within(0.0), Duration::ZERO);
        assert_eq!(within(3_600.0), Duration::from_mins(9));
        assert_eq!(left(None, now, Duration::from_mins(9)), Duration::from_mins(9));
    }
}
