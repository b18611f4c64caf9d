//! What happens once, however many see it; and what happens although nobody is told.
use futures::future::join_all;
use house::{HouseOptions, PolicySecs};
use serde_json::json;

use super::{
    plan::charged,
    staff::Held,
    story::{act, becomes, newest, told, word},
};
use crate::{
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, count},
};

const RECEIPTS: &str = "select count(*) from letters where kind = 'payment_received' and state = 'sent'";
const REMINDERS: &str = "select count(*) from letters where kind = 'payment_reminder' and state = 'sent'";
const UNSENT: &str = "select count(*) from letters where state <> 'sent'";
const LINES: &str = "select count(*) from timeline where kind = 'renewal'";
const HEARD: &str = "select count(*) from payment_events";

/// The newest event of a type, as Stripe has it.
async fn event(held: &Held<'_>, kind: &str) -> String {
    word(&newest(held.house, "events", |event| event["type"] == kind).await["id"])
}

/// Has the subscription look so many times, by telling it again what it knows.
async fn looks(held: &Held<'_>, event: &str, times: usize) {
    let path = format!("/v1/subscriptions/{}", held.subscription);
    let seen = || async { held.house.stripe().requests(Some(path.as_str())).await.expect("the requests").len() };
    for _ in 0..times {
        let before = seen().await;
        act(held.house, &format!("events/{event}/restate"), json!({})).await;
        until("it looks at Stripe again", SOON * 2, || async { (seen().await > before).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_webhook_poll_rounds_and_reconcile_see_at_once_is_one_charge_one_receipt_and_one_line() {
    let policy = PolicySecs { subscription_poll: 1, events: 1, comparison: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("at-once") }).await;
    let held = Held::new(&house, "at-once-1").await;
    becomes(&house, "the first receipt is sent", RECEIPTS, 1).await;
    becomes(&house, "the first payment has its line", LINES, 1).await;

    act(&house, &format!("subscriptions/{}/renew", held.subscription), json!({})).await;
    let paid = event(&held, "invoice.paid").await;
    let again = format!("events/{paid}/restate");
    let restated = join_all((0..20).map(|_| act(&house, &again, json!({}))));
    let reconciled = join_all((0..3).map(|_| house.run_ez(&["reconcile"], "")));
    let (_, reconciled) = tokio::join!(restated, reconciled);
    for done in reconciled {
        done.expect("reconciled");
    }
    told(&house).await;
    becomes(&house, "its receipt is sent", RECEIPTS, 2).await;
    becomes(&house, "it has its line", LINES, 2).await;
    looks(&held, &paid, 10).await;

    assert_eq!(charged(&held).await, [500, 500], "charged otherwise than once");
    let receipts = held.customer.mailbox().letters(&held.customer.email, "received your payment").await;
    assert_eq!(receipts.expect("letters").len(), 2, "another receipt than one for each payment");
    assert_eq!((count(house.db(), RECEIPTS).await, count(house.db(), LINES).await), (2, 2));
    let payments = "select count(*) from payments where status = 'succeeded'";
    assert_eq!(count(house.db(), payments).await, 2, "a payment is mirrored otherwise than once");
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_often_it_is_looked_each_reminder_is_sent_once() {
    let policy = PolicySecs {
        reminders: vec![1, 12],
        suspend_after: 3_600,
        subscription_poll: 1,
        comparison: 1,
        ..PolicySecs::default()
    };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("reminded") }).await;
    let held = Held::new(&house, "reminded-1").await;
    becomes(&house, "the receipt is sent", RECEIPTS, 1).await;
    held.stops_paying().await;
    let missing = event(&held, "invoice.payment_failed").await;
    for number in 1..=2 {
        becomes(&house, "a reminder is sent", REMINDERS, number).await;
        // Whoever dies while it hands a letter over hands it over again, under the same Message-ID.
        becomes(&house, "no letter is under way", UNSENT, 0).await;
        house.kill_worker().await.expect("kill -9");
        house.start_worker().await.expect("a worker");
        looks(&held, &missing, 15).await;
    }
    assert_eq!(count(house.db(), UNSENT).await, 0, "another letter is under way");
    let reminders = held.customer.mailbox().letters(&held.customer.email, "is missing").await.expect("letters");
    assert_eq!(reminders.len(), 2, "another reminder than one for each number: {reminders:#?}");
    let written = "select count(*) from letters where kind = 'payment_reminder'";
    assert_eq!(count(house.db(), written).await, 2, "written down otherwise than once");
    held.service_is("running").await;
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_pays_is_started_again_although_no_webhook_told() {
    let policy = PolicySecs { reminders: vec![1], suspend_after: 2, subscription_poll: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("untold") }).await;
    let held = Held::new(&house, "untold-1").await;
    told(&house).await;
    house.stripe().post("/_control/webhooks", json!({"drop_percent": 100})).await.expect("webhooks are lost");
    let heard = count(house.db(), HEARD).await;
    held.stops_paying().await;
    held.service_is("suspended").await;
    held.card_fails(false).await;
    let open = newest(&house, "invoices", |invoice| invoice["status"] == "open").await;
    act(&house, &format!("invoices/{}/pay", word(&open["id"])), json!({})).await;
    held.service_is("running").await;
    until("the machine runs", SOON, || async {
        let machines = house.machines().vms().await.expect("the machines");
        (machines.len() == 1 && machines.values().all(|machine| machine.status == "running")).then_some(())
    })
    .await;
    let mailbox = held.customer.mailbox();
    mailbox.wait_for(&held.customer.email, "runs again", 1, SOON).await.expect("a letter");
    assert_eq!(charged(&held).await, [500, 500], "charged otherwise than once a month");
    assert_eq!(count(house.db(), HEARD).await, heard, "a webhook told");
    assert_stripe_contract(&house).await;
}
