//! The whole of provisioning, growth, suspension and removal on an independent counterpart of Proxmox VE.
use house::{Cluster, Customer, House, HouseOptions, OrderForm};
use serde_json::json;

use crate::{
    matrix::change_to_medium,
    shop::{SOON, open_with, until},
    world::{count, list},
};

mod calls;
mod faults;

pub(crate) use calls::assert_asked_of_fakepve;

async fn machine_is(house: &House, status: &str) {
    until(&format!("the machine is {status}"), SOON, || async {
        let machines = house.machines().vms().await.expect("the machines");
        machines.values().any(|vm| vm.status == status && vm.name.starts_with("other-1")).then_some(())
    })
    .await;
}

/// It runs with the cores and the memory of the medium plan. What a disk is grown to fakepve checks and does not keep.
async fn assert_grown(house: &House) {
    machine_is(house, "running").await;
    let machines = house.machines().vms().await.expect("the machines");
    let (vmid, _) = machines.iter().find(|(_, vm)| vm.name.starts_with("other-1")).expect("its machine");
    let config = house.machines().config(*vmid).await.expect("its configuration");
    let is = |name: &str, wanted: &str| config[name].to_string().trim_matches('"') == wanted;
    assert!(is("cores", "2") && is("memory", "4096"), "{config}");
    let gate = house.machines_gate().expect("a gate");
    let requests = gate.requests(Some(&format!("/qemu/{vmid}/resize"))).await.expect("the requests");
    let grown: Vec<_> = requests.iter().map(|request| (&request["params"]["size"], &request["status"])).collect();
    assert_eq!(grown.last(), Some(&(&json!("40G"), &json!(200))), "{grown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_built_grown_suspended_resumed_and_removed_on_fakepve() {
    let options = HouseOptions { cluster: Cluster::Fakepve, month_secs: Some(12), ..HouseOptions::named("fakepve") };
    let house = open_with(options.with_gates()).await;
    let before = house.machines().vms().await.expect("the machines").len();
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let page = customer.buy(&OrderForm::small("other-1")).await.expect("buying");
    customer.wait_until_page_says(page.as_str(), "delivered", SOON).await.expect("delivery");
    machine_is(&house, "running").await;

    let id: String = sqlx::query_scalar("select id from subscriptions").fetch_one(house.db()).await.expect("one");
    change_to_medium(&house, &id).await;
    customer.mailbox().wait_for(&customer.email, "new size", 1, SOON).await.expect("a letter");
    assert_grown(&house).await;

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
