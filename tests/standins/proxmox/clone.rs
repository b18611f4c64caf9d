//! How a VM comes to be and goes away.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ask::{Answer, Ask, Refusal};
use super::cluster::{Cluster, Disk, LOCAL_STORAGE, Vm, kept_description, new_mac, new_smbios, stated_bytes};
use super::config::with_macs;
use super::tasks::{TaskKind, begin};

/// What a clone is to become.
#[derive(Clone)]
struct Plan {
    source: u32,
    newid: u32,
    node: String,
    storage: Option<String>,
    full: bool,
    name: Option<String>,
    description: Option<String>,
}

/// The description of a copy that is not begun yet.
const PLACEHOLDER: &str = "qmclone temporary file\n";

/// `POST …/clone`: the new configuration is there at once, locked; the disks follow in the task.
///
/// At first it carries neither name nor description of its own: the task writes them when it begins to copy.
pub(super) fn clone(ask: &Ask<'_>) -> Answer {
    let newid = ask.number("newid").and_then(|id| u32::try_from(id).ok()).unwrap_or_default();
    let target = ask.text("target").unwrap_or(ask.node());
    let mut cluster = ask.cluster();
    let source = ask.vm(&mut cluster)?;
    let plan = Plan {
        source: ask.vmid(),
        newid,
        node: target.to_owned(),
        storage: ask.text("storage").map(str::to_owned),
        full: ask.text("full").map_or(!source.is_template(), |full| full == "1"),
        name: ask.text("name").map(str::to_owned),
        description: ask.text("description").map(kept_description),
    };
    check(ask, source, &plan)?;
    ask.lock_file(plan.source)?;
    ask.lock_file(newid)?;
    if cluster.vms.contains_key(&newid) {
        return Err(Refusal::failed(format!("unable to create VM {newid}: config file already exists")));
    }
    let placeholder = [("description", PLACEHOLDER), ("lock", "clone")];
    let config = placeholder.map(|(name, value)| (name.to_owned(), value.to_owned()));
    cluster.vms.insert(newid, Vm::stopped(&plan.node, BTreeMap::from(config)));
    if let Some(rules) = cluster.firewalls.get(&plan.source).cloned() {
        cluster.firewalls.insert(newid, rules);
    }

    let kind = TaskKind { node: ask.node(), kind: "qmclone", vmid: newid, named: plan.source };
    let lasts = ask.stage.lasts(400);
    write_config_after(ask, &plan, lasts / 10);
    let stage = ask.stage.clone();
    Ok(begin(ask.stage, &mut cluster, &kind, lasts, move |cluster| {
        let subject = newid.to_string();
        let fault = |kind: &str, message: &str| {
            stage.faults.take(kind, Some(&subject)).map(|fault| fault.reason.unwrap_or_else(|| message.to_owned()))
        };
        let failure = fault("out_of_space", "clone failed: copy failed: No space left on device")
            .or_else(|| fault("clone_fails", "clone failed: unable to copy the source disk"));
        if let Some(why) = failure {
            cluster.remove_vm(newid);
            cluster.firewalls.remove(&newid);
            return Err(why);
        }
        write_config(cluster, &plan);
        copy_disks(cluster, &plan)
    }))
}

fn check(ask: &Ask<'_>, source: &Vm, plan: &Plan) -> Result<(), Refusal> {
    let settings = &ask.stage.settings;
    if !settings.nodes.contains(&plan.node) {
        return Err(Refusal::failed(format!("no such cluster node '{}'", plan.node)));
    }
    if ask.text("pool").is_some() {
        return Err(Refusal::failed("no such pool"));
    }
    if ask.text("snapname").is_some() {
        return Err(Refusal::failed("snapshot does not exist"));
    }
    if !plan.full && !source.is_template() {
        return Err(Refusal::param("full", "Linked clones are only possible for templates and snapshots"));
    }
    let unfit = ["storage", "format"].into_iter().find(|name| !plan.full && ask.text(name).is_some());
    if let Some(name) = unfit {
        return Err(Refusal::param(name, "Parameter not allowed for linked clones"));
    }
    let elsewhere = plan.node != ask.node();
    match plan.storage.as_deref() {
        Some(LOCAL_STORAGE) if elsewhere => {
            Err(Refusal::failed(format!("can't clone to non-shared storage '{LOCAL_STORAGE}'")))
        }
        Some(storage) if storage != LOCAL_STORAGE && storage != settings.shared_storage => {
            Err(Refusal::failed(format!("storage '{storage}' does not exist")))
        }
        _ if elsewhere && source.volumes().any(|(_, volume)| volume.starts_with(LOCAL_STORAGE)) => {
            Err(Refusal::failed(format!("can't clone VM to node '{}' (VM uses local storage)", plan.node)))
        }
        _ => source.locked().map_err(Refusal::failed),
    }
}

fn write_config_after(ask: &Ask<'_>, plan: &Plan, delay: std::time::Duration) {
    let (stage, plan) = (ask.stage.clone(), plan.clone());
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        write_config(&mut stage.cluster(), &plan);
    });
}

/// Gives the copy its own configuration, once: on a busy machine the task may be at its end before the delay is.
fn write_config(cluster: &mut Cluster, plan: &Plan) {
    let Some(mut config) = cluster.vms.get(&plan.source).map(|vm| vm.config.clone()) else {
        return;
    };
    config.remove("template");
    config.remove("description");
    config.retain(|key, value| !value.contains("disk-") && !key.starts_with("ide"));
    let name = plan.name.clone().unwrap_or_else(|| format!("Copy-of-VM-{}", plan.source));
    config.insert("name".to_owned(), name);
    config.extend(plan.description.clone().map(|text| ("description".to_owned(), text)));
    config.insert("lock".to_owned(), "clone".to_owned());
    config.insert("smbios1".to_owned(), new_smbios());
    let macs =
        config.iter().filter(|(key, _)| key.starts_with("net")).map(|(key, value)| (key.clone(), fresh_mac(value)));
    let macs: Vec<_> = macs.collect();
    config.extend(macs);
    let begun = |vm: &&mut Vm| vm.config.get("description").is_some_and(|text| text == PLACEHOLDER);
    if let Some(vm) = cluster.vms.get_mut(&plan.newid).filter(begun) {
        vm.config = config;
    }
}

fn fresh_mac(net: &str) -> String {
    let bare = net.split(',').map(|part| match part.split_once('=') {
        Some((model, mac)) if mac.len() == 17 => model,
        _ => part,
    });
    with_macs(&bare.collect::<Vec<_>>().join(","), &new_mac())
}

fn copy_disks(cluster: &mut Cluster, plan: &Plan) -> Result<(), String> {
    let source = cluster.vms.get(&plan.source).ok_or("clone failed: the source is gone")?;
    let (mut copies, mut data_disks) = (Vec::new(), 0);
    for (slot, volume) in source.volumes() {
        let option = &source.config[slot];
        let (storage, old) = volume.split_once(':').unwrap_or_default();
        let storage = plan.storage.as_deref().unwrap_or(storage);
        let tail = if old.ends_with("cloudinit") { "cloudinit".to_owned() } else { format!("disk-{data_disks}") };
        data_disks += usize::from(!old.ends_with("cloudinit"));
        let new = format!("{storage}:vm-{}-{tail}", plan.newid);
        let rest = option.split_once(',').map(|(_, rest)| format!(",{rest}")).unwrap_or_default();
        copies.push((slot.to_owned(), format!("{new}{rest}"), new, stated_bytes(option).unwrap_or_default()));
    }
    let vm = cluster.vms.get_mut(&plan.newid).ok_or("clone failed: the new configuration is gone")?;
    for (slot, option, volume, bytes) in copies {
        vm.config.insert(slot, option);
        cluster.disks.insert(volume, Disk { vmid: plan.newid, bytes });
    }
    vm.config.remove("lock");
    Ok(())
}

/// `DELETE /nodes/{node}/qemu/{vmid}`: a running or protected VM is refused at once.
///
/// The firewall goes only with `purge`, disks the VM does not name only with `destroy-unreferenced-disks`.
pub(super) fn destroy(ask: &Ask<'_>) -> Answer {
    let vmid = ask.vmid();
    let mut cluster = ask.cluster();
    let vm = ask.vm(&mut cluster)?;
    if vm.config.get("protection").is_some_and(|value| value == "1") {
        return Err(Refusal::failed(format!("can't remove VM {vmid} - protection mode enabled")));
    }
    if vm.running_since.is_some() {
        return Err(Refusal::failed(format!("VM {vmid} is running - destroy failed")));
    }
    let (purge, strays) = (ask.flag("purge"), ask.flag("destroy-unreferenced-disks"));
    let kind = TaskKind { node: ask.node(), kind: "qmdestroy", vmid, named: vmid };
    Ok(begin(ask.stage, &mut cluster, &kind, ask.stage.lasts(150), move |cluster| {
        let gone = || format!("Configuration file for VM {vmid} does not exist");
        let vm = cluster.vms.get(&vmid).ok_or_else(gone)?;
        vm.locked()?;
        if vm.running_since.is_some() {
            return Err(format!("VM {vmid} is running - destroy failed"));
        }
        cluster.remove_vm(vmid);
        if strays {
            cluster.disks.retain(|_, disk| disk.vmid != vmid);
        }
        if purge {
            cluster.firewalls.remove(&vmid);
        }
        Ok(())
    }))
}

/// What every change that is refused while the VM is locked asks first.
pub(super) fn unlocked<'c>(ask: &Ask<'_>, cluster: &'c mut Cluster) -> Result<&'c mut Vm, Refusal> {
    let vm = ask.vm(cluster)?;
    ask.lock_file(ask.vmid())?;
    vm.locked().map_err(Refusal::failed)?;
    let digest = vm.digest();
    match ask.text("digest") {
        Some(expected) if expected != digest => {
            Err(Refusal::failed("detected modified configuration - file changed by other user? Try again."))
        }
        _ => Ok(vm),
    }
}

/// The answer of a call that has nothing to say.
pub(super) const NOTHING: Value = Value::Null;
