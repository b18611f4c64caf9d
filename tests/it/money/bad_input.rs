//! What does not fit is a clear page or waits for staff; nothing is charged, and nothing is lost.
//!
//! A plan without a price in that currency: `checkout`. A form sent twice, or somebody else's: `forms/once`. A refund or
//! credit in another currency: `staff`, `given`. A price that is no plan's: `plan`.
use house::{Catalogue, Customer, House, HouseOptions, OrderForm};
use serde_json::json;

use super::story::{act, at_dashboard, newest, told, word};
use crate::{
    attention::{staff, waiting_step},
    shop::{SOON, open, open_with, until},
    world::{assert_stripe_contract, count, list, vendors},
};

async fn charged(house: &House) -> Vec<i64> {
    let charges = vendors(house).await.money["charges"].clone();
    charges.iter().filter(|charge| charge["paid"] == true).filter_map(|charge| charge["amount"].as_i64()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_code_that_does_not_apply_is_refused_on_the_page_and_charges_nothing() {
    let house = open_with(HouseOptions::named("codes").with("EZ_STRIPE_PROMOTION_CODES", "true")).await;
    let coupon = at_dashboard(&house, "/v1/coupons", &[("percent_off", "50"), ("duration", "once")]).await;
    let coupon = word(&coupon["id"]);
    let code = |name: &'static str, more: Vec<(&'static str, &'static str)>| {
        let mut form = vec![("promotion[type]", "coupon"), ("promotion[coupon]", coupon.as_str()), ("code", name)];
        form.extend(more);
        let house = &house;
        async move { at_dashboard(house, "/v1/promotion_codes", &form).await }
    };
    let least = vec![("restrictions[minimum_amount]", "100000"), ("restrictions[minimum_amount_currency]", "eur")];
    code("BIG", least).await;
    code("ONCE", vec![("max_redemptions", "1")]).await;
    let first = Customer::signed_in(&house).await.expect("a customer");
    let page = first.order(&OrderForm::small("codes-1")).await.expect("the payment page");
    let typed = |code: &'static str| [("card", "4242424242424242"), ("action", "pay"), ("promotion_code", code)];
    for wrong in ["BIG", "NEVER"] {
        let answer = first.visitor.submit(&page, "/c/pay/", &typed(wrong)).await.expect("an answer");
        assert_eq!(answer.url.origin(), page.url.origin(), "{wrong} was taken: {}", answer.text());
    }
    assert_eq!((charged(&house).await, vendors(&house).await.money["subscriptions"].len()), (vec![], 0));
    first.visitor.submit(&page, "/c/pay/", &typed("ONCE")).await.expect("paid").ok().expect("paid");
    let second = Customer::signed_in(&house).await.expect("a customer");
    let page = second.order(&OrderForm::small("codes-2")).await.expect("the payment page");
    let answer = second.visitor.submit(&page, "/c/pay/", &typed("ONCE")).await.expect("an answer");
    assert_eq!(answer.url.origin(), page.url.origin(), "used twice: {}", answer.text());
    assert_eq!(charged(&house).await, [250]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_payment_page_of_the_same_order_builds_nothing_and_is_shown_to_staff() {
    let house = open("second-page").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let order_page = customer.buy(&OrderForm::small("second-page-1")).await.expect("buying");
    customer.wait_until_page_says(order_page.as_str(), "delivered", SOON).await.expect("delivery");
    let session = newest(&house, "sessions", |_| true).await;
    let price: String =
        sqlx::query_scalar("select pr.stripe_price_id from orders o join prices pr on pr.id = o.price_id")
            .fetch_one(house.db())
            .await
            .expect("a price");
    let (payer, order) = (word(&session["customer"]), word(&session["client_reference_id"]));
    // Somebody at Stripe's dashboard opens another page for it, and it is paid.
    let form = [
        ("mode", "subscription"),
        ("customer", payer.as_str()),
        ("client_reference_id", order.as_str()),
        ("metadata[order]", order.as_str()),
        ("subscription_data[metadata][order]", order.as_str()),
        ("line_items[0][price]", price.as_str()),
        ("line_items[0][quantity]", "1"),
        ("success_url", "https://example.test/"),
    ];
    let second = at_dashboard(&house, "/v1/checkout/sessions", &form).await;
    let paid = act(&house, &format!("sessions/{}/pay", word(&second["id"])), json!({})).await;
    let strange = word(&paid["subscription"]);
    told(&house).await;
    until("staff are shown what nobody lives with", SOON, || async {
        sqlx::query("update payment_events set attempts = 100, next_attempt_at = now() where state = 'received'")
            .execute(house.db())
            .await
            .expect("time passes");
        let shown: i64 = sqlx::query_scalar(
            "select count(*) from payment_events where state = 'unclaimed' and subscription_id = $1",
        )
        .bind(&strange)
        .fetch_one(house.db())
        .await
        .expect("events");
        (shown > 0).then_some(())
    })
    .await;
    let board = staff(&house).await.visitor.open("/staff/").await.expect("the staff page").text();
    assert!(board.contains("Nobody's"), "{board}");
    for (what, query) in [
        ("orders", "select count(*) from orders"),
        ("services", "select count(*) from services"),
        ("subscriptions", "select count(*) from subscriptions"),
        ("reservations", "select count(*) from reservations where released_at is null"),
    ] {
        assert_eq!(count(house.db(), query).await, 1, "{what}");
    }
    customer.wait_until_page_says("/dashboard/", "Running", SOON).await.expect("it runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_billing_portal_opens_for_whoever_is_logged_in_and_for_nobody_else() {
    let house = open("own-portal").await;
    let (owner, other) =
        (Customer::signed_in(&house).await.expect("one"), Customer::signed_in(&house).await.expect("another"));
    let order_page = owner.buy(&OrderForm::small("own-portal-1")).await.expect("buying");
    owner.wait_until_page_says(order_page.as_str(), "delivered", SOON).await.expect("delivery");
    let payer = word(&newest(&house, "subscriptions", |_| true).await["customer"]);
    let page = other.visitor.open("/billing/portal/").await.expect("the page").ok().expect("the page");
    assert!(!page.has_form("/billing/portal/"), "who never paid is offered a portal: {}", page.text());
    // Whatever somebody adds to the form or the address, it is the own one.
    let form = owner.visitor.open("/billing/portal/").await.expect("the page").ok().expect("the page");
    let csrf = page.attributes("input[name=csrf]", "value");
    let url = house.url().join(&format!("/billing/portal/?customer={payer}")).expect("an address");
    for token in csrf.iter().map(String::as_str).chain([""]) {
        let fields = [("csrf", token), ("customer", payer.as_str()), ("account", payer.as_str())];
        let sent = other.visitor.http.post(url.clone()).form(&fields).send().await.expect("an answer");
        let at = sent.url().clone();
        assert_eq!(at.origin(), house.url().origin(), "somebody else's portal was opened: {at}");
    }
    let own = owner.visitor.submit(&form, "/billing/portal/", &[]).await.expect("the portal");
    assert_ne!(own.url.origin(), house.url().origin(), "the own portal does not open: {}", own.text());
    assert_stripe_contract(&house).await;
}

/// The smallest plan is sold in dollars, too.
fn with_dollars(catalogue: &mut Catalogue) {
    let mut dollars = catalogue.plans[0].prices[0].clone();
    (dollars.currency, dollars.amount_minor) = ("usd", 600);
    catalogue.plans[0].prices.push(dollars);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_whom_stripe_charges_in_another_currency_waits_for_staff_uncharged() {
    let house = open_with(HouseOptions { change_catalogue: with_dollars, ..HouseOptions::named("mixed") }).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let left = customer.order(&OrderForm::small("mixed-1")).await.expect("the payment page");
    let state = house.stripe().state().await.expect("Stripe");
    let payer = word(&list(&state["customers"])[0]["id"]);
    let dollars: String = sqlx::query_scalar("select stripe_price_id from prices where currency = 'usd'")
        .fetch_one(house.db())
        .await
        .expect("a price");
    act(&house, &format!("customers/{payer}/subscriptions"), json!({"price": dollars})).await;
    let before = charged(&house).await;
    let answer = customer.send_order(&OrderForm::small("mixed-2")).await.expect("an answer");
    assert_eq!(answer.url.origin(), house.url().origin(), "led to {}", answer.url);
    let order: uuid::Uuid = sqlx::query_scalar("select id from orders where hostname = 'mixed-2'")
        .fetch_one(house.db())
        .await
        .expect("the order is not lost");
    assert_eq!(waiting_step(&house, &format!("order-{order}")).await, "checkout");
    let page = customer.visitor.open(&format!("/dashboard/orders/{order}/")).await.expect("the order").text();
    assert!(page.contains("we are on it"), "{page}");
    let board = staff(&house).await.visitor.open("/staff/").await.expect("the staff page").text();
    assert!(board.contains("mixed-2") && board.contains("currenc"), "{board}");
    assert_eq!(charged(&house).await, before, "charged in another currency");
    assert!(left.url.origin() != house.url().origin());
}
