//! Every step of an order broken for good in turn, then given up: a clean slate, asked of the vendors themselves.
use house::{Customer, House, OrderForm};
use serde_json::{Value, json};

use crate::{
    attention::{decide, impatient, staff, waiting_step},
    histories,
    shop::{SOON, until},
    world::{assert_clean_slate, count, vendors},
};

fn steps() -> Vec<(&'static str, Value)> {
    let broken = |method: &str, path: &str| json!({"kind": "status", "status": 500, "method": method, "path": path});
    vec![
        ("clone", broken("POST", "/clone")),
        ("configure", broken("POST", "/config")),
        ("resize", broken("PUT", "/resize")),
        ("protect", broken("PUT", "/firewall/options")),
        ("start", broken("POST", "/status/start")),
        ("answer", json!({"kind": "agent_never"})),
    ]
}

async fn give_up(house: &House, staff: &Customer, workflow_id: &str) {
    decide(staff, workflow_id, &[("verdict", "abandon"), ("reason", "it cannot be built")]).await;
    let order = workflow_id.trim_start_matches("order-").to_owned();
    until(&format!("{workflow_id} is abandoned"), SOON, || async {
        let status: String = sqlx::query_scalar("select status from orders where id::text = $1")
            .bind(&order)
            .fetch_one(house.db())
            .await
            .expect("the order");
        (status == "abandoned").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_given_up_at_any_step_of_provisioning_leaves_a_clean_slate() {
    let house = impatient("unwind").await;
    let (customer, staff) = (Customer::signed_in(&house).await.expect("a customer"), staff(&house).await);
    for (index, (step, fault)) in steps().into_iter().enumerate() {
        let cluster = house.proxmox().expect("a stand-in");
        cluster.add_fault(fault).await.expect("a fault");
        let page = customer.buy(&OrderForm::small(&format!("undo-{step}"))).await.expect("buying");
        let workflow_id = format!("order-{}", house::order_id(&page).expect("an id"));
        assert_eq!(waiting_step(&house, &workflow_id).await, step, "another step broke");
        cluster.clear_faults().await.expect("repaired");
        give_up(&house, &staff, &workflow_id).await;
        assert_clean_slate(&house, step).await;
        let told = customer.visitor.open(page.as_str()).await.expect("the order's page").text().to_lowercase();
        assert!(told.contains("refund"), "{step}: the customer is not told of the refund: {told}");
        let refunds = vendors(&house).await.money["refunds"].len();
        assert_eq!(refunds, index + 1, "{step}: refunded more or less than once");
        customer.mailbox().wait_for(&customer.email, "sorry", index + 1, SOON).await.expect("an apology");
        if step == "start" {
            histories::keep(&house, &workflow_id, "order-abandoned").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_name_cannot_be_published_leaves_a_clean_slate_when_given_up() {
    let house = impatient("unwind-name").await;
    let (customer, staff) = (Customer::signed_in(&house).await.expect("a customer"), staff(&house).await);
    house.dns().remove_reverse_zones().await.expect("the reverse zones are lost");
    let page = customer.buy(&OrderForm::small("undo-name")).await.expect("buying");
    let workflow_id = format!("order-{}", house::order_id(&page).expect("an id"));
    assert_eq!(waiting_step(&house, &workflow_id).await, "name");
    give_up(&house, &staff, &workflow_id).await;
    assert_clean_slate(&house, "name").await;
    histories::keep(&house, &workflow_id, "order-abandoned-at-its-name").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_payment_page_cannot_be_opened_is_given_up_without_a_trace() {
    let house = impatient("unwind-checkout").await;
    let (customer, staff) = (Customer::signed_in(&house).await.expect("a customer"), staff(&house).await);
    let fault = json!({"kind": "status", "status": 500, "method": "POST", "path": "/v1/checkout/sessions"});
    house.stripe().add_fault(fault).await.expect("a fault");
    let told = customer.send_order(&OrderForm::small("undo-checkout")).await.expect("an answer");
    assert!(told.status < 600 && !told.text().is_empty());
    let id: uuid::Uuid = until("the order is written down", SOON, || async {
        sqlx::query_scalar("select id from orders").fetch_optional(house.db()).await.expect("the table")
    })
    .await;
    let workflow_id = format!("order-{id}");
    assert_eq!(waiting_step(&house, &workflow_id).await, "checkout");
    house.stripe().clear_faults().await.expect("repaired");
    give_up(&house, &staff, &workflow_id).await;
    assert_clean_slate(&house, "checkout").await;
    assert_eq!(vendors(&house).await.money["charges"].len(), 0);
    assert_eq!(count(house.db(), "select count(*) from letters where kind = 'order_abandoned'").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_slips_in_at_the_end_of_the_window_is_honoured() {
    let policy = house::PolicySecs { payment_window: 3, checkout_poll: 30, ..house::PolicySecs::default() };
    let house = crate::shop::open_with(house::HouseOptions { policy, ..house::HouseOptions::named("slip-in") }).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    house.stripe().post("/_control/webhooks", json!({"paused": true})).await.expect("no webhook arrives");
    let payment_page = customer.order(&OrderForm::small("slip-1")).await.expect("ordering");
    customer.pay(&payment_page, house::GOOD_CARD).await.expect("paying");
    let id: uuid::Uuid = sqlx::query_scalar("select id from orders").fetch_one(house.db()).await.expect("one");
    let page = format!("/dashboard/orders/{id}/");
    customer.wait_until_page_says(&page, "delivered", SOON).await.expect("a payment without a webhook is honoured");
    assert_eq!(vendors(&house).await.machines.len(), 1);
}
