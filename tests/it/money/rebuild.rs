//! The mirror can be dropped: it is read from Stripe again by one command, and is the same.
use std::collections::BTreeMap;

use house::{House, HouseOptions, PolicySecs};
use serde_json::{Value, json};

use super::story::{act, at_dashboard, buy, newest};
use crate::{
    buyers::customers,
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, count, table},
};

/// The tables that can be dropped, children first.
const TABLES: [&str; 7] =
    ["refunds", "disputes", "payments", "invoices", "subscriptions", "billing_customers", "payment_events"];
/// When we heard of an event, and when we were done with it, is ours and not Stripe's.
const OURS: [&str; 3] = ["received_at", "handled_at", "last_error"];

async fn mirror(house: &House) -> BTreeMap<&'static str, Vec<Value>> {
    let mut all = BTreeMap::new();
    for name in TABLES {
        let mut rows = table(house.db(), name).await;
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            row.retain(|column, _| !OURS.contains(&column.as_str()));
        }
        all.insert(name, rows);
    }
    all
}

/// What differs, in words; nothing when both are the same.
fn difference(
    before: &BTreeMap<&'static str, Vec<Value>>,
    after: &BTreeMap<&'static str, Vec<Value>>,
) -> Option<String> {
    TABLES.iter().find_map(|name| {
        let lost: Vec<_> = before[name].iter().filter(|row| !after[name].contains(row)).collect();
        let new: Vec<_> = after[name].iter().filter(|row| !before[name].contains(row)).collect();
        (!lost.is_empty() || !new.is_empty()).then(|| format!("{name}: was {lost:#?}, is {new:#?}"))
    })
}

/// Everything that Stripe told was looked at.
async fn settled(house: &House) {
    until("every event and every look is answered", SOON, || async {
        let open = "select (select count(*) from payment_events where state not in ('handled', 'ignored'))
            + (select count(*) from mirror_looks)";
        (count(house.db(), open).await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mirror_emptied_and_read_from_stripe_again_is_the_same_row_by_row() {
    let policy = PolicySecs { reminders: vec![1], suspend_after: 2, retention: 600, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("mirror") }).await;
    let mut bought = vec![];
    for (number, customer) in customers(&house, 5).await.iter().enumerate() {
        bought.push(buy(&house, customer, &format!("mirror-{number}")).await);
    }
    let [_, renewed, failed, refunded, cancelled] = &bought[..] else { panic!("five were bought") };
    until("all are delivered", SOON, || async {
        let delivered = "select count(*) from orders where status = 'delivered'";
        (count(house.db(), delivered).await == 5).then_some(())
    })
    .await;
    act(&house, &format!("subscriptions/{}/renew", renewed.subscription), json!({})).await;
    act(&house, &format!("customers/{}/card", failed.customer), json!({"fails": true})).await;
    act(&house, &format!("subscriptions/{}/renew", failed.subscription), json!({})).await;
    let charge = newest(&house, "charges", |row| row["customer"] == refunded.customer.as_str()).await;
    let charge = charge["id"].as_str().expect("an id");
    at_dashboard(&house, "/v1/refunds", &[("charge", charge), ("amount", "200")]).await;
    act(&house, &format!("subscriptions/{}/cancel", cancelled.subscription), json!({})).await;
    until("each is where it leads to", SOON, || async {
        let there = "select count(*) from subscriptions s where (s.phase, s.status) in
            (('active', 'active'), ('suspended', 'past_due'), ('retained', 'canceled'))
            and (select count(*) from services v where v.subscription_id = s.id and v.status in
                (case s.phase when 'active' then 'running' else s.phase end)) = 1";
        let ended = "select count(*) from subscriptions where phase in ('suspended', 'retained')";
        (count(house.db(), there).await == 5 && count(house.db(), ended).await == 2).then_some(())
    })
    .await;
    settled(&house).await;
    let before = mirror(&house).await;
    let rows = |name: &str| before[name].len();
    assert_eq!((rows("billing_customers"), rows("subscriptions"), rows("refunds")), (5, 5, 1), "{before:#?}");
    assert_eq!(rows("payments"), 7, "five first ones, a renewal, and one that failed: {:#?}", before["payments"]);
    assert!(before["payments"].iter().all(|row| !row["invoice_id"].is_null() && !row["order_id"].is_null()));
    assert!(rows("payment_events") > 30);
    let of_renewed = before["payments"].iter().filter(|row| row["order_id"] == renewed.order.to_string()).count();
    assert_eq!(of_renewed, 2, "a renewal belongs to the order that began it");

    // Emptied by hand, while nobody works.
    house.stop_worker().await.expect("stopped");
    let tables = format!("truncate {}", TABLES.join(", "));
    sqlx::query(sqlx::AssertSqlSafe(tables)).execute(house.db()).await.expect("emptied");
    let told = house.run_ez(&["mirror", "rebuild"], "").await.expect("rebuilt");
    assert!(told.contains("subscriptions: 5") && !told.contains("left for a person"), "{told}");
    house.start_worker().await.expect("a worker");
    is_again(&house, &before).await;

    // Emptied by the command, while everything works.
    let told = house.run_ez(&["mirror", "rebuild", "--empty"], "").await.expect("rebuilt");
    assert!(told.contains("customers with all their payments: 5"), "{told}");
    is_again(&house, &before).await;
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
    assert_stripe_contract(&house).await;
}

async fn is_again(house: &House, before: &BTreeMap<&'static str, Vec<Value>>) {
    let limit = tokio::time::Instant::now() + SOON;
    loop {
        settled(house).await;
        let Some(differs) = difference(before, &mirror(house).await) else { return };
        assert!(tokio::time::Instant::now() < limit, "the rebuilt mirror differs: {differs}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
