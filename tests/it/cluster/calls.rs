//! Every call the portal makes of a cluster is asked of fakepve, and taken there; whatever our own stand-in is asked is
//! among them.
use std::{collections::BTreeSet, net::IpAddr};

use activities::machine::proxmox::{ProxmoxApi, Target};
use domain::ids::Vmid;
use house::{Cluster, House, HouseOptions};
use serde_json::{Value, json};
use temporalio_client::Client;

use crate::{
    attention::waiting_step,
    matrix::{Bought, LIMIT, Story, decide_firmly},
    shop::{open_with, until},
};

/// Every call, with `*` for what its path names.
const CALLS: [&str; 24] = [
    "GET /version",
    "GET /nodes",
    "GET /access/permissions",
    "GET /nodes/*/storage",
    "GET /nodes/*/tasks",
    "GET /nodes/*/tasks/*/status",
    "GET /cluster/resources",
    "POST /nodes/*/qemu/*/clone",
    "GET /nodes/*/qemu/*/config",
    "POST /nodes/*/qemu/*/config",
    "PUT /nodes/*/qemu/*/config",
    "PUT /nodes/*/qemu/*/resize",
    "GET /nodes/*/qemu/*/firewall/ipset",
    "POST /nodes/*/qemu/*/firewall/ipset",
    "GET /nodes/*/qemu/*/firewall/ipset/*",
    "POST /nodes/*/qemu/*/firewall/ipset/*",
    "DELETE /nodes/*/qemu/*/firewall/ipset/*/*",
    "PUT /nodes/*/qemu/*/firewall/options",
    "POST /nodes/*/qemu/*/status/start",
    "POST /nodes/*/qemu/*/status/shutdown",
    "POST /nodes/*/qemu/*/status/stop",
    "GET /nodes/*/qemu/*/status/current",
    "GET /nodes/*/qemu/*/agent/network-get-interfaces",
    "DELETE /nodes/*/qemu/*",
];

/// The call of a request that was seen.
fn call(request: &Value) -> String {
    let path = request["path"].as_str().unwrap_or_default().trim_start_matches("/api2/json/");
    let (mut parts, mut named) = (vec![], 0);
    for part in path.split('/') {
        if named > 0 {
            parts.push("*");
            named -= 1;
            continue;
        }
        parts.push(part);
        named = match part {
            "nodes" | "qemu" | "tasks" => 1,
            // A set, and what is in it.
            "ipset" => 2,
            _ => 0,
        };
    }
    format!("{} /{}", request["method"].as_str().unwrap_or_default(), parts.join("/"))
}

/// Whatever the stand-in of a house was asked is a call that fakepve takes.
pub(crate) async fn assert_asked_of_fakepve(house: &House) {
    let requests = house.proxmox().expect("a stand-in").requests(Some("/api2/json/")).await.expect("the requests");
    let asked: BTreeSet<String> = requests.iter().map(call).collect();
    let strange: Vec<&String> = asked.iter().filter(|call| !CALLS.contains(&call.as_str())).collect();
    assert!(strange.is_empty(), "fakepve is never asked: {strange:?}");
}

async fn delivered(order: &mut Bought<'_>, client: &Client) {
    order.begin(client).await;
    order.page_opens().await;
    order.pay().await;
    order.reaches("delivered").await;
    order.is_told("service_delivered").await;
}

/// From now on it may send from other addresses, and no longer from its own.
async fn is_readdressed(house: &House, order: &Bought<'_>) {
    let of = |name: &str| house.setting(name).unwrap_or_else(|| panic!("{name} is not set"));
    let authority = std::fs::read(of("PROXMOX_CA_FILE")).expect("the authority's certificate");
    let url = of("PROXMOX_URL").parse().expect("an address");
    let (id, secret) = (of("PROXMOX_TOKEN_ID"), of("PROXMOX_TOKEN_SECRET"));
    let cluster = ProxmoxApi::new(&url, id, secret, true, Some(&authority)).expect("Proxmox");
    let target = Target { node: "pve1".to_owned(), vmid: Vmid(order.vmid), service: order.service };
    let others = ["192.0.2.77", "2001:db8::77"].map(|address| address.parse::<IpAddr>().expect("an address"));
    cluster.protect(&target, others).await.expect("protected");
}

/// Is given up while its machine runs, locked as by a clone that was cut off: no clone that is over counts as one that runs.
async fn is_given_up_while_locked(house: &House, client: &Client) {
    let mut order = Bought::new(house, Story::GivenUp, "calls-given-up").await;
    order.begin(client).await;
    order.page_opens().await;
    let names = house.names_gate().expect("a gate");
    let contains = r#""type":"PTR","changetype":"REPLACE""#;
    let refused = json!({"kind": "status", "status": 422, "body": {"error": "no"}, "contains": contains});
    let refused = names.add_fault(refused).await.expect("a fault");
    order.pay().await;
    assert_eq!(waiting_step(house, &order.workflow_id()).await, "name");
    names.remove_fault(refused).await.expect("repaired");
    house.machines().act("snapshot_lock", json!([order.vmid, "clone"])).await.expect("locked");
    decide_firmly(house, &order.workflow_id(), &[("verdict", "abandon"), ("reason", "it cannot be named")]).await;
    let (gate, stop) = (house.machines_gate().expect("a gate"), format!("/qemu/{}/status/stop", order.vmid));
    until("it meets the lock although no clone runs", LIMIT, || async {
        let requests = gate.requests(Some(&stop)).await.expect("the requests");
        requests.iter().any(|request| request["status"] == 500).then_some(())
    })
    .await;
    house.machines().act("unlock", json!([order.vmid])).await.expect("unlocked");
    order.reaches("abandoned").await;
    order.is_told("order_abandoned").await;
    let machines = house.machines().vms().await.expect("the machines");
    assert!(!machines.contains_key(&order.vmid), "a machine is left: {machines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_the_portal_makes_of_a_cluster_is_taken_by_fakepve() {
    let options = HouseOptions { cluster: Cluster::Fakepve, ..HouseOptions::named("fakepve-calls") };
    let house = open_with(options.with_gates()).await;
    let report = house.run_ez(&["doctor"], "").await.unwrap_or_else(|fault| format!("{fault:?}"));
    assert!(
        report.contains("node pve1 has storage for disks") && report.contains("template 9000 is on pve1"),
        "{report}"
    );
    let client = house.temporal().await.expect("Temporal");
    let mut grown = Bought::new(&house, Story::Grown, "calls-grown").await;
    delivered(&mut grown, &client).await;
    grown.is_repriced().await;
    grown.is_told("service_resized").await;
    is_readdressed(&house, &grown).await;
    is_given_up_while_locked(&house, &client).await;

    let gate = house.machines_gate().expect("a gate");
    let requests = gate.requests(Some("/api2/json/")).await.expect("the requests");
    let is_unknown =
        |request: &&Value| request["status"].as_u64().is_some_and(|status| matches!(status, 400..=499 | 501));
    assert_eq!(requests.iter().find(is_unknown), None, "fakepve does not know a request");
    let taken: BTreeSet<String> = requests.iter().filter(|request| request["status"] == 200).map(call).collect();
    assert_eq!(taken, BTreeSet::from(CALLS.map(str::to_owned)), "calls that fakepve took, and those there are");
}
