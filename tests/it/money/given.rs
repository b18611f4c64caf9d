//! What staff give: credit that the next invoice uses up first, time that is not charged, and money back, here or at Stripe.
use domain::{instruction::Ask, money::Money};
use house::{HouseOptions, OrderForm, PolicySecs};
use serde_json::{Value, json};

use super::{
    staff::{Held, day},
    story::{act, at_dashboard, becomes, newest, told, word},
};
use crate::{
    shop::{SOON, open, open_with, until},
    world::{assert_stripe_contract, count, list, vendors},
};

async fn charged(held: &Held<'_>) -> Vec<i64> {
    let charges = vendors(held.house).await.money["charges"].clone();
    let paid = charges.iter().filter(|charge| charge["paid"] == true);
    let mut amounts: Vec<i64> = paid.filter_map(|charge| charge["amount"].as_i64()).collect();
    amounts.sort_unstable();
    amounts
}

async fn at_stripe(held: &Held<'_>, kind: &str) -> Value {
    list(&held.house.stripe().state().await.expect("Stripe")[kind])[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_is_given_once_and_used_before_the_card() {
    let house = open("credit").await;
    let held = Held::new(&house, "credit-1").await;
    let page = held.page().await;
    let values = [("amount", "3.00"), ("reason", "an outage in June")];
    let answers = tokio::join!(held.send(&page, "credit", &values), held.send(&page, "credit", &values));
    assert_eq!((answers.0.status, answers.1.status), (200, 200), "{}", answers.0.text());
    assert_eq!(held.settled("credit").await, "done");
    assert_eq!(at_stripe(&held, "customers").await["balance"], json!(-300), "given otherwise than once");
    let dollars = Money { amount_minor: 100, currency: "usd".parse().expect("a currency") };
    assert_eq!(held.told(Ask::Credit { money: dollars }).await.0, "refused", "credit in another currency");
    held.stripe(&format!("/_control/subscriptions/{}/renew", held.subscription), json!({})).await;
    until("the next month is charged", SOON, || async { (charged(&held).await == [200, 500]).then_some(()) }).await;
    assert_eq!(at_stripe(&held, "customers").await["balance"], json!(0));

    let customer = word(&at_stripe(&held, "customers").await["id"]);
    let balance = format!("/v1/customers/{customer}/balance_transactions");
    let there = at_dashboard(&house, &balance, &[("amount", "-150"), ("currency", "eur")]).await;
    becomes(&house, "every move of the credit is mirrored", "select count(*) from credit_moves", 3).await;
    let page = held.page().await.text();
    for told in
        ["EUR 3.00 more", "an outage in June", "EUR 3.00 less", "Invoice in_", "EUR 1.50 more", "Somebody at Stripe"]
    {
        assert!(page.contains(told), "{told} is not on the page: {page}");
    }
    assert!(page.contains(&word(&there["id"])), "the move at Stripe is not named: {page}");
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extended_period_ends_later_and_is_not_charged() {
    let house = open("extended").await;
    let held = Held::new(&house, "extended-1").await;
    let early = held.send(&held.page().await, "extend", &[("until", &day(0)), ("reason", "late")]).await;
    assert_eq!(early.status, 422, "extended into the past: {}", early.text());
    let (state, words) =
        held.told(Ask::Extend { until: time::OffsetDateTime::now_utc().unix_timestamp() + 86_400 }).await;
    assert_eq!((state.as_str(), words.as_deref()), ("refused", Some("It is paid until later than that.")));
    assert_eq!(held.tell("extend", &[("until", &day(60)), ("reason", "they waited long")]).await, "done");
    let subscription = at_stripe(&held, "subscriptions").await;
    assert_eq!(subscription["status"], "trialing", "{subscription}");
    until("the page says until when", SOON, || async {
        let shown: bool = sqlx::query_scalar("select period_end > now() + interval '50 days' from subscriptions")
            .fetch_one(house.db())
            .await
            .expect("the subscription");
        shown.then_some(())
    })
    .await;
    assert_eq!(charged(&held).await, [500], "the time given was charged");
    held.service_is("running").await;
    // Stripe begins the time given with an invoice for nothing, and calls it paid.
    let invoices = list(&house.stripe().state().await.expect("Stripe")["invoices"]);
    let for_nothing = invoices.iter().find(|row| row["total"] == 0 && row["status"] == "paid").expect("an invoice");
    let for_nothing = for_nothing["id"].as_str().expect("an id");
    assert_eq!(held.tell("hold", &[("until", &day(3)), ("reason", "a look later")]).await, "done");
    for query in [
        "select count(*) from letters where occasion = 'payment_received/' || $1",
        "select count(*) from timeline where fact like '%/paid/' || $1",
    ] {
        let told: i64 = sqlx::query_scalar(query).bind(for_nothing).fetch_one(house.db()).await.expect("what was told");
        assert_eq!(told, 0, "a payment of nothing was told of: {query}");
    }
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_that_an_order_used_comes_back_once_when_it_is_given_up() {
    let policy = PolicySecs { step_patience: 3, delivery: 12, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("credit-back") }).await;
    let held = Held::new(&house, "credit-back-1").await;
    assert_eq!(held.tell("credit", &[("amount", "3.00"), ("reason", "an outage in June")]).await, "done");
    let broken = json!({"kind": "status", "status": 500, "method": "PUT", "path": "/resize"});
    house.proxmox().expect("a stand-in").add_fault(broken).await.expect("broken");
    let lost = json!({"kind": "drop", "times": 1, "method": "POST", "path": "/balance_transactions"});
    house.stripe().add_fault(lost).await.expect("an answer that is lost");
    let page = held.customer.buy(&OrderForm::small("credit-back-2")).await.expect("buying");
    until("the credit is used, and the card pays the rest", SOON, || async {
        (charged(&held).await == [200, 500]).then_some(())
    })
    .await;
    held.customer.wait_until_page_says(page.as_str(), "in the time we promise", SOON).await.expect("it is given up");
    let letter = held.customer.mailbox().wait_for(&held.customer.email, "sorry", 1, SOON).await.expect("a letter");
    assert!(letter.text.contains("in the time we promise"), "{}", letter.text);
    assert_eq!(at_stripe(&held, "customers").await["balance"], json!(-300), "the credit did not come back once");
    let refunds = vendors(&house).await.money["refunds"].clone();
    assert_eq!(refunds.iter().map(|refund| refund["amount"].clone()).collect::<Vec<_>>(), [json!(200)]);
    becomes(&house, "given, used and come back", "select count(*) from credit_moves", 3).await;
    let told = held.page().await.text();
    assert!(told.contains("An order was given up that had used it for in_"), "{told}");
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_in_stripes_dashboard_stands_in_the_history_once_beside_what_staff_gave_here() {
    let house = open("given-there").await;
    let held = Held::new(&house, "given-there-1").await;
    becomes(&house, "it is delivered", "select count(*) from orders where status = 'delivered'", 1).await;
    assert_eq!(held.tell("refund", &[("amount", "2.00"), ("reason", "it was slow in May")]).await, "done");
    let charge = word(&newest(&house, "charges", |charge| charge["paid"] == true).await["id"]);
    let there = at_dashboard(&house, "/v1/refunds", &[("charge", &charge), ("amount", "100")]).await;
    let lines = "select count(*) from timeline where line like '%were given back%'";
    becomes(&house, "both stand in the history", lines, 2).await;

    // Told again, and every customer read anew.
    let event = word(&newest(&house, "events", |event| event["type"] == "charge.refunded").await["id"]);
    act(&house, &format!("events/{event}/restate"), json!({})).await;
    told(&house).await;
    house.run_ez(&["mirror", "rebuild", "--empty"], "").await.expect("rebuilt");
    becomes(&house, "both are mirrored again", "select count(*) from refunds where status = 'succeeded'", 2).await;
    let open = "select (select count(*) from payment_events where state = 'received')
        + (select count(*) from mirror_looks)";
    becomes(&house, "everything is looked at", open, 0).await;
    assert_eq!(count(house.db(), lines).await, 2, "told otherwise than once each");
    let facts: Vec<String> =
        sqlx::query_scalar("select fact from timeline where line like 'EUR 1.00 were given back at Stripe on %'")
            .fetch_all(house.db())
            .await
            .expect("the line");
    assert_eq!(facts, [format!("refund/{}", word(&there["id"]))]);

    let server = held.customer.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link");
    let customers = held.customer.visitor.open(server.as_str()).await.expect("the server's page").text();
    for page in [customers, held.page().await.text()] {
        assert!(page.contains("EUR 1.00 were given back at Stripe on "), "it is not in the history: {page}");
    }
    assert_stripe_contract(&house).await;
}
