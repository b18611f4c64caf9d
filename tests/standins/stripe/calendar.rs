//! When billing periods end.

use time::{Date, Month, OffsetDateTime};

const DAY_SECS: i64 = 86_400;
/// A real day is this part of an accelerated month.
const DAYS_IN_A_SHORT_MONTH: i64 = 30;

/// How often a price is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cadence {
    /// Stripe's `recurring.interval`.
    pub(super) interval: Interval,
    /// Stripe's `recurring.interval_count`.
    pub(super) count: i64,
}

/// Stripe's billing intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interval {
    Day,
    Week,
    Month,
    Year,
}

impl Interval {
    /// Reads Stripe's word.
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "day" => Some(Self::Day),
            "week" => Some(Self::Week),
            "month" => Some(Self::Month),
            "year" => Some(Self::Year),
            _ => None,
        }
    }
}

impl Cadence {
    /// The end of the period that follows `current_end`, in Unix seconds.
    ///
    /// Calendar periods are counted from `anchor`, so that a subscription begun on the 31st is
    /// renewed on the 28th of February and on the 31st of March. With `month_secs` a month lasts
    /// that many seconds and a year twelve of them.
    pub(super) fn next_end(self, anchor: i64, current_end: i64, month_secs: Option<i64>) -> i64 {
        if let Some(month_secs) = month_secs {
            return current_end + (self.short_secs(month_secs.max(1)) * self.count).max(1);
        }
        let step = match self.interval {
            Interval::Day => return current_end + DAY_SECS * self.count,
            Interval::Week => return current_end + 7 * DAY_SECS * self.count,
            Interval::Month => self.count,
            Interval::Year => 12 * self.count,
        };
        let mut months = step;
        while add_months(anchor, months) <= current_end {
            months += step;
        }
        add_months(anchor, months)
    }

    fn short_secs(self, month_secs: i64) -> i64 {
        match self.interval {
            Interval::Day => month_secs / DAYS_IN_A_SHORT_MONTH,
            Interval::Week => month_secs * 7 / DAYS_IN_A_SHORT_MONTH,
            Interval::Month => month_secs,
            Interval::Year => month_secs * 12,
        }
    }
}

/// `anchor` moved by calendar months; the last day of a shorter month stands in for a missing one.
fn add_months(anchor: i64, months: i64) -> i64 {
    let Ok(at) = OffsetDateTime::from_unix_timestamp(anchor) else {
        return anchor + months * DAYS_IN_A_SHORT_MONTH * DAY_SECS;
    };
    let counted = i64::from(at.year()) * 12 + i64::from(u8::from(at.month())) - 1 + months;
    let year = i32::try_from(counted.div_euclid(12)).unwrap_or(i32::MAX);
    let month = u8::try_from(counted.rem_euclid(12) + 1)
        .ok()
        .and_then(|number| Month::try_from(number).ok())
        .unwrap_or(Month::January);
    let day = at.day().min(month.length(year));
    match Date::from_calendar_date(year, month, day) {
        Ok(date) => at.replace_date(date).unix_timestamp(),
        Err(_) => anchor + months * DAYS_IN_A_SHORT_MONTH * DAY_SECS,
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::{Cadence, Interval};

    const MONTHLY: Cadence = Cadence { interval: Interval::Month, count: 1 };

    #[test]
    fn month_ends_are_clamped_and_the_anchor_day_returns() {
        let anchor = datetime!(2027-01-31 09:30 UTC).unix_timestamp();
        let february = MONTHLY.next_end(anchor, anchor, None);
        assert_eq!(february, datetime!(2027-02-28 09:30 UTC).unix_timestamp());
        let march = MONTHLY.next_end(anchor, february, None);
        assert_eq!(march, datetime!(2027-03-31 09:30 UTC).unix_timestamp());
        let april = MONTHLY.next_end(anchor, march, None);
        assert_eq!(april, datetime!(2027-04-30 09:30 UTC).unix_timestamp());
    }

    #[test]
    fn leap_years_have_a_29th() {
        let anchor = datetime!(2028-01-31 00:00 UTC).unix_timestamp();
        let february = MONTHLY.next_end(anchor, anchor, None);
        assert_eq!(february, datetime!(2028-02-29 00:00 UTC).unix_timestamp());
        let yearly = Cadence { interval: Interval::Year, count: 1 };
        let leap_day = datetime!(2028-02-29 12:00 UTC).unix_timestamp();
        let next = yearly.next_end(leap_day, leap_day, None);
        assert_eq!(next, datetime!(2029-02-28 12:00 UTC).unix_timestamp());
    }

    #[test]
    fn short_months_last_the_seconds_asked_for() {
        assert_eq!(MONTHLY.next_end(0, 100, Some(3)), 103);
        let yearly = Cadence { interval: Interval::Year, count: 1 };
        assert_eq!(yearly.next_end(0, 100, Some(3)), 136);
    }
}
