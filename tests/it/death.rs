//! A worker that dies in the middle of an order: the order still ends delivered, once.
use house::{Customer, OrderForm};
use serde_json::json;

use crate::{
    shop::{SOON, open, until},
    world::{count, vendors},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_workers_share_the_orders_and_one_may_die() {
    let house = open("two-workers").await;
    house.start_worker().await.expect("a second worker");
    let mut pages = vec![];
    let customer = Customer::signed_in(&house).await.expect("a customer");
    for index in 0..4 {
        pages.push(customer.buy(&OrderForm::small(&format!("shared-{index}"))).await.expect("buying"));
        if index == 1 {
            house.kill_worker().await.expect("kill -9");
            house.start_worker().await.expect("another");
        }
    }
    for page in pages {
        customer.wait_until_page_says(page.as_str(), "delivered", SOON).await.expect("delivered");
    }
    let world = vendors(&house).await;
    assert_eq!((world.machines.len(), world.money["charges"].len()), (4, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_worker_is_killed_at_every_step_is_delivered_once() {
    let house = open("worker-killed").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let cluster = house.proxmox().expect("a stand-in");
    for (index, path) in ["/clone", "/config", "/resize", "/status/start"].into_iter().enumerate() {
        let slow = json!({"kind": "delay", "ms": 1500, "path": path, "after_work": true, "times": 1});
        cluster.add_fault(slow).await.expect("a slow answer");
        cluster.forget_requests().await.expect("a new page");
        let page = customer.buy(&OrderForm::small(&format!("killed-{index}"))).await.expect("buying");
        until(&format!("the call {path} is under way"), SOON, || async {
            let asked = sqlx::query_scalar::<_, i64>("select count(*) from order_steps where state = 'running'")
                .fetch_one(house.db())
                .await
                .expect("the table");
            (asked > 0).then_some(())
        })
        .await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        house.kill_worker().await.expect("kill -9");
        house.start_worker().await.expect("a new worker");
        customer.wait_until_page_says(page.as_str(), "delivered", SOON).await.expect("delivered all the same");
        cluster.clear_faults().await.expect("quick again");
    }
    let world = vendors(&house).await;
    assert_eq!(world.machines.len(), 4, "a machine was built twice or not at all");
    assert!(world.machines.values().all(|vm| vm.status == "running"));
    assert_eq!(world.money["charges"].len(), 4, "charged twice");
    assert_eq!(world.names.len(), 16, "A, AAAA and two PTR for each");
    until("every letter is sent", SOON, || async {
        let sent = "select count(*) from letters where kind = 'service_delivered' and state = 'sent'";
        (count(house.db(), sent).await == 4).then_some(())
    })
    .await;
    let ready = customer.mailbox().letters(&customer.email, "ready").await.expect("letters");
    assert_eq!(ready.len(), 4, "a letter was sent twice");
}
