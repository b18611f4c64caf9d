//! Stripe's payment page under our terms: promotion codes and tax that are in what is paid, currencies.
use house::{Catalogue, Customer, House, HouseOptions, OrderForm, Page};
use serde_json::{Value, json};

use crate::{
    shop::{DAY_SECS, SOON, open, open_with, until},
    world::{assert_stripe_contract, list, vendors},
};

const CARD: &str = "4242424242424242";
const FORM: &str = "/billing/checkout/small/?term=monthly";
const ABOUT_TAX: &str = "shows the tax and the whole amount before you pay";

/// Makes something at Stripe as its owner does in the dashboard.
async fn make(house: &House, kind: &str, form: &[(&str, &str)]) -> Value {
    let url = house.stripe().base().join(&format!("/v1/{kind}")).expect("an address");
    let key = house.setting("STRIPE_SECRET_KEY").expect("a key");
    let http = house.visitor().expect("a browser").http;
    let answer = http.post(url).bearer_auth(key).form(form).send().await.expect("sent");
    assert!(answer.status().is_success(), "{kind}: {:?}", answer.text().await);
    answer.json().await.expect("JSON")
}

async fn pay(customer: &Customer, page: &Page, more: &[(&str, &str)]) -> Page {
    let values: Vec<_> = [("card", CARD), ("action", "pay")].into_iter().chain(more.iter().copied()).collect();
    customer.visitor.submit(page, "/c/pay/", &values).await.expect("an answer")
}

async fn delivered(customer: &Customer, back: &Page) {
    let order = customer.order_page(back).await.expect("the order's page");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
}

/// Subtotal, discount, tax and total of the newest invoice of a server.
async fn sums(house: &House, hostname: &str) -> (i64, i64, i64, i64) {
    until("its invoice is mirrored", SOON, || async {
        sqlx::query_as(
            "select i.subtotal_minor, i.discount_minor, i.tax_minor, i.total_minor from invoices i
             join services s on s.subscription_id = i.subscription_id
             where s.hostname = $1 and i.status = 'paid' and i.total_minor is not null order by i.created_at desc, i.id limit 1",
        )
        .bind(hostname)
        .fetch_optional(house.db())
        .await
        .expect("invoices")
    })
    .await
}

async fn charged(house: &House) -> i64 {
    let charges = vendors(house).await.money["charges"].clone();
    charges.iter().filter(|charge| charge["paid"] == true).filter_map(|charge| charge["amount"].as_i64()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_code_and_the_tax_are_in_what_is_paid_and_a_wrong_code_charges_nothing() {
    let mut options = HouseOptions::named("terms");
    for name in ["EZ_STRIPE_PROMOTION_CODES", "EZ_STRIPE_TAX"] {
        options.settings.insert(name.to_owned(), "true".to_owned());
    }
    let house = open_with(options).await;
    let coupon = make(&house, "coupons", &[("percent_off", "50"), ("duration", "once")]).await;
    let coupon = coupon["id"].as_str().expect("an id");
    let code = [("promotion[type]", "coupon"), ("promotion[coupon]", coupon), ("code", "HALF")];
    make(&house, "promotion_codes", &code).await;

    let person = Customer::signed_in(&house).await.expect("a customer");
    let told = person.visitor.open(FORM).await.expect("the form").ok().expect("the form").text();
    assert!(told.contains(ABOUT_TAX), "nobody is told that tax comes to it: {told}");
    let page = person.order(&OrderForm::small("terms-1")).await.expect("the payment page");
    let wrong = pay(&person, &page, &[("promotion_code", "NOPE"), ("country", "DE")]).await;
    assert_eq!(wrong.url.origin(), page.url.origin(), "a wrong code was taken: {}", wrong.text());
    assert_eq!(charged(&house).await, 0);
    let nowhere = pay(&person, &page, &[("promotion_code", "HALF")]).await;
    assert_eq!(nowhere.url.origin(), page.url.origin(), "paid without an address: {}", nowhere.text());
    delivered(&person, &pay(&person, &page, &[("promotion_code", "half"), ("country", "DE")]).await).await;
    assert_eq!(sums(&house, "terms-1").await, (500, 250, 48, 298));
    assert_eq!(charged(&house).await, 298);
    person.wait_until_page_says("/billing/invoices/", "EUR 2.98", SOON).await.expect("the invoice");

    // A business in another country of the EU pays its tax itself.
    let business = Customer::signed_in(&house).await.expect("another customer");
    let page = business.order(&OrderForm::small("terms-2")).await.expect("the payment page");
    delivered(&business, &pay(&business, &page, &[("country", "AT"), ("vat_id", "ATU12345678")]).await).await;
    assert_eq!(sums(&house, "terms-2").await, (500, 0, 0, 500));
    assert_eq!(charged(&house).await, 798);
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_those_terms_the_payment_page_asks_for_neither() {
    let house = open("no-terms").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let told = customer.visitor.open(FORM).await.expect("the form").ok().expect("the form").text();
    assert!(!told.contains(ABOUT_TAX), "{told}");
    let page = customer.order(&OrderForm::small("no-terms-1")).await.expect("the payment page");
    for field in ["promotion_code", "country", "vat_id"] {
        assert!(page.attributes(&format!("input[name={field}]"), "name").is_empty(), "it asks for {field}");
    }
    delivered(&customer, &pay(&customer, &page, &[]).await).await;
    assert_eq!(sums(&house, "no-terms-1").await, (500, 0, 0, 500));
    let sessions = house.stripe().state().await.expect("Stripe")["sessions"].clone();
    assert!(!sessions.to_string().contains(&json!({"enabled": true}).to_string()), "{sessions}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_is_paid_by_the_year_is_charged_once_for_all_of_it() {
    let house = open("by-the-year").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let form = OrderForm { term: "annual", ..OrderForm::small("by-the-year-1") };
    let page = customer.order(&form).await.expect("the payment page");
    delivered(&customer, &pay(&customer, &page, &[]).await).await;
    assert_eq!((charged(&house).await, vendors(&house).await.money["charges"].len()), (5_000, 1));
    customer.wait_until_page_says("/dashboard/", "EUR 50.00 a year", SOON).await.expect("the price");
    let state = house.stripe().state().await.expect("Stripe");
    let item = list(&state["subscriptions"])[0]["items"]["data"][0].clone();
    let at = |name: &str| item[name].as_i64().expect("a time");
    assert!(at("current_period_end") - at("current_period_start") >= 365 * i64::from(DAY_SECS), "{item}");
    assert_stripe_contract(&house).await;
}

/// The smallest plan is sold in dollars, too.
fn with_dollars(catalogue: &mut Catalogue) {
    let mut dollars = catalogue.plans[0].prices[0].clone();
    (dollars.currency, dollars.amount_minor) = ("usd", 600);
    catalogue.plans[0].prices.push(dollars);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_paid_in_the_currency_that_was_chosen_and_an_account_stays_in_it() {
    let house = open_with(HouseOptions { change_catalogue: with_dollars, ..HouseOptions::named("currencies") }).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let form = |plan: &str, currency: &str| format!("/billing/checkout/{plan}/?term=monthly&currency={currency}");
    let open = |address: String| {
        let visitor = &customer.visitor;
        async move { visitor.open(&address).await.expect("an answer") }
    };
    let plan = open("/pricing/small/".to_owned()).await;
    assert!(plan.link("currency=usd").is_ok() && plan.link("currency=eur").is_ok(), "{}", plan.text());
    let unknown = open(form("small", "gbp")).await;
    assert_eq!(unknown.status, 422);
    assert!(unknown.text().contains("not sold in GBP"), "{}", unknown.text());
    assert_eq!(open(form("medium", "usd")).await.status, 422, "there is no such price");

    let page = open(form("small", "usd")).await;
    assert!(page.status == 200 && page.text().contains("USD 6.00"), "{}", page.text());
    let named = [("hostname", "dollars-1")];
    let forged = [("hostname", "dollars-1"), ("currency", "gbp")];
    let forged = customer.visitor.submit(&page, "/billing/checkout/", &forged).await.expect("an answer");
    assert_eq!(forged.status, 422, "{}", forged.text());
    let payment = customer.visitor.submit(&page, "/billing/checkout/", &named).await.expect("the payment page");
    delivered(&customer, &pay(&customer, &payment, &[]).await).await;
    let charges = vendors(&house).await.money["charges"].clone();
    assert_eq!(charges.len(), 1);
    assert_eq!((&charges[0]["amount"], &charges[0]["currency"]), (&json!(600), &json!("usd")));
    customer.wait_until_page_says("/dashboard/", "USD 6.00", SOON).await.expect("the price");

    let other = open(form("small", "eur")).await;
    assert_eq!(other.status, 422, "two currencies in one account");
    assert!(other.text().contains("Choose a price in USD"), "{}", other.text());
    let usual = open("/billing/checkout/small/".to_owned()).await;
    assert!(usual.status == 200 && usual.text().contains("USD 6.00"), "{}", usual.text());
    assert_eq!(vendors(&house).await.money["charges"].len(), 1);
    assert_stripe_contract(&house).await;
}
