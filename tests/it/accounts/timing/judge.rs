//! Whether pairs of times differ by more than anybody could see, said only when it is sure whatever else the machine does.
//!
//! Of each pair, one was asked right after the other and a coin said which came first. Where both are alike, the later work of a
//! busy machine falls on either as often, so that the middle of the differences is nought, and how far it strays from there
//! is known whatever the machine does: as far as the heads of so many coins from their half.
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// How far the heads of coins stray, squared, in what they usually stray: further three times in a thousand.
const ALIKE_SQUARED: usize = 9;
/// The same: further once in two thousand times.
const DIFFER_SQUARED: usize = 12;
/// What nobody sees over a network: a tenth of an answer, within these.
const UNSEEN_MS: (f64, f64) = (5.0, 15.0);

/// What pairs say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They are alike.
    Alike,
    /// They differ.
    Differ,
    /// More of them have to be asked.
    Unsure,
}

/// The pairs so far: how much longer one took than the other, and how long both took.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    more_ms: Vec<f64>,
    both_ms: Vec<f64>,
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

fn median(values: &[f64]) -> f64 {
    sorted(values).get(values.len() / 2).copied().unwrap_or_default()
}

impl Pairs {
    pub(super) fn add(&mut self, one: Duration, other: Duration) {
        self.more_ms.push(millis(one) - millis(other));
        self.both_ms.extend([millis(one), millis(other)]);
    }

    /// The least and the most that one takes longer than the other, as sure as this.
    fn bounds(&self, sure_squared: usize) -> Option<(f64, f64)> {
        let (sorted, count) = (sorted(&self.more_ms), self.more_ms.len());
        let reach = (sure_squared * count / 4).isqrt() + 1;
        let low = (count / 2).checked_sub(reach)?;
        Some((*sorted.get(low)?, *sorted.get(count - 1 - low)?))
    }

    fn unseen_ms(&self) -> f64 {
        (median(&self.both_ms) / 10.0).clamp(UNSEEN_MS.0, UNSEEN_MS.1)
    }

    /// What is sure by now.
    pub(super) fn verdict(&self) -> Verdict {
        let unseen = self.unseen_ms();
        if self.bounds(ALIKE_SQUARED).is_some_and(|(least, most)| least >= -unseen && most <= unseen) {
            return Verdict::Alike;
        }
        let is_seen = self.bounds(DIFFER_SQUARED).is_some_and(|(least, most)| least > unseen || most < -unseen);
        if is_seen { Verdict::Differ } else { Verdict::Unsure }
    }

    /// What has to be said when no more are asked: they differ when it is sure that they do at all, and it could be seen.
    pub(super) fn last_verdict(&self) -> Verdict {
        let is_sure = self.bounds(DIFFER_SQUARED).is_some_and(|(least, most)| least > 0.0 || most < 0.0);
        let is_seen = median(&self.more_ms).abs() > self.unseen_ms();
        if is_sure && is_seen { Verdict::Differ } else { Verdict::Alike }
    }

    /// What they are, in words.
    pub(super) fn told(&self) -> String {
        let (middle, unseen, count) = (median(&self.more_ms), self.unseen_ms(), self.more_ms.len());
        let bounds = self.bounds(DIFFER_SQUARED);
        format!("{middle:.1} ms more, surely within {bounds:.1?}, of {count} pairs; {unseen:.1} ms would not be seen")
    }
}

/// How long something takes that takes 120 ms on a machine where nearly half of everything has to wait for up to so long.
fn on_a_busy_machine(chance: &mut StdRng, waiting_ms: f64) -> f64 {
    let waited = if chance.random_bool(0.45) { chance.random_range(0.0..waiting_ms) } else { 0.0 };
    120.0 + chance.random_range(0.0..8.0) + waited
}

/// What is said in the end of times of which one takes so much longer.
fn judged(seed: u64, waiting_ms: f64, longer_ms: f64) -> Verdict {
    let (mut chance, mut pairs) = (StdRng::seed_from_u64(seed), Pairs::default());
    for _ in 0..super::ROUNDS {
        for _ in 0..super::EACH {
            let mut time =
                |more: f64| Duration::from_secs_f64((on_a_busy_machine(&mut chance, waiting_ms) + more) / 1_000.0);
            pairs.add(time(longer_ms), time(0.0));
        }
        if pairs.verdict() != Verdict::Unsure {
            return pairs.verdict();
        }
    }
    pairs.last_verdict()
}

#[test]
fn what_takes_longer_is_found_on_a_busy_machine_and_a_busy_machine_alone_is_not() {
    for seed in 0..20 {
        for waiting_ms in [1.0, 30.0, 100.0] {
            assert_eq!(judged(seed, waiting_ms, 0.0), Verdict::Alike, "nothing, {waiting_ms} ms, {seed}");
            for longer_ms in [30.0, -30.0] {
                assert_eq!(judged(seed, waiting_ms, longer_ms), Verdict::Differ, "{waiting_ms} ms, {seed}");
            }
        }
    }
}
