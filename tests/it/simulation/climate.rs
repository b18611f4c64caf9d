//! The weather of one house: what is lost, doubled and shuffled, and who dies when.
use std::{ops::Range, time::Duration};

use house::House;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Value, json};

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

/// All of it, from one seed.
#[derive(Debug)]
pub(super) struct Climate {
    seed: u64,
    calls_lost_percent: u32,
    answers_lost_percent: u32,
    answers_late_percent: u32,
    reports_lost_percent: u32,
    reports_doubled_percent: u32,
    deaths: Vec<Death>,
}

impl Climate {
    /// The weather a seed says. Every part dies at least once.
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed ^ 0x0C11_4A7E);
        let lost = dice.random_range(0..=30);
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
        let deaths = deaths.collect();
        // Of the calls that are lost, some are lost on the way there and some on the way back.
        let calls_lost_percent = dice.random_range(0..=lost);
        Self {
            seed,
            calls_lost_percent,
            answers_lost_percent: lost - calls_lost_percent,
            answers_late_percent: dice.random_range(0..=30),
            reports_lost_percent: dice.random_range(0..=30),
            reports_doubled_percent: dice.random_range(0..=50),
            deaths,
        }
    }

    /// Lets it begin.
    pub(super) async fn begin(&self, house: &House) {
        let vendors = [
            (house.stripe(), "/v1/"),
            (house.proxmox().expect("a stand-in"), "/api2/json/"),
            (house.names_gate().expect("a gate"), "/api/v1/"),
        ];
        for (vendor, path) in vendors {
            let faults: [(Value, u32); 3] = [
                (json!({"kind": "refuse"}), self.calls_lost_percent),
                (json!({"kind": "drop"}), self.answers_lost_percent),
                (json!({"kind": "delay", "ms": 400, "after_work": true}), self.answers_late_percent),
            ];
            for (number, (mut fault, percent)) in faults.into_iter().enumerate() {
                fault["path"] = json!(path);
                fault["percent"] = json!(percent);
                fault["seed"] =
                    json!(self.seed.wrapping_mul(31).wrapping_add(u64::try_from(number).expect("few")) >> 1);
                vendor.add_fault(fault).await.expect("a fault");
            }
        }
        let conduct = json!({
            "drop_percent": self.reports_lost_percent, "duplicate_percent": self.reports_doubled_percent,
            "shuffle": true, "seed": self.seed,
        });
        house.stripe().post("/_control/webhooks", conduct).await.expect("the reports");
    }

    /// Kills by plan; in the end everything is up.
    pub(super) async fn kill(&self, stage: &Stage, house: &House) {
        for death in &self.deaths {
            tokio::time::sleep(death.pause).await;
            stage.strike(house, death.part, death.down).await;
        }
    }

    /// Fair weather from now on.
    pub(super) async fn heal(&self, house: &House) {
        house.stripe().clear_faults().await.expect("cleared");
        house.proxmox().expect("a stand-in").clear_faults().await.expect("cleared");
        house.names_gate().expect("a gate").clear_faults().await.expect("cleared");
        let fair = json!({"drop_percent": 0, "duplicate_percent": 0, "shuffle": false});
        house.stripe().post("/_control/webhooks", fair).await.expect("the reports");
    }
}
