//! Lives by seed: what happens to money at Stripe, told in random order, each event once, twice, three times or never, some
//! facts stated under a second id, in both payload shapes. Each step ends where the clean run of it ends: a part of the lives
//! is told everything once and in order, and all of them have to stand where Stripe says. Some of them live while the first
//! answer to each question is lost and every part dies.
//!
//! A life that fails prints the command that repeats it: `EZ_MONEY_SEED=17`.
mod life;
mod standing;

use std::{ops::Range, time::Duration};

use futures::{StreamExt as _, stream};
use house::{House, HouseOptions, PolicySecs};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::json;

use super::{plan::with_smaller, teller::Teller};
use crate::{
    buyers::customers,
    mortals::{Part, Stage, stage},
    scale::{scale, seeds},
    shop::open_with,
    storm::assert_letters_by_occasion,
    world::{assert_stripe_contract, count},
};
use life::Life;
use standing::astray;

/// How many lives share a house.
const LIVES_AT_ONCE: usize = 100;
/// A first payment and what follows.
const STEPS_EACH: usize = 5;
const RUNS_EACH: u64 = 5;
const AT_ONCE: usize = 16;
/// How often Stripe's list of events is gone through, in seconds.
const ROUND_SECS: u32 = 2;
const LIMIT: Duration = Duration::from_mins(4);
/// What can die in these lives, and when.
const MORTAL: [Part; 4] = [Part::Worker, Part::Web, Part::Temporal, Part::Postgres];
const PAUSE_MS: Range<u64> = 50..1_500;
const DOWN_MS: Range<u64> = 50..800;

async fn agree(house: &House, lives: &[Life<'_>], what: &str) {
    let began = tokio::time::Instant::now();
    loop {
        let left = astray(house, lives).await;
        if left.is_empty() {
            return;
        }
        assert!(
            began.elapsed() < LIMIT,
            "{what}: {} of {} lives went astray:\n{}",
            left.len(),
            lives.len(),
            left.join("\n")
        );
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
}

/// Tells every life what happened to it, each in its own way.
async fn tell(teller: &Teller<'_>, lives: &mut [Life<'_>]) {
    let events = teller.events().await;
    stream::iter(lives)
        .for_each_concurrent(AT_ONCE, async |life| {
            for event in life.telling(&events[&life.at_stripe]) {
                teller.tell(&event).await;
            }
        })
        .await;
}

/// Kills every part once, in the order and at the moments the dice say.
async fn all_die(stage: &Stage, house: &House, dice: &mut StdRng) {
    let mut parts = MORTAL;
    parts.shuffle(dice);
    for part in parts {
        tokio::time::sleep(Duration::from_millis(dice.random_range(PAUSE_MS))).await;
        stage.strike(house, part, Duration::from_millis(dice.random_range(DOWN_MS))).await;
    }
}

/// The first answer to each question of Stripe, and to each order of the cluster, is lost.
async fn lose_answers(house: &House) {
    let lost = json!({"kind": "drop", "path": "/v1/", "once_each": true});
    house.stripe().add_fault(lost).await.expect("a fault");
    for method in ["post", "put", "delete"] {
        let lost = json!({"kind": "drop", "path": "/api2/json/", "method": method, "once_each": true});
        house.proxmox().expect("a stand-in").add_fault(lost).await.expect("a fault");
    }
}

fn options(name: &str) -> HouseOptions {
    let policy = PolicySecs {
        checkout_poll: 3_000,
        payment_window: 3_000,
        subscription_poll: 30_000,
        retention: 6_000,
        retention_warning: 60,
        step_patience: 3_000,
        events: ROUND_SECS,
        ..PolicySecs::default()
    };
    HouseOptions { policy, wide: true, change_catalogue: with_smaller, ..HouseOptions::named(name) }
}

async fn live_together(house: &House, batch: &[u64], mut death: Option<(&Stage, StdRng)>) {
    let buyers = customers(house, batch.len()).await;
    let teller = Teller::of(house).await;
    let mut lives: Vec<Life<'_>> =
        batch.iter().zip(&buyers).map(|(seed, customer)| Life::of(*seed, customer)).collect();
    stream::iter(lives.iter_mut()).for_each_concurrent(AT_ONCE, async |life| life.begin(house).await).await;
    for number in 0..STEPS_EACH {
        if number > 0 {
            let state = house.stripe().state().await.expect("Stripe");
            stream::iter(&lives)
                .for_each_concurrent(AT_ONCE, async |life| life.happens(house, life.steps[number - 1], &state).await)
                .await;
        }
        match &mut death {
            None => tell(&teller, &mut lives).await,
            Some((stage, dice)) => {
                tokio::join!(tell(&teller, &mut lives), all_die(stage, house, dice));
            }
        }
        agree(house, &lives, &format!("after step {}", number + 1)).await;
    }
    let machines = house.machines().vms().await.expect("the machines").len();
    assert_eq!(machines, batch.len(), "one machine for each life");
    assert_letters_by_occasion(house).await;
    let doubled = "select count(*) from (select 1 from payments where invoice_id is not null and status = 'succeeded'
        group by invoice_id having count(*) > 1) twice";
    assert_eq!(count(house.db(), doubled).await, 0, "an invoice was charged twice");
    let held = "select count(*) from reservations where released_at is null";
    assert_eq!(count(house.db(), held).await, i64::try_from(machines).expect("few"), "an open reservation");
    assert_stripe_contract(house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it has the machine for itself: the second part of make test"]
async fn events_in_any_order_any_number_of_times_or_never_end_where_the_clean_run_ends() {
    let seeds = seeds("EZ_MONEY_SEED", scale().money_runs.div_ceil(RUNS_EACH));
    for batch in seeds.chunks(LIVES_AT_ONCE) {
        let house = open_with(options("lives")).await;
        live_together(&house, batch, None).await;
        house.stop().await.expect("a clean end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it has the machine for itself: the second part of make test"]
async fn lives_agree_with_stripe_although_every_answer_is_lost_once_and_every_part_dies() {
    let stage = stage().await;
    let seeds = seeds("EZ_MONEY_SEED", scale().deadly_runs.div_ceil(RUNS_EACH));
    for batch in seeds.chunks(LIVES_AT_ONCE) {
        let house = House::start(stage.engine, options("deadly")).await.expect("a house");
        lose_answers(&house).await;
        live_together(&house, batch, Some((&stage, StdRng::seed_from_u64(batch[0])))).await;
        house.stop().await.expect("a clean end");
    }
}
