//! Histories recorded from real runs replay with today's workflows, and hold nothing private.
use std::fs;

use temporalio_client::WorkflowHistory;
use temporalio_sdk::workflow_replayer::{WorkflowReplayer, WorkflowReplayerOptions};
use workflows::{
    covered::CoveredOrder, erasure::Erasure, export::Export, letter::Letter, order::Order, subscription::Subscription,
};

use crate::histories::{assert_nothing_private, folder};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_history_replays_and_holds_nothing_private() {
    let options = WorkflowReplayerOptions::new()
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
    let replayer = WorkflowReplayer::new(options).expect("a replayer");
    for name in RECORDED {
        let path = folder().join(format!("{name}.json"));
        let text =
            fs::read(&path).unwrap_or_else(|_| panic!("{name} is not recorded: EZ_RECORD_HISTORIES=1 make test"));
        let events = WorkflowHistory::from_json(&text).expect(name).into_events().await.expect(name);
        assert_nothing_private(name, &events);
        let outcome = replayer.replay_workflow(WorkflowHistory::from_json(&text).expect(name)).await;
        assert!(outcome.is_ok(), "{name} no longer replays: {outcome:?}");
    }
}
