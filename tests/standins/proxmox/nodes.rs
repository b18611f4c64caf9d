//! What is told of the cluster as a whole: nodes, storages, lists, permissions.
#![expect(clippy::unnecessary_wraps, reason = "every call in the table answers with one type")]

use serde_json::{Value, json};

use super::ask::{Answer, Ask, Refusal};
use super::cluster::{Cluster, LOCAL_STORAGE, STORAGE_BYTES};
use super::power::summary;

const NODE_CPUS: u64 = 32;
const NODE_MEMORY_BYTES: u64 = 128 << 30;
const PRIVILEGES: [&str; 17] = [
    "Datastore.AllocateSpace",
    "Datastore.Audit",
    "Pool.Audit",
    "SDN.Use",
    "Sys.Audit",
    "VM.Allocate",
    "VM.Audit",
    "VM.Clone",
    "VM.Config.CPU",
    "VM.Config.Cloudinit",
    "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.GuestAgent.Audit",
    "VM.PowerMgmt",
];

/// `GET /version`.
pub(super) fn version(_: &Ask<'_>) -> Answer {
    Ok(json!({ "version": "9.1.1", "release": "9.1", "repoid": "42db4a6cf33dac83" }))
}

/// `GET /nodes`.
pub(super) fn list(ask: &Ask<'_>) -> Answer {
    let cluster = ask.cluster();
    Ok(ask.stage.settings.nodes.iter().map(|node| node_json(&cluster, node)).collect())
}

fn used_memory_bytes(cluster: &Cluster, node: &str) -> u64 {
    let running = cluster.vms.values().filter(|vm| vm.node == node && vm.running_since.is_some());
    (2 << 30) + running.map(|vm| vm.number("memory", 512) << 20).sum::<u64>()
}

fn node_json(cluster: &Cluster, node: &str) -> Value {
    json!({
        "node": node, "type": "node", "id": format!("node/{node}"), "status": "online", "level": "",
        "cpu": 0.02, "maxcpu": NODE_CPUS, "mem": used_memory_bytes(cluster, node), "maxmem": NODE_MEMORY_BYTES,
        "disk": 8_u64 << 30, "maxdisk": 96_u64 << 30, "uptime": 1_000_000,
    })
}

/// `GET /nodes/{node}/status`.
pub(super) fn status(ask: &Ask<'_>) -> Answer {
    let used = used_memory_bytes(&ask.cluster(), ask.node());
    let free = NODE_MEMORY_BYTES.saturating_sub(used);
    Ok(json!({
        "cpu": 0.02, "uptime": 1_000_000, "pveversion": "pve-manager/9.1.1/42db4a6cf33dac83",
        "loadavg": ["0.10", "0.08", "0.05"],
        "cpuinfo": { "cores": NODE_CPUS / 2, "cpus": NODE_CPUS, "sockets": 1, "model": "stand-in" },
        "memory": { "total": NODE_MEMORY_BYTES, "used": used, "free": free, "available": free },
        "rootfs": { "total": 96_u64 << 30, "used": 8_u64 << 30, "free": 88_u64 << 30, "avail": 88_u64 << 30 },
        "boot-info": { "mode": "efi", "secureboot": 0 },
    }))
}

/// `GET /cluster/resources`.
pub(super) fn resources(ask: &Ask<'_>) -> Answer {
    let cluster = ask.cluster();
    let wanted = |kind: &str| ask.text("type").is_none_or(|only| only == kind);
    let nodes = &ask.stage.settings.nodes;
    let mut found = Vec::new();
    if wanted("vm") {
        for (vmid, vm) in &cluster.vms {
            let mut shown = summary(&cluster, *vmid, vm);
            shown["id"] = json!(format!("qemu/{vmid}"));
            shown["type"] = json!("qemu");
            shown["node"] = json!(vm.node);
            shown["maxcpu"] = shown["cpus"].take();
            shown["template"] = json!(u8::from(vm.is_template()));
            found.push(shown);
        }
    }
    if wanted("node") {
        found.extend(nodes.iter().map(|node| node_json(&cluster, node)));
    }
    if wanted("storage") {
        for (node, name) in nodes.iter().flat_map(|node| storage_names(ask).map(move |name| (node, name))) {
            let storage = storage_json(ask, &cluster, name);
            found.push(json!({
                "id": format!("storage/{node}/{name}"), "type": "storage", "node": node, "storage": name,
                "status": "available", "shared": storage["shared"], "content": storage["content"],
                "plugintype": storage["type"], "disk": storage["used"], "maxdisk": storage["total"],
            }));
        }
    }
    Ok(Value::Array(found))
}

/// `GET /cluster/nextid`: the lowest free number; two callers get the same one.
pub(super) fn next_id(ask: &Ask<'_>) -> Answer {
    let cluster = ask.cluster();
    match ask.text("vmid") {
        None => {
            let free = (100..=999_999_999_u32).find(|vmid| !cluster.vms.contains_key(vmid));
            free.map(|vmid| json!(vmid.to_string())).ok_or_else(|| Refusal::failed("unable to get any free VMID"))
        }
        Some(vmid) if cluster.vms.contains_key(&ask.vmid()) => {
            Err(Refusal::param("vmid", format!("VM {vmid} already exists")))
        }
        Some(vmid) => Ok(json!(vmid)),
    }
}

/// `GET /access/permissions`: what a token of a portal needs, everywhere.
pub(super) fn permissions(ask: &Ask<'_>) -> Answer {
    let privileges: Value = PRIVILEGES.iter().map(|name| ((*name).to_owned(), json!(1))).collect();
    let path = ask.text("path").unwrap_or("/").to_owned();
    Ok(std::iter::once((path, privileges)).collect())
}

fn storage_names<'a>(ask: &'a Ask<'_>) -> impl Iterator<Item = &'a str> {
    [LOCAL_STORAGE, ask.stage.settings.shared_storage.as_str()].into_iter()
}

fn storage_json(ask: &Ask<'_>, cluster: &Cluster, name: &str) -> Value {
    let shared = name == ask.stage.settings.shared_storage;
    let used = cluster.used_bytes(name);
    json!({
        "storage": name, "type": if shared { "rbd" } else { "lvmthin" }, "shared": u8::from(shared),
        "content": "images,rootdir", "active": 1, "enabled": 1,
        "total": STORAGE_BYTES, "used": used, "avail": STORAGE_BYTES.saturating_sub(used),
    })
}

/// `GET /nodes/{node}/storage`.
pub(super) fn storages(ask: &Ask<'_>) -> Answer {
    let cluster = ask.cluster();
    let wanted = |name: &&str| {
        ask.text("storage").is_none_or(|only| only == *name)
            && ask
                .text("content")
                .is_none_or(|kinds| kinds.split(',').any(|kind| ["images", "rootdir"].contains(&kind)))
    };
    Ok(storage_names(ask).filter(wanted).map(|name| storage_json(ask, &cluster, name)).collect())
}

fn known_storage<'a>(ask: &'a Ask<'_>) -> Result<&'a str, Refusal> {
    let name = ask.text("storage").unwrap_or_default();
    let found = storage_names(ask).find(|known| *known == name);
    found.ok_or_else(|| Refusal::failed(format!("storage '{name}' does not exist")))
}

/// `GET /nodes/{node}/storage/{storage}/status`.
pub(super) fn storage_status(ask: &Ask<'_>) -> Answer {
    Ok(storage_json(ask, &ask.cluster(), known_storage(ask)?))
}

/// `GET /nodes/{node}/storage/{storage}/content`.
pub(super) fn storage_content(ask: &Ask<'_>) -> Answer {
    let storage = known_storage(ask)?;
    let cluster = ask.cluster();
    let only = ask.text("vmid").map(|_| ask.vmid());
    let wanted = |volume: &str, vmid: u32| {
        volume.split_once(':').is_some_and(|(name, _)| name == storage)
            && only.is_none_or(|only| only == vmid)
            && ask.text("content").is_none_or(|kind| kind == "images")
    };
    let disks = cluster.disks.iter().filter(|(volume, disk)| wanted(volume, disk.vmid));
    let shown = disks.map(|(volume, disk)| {
        json!({ "volid": volume, "vmid": disk.vmid, "size": disk.bytes, "format": "raw", "content": "images" })
    });
    Ok(shown.collect())
}

/// `GET /nodes/{node}/qemu`.
pub(super) fn vms(ask: &Ask<'_>) -> Answer {
    let cluster = ask.cluster();
    let here = cluster.vms.iter().filter(|(_, vm)| vm.node == ask.node());
    Ok(here.map(|(vmid, vm)| summary(&cluster, *vmid, vm)).collect())
}
