//! Lives by seed: what happens to money at Stripe, told in random order, each event once, twice, three times or never, some
//! facts stated under a second id, in both payload shapes. Each step ends where the clean run of it ends: a part of the lives
//! is told everything once and in order, and all of them have to stand where Stripe says. Some of them live while the first
//! answer to each question is lost and every part dies.
//!
//! A run is one step: five runs are one life, a first payment and four things that happen then. The first ten lives are dealt
//! by hand, so that every way to begin and every step really happens in each test, which is asserted; the others throw dice.
//!
//! A life that fails prints the command that repeats it: `EZ_MONEY_SEED=17`. What happened to it may be the work of those it
//! shared its house and its deaths with: `EZ_MONEY_SEED=1..=10` lives them all again.
mod deal;
mod life;
mod standing;

use std::{collections::BTreeMap, ops::Range, time::Duration};

use futures::{StreamExt as _, stream};
use house::{House, HouseOptions, PolicySecs};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Value, json};

use super::{plan::with_smaller, teller::Teller};
use crate::{
    attention::staff,
    buyers::customers,
    mortals::{Part, Stage, stage},
    scale::{scale, seeds},
    shop::{open_with, until},
    storm::{assert_letters_by_occasion, assert_machines_by_stamp},
    world::{assert_stripe_contract, count, list},
};
use deal::{BEGINNINGS, STEPS, Step, hold_all};
use life::Life;
use standing::{astray, repeats};

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
/// What has to be left by lives in which every step happened.
const LEFT: [(&str, &str); 10] = [
    ("a larger plan", "select count(*) from instructions where kind = 'change_plan' and state = 'done'"),
    ("a smaller plan", "select count(*) from instructions where kind = 'change_plan_at_end' and state = 'done'"),
    ("a refund", "select count(*) from refunds"),
    ("a refund by staff", "select count(*) from instructions where kind = 'refund' and state = 'done'"),
    ("a refund that failed", "select count(*) from refunds where status = 'failed'"),
    ("a dispute that is open", "select count(*) from disputes where status not in ('won', 'lost')"),
    ("a dispute won", "select count(*) from timeline where fact like 'dispute/%/won'"),
    ("a dispute lost", "select count(*) from timeline where fact like 'dispute/%/lost'"),
    ("a server suspended", "select count(*) from letters where kind = 'service_suspended' and state = 'sent'"),
    ("a server that runs again", "select count(*) from letters where kind = 'service_resumed' and state = 'sent'"),
];

async fn agree(house: &House, lives: &[Life<'_>], what: &str) {
    let began = tokio::time::Instant::now();
    loop {
        let left = astray(house, lives).await;
        if left.is_empty() {
            return;
        }
        assert!(
            began.elapsed() < LIMIT,
            "{what}: {} of {} lives went astray; all of them again: {}\n{}",
            left.len(),
            lives.len(),
            repeats(&format!("{}..={}", lives[0].seed, lives[lives.len() - 1].seed)),
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

/// The first answer to everything that Stripe, the cluster and the names are asked, and to each letter, is lost.
async fn lose_answers(house: &House) {
    let lost = json!({"kind": "drop", "path": "/v1/", "once_each": true});
    house.stripe().add_fault(lost).await.expect("a fault");
    let lost = json!({"kind": "drop", "path": "/api/v1/", "once_each": true});
    house.names_gate().expect("a gate").add_fault(lost).await.expect("a fault");
    let lost = json!({"kind": "drop", "path": "/api2/json/", "once_each": true});
    house.proxmox().expect("a stand-in").add_fault(lost).await.expect("a fault");
    let lost = json!({"kind": "drop", "once_each": true});
    house.mail().control.add_fault(lost).await.expect("a fault");
}

/// Each letter was taken, and taken again.
async fn assert_every_letter_came_again(house: &House) {
    let sent = count(house.db(), "select count(*) from letters where state = 'sent'").await;
    let mail = house.mail().control.get("/api/v1/messages?limit=100000").await.expect("the mailbox");
    let came = i64::try_from(list(&mail["messages"]).len()).expect("few");
    assert!(sent > 0 && came >= 2 * sent, "{sent} letters were sent, and came {came} times");
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

/// One step of every life, and what is told of it.
async fn take_a_step(house: &House, teller: &Teller<'_>, lives: &mut [Life<'_>], number: usize) {
    if number == 0 {
        stream::iter(lives.iter_mut()).for_each_concurrent(AT_ONCE, async |life| life.begin(house).await).await;
    } else {
        let state = house.stripe().state().await.expect("Stripe");
        stream::iter(lives.iter_mut())
            .for_each_concurrent(AT_ONCE, async |life| life.goes_on(house, life.steps[number - 1], &state).await)
            .await;
    }
    tell(teller, lives).await;
}

/// Those whose servers are suspended pay.
async fn the_suspended_pay(house: &House, teller: &Teller<'_>, lives: &mut [Life<'_>], number: usize) {
    let is_suspended = |life: &&mut Life<'_>| number > 0 && life.steps[number - 1] == Step::SuspendedThenPays;
    let suspended: Vec<_> = lives.iter_mut().filter(is_suspended).collect();
    if suspended.is_empty() {
        return;
    }
    stream::iter(suspended).for_each_concurrent(AT_ONCE, async |life| life.pays(house).await).await;
    tell(teller, lives).await;
    agree(house, lives, &format!("after what was missing in step {} was paid", number + 1)).await;
}

async fn live_together(house: &House, batch: &[u64], mut death: Option<(&Stage, StdRng)>) {
    let (buyers, staff) = (customers(house, batch.len()).await, staff(house).await);
    let teller = Teller::of(house).await;
    let mut lives: Vec<Life<'_>> =
        batch.iter().zip(&buyers).map(|(seed, customer)| Life::of(*seed, customer, &staff)).collect();
    for number in 0..STEPS_EACH {
        match &mut death {
            None => take_a_step(house, &teller, &mut lives, number).await,
            Some((stage, dice)) => {
                tokio::join!(take_a_step(house, &teller, &mut lives, number), all_die(stage, house, dice));
            }
        }
        agree(house, &lives, &format!("after step {}", number + 1)).await;
        the_suspended_pay(house, &teller, &mut lives, number).await;
    }
    // What has to have been left is looked for where everything was dealt, not where one life is repeated.
    if hold_all(batch) {
        assert_all_was_lived(&lives);
    }
    assert_it_ended_well(house, batch).await;
}

/// Every way to begin and every step really happened.
fn assert_all_was_lived(lives: &[Life<'_>]) {
    for beginning in BEGINNINGS {
        assert!(lives.iter().any(|life| life.beginning == beginning), "nobody began so: {beginning:?}");
    }
    for step in STEPS {
        assert!(lives.iter().any(|life| life.lived.contains(&step)), "it happened to nobody: {step:?}");
    }
}

async fn assert_it_ended_well(house: &House, batch: &[u64]) {
    let machines = house.machines().vms().await.expect("the machines").len();
    assert_eq!(machines, batch.len(), "one machine for each life");
    assert_machines_by_stamp(house).await;
    until("every letter has left", LIMIT, || async {
        let open = "select count(*) from letters where state in ('queued', 'started')";
        (count(house.db(), open).await == 0).then_some(())
    })
    .await;
    // One may have come twice, under one Message-ID: whoever gave it to the mail server may have died before noting so.
    assert_letters_by_occasion(house).await;
    let doubled = "select count(*) from (select 1 from payments where invoice_id is not null and status = 'succeeded'
        group by invoice_id having count(*) > 1) twice";
    assert_eq!(count(house.db(), doubled).await, 0, "an invoice was charged twice");
    assert_no_period_was_paid_twice(house, batch.len()).await;
    // Whoever was not answered while everything died may have ordered twice: the page that is not paid lapses by itself.
    let held = "select count(*) from reservations r join orders o on o.id = r.order_id
        where r.released_at is null and o.status <> 'awaiting_payment'";
    assert_eq!(count(house.db(), held).await, i64::try_from(machines).expect("few"), "an open reservation");
    if hold_all(batch) {
        for (what, query) in LEFT {
            assert!(count(house.db(), query).await > 0, "no trace of {what}");
        }
    }
    assert_stripe_contract(house).await;
}

/// Stripe has one paid invoice for each period of a subscription. What a change of plan costs belongs to none.
async fn assert_no_period_was_paid_twice(house: &House, lives: usize) {
    let state = house.stripe().state().await.expect("Stripe");
    let mut paid = BTreeMap::<String, String>::new();
    for invoice in list(&state["invoices"]).iter().filter(|invoice| invoice["status"] == "paid") {
        let invoiced = list(&invoice["lines"]["data"]);
        let of_a_period = |line: &&Value| line["parent"]["subscription_item_details"]["proration"] == false;
        let Some(line) = invoiced.iter().find(of_a_period) else { continue };
        let period = format!("{} {}", line["parent"]["subscription_item_details"]["subscription"], line["period"]);
        if let Some(first) = paid.insert(period.clone(), invoice["id"].to_string()) {
            panic!("{period} was paid by {first} and by {}", invoice["id"]);
        }
    }
    assert!(paid.len() >= lives, "{} periods were paid in {lives} lives", paid.len());
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
        let house = House::start(stage.engine, options("deadly").with_gates()).await.expect("a house");
        lose_answers(&house).await;
        live_together(&house, batch, Some((&stage, StdRng::seed_from_u64(batch[0])))).await;
        assert_every_letter_came_again(&house).await;
        house.stop().await.expect("a clean end");
    }
}
