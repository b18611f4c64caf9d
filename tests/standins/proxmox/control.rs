//! What a test may look at and plant behind the API's back.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Stage;
use super::cluster::{Cluster, Vm};
use super::tasks::Task;

/// The control calls only this stand-in has.
pub(super) fn router(stage: Stage) -> Router {
    Router::new()
        .route("/_control/state", get(state))
        .route("/_control/vms", post(plant))
        .route("/_control/vms/{vmid}", delete(remove))
        .with_state(stage)
}

async fn state(State(stage): State<Stage>) -> Json<Value> {
    let cluster = stage.cluster();
    let vms: Map<String, Value> =
        cluster.vms.iter().map(|(vmid, vm)| (vmid.to_string(), vm_json(&cluster, *vmid, vm))).collect();
    let disk = |(volume, disk): (&String, &super::cluster::Disk)| json!({ "volume": volume, "vmid": disk.vmid, "bytes": disk.bytes });
    let firewalls: Vec<&u32> = cluster.firewalls.keys().filter(|vmid| !cluster.vms.contains_key(vmid)).collect();
    Json(json!({
        "vms": vms,
        "tasks": cluster.tasks.iter().map(Task::summary).collect::<Vec<_>>(),
        "disks": cluster.disks.iter().map(disk).collect::<Vec<_>>(),
        "leftovers": { "firewalls": firewalls, "disks": cluster.stray_disks() },
    }))
}

fn vm_json(cluster: &Cluster, vmid: u32, vm: &Vm) -> Value {
    let disks: BTreeMap<&str, u64> =
        vm.volumes().filter_map(|(slot, volume)| Some((slot, cluster.disks.get(volume)?.bytes))).collect();
    json!({
        "node": vm.node, "name": vm.name(vmid), "status": vm.status(), "template": vm.is_template(),
        "config": vm.config, "lock": vm.config.get("lock"), "disks": disks,
        "firewall": cluster.firewalls.get(&vmid).map(super::firewall::Firewall::state),
        "guest_passwords": vm.guest_passwords,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Planted {
    vmid: u32,
    node: String,
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    running: bool,
    lock: Option<String>,
}

async fn plant(State(stage): State<Stage>, Json(planted): Json<Planted>) -> Response {
    let mut cluster = stage.cluster();
    if !stage.settings.nodes.contains(&planted.node) {
        return (StatusCode::BAD_REQUEST, "no such node").into_response();
    }
    if cluster.vms.contains_key(&planted.vmid) {
        return (StatusCode::CONFLICT, "there is a VM with this number").into_response();
    }
    let storage = &stage.settings.shared_storage;
    cluster.plant(planted.vmid, &planted.node, storage, &planted.name, &planted.description);
    if let Some(vm) = cluster.vms.get_mut(&planted.vmid) {
        vm.running_since = planted.running.then(std::time::Instant::now);
        vm.config.extend(planted.lock.map(|lock| ("lock".to_owned(), lock)));
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn remove(State(stage): State<Stage>, Path(vmid): Path<u32>) -> StatusCode {
    let mut cluster = stage.cluster();
    cluster.firewalls.remove(&vmid);
    match cluster.remove_vm(vmid) {
        Some(_) => StatusCode::NO_CONTENT,
        None => StatusCode::NOT_FOUND,
    }
}
