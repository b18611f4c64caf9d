//! Who dies when in one house.
use std::{ops::Range, time::Duration};

use house::House;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use crate::mortals::{PARTS, Part, Stage};

const PAUSE_MS: Range<u64> = 200..2_500;
const DOWN_MS: Range<u64> = 100..1_500;
const DEATHS: Range<usize> = 5..9;

/// One death after a pause.
#[derive(Clone, Copy, Debug)]
struct Death {
    pause: Duration,
    part: Part,
    down: Duration,
}

/// All deaths, from one seed.
#[derive(Debug)]
pub(super) struct Deaths {
    plan: Vec<Death>,
}

impl Deaths {
    /// The deaths a seed says. Every part dies at least once.
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed ^ 0x0C11_4A7E);
        let mut parts = PARTS.to_vec();
        for _ in PARTS.len()..dice.random_range(DEATHS) {
            parts.push(PARTS[dice.random_range(0..PARTS.len())]);
        }
        parts.shuffle(&mut dice);
        let deaths = parts.into_iter().map(|part| Death {
            pause: Duration::from_millis(dice.random_range(PAUSE_MS)),
            part,
            down: Duration::from_millis(dice.random_range(DOWN_MS)),
        });
        Self { plan: deaths.collect() }
    }

    /// Kills by plan; in the end everything is up.
    pub(super) async fn kill(&self, stage: &Stage, house: &House) {
        for death in &self.plan {
            tokio::time::sleep(death.pause).await;
            stage.strike(house, death.part, death.down).await;
        }
    }
}
