//! What a house sells, as the file `ez seed` reads.
//!
//! ```json
//! {"plans": [{"slug": "small", "name": "Small", "tagline": "…", "cores": 1, "memory_mib": 2048, "disk_gib": 20, "service_limit": 1, "further": null, "trial_days": 0,
//!             "features": ["1 core"], "prices": [{"term": "monthly", "currency": "eur", "amount_minor": 500}]}],
//!  "images": [{"slug": "debian-13", "name": "Debian 13", "template_vmid": 9000}],
//!  "nodes": [{"name": "pve1", "memory_mib_limit": 65536, "storage": "local-lvm", "template_node": "pve1"}],
//!  "vmid_range": [100000, 100999],
//!  "pools": [{"family": 4, "cidr": "10.1.0.0/24", "gateway": "10.1.0.1", "first": "10.1.0.10", "last": "10.1.0.250", "nameserver": "9.9.9.9"}]}
//! ```
//! `term` is `monthly` or `annual`; `amount_minor` is in the currency's smallest unit; `vmid_range`, `first` and `last` are inclusive.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

/// Everything on sale and what it is made from. Change it through [`crate::HouseOptions`] to sell something else.
#[derive(Clone, Debug, Serialize)]
pub struct Catalogue {
    /// What is sold.
    pub plans: Vec<PlanEntry>,
    /// What can be installed.
    pub images: Vec<ImageEntry>,
    /// Where it runs.
    pub nodes: Vec<NodeEntry>,
    /// First and last VM number of ours.
    pub vmid_range: (u32, u32),
    /// Addresses to give out.
    pub pools: Vec<PoolEntry>,
}

/// One plan.
#[derive(Clone, Debug, Serialize)]
pub struct PlanEntry {
    /// In the page's address.
    pub slug: String,
    /// On the card.
    pub name: String,
    /// Under the name.
    pub tagline: String,
    /// Virtual cores.
    pub cores: u32,
    /// Memory.
    pub memory_mib: u32,
    /// Disk.
    pub disk_gib: u32,
    /// How many services one subscription lets an account order.
    pub service_limit: u32,
    /// The machine of each after the first; nothing is written where it is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub further: Option<SizeEntry>,
    /// How many days cost nothing at first.
    pub trial_days: u32,
    /// Lines on the card.
    pub features: Vec<String>,
    /// What it costs.
    pub prices: Vec<PriceEntry>,
}

/// The size of a machine.
#[derive(Clone, Debug, Serialize)]
pub struct SizeEntry {
    /// Virtual cores.
    pub cores: u32,
    /// Memory.
    pub memory_mib: u32,
    /// Disk.
    pub disk_gib: u32,
}

/// One price of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct PriceEntry {
    /// `monthly` or `annual`.
    pub term: &'static str,
    /// Three lower-case letters.
    pub currency: &'static str,
    /// In the currency's smallest unit.
    pub amount_minor: i64,
}

/// One operating system.
#[derive(Clone, Debug, Serialize)]
pub struct ImageEntry {
    /// In the form.
    pub slug: String,
    /// On the page.
    pub name: String,
    /// The Proxmox template that is cloned.
    pub template_vmid: u32,
}

/// One Proxmox node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeEntry {
    /// As Proxmox calls it.
    pub name: String,
    /// Memory that may be sold on it.
    pub memory_mib_limit: u32,
    /// Where disks go.
    pub storage: String,
    /// The node that holds the templates.
    pub template_node: String,
}

/// Addresses of one family.
#[derive(Clone, Debug, Serialize)]
pub struct PoolEntry {
    /// 4 or 6.
    pub family: u8,
    /// The network.
    pub cidr: String,
    /// The router.
    pub gateway: IpAddr,
    /// The first one given out.
    pub first: IpAddr,
    /// The last one given out.
    pub last: IpAddr,
    /// What a VM asks for names.
    pub nameserver: IpAddr,
}

/// The networks of house number `number`: a /24, the first of a /16, and a /64 that no other house uses. From number 256 on
/// the first byte is 11 and more: nothing is ever sent to these addresses, they only have to differ.
pub(crate) fn networks(number: u16) -> (Ipv4Addr, Ipv6Addr) {
    let [above, second] = number.to_be_bytes();
    (Ipv4Addr::new(10 + above, second, 0, 0), Ipv6Addr::new(0xfd00, number, 0, 0, 0, 0, 0, 0))
}

impl Catalogue {
    /// Three plans on `nodes`, with the addresses of house number `number`.
    pub(crate) fn of_house(number: u16, nodes: &[&str]) -> Self {
        let image =
            |slug: &str, name: &str, template_vmid| ImageEntry { slug: slug.into(), name: name.into(), template_vmid };
        let node = |name: &&str| NodeEntry {
            name: (*name).to_owned(),
            memory_mib_limit: 65_536,
            // A machine can be cloned to another node only on storage that both share.
            storage: if nodes.len() > 1 { "shared" } else { "local-lvm" }.into(),
            template_node: nodes.first().copied().unwrap_or("pve1").to_owned(),
        };
        Self {
            plans: vec![
                plan("small", "A first server", (1, 2_048, 20), 500),
                plan("medium", "For a busy site", (2, 4_096, 40), 1_000),
                plan("large", "Room for a whole team", (4, 8_192, 80), 2_000),
            ],
            images: vec![image("debian-13", "Debian 13", 9000), image("ubuntu-24-04", "Ubuntu 24.04", 9001)],
            nodes: nodes.iter().map(node).collect(),
            vmid_range: (100_000, 100_999),
            pools: pools(number),
        }
    }

    /// Gives room for a thousand servers at once.
    pub fn widen(&mut self) {
        for node in &mut self.nodes {
            node.memory_mib_limit = 16 << 20;
        }
        for pool in &mut self.pools {
            pool.last = match pool.first {
                IpAddr::V4(first) => {
                    pool.cidr = pool.cidr.replace("/24", "/16");
                    let [a, b, ..] = first.octets();
                    IpAddr::V4(Ipv4Addr::new(a, b, 4, 250))
                }
                IpAddr::V6(first) => {
                    let [a, b, ..] = first.segments();
                    IpAddr::V6(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0x5ff))
                }
            };
        }
    }
}

fn plan(slug: &str, tagline: &str, (cores, memory_mib, disk_gib): (u32, u32, u32), monthly_minor: i64) -> PlanEntry {
    let initial = slug.get(..1).unwrap_or_default().to_uppercase();
    PlanEntry {
        slug: slug.to_owned(),
        name: format!("{initial}{}", slug.get(1..).unwrap_or_default()),
        tagline: tagline.to_owned(),
        cores,
        memory_mib,
        disk_gib,
        service_limit: 1,
        further: None,
        trial_days: 0,
        features: vec![
            "IPv4 and IPv6 address".into(),
            "Name and reverse name".into(),
            "Firewall against forged addresses".into(),
        ],
        prices: vec![
            PriceEntry { term: "monthly", currency: "eur", amount_minor: monthly_minor },
            PriceEntry { term: "annual", currency: "eur", amount_minor: monthly_minor * 10 },
        ],
    }
}

fn pools(number: u16) -> Vec<PoolEntry> {
    let (v4, v6) = networks(number);
    let in_v4 = |last: u8| {
        let [first, second, third, _] = v4.octets();
        IpAddr::V4(Ipv4Addr::new(first, second, third, last))
    };
    let in_v6 = |last: u16| IpAddr::V6((v6.to_bits() + u128::from(last)).into());
    let quad9_v6 = Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe);
    vec![
        PoolEntry {
            family: 4,
            cidr: format!("{v4}/24"),
            gateway: in_v4(1),
            first: in_v4(10),
            last: in_v4(250),
            nameserver: IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)),
        },
        PoolEntry {
            family: 6,
            cidr: format!("{v6}/64"),
            gateway: in_v6(1),
            first: in_v6(0x10),
            last: in_v6(0xff),
            nameserver: IpAddr::V6(quad9_v6),
        },
    ]
}
