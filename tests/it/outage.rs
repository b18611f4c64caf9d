//! Temporal, PostgreSQL, the mail server or the web away; Stripe and Proxmox in trouble. Whatever happens, an order that was
//! paid is delivered, once, without anybody's help.
use house::{Customer, GOOD_CARD, House, HouseOptions, OrderForm, Page, PolicySecs};
use reqwest::{Response, header};
use serde_json::{Value, json};

use crate::{
    shop::{SOON, open, open_with, until},
    world::{count, list, vendors},
};

const PAGES: &[&str] =
    &["/", "/about/", "/pricing/", "/pricing/small/", "/billing/checkout/small/", "/billing/portal/", "/dashboard/"];

async fn get(customer: &Customer, path: &str) -> Response {
    let url = customer.visitor.home.join(path).expect("a path");
    customer.visitor.http.get(url).header(header::ACCEPT, "text/html").send().await.expect("an answer")
}

/// How often we heard that a payment page was paid.
const PAID_EVENTS: &str = "select count(*) from payment_events where type = 'checkout.session.completed'";

/// Everything was built, charged and named once for each order, and nobody had to help.
pub(crate) async fn assert_delivered_once(house: &House, orders: usize) {
    let world = vendors(house).await;
    assert_eq!(world.machines.len(), orders, "machines");
    assert!(world.machines.values().all(|vm| vm.status == "running"), "{:?}", world.machines);
    assert_eq!(world.money["sessions"].len(), orders, "payment pages");
    assert_eq!(world.money["charges"].iter().filter(|charge| charge["paid"] == true).count(), orders, "charges");
    assert_eq!(world.money["refunds"].len(), 0, "money was given back");
    assert_eq!(world.names.len(), 4 * orders, "A, AAAA and two PTR for each");
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
    let orders = i64::try_from(orders).expect("few");
    assert_eq!(count(house.db(), "select count(*) from orders").await, orders, "orders");
    assert_eq!(count(house.db(), "select count(*) from reservations").await, orders, "reservations");
}

pub(crate) async fn pending(house: &House) -> Vec<Value> {
    let outbox = house.stripe().get("/_control/webhooks/pending").await.expect("the outbox");
    list(&outbox["pending"])
}

/// Waits until Stripe tried to tell us something and was not heard.
async fn told_in_vain(house: &House, why: &str) {
    until(&format!("a webhook ends with {why}"), SOON, || async {
        let in_vain = |row: &Value| row["attempts"] != 0 && row["last_outcome"].to_string().contains(why);
        pending(house).await.iter().any(in_vain).then_some(())
    })
    .await;
}

async fn everything_told(house: &House) {
    until("every webhook is taken", SOON, || async { pending(house).await.is_empty().then_some(()) }).await;
}

async fn delivered(customer: &Customer, order: &str) {
    customer.wait_until_page_says(order, "delivered", SOON).await.expect("delivered by itself");
}

/// The order's page, from the payment page that was not paid yet.
async fn order_of(house: &House, hostname: &str) -> String {
    let id: uuid::Uuid = sqlx::query_scalar("select id from orders where hostname = $1")
        .bind(hostname)
        .fetch_one(house.db())
        .await
        .expect("an order of that name");
    format!("/dashboard/orders/{id}/")
}

/// Pays at Stripe and does not come back to us.
pub(crate) async fn pay_and_leave(house: &House, payment_page: &Page) {
    let fields = [("card", GOOD_CARD), ("action", "pay")];
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let answer = client.post(payment_page.url.clone()).form(&fields).send().await.expect("an answer");
    assert_eq!(answer.status(), 303, "{:?}", answer.text().await);
    assert!(answer.headers()[header::LOCATION].to_str().expect("text").starts_with(house.url().as_str()));
}

/// Pays, and comes back while the answer to the clone is still on its way: the moment to cut something.
async fn pay_and_see_it_cloned(house: &House, payment_page: &Page) {
    let cluster = house.proxmox().expect("a stand-in");
    let slow = json!({"kind": "delay", "ms": 1500, "path": "/clone", "after_work": true, "times": 1});
    cluster.add_fault(slow).await.expect("a slow clone");
    pay_and_leave(house, payment_page).await;
    until("the machine is being cloned", SOON, || async {
        (!cluster.requests(Some("/clone")).await.expect("the log").is_empty()).then_some(())
    })
    .await;
    everything_told(house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_temporal_is_away_pages_and_webhooks_work_and_no_checkout_is_half_made() {
    let house = open_with(HouseOptions::named("no-temporal").with_links()).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let paid_meanwhile = customer.order(&OrderForm::small("before")).await.expect("the payment page");
    let before = order_of(&house, "before").await;
    let form = customer.visitor.open("/billing/checkout/small/").await.expect("the form");
    let in_flight = customer.order(&OrderForm::small("in-flight")).await.expect("the payment page");
    pay_and_see_it_cloned(&house, &in_flight).await;

    house.temporal_link().expect("links").cut().await.expect("cut");
    for page in PAGES.iter().chain([&before.as_str()]) {
        assert_eq!(get(&customer, page).await.status(), 200, "{page}");
    }
    let ready = get(&customer, "/readyz").await;
    assert_eq!(ready.status(), 200, "pages work, so the process is ready");
    let told = ready.text().await.expect("text");
    assert!(told.contains("database ok") && told.contains("temporal away"), "{told}");
    let away =
        customer.visitor.submit(&form, "/billing/checkout/", &[("hostname", "meanwhile")]).await.expect("an answer");
    assert_eq!(away.status, 503, "{}", away.text());
    assert!(away.text().contains("Nothing was charged"), "{}", away.text());
    assert_eq!(count(house.db(), "select count(*) from orders").await, 2, "an order was half made");
    assert_eq!(count(house.db(), "select count(*) from reservations").await, 2, "a place was taken");
    assert_eq!(vendors(&house).await.money["sessions"].len(), 2, "a payment page was opened");

    pay_and_leave(&house, &paid_meanwhile).await;
    everything_told(&house).await;
    assert_eq!(count(house.db(), PAID_EVENTS).await, 2, "what Stripe said is lost");
    let waiting =
        "select count(*) from payment_events where type = 'checkout.session.completed' and state = 'received'";
    assert_eq!(count(house.db(), waiting).await, 1, "an event was driven on without Temporal");
    assert_eq!(vendors(&house).await.machines.len(), 1, "an order went on without Temporal");

    house.temporal_link().expect("links").heal().await.expect("healed");
    let payment_page = tried_again(&house, &customer, &away).await;
    delivered(&customer, &before).await;
    delivered(&customer, &order_of(&house, "in-flight").await).await;
    customer.pay(&payment_page, GOOD_CARD).await.expect("paying");
    delivered(&customer, &order_of(&house, "meanwhile").await).await;
    assert_delivered_once(&house, 3).await;
    assert!(get(&customer, "/readyz").await.text().await.expect("text").contains("temporal ok"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_pages_say_so_stripe_tries_again_and_every_order_is_delivered() {
    let house = open_with(HouseOptions::named("no-database").with_links()).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (in_flight, unpaid) = (
        customer.order(&OrderForm::small("in-flight")).await.expect("the payment page"),
        customer.order(&OrderForm::small("unpaid")).await.expect("the payment page"),
    );
    pay_and_see_it_cloned(&house, &in_flight).await;
    house.database_link().expect("links").cut().await.expect("cut");
    pay_and_leave(&house, &unpaid).await;
    for page in ["/", "/pricing/", "/dashboard/", "/accounts/login/"] {
        let answer = get(&customer, page).await;
        assert_eq!(answer.status(), 503, "{page}");
        assert!(answer.headers().contains_key(header::RETRY_AFTER), "{page} does not say when to come back");
        let html = answer.text().await.expect("a page");
        assert!(html.contains("right back") && !html.contains("sqlx"), "{page} is not friendly: {html}");
    }
    for page in ["/about/", "/robots.txt", "/healthz"] {
        assert_eq!(get(&customer, page).await.status(), 200, "{page} needs no database");
    }
    let ready = get(&customer, "/readyz").await;
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.expect("text").contains("database away"));
    told_in_vain(&house, "503").await;

    house.database_link().expect("links").heal().await.expect("healed");
    everything_told(&house).await;
    for hostname in ["in-flight", "unpaid"] {
        delivered(&customer, &order_of(&house, hostname).await).await;
    }
    assert_delivered_once(&house, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_waits_for_a_dead_mail_server_and_the_order_does_not() {
    let house = open("no-mail").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    house.kill_mail().await.expect("kill -9");
    let order = customer.buy(&OrderForm::small("unannounced")).await.expect("buying");
    delivered(&customer, order.path()).await;
    let letters = "select count(*) from letters where kind = 'service_delivered' and state = 'sent'";
    assert_eq!(count(house.db(), letters).await, 0, "a letter went nowhere");
    house.start_mail().await.expect("a mail server");
    customer.mailbox().wait_for(&customer.email, "ready", 1, SOON).await.expect("the letter follows");
    until("every letter is handed over", SOON, || async {
        (count(house.db(), "select count(*) from letters where state <> 'sent'").await == 0).then_some(())
    })
    .await;
    let ready = customer.mailbox().letters(&customer.email, "ready").await.expect("letters");
    assert_eq!(ready.len(), 1, "the letter came twice");
    assert_delivered_once(&house, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_that_is_killed_between_payment_and_webhook_loses_nothing() {
    // Nothing but the webhook can tell of this payment in time.
    let policy = PolicySecs { payment_window: 1200, checkout_poll: 600, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("web-killed") }).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let payment_page = customer.order(&OrderForm::small("told-late")).await.expect("the payment page");
    house.stripe().post("/_control/webhooks", json!({"paused": true})).await.expect("paused");
    pay_and_leave(&house, &payment_page).await;
    house.kill_web().await.expect("kill -9");
    house.stripe().post("/_control/webhooks", json!({"paused": false})).await.expect("going on");
    told_in_vain(&house, "").await;
    assert_eq!(count(house.db(), PAID_EVENTS).await, 0, "somebody told");
    house.start_web().await.expect("a new web");
    delivered(&customer, &order_of(&house, "told-late").await).await;
    everything_told(&house).await;
    assert_delivered_once(&house, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_no_webhook_ever_tells_of_is_found_and_delivered_with_the_web_still_dead() {
    let house = open("never-told").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let payment_page = customer.order(&OrderForm::small("never-told")).await.expect("the payment page");
    house.stripe().post("/_control/webhooks", json!({"drop_percent": 100})).await.expect("dropping");
    pay_and_leave(&house, &payment_page).await;
    house.kill_web().await.expect("kill -9");
    until("the order is delivered", SOON, || async {
        (count(house.db(), "select count(*) from orders where status = 'delivered'").await == 1).then_some(())
    })
    .await;
    assert_eq!(count(house.db(), PAID_EVENTS).await, 0, "somebody told");
    assert_delivered_once(&house, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vendors_in_trouble_for_a_while_delay_an_order_and_nobody_has_to_help() {
    let house = open("trouble").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (stripe, cluster) = (house.stripe(), house.proxmox().expect("a stand-in"));
    let unreachable =
        |reason: &str| json!({"kind": "status", "status": 595, "reason": reason, "path": "/nodes/", "times": 3});
    let stripe_faults = [
        json!({"kind": "status", "status": 500, "method": "POST", "path": "/v1/checkout/sessions", "times": 2}),
        json!({"kind": "status", "status": 503, "method": "GET", "path": "/v1/", "times": 3, "body": "<h1>no</h1>"}),
        json!({"kind": "status", "status": 429, "method": "GET", "path": "/v1/", "times": 2}),
        json!({"kind": "malformed", "method": "GET", "path": "/v1/checkout/sessions", "times": 1}),
    ];
    let cluster_faults = [
        json!({"kind": "locked", "times": 3}),
        json!({"kind": "no_quorum", "times": 3}),
        unreachable("No route to host"),
        unreachable("Connection refused"),
        json!({"kind": "refuse", "path": "/nodes/", "times": 3}),
        json!({"kind": "malformed", "method": "GET", "path": "/status/current", "times": 2}),
    ];
    let faults =
        stripe_faults.iter().map(|fault| (stripe, fault)).chain(cluster_faults.iter().map(|fault| (cluster, fault)));
    let mut orders = 0;
    for (control, fault) in faults {
        orders += 1;
        control.add_fault(fault.clone()).await.expect("a fault");
        let order = customer
            .buy(&OrderForm::small(&format!("trouble-{orders}")))
            .await
            .unwrap_or_else(|e| panic!("{fault}: {e:?}"));
        let page = customer.wait_until_page_says(order.as_str(), "delivered", SOON).await;
        page.unwrap_or_else(|e| panic!("{fault}: {e:?}"));
        let left = control.get("/_control/faults").await.expect("the faults");
        assert_eq!(list(&left), Vec::<Value>::new(), "{fault} never struck");
    }
    assert_delivered_once(&house, orders).await;
}

/// Sends the checkout form, does `meanwhile` while Stripe is slow to open the payment page, and gives the answer.
async fn checkout_meanwhile(house: &House, customer: &Customer, hostname: &str, meanwhile: impl AsyncFnOnce()) -> Page {
    let stripe = house.stripe();
    let slow = json!({"kind": "delay", "ms": 1500, "method": "POST", "path": "/v1/checkout/sessions", "times": 1, "after_work": true});
    stripe.add_fault(slow).await.expect("a slow answer");
    stripe.forget_requests().await.expect("a new page");
    let form = customer.visitor.open("/billing/checkout/small/").await.expect("the form");
    let values = [("hostname", hostname)];
    let sent = customer.visitor.submit(&form, "/billing/checkout/", &values);
    let done = async {
        until("Stripe is asked for a payment page", SOON, || async {
            (!stripe.requests(Some("/v1/checkout/sessions")).await.expect("the log").is_empty()).then_some(())
        })
        .await;
        meanwhile().await;
    };
    let (answer, ()) = tokio::join!(sent, done);
    answer.expect("an answer")
}

/// Sends the form of the page that says "try again" until it leads to the payment page, at once or by way of the order's
/// own page when the order is written down and its payment page is still being opened.
async fn tried_again(house: &House, customer: &Customer, away: &Page) -> Page {
    assert_eq!(away.status, 503, "{}", away.text());
    let again = until("the same form is taken", SOON, || async {
        let again = customer.visitor.submit(away, "/billing/checkout/", &[]).await.expect("an answer");
        assert!([200, 503].contains(&again.status), "{}: {}", again.status, again.text());
        (again.status == 200).then_some(again)
    })
    .await;
    if again.url.origin() == house.stripe().base().origin() {
        return again;
    }
    assert!(again.url.path().starts_with("/dashboard/orders/"), "{}: {}", again.url, again.text());
    let order = again.url.as_str();
    let page = customer.wait_until_page_says(order, "Go to payment", SOON).await.expect("a way to pay");
    let address = page.link("/c/pay/").expect("a link to the payment page");
    customer.visitor.open(address.as_str()).await.expect("the payment page").ok().expect("the payment page")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkout_whose_answer_is_lost_on_the_way_goes_on_with_the_same_order() {
    let house = open_with(HouseOptions::named("lost-answer").with_links()).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let temporal = house.temporal_link().expect("links");
    let away = checkout_meanwhile(&house, &customer, "lost-1", async || temporal.cut().await.expect("cut")).await;
    temporal.heal().await.expect("healed");
    let page = tried_again(&house, &customer, &away).await;
    customer.pay(&page, GOOD_CARD).await.expect("paying");

    let killed = async || house.kill_worker().await.expect("kill -9");
    let away = checkout_meanwhile(&house, &customer, "lost-2", killed).await;
    house.start_worker().await.expect("a new worker");
    let page = tried_again(&house, &customer, &away).await;
    customer.pay(&page, GOOD_CARD).await.expect("paying");
    for hostname in ["lost-1", "lost-2"] {
        delivered(&customer, &order_of(&house, hostname).await).await;
    }
    assert_delivered_once(&house, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_stripe_is_away_the_form_can_be_sent_again_and_billing_says_so() {
    let house = open("no-stripe").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let order = customer.buy(&OrderForm::small("has-one")).await.expect("buying");
    delivered(&customer, order.path()).await;
    let form = customer.visitor.open("/billing/checkout/small/").await.expect("the form");
    house.stripe().add_fault(json!({"kind": "refuse", "path": "/v1/"})).await.expect("Stripe is away");
    let billing = customer.visitor.open("/billing/portal/").await.expect("the page").ok().expect("the page");
    let billing = customer.visitor.submit(&billing, "/billing/portal/", &[]).await.expect("an answer");
    assert_eq!(billing.status, 503, "{}", billing.text());
    let away =
        customer.visitor.submit(&form, "/billing/checkout/", &[("hostname", "patient")]).await.expect("an answer");
    house.stripe().clear_faults().await.expect("Stripe is back");
    let page = tried_again(&house, &customer, &away).await;
    customer.pay(&page, GOOD_CARD).await.expect("paying");
    delivered(&customer, &order_of(&house, "patient").await).await;
    assert_delivered_once(&house, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_waits_for_a_table_does_not_keep_everybody_else_waiting() {
    let house = open("migrate-waits").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    // One that changes nothing when it is applied two times.
    let again = "delete from _sqlx_migrations where version = 20261122130100";
    assert_eq!(sqlx::query(again).execute(house.db()).await.expect("forgotten").rows_affected(), 1);
    let mut held = house.db().begin().await.expect("a transaction");
    sqlx::query("lock table data_exports in access share mode").execute(&mut *held).await.expect("a table in use");
    let meanwhile = async {
        until("the migration waits for its table", SOON, || async {
            let waits = "select count(*) from pg_stat_activity where datname = current_database()
                and wait_event_type = 'Lock' and query like '%data_exports_account_id_fkey%'";
            (count(house.db(), waits).await > 0).then_some(())
        })
        .await;
        // It reads the table, behind the migration.
        let page = customer.visitor.open("/accounts/data/").await.expect("an answer");
        assert_eq!(page.status, 200, "a page waits for a migration that waits: {}", page.text());
        held.commit().await.expect("let go");
    };
    let (migrated, ()) = tokio::join!(house.run_ez(&["migrate"], ""), meanwhile);
    migrated.expect("it is applied in the end");
    let applied = "select count(*) from _sqlx_migrations where version = 20261122130100 and success";
    assert_eq!(count(house.db(), applied).await, 1);
}
