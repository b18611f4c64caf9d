//! A payment that is missing, and returns, while the server it is for is still being built.
use contract::subscription::StripeChanged;
use house::{Customer, House, HouseOptions, OrderForm, PolicySecs};
use serde_json::json;
use temporalio_client::UntypedWorkflow;
use workflows::subscription::Subscription;

use super::story::{act, newest, phase, word};
use crate::{
    attention::{decide, staff, waiting_step},
    shop::{SOON, open_with, until},
};

/// What stands beside the timer of the subscription's workflow while it waits for an order that is still being built.
const WAITS: &str = "an order is still being built";

/// So many looks fill a run: each is four events at least, and a run is followed by another at 4,000.
const LOOKS_MAX: u32 = 1_500;

async fn waits_for_building(house: &House, workflow: &str) {
    let client = house.temporal().await.expect("Temporal");
    until("it waits for the order that is being built", SOON, || async {
        let handle = client.get_workflow_handle::<UntypedWorkflow>(workflow);
        let events = handle.fetch_history(Default::default()).into_events().await.ok()?;
        let mut summaries = events.into_iter().filter_map(|event| event.user_metadata?.summary);
        summaries.any(|summary| String::from_utf8_lossy(&summary.data).contains(WAITS)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stopped_that_is_still_being_built_and_a_payment_that_returns_is_seen() {
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
    waits_for_building(&house, &workflow).await;
    let client = house.temporal().await.expect("Temporal");
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

/// A house with an order that waits for staff, whose subscription was ended meanwhile.
struct EndedEarly {
    house: House,
    order: String,
    subscription: String,
}

impl EndedEarly {
    async fn new(name: &str) -> Self {
        let policy = PolicySecs { step_patience: 6, retention: 6_000, retention_warning: 60, ..PolicySecs::default() };
        let house = open_with(HouseOptions { policy, ..HouseOptions::named(name) }).await;
        let customer = Customer::signed_in(&house).await.expect("a customer");
        let fault = json!({"kind": "status", "status": 500, "method": "PUT", "path": "/resize"});
        house.proxmox().expect("a stand-in").add_fault(fault).await.expect("a fault");
        let page = customer.buy(&OrderForm::small(&format!("{name}-1"))).await.expect("buying");
        let order = format!("order-{}", house::order_id(&page).expect("an id"));
        waiting_step(&house, &order).await;
        let id = word(&newest(&house, "subscriptions", |_| true).await["id"]);
        act(&house, &format!("subscriptions/{id}/cancel"), json!({})).await;
        let subscription = format!("subscription-{id}");
        waits_for_building(&house, &subscription).await;
        Self { house, order, subscription }
    }

    async fn goes_on_to_its_end(self) {
        self.house.proxmox().expect("a stand-in").clear_faults().await.expect("the fault is taken away");
        decide(&staff(&self.house).await, &self.order, &[("verdict", "retry")]).await;
        phase(&self.house, "retained").await;
        let machines = self.house.machines().vms().await.expect("the machines");
        assert!(machines.values().all(|vm| vm.status == "stopped"), "a server whose subscription has ended still runs");
        self.house.stop().await.expect("a clean end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_comes_while_the_server_is_built_is_carried_out_soon_after() {
    EndedEarly::new("ends-early").await.goes_on_to_its_end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_wait_for_an_order_is_gone_on_with_in_a_fresh_run_that_carries_the_end_out() {
    let ended = EndedEarly::new("ends-late").await;
    let client = ended.house.temporal().await.expect("Temporal");
    let handle = client.get_workflow_handle::<Subscription>(&ended.subscription);
    let run = || async {
        let described = handle.describe(Default::default()).await.expect("its workflow");
        described.run_id().to_owned()
    };
    let first = run().await;
    let mut looks = 0;
    while run().await == first {
        looks += 1;
        assert!(looks < LOOKS_MAX, "{looks} looks, and still the same run");
        let change = StripeChanged { event: format!("evt_look_{looks}") };
        handle.signal(Subscription::stripe_changed, change, Default::default()).await.expect("a signal");
        // What it answers it answers after the signal, so that two of them do not become one look.
        until("an answer after the look", SOON, || async {
            handle.query(Subscription::standing, (), Default::default()).await.ok()
        })
        .await;
    }
    waits_for_building(&ended.house, &ended.subscription).await;
    ended.goes_on_to_its_end().await;
}
