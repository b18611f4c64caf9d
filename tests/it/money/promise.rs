//! The promise of delivery: an order that is not delivered in time is undone and paid back by itself, and the customer is told.
use house::{Catalogue, Customer, HouseOptions, OrderForm, PolicySecs};
use serde_json::{Value, json};

use super::story::{becomes, open_page, pay};
use crate::{
    attention::{decide, needing_attention, staff, waiting_step},
    buyers::customers,
    histories,
    shop::{SOON, open_with, until},
    world::{assert_clean_slate, assert_stripe_contract, count, vendors},
};

const CLOSED: &str = "select count(*) from orders where status in ('delivered', 'abandoned')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_late_is_paid_back_although_it_waits_for_staff() {
    let policy = PolicySecs { step_patience: 3, delivery: 12, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("late") }).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let cluster = house.proxmox().expect("a stand-in");
    cluster
        .add_fault(json!({"kind": "status", "status": 500, "method": "PUT", "path": "/resize"}))
        .await
        .expect("broken");
    let page = customer.buy(&OrderForm::small("late-1")).await.expect("buying");
    let workflow_id = format!("order-{}", house::order_id(&page).expect("an id"));
    assert_eq!(waiting_step(&house, &workflow_id).await, "resize");
    customer.wait_until_page_says(page.as_str(), "in the time we promise", SOON).await.expect("the page says why");
    let letter = customer.mailbox().wait_for(&customer.email, "sorry", 1, SOON).await.expect("a letter");
    assert!(letter.text.contains("in the time we promise"), "{}", letter.text);
    assert_clean_slate(&house, "late").await;
    until("Temporal does not show it any more", SOON, || async {
        needing_attention(&house).await.is_empty().then_some(())
    })
    .await;
    let decided: (String, String) =
        sqlx::query_as("select verdict, decided_by from attention").fetch_one(house.db()).await.expect("the waiting");
    assert_eq!(decided, ("abandon".to_owned(), "system".to_owned()));
    assert_eq!(vendors(&house).await.money["refunds"].len(), 1);
    let subscription: String =
        sqlx::query_scalar("select subscription_id from orders").fetch_one(house.db()).await.expect("its subscription");
    let (staff, address) = (staff(&house).await, format!("/staff/subscriptions/{subscription}/"));
    until("staff read what was charged and what went back", SOON, || async {
        let told = staff.visitor.open(&address).await.expect("an answer").text();
        let words = ["ch_", "back EUR 5.00", "re_", "Payment refunded."];
        words.iter().all(|word| told.contains(word)).then_some(())
    })
    .await;
    assert_stripe_contract(&house).await;
    histories::keep(&house, &workflow_id, "order-late").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_late_is_paid_back_although_the_whole_cluster_refuses_to_take_it_back() {
    let policy = PolicySecs { step_patience: 3, delivery: 12, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("late-away") }).await;
    let (customer, staff) = (Customer::signed_in(&house).await.expect("a customer"), staff(&house).await);
    let cluster = house.proxmox().expect("a stand-in");
    for (method, path) in [("PUT", "/resize"), ("DELETE", "/qemu/")] {
        let broken = json!({"kind": "status", "status": 500, "method": method, "path": path});
        cluster.add_fault(broken).await.expect("broken");
    }
    let page = customer.buy(&OrderForm::small("late-3")).await.expect("buying");
    let workflow_id = format!("order-{}", house::order_id(&page).expect("an id"));
    assert_eq!(waiting_step(&house, &workflow_id).await, "resize");
    cluster.add_fault(json!({"kind": "status", "status": 500})).await.expect("away");

    let letter = customer.mailbox().wait_for(&customer.email, "sorry", 1, SOON).await.expect("a letter");
    for words in ["in the time we promise", "goes back"] {
        assert!(letter.text.contains(words), "not “{words}”: {}", letter.text);
    }
    assert_eq!(waiting_step(&house, &workflow_id).await, "destroy");
    let world = vendors(&house).await;
    assert_eq!((world.money["refunds"].len(), world.machines.len()), (1, 1), "refunds, and machines that are left");
    let held = "select count(*) from orders o join reservations r on r.order_id = o.id
        where o.status = 'provisioning' and r.released_at is null";
    assert_eq!(count(house.db(), held).await, 1, "it is over although its machine is left");
    let asked = "select count(*) from removals";
    assert_eq!(count(house.db(), asked).await, 0, "what was never delivered takes a place in the hour's allowance");

    cluster.clear_faults().await.expect("mended");
    decide(&staff, &workflow_id, &[("verdict", "retry")]).await;
    customer.wait_until_page_says(page.as_str(), "in the time we promise", SOON).await.expect("the page says why");
    assert_clean_slate(&house, "late, and the cluster was away").await;
    assert_eq!(vendors(&house).await.money["refunds"].len(), 1, "paid back otherwise than once");
    assert_eq!(count(house.db(), "select count(*) from letters where kind = 'order_abandoned'").await, 1);
    assert_stripe_contract(&house).await;
    histories::keep(&house, &workflow_id, "order-late-away").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_late_is_undone_once_although_its_worker_dies_while_undoing() {
    let policy = PolicySecs { delivery: 3, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("late-killed") }).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (cluster, stripe) = (house.proxmox().expect("a stand-in"), house.stripe());
    cluster
        .add_fault(json!({"kind": "status", "status": 500, "method": "POST", "path": "/status/start"}))
        .await
        .expect("broken");
    let late = |method: &str, path: &str| json!({"kind": "delay", "ms": 2000, "after_work": true, "times": 1, "method": method, "path": path});
    cluster.add_fault(late("DELETE", "/qemu/")).await.expect("a slow answer");
    stripe.add_fault(late("POST", "/v1/refunds")).await.expect("a slow answer");
    let page = customer.buy(&OrderForm::small("late-2")).await.expect("buying");
    for (vendor, path, method) in [(stripe, "/v1/refunds", "POST"), (cluster, "/qemu/", "DELETE")] {
        until(&format!("{method} {path} is under way"), SOON, || async {
            let asked = vendor.requests(Some(path)).await.expect("the requests");
            asked.iter().any(|request| request["method"] == method).then_some(())
        })
        .await;
        house.kill_worker().await.expect("kill -9");
        house.start_worker().await.expect("a worker");
    }
    customer.wait_until_page_says(page.as_str(), "in the time we promise", SOON * 2).await.expect("the page says so");
    customer.mailbox().wait_for(&customer.email, "sorry", 1, SOON).await.expect("a letter");
    assert_clean_slate(&house, "late, and killed while undoing").await;
    assert_eq!(vendors(&house).await.money["refunds"].len(), 1, "paid back otherwise than once");
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
    assert_stripe_contract(&house).await;
}

/// The last slow call of each ends around the time that was promised: some are in time, some are not, none is both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_becomes_ready_in_the_same_moment_is_delivered_or_paid_back_and_never_both() {
    const ORDERS: i64 = 8;
    let policy = PolicySecs { delivery: 4, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("same-moment") }).await;
    let buyers = customers(&house, usize::try_from(ORDERS).expect("few")).await;
    let cluster = house.proxmox().expect("a stand-in");
    for (nth, buyer) in (0..).zip(&buyers) {
        let session = open_page(buyer, &format!("moment-{nth}")).await;
        let vmid: i32 = sqlx::query_scalar(
            "select vmid from reservations r join orders o on o.id = r.order_id where o.hostname = $1",
        )
        .bind(format!("moment-{nth}"))
        .fetch_one(house.db())
        .await
        .expect("a number");
        let path = format!("/qemu/{vmid}/resize");
        // It does not succeed at once, and then takes nearly as long as there is.
        cluster.add_fault(json!({"kind": "status", "status": 500, "path": path, "times": 1})).await.expect("broken");
        let slow = json!({"kind": "delay", "ms": 2600 + 200 * nth, "path": path, "times": 1});
        cluster.add_fault(slow).await.expect("slow");
        pay(&house, &session).await;
    }
    becomes(&house, "each has come to its end", CLOSED, ORDERS).await;
    becomes(
        &house,
        "each is told once",
        "select count(*) from letters where kind in ('service_delivered', 'order_abandoned') and state = 'sent'",
        ORDERS,
    )
    .await;
    let both = "select count(*) from (select order_id from letters
        where kind in ('service_delivered', 'order_abandoned') group by order_id having count(*) > 1) as told";
    assert_eq!(count(house.db(), both).await, 0, "a customer was told both");
    let delivered = count(house.db(), "select count(*) from orders where status = 'delivered'").await;
    let torn = "select count(*) from orders o join services s on s.order_id = o.id join reservations r on r.order_id = o.id
        where (o.status = 'delivered') <> (s.status = 'running') or (o.status = 'delivered') <> (r.released_at is null)";
    assert_eq!(count(house.db(), torn).await, 0, "an order is half delivered");
    let world = vendors(&house).await;
    let many = |kept: usize| i64::try_from(kept).expect("few");
    assert_eq!(many(world.machines.len()), delivered, "machines and deliveries differ");
    assert_eq!(many(world.names.len()), delivered * 4, "names and deliveries differ");
    let given_back = |charge: &&Value| charge["amount_refunded"] == charge["amount"];
    let paid_back = world.money["charges"].iter().filter(given_back).count();
    assert_eq!(
        many(paid_back),
        ORDERS - delivered,
        "an order that is not delivered was not paid back, or one that is was"
    );
    assert_eq!(many(world.money["charges"].len()), ORDERS);
    assert_eq!(count(house.db(), "select count(*) from attention where settled_at is null").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machine_of_a_late_order_that_another_node_still_copies_is_destroyed_when_it_is_copied() {
    let policy = PolicySecs { delivery: 2, step_patience: 300, ..PolicySecs::default() };
    // A copy takes some thirty seconds; its task runs where the template is.
    let options = HouseOptions { policy, time_scale: 75.0, ..HouseOptions::named("late-copied") };
    let nodes = |catalogue: &mut Catalogue| catalogue.nodes.retain(|node| node.name == "pve2");
    let house = open_with(HouseOptions { change_catalogue: nodes, ..options }).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let cluster = house.proxmox().expect("a stand-in");
    let lost = json!({"kind": "drop", "method": "POST", "path": "/clone", "times": 1});
    cluster.add_fault(lost).await.expect("an answer is lost");
    customer.buy(&OrderForm::small("late-4")).await.expect("buying");
    until("it is late and paid back", SOON, || async {
        (vendors(&house).await.money["refunds"].len() == 1).then_some(())
    })
    .await;
    // Who asks from here on is no longer who copies.
    cluster.forget_requests().await.expect("forgotten");
    until("the order is abandoned", SOON * 2, || async {
        (count(house.db(), "select count(*) from orders where status = 'abandoned'").await == 1).then_some(())
    })
    .await;
    let asked = cluster.requests(None).await.expect("the requests");
    let lists_asked = |node: &str| {
        let tasks = format!("/nodes/{node}/tasks");
        asked.iter().filter(|request| request["path"].as_str().is_some_and(|path| path.ends_with(&tasks))).count()
    };
    assert!(lists_asked("pve1") > 0, "nobody asked whether it is still copied");
    assert_eq!(lists_asked("pve2"), 0, "a node was asked that copies nothing");
    let destroyed = asked.iter().filter(|request| request["method"] == "DELETE").count();
    assert_eq!(destroyed, 1, "it was to be destroyed while it was copied");
    assert_clean_slate(&house, "late while another node copies it").await;
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
}
