//! The columns that are faults of the wire: each row's call spoilt in one way, all rows side by side on one house.
use std::time::Duration;

use futures::future::join_all;
use house::{House, HouseOptions};
use serde_json::{Value, json};
use temporalio_client::{Client, UntypedWorkflow};

use super::{
    again::asked,
    checks::{Repeats, World},
    order::{LIMIT, waiting},
    rows::{ROWS, Vendor},
    story::{Cell, control},
};
use crate::{
    cluster::assert_asked_of_fakepve,
    shop::{open_with, until},
    world::{assert_stripe_contract, count},
};

/// How long calls are gathered before the worker is killed in the midst of them.
const GATHERED: Duration = Duration::from_millis(500);

/// The steps that are asked for only when building at one go did not succeed at them.
const ALONE: [&str; 6] =
    ["machine.clone", "machine.configure", "machine.resize", "machine.protect", "machine.start", "machine.answer"];

async fn house(name: &str) -> House {
    open_with(HouseOptions::named(name).with_gates()).await
}

/// The faults of a step that goes on alone: what builds at one go is refused first, so that they strike the step itself.
fn once_alone(faults: &[Value]) -> Vec<Value> {
    let refused = json!({"kind": "status", "status": 400, "times": 1});
    std::iter::once(refused).chain(faults.iter().cloned()).collect()
}

async fn cells<'a>(house: &'a House, client: &Client, faults: &'a [Value], alone: &'a [Value]) -> Vec<Cell<'a>> {
    let mut cells = vec![];
    for row in &ROWS {
        let faults = if ALONE.contains(&row.activity) { alone } else { faults };
        cells.push(Cell::new(house, client, row, faults).await);
    }
    cells
}

/// How many of these steps were asked for by themselves: what struck what builds at one go says nothing about them.
async fn gone_alone(client: &Client, cells: &[Cell<'_>]) -> usize {
    let mut alone = 0;
    for cell in cells.iter().filter(|cell| ALONE.contains(&cell.row.activity)) {
        let handle = client.get_workflow_handle::<UntypedWorkflow>(cell.bought.workflow_id());
        let events = handle.fetch_history(Default::default()).into_events().await.expect("a history");
        alone += usize::from(events.iter().filter_map(asked).any(|(name, _)| name == cell.row.activity));
    }
    alone
}

async fn ended_well(house: &House, column: &str, cells: &[Cell<'_>]) {
    ended_well_with(house, column, cells, Repeats::Never).await;
}

async fn ended_well_with(house: &House, column: &str, cells: &[Cell<'_>], repeats: Repeats) {
    assert_eq!(waiting(house).await, 0, "{column}: something waits for staff");
    let asked = count(house.db(), "select count(*) from attention where step <> 'name'").await;
    assert_eq!(asked, 0, "{column}: staff were asked although nothing was for them");
    let world = World::ask(house).await;
    for cell in cells {
        let what = format!("{} × {column}", cell.row.activity);
        world.assert_ended_well(&what, &cell.bought, repeats).await;
    }
    world.assert_places_were_seen(column);
    world.assert_nothing_of_nobody(column, &cells.iter().map(|cell| &cell.bought).collect::<Vec<_>>());
    assert_stripe_contract(house).await;
    assert_asked_of_fakepve(house).await;
}

/// Every row with the same faults, which strike some times and then no more: every order ends by itself.
async fn column(name: &str, column: &str, faults: &[Value]) {
    let house = house(name).await;
    let (client, alone) = (house.temporal().await.expect("Temporal"), once_alone(faults));
    let mut cells = cells(&house, &client, faults, &alone).await;
    join_all(cells.iter_mut().map(|cell| async {
        cell.live().await;
        cell.has_struck().await;
    }))
    .await;
    assert_eq!(gone_alone(&client, &cells).await, ALONE.len(), "{column}: only building at one go was struck");
    ended_well(&house, column, &cells).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vendor_call_whose_work_is_done_and_whose_answer_is_lost_is_done_once() {
    column("matrix-lost", "work done but answer lost", &[json!({"kind": "drop", "times": 1})]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vendor_call_that_is_refused_for_being_too_many_is_made_later() {
    let busy = |status: u16| json!({"kind": "status", "status": status, "body": "slow down", "times": 2});
    column("matrix-busy", "429/503", &[busy(429), busy(503)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vendor_call_that_hangs_past_its_timeout_is_made_again() {
    column("matrix-hang", "hangs past its timeout", &[json!({"kind": "hang", "times": 1})]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_that_is_malformed_or_half_is_taken_neither_for_success_nor_for_absence() {
    // The work is not done and the answer says 200; at last it is done, and the answer breaks off.
    let bodies = ["{\"data\":\"UPID:pv", "", "<h1>It works!</h1>", "[]", "{}", "42"];
    let lies = bodies.map(|body| json!({"kind": "status", "status": 200, "body": body, "times": 1}));
    let faults: Vec<Value> =
        lies.into_iter().chain([json!({"kind": "malformed", "shape": "short", "times": 1})]).collect();
    column("matrix-malformed", "malformed answer", &faults).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vendor_call_whose_worker_is_killed_after_the_effect_is_done_once() {
    let house = house("matrix-killed").await;
    let held = [json!({"kind": "hang", "after_work": true, "times": 1})];
    let (client, alone) = (house.temporal().await.expect("Temporal"), once_alone(&held));
    let mut cells = cells(&house, &client, &held, &alone).await;
    let kills = kill_at_every_effect(&house, 0, ROWS.len());
    let lives = join_all(cells.iter_mut().map(async |cell| {
        cell.live().await;
        cell.has_struck().await;
    }));
    let (kills, _) = tokio::join!(kills, lives);
    assert_eq!(kills, ROWS.len(), "a worker did not die after the effect of every row");
    // A worker that dies before it says that it was refused is followed by one whose building at one go is struck.
    assert!(gone_alone(&client, &cells).await > ALONE.len() / 2, "only building at one go was struck");
    ended_well_with(&house, "worker killed after the effect", &cells, Repeats::UnderOneId).await;
}

/// Kills the worker whenever one more call than `seen` has had its effect and its answer is held back, until that was so of
/// `all`. Gives of how many it was.
pub(super) async fn kill_at_every_effect(house: &House, mut seen: usize, all: usize) -> usize {
    while seen < all {
        until("one more call has had its effect", LIMIT, || async { (effects(house).await > seen).then_some(()) })
            .await;
        // Calls that have theirs at about the same time share one death; the shortest of all waits four seconds.
        tokio::time::sleep(GATHERED).await;
        seen = effects(house).await;
        house.kill_worker().await.expect("kill -9");
        house.start_worker().await.expect("a new worker");
    }
    seen
}

/// How many calls were held back after their work was done.
pub(super) async fn effects(house: &House) -> usize {
    let mut held = 0;
    for vendor in [Vendor::Stripe, Vendor::Machines, Vendor::Names] {
        let requests = control(house, vendor).requests(None).await.expect("the requests");
        held += requests.iter().filter(|request| request["fault"] == "hang" && !request["status"].is_null()).count();
    }
    held
}
