//! A year of one subscription, through the real engine: its history stays small enough to be read and replayed at once.
use contract::subscription::StripeChanged;
use house::{Customer, House, HouseOptions, OrderForm, PolicySecs};
use prost::Message;
use serde_json::json;
use temporalio_common::{
    UntypedWorkflow,
    protos::temporal::api::{
        enums::v1::EventType,
        history::v1::{History, HistoryEvent, history_event::Attributes},
    },
};
use workflows::subscription::Subscription;

use crate::{
    shop::{SOON, open_with, until},
    world::list,
};

const RENEWALS: usize = 12;
/// The month whose payment fails at first.
const BAD_MONTH: usize = 7;
/// So often in a year it looks although nothing has happened.
const DAYS: usize = 365;
/// A single run with as many is what the server warns of.
const EVENTS_MAX: usize = 10_240;
const BYTES_MAX: usize = 2 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_year_of_one_subscription_keeps_a_small_history() {
    let policy = PolicySecs { subscription_poll: 1, reminders: vec![1], suspend_after: 2, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("a-year") }).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let order_page = customer.buy(&OrderForm::small("year-1")).await.expect("buying");
    customer.wait_until_page_says(order_page.as_str(), "delivered", SOON).await.expect("delivery");
    let (id, payer): (String, String) =
        sqlx::query_as("select s.id, a.stripe_customer_id from subscriptions s join accounts a on a.id = s.account_id")
            .fetch_one(house.db())
            .await
            .expect("one subscription");
    receipts(&house, 1).await;
    tokio::join!(months(&house, &id, &payer), days(&house, &id));
    let runs = runs(&house, &id).await;
    let events = || runs.iter().flatten();
    let looks = events().filter(|event| event.event_type() == EventType::WorkflowExecutionSignaled).count();
    assert!(looks >= DAYS + RENEWALS, "Stripe's events did not reach the workflow: {looks} signals");
    let (count, runs_count) = (events().count(), runs.len());
    let bytes: usize = runs.into_iter().map(|events| History { events }.encode_to_vec().len()).sum();
    eprintln!("a year of one subscription: {count} events in {runs_count} runs, {} KiB of history", bytes / 1024);
    assert!(count < EVENTS_MAX, "{count} events");
    assert!(bytes < BYTES_MAX, "{bytes} bytes");
}

async fn months(house: &House, id: &str, payer: &str) {
    for month in 1..=RENEWALS {
        if month == BAD_MONTH {
            fail_and_recover(house, id, payer).await;
        } else {
            renew(house, id).await;
        }
        receipts(house, month + 1).await;
    }
}

/// It looks every day although nothing has happened.
async fn days(house: &House, id: &str) {
    let client = house.temporal().await.expect("Temporal");
    let handle = client.get_workflow_handle::<Subscription>(format!("subscription-{id}"));
    for day in 1..=DAYS {
        let change = StripeChanged { event: format!("evt_day_{day}") };
        handle.signal(Subscription::stripe_changed, change, Default::default()).await.expect("a signal");
        // What it answers it answers after the signal, so that two days do not become one look.
        until("an answer after the look", SOON, || async {
            handle.query(Subscription::standing, (), Default::default()).await.ok()
        })
        .await;
    }
}

/// The histories of all its runs, the newest first.
async fn runs(house: &House, id: &str) -> Vec<Vec<HistoryEvent>> {
    let client = house.temporal().await.expect("Temporal");
    let handle = client.get_workflow_handle::<UntypedWorkflow>(format!("subscription-{id}"));
    let mut info = handle.info().clone();
    let mut runs = Vec::new();
    loop {
        let handle = info.clone().bind_untyped(client.clone());
        let events = handle.fetch_history(Default::default()).into_events().await.expect("the history");
        let before = match events.first().and_then(|event| event.attributes.as_ref()) {
            Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) => {
                started.continued_execution_run_id.clone()
            }
            other => panic!("a history that begins with {other:?}"),
        };
        runs.push(events);
        if before.is_empty() {
            return runs;
        }
        info.run_id = Some(before);
    }
}

async fn renew(house: &House, id: &str) {
    house.stripe().post(&format!("/_control/subscriptions/{id}/renew"), json!({})).await.expect("a renewal");
}

/// The card fails, the machine is stopped, the customer pays, the machine runs again.
async fn fail_and_recover(house: &House, id: &str, payer: &str) {
    let card = format!("/_control/customers/{payer}/card");
    house.stripe().post(&card, json!({"fails": true})).await.expect("a card that fails");
    renew(house, id).await;
    machine_is(house, "stopped").await;
    house.stripe().post(&card, json!({"fails": false})).await.expect("a good card");
    let state = house.stripe().state().await.expect("Stripe");
    for invoice in list(&state["invoices"]).into_iter().filter(|invoice| invoice["status"] == "open") {
        let id = invoice["id"].as_str().expect("an id");
        house.stripe().post(&format!("/_control/invoices/{id}/pay"), json!({})).await.expect("paying");
    }
    machine_is(house, "running").await;
}

async fn machine_is(house: &House, status: &str) {
    until(&format!("the machine is {status}"), SOON, || async {
        let machines = house.machines().vms().await.expect("the machines");
        machines.values().all(|vm| vm.status == status).then_some(())
    })
    .await;
}

async fn receipts(house: &House, wanted: usize) {
    until(&format!("receipt number {wanted}"), SOON, || async {
        let sent: i64 =
            sqlx::query_scalar("select count(*) from letters where kind = 'payment_received' and state = 'sent'")
                .fetch_one(house.db())
                .await
                .expect("the letters");
        (usize::try_from(sent).expect("a count") >= wanted).then_some(())
    })
    .await;
}
