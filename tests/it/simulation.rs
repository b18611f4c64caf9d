//! Seeded simulation: customers live as a seed says in a house whose weather another seed says, with lost calls, lost,
//! doubled and shuffled reports and the death of every part. Then everything is healed, and everything must agree.
//!
//! Seeds share houses, so that a hundred of them fit beside the other tests. A seed alone meets the same weather:
//! `EZ_SIMULATION_SEED=17 cargo test --locked --workspace --test it -- --ignored simulation` repeats number 17.
mod agreement;
mod climate;
mod fate;

use std::time::{Duration, Instant};

use futures::future::join_all;
use house::{House, HouseOptions, PolicySecs};

use crate::{
    buyers,
    mortals::{Stage, stage},
    scale::{scale, seeds},
    storm::assert_letters_by_occasion,
    world::count,
};
use agreement::disagreements;
use climate::Climate;
use fate::Fate;

/// How many seeds share a house.
const HOUSEFUL: u64 = 25;
/// How long after the healing everything agrees.
const AGREED_LIMIT: Duration = Duration::from_mins(3);
const SEED: &str = "EZ_SIMULATION_SEED";

fn policy() -> PolicySecs {
    PolicySecs {
        payment_window: 10,
        checkout_poll: 2,
        reminders: vec![1],
        suspend_after: 3,
        grace: 3_600,
        retention: 3,
        retention_warning: 1,
        expiry_warning: 1,
        // Nobody is there to help.
        step_patience: 3_600,
        subscription_poll: 3,
        ..PolicySecs::default()
    }
}

/// What repeats the life of one seed.
fn repeat(seed: &str) -> String {
    format!("{SEED}={seed} cargo test --locked --workspace --test it -- --ignored --nocapture simulation")
}

/// Lets the seeds of one house live, heals it, and gives what does not agree in the end, by seed.
async fn simulate(stage: &Stage, number: u64, lives: &[u64]) -> Vec<(u64, String)> {
    let climate = Climate::of(number);
    eprintln!("simulation {number}: seeds {lives:?}, {climate:?}; repeat one of them with {}", repeat("<seed>"));
    let options = HouseOptions { policy: policy(), wide: true, ..HouseOptions::named(&format!("simulation-{number}")) };
    let house = House::start(stage.engine, options.with_gates())
        .await
        .unwrap_or_else(|fault| panic!("house {number}: {fault:?}"));
    let customers = buyers::customers(&house, lives.len()).await;
    climate.begin(&house).await;
    let began = Instant::now();
    let whole_lives = lives.iter().zip(&customers).map(|(seed, customer)| Fate::of(*seed).live(&house, customer));
    tokio::join!(join_all(whole_lives), climate.kill(stage, &house));
    climate.heal(&house).await;
    let healed = Instant::now();
    let mut left = disagreements(&house, lives, &customers).await;
    while !left.is_empty() && healed.elapsed() < AGREED_LIMIT {
        tokio::time::sleep(Duration::from_millis(200)).await;
        left = disagreements(&house, lives, &customers).await;
    }
    eprintln!("simulation {number}: healed after {:.1?}, agreed {:.1?} later", healed - began, healed.elapsed());
    if left.is_empty() {
        assert_letters_by_occasion(&house).await;
        assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
        house.stop().await.expect("the house closes");
    }
    left
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it has the machine for itself: the second part of make test"]
async fn whatever_is_lost_doubled_shuffled_or_killed_everything_agrees_in_the_end() {
    let stage = stage().await;
    let mut houses: Vec<(u64, Vec<u64>)> = vec![];
    for seed in seeds(SEED, scale().simulation_seeds) {
        let number = seed.saturating_sub(1) / HOUSEFUL;
        match houses.last_mut().filter(|(last, _)| *last == number) {
            Some((_, lives)) => lives.push(seed),
            None => houses.push((number, vec![seed])),
        }
    }
    for (number, lives) in houses {
        let left = simulate(&stage, number, &lives).await;
        let told: Vec<String> =
            left.iter().map(|(seed, why)| format!("{why}\n  repeat: {}", repeat(&seed.to_string()))).collect();
        assert!(left.is_empty(), "not agreed after {AGREED_LIMIT:?}:\n{}", told.join("\n"));
    }
}
