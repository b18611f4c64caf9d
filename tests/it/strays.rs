//! A clone that Proxmox begins when nobody waits for it any more: its order was given up, and its number is another order's.
use house::{Customer, GOOD_CARD, House, HouseOptions, OrderForm, PolicySecs};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    attention::{decide, staff, waiting_step},
    shop::{SOON, open_with, until},
    world::{assert_clean_slate, count},
};

/// The order that holds a place now: its id, its service and its machine's number.
async fn holder(house: &House) -> (Uuid, Uuid, u32) {
    let (order, service, vmid): (Uuid, Uuid, i32) = sqlx::query_as(
        "select o.id, o.service_id, r.vmid from orders o join reservations r on r.order_id = o.id
         where r.released_at is null",
    )
    .fetch_one(house.db())
    .await
    .expect("one order holds a place");
    (order, service, u32::try_from(vmid).expect("a number"))
}

async fn status(house: &House, order: Uuid) -> String {
    let asked = sqlx::query_scalar("select status from orders where id = $1").bind(order);
    asked.fetch_one(house.db()).await.expect("the order")
}

/// What the doctor says, well or not.
async fn report(house: &House) -> String {
    let report = house.run_ez(&["doctor"], "").await;
    report.unwrap_or_else(|fault| format!("{fault:?}").replace("\\n", "\n"))
}

/// The doctor's line about machines.
async fn machines_line(house: &House) -> String {
    let report = report(house).await;
    let line = report.lines().find(|line| line.split_whitespace().nth(1) == Some("machines"));
    line.unwrap_or_else(|| panic!("nothing is said of machines: {report}")).trim().to_owned()
}

/// An order is given up after the request for its machine was cut off; the machine is not begun yet. Gives what it held.
async fn given_up(house: &House, customer: &Customer) -> (Uuid, Uuid, u32) {
    let staff = staff(house).await;
    let cluster = house.proxmox().expect("a stand-in");
    let cut_off = json!({"kind": "late", "method": "POST", "path": "/clone", "times": 1});
    cluster.add_fault(cut_off).await.expect("a fault");
    let refused = json!({"kind": "status", "status": 500, "method": "POST", "path": "/clone"});
    cluster.add_fault(refused).await.expect("a fault");
    let page = customer.buy(&OrderForm::small("late-1")).await.expect("buying");
    let workflow_id = format!("order-{}", house::order_id(&page).expect("an id"));
    assert_eq!(waiting_step(house, &workflow_id).await, "clone");
    let held = holder(house).await;
    decide(&staff, &workflow_id, &[("verdict", "abandon"), ("reason", "the cluster does not answer")]).await;
    until("the order is abandoned", SOON, || async { (status(house, held.0).await == "abandoned").then_some(()) })
        .await;
    cluster.clear_faults().await.expect("the cluster answers");
    assert_clean_slate(house, "given up before its clone was begun").await;
    held
}

/// Proxmox does what it was asked for long ago.
async fn clone_begins(house: &House, service: Uuid, vmid: u32) {
    house.proxmox().expect("a stand-in").post("/_control/late", json!({})).await.expect("begun");
    until("the copy is made", SOON, || async {
        let config = house.machines().config(vmid).await.ok()?;
        let is_stamped = config["description"].as_str()?.contains(&service.to_string());
        (is_stamped && config["lock"].is_null()).then_some(())
    })
    .await;
}

async fn plant(house: &House, vmid: u32, description: &str) {
    let made = json!({"vmid": vmid, "node": "pve1", "name": "planted", "description": description});
    house.proxmox().expect("a stand-in").post("/_control/vms", made).await.expect("a machine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_begun_after_its_number_was_given_back_is_shown_and_neither_taken_over_nor_destroyed() {
    let policy = PolicySecs { step_patience: 12, payment_window: 900, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("late-clone") }).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (former, lost, vmid) = given_up(&house, &customer).await;

    // Its number is the next order's, whose customer has not paid yet.
    let payment_page = customer.order(&OrderForm::small("late-2")).await.expect("ordering");
    let (order, service, held) = holder(&house).await;
    assert_eq!(held, vmid, "the number was not given to the next order");
    clone_begins(&house, lost, vmid).await;
    customer.pay(&payment_page, GOOD_CARD).await.expect("paying");
    let page = format!("/dashboard/orders/{order}/");
    customer.wait_until_page_says(&page, "delivered", SOON).await.expect("delivery");
    let (_, _, own) = holder(&house).await;
    assert_ne!(own, vmid, "a machine of another order was taken over");
    let machines = house.machines().vms().await.expect("the machines");
    assert_eq!(machines.keys().copied().collect::<Vec<_>>(), [vmid, own], "{machines:?}");
    assert_eq!((machines[&vmid].status.as_str(), machines[&own].status.as_str()), ("stopped", "running"));
    let config: Value = house.machines().config(vmid).await.expect("its configuration");
    assert!(config["description"].to_string().contains(&lost.to_string()), "{config}");
    assert_eq!(status(&house, former).await, "abandoned");
    let blocked = "select count(*) from vmids where blocked_at is not null";
    assert_eq!(count(house.db(), blocked).await, 1, "the number may be given to somebody again");
    let open = "select count(*) from attention where settled_at is null";
    assert_eq!(count(house.db(), open).await, 0, "something waits for staff");

    // A stranger's machine, and one of a service that is in no table, are not ours to judge.
    plant(&house, 150_000, "somebody else").await;
    plant(&house, 150_001, &format!("ez-service: {}", Uuid::new_v4())).await;
    house.stop_worker().await.expect("stopped");
    house.start_worker().await.expect("another worker");
    until("operators are told", SOON * 2, || async {
        let told = house.metrics().await.ok()?;
        told.lines().any(|line| line == "ez_machines_stray 1").then_some(())
    })
    .await;
    let line = machines_line(&house).await;
    assert!(line.starts_with("FAULT") && line.contains(&format!("machine {vmid} on")), "{line}");
    assert!(line.contains(&former.to_string()), "its order is not named: {line}");
    for other in [own, 150_000, 150_001] {
        assert!(!line.contains(&format!("machine {other} on")), "{line}");
    }

    // A second machine of a server that was delivered with another is one, too.
    plant(&house, 150_002, &format!("ez-service: {service}")).await;
    let line = machines_line(&house).await;
    assert!(line.contains(&format!("machine {vmid} on")) && line.contains("machine 150002 on"), "{line}");

    assert!(house.machines().vms().await.expect("the machines").contains_key(&vmid), "it was destroyed by itself");
    for destroyed in [vmid, 150_002] {
        let machine = format!("/_control/vms/{destroyed}");
        house.proxmox().expect("a stand-in").delete(&machine).await.expect("destroyed by hand");
    }
    let line = machines_line(&house).await;
    assert!(line.starts_with("ok"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_read_is_counted_and_a_reconciliation_names_what_is_left() {
    let policy = PolicySecs { payment_window: 3, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("unread") }).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let cluster = house.proxmox().expect("a stand-in");
    plant(&house, 150_000, "somebody else").await;
    let unread = json!({"kind": "status", "status": 500, "method": "GET", "path": "/qemu/150000/config"});
    let unread = cluster.add_fault(unread).await.expect("a fault");
    let line = machines_line(&house).await;
    assert!(line.starts_with("ok") && line.contains("of 1 it could not be read"), "{line}");

    customer.order(&OrderForm::small("late-3")).await.expect("ordering");
    let (order, service): (Uuid, Uuid) =
        sqlx::query_as("select id, service_id from orders").fetch_one(house.db()).await.expect("one order");
    until("nobody paid", SOON, || async { (status(&house, order).await == "lapsed").then_some(()) }).await;
    plant(&house, 150_001, &format!("ez-service: {service}")).await;
    for told in [machines_line(&house).await, reconciled(&house).await] {
        assert!(told.contains(&format!("machine 150001 on pve1 was copied for order {order}")), "{told}");
        assert!(told.contains("of 1 it could not be read"), "{told}");
    }

    cluster.remove_fault(unread).await.expect("it can be read again");
    cluster.delete("/_control/vms/150001").await.expect("destroyed by hand");
    for told in [machines_line(&house).await, reconciled(&house).await] {
        assert!(told.contains("none is left that no order wants") && !told.contains("could not be"), "{told}");
    }
    cluster.add_fault(json!({"kind": "status", "status": 500, "path": "/cluster/resources"})).await.expect("away");
    let told = reconciled(&house).await;
    assert!(told.contains("machines could not be looked through"), "a cluster that is away ends it otherwise: {told}");
}

async fn reconciled(house: &House) -> String {
    house.run_ez(&["reconcile"], "").await.expect("reconciled")
}
