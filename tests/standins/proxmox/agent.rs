//! What the agent inside a guest answers once it is up.

use serde_json::{Value, json};

use super::ask::{Answer, Ask, Refusal};
use super::cluster::Vm;

/// `GET …/agent/network-get-interfaces`: the loopback, and the first card with the addresses cloud-init gave it.
pub(super) fn interfaces(ask: &Ask<'_>) -> Answer {
    with_agent(ask, |vm| {
        let address = |ip: &str, prefix: u64| {
            let kind = if ip.contains(':') { "ipv6" } else { "ipv4" };
            json!({ "ip-address": ip, "ip-address-type": kind, "prefix": prefix })
        };
        let given = vm.config.get("ipconfig0").map(String::as_str).unwrap_or_default();
        let addresses: Vec<Value> = given
            .split(',')
            .filter_map(|part| part.strip_prefix("ip=").or_else(|| part.strip_prefix("ip6=")))
            .filter_map(|cidr| cidr.split_once('/'))
            .filter_map(|(ip, prefix)| Some(address(ip, prefix.parse().ok()?)))
            .collect();
        let loopback = [address("127.0.0.1", 8), address("::1", 128)];
        json!([
            { "name": "lo", "hardware-address": "00:00:00:00:00:00", "ip-addresses": loopback },
            { "name": "eth0", "hardware-address": vm.mac().unwrap_or_default().to_lowercase(), "ip-addresses": addresses },
        ])
    })
}

/// `POST …/agent/ping`.
pub(super) fn ping(ask: &Ask<'_>) -> Answer {
    with_agent(ask, |_| json!({}))
}

/// `POST …/agent/set-user-password`: the password can be read in the control state.
pub(super) fn set_password(ask: &Ask<'_>) -> Answer {
    let text = |name: &str| ask.text(name).unwrap_or_default().to_owned();
    let (user, password) = (text("username"), text("password"));
    if password.chars().count() < 5 {
        return Err(Refusal::param("password", "value must be at least 5 characters long"));
    }
    with_agent(ask, |vm| {
        vm.guest_passwords.insert(user, password);
        json!({})
    })
}

fn with_agent(ask: &Ask<'_>, answer: impl FnOnce(&mut Vm) -> Value) -> Answer {
    let vmid = ask.vmid();
    let mut cluster = ask.cluster();
    let vm = ask.vm(&mut cluster)?;
    let Some(since) = vm.running_since else {
        return Err(Refusal::failed(format!("VM {vmid} is not running")));
    };
    if !vm.config.get("agent").is_some_and(|agent| agent.starts_with('1') || agent.contains("enabled=1")) {
        return Err(Refusal::failed("No QEMU guest agent configured"));
    }
    let silent = ask.stage.faults.take("agent_never", Some(&vmid.to_string())).is_some();
    if silent || since.elapsed() < ask.stage.lasts(300) {
        return Err(Refusal::failed("QEMU guest agent is not running"));
    }
    Ok(json!({ "result": answer(vm) }))
}
