//! The calls this cluster serves: method, path, parameters and who answers.
//!
//! Anything else is `501 not implemented`; a parameter that is not in the table is refused as the real cluster refuses it.

use super::ask::{Answer, Ask};
use super::params::{Form, Param, may, must};
use super::{agent, clone, config, firewall, nodes, power, tasks};
use Form::{
    AddressList, Cidr, Decimal, DiskSize, DnsName, FirewallAddress, FirewallPorts, Flag, IpConfig, MemoryMib, Name,
    Network, OneOf, OptionList, SetName, SshKeys, Tags, Text, Whole,
};

/// One call of the API.
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) params: &'static [Param],
    pub(super) answer: fn(&Ask<'_>) -> Answer,
}

const LONG: usize = 8192;
const VMID: Form = Whole(100, 999_999_999);
const ANY_COUNT: Form = Whole(0, i64::MAX);
const POLICIES: Form = OneOf(&["ACCEPT", "REJECT", "DROP"]);
const LOG_LEVELS: Form = OneOf(&["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug", "nolog"]);

/// What the parts of a path in braces may hold.
pub(super) fn path_form(name: &str) -> Form {
    match name {
        "vmid" => VMID,
        "pos" => ANY_COUNT,
        "name" => SetName,
        "cidr" => Cidr,
        "upid" => Text(512),
        _ => Name,
    }
}

const fn call(
    method: &'static str,
    path: &'static str,
    params: &'static [Param],
    answer: fn(&Ask<'_>) -> Answer,
) -> Call {
    Call { method, path, params, answer }
}

/// Every call served.
pub(super) static CALLS: &[Call] = &[
    call("GET", "/version", &[], nodes::version),
    call("GET", "/nodes", &[], nodes::list),
    call("GET", "/nodes/{node}/status", &[], nodes::status),
    call("GET", "/cluster/resources", &[may("type", OneOf(&["vm", "storage", "node", "sdn"]))], nodes::resources),
    call("GET", "/cluster/nextid", &[may("vmid", VMID)], nodes::next_id),
    call("GET", "/access/permissions", &[may("path", Text(LONG)), may("userid", Text(LONG))], nodes::permissions),
    call("GET", "/nodes/{node}/storage", STORAGE_LIST, nodes::storages),
    call("GET", "/nodes/{node}/storage/{storage}/status", &[], nodes::storage_status),
    call("GET", "/nodes/{node}/storage/{storage}/content", STORAGE_CONTENT, nodes::storage_content),
    call("GET", "/nodes/{node}/tasks", TASK_LIST, tasks::list),
    call("GET", "/nodes/{node}/tasks/{upid}/status", &[], tasks::status),
    call("GET", "/nodes/{node}/tasks/{upid}/log", TASK_LOG, tasks::log),
    call("GET", "/nodes/{node}/qemu", &[may("full", Flag)], nodes::vms),
    call("DELETE", "/nodes/{node}/qemu/{vmid}", DESTROY, clone::destroy),
    call("POST", "/nodes/{node}/qemu/{vmid}/clone", CLONE, clone::clone),
    call("GET", "/nodes/{node}/qemu/{vmid}/config", &[may("current", Flag), may("snapshot", Name)], config::read),
    call("POST", "/nodes/{node}/qemu/{vmid}/config", CONFIG, config::change_later),
    call("PUT", "/nodes/{node}/qemu/{vmid}/config", CONFIG, config::change_now),
    call("PUT", "/nodes/{node}/qemu/{vmid}/resize", RESIZE, config::resize),
    call("GET", "/nodes/{node}/qemu/{vmid}/status/current", &[], power::current),
    call("POST", "/nodes/{node}/qemu/{vmid}/status/start", START, power::start),
    call("POST", "/nodes/{node}/qemu/{vmid}/status/stop", STOP, power::stop),
    call("POST", "/nodes/{node}/qemu/{vmid}/status/shutdown", SHUTDOWN, power::shutdown),
    call("POST", "/nodes/{node}/qemu/{vmid}/status/reboot", &[may("timeout", ANY_COUNT)], power::reboot),
    call("GET", "/nodes/{node}/qemu/{vmid}/agent/network-get-interfaces", &[], agent::interfaces),
    call("POST", "/nodes/{node}/qemu/{vmid}/agent/ping", &[], agent::ping),
    call("POST", "/nodes/{node}/qemu/{vmid}/agent/set-user-password", PASSWORD, agent::set_password),
    call("GET", "/nodes/{node}/qemu/{vmid}/firewall/options", &[], firewall::options),
    call("PUT", "/nodes/{node}/qemu/{vmid}/firewall/options", FIREWALL_OPTIONS, firewall::set_options),
    call("GET", "/nodes/{node}/qemu/{vmid}/firewall/rules", &[], firewall::rules),
    call("POST", "/nodes/{node}/qemu/{vmid}/firewall/rules", FIREWALL_RULE, firewall::add_rule),
    call("DELETE", "/nodes/{node}/qemu/{vmid}/firewall/rules/{pos}", DIGEST, firewall::delete_rule),
    call("GET", "/nodes/{node}/qemu/{vmid}/firewall/ipset", &[], firewall::sets),
    call("POST", "/nodes/{node}/qemu/{vmid}/firewall/ipset", FIREWALL_SET, firewall::add_set),
    call("GET", "/nodes/{node}/qemu/{vmid}/firewall/ipset/{name}", &[], firewall::set_entries),
    call("POST", "/nodes/{node}/qemu/{vmid}/firewall/ipset/{name}", SET_ENTRY, firewall::add_entry),
    call("DELETE", "/nodes/{node}/qemu/{vmid}/firewall/ipset/{name}", &[may("force", Flag)], firewall::delete_set),
    call("DELETE", "/nodes/{node}/qemu/{vmid}/firewall/ipset/{name}/{cidr}", DIGEST, firewall::delete_entry),
];

const DIGEST: &[Param] = &[may("digest", Text(64))];

const STORAGE_LIST: &[Param] =
    &[may("content", Text(LONG)), may("enabled", Flag), may("format", Flag), may("storage", Name), may("target", Name)];

const STORAGE_CONTENT: &[Param] = &[may("content", Text(64)), may("vmid", VMID)];

const TASK_LIST: &[Param] = &[
    may("errors", Flag),
    may("limit", ANY_COUNT),
    may("since", ANY_COUNT),
    may("source", OneOf(&["archive", "active", "all"])),
    may("start", ANY_COUNT),
    may("typefilter", Text(64)),
    may("until", ANY_COUNT),
    may("userfilter", Text(128)),
    may("vmid", VMID),
];

const TASK_LOG: &[Param] = &[may("limit", ANY_COUNT), may("start", ANY_COUNT)];

const CLONE: &[Param] = &[
    must("newid", VMID),
    may("bwlimit", ANY_COUNT),
    may("description", Text(LONG)),
    may("format", OneOf(&["raw", "qcow2", "vmdk"])),
    may("full", Flag),
    may("name", DnsName),
    may("pool", Name),
    may("snapname", Name),
    may("storage", Name),
    may("target", Name),
];

const DESTROY: &[Param] = &[may("destroy-unreferenced-disks", Flag), may("purge", Flag), may("skiplock", Flag)];

/// What a VM's configuration may hold, beside what only a change to it may carry.
pub(super) const CONFIG: &[Param] = &[
    may("agent", Text(256)),
    may("balloon", ANY_COUNT),
    may("boot", Text(256)),
    may("cicustom", Text(512)),
    may("cipassword", Text(LONG)),
    may("citype", OneOf(&["configdrive2", "nocloud", "opennebula"])),
    may("ciupgrade", Flag),
    may("ciuser", Text(256)),
    may("cores", Whole(1, i64::MAX)),
    may("cpu", Text(256)),
    may("cpulimit", Decimal(0.0, 128.0)),
    may("cpuunits", Whole(1, 262_144)),
    may("delete", OptionList),
    may("description", Text(LONG)),
    may("digest", Text(40)),
    may("force", Flag),
    may("ide[n]", Text(1024)),
    may("ipconfig[n]", IpConfig),
    may("lock", OneOf(&["backup", "clone", "create", "migrate", "rollback", "snapshot", "snapshot-delete"])),
    may("memory", MemoryMib),
    may("name", DnsName),
    may("nameserver", AddressList),
    may("net[n]", Network),
    may("numa", Flag),
    may("onboot", Flag),
    may("ostype", OneOf(&["other", "wxp", "w2k8", "win7", "win8", "win10", "win11", "l24", "l26", "solaris"])),
    may("protection", Flag),
    may("scsi[n]", Text(1024)),
    may("scsihw", OneOf(&["lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi"])),
    may("searchdomain", Text(256)),
    may("serial[n]", Text(256)),
    may("skiplock", Flag),
    may("smbios1", Text(512)),
    may("sockets", Whole(1, i64::MAX)),
    may("sshkeys", SshKeys),
    may("startup", Text(256)),
    may("tags", Tags),
    may("template", Flag),
    may("vga", Text(256)),
    may("virtio[n]", Text(1024)),
];

const RESIZE: &[Param] = &[must("disk", Name), must("size", DiskSize), may("digest", Text(40)), may("skiplock", Flag)];

const START: &[Param] =
    &[may("force-cpu", Text(256)), may("machine", Text(64)), may("skiplock", Flag), may("timeout", ANY_COUNT)];

const STOP: &[Param] =
    &[may("keepActive", Flag), may("overrule-shutdown", Flag), may("skiplock", Flag), may("timeout", ANY_COUNT)];

const SHUTDOWN: &[Param] =
    &[may("forceStop", Flag), may("keepActive", Flag), may("skiplock", Flag), may("timeout", ANY_COUNT)];

const PASSWORD: &[Param] = &[must("password", Text(1024)), must("username", Text(256)), may("crypted", Flag)];

const FIREWALL_OPTIONS: &[Param] = &[
    may("delete", OptionList),
    may("dhcp", Flag),
    may("digest", Text(64)),
    may("enable", Flag),
    may("ipfilter", Flag),
    may("log_level_in", LOG_LEVELS),
    may("log_level_out", LOG_LEVELS),
    may("macfilter", Flag),
    may("ndp", Flag),
    may("policy_in", POLICIES),
    may("policy_out", POLICIES),
    may("radv", Flag),
];

const FIREWALL_RULE: &[Param] = &[
    must("action", SetName),
    must("type", OneOf(&["in", "out", "forward", "group"])),
    may("comment", Text(LONG)),
    may("dest", FirewallAddress),
    may("digest", Text(64)),
    may("dport", FirewallPorts),
    may("enable", ANY_COUNT),
    may("icmp-type", Text(64)),
    may("iface", SetName),
    may("log", LOG_LEVELS),
    may("macro", Text(128)),
    may("pos", ANY_COUNT),
    may("proto", Text(64)),
    may("source", FirewallAddress),
    may("sport", FirewallPorts),
];

const FIREWALL_SET: &[Param] =
    &[must("name", SetName), may("comment", Text(LONG)), may("digest", Text(64)), may("rename", SetName)];

const SET_ENTRY: &[Param] = &[must("cidr", Cidr), may("comment", Text(LONG)), may("nomatch", Flag)];
