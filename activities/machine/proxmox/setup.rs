//! Setting a machine up: size, access, addresses, disk, firewall.
use std::{collections::BTreeSet, net::IpAddr, num::NonZeroU64};

use domain::plan::MachineSize;
use proxmox_api::{
    client::Client,
    nodes::node::qemu::vmid::{
        config::PostParams,
        firewall::{
            ipset::{self, NameStr},
            options::{PolicyIn, PolicyOut, PutParams},
        },
    },
};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{ProxmoxApi, Target, client::percent_encoded, error::ProxmoxError, look::Machine, stamp};
use crate::machine::alive::Progress;

/// Whom the customer logs in as.
const LOGIN: &str = "root";
/// The addresses the first network card may send from. Source: Proxmox VE, firewall, "Standard IP set ipfilter-net*".
const OWN_ADDRESSES: &str = "ipfilter-net0";
const KIB: u64 = 1 << 10;
const DISK_KINDS: [&str; 4] = ["scsi", "virtio", "sata", "ide"];

/// How the customer gets in. It has no `Debug`: it may hold a password.
pub enum Access {
    /// With this SSH public key.
    Key(String),
    /// With this password.
    Password(Zeroizing<String>),
    /// As before: the password was shown already and is no longer known.
    AsBefore,
}

/// One address of a machine.
#[derive(Debug, Clone, Copy)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// The length of its network's prefix, in bits.
    pub prefix_length: u8,
    /// The way out.
    pub gateway: IpAddr,
    /// Where names are looked up.
    pub nameserver: IpAddr,
}

/// What a machine is set to.
pub struct Setup {
    /// Its name, one DNS label.
    pub name: String,
    /// Its size.
    pub size: MachineSize,
    /// Who gets in.
    pub access: Access,
    /// Its IPv4 address.
    pub ipv4: Interface,
    /// Its IPv6 address.
    pub ipv6: Interface,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Entry {
    cidr: String,
}

impl ProxmoxApi {
    /// Sets size, addresses, name, access and tags.
    ///
    /// *Idempotence*: the same values again change nothing. *Source*: Proxmox VE API, `POST /nodes/{node}/qemu/{vmid}/config`.
    pub async fn configure(&self, target: &Target, setup: &Setup, progress: &Progress) -> Result<(), ProxmoxError> {
        let machine = self.ours(target).await?;
        let change = change(&machine, target, setup)?;
        let task = self.machine(&machine.node, machine.vmid)?.config().post(change).await?;
        match task {
            Some(upid) => self.finished(&upid, progress).await,
            None => Ok(()),
        }
    }

    /// Grows the first disk to the plan's size.
    ///
    /// *Idempotence*: a disk that is large enough is left alone; it never shrinks. *Units*: GiB.
    pub async fn resize(&self, target: &Target, disk_gib: u32, progress: &Progress) -> Result<(), ProxmoxError> {
        let machine = self.ours(target).await?;
        let (disk, size_kib) = first_disk(&machine)
            .ok_or_else(|| ProxmoxError::Unfit(format!("machine {} has no disk to grow", target.vmid)))?;
        if size_kib >= u64::from(disk_gib) * KIB * KIB {
            return Ok(());
        }
        let path = format!("/nodes/{}/qemu/{}/resize", machine.node, machine.vmid);
        // Older releases answer null where newer ones name a task; the bindings know only the newer.
        let task: Option<String> =
            self.client.put(&path, &json!({"disk": disk, "size": format!("{disk_gib}G")})).await?;
        match task {
            Some(upid) => self.finished(&upid, progress).await,
            None => Ok(()),
        }
    }

    /// Turns the firewall on: the machine may send only from its own hardware address and its two addresses; everything may
    /// come in.
    ///
    /// *Idempotence*: what stands already is left; addresses a template brought along are taken out.
    pub async fn protect(&self, target: &Target, own: [IpAddr; 2]) -> Result<(), ProxmoxError> {
        let machine = self.ours(target).await?;
        self.fill_own_addresses(&machine, own).await?;
        let filters = PutParams {
            enable: Some(true),
            ipfilter: Some(true),
            macfilter: Some(true),
            radv: Some(false),
            policy_in: Some(PolicyIn::ACCEPT),
            policy_out: Some(PolicyOut::ACCEPT),
            ..PutParams::default()
        };
        self.machine(&machine.node, machine.vmid)?.firewall().options().put(filters).await
    }

    async fn fill_own_addresses(&self, machine: &Machine, own: [IpAddr; 2]) -> Result<(), ProxmoxError> {
        let sets = self.machine(&machine.node, machine.vmid)?.firewall().ipset();
        let path = format!("/nodes/{}/qemu/{}/firewall/ipset", machine.node, machine.vmid);
        let there: Vec<Named> = self.client.get(&path, &()).await?;
        if !there.iter().any(|set| set.name == OWN_ADDRESSES) {
            let name = NameStr::try_from(OWN_ADDRESSES.to_owned())
                .map_err(|_| ProxmoxError::Unfit(format!("{OWN_ADDRESSES} is no name for a set")))?;
            sets.post(ipset::PostParams::new(name)).await?;
        }
        let entries: Vec<Entry> = self.client.get(&format!("{path}/{OWN_ADDRESSES}"), &()).await?;
        let there: BTreeSet<String> = entries.into_iter().map(|entry| entry.cidr).collect();
        let is = |cidr: &str, address: &IpAddr| cidr.split('/').next().is_some_and(|text| text.parse() == Ok(*address));
        for address in own.iter().filter(|address| !there.iter().any(|cidr| is(cidr, address))) {
            let entry = ipset::name::PostParams::new(address.to_string());
            sets.name(OWN_ADDRESSES).post(entry).await?;
        }
        for cidr in there.iter().filter(|cidr| !own.iter().any(|address| is(cidr, address))) {
            // A network has a slash, which the bindings would leave in the path.
            let path = format!("{path}/{OWN_ADDRESSES}/{}", percent_encoded(cidr));
            self.client.delete::<_, ()>(&path, &()).await?;
        }
        Ok(())
    }
}

fn change(machine: &Machine, target: &Target, setup: &Setup) -> Result<PostParams, ProxmoxError> {
    let (key, password) = match &setup.access {
        Access::Key(key) => (Some(percent_encoded(&format!("{}\n", key.trim()))), None),
        Access::Password(password) => (None, Some(password.as_str().to_owned())),
        Access::AsBefore => (None, None),
    };
    // A key or a password the template brought along would let a stranger in.
    let strange = match setup.access {
        Access::Key(_) => Some("cipassword"),
        Access::Password(_) => Some("sshkeys"),
        Access::AsBefore => None,
    };
    let card = machine
        .setting("net0")
        .ok_or_else(|| ProxmoxError::Unfit(format!("machine {} has no network card net0", target.vmid)))?;
    Ok(PostParams {
        name: Some(setup.name.clone()),
        cores: NonZeroU64::new(setup.size.cores.into()),
        memory: Some(setup.size.memory_mib.to_string()),
        ciuser: Some(LOGIN.to_owned()),
        sshkeys: key,
        cipassword: password,
        delete: strange.filter(|name| machine.setting(name).is_some()).map(str::to_owned),
        ipconfigs: [(0, addresses(setup))].into(),
        nameserver: Some(nameservers(setup)),
        nets: [(0, guarded(card))].into(),
        tags: Some(format!("ez;{}", stamp::tag(target.service))),
        onboot: Some(true),
        agent: Some("1".to_owned()),
        ..PostParams::default()
    })
}

fn addresses(setup: &Setup) -> String {
    let (v4, v6) = (setup.ipv4, setup.ipv6);
    format!(
        "ip={}/{},gw={},ip6={}/{},gw6={}",
        v4.address, v4.prefix_length, v4.gateway, v6.address, v6.prefix_length, v6.gateway
    )
}

fn nameservers(setup: &Setup) -> String {
    let (first, second) = (setup.ipv4.nameserver, setup.ipv6.nameserver);
    if first == second { first.to_string() } else { format!("{first} {second}") }
}

/// The same card behind the firewall; its hardware address stays.
fn guarded(card: &str) -> String {
    let kept: Vec<&str> = card.split(',').filter(|part| !part.starts_with("firewall=")).collect();
    format!("{},firewall=1", kept.join(","))
}

/// The disk the machine boots from, and its size in KiB.
fn first_disk(machine: &Machine) -> Option<(String, u64)> {
    let order = machine.setting("boot").and_then(|boot| boot.split(',').find_map(|part| part.strip_prefix("order=")));
    let named = order.into_iter().flat_map(|order| order.split(';')).chain(machine.setting("bootdisk"));
    let usual = DISK_KINDS.map(|kind| format!("{kind}0"));
    named.map(str::to_owned).chain(usual).find_map(|slot| {
        let option = machine.setting(&slot).filter(|_| DISK_KINDS.iter().any(|kind| slot.starts_with(kind)))?;
        let is_disk = !option.contains("media=cdrom") && !option.contains("cloudinit");
        let size = option.split(',').find_map(|part| part.strip_prefix("size="))?;
        is_disk.then(|| size_kib(size)).flatten().map(|size| (slot, size))
    })
}

/// `10G`, `2252M`, `512K` or bytes. Source: Proxmox VE, `PVE::JSONSchema::parse_size`.
fn size_kib(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let unit = match &text[digits.len()..] {
        "" => return Some(whole.parse::<u64>().ok()? / KIB),
        "K" => 1,
        "M" => KIB,
        "G" => KIB * KIB,
        "T" => KIB * KIB * KIB,
        _ => return None,
    };
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<u64>().ok()?.checked_mul(unit)? / scale;
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(part)
}

#[cfg(test)]
mod tests;
