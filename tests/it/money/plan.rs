//! Another plan: the price is shown to the cent first, paid once, and the machine becomes what is paid for; by our page, by
//! Stripe's, and not at all where it cannot be.
use domain::instruction::Ask;
use house::{HouseOptions, Page, PolicySecs};
use serde_json::{Value, json};
use temporalio_client::WorkflowTerminateOptions;
use workflows::subscription::Subscription;

use super::staff::Held;
use crate::{
    attention::waiting_step,
    histories,
    matrix::change_price,
    shop::{SOON, open, open_with, until},
    world::{assert_stripe_contract, count, list, vendors},
};

async fn machine(held: &Held<'_>) -> Value {
    let state = held.house.proxmox().expect("a stand-in").state().await.expect("the cluster");
    list(&state["vms"]).into_iter().find(|vm| vm["template"] != true).expect("a machine")
}

pub(super) async fn has_size(held: &Held<'_>, cores: &str, memory_mib: &str, disk_gib: u64) -> bool {
    let vm = machine(held).await;
    let is = |name: &str, wanted: &str| vm["config"][name].to_string().trim_matches('"') == wanted;
    let disk = vm["disks"].to_string().contains(&(disk_gib << 30).to_string());
    is("cores", cores) && is("memory", memory_mib) && disk && vm["status"] == "running"
}

pub(super) async fn charged(held: &Held<'_>) -> Vec<i64> {
    let charges = vendors(held.house).await.money["charges"].clone();
    let paid = charges.iter().filter(|charge| charge["paid"] == true);
    paid.filter_map(|charge| charge["amount"].as_i64()).collect()
}

pub(super) async fn memory_held(held: &Held<'_>) -> i32 {
    sqlx::query_scalar("select memory_mib from reservations where released_at is null")
        .fetch_one(held.house.db())
        .await
        .expect("one reservation")
}

pub(super) async fn stripe_price(held: &Held<'_>, plan: &str) -> String {
    sqlx::query_scalar(
        "select pr.stripe_price_id from prices pr join plans p on p.id = pr.plan_id
         where p.slug = $1 and pr.term = 'monthly' and pr.active",
    )
    .bind(plan)
    .fetch_one(held.house.db())
    .await
    .expect("a price")
}

pub(super) async fn priced(held: &Held<'_>, plan: &str) -> Page {
    let server = held.customer.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link");
    let plans =
        held.customer.visitor.open(&format!("{server}plan/")).await.expect("the plans").ok().expect("the plans");
    let link = plans.link(&format!("/plan/{plan}/")).expect("a plan it can become");
    held.customer.visitor.open(link.as_str()).await.expect("the price").ok().expect("the price")
}

pub(super) async fn at_stripe(held: &Held<'_>) -> Value {
    let state = held.house.stripe().state().await.expect("Stripe");
    let own = |row: &Value| row["id"] == held.subscription.as_str();
    list(&state["subscriptions"]).into_iter().find(own).expect("the subscription")
}

pub(super) async fn item(held: &Held<'_>) -> String {
    at_stripe(held).await["items"]["data"][0]["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_larger_plan_costs_what_was_shown_once_and_the_server_grows() {
    let house = open("grow").await;
    let held = Held::new(&house, "grow-1").await;
    let page = priced(&held, "medium").await;
    let shown = page.texts(".total").first().cloned().expect("an amount");
    let unsure = held.customer.visitor.submit(&page, "/plan/medium/", &[]).await.expect("an answer");
    assert_eq!(unsure.status, 422, "changed without leave to restart: {}", unsure.text());
    let cheaper = [("restart", "yes"), ("due", "0.01")];
    let forged = held.customer.visitor.submit(&page, "/plan/medium/", &cheaper).await.expect("an answer");
    assert_eq!(forged.status, 200, "{}", forged.text());
    assert_eq!(held.settled("change_plan").await, "refused", "changed for less than it costs");
    assert_eq!((charged(&held).await, memory_held(&held).await), (vec![500], 2_048));

    let page = priced(&held, "medium").await;
    let send = || held.customer.visitor.submit(&page, "/plan/medium/", &[("restart", "yes")]);
    let answers = tokio::join!(send(), send());
    assert_eq!((answers.0.expect("an answer").status, answers.1.expect("an answer").status), (200, 200));
    held.customer.mailbox().wait_for(&held.customer.email, "new size", 1, SOON).await.expect("a letter");
    assert!(has_size(&held, "2", "4096", 40).await, "{}", machine(&held).await);
    let charges = charged(&held).await;
    assert_eq!(charges.len(), 2, "charged otherwise than once: {charges:?}");
    let extra = charges.iter().sum::<i64>() - 500;
    assert_eq!(format!("EUR {}.{:02}", extra / 100, extra % 100), shown, "charged otherwise than shown");
    assert_eq!(memory_held(&held).await, 4_096);
    let server = held.customer.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link");
    let told = held.customer.wait_until_page_says(server.as_str(), "EUR 10.00", SOON).await.expect("the price").text();
    assert!(told.contains("Medium") && told.contains("40 GiB"), "{told}");
    let plans = held.customer.visitor.open(&format!("{server}plan/")).await.expect("the plans").text();
    assert!(plans.contains("its disk would have to shrink from 40 to 20 GiB"), "{plans}");
    let small = held.customer.visitor.open(&format!("{server}plan/small/")).await.expect("an answer");
    assert_eq!(small.status, 404, "a smaller disk is offered");
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_larger_plan_that_is_not_paid_or_has_no_room_changes_nothing() {
    let tight = |catalogue: &mut house::Catalogue| {
        for node in &mut catalogue.nodes {
            node.memory_mib_limit = 6_144;
        }
    };
    let house = open_with(HouseOptions { change_catalogue: tight, ..HouseOptions::named("tight") }).await;
    let held = Held::new(&house, "tight-1").await;
    let no_room = priced(&held, "large").await;
    let answer =
        held.customer.visitor.submit(&no_room, "/plan/large/", &[("restart", "yes")]).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(held.settled("change_plan").await, "refused");
    let words = held.page().await.text();
    assert!(words.contains("not enough memory left"), "{words}");

    held.card_fails(true).await;
    let unpaid = priced(&held, "medium").await;
    let answer =
        held.customer.visitor.submit(&unpaid, "/plan/medium/", &[("restart", "yes")]).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    until("it is refused because it was not paid", SOON, || async {
        held.page().await.text().contains("could not be paid at once").then_some(())
    })
    .await;
    assert_eq!((charged(&held).await, memory_held(&held).await), (vec![500], 2_048));
    assert!(has_size(&held, "1", "2048", 20).await, "the machine changed although nothing was paid");
    let state = house.stripe().state().await.expect("Stripe");
    assert!(list(&state["invoices"]).iter().all(|invoice| invoice["status"] != "open"), "an invoice is still open");
    held.service_is("running").await;
    assert_stripe_contract(&house).await;
}

/// Two plans below the smallest: one with the same disk, one with a smaller.
pub(super) fn with_smaller(catalogue: &mut house::Catalogue) {
    for (slug, name, memory_mib, disk_gib, amount_minor) in
        [("tiny", "Tiny", 1_024, 20, 300), ("bare", "Bare", 1_024, 10, 200)]
    {
        let mut plan = catalogue.plans[0].clone();
        (plan.slug, plan.name) = (slug.to_owned(), name.to_owned());
        (plan.memory_mib, plan.disk_gib) = (memory_mib, disk_gib);
        plan.prices.retain(|price| price.term == "monthly");
        for price in &mut plan.prices {
            price.amount_minor = amount_minor;
        }
        catalogue.plans.push(plan);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smaller_plan_waits_for_the_end_of_the_period_and_can_be_taken_back() {
    let policy = PolicySecs { retention: 3, retention_warning: 1, subscription_poll: 2, ..PolicySecs::default() };
    let options = HouseOptions { policy, change_catalogue: with_smaller, ..HouseOptions::named("shrink") };
    let house = open_with(options).await;
    let held = Held::new(&house, "shrink-1").await;
    let server = held.customer.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link");
    let choose = || async {
        let page = priced(&held, "tiny").await;
        let answer = held.customer.visitor.submit(&page, "/plan/tiny/", &[("restart", "yes")]).await;
        assert_eq!(answer.expect("an answer").status, 200);
        assert_eq!(held.settled("change_plan_at_end").await, "done");
        held.customer
            .wait_until_page_says(server.as_str(), "It changes to Tiny", SOON)
            .await
            .expect("the page says so");
    };
    let page = priced(&held, "tiny").await;
    let unsure = held.customer.visitor.submit(&page, "/plan/tiny/", &[]).await.expect("an answer");
    assert_eq!(unsure.status, 422, "changed without leave to restart: {}", unsure.text());
    choose().await;
    let plans = held.customer.visitor.open(&format!("{server}plan/")).await.expect("the plans");
    let kept = held.customer.visitor.submit(&plans, "/plan/", &[]).await.expect("an answer");
    assert_eq!((kept.status, held.settled("keep_plan").await.as_str()), (200, "done"));
    assert_eq!(at_stripe(&held).await["schedule"], Value::Null);
    let bare = Ask::ChangePlanAtEnd { price: stripe_price(&held, "bare").await };
    let (state, words) = held.told(bare).await;
    assert_eq!(state, "refused");
    assert!(words.expect("why").contains("disk of your server would have to shrink"));
    let listed = held.customer.visitor.open(&format!("{server}plan/")).await.expect("the plans").text();
    assert!(listed.contains("its disk would have to shrink from 20 to 10 GiB"), "{listed}");
    assert!(!listed.contains("after all"), "a plan that is kept can be kept: {listed}");

    choose().await;
    assert!(has_size(&held, "1", "2048", 20).await, "changed before the end of the period");
    assert_eq!((charged(&held).await, memory_held(&held).await), (vec![500], 2_048));
    held.stripe(&format!("/_control/subscriptions/{}/renew", held.subscription), json!({})).await;
    held.customer.mailbox().wait_for(&held.customer.email, "new size", 1, SOON).await.expect("a letter");
    until("less memory is held", SOON, || async { (memory_held(&held).await == 1_024).then_some(()) }).await;
    assert!(has_size(&held, "1", "1024", 20).await, "{}", machine(&held).await);
    assert_eq!(charged(&held).await.iter().sum::<i64>(), 800, "charged otherwise than shown");
    held.customer.wait_until_page_says(server.as_str(), "EUR 3.00", SOON).await.expect("the price");
    // Whatever Stripe still plans does not stand in the way of an end.
    assert_eq!(held.told(Ask::CancelAtEnd).await.0, "done");
    assert_eq!(at_stripe(&held).await["cancel_at_period_end"], json!(true));
    assert_eq!(held.told(Ask::CancelNow).await.0, "done");
    held.service_is("expired").await;
    assert_stripe_contract(&house).await;
    histories::keep(&house, &format!("subscription-{}", held.subscription), "subscription-plan-changed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_changed_at_stripe_is_fitted_and_an_unknown_one_waits_for_staff() {
    let house = open("dashboard").await;
    let held = Held::new(&house, "dashboard-1").await;
    change_price(&house, &held.subscription, &item(&held).await, &stripe_price(&held, "medium").await).await;
    held.customer.mailbox().wait_for(&held.customer.email, "new size", 1, SOON).await.expect("a letter");
    assert!(has_size(&held, "2", "4096", 40).await, "{}", machine(&held).await);
    let known = stripe_price(&held, "small").await;
    let state = house.stripe().state().await.expect("Stripe");
    let product = list(&state["prices"]).into_iter().find(|price| price["id"] == known.as_str()).expect("it");
    let url = house.stripe().base().join("/v1/prices").expect("an address");
    let key = house.setting("STRIPE_SECRET_KEY").expect("a key");
    let product = product["product"].as_str().expect("a product").to_owned();
    let form =
        [("product", product.as_str()), ("currency", "eur"), ("unit_amount", "777"), ("recurring[interval]", "month")];
    let http = house.visitor().expect("a browser").http;
    let made: Value =
        http.post(url).bearer_auth(key).form(&form).send().await.expect("sent").json().await.expect("JSON");
    let strange = made["id"].as_str().expect("a price").to_owned();
    change_price(&house, &held.subscription, &item(&held).await, &strange).await;
    let workflow_id = format!("subscription-{}", held.subscription);
    assert_eq!(waiting_step(&house, &workflow_id).await, "fit");
    let board = held.staff.visitor.open("/staff/").await.expect("the staff page").text();
    assert!(board.contains(&strange) && board.contains("No plan of ours has that price"), "{board}");
    assert!(has_size(&held, "2", "4096", 40).await, "the machine changed for a price nobody knows");
    assert_eq!(charged(&held).await, [500], "something was charged for a price nobody knows");

    // Its workflow is lost meanwhile: the next one's wait is a line and a letter of its own.
    let client = house.temporal().await.expect("Temporal");
    let handle = client.get_workflow_handle::<Subscription>(workflow_id);
    handle.terminate(WorkflowTerminateOptions::default()).await.expect("terminated");
    let told = house.run_ez(&["reconcile"], "").await.expect("reconciled");
    assert!(told.contains("subscriptions given a workflow: 1"), "{told}");
    until("it waits again", SOON, || async {
        let again = "select count(*) from attention where occurrence = 2 and settled_at is null";
        (count(house.db(), again).await == 1).then_some(())
    })
    .await;
    let old = "select count(*) from attention where occurrence = 1 and verdict = 'retry' and decided_by = 'system'";
    assert_eq!(count(house.db(), old).await, 1, "what the lost workflow waited for stays for ever");
    until("staff are written to again", SOON, || async {
        let letters = "select count(*) from letters where kind = 'staff_attention'";
        (count(house.db(), letters).await == 2).then_some(())
    })
    .await;
}
