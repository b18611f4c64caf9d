//! What is sold, and what there is to sell it from.
use crate::{
    Store, StoreError,
    fault::{Doing, count, word},
};
use domain::{
    ids::Vmid,
    money::{Currency, Money},
    plan::{MachineSize, Term},
    service::ServiceKind,
};
use std::{collections::BTreeMap, net::IpAddr, ops::RangeInclusive};
use uuid::Uuid;

pub(crate) mod labels;

/// A plan on sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which.
    pub id: Uuid,
    /// Its word in addresses of pages.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// One line about it.
    pub tagline: String,
    /// The machine one gets.
    pub size: MachineSize,
    /// The lines on its card.
    pub features: Vec<String>,
    /// What it costs, monthly first.
    pub prices: Vec<Price>,
    /// How many days cost nothing at first, once for each account.
    pub trial_days: u32,
    /// How many can still be reserved now.
    pub free: i64,
}

/// What a plan costs for one term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Which.
    pub id: Uuid,
    /// How often it is charged.
    pub term: Term,
    /// How much each time.
    pub money: Money,
    /// The Stripe id (`price_…`).
    pub stripe_price_id: String,
}

/// An operating system on offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its word in forms.
    pub slug: String,
    /// Its name.
    pub name: String,
}

/// A plan to put on sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPlan {
    /// Its word in addresses of pages; the same slug again changes the plan.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// One line about it.
    pub tagline: String,
    /// What is delivered.
    pub kind: ServiceKind,
    /// The machine one gets.
    pub size: MachineSize,
    /// How many services one subscription pays for, the first included.
    pub service_limit: u32,
    /// The machine each further service gets; nothing means the same as the first.
    pub further: Option<MachineSize>,
    /// How many days cost nothing at first, once for each account; 90 at most.
    pub trial_days: u32,
    /// Its place on the page.
    pub position: u32,
    /// The lines on its card.
    pub features: Vec<String>,
}

/// A price to ask for a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPrice {
    /// Which plan.
    pub plan_slug: String,
    /// How often it is charged.
    pub term: Term,
    /// How much each time.
    pub money: Money,
    /// The Stripe id (`price_…`).
    pub stripe_price_id: String,
}

/// An operating system to offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImage {
    /// Its word in forms.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// The number of the template it is cloned from.
    pub template_vmid: Vmid,
    /// Its place in the list.
    pub position: u32,
}

/// A Proxmox node to build on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// Its name in the cluster.
    pub name: String,
    /// How much memory may be sold on it.
    pub memory_mib_limit: u32,
    /// The storage that disks are made on.
    pub storage: String,
    /// The node its templates live on.
    pub template_node: String,
}

/// An address to give away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAddress {
    /// The address itself.
    pub address: IpAddr,
    /// How many bits of it are the network.
    pub prefix_length: u8,
    /// Where its packets leave.
    pub gateway: IpAddr,
    /// Who answers its names.
    pub nameserver: IpAddr,
}

impl Store {
    /// Every plan on sale, in the page's order.
    pub async fn plans(&self) -> Result<Vec<Plan>, StoreError> {
        self.plans_like(None).await
    }

    /// One plan on sale.
    pub async fn plan(&self, slug: &str) -> Result<Option<Plan>, StoreError> {
        self.plans_like(Some(slug)).await.map(|mut plans| plans.pop())
    }

    async fn plans_like(&self, slug: Option<&str>) -> Result<Vec<Plan>, StoreError> {
        let (mut features, mut prices) = (self.features().await?, self.prices().await?);
        let rows = sqlx::query!(
            r#"with held as (
                select r.node, sum(r.memory_mib) as mib, count(*) as addresses, count(v.vmid) as vmids
                from reservations r left join vmids v on v.vmid = r.vmid and v.blocked_at is null
                where r.released_at is null group by r.node
               ), room as (
                select n.memory_mib_limit - coalesce(held.mib, 0) as mib
                from nodes n left join held on held.node = n.name where n.active
               ), unused as (
                select
                    (select count(*) from vmids where blocked_at is null) - coalesce(sum(vmids), 0)::bigint as vmids,
                    (select count(*) from addresses where family = 4) - coalesce(sum(addresses), 0)::bigint as ipv4,
                    (select count(*) from addresses where family = 6) - coalesce(sum(addresses), 0)::bigint as ipv6
                from held
               )
               select p.id, p.slug, p.name, p.tagline, p.cores, p.memory_mib, p.disk_gib, p.trial_days,
                least(unused.vmids, unused.ipv4, unused.ipv6, (
                    select coalesce(sum(greatest(room.mib, 0) / p.memory_mib), 0)::bigint from room
                )) as "free!"
               from plans p cross join unused
               where p.active and ($1::text is null or p.slug = $1)
               order by p.position, p.slug"#,
            slug,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading the plans")?;
        rows.into_iter()
            .map(|row| {
                Ok(Plan {
                    size: size(row.cores, row.memory_mib, row.disk_gib)?,
                    features: features.remove(&row.id).unwrap_or_default(),
                    prices: prices.remove(&row.id).unwrap_or_default(),
                    id: row.id,
                    slug: row.slug,
                    name: row.name,
                    tagline: row.tagline,
                    trial_days: count(row.trial_days, "a plan's trial")?,
                    free: row.free,
                })
            })
            .collect()
    }

    async fn features(&self) -> Result<BTreeMap<Uuid, Vec<String>>, StoreError> {
        let rows = sqlx::query!("select plan_id, line from plan_features order by plan_id, position")
            .fetch_all(&self.pool)
            .await
            .doing("reading what plans offer")?;
        let mut features: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
        for row in rows {
            features.entry(row.plan_id).or_default().push(row.line);
        }
        Ok(features)
    }

    async fn prices(&self) -> Result<BTreeMap<Uuid, Vec<Price>>, StoreError> {
        let rows = sqlx::query!(
            "select id, plan_id, term, currency, amount_minor, stripe_price_id from prices
             where active order by plan_id, term = 'annual', currency"
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading the prices")?;
        let mut prices: BTreeMap<Uuid, Vec<Price>> = BTreeMap::new();
        for row in rows {
            prices.entry(row.plan_id).or_default().push(Price {
                id: row.id,
                term: word(&row.term, "a price's term")?,
                money: money(row.amount_minor, &row.currency)?,
                stripe_price_id: row.stripe_price_id,
            });
        }
        Ok(prices)
    }

    /// Every image on offer, in the page's order.
    pub async fn images(&self) -> Result<Vec<Image>, StoreError> {
        sqlx::query_as!(Image, "select slug, name from images where active order by position, slug")
            .fetch_all(&self.pool)
            .await
            .doing("reading the images")
    }

    /// The machine number of every template that an image on offer is cloned from.
    pub async fn templates(&self) -> Result<Vec<Vmid>, StoreError> {
        let found = sqlx::query_scalar!("select distinct template_vmid from images where active order by 1")
            .fetch_all(&self.pool)
            .await
            .doing("reading the templates")?;
        Ok(found.into_iter().filter_map(|vmid| u32::try_from(vmid).ok()).map(Vmid).collect())
    }

    /// Puts a plan on sale, or changes the plan with that slug. Its prices are put by themselves.
    pub async fn put_plan(&self, plan: &NewPlan) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let id = sqlx::query_scalar!(
            "insert into plans (id, slug, name, tagline, kind, cores, memory_mib, disk_gib, service_limit, position,
                trial_days, further_cores, further_memory_mib, further_disk_gib)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             on conflict (slug) do update set name = excluded.name, tagline = excluded.tagline, kind = excluded.kind,
                cores = excluded.cores, memory_mib = excluded.memory_mib, disk_gib = excluded.disk_gib,
                service_limit = excluded.service_limit, position = excluded.position,
                trial_days = excluded.trial_days, further_cores = excluded.further_cores,
                further_memory_mib = excluded.further_memory_mib, further_disk_gib = excluded.further_disk_gib,
                active = true
             returning id",
            Uuid::new_v4(),
            plan.slug,
            plan.name,
            plan.tagline,
            plan.kind.as_str(),
            number(plan.size.cores)?,
            number(plan.size.memory_mib)?,
            number(plan.size.disk_gib)?,
            number(plan.service_limit)?,
            number(plan.position)?,
            number(plan.trial_days)?,
            plan.further.map(|size| number(size.cores)).transpose()?,
            plan.further.map(|size| number(size.memory_mib)).transpose()?,
            plan.further.map(|size| number(size.disk_gib)).transpose()?,
        )
        .fetch_one(&mut *tx)
        .await
        .doing("putting a plan on sale")?;
        sqlx::query!("delete from plan_features where plan_id = $1", id)
            .execute(&mut *tx)
            .await
            .doing("changing what a plan offers")?;
        sqlx::query!(
            "insert into plan_features (plan_id, position, line)
             select $1, place::integer, line from unnest($2::text[]) with ordinality as lines (line, place)",
            id,
            &plan.features,
        )
        .execute(&mut *tx)
        .await
        .doing("changing what a plan offers")?;
        tx.commit().await.doing("putting a plan on sale")
    }

    /// Makes a price the one that is asked for its plan, term and currency; the one before stays for those who pay it.
    ///
    /// *Errors*: [`StoreError::Conflict`] when there is no such plan, or another plan has that Stripe price.
    pub async fn put_price(&self, price: &NewPrice) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let plan = sqlx::query_scalar!("select id from plans where slug = $1 for no key update", price.plan_slug)
            .fetch_optional(&mut *tx)
            .await
            .doing("locking a plan")?
            .ok_or_else(|| StoreError::conflict("plan_unknown"))?;
        sqlx::query!(
            "update prices set active = false
             where plan_id = $1 and term = $2 and currency = $3 and active and stripe_price_id <> $4",
            plan,
            price.term.as_str(),
            price.money.currency.as_str(),
            price.stripe_price_id,
        )
        .execute(&mut *tx)
        .await
        .doing("retiring a price")?;
        let put = sqlx::query!(
            "insert into prices (id, plan_id, term, currency, amount_minor, stripe_price_id)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (stripe_price_id) do update set active = true
             where prices.plan_id = excluded.plan_id and prices.term = excluded.term
                and prices.currency = excluded.currency and prices.amount_minor = excluded.amount_minor",
            Uuid::new_v4(),
            plan,
            price.term.as_str(),
            price.money.currency.as_str(),
            price.money.amount_minor,
            price.stripe_price_id,
        )
        .execute(&mut *tx)
        .await
        .doing("putting a price")?;
        if put.rows_affected() != 1 {
            return Err(StoreError::conflict("prices_stripe_price_key"));
        }
        tx.commit().await.doing("putting a price")
    }

    /// Offers an image, or changes the one with that slug.
    pub async fn put_image(&self, image: &NewImage) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into images (slug, name, template_vmid, position) values ($1, $2, $3, $4)
             on conflict (slug) do update set name = excluded.name, template_vmid = excluded.template_vmid,
                position = excluded.position, active = true",
            image.slug,
            image.name,
            number(image.template_vmid.0)?,
            number(image.position)?,
        )
        .execute(&self.pool)
        .await
        .doing("offering an image")?;
        Ok(())
    }

    /// Builds on a node from now on, or changes what is known about it.
    pub async fn put_node(&self, node: &NewNode) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into nodes (name, memory_mib_limit, storage, template_node) values ($1, $2, $3, $4)
             on conflict (name) do update set memory_mib_limit = excluded.memory_mib_limit,
                storage = excluded.storage, template_node = excluded.template_node, active = true",
            node.name,
            number(node.memory_mib_limit)?,
            node.storage,
            node.template_node,
        )
        .execute(&self.pool)
        .await
        .doing("putting a node")?;
        Ok(())
    }

    /// Adds machine numbers to those that may be used. A number that was blocked stays blocked.
    pub async fn put_vmids(&self, range: RangeInclusive<u32>) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into vmids (vmid) select generate_series($1::integer, $2::integer) on conflict (vmid) do nothing",
            number(*range.start())?,
            number(*range.end())?,
        )
        .execute(&self.pool)
        .await
        .doing("putting machine numbers")?;
        Ok(())
    }

    /// Adds addresses to give away, or changes what is known about them.
    pub async fn put_addresses(&self, addresses: &[NewAddress]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for address in addresses {
            sqlx::query!(
                "insert into addresses (address, family, prefix_length, gateway, nameserver)
                 values ($1::text::inet, family($1::text::inet), $2, $3::text::inet, $4::text::inet)
                 on conflict (address) do update set prefix_length = excluded.prefix_length,
                    gateway = excluded.gateway, nameserver = excluded.nameserver",
                address.address.to_string(),
                i16::from(address.prefix_length),
                address.gateway.to_string(),
                address.nameserver.to_string(),
            )
            .execute(&mut *tx)
            .await
            .doing("putting an address")?;
        }
        tx.commit().await.doing("putting addresses")
    }
}

/// Reads an amount and its currency.
pub(crate) fn money(amount_minor: i64, currency: &str) -> Result<Money, StoreError> {
    Ok(Money { amount_minor, currency: word::<Currency>(currency, "a currency")? })
}

/// Reads the size of a plan's machine.
pub(crate) fn size(cores: i32, memory_mib: i32, disk_gib: i32) -> Result<MachineSize, StoreError> {
    Ok(MachineSize {
        cores: count(cores, "a plan's cores")?,
        memory_mib: count(memory_mib, "a plan's memory")?,
        disk_gib: count(disk_gib, "a plan's disk")?,
    })
}

/// Gives a count as the tables keep it.
pub(crate) fn number(count: u32) -> Result<i32, StoreError> {
    i32::try_from(count).map_err(|_| StoreError::conflict("number_too_large"))
}
