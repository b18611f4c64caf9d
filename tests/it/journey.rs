//! The journey: a stranger becomes a customer with a running server, and the life of a subscription to its end.
use std::time::Duration;

use house::{Customer, FAILS_LATER_CARD, GOOD_CARD, House, HouseOptions, OrderForm, PolicySecs, order_id};
use serde_json::json;

use crate::{
    alerts::assert_every_write_is_timed,
    histories,
    shop::{SOON, open, open_with, until},
    world::{assert_stripe_contract, count, list, vendors, writes_at_stripe},
};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ada@example.test";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_signs_up_pays_and_gets_a_running_server() {
    let house = open("journey").await;
    let customer = Customer::stranger(&house).expect("a stranger");
    customer.sign_up().await.expect("signing up");
    customer.log_in().await.expect("logging in before the address is confirmed");
    let refused = customer.send_order(&OrderForm::small("too-early")).await;
    let told = refused.map_or_else(|fault| fault.to_string(), |page| page.text()).to_lowercase();
    assert!(told.contains("confirm") || told.contains("verif"), "an unconfirmed address could order: {told}");
    customer.verify().await.expect("confirming the address");
    customer.log_in().await.expect("logging in");

    let form = OrderForm { ssh_key: KEY, ..OrderForm::small("web-1") };
    let payment_page = customer.order(&form).await.expect("the payment page");
    let declined = customer.decline(&payment_page).await.expect("a declined card");
    let back = customer.pay(&declined, GOOD_CARD).await.expect("paying");
    let order_page = customer.order_page(&back).await.expect("the order's page");
    customer.wait_until_page_says(order_page.as_str(), "delivered", SOON).await.expect("delivery");
    assert_machine(&house).await;
    let address = assert_names(&house).await;
    let letter = customer.mailbox().wait_for(&customer.email, "ready", 1, SOON).await.expect("the letter");
    assert!(letter.text.contains(&address), "the letter names {address}: {}", letter.text);
    assert!(!letter.html.is_empty() && !letter.text.is_empty());
    let world = vendors(&house).await;
    let paid: Vec<_> = world.money["charges"].iter().filter(|charge| charge["paid"] == true).collect();
    assert_eq!(paid.len(), 1, "exactly one charge");
    assert_eq!(paid[0]["amount"], 500);
    let dashboard = customer.dashboard().await.expect("the dashboard").text();
    assert!(dashboard.contains("web-1") && dashboard.contains("EUR 5.00"), "{dashboard}");
    assert_stripe_contract(&house).await;
    histories::keep(&house, &format!("order-{}", order_id(&order_page).expect("an id")), "order-delivered").await;
}

async fn assert_machine(house: &House) {
    let state = house.proxmox().expect("a stand-in").state().await.expect("the cluster");
    let machines: Vec<_> = list(&state["vms"]).into_iter().filter(|vm| vm["template"] != true).collect();
    assert_eq!(machines.len(), 1, "exactly one machine");
    let (vm, config) = (&machines[0], &machines[0]["config"]);
    assert_eq!(vm["status"], "running");
    let text = config.to_string();
    let service: uuid::Uuid =
        sqlx::query_scalar("select id from services").fetch_one(house.db()).await.expect("one service");
    assert!(text.contains(&service.to_string()), "the owner stamp is missing: {text}");
    assert_eq!(config["cores"].to_string().trim_matches('"'), "1", "{text}");
    assert_eq!(config["memory"].to_string().trim_matches('"'), "2048", "{text}");
    assert_eq!(config["onboot"].to_string().trim_matches('"'), "1", "{text}");
    assert!(text.contains("ip=10.") && text.contains("ip6=fd00"), "{text}");
    assert!(text.contains("ssh-ed25519"), "the key is missing: {text}");
    assert!(
        !text.contains("ada%40example.test") && !text.contains("ada@example.test"),
        "the key's comment leaked: {text}"
    );
    let firewall = vm["firewall"].to_string();
    for word in ["enable", "ipfilter", "macfilter"] {
        assert!(firewall.contains(word), "{word} is missing: {firewall}");
    }
    assert!(vm["disks"].to_string().contains("21474836480"), "the disk did not grow to 20 GiB: {}", vm["disks"]);
}

/// Looks at the four names of the house's only server and gives its IPv4 address.
async fn assert_names(house: &House) -> String {
    let records = house.dns().records().await.expect("the names");
    let kinds: Vec<&str> = records.iter().map(|record| record.kind.as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "PTR").count(), 2, "{records:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "A").count(), 1, "{records:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "AAAA").count(), 1, "{records:?}");
    let name = records.iter().find(|record| record.kind == "A").expect("an A record");
    for record in records.iter().filter(|record| record.kind == "PTR") {
        assert_eq!(record.content, name.name, "the reverse name points elsewhere");
    }
    name.content.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_password_is_shown_once_and_never_mailed() {
    let house = open("password").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let order_page = customer.buy(&OrderForm::small("secret-1")).await.expect("buying");
    customer.wait_until_page_says(order_page.as_str(), "delivered", SOON).await.expect("delivery");
    let state = house.proxmox().expect("a stand-in").state().await.expect("the cluster");
    let machine = list(&state["vms"]).into_iter().find(|vm| vm["template"] != true).expect("a machine");
    let password = machine["config"]["cipassword"].as_str().map(str::to_owned);
    let page = customer.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link");
    let page = customer.visitor.open(page.as_str()).await.expect("the server's page");
    let shown = customer.visitor.submit(&page, "/password/", &[]).await.expect("showing it").ok().expect("shown");
    let candidates = shown.texts("code, output, kbd, samp, .secret");
    if let Some(password) = password.filter(|p| !p.contains('*')) {
        assert!(candidates.iter().any(|text| text.contains(&password)), "another password was shown");
    }
    let again = customer.visitor.open(page.url.as_str()).await.expect("the server's page");
    assert!(!again.has_form("/password/"), "the password can be shown twice");
    for letter in customer.mailbox().letters(&customer.email, "").await.expect("letters") {
        for secret in candidates.iter().filter(|text| text.len() >= 12 && !text.contains(['.', ':', ' '])) {
            assert!(!letter.text.contains(secret), "a secret was mailed");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_renews_falls_behind_comes_back_is_cancelled_and_expires() {
    let house = open_with(HouseOptions { month_secs: Some(8), ..HouseOptions::named("life") }).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let order_page = customer.buy(&OrderForm::small("life-1")).await.expect("buying");
    customer.wait_until_page_says(order_page.as_str(), "delivered", SOON).await.expect("delivery");
    let id: String = sqlx::query_scalar("select id from subscriptions").fetch_one(house.db()).await.expect("one");

    let letter = |subject: &'static str, nth: usize| {
        let customer = customer.clone();
        async move { customer.mailbox().wait_for(&customer.email, subject, nth, SOON).await.expect("a letter") }
    };
    letter("received your payment", 3).await;
    let stripe_customer: String =
        sqlx::query_scalar("select stripe_customer_id from accounts where stripe_customer_id is not null")
            .fetch_one(house.db())
            .await
            .expect("a customer at Stripe");
    let card = format!("/_control/customers/{stripe_customer}/card");
    house.stripe().post(&card, json!({"fails": true})).await.expect("the card expires");
    letter("is missing", 1).await;
    letter("is suspended", 1).await;
    machine_is(&house, "stopped").await;
    let page = customer.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link");
    customer.wait_until_page_says(page.as_str(), "suspended", SOON).await.expect("the page says why");

    house.stripe().post(&card, json!({"fails": false})).await.expect("a new card");
    pay_open_invoice(&house).await;
    machine_is(&house, "running").await;
    customer.wait_until_page_says(page.as_str(), "running", SOON).await.expect("the page says so");

    customer.at_stripe("cancel").await.expect("cancelling on Stripe's page");
    machine_is(&house, "stopped").await;
    letter("last call", 1).await;
    until("the machine is gone", SOON, || async {
        house.machines().vms().await.expect("the machines").is_empty().then_some(())
    })
    .await;
    until("the workflow ends", SOON, || async {
        let open = "select count(*) from services where status <> 'expired'";
        (count(house.db(), open).await == 0).then_some(())
    })
    .await;
    assert_eq!(house.dns().records().await.expect("the names"), vec![]);
    let held = "select count(*) from reservations where released_at is null";
    assert_eq!(count(house.db(), held).await, 0, "the address was not returned");
    let open = "select count(*) from entitlements where closed_at is null";
    assert_eq!(count(house.db(), open).await, 0, "the entitlement was not returned");
    assert_one_charge_for_each_invoice(&house).await;
    assert_stripe_contract(&house).await;
    histories::keep(&house, &format!("subscription-{id}"), "subscription-whole-life").await;
}

async fn machine_is(house: &House, status: &str) {
    until(&format!("the machine is {status}"), SOON, || async {
        let machines = house.machines().vms().await.expect("the machines");
        (machines.len() == 1 && machines.values().all(|vm| vm.status == status)).then_some(())
    })
    .await;
}

async fn pay_open_invoice(house: &House) {
    let state = house.stripe().state().await.expect("Stripe");
    let open = list(&state["invoices"]).into_iter().filter(|invoice| invoice["status"] == "open").collect::<Vec<_>>();
    assert!(!open.is_empty(), "nothing to pay");
    for invoice in open {
        let id = invoice["id"].as_str().expect("an id");
        house.stripe().post(&format!("/_control/invoices/{id}/pay"), json!({})).await.expect("paying");
    }
}

async fn assert_one_charge_for_each_invoice(house: &House) {
    let world = vendors(house).await;
    let paid = world.money["charges"].iter().filter(|charge| charge["paid"] == true).count();
    let invoices = world.money["invoices"].iter().filter(|invoice| invoice["status"] == "paid").count();
    assert_eq!(paid, invoices, "a period was charged twice or not at all");
    let receipts = "select count(*) from letters where kind = 'payment_received'";
    let receipts = usize::try_from(count(house.db(), receipts).await).expect("a count");
    assert!(receipts <= invoices, "{receipts} receipts for {invoices} payments");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unpaid_subscription_is_given_up_at_the_end_and_nothing_is_charged_afterwards() {
    let policy = PolicySecs {
        reminders: vec![1],
        suspend_after: 2,
        grace: 2,
        retention: 4,
        retention_warning: 2,
        ..PolicySecs::default()
    };
    let house = open_with(HouseOptions { month_secs: Some(10), policy, ..HouseOptions::named("unpaid") }).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let payment_page = customer.order(&OrderForm::small("unpaid-1")).await.expect("ordering");
    let back = customer.pay(&payment_page, FAILS_LATER_CARD).await.expect("paying");
    let order_page = customer.order_page(&back).await.expect("the order's page");
    customer.wait_until_page_says(order_page.as_str(), "delivered", SOON).await.expect("delivery");
    let id: String = sqlx::query_scalar("select id from subscriptions").fetch_one(house.db()).await.expect("one");
    until("everything is gone", Duration::from_secs(90), || async {
        let open = "select count(*) from services where status <> 'expired'";
        (count(house.db(), open).await == 0).then_some(())
    })
    .await;
    let world = vendors(&house).await;
    assert!(world.machines.is_empty());
    assert_eq!(world.money["subscriptions"][0]["status"], "canceled");
    assert!(world.money["invoices"].iter().all(|invoice| invoice["status"] != "open"), "an invoice can still be paid");
    assert_eq!(world.money["charges"].iter().filter(|charge| charge["paid"] == true).count(), 1);
    let writes = writes_at_stripe(&house).await;
    let wrote = |part: &str| writes.iter().any(|write| write.to_string().contains(part));
    assert!(wrote("open_at_end") && wrote("/void") && wrote("DELETE"), "its end is not among {writes:#?}");
    assert_every_write_is_timed(&house).await;
    histories::keep(&house, &format!("subscription-{id}"), "subscription-never-paid").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_not_paid_in_time_lapses_and_frees_what_it_held() {
    let policy = PolicySecs { payment_window: 2, checkout_poll: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("lapse") }).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let payment_page = customer.order(&OrderForm::small("late-1")).await.expect("ordering");
    let id: uuid::Uuid = sqlx::query_scalar("select id from orders").fetch_one(house.db()).await.expect("one");
    let order = format!("/dashboard/orders/{id}/");
    customer.wait_until_page_says(&order, "not paid in time", SOON).await.expect("the order lapses");
    crate::world::assert_clean_slate(&house, "lapsed").await;
    let too_late = customer.pay(&payment_page, GOOD_CARD).await;
    let charged = vendors(&house).await.money["charges"].len();
    assert_eq!(charged, 0, "a lapsed order was charged: {too_late:?}");
    histories::keep(&house, &format!("order-{id}"), "order-lapsed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_nothing_is_free_the_plan_is_sold_out_and_nobody_pays() {
    let one = |catalogue: &mut house::Catalogue| {
        for pool in &mut catalogue.pools {
            pool.last = pool.first;
        }
    };
    let house = open_with(HouseOptions { change_catalogue: one, ..HouseOptions::named("sold-out") }).await;
    let (first, second) =
        (Customer::signed_in(&house).await.expect("one"), Customer::signed_in(&house).await.expect("two"));
    let second_form = second.visitor.open("/billing/checkout/small/").await.expect("the form before it is sold out");
    first.order(&OrderForm::small("first")).await.expect("the first gets it");
    let values = [("hostname", "second"), ("image", "debian-13"), ("term", "monthly")];
    let told = second.visitor.submit(&second_form, "/billing/checkout/", &values).await.expect("an answer");
    assert!(told.text().to_lowercase().contains("sold out"), "{}", told.text());
    let pricing = second.visitor.open("/pricing/").await.expect("pricing").text().to_lowercase();
    assert!(pricing.contains("sold out"), "{pricing}");
    assert_eq!(vendors(&house).await.money["sessions"].len(), 1, "the second could pay");
    let id: uuid::Uuid = sqlx::query_scalar("select id from orders where status = 'sold_out'")
        .fetch_one(house.db())
        .await
        .expect("the order says so");
    histories::keep(&house, &format!("order-{id}"), "order-sold-out").await;
}
