//! The whole of provisioning, suspension and removal on an independent counterpart of Proxmox VE.
use house::{Cluster, Customer, House, HouseOptions, OrderForm};
use serde_json::json;

use crate::{
    shop::{SOON, open_with, until},
    world::{count, list},
};

mod faults;

async fn machine_is(house: &House, status: &str) {
    until(&format!("the machine is {status}"), SOON, || async {
        let machines = house.machines().vms().await.expect("the machines");
        machines.values().any(|vm| vm.status == status && vm.name.starts_with("other-1")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_built_suspended_resumed_and_removed_on_fakepve() {
    let options = HouseOptions { cluster: Cluster::Fakepve, month_secs: Some(12), ..HouseOptions::named("fakepve") };
    let house = open_with(options).await;
    let before = house.machines().vms().await.expect("the machines").len();
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let page = customer.buy(&OrderForm::small("other-1")).await.expect("buying");
    customer.wait_until_page_says(page.as_str(), "delivered", SOON).await.expect("delivery");
    machine_is(&house, "running").await;

    let at_stripe: String =
        sqlx::query_scalar("select stripe_customer_id from accounts where stripe_customer_id is not null")
            .fetch_one(house.db())
            .await
            .expect("a customer at Stripe");
    let card = format!("/_control/customers/{at_stripe}/card");
    house.stripe().post(&card, json!({"fails": true})).await.expect("the card expires");
    machine_is(&house, "stopped").await;
    house.stripe().post(&card, json!({"fails": false})).await.expect("a new card");
    let state = house.stripe().state().await.expect("Stripe");
    for invoice in list(&state["invoices"]).into_iter().filter(|invoice| invoice["status"] == "open") {
        let path = format!("/_control/invoices/{}/pay", invoice["id"].as_str().expect("an id"));
        house.stripe().post(&path, json!({})).await.expect("paying");
    }
    machine_is(&house, "running").await;

    let id: String = sqlx::query_scalar("select id from subscriptions").fetch_one(house.db()).await.expect("one");
    house.stripe().post(&format!("/_control/subscriptions/{id}/cancel"), json!({})).await.expect("cancelled");
    until("the machine is gone", SOON, || async {
        let machines = house.machines().vms().await.expect("the machines");
        (machines.len() == before).then_some(())
    })
    .await;
    until("the service is over", SOON, || async {
        (count(house.db(), "select count(*) from services where status <> 'expired'").await == 0).then_some(())
    })
    .await;
    assert_eq!(house.dns().records().await.expect("the names"), vec![]);
}
