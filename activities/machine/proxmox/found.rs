//! Finding machines by their stamp alone, when nobody remembers their number.
use std::net::IpAddr;

use domain::ids::{ServiceId, Vmid};
use futures::{StreamExt as _, stream};
use proxmox_api::client::Client;
use serde_json::{Value, json};

use super::{
    ProxmoxApi,
    error::ProxmoxError,
    look::{Looked, Machine},
    stamp::{self, Owner},
};

/// How many machines are looked at at once.
const LOOKS_AT_ONCE: usize = 8;

/// A machine that carries a service's stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMachine {
    /// Its number.
    pub vmid: Vmid,
    /// Where it is now.
    pub node: String,
    /// The addresses it was given.
    pub addresses: Vec<IpAddr>,
}

/// A machine that was copied for a service and never configured: it stands still, and carries the stamp of its copying alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BareCopy {
    /// Its number.
    pub vmid: Vmid,
    /// Where it is now.
    pub node: String,
    /// The service it was copied for.
    pub service: ServiceId,
}

/// What a look through the cluster found.
#[derive(Debug, Default)]
pub struct BareCopies {
    /// Every bare copy that could be read.
    pub found: Vec<BareCopy>,
    /// How many machines may be one and could not be read.
    pub unread: usize,
}

impl ProxmoxApi {
    /// The machine that carries a service's stamp, wherever it is in the cluster.
    ///
    /// *Errors*: whenever Proxmox could not say.
    pub async fn find_of(&self, service: ServiceId) -> Result<Option<FoundMachine>, ProxmoxError> {
        let all: Vec<Value> = self.client.get("/cluster/resources", &json!({"type": "vm"})).await?;
        for listed in all {
            let Some((vmid, node)) = place(&listed) else { continue };
            // The tag comes after the description, so a machine without one may be ours all the same.
            if stamp::owner("", listed["tags"].as_str().unwrap_or_default(), service) == Owner::Other {
                continue;
            }
            if let Looked::Machine(machine) = self.look(node, vmid).await?
                && machine.owner(service) == Owner::Ours
            {
                let addresses = addresses(&machine);
                return Ok(Some(FoundMachine { vmid: machine.vmid, node: machine.node, addresses }));
            }
        }
        Ok(None)
    }

    /// Every bare copy in the cluster: one list, and a look at each machine that does not run and has no tag of ours. A machine
    /// that cannot be read, as on a node that is away, is counted and left out, because a stranger's must not hide ours.
    ///
    /// *Errors*: the list was not given.
    pub async fn bare_copies(&self) -> Result<BareCopies, ProxmoxError> {
        let all: Vec<Value> = self.client.get("/cluster/resources", &json!({"type": "vm"})).await?;
        let may_be_one = |listed: &&Value| {
            listed["status"] != "running" && !stamp::is_tagged(listed["tags"].as_str().unwrap_or_default())
        };
        let places = all.iter().filter(may_be_one).filter_map(place).map(|(vmid, node)| (vmid, node.to_owned()));
        let mut looks = stream::iter(places.collect::<Vec<_>>())
            .map(|(vmid, node)| async move { (vmid, self.listed_at(&node, vmid).await, node) })
            .buffer_unordered(LOOKS_AT_ONCE);
        let mut copies = BareCopies::default();
        while let Some((vmid, looked, node)) = looks.next().await {
            match looked {
                Ok(machine) => {
                    let service = machine.and_then(|machine| machine.service());
                    copies.found.extend(service.map(|service| BareCopy { vmid, node, service }));
                }
                Err(error) => {
                    tracing::warn!(%error, vmid = vmid.0, "whose copy a machine is could not be read");
                    copies.unread += 1;
                }
            }
        }
        Ok(copies)
    }

    /// Whether a bare copy is still there.
    ///
    /// *Errors*: whenever Proxmox could not say.
    pub async fn is_still_there(&self, copy: &BareCopy) -> Result<bool, ProxmoxError> {
        let machine = self.listed_at(&copy.node, copy.vmid).await?;
        Ok(machine.is_some_and(|machine| machine.service() == Some(copy.service)))
    }
}

/// Number and node of a virtual machine in the cluster's list.
fn place(listed: &Value) -> Option<(Vmid, &str)> {
    let number = listed["vmid"].as_u64().and_then(|number| u32::try_from(number).ok())?;
    let is_machine = listed["type"] == "qemu";
    listed["node"].as_str().filter(|_| is_machine).map(|node| (Vmid(number), node))
}

/// What `ipconfig0` says: `ip=192.0.2.7/24,gw=…,ip6=2001:db8::7/64,…`.
fn addresses(machine: &Machine) -> Vec<IpAddr> {
    let fields = machine.setting("ipconfig0").unwrap_or_default().split(',');
    let given = fields.filter_map(|field| field.strip_prefix("ip=").or_else(|| field.strip_prefix("ip6=")));
    given.filter_map(|address| address.split('/').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_machine_are_read_from_its_settings() {
        let settings = [("ipconfig0", "ip=192.0.2.7/24,gw=192.0.2.1,ip6=2001:db8::7/64,gw6=2001:db8::1")];
        let found = addresses(&Machine::of("pve1", Vmid(5_001), &settings));
        assert_eq!(found, ["192.0.2.7".parse::<IpAddr>().expect("v4"), "2001:db8::7".parse().expect("v6")]);
        assert!(addresses(&Machine::of("pve1", Vmid(5_001), &[("ipconfig0", "ip=dhcp")])).is_empty());
    }
}
