//! A VM's configuration: read, changed, its disks grown.

use serde_json::{Value, json};

use super::ask::{Answer, Ask, Refusal};
use super::clone::{NOTHING, unlocked};
use super::cluster::{Vm, kept_description, new_mac, stated_bytes, written_size};
use super::params::{disk_size_bytes, listed, tags};
use super::tasks::{TaskKind, begin};

const NOT_OPTIONS: [&str; 8] =
    ["delete", "digest", "force", "node", "skiplock", "vmid", "background_delay", "template"];

/// `GET …/config`.
pub(super) fn read(ask: &Ask<'_>) -> Answer {
    let mut cluster = ask.cluster();
    let vm = ask.vm(&mut cluster)?;
    if ask.text("snapshot").is_some() {
        return Err(Refusal::failed("snapshot does not exist"));
    }
    let mut shown = vm.config_json();
    shown.insert("digest".to_owned(), json!(vm.digest()));
    Ok(Value::Object(shown))
}

/// `PUT …/config`: changed when the answer comes.
pub(super) fn change_now(ask: &Ask<'_>) -> Answer {
    let change = Change::read(ask)?;
    change.apply(unlocked(ask, &mut ask.cluster())?);
    Ok(NOTHING)
}

/// `POST …/config`: changed by a task.
pub(super) fn change_later(ask: &Ask<'_>) -> Answer {
    let change = Change::read(ask)?;
    let vmid = ask.vmid();
    let mut cluster = ask.cluster();
    unlocked(ask, &mut cluster)?;
    let kind = TaskKind { node: ask.node(), kind: "qmconfig", vmid, named: vmid };
    Ok(begin(ask.stage, &mut cluster, &kind, ask.stage.lasts(50), move |cluster| {
        let gone = || format!("Configuration file for VM {vmid} does not exist");
        change.apply(cluster.vms.get_mut(&vmid).ok_or_else(gone)?);
        Ok(())
    }))
}

struct Change {
    set: Vec<(String, String)>,
    delete: Vec<String>,
}

impl Change {
    fn read(ask: &Ask<'_>) -> Result<Self, Refusal> {
        let delete: Vec<String> = listed(ask.text("delete").unwrap_or_default()).map(str::to_owned).collect();
        let options = ask.params.iter().filter(|(name, _)| !NOT_OPTIONS.contains(&name.as_str()));
        let set: Vec<_> = options.map(|(name, value)| (name.clone(), kept(name, value))).collect();
        if set.is_empty() && delete.is_empty() {
            return Err(Refusal::failed("no options specified"));
        }
        match set.iter().find(|(name, _)| delete.contains(name)) {
            Some((name, _)) => {
                Err(Refusal::param("delete", format!("you can't use '-{name}' and '-delete {name}' at the same time")))
            }
            None => Ok(Self { set, delete }),
        }
    }

    fn apply(self, vm: &mut Vm) {
        for name in &self.delete {
            vm.config.remove(name);
        }
        for (name, value) in self.set {
            let value = if is_network(&name) { with_macs(&value, &new_mac()) } else { value };
            vm.config.insert(name, value);
        }
        if vm.config.get("description").is_some_and(|text| text.trim().is_empty()) {
            vm.config.remove("description");
        }
    }
}

fn is_network(name: &str) -> bool {
    name.strip_prefix("net").is_some_and(|number| number.parse::<u8>().is_ok())
}

fn kept(name: &str, value: &str) -> String {
    match name {
        "description" => kept_description(value),
        "tags" => tags(value).into_iter().collect::<Vec<_>>().join(";"),
        _ => value.to_owned(),
    }
}

/// A network card's settings, with `mac` for it if they name none.
pub(super) fn with_macs(net: &str, mac: &str) -> String {
    let (first, rest) = net.split_once(',').map_or((net, String::new()), |(first, rest)| (first, format!(",{rest}")));
    match first.split_once('=') {
        None => format!("{first}={mac}{rest}"),
        Some(("model", model)) if !net.contains("macaddr=") => format!("{model}={mac}{rest}"),
        Some(_) => net.to_owned(),
    }
}

/// `PUT …/resize`: grows a disk in a task, never shrinks one.
pub(super) fn resize(ask: &Ask<'_>) -> Answer {
    let vmid = ask.vmid();
    let slot = ask.text("disk").unwrap_or_default().to_owned();
    let (size, relative) = ask.text("size").and_then(disk_size_bytes).unwrap_or_default();
    let mut cluster = ask.cluster();
    let vm = unlocked(ask, &mut cluster)?;
    let Some((_, volume)) = vm.volumes().find(|(name, _)| *name == slot) else {
        return Err(Refusal::failed(format!("disk '{slot}' does not exist")));
    };
    let volume = volume.to_owned();
    let old = stated_bytes(&vm.config[&slot]).unwrap_or_default();
    let new = if relative { old.saturating_add(size) } else { size };
    if new < old {
        return Err(Refusal::failed("shrinking disks is not supported"));
    }
    let kind = TaskKind { node: ask.node(), kind: "resize", vmid, named: vmid };
    Ok(begin(ask.stage, &mut cluster, &kind, ask.stage.lasts(100), move |cluster| {
        let gone = || format!("Configuration file for VM {vmid} does not exist");
        let option = cluster.vms.get_mut(&vmid).and_then(|vm| vm.config.get_mut(&slot)).ok_or_else(gone)?;
        let parts: Vec<&str> = option.split(',').filter(|part| !part.starts_with("size=")).collect();
        *option = format!("{},size={}", parts.join(","), written_size(new));
        if let Some(disk) = cluster.disks.get_mut(&volume) {
            disk.bytes = new;
        }
        Ok(())
    }))
}
