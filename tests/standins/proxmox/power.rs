//! Starting and stopping.

use std::time::Instant;

use serde_json::{Value, json};

use super::ask::{Answer, Ask, Refusal};
use super::cluster::{Cluster, Vm};
use super::tasks::{TaskKind, begin};

/// `GET …/status/current`.
pub(super) fn current(ask: &Ask<'_>) -> Answer {
    let mut cluster = ask.cluster();
    ask.vm(&mut cluster)?;
    let vm = &cluster.vms[&ask.vmid()];
    let mut shown = summary(&cluster, ask.vmid(), vm);
    shown["qmpstatus"] = json!(vm.status());
    shown["ha"] = json!({ "managed": 0 });
    if vm.config.get("agent").is_some_and(|agent| agent.starts_with('1') || agent.contains("enabled=1")) {
        shown["agent"] = json!(1);
    }
    Ok(shown)
}

/// A VM as lists show it.
pub(super) fn summary(cluster: &Cluster, vmid: u32, vm: &Vm) -> Value {
    let uptime_secs = vm.running_since.map_or(0, |since| since.elapsed().as_secs());
    let cpus = vm.number("cores", 1) * vm.number("sockets", 1);
    let memory_bytes = vm.number("memory", 512) << 20;
    let running = vm.running_since.is_some();
    let mut shown = json!({
        "vmid": vmid, "name": vm.name(vmid), "status": vm.status(), "uptime": uptime_secs,
        "cpus": cpus, "cpu": if running { 0.01 } else { 0.0 },
        "maxmem": memory_bytes, "mem": if running { memory_bytes / 4 } else { 0 },
        "maxdisk": cluster.boot_disk_bytes(vm), "disk": 0,
        "netin": 0, "netout": 0, "diskread": 0, "diskwrite": 0,
    });
    for name in ["lock", "tags"] {
        if let Some(value) = vm.config.get(name) {
            shown[name] = json!(value);
        }
    }
    if vm.is_template() {
        shown["template"] = json!(1);
    }
    if running {
        shown["pid"] = json!(0x2_0000 + vmid);
    }
    shown
}

/// `POST …/status/start`: a task in every case; a locked or running VM makes it fail.
pub(super) fn start(ask: &Ask<'_>) -> Answer {
    let vmid = ask.vmid();
    change(ask, "qmstart", 150, move |vm| {
        vm.locked()?;
        if vm.is_template() {
            return Err("you can't start a vm if it's a template".to_owned());
        }
        if vm.running_since.is_some() {
            return Err(format!("VM {vmid} already running"));
        }
        vm.running_since = Some(Instant::now());
        Ok(())
    })
}

/// `POST …/status/stop`: a stopped VM stays stopped, and that is success.
pub(super) fn stop(ask: &Ask<'_>) -> Answer {
    change(ask, "qmstop", 100, |vm| {
        vm.locked()?;
        vm.running_since = None;
        Ok(())
    })
}

/// `POST …/status/shutdown`: asks the guest, which the fault `shutdown_ignored` keeps from listening.
pub(super) fn shutdown(ask: &Ask<'_>) -> Answer {
    let (force, stage, vmid) = (ask.flag("forceStop"), ask.stage.clone(), ask.vmid());
    change(ask, "qmshutdown", 150, move |vm| {
        vm.locked()?;
        let ignored =
            vm.running_since.is_some() && stage.faults.take("shutdown_ignored", Some(&vmid.to_string())).is_some();
        if ignored && !force {
            return Err("VM quit/powerdown failed - got timeout".to_owned());
        }
        vm.running_since = None;
        Ok(())
    })
}

/// `POST …/status/reboot`: refused at once if the VM is not running.
pub(super) fn reboot(ask: &Ask<'_>) -> Answer {
    let vmid = ask.vmid();
    if ask.vm(&mut ask.cluster())?.running_since.is_none() {
        return Err(Refusal::failed(format!("VM {vmid} not running")));
    }
    change(ask, "qmreboot", 150, |vm| {
        vm.locked()?;
        vm.running_since = vm.running_since.map(|_| Instant::now());
        Ok(())
    })
}

fn change(
    ask: &Ask<'_>,
    kind: &'static str,
    lasts_ms: u64,
    work: impl FnOnce(&mut Vm) -> Result<(), String> + Send + 'static,
) -> Answer {
    let vmid = ask.vmid();
    let mut cluster = ask.cluster();
    ask.vm(&mut cluster)?;
    let kind = TaskKind { node: ask.node(), kind, vmid, named: vmid };
    Ok(begin(ask.stage, &mut cluster, &kind, ask.stage.lasts(lasts_ms), move |cluster| {
        let gone = || format!("Configuration file for VM {vmid} does not exist");
        work(cluster.vms.get_mut(&vmid).ok_or_else(gone)?)
    }))
}
