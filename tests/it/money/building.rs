//! A payment that is missing, and returns, while the server it is for is still being built.
use std::time::Duration;

use house::{Customer, HouseOptions, OrderForm, PolicySecs};
use serde_json::json;
use temporalio_client::UntypedWorkflow;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use workflows::subscription::Subscription;

use super::story::{act, newest, word};
use crate::{
    attention::{decide, staff, waiting_step},
    shop::{SOON, open_with, until},
};

/// What the subscription's workflow waits when an order is still being built. Longer than the test waits for anything.
const BUILDING_WAIT: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stopped_that_is_still_being_built_and_a_payment_that_returns_is_seen_at_once() {
    let policy = PolicySecs { step_patience: 6, ..PolicySecs::default() };
    let options = HouseOptions { policy, month_secs: Some(8), ..HouseOptions::named("building") };
    let house = open_with(options).await;
    let (customer, staff) = (Customer::signed_in(&house).await.expect("a customer"), staff(&house).await);
    let fault = json!({"kind": "status", "status": 500, "method": "PUT", "path": "/resize"});
    let proxmox = house.proxmox().expect("a stand-in");
    let fault = proxmox.add_fault(fault).await.expect("a fault");
    let page = customer.buy(&OrderForm::small("building-1")).await.expect("buying");
    let order = format!("order-{}", house::order_id(&page).expect("an id"));
    waiting_step(&house, &order).await;
    let subscription = newest(&house, "subscriptions", |_| true).await;
    let card = format!("customers/{}/card", word(&subscription["customer"]));
    act(&house, &card, json!({"fails": true})).await;
    let workflow = format!("subscription-{}", word(&subscription["id"]));
    let client = house.temporal().await.expect("Temporal");
    until("it waits for the order that is being built", SOON, || async {
        let handle = client.get_workflow_handle::<UntypedWorkflow>(&workflow);
        let events = handle.fetch_history(Default::default()).into_events().await.ok()?;
        let waits = |attributes| match attributes {
            Some(Attributes::TimerStartedEventAttributes(timer)) => {
                timer.start_to_fire_timeout.is_some_and(|wait| wait.seconds.unsigned_abs() == BUILDING_WAIT.as_secs())
            }
            _ => false,
        };
        events.into_iter().any(|event| waits(event.attributes)).then_some(())
    })
    .await;
    let overdue = || async {
        let handle = client.get_workflow_handle::<Subscription>(&workflow);
        handle.query(Subscription::standing, (), Default::default()).await.expect("an answer").overdue.is_some()
    };
    assert!(overdue().await, "it waits although nothing is owed");

    act(&house, &card, json!({"fails": false})).await;
    let open = newest(&house, "invoices", |invoice| invoice["status"] == "open").await;
    act(&house, &format!("invoices/{}/pay", word(&open["id"])), json!({})).await;
    until("the payment is seen", SOON, || async { (!overdue().await).then_some(()) }).await;
    proxmox.remove_fault(fault).await.expect("the fault is taken away");
    decide(&staff, &order, &[("verdict", "retry")]).await;
    customer.wait_until_page_says(page.as_str(), "delivered", SOON).await.expect("delivery");
    let running = house.machines().vms().await.expect("the machines").values().all(|vm| vm.status == "running");
    assert!(running, "a server that was paid for does not run");
    house.stop().await.expect("a clean end");
}
