//! What the cluster holds: VMs with their configuration, disks, firewalls and tasks.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

use rand::random;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::calls::CONFIG;
use super::firewall::Firewall;
use super::params::disk_size_bytes;
use super::tasks::Task;

/// Storage of one node only.
pub(super) const LOCAL_STORAGE: &str = "local-lvm";
/// Bytes in one storage.
pub(super) const STORAGE_BYTES: u64 = 2 << 40;
const TEMPLATE_DISK_BYTES: u64 = 3584 << 20;
const CLOUD_INIT_BYTES: u64 = 4 << 20;

/// Everything there is, behind one lock.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) vms: BTreeMap<u32, Vm>,
    /// By volume, such as `shared:vm-101-disk-0`.
    pub(super) disks: BTreeMap<String, Disk>,
    /// By VM; one may outlive its VM.
    pub(super) firewalls: BTreeMap<u32, Firewall>,
    /// In the order they began.
    pub(super) tasks: Vec<Task>,
}

/// One virtual machine.
pub(super) struct Vm {
    pub(super) node: String,
    pub(super) config: BTreeMap<String, String>,
    pub(super) running_since: Option<Instant>,
    /// Set inside the guest through its agent: user, password.
    pub(super) guest_passwords: BTreeMap<String, String>,
}

/// One volume.
pub(super) struct Disk {
    pub(super) vmid: u32,
    pub(super) bytes: u64,
}

impl Vm {
    /// A stopped VM with this configuration.
    pub(super) fn stopped(node: &str, config: BTreeMap<String, String>) -> Self {
        Self { node: node.to_owned(), config, running_since: None, guest_passwords: BTreeMap::new() }
    }

    /// `running` or `stopped`.
    pub(super) fn status(&self) -> &'static str {
        if self.running_since.is_some() { "running" } else { "stopped" }
    }

    /// Whether it can only be cloned.
    pub(super) fn is_template(&self) -> bool {
        self.config.get("template").is_some_and(|value| value == "1")
    }

    /// Its name; a VM without one is named after its number.
    pub(super) fn name(&self, vmid: u32) -> String {
        self.config.get("name").cloned().unwrap_or_else(|| format!("VM {vmid}"))
    }

    /// A number from its configuration.
    pub(super) fn number(&self, name: &str, otherwise: u64) -> u64 {
        self.config.get(name).and_then(|value| value.trim_start_matches("current=").parse().ok()).unwrap_or(otherwise)
    }

    /// Why it may not be changed now, if it is locked.
    pub(super) fn locked(&self) -> Result<(), String> {
        self.config.get("lock").map_or(Ok(()), |lock| Err(format!("VM is locked ({lock})")))
    }

    /// Changes whenever the configuration does.
    pub(super) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (name, value) in &self.config {
            hash.update(format!("{name}: {value}\n"));
        }
        hash.finalize().iter().take(20).fold(String::new(), |mut text, byte| {
            _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The configuration as the API shows it: numbers as numbers, the password masked.
    pub(super) fn config_json(&self) -> Map<String, Value> {
        let shown = |name: &str, value: &str| match CONFIG.iter().find(|param| param.is_called(name)) {
            _ if name == "cipassword" => json!("**********"),
            Some(param) if param.form.is_numeric() => serde_json::from_str(value).unwrap_or_else(|_| json!(value)),
            _ => json!(value),
        };
        self.config.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect()
    }

    /// Its volumes that hold data, by the option that attaches them: `scsi0` to `shared:vm-101-disk-0`.
    pub(super) fn volumes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.config.iter().filter_map(|(name, value)| {
            let bus = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
            let volume = value.split(',').next()?;
            (["scsi", "virtio", "ide", "sata"].contains(&bus) && volume.contains(':'))
                .then_some((name.as_str(), volume))
        })
    }

    /// The hardware address of its first network card.
    pub(super) fn mac(&self) -> Option<&str> {
        self.config
            .get("net0")?
            .split(',')
            .find_map(|part| part.split_once('=').map(|(_, mac)| mac).filter(|mac| mac.len() == 17))
    }
}

impl Cluster {
    /// A cluster whose templates are on shared storage and live on the first node.
    pub(super) fn with_templates(node: &str, storage: &str, templates: &[u32]) -> Self {
        let mut cluster = Self::default();
        for vmid in templates {
            let mut config = hardware(&format!("template-{vmid}"));
            config.insert("template".to_owned(), "1".to_owned());
            config.insert("scsi0".to_owned(), format!("{storage}:base-{vmid}-disk-0,size=3584M"));
            config.insert("ide2".to_owned(), format!("{storage}:vm-{vmid}-cloudinit,media=cdrom,size=4M"));
            let disks = [
                (format!("{storage}:base-{vmid}-disk-0"), TEMPLATE_DISK_BYTES),
                (format!("{storage}:vm-{vmid}-cloudinit"), CLOUD_INIT_BYTES),
            ];
            for (volume, bytes) in disks {
                cluster.disks.insert(volume, Disk { vmid: *vmid, bytes });
            }
            cluster.vms.insert(*vmid, Vm::stopped(node, config));
        }
        cluster
    }

    /// Adds a stopped VM with one disk of 10 GiB, as if somebody else had made it.
    pub(super) fn plant(&mut self, vmid: u32, node: &str, storage: &str, name: &str, description: &str) {
        let mut config = hardware(name);
        config.insert("scsi0".to_owned(), format!("{storage}:vm-{vmid}-disk-0,size=10G"));
        if !description.is_empty() {
            config.insert("description".to_owned(), kept_description(description));
        }
        self.disks.insert(format!("{storage}:vm-{vmid}-disk-0"), Disk { vmid, bytes: 10 << 30 });
        self.vms.insert(vmid, Vm::stopped(node, config));
    }

    /// Takes a VM and the disks it names away.
    pub(super) fn remove_vm(&mut self, vmid: u32) -> Option<Vm> {
        let vm = self.vms.remove(&vmid)?;
        for (_, volume) in vm.volumes() {
            self.disks.remove(volume);
        }
        Some(vm)
    }

    /// Bytes used on a storage.
    pub(super) fn used_bytes(&self, storage: &str) -> u64 {
        let on_it = |volume: &str| volume.split_once(':').is_some_and(|(name, _)| name == storage);
        self.disks.iter().filter(|(volume, _)| on_it(volume)).map(|(_, disk)| disk.bytes).sum()
    }

    /// Disks whose VM is gone, or whose VM does not name them.
    pub(super) fn stray_disks(&self) -> Vec<&String> {
        let named =
            |volume: &str, vmid| self.vms.get(&vmid).is_some_and(|vm| vm.volumes().any(|(_, own)| own == volume));
        self.disks.iter().filter(|(volume, disk)| !named(volume, disk.vmid)).map(|(volume, _)| volume).collect()
    }

    /// A VM's largest disk in bytes.
    pub(super) fn boot_disk_bytes(&self, vm: &Vm) -> u64 {
        vm.volumes().filter_map(|(_, volume)| self.disks.get(volume)).map(|disk| disk.bytes).max().unwrap_or_default()
    }
}

fn hardware(name: &str) -> BTreeMap<String, String> {
    let net0 = format!("virtio={},bridge=vmbr0,firewall=1", new_mac());
    let pairs = [
        ("agent", "1"),
        ("boot", "order=scsi0"),
        ("cores", "1"),
        ("memory", "1024"),
        ("name", name),
        ("net0", &net0),
        ("ostype", "l26"),
        ("scsihw", "virtio-scsi-single"),
        ("serial0", "socket"),
        ("smbios1", &new_smbios()),
        ("vga", "serial0"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    BTreeMap::from(pairs)
}

/// A description as a configuration keeps it: always ending in a line break.
pub(super) fn kept_description(text: &str) -> String {
    format!("{}\n", text.trim_end_matches('\n'))
}

/// A fresh hardware address.
pub(super) fn new_mac() -> String {
    let [a, b, c]: [u8; 3] = random();
    format!("BC:24:11:{a:02X}:{b:02X}:{c:02X}")
}

/// Fresh firmware settings, which carry the machine's uuid.
pub(super) fn new_smbios() -> String {
    format!("uuid={}", uuid::Uuid::new_v4())
}

/// A size as a configuration writes it, in the largest unit that divides it.
pub(super) fn written_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// The size a disk option states, in bytes.
pub(super) fn stated_bytes(option: &str) -> Option<u64> {
    let size = option.split(',').find_map(|part| part.strip_prefix("size="))?;
    disk_size_bytes(size).map(|(bytes, _)| bytes)
}
