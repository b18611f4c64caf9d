//! A run of a subscription's workflow that has grown long is followed by another. What staff told it just before is done by the
//! one that follows, once and under one key, however its answers fare, and not again when it is told once more.
use std::collections::BTreeSet;

use contract::subscription::StripeChanged;
use domain::{
    ids::InstructionId,
    instruction::{Ask, Instruction},
    money::Money,
};
use house::{House, HouseOptions, PolicySecs};
use serde_json::json;
use temporalio_client::UntypedWorkflow;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use uuid::Uuid;
use workflows::subscription::Subscription;

use super::{staff::Held, story::becomes};
use crate::{
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, writes_at_stripe},
};

/// A run is followed by another at so many events.
const EVENTS: usize = 4_000;
/// So many looks fill a run: each is four events at least.
const LOOKS_MAX: u32 = 1_500;
/// How many looks are asked for between two counts.
const LOOKS_AT_ONCE: u32 = 25;

/// The newest run, and how many events it has.
async fn run(house: &House, workflow: &str) -> (String, usize) {
    let client = house.temporal().await.expect("Temporal");
    let handle = client.get_workflow_handle::<Subscription>(workflow);
    let described = handle.describe(Default::default()).await.expect("its workflow");
    (described.run_id().to_owned(), described.history_length())
}

/// Tells it to look until its run is as long as one may be.
async fn fill(house: &House, workflow: &str) {
    let client = house.temporal().await.expect("Temporal");
    let handle = client.get_workflow_handle::<Subscription>(workflow);
    let mut looks = 0;
    while run(house, workflow).await.1 < EVENTS {
        assert!(looks < LOOKS_MAX, "{looks} looks, and still a short run");
        for _ in 0..LOOKS_AT_ONCE {
            looks += 1;
            let change = StripeChanged { event: format!("evt_look_{looks}") };
            handle.signal(Subscription::stripe_changed, change, Default::default()).await.expect("a signal");
            // What it answers it answers after the signal, so that two of them are not handled at once.
            until("an answer after the signal", SOON, || async {
                handle.query(Subscription::standing, (), Default::default()).await.ok()
            })
            .await;
        }
    }
}

/// What a run hands over to the one that follows it.
async fn handed_over(house: &House, workflow: &str, run: &str) -> String {
    let client = house.temporal().await.expect("Temporal");
    let mut info = client.get_workflow_handle::<UntypedWorkflow>(workflow).info().clone();
    info.run_id = Some(run.to_owned());
    let history = info.bind_untyped(client.clone()).fetch_history(Default::default());
    let mut events = history.into_events().await.expect("the history");
    match events.pop().and_then(|event| event.attributes) {
        Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(over)) => {
            let payloads = over.input.unwrap_or_default().payloads;
            payloads.iter().map(|payload| String::from_utf8_lossy(&payload.data).into_owned()).collect()
        }
        other => panic!("the run ended otherwise: {other:?}"),
    }
}

async fn tell(house: &House, workflow: &str, instruction: &Instruction) {
    let client = house.temporal().await.expect("Temporal");
    let handle = client.get_workflow_handle::<Subscription>(workflow);
    handle.execute_update(Subscription::instruct, instruction.clone(), Default::default()).await.expect("taken");
}

/// The keys under which we asked for refunds, one for each time.
async fn keys(house: &House) -> Vec<String> {
    let mut asked = writes_at_stripe(house).await;
    asked.retain(|request| request["path"] == "/v1/refunds");
    asked.iter().map(|request| request["headers"]["idempotency-key"].as_str().expect("a key").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_staff_tell_a_run_just_before_another_follows_is_done_once_under_one_key() {
    let policy = PolicySecs { step_patience: 3_600, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("followed") }).await;
    let held = Held::new(&house, "followed-1").await;
    let workflow = format!("subscription-{}", held.subscription);
    let stripe = house.stripe();
    let away = json!({"kind": "status", "status": 503, "body": "later", "method": "GET",
        "path": format!("/v1/subscriptions/{}", held.subscription)});
    let away = stripe.add_fault(away).await.expect("a fault");
    let (first, _) = run(&house, &workflow).await;
    fill(&house, &workflow).await;

    let money = Money { amount_minor: 200, currency: "eur".parse().expect("a currency") };
    let what = Ask::Refund { invoice: held.invoice().await, money };
    let id = InstructionId(Uuid::new_v4());
    let instruction = Instruction { id, by: "an operator".to_owned(), reason: "slow in May".to_owned(), what };
    tell(&house, &workflow, &instruction).await;
    becomes(&house, "it is written down", "select count(*) from instructions where state = 'accepted'", 1).await;
    assert_eq!(run(&house, &workflow).await.0, first, "another run followed before anything was told");

    // The first try is not carried out, of the second nobody hears, and whoever made it dies.
    let broken = json!({"kind": "status", "status": 500, "method": "POST", "path": "/v1/refunds", "times": 1});
    let lost = json!({"kind": "hang", "after_work": true, "method": "POST", "path": "/v1/refunds", "times": 1});
    for fault in [broken, lost] {
        stripe.add_fault(fault).await.expect("a fault");
    }
    stripe.remove_fault(away).await.expect("Stripe answers");
    until("the money is given back", SOON * 2, || async { (held.refunds().await == [200]).then_some(()) }).await;
    house.kill_worker().await.expect("kill -9");
    assert_ne!(run(&house, &workflow).await.0, first, "no other run followed");
    let over = handed_over(&house, &workflow, &first).await;
    assert!(over.contains(&id.to_string()), "it was not handed over: {over}");
    house.start_worker().await.expect("a worker");
    assert_eq!(held.settled("refund").await, "done");

    tell(&house, &workflow, &instruction).await;
    // What comes after it is done after it.
    assert_eq!(held.told(Ask::Release).await.0, "done");
    assert_eq!(held.refunds().await, [200], "given back otherwise than once");
    let keys = keys(&house).await;
    let different: BTreeSet<&String> = keys.iter().collect();
    assert!(keys.len() == 2 && different.len() == 1 && keys[0].contains(&id.to_string()), "{keys:?}");
    assert_stripe_contract(&house).await;
}
