//! The life of a subscription, without HTTP: bought, renewed, failing, paid, changed, ended.

use serde_json::{Value, json};

use super::cards::{self, Card};
use super::checkout::Typed;
use super::payments::Outcome;
use super::refusal::Answer;
use super::world::{Call, World};
use super::{billing, checkout, forms, invoices, payments, routes};

mod cards_at_the_bank;
mod changes;
mod credit;
mod discounts;
mod news;
mod phases;
mod taxes;
mod trials;
mod troubles;
mod wire;

const MONTH_SECS: i64 = 100;
const GOOD: &str = "4242424242424242";

fn post(world: &mut World, path: &str, form: &str) -> Answer {
    call(world, "POST", path, form)
}

fn call(world: &mut World, method: &str, path: &str, form: &str) -> Answer {
    let call = Call { params: forms::parse(form.as_bytes()), path: format!("/v1/{path}") };
    routes::dispatch(world, method, &call)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

struct Sold {
    world: World,
    customer: String,
    subscription: String,
    session: String,
}

fn open_session(month_secs: Option<i64>) -> (World, String, String) {
    let mut world = World::new("http://pages.test", 1800, month_secs);
    let product = post(&mut world, "products", "name=VPS+S").expect("product");
    let form = format!(
        "product={}&currency=eur&unit_amount=1000&recurring[interval]=month&lookup_key=vps_s",
        text(&product["id"])
    );
    let price = post(&mut world, "prices", &form).expect("price");
    let customer = post(&mut world, "customers", "email=a@example.test").expect("customer");
    let form = format!(
        "mode=subscription&customer={}&success_url=http://shop.test/r?s={{CHECKOUT_SESSION_ID}}\
         &line_items[0][price]={}&line_items[0][quantity]=1&subscription_data[metadata][order]=o1",
        text(&customer["id"]),
        text(&price["id"])
    );
    let session = post(&mut world, "checkout/sessions", &form).expect("session");
    (world, text(&customer["id"]), text(&session["id"]))
}

fn sold(month_secs: Option<i64>, card: &str) -> Sold {
    let (mut world, customer, session) = open_session(month_secs);
    checkout::pay(&mut world, &session, &Typed::card(card)).expect("paid");
    let row = world.copy("checkout.session", &session).expect("session");
    Sold { subscription: text(&row["subscription"]), world, customer, session }
}

/// Another monthly price of the product that was sold; gives its id.
fn another_price(world: &mut World, amount: i64) -> String {
    let product = text(&world.all("product").next().expect("product")["id"]);
    let form = format!("product={product}&currency=eur&unit_amount={amount}&recurring[interval]=month");
    text(&post(world, "prices", &form).expect("price")["id"])
}

fn get(world: &mut World, path: &str) -> Value {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    call(world, "GET", path, query).expect("found")
}

fn latest_invoice(world: &World) -> Value {
    world.all("invoice").next_back().cloned().expect("invoice")
}

impl Sold {
    fn row(&self) -> Value {
        self.world.copy("subscription", &self.subscription).expect("subscription")
    }

    fn item(&self) -> String {
        text(&self.row()["items"]["data"][0]["id"])
    }

    fn update(&mut self, form: &str) -> Answer {
        post(&mut self.world, &format!("subscriptions/{}", self.subscription), form)
    }

    /// Moves the clock and bills what fell due.
    fn pass(&mut self, secs: i64) {
        self.world.advance(secs);
        billing::bill_due(&mut self.world).expect("billed");
    }
}

fn paid_charges(world: &World) -> usize {
    world.all("charge").filter(|charge| charge["paid"] == true).count()
}

fn events(world: &World, name: &str) -> usize {
    world.all("event").filter(|event| event["type"] == name).count()
}

#[test]
fn paying_begins_an_active_subscription_with_one_charge() {
    let sold = sold(None, "4242 4242 4242 4242");
    let row = sold.world.copy("subscription", &sold.subscription).expect("subscription");
    assert_eq!(row["status"], "active");
    assert_eq!(row["metadata"], json!({"order": "o1"}));
    assert_eq!(paid_charges(&sold.world), 1);
    assert_eq!(events(&sold.world, "checkout.session.completed"), 1);
    assert_eq!(events(&sold.world, "invoice.paid"), 1);
}

#[test]
fn paying_a_complete_or_expired_session_charges_nothing() {
    let mut sold = sold(None, "4242424242424242");
    assert!(checkout::pay(&mut sold.world, &sold.session, &Typed::card("4242424242424242")).is_err());
    assert_eq!(paid_charges(&sold.world), 1);
    let (mut world, _, session) = open_session(None);
    post(&mut world, &format!("checkout/sessions/{session}/expire"), "").expect("expired");
    assert!(checkout::pay(&mut world, &session, &Typed::card("4242424242424242")).is_err());
    let again = post(&mut world, &format!("checkout/sessions/{session}/expire"), "").expect_err("not open");
    assert_eq!(again.status, 400);
    assert_eq!(paid_charges(&world), 0);
}

#[test]
fn a_declined_card_leaves_the_session_open() {
    let (mut world, _, session) = open_session(None);
    let refusal = checkout::pay(&mut world, &session, &Typed::card(cards::DECLINED)).expect_err("declined");
    assert_eq!(refusal.status, 402);
    let row = world.copy("checkout.session", &session).expect("session");
    assert_eq!(row["status"], "open");
    assert_eq!(world.all("subscription").count(), 0);
}

#[test]
fn every_period_is_charged_once() {
    let mut sold = sold(Some(MONTH_SECS), "4242424242424242");
    sold.world.advance(MONTH_SECS * 3 + 1);
    billing::bill_due(&mut sold.world).expect("billed");
    billing::bill_due(&mut sold.world).expect("billed again");
    assert_eq!(paid_charges(&sold.world), 4);
    let mut starts: Vec<i64> = sold.world.all("invoice").filter_map(|row| row["period_start"].as_i64()).collect();
    starts.dedup();
    assert_eq!(starts.len(), 4);
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == MONTH_SECS));
}

#[test]
fn a_quiet_world_tells_of_nothing_and_a_subscription_lists_its_own_invoices_newest_first() {
    let mut sold = sold(Some(MONTH_SECS), GOOD);
    let told = sold.world.all("event").count();
    assert!(told > 0, "what was sold was not told of");
    sold.world.quiet = true;
    sold.pass(MONTH_SECS + 1);
    assert_eq!(sold.world.all("event").count(), told, "it told of a renewal");
    let path = format!("invoices?subscription={}", sold.subscription);
    let own = get(&mut sold.world, &path);
    assert_eq!(own["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(own["data"][0]["id"], latest_invoice(&sold.world)["id"]);
    let others = get(&mut sold.world, "invoices?subscription=sub_other");
    assert_eq!(others["data"], json!([]));
    let newest = text(&own["data"][0]["id"]);
    let after = get(&mut sold.world, &format!("{path}&limit=1&starting_after={newest}"));
    assert_eq!(after["data"][0]["id"], own["data"][1]["id"]);
    assert_eq!(after["has_more"], false);
}

#[test]
fn a_failing_renewal_is_past_due_until_its_invoice_is_paid() {
    let mut sold = sold(Some(MONTH_SECS), cards::FAILS_LATER);
    sold.world.advance(MONTH_SECS + 1);
    billing::bill_due(&mut sold.world).expect("billed");
    let row = sold.world.copy("subscription", &sold.subscription).expect("subscription");
    assert_eq!(row["status"], "past_due");
    let invoice = text(&row["latest_invoice"]);
    assert_eq!(sold.world.copy("invoice", &invoice).expect("invoice")["status"], "open");
    assert_eq!(events(&sold.world, "invoice.payment_failed"), 1);
    let refusal = post(&mut sold.world, &format!("invoices/{invoice}/pay"), "").expect_err("declined");
    assert_eq!(refusal.status, 402);
    payments::attach_card(&mut sold.world, &sold.customer, Card::Good).expect("card");
    assert_eq!(invoices::collect(&mut sold.world, &invoice, false).expect("collected"), Outcome::Paid);
    assert_eq!(invoices::collect(&mut sold.world, &invoice, false).expect("already paid"), Outcome::Paid);
    assert_eq!(paid_charges(&sold.world), 2);
    let row = sold.world.copy("subscription", &sold.subscription).expect("subscription");
    assert_eq!(row["status"], "active");
}

#[test]
fn cancelling_at_period_end_ends_without_an_invoice() {
    let mut sold = sold(Some(MONTH_SECS), "4242424242424242");
    let path = format!("subscriptions/{}", sold.subscription);
    let row = post(&mut sold.world, &path, "cancel_at_period_end=true").expect("updated");
    assert_eq!(row["status"], "active");
    sold.world.advance(MONTH_SECS + 1);
    billing::bill_due(&mut sold.world).expect("billed");
    let row = sold.world.copy("subscription", &sold.subscription).expect("subscription");
    assert_eq!(row["status"], "canceled");
    assert_eq!(sold.world.all("invoice").count(), 1);
    assert_eq!(events(&sold.world, "customer.subscription.deleted"), 1);
    assert_eq!(call(&mut sold.world, "DELETE", &path, "").expect_err("gone").status, 404);
}

#[test]
fn refunds_never_exceed_the_charge() {
    let mut sold = sold(None, "4242424242424242");
    let charge = text(&sold.world.all("charge").next().expect("charge")["id"]);
    post(&mut sold.world, "refunds", &format!("charge={charge}&amount=600")).expect("part");
    let over = post(&mut sold.world, "refunds", &format!("charge={charge}&amount=600"));
    assert_eq!(over.expect_err("too much").status, 400);
    post(&mut sold.world, "refunds", &format!("charge={charge}")).expect("rest");
    let none = post(&mut sold.world, "refunds", &format!("charge={charge}")).expect_err("nothing left");
    assert_eq!(none.body()["error"]["code"], "charge_already_refunded");
    let row = sold.world.copy("charge", &charge).expect("charge");
    assert_eq!((row["amount_refunded"].as_i64(), row["refunded"].as_bool()), (Some(1000), Some(true)));
}

#[test]
fn a_dearer_plan_adds_the_difference_to_the_next_invoice() {
    let mut sold = sold(Some(1_000_000), "4242424242424242");
    let product = text(&sold.world.all("product").next().expect("product")["id"]);
    let form = format!("product={product}&currency=eur&unit_amount=3000&recurring[interval]=month");
    let price = text(&post(&mut sold.world, "prices", &form).expect("price")["id"]);
    let row = sold.world.copy("subscription", &sold.subscription).expect("subscription");
    let item = text(&row["items"]["data"][0]["id"]);
    sold.world.advance(500_000);
    let form = format!("items[0][id]={item}&items[0][price]={price}");
    post(&mut sold.world, &format!("subscriptions/{}", sold.subscription), &form).expect("changed");
    assert_eq!(sold.world.all("invoice").count(), 1);
    sold.world.advance(500_001);
    billing::bill_due(&mut sold.world).expect("billed");
    let due = sold.world.all("invoice").next_back().expect("invoice")["amount_due"].as_i64();
    assert!(due.is_some_and(|due| (3990..=4010).contains(&due)), "{due:?}");
}

#[test]
fn pages_of_a_list_follow_each_other() {
    let mut world = World::new("http://pages.test", 1800, None);
    for n in 0..5 {
        post(&mut world, "customers", &format!("email=c{n}@example.test")).expect("customer");
    }
    let first = call(&mut world, "GET", "customers", "limit=2").expect("page");
    assert_eq!((first["data"].as_array().map(Vec::len), &first["has_more"]), (Some(2), &json!(true)));
    let last = text(&first["data"][1]["id"]);
    let rest = call(&mut world, "GET", "customers", &format!("limit=3&starting_after={last}")).expect("page");
    assert_eq!((rest["data"].as_array().map(Vec::len), &rest["has_more"]), (Some(3), &json!(false)));
    assert_eq!(rest["data"][0]["email"], "c2@example.test");
}

#[test]
fn a_test_clock_keeps_its_customers_in_calendar_months() {
    let mut world = World::new("http://pages.test", 1800, Some(1));
    let start = 1_801_386_000; // 31 January 2027, 09:00 UTC.
    let clock = post(&mut world, "test_helpers/test_clocks", &format!("frozen_time={start}")).expect("clock");
    let clock = text(&clock["id"]);
    let customer = post(&mut world, "customers", &format!("email=a@example.test&test_clock={clock}"));
    let customer = text(&customer.expect("customer")["id"]);
    let form = format!(
        "mode=subscription&customer={customer}&success_url=http://shop.test/&line_items[0][quantity]=1\
         &line_items[0][price_data][currency]=eur&line_items[0][price_data][unit_amount]=500\
         &line_items[0][price_data][recurring][interval]=month&line_items[0][price_data][product_data][name]=P"
    );
    let session = text(&post(&mut world, "checkout/sessions", &form).expect("session")["id"]);
    checkout::pay(&mut world, &session, &Typed::card("4242424242424242")).expect("paid");
    let end = |world: &World| {
        let row = world.all("subscription").next().cloned().expect("subscription");
        row["items"]["data"][0]["current_period_end"].as_i64()
    };
    assert_eq!(end(&world), Some(start + 28 * 86_400));
    let advance = format!("test_helpers/test_clocks/{clock}/advance");
    post(&mut world, &advance, &format!("frozen_time={}", start + 40 * 86_400)).expect("advanced");
    assert_eq!(end(&world), Some(start + 59 * 86_400));
    assert_eq!(paid_charges(&world), 2);
    assert!(post(&mut world, &advance, &format!("frozen_time={start}")).is_err());
}
