//! What was measured, as it is printed.
use std::fmt;
use std::time::Duration;

/// What a figure should be on two cores.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Told for information.
    Told,
}

/// One figure, measured once in each run.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    aim: Aim,
    values: Vec<f64>,
}

impl Figure {
    /// A figure nothing was measured for yet.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, aim: Aim) -> Self {
        Self { name: name.into(), unit, aim, values: Vec::new() }
    }

    /// Adds what one run gave.
    pub(crate) fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    /// What the last run gave; zero without any.
    pub(crate) fn last(&self) -> f64 {
        self.values.last().copied().unwrap_or(0.0)
    }

    /// The middle of all runs; the mean of the two middle ones when their number is even, and zero without any.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        match (sorted.get(low), sorted.get(high)) {
            (Some(low), Some(high)) => f64::midpoint(*low, *high),
            _ => 0.0,
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sorted, median) = (self.sorted(), self.median());
        let (least, most) = (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0));
        let digits = usize::from(median.abs() < 100.0);
        write!(f, "{:<44} {median:>10.digits$} {:<11}", self.name, self.unit)?;
        write!(f, " ({least:.digits$} to {most:.digits$})")?;
        match self.aim {
            Aim::AtLeast(aim) => write!(f, "  aim: at least {aim}, {}", word(median >= aim)),
            Aim::AtMost(aim) => write!(f, "  aim: at most {aim}, {}", word(median <= aim)),
            Aim::Told => Ok(()),
        }
    }
}

fn word(reached: bool) -> &'static str {
    if reached { "reached" } else { "MISSED" }
}

/// The time that this part of all (`0.99`) took at most, in milliseconds; zero without any.
pub(crate) fn percentile_ms(times: &[Duration], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let wanted = part * as_f64(sorted.len());
    let found = sorted.iter().enumerate().find(|(place, _)| as_f64(place + 1) >= wanted);
    found.map_or(0.0, |(_, time)| time.as_secs_f64() * 1000.0)
}

/// A count as a number to divide by. Beyond four thousand million it is that.
pub(crate) fn as_f64(count: usize) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_and_a_percentile_covers_its_part() {
        let mut figure = Figure::new("x", "ms", Aim::Told);
        for value in [9.0, 1.0, 4.0] {
            figure.add(value);
        }
        assert!((figure.median() - 4.0).abs() < f64::EPSILON);
        figure.add(6.0);
        assert!((figure.median() - 5.0).abs() < f64::EPSILON);
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert!((percentile_ms(&times, 0.99) - 99.0).abs() < 0.001);
        assert!((percentile_ms(&times, 0.5) - 50.0).abs() < 0.001);
        assert!(percentile_ms(&[], 0.99).abs() < f64::EPSILON);
    }
}
