//! Days that cost nothing: shown before ordering, once for each account, told of before they end, then charged like any
//! renewal; whoever cannot be charged then is reminded and suspended like anybody else.
use house::{Catalogue, Customer, House, HouseOptions, OrderForm, Page, PolicySecs};
use serde_json::{Value, json};

use super::story::word;
use crate::{
    shop::{DAY_SECS, SOON, open_with, until},
    world::{assert_stripe_contract, count, list, vendors},
};

const GOOD: &str = "4242424242424242";
/// Pays at checkout and is declined afterwards.
const FAILS_LATER: &str = "4000000000000341";
const TRIALS: &str =
    "select count(*) from orders where trial_days > 0 and status not in ('lapsed', 'sold_out', 'abandoned')";

fn with_trial(catalogue: &mut Catalogue) {
    catalogue.plans[0].trial_days = 14;
}

fn options(name: &str, policy: PolicySecs) -> HouseOptions {
    HouseOptions { change_catalogue: with_trial, policy, ..HouseOptions::named(name) }
}

async fn form(customer: &Customer) -> Page {
    customer.visitor.open("/billing/checkout/small/").await.expect("the form").ok().expect("the form")
}

async fn order(customer: &Customer, form: &Page, hostname: &str) -> Page {
    customer.visitor.submit(form, "/billing/checkout/", &[("hostname", hostname)]).await.expect("an answer")
}

async fn delivered(customer: &Customer, payment_page: &Page, card: &str) -> String {
    let back = customer.pay(payment_page, card).await.expect("paying");
    let order = customer.order_page(&back).await.expect("the order's page");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    order.to_string()
}

async fn charged(house: &House) -> Vec<i64> {
    let charges = vendors(house).await.money["charges"].clone();
    charges.iter().filter(|charge| charge["paid"] == true).filter_map(|charge| charge["amount"].as_i64()).collect()
}

async fn subscription(house: &House) -> Value {
    list(&house.stripe().state().await.expect("Stripe")["subscriptions"])[0].clone()
}

async fn renew(house: &House) {
    let id = word(&subscription(house).await["id"]);
    house.stripe().post(&format!("/_control/subscriptions/{id}/renew"), json!({})).await.expect("Stripe's control");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_is_delivered_without_a_charge_told_of_before_its_end_and_then_paid() {
    // The end is near from the first look on.
    let policy = PolicySecs { expiry_warning: 15 * DAY_SECS, subscription_poll: 2, ..PolicySecs::default() };
    let house = open_with(options("trial", policy)).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let plan = customer.visitor.open("/pricing/small/").await.expect("the plan").text();
    assert!(plan.contains("The first 14 days are free"), "{plan}");
    let first = form(&customer).await;
    assert!(first.text().contains("for 14 days") && first.text().contains("EUR 5.00 a month"), "{}", first.text());
    let page = order(&customer, &first, "trial-1").await;
    let told = delivered(&customer, &page, GOOD).await;
    let history = customer.visitor.open(&told).await.expect("the order").text();
    assert!(history.contains("Nothing was charged") && !history.contains("Payment received"), "{history}");
    customer.wait_until_page_says("/dashboard/", "Free trial", SOON).await.expect("the dashboard says so");
    let letter = customer.mailbox().wait_for(&customer.email, "Your trial of Small ends", 1, SOON).await.expect("it");
    assert!(letter.text.contains("EUR 5.00 each month") && letter.text.contains("/cancel/"), "{}", letter.text);
    assert_eq!((charged(&house).await, subscription(&house).await["status"].clone()), (vec![], json!("trialing")));
    let receipts = customer.mailbox().letters(&customer.email, "received your payment").await.expect("letters");
    assert!(receipts.is_empty(), "a receipt for nothing");

    renew(&house).await;
    customer.mailbox().wait_for(&customer.email, "payment", 1, SOON).await.expect("a receipt");
    customer.wait_until_page_says("/dashboard/", "Renews on", SOON).await.expect("the dashboard says so");
    assert_eq!((charged(&house).await, subscription(&house).await["status"].clone()), (vec![500], json!("active")));
    let told = customer.mailbox().letters(&customer.email, "Your trial of Small ends").await.expect("letters");
    assert_eq!(told.len(), 1, "told more than once");

    // The next server is paid at once, and says so; who claims otherwise is asked to look again.
    let second = form(&customer).await;
    assert!(!second.text().contains("for 14 days"), "{}", second.text());
    let forged = [("hostname", "trial-2"), ("trial_days", "14")];
    let answer = customer.visitor.submit(&second, "/billing/checkout/", &forged).await.expect("an answer");
    assert_eq!(answer.status, 422, "{}", answer.text());
    let page = order(&customer, &second, "trial-2").await;
    delivered(&customer, &page, GOOD).await;
    assert_eq!(charged(&house).await, [500, 500]);
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_sent_at_once_are_one_trial_and_one_that_was_not_begun_is_left() {
    let house = open_with(options("one-trial", PolicySecs::default())).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (one, two, three, four) = tokio::join!(form(&customer), form(&customer), form(&customer), form(&customer));
    for page in [&one, &two, &three, &four] {
        assert!(page.text().contains("for 14 days"), "{}", page.text());
    }
    tokio::join!(
        order(&customer, &one, "one-trial-1"),
        order(&customer, &two, "one-trial-2"),
        order(&customer, &three, "one-trial-3"),
        order(&customer, &four, "one-trial-4"),
    );
    assert_eq!(count(house.db(), TRIALS).await, 1, "more or less than one trial");
    let again = form(&customer).await;
    assert!(!again.text().contains("for 14 days"), "{}", again.text());

    let session: String = sqlx::query_scalar("select stripe_session_id from orders where trial_days > 0")
        .fetch_one(house.db())
        .await
        .expect("its payment page");
    house.stripe().post(&format!("/_control/sessions/{session}/expire"), json!({})).await.expect("expired");
    until("the trial is left again", SOON, || async { (count(house.db(), TRIALS).await == 0).then_some(()) }).await;
    assert!(form(&customer).await.text().contains("for 14 days"));
    assert_eq!(charged(&house).await, Vec::<i64>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_whose_end_cannot_be_charged_is_reminded_and_suspended_and_comes_back_when_it_is_paid() {
    let policy = PolicySecs { reminders: vec![1], suspend_after: 3, subscription_poll: 1, ..PolicySecs::default() };
    let house = open_with(options("unpaid-trial", policy)).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let page = customer.order(&OrderForm::small("unpaid-trial-1")).await.expect("the payment page");
    delivered(&customer, &page, FAILS_LATER).await;
    assert_eq!(charged(&house).await, Vec::<i64>::new());
    renew(&house).await;
    let mailbox = customer.mailbox();
    mailbox.wait_for(&customer.email, "is missing", 1, SOON).await.expect("a reminder");
    customer.wait_until_page_says("/dashboard/", "Suspended", SOON).await.expect("it is suspended");
    assert_eq!(charged(&house).await, Vec::<i64>::new());

    let state = house.stripe().state().await.expect("Stripe");
    let open = list(&state["invoices"]).into_iter().find(|invoice| invoice["status"] == "open").expect("an invoice");
    let payer = word(&open["customer"]);
    let control = |path: String, body: Value| {
        let stripe = house.stripe();
        async move { stripe.post(&path, body).await.expect("Stripe's control") }
    };
    control(format!("/_control/customers/{payer}/card"), json!({"kind": "good"})).await;
    control(format!("/_control/invoices/{}/pay", word(&open["id"])), json!({})).await;
    customer.wait_until_page_says("/dashboard/", "Running", SOON).await.expect("it runs again");
    assert_eq!(charged(&house).await, [500]);
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_that_cannot_be_delivered_in_time_is_given_up_without_a_word_of_money_that_goes_back() {
    let policy = PolicySecs { delivery: 6, ..PolicySecs::default() };
    let house = open_with(options("late-trial", policy)).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let broken = json!({"kind": "status", "status": 500, "method": "POST", "path": "/status/start"});
    house.proxmox().expect("a stand-in").add_fault(broken).await.expect("broken");
    let first = form(&customer).await;
    let back = customer.pay(&order(&customer, &first, "late-trial-1").await, GOOD).await.expect("paying");
    let page = customer.order_page(&back).await.expect("the order's page");
    let letter = customer.mailbox().wait_for(&customer.email, "sorry", 1, SOON).await.expect("a letter");
    assert!(letter.text.contains("in the time we promise"), "{}", letter.text);
    assert!(letter.text.contains("Nothing was charged"), "{}", letter.text);
    assert!(!letter.text.contains("goes back") && !letter.text.contains("EUR"), "{}", letter.text);
    customer.wait_until_page_says(page.as_str(), "and nothing was charged", SOON).await.expect("the page says so");
    assert_eq!(charged(&house).await, Vec::<i64>::new());
    assert_eq!(vendors(&house).await.money["refunds"].len(), 0, "something was given back");
    assert_eq!(subscription(&house).await["status"], json!("canceled"));
    assert_stripe_contract(&house).await;
}
