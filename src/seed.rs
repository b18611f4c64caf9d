//! `ez seed`: puts a catalogue on sale. The same catalogue again changes nothing.
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use activities::payment::stripe::StripeApi;
use anyhow::{Context, bail};
use domain::{
    ids::Vmid,
    money::Money,
    plan::{MachineSize, Term},
    service::ServiceKind,
};
use serde::Deserialize;
use store::{NewAddress, NewImage, NewNode, NewPlan, NewPrice, Store};

/// The most addresses one pool may hold, so that a slip of the pen in an IPv6 pool is refused.
const POOL_LIMIT_ADDRESSES: u128 = 65_536;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    plans: Vec<PlanEntry>,
    images: Vec<ImageEntry>,
    nodes: Vec<NodeEntry>,
    vmid_range: (u32, u32),
    pools: Vec<PoolEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanEntry {
    slug: String,
    name: String,
    tagline: String,
    cores: u32,
    memory_mib: u32,
    disk_gib: u32,
    #[serde(default = "one")]
    service_limit: u32,
    #[serde(default)]
    further: Option<SizeEntry>,
    #[serde(default)]
    trial_days: u32,
    features: Vec<String>,
    prices: Vec<PriceEntry>,
}

/// The machine of each service after the first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SizeEntry {
    cores: u32,
    memory_mib: u32,
    disk_gib: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceEntry {
    term: Term,
    currency: String,
    amount_minor: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageEntry {
    slug: String,
    name: String,
    template_vmid: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    name: String,
    memory_mib_limit: u32,
    storage: String,
    template_node: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolEntry {
    family: u8,
    cidr: String,
    gateway: IpAddr,
    first: IpAddr,
    last: IpAddr,
    nameserver: IpAddr,
}

const fn one() -> u32 {
    1
}

/// Reads the catalogue file and puts it on sale: at Stripe (products and prices) and in the database.
///
/// *Errors*: the file cannot be read, or Stripe or the database is away; run it again.
/// *Idempotence*: everything is looked up before it is made.
pub(crate) async fn run(path: &Path, store: &Store, stripe: &StripeApi) -> anyhow::Result<()> {
    let text = tokio::fs::read_to_string(path).await.with_context(|| format!("reading {}", path.display()))?;
    let catalogue: Catalogue = serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    for (position, plan) in (1..).zip(&catalogue.plans) {
        put_plan(store, stripe, position, plan).await.with_context(|| format!("plan {}", plan.slug))?;
    }
    for (position, image) in (1..).zip(&catalogue.images) {
        let template_vmid = Vmid(image.template_vmid);
        store
            .put_image(&NewImage { slug: image.slug.clone(), name: image.name.clone(), template_vmid, position })
            .await?;
    }
    for node in catalogue.nodes {
        let NodeEntry { name, memory_mib_limit, storage, template_node } = node;
        store.put_node(&NewNode { name, memory_mib_limit, storage, template_node }).await?;
    }
    store.put_vmids(catalogue.vmid_range.0..=catalogue.vmid_range.1).await?;
    for pool in &catalogue.pools {
        store.put_addresses(&addresses(pool).with_context(|| format!("pool {}", pool.cidr))?).await?;
    }
    Ok(())
}

async fn put_plan(store: &Store, stripe: &StripeApi, position: u32, plan: &PlanEntry) -> anyhow::Result<()> {
    let size = MachineSize { cores: plan.cores, memory_mib: plan.memory_mib, disk_gib: plan.disk_gib };
    store
        .put_plan(&NewPlan {
            slug: plan.slug.clone(),
            name: plan.name.clone(),
            tagline: plan.tagline.clone(),
            kind: ServiceKind::Vps,
            size,
            service_limit: plan.service_limit,
            further: plan.further.as_ref().map(|size| MachineSize {
                cores: size.cores,
                memory_mib: size.memory_mib,
                disk_gib: size.disk_gib,
            }),
            trial_days: plan.trial_days,
            position,
            features: plan.features.clone(),
        })
        .await?;
    for price in &plan.prices {
        let money = Money { amount_minor: price.amount_minor, currency: price.currency.parse()? };
        let stripe_price_id = stripe
            .ensure_product_and_price(&plan.slug, &plan.name, price.term, &money)
            .await
            .map_err(|fault| anyhow::anyhow!(fault.words()))?;
        store.put_price(&NewPrice { plan_slug: plan.slug.clone(), term: price.term, money, stripe_price_id }).await?;
    }
    Ok(())
}

fn addresses(pool: &PoolEntry) -> anyhow::Result<Vec<NewAddress>> {
    let (_, length) = pool.cidr.split_once('/').context("cidr needs a prefix length")?;
    let prefix_length: u8 = length.parse().context("cidr needs a prefix length")?;
    let (first, last) = match (pool.first, pool.last, pool.family) {
        (IpAddr::V4(first), IpAddr::V4(last), 4) => (u128::from(first.to_bits()), u128::from(last.to_bits())),
        (IpAddr::V6(first), IpAddr::V6(last), 6) => (first.to_bits(), last.to_bits()),
        _ => bail!("first and last must be addresses of the pool's family"),
    };
    if last < first || last - first >= POOL_LIMIT_ADDRESSES {
        bail!("first to last must hold 1 to {POOL_LIMIT_ADDRESSES} addresses");
    }
    let address = |bits: u128| {
        if pool.family == 4 {
            u32::try_from(bits).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))).context("not an IPv4 address")
        } else {
            Ok(IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
    };
    (first..=last)
        .map(|bits| {
            Ok(NewAddress {
                address: address(bits)?,
                prefix_length,
                gateway: pool.gateway,
                nameserver: pool.nameserver,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(family: u8, first: &str, last: &str) -> PoolEntry {
        let address = |text: &str| text.parse().expect("an address");
        let gateway = if family == 4 { "10.1.0.1" } else { "fd00:1::1" };
        let cidr = if family == 4 { "10.1.0.0/24" } else { "fd00:1::/64" }.to_owned();
        let (first, last) = (address(first), address(last));
        PoolEntry { family, cidr, gateway: address(gateway), first, last, nameserver: address("9.9.9.9") }
    }

    #[test]
    fn a_pool_holds_every_address_from_first_to_last() {
        let held = addresses(&pool(4, "10.1.0.254", "10.1.1.1")).expect("a pool");
        let held: Vec<String> = held.iter().map(|a| a.address.to_string()).collect();
        assert_eq!(held, ["10.1.0.254", "10.1.0.255", "10.1.1.0", "10.1.1.1"]);
        assert_eq!(addresses(&pool(6, "fd00:1::a", "fd00:1::c")).expect("a pool").len(), 3);
    }

    #[test]
    fn a_pool_that_cannot_be_meant_is_refused() {
        assert!(addresses(&pool(4, "10.1.0.9", "10.1.0.1")).is_err());
        assert!(addresses(&pool(6, "fd00:1::", "fd00:2::")).is_err());
        assert!(addresses(&pool(4, "fd00:1::", "fd00:1::1")).is_err());
    }
}
