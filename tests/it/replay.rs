//! Histories recorded from real runs replay with today's workflows, and hold nothing private.
use std::{fs, sync::Arc};

use temporalio_client::WorkflowHistory;
use temporalio_common::protos::temporal::api::{
    enums::v1::EventType,
    history::v1::{History, HistoryEvent},
};
use temporalio_sdk::workflow_replayer::{WorkflowReplayer, WorkflowReplayerOptions};
use temporalio_workflow::workflow_interceptors::{WorkflowInterceptor, WorkflowInterceptorConstructor};
use workflows::{
    covered::CoveredOrder, erasure::Erasure, export::Export, letter::Letter, order::Order, subscription::Subscription,
};

use crate::{
    histories::{assert_nothing_private, folder},
    shop::{SOON, until},
};

/// What must have been recorded at least.
const RECORDED: &[&str] = &[
    "order-delivered",
    "order-lapsed",
    "order-sold-out",
    "order-abandoned",
    "order-abandoned-at-its-name",
    "order-retried",
    "order-retried-twice",
    "order-renumbered",
    "order-skipped",
    "order-late",
    "order-late-away",
    "covered-delivered",
    "covered-abandoned",
    "covered-late",
    "subscription-whole-life",
    "subscription-never-paid",
    "subscription-cancelled-by-hand",
    "subscription-payment-confirmed",
    "subscription-plan-changed",
    "subscription-change-confirmed",
    "subscription-change-given-up",
    "subscription-ended-while-building",
    "subscription-held-back",
    "subscription-one-less",
    "export-made",
    "erasure-done",
    "erasure-taken-back",
];

/// Goes with each workflow as long as anything of it is in memory.
struct Alive(#[expect(dead_code, reason = "it is counted")] Arc<()>);

impl WorkflowInterceptor for Alive {}

/// Replays with today's workflows, each of which holds one of `alive`.
fn replayer(alive: &Arc<()>) -> WorkflowReplayer {
    let alive = Arc::clone(alive);
    let options = WorkflowReplayerOptions::new()
        .workflow_interceptor(WorkflowInterceptorConstructor::new(move |_| Alive(Arc::clone(&alive))))
        .register_workflow::<Order>()
        .expect("order")
        .register_workflow::<CoveredOrder>()
        .expect("covered order")
        .register_workflow::<Subscription>()
        .expect("subscription")
        .register_workflow::<Letter>()
        .expect("letter")
        .register_workflow::<Export>()
        .expect("export")
        .register_workflow::<Erasure>()
        .expect("erasure")
        .build();
    WorkflowReplayer::new(options).expect("a replayer")
}

fn recorded(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.json"));
    fs::read(&path).unwrap_or_else(|_| panic!("{name} is not recorded: EZ_RECORD_HISTORIES=1 make test"))
}

async fn events(name: &str) -> Vec<HistoryEvent> {
    WorkflowHistory::from_json(&recorded(name)).expect(name).into_events().await.expect(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_history_replays_and_holds_nothing_private() {
    let replayer = replayer(&Arc::default());
    for name in RECORDED {
        assert_nothing_private(name, &events(name).await);
        let outcome = replayer.replay_workflow(WorkflowHistory::from_json(&recorded(name)).expect(name)).await;
        assert!(outcome.is_ok(), "{name} no longer replays: {outcome:?}");
    }
}

/// Where a worker left a workflow waiting: each stretch of commands that one of its tasks ended with.
fn waits(events: &[HistoryEvent]) -> Vec<usize> {
    let caused = |event: &HistoryEvent| {
        matches!(
            event.event_type(),
            EventType::WorkflowTaskScheduled
                | EventType::TimerFired
                | EventType::WorkflowExecutionSignaled
                | EventType::WorkflowExecutionCancelRequested
                | EventType::ActivityTaskStarted
                | EventType::ChildWorkflowExecutionStarted
        )
    };
    let mut waits = vec![];
    let mut commands = false;
    for (at, event) in events.iter().enumerate() {
        if commands && caused(event) {
            waits.push(at);
            commands = false;
        }
        commands |= event.event_type() == EventType::WorkflowTaskCompleted;
    }
    waits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_workflow_that_is_taken_out_of_memory_while_it_waits_stays_behind() {
    let alive = Arc::default();
    let replayer = replayer(&alive);
    let nobody = Arc::strong_count(&alive);
    let mut seen = 0;
    for name in RECORDED {
        let events = events(name).await;
        for at in waits(&events) {
            let begun = History { events: events[..at].to_vec() };
            let outcome = replayer.replay_workflow(WorkflowHistory::from(begun)).await;
            assert!(outcome.is_ok(), "{name} up to {at} does not replay: {outcome:?}");
            let gone = || async { (Arc::strong_count(&alive) == nobody).then_some(()) };
            until(&format!("nothing is left of {name} up to event {at}"), SOON, gone).await;
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} waits were seen");
}
