//! The mirror can be dropped: it is read from Stripe again by one command, and is the same.
use std::collections::BTreeMap;

use domain::instruction::Ask;
use house::{Catalogue, House, HouseOptions, OrderForm, PolicySecs};
use serde_json::{Value, json};

use super::{
    plan::{stripe_price, with_smaller},
    staff::Held,
    story::{Bought, act, at_dashboard, becomes, buy, deleted_at_dashboard, newest, pay, told, word},
};
use crate::{
    attention::staff,
    buyers::{customers, session},
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, count, table},
};

/// The tables that can be dropped, children first.
const TABLES: [&str; 8] = [
    "credit_moves",
    "refunds",
    "disputes",
    "payments",
    "invoices",
    "subscriptions",
    "billing_customers",
    "payment_events",
];
/// When we heard of an event, and when we were done with it, is ours and not Stripe's.
const OURS: [&str; 3] = ["received_at", "handled_at", "last_error"];
/// What Stripe no longer tells of a customer it has deleted.
const GONE: [&str; 2] = ["created_at", "currency"];

async fn mirror(house: &House) -> BTreeMap<&'static str, Vec<Value>> {
    let mut all = BTreeMap::new();
    for name in TABLES {
        let mut rows = table(house.db(), name).await;
        // With these we ask ourselves to look.
        rows.retain(|row| !row["id"].as_str().is_some_and(|id| id.starts_with("deleted/")));
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            let gone = row.get("deleted") == Some(&Value::Bool(true));
            row.retain(|column, _| !(OURS.contains(&column.as_str()) || gone && GONE.contains(&column.as_str())));
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

/// Days that cost nothing, and a plan below the smallest.
fn with_more(catalogue: &mut Catalogue) {
    with_smaller(catalogue);
    catalogue.plans.iter_mut().find(|plan| plan.slug == "medium").expect("a plan").trial_days = 14;
}

/// Six who paid, and the last one for whom it costs nothing at first.
async fn seven(house: &House) -> Vec<Bought> {
    let mut bought = vec![];
    for (number, customer) in customers(house, 7).await.iter().enumerate() {
        let hostname = format!("mirror-{number}");
        if number < 6 {
            bought.push(buy(house, customer, &hostname).await);
            continue;
        }
        let form = OrderForm { plan: "medium", ..OrderForm::small(&hostname) };
        let page = customer.order(&form).await.expect("the payment page");
        bought.push(pay(house, &session(&page)).await);
    }
    becomes(house, "all are delivered", "select count(*) from orders where status = 'delivered'", 7).await;
    bought
}

async fn charge(house: &House, bought: &Bought) -> String {
    word(&newest(house, "charges", |row| row["customer"] == bought.customer.as_str()).await["id"])
}

/// Something else becomes of each, until each is where that leads to.
async fn lived(house: &House, bought: &[Bought]) {
    let [disputed, renewed, failed, refunded, cancelled, deleted, _] = bought else { panic!("seven were bought") };
    act(house, &format!("charges/{}/dispute", charge(house, disputed).await), json!({})).await;
    // The renewal uses it.
    let balance = format!("/v1/customers/{}/balance_transactions", renewed.customer);
    at_dashboard(house, &balance, &[("amount", "-100"), ("currency", "eur")]).await;
    act(house, &format!("subscriptions/{}/renew", renewed.subscription), json!({})).await;
    act(house, &format!("customers/{}/card", failed.customer), json!({"fails": true})).await;
    act(house, &format!("subscriptions/{}/renew", failed.subscription), json!({})).await;
    let back = charge(house, refunded).await;
    at_dashboard(house, "/v1/refunds", &[("charge", &back), ("amount", "200")]).await;
    act(house, &format!("subscriptions/{}/cancel", cancelled.subscription), json!({})).await;
    deleted_at_dashboard(house, &format!("/v1/customers/{}", deleted.customer)).await;
    let staff = staff(house).await;
    let held = Held { house, customer: staff.clone(), staff, subscription: renewed.subscription.clone() };
    let smaller = Ask::ChangePlanAtEnd { price: stripe_price(&held, "tiny").await };
    assert_eq!(held.told(smaller).await.0, "done");
    until("each is where it leads to", SOON, || async {
        let there = "select count(*) from subscriptions s where (s.phase, s.status) in
            (('active', 'active'), ('active', 'trialing'), ('suspended', 'past_due'), ('retained', 'canceled'))
            and (select count(*) from services v where v.subscription_id = s.id and v.status in
                (case s.phase when 'active' then 'running' else s.phase end)) = 1";
        let ended = "select count(*) from subscriptions where phase in ('suspended', 'retained')";
        let coming = "select count(*) from subscriptions where next_price is not null";
        let each = (count(house.db(), there).await, count(house.db(), ended).await, count(house.db(), coming).await);
        (each == (7, 3, 1)).then_some(())
    })
    .await;
    told(house).await;
    settled(house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mirror_emptied_and_read_from_stripe_again_is_the_same_row_by_row() {
    let policy = PolicySecs { reminders: vec![1], suspend_after: 2, retention: 600, ..PolicySecs::default() };
    let options = HouseOptions { policy, change_catalogue: with_more, ..HouseOptions::named("mirror") };
    let house = open_with(options).await;
    let bought = seven(&house).await;
    lived(&house, &bought).await;
    let before = mirror(&house).await;
    let rows = |name: &str| before[name].len();
    for name in TABLES {
        assert!(rows(name) > 0, "nothing is shown of {name}");
    }
    let many = ["billing_customers", "subscriptions", "refunds", "disputes", "credit_moves"].map(rows);
    assert_eq!(many, [7, 7, 1, 1, 2], "{before:#?}");
    assert_eq!(rows("payments"), 8, "six first ones, a renewal, and one that failed: {:#?}", before["payments"]);
    assert!(before["payments"].iter().all(|row| !row["invoice_id"].is_null() && !row["order_id"].is_null()));
    let deleted = before["billing_customers"].iter().filter(|row| row["deleted"] == true).count();
    let trials = before["subscriptions"].iter().filter(|row| !row["trial_until"].is_null()).count();
    assert_eq!((deleted, trials), (1, 1), "{before:#?}");
    assert!(rows("payment_events") > 30);
    let renewed = bought[1].order.to_string();
    let of_renewed = before["payments"].iter().filter(|row| row["order_id"] == renewed.as_str()).count();
    assert_eq!(of_renewed, 2, "a renewal belongs to the order that began it");

    // Emptied by hand, while nobody works.
    house.stop_worker().await.expect("stopped");
    let tables = format!("truncate {}", TABLES.join(", "));
    sqlx::query(sqlx::AssertSqlSafe(tables)).execute(house.db()).await.expect("emptied");
    let told = house.run_ez(&["mirror", "rebuild"], "").await.expect("rebuilt");
    assert!(told.contains("subscriptions: 7") && !told.contains("left for a person"), "{told}");
    house.start_worker().await.expect("a worker");
    is_again(&house, &before).await;

    // Emptied by the command, while everything works.
    let told = house.run_ez(&["mirror", "rebuild", "--empty"], "").await.expect("rebuilt");
    assert!(told.contains("customers with all their payments: 7"), "{told}");
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
