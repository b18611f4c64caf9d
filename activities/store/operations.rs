//! What operators watch: counts and ages for gauges, backups, and whether webhooks verify. Everything here is cheap: each
//! question is answered from an index over what is open.
use crate::{
    Store, StoreError,
    fault::{Doing, word},
};
use domain::order::{OrderStatus, Step};
use time::OffsetDateTime;
use uuid::Uuid;

/// Everything that is sampled from the tables.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauges {
    /// Payment events that were told to us and not driven on yet.
    pub events_waiting: i64,
    /// How long the oldest of them has waited, in seconds.
    pub events_oldest_secs: f64,
    /// Payment events that no workflow wanted.
    pub events_unclaimed: i64,
    /// Letters that were not handed over yet.
    pub letters_waiting: i64,
    /// How long the oldest of them has waited, in seconds.
    pub letters_oldest_secs: f64,
    /// Letters refused for good within the last day.
    pub letters_refused: i64,
    /// How long the oldest order that is paid and not delivered has been paid, in seconds.
    pub undelivered_oldest_secs: f64,
    /// When the last backup was finished, in seconds since 1970; none yet.
    pub backup_finished_at: Option<f64>,
}

/// Steps of one kind that wait for staff.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitingSteps {
    /// Which step.
    pub step: Step,
    /// Whose: what the ids of the workflows that wait there begin with (`order`, `letter` …).
    pub workflow: String,
    /// How many.
    pub count: i64,
    /// How long the oldest has waited, in seconds.
    pub oldest_secs: f64,
}

/// How much of something that orders hold is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// What: `vmid`, `ipv4`, `ipv6` or `memory_mib`.
    pub name: String,
    /// How much is held.
    pub used: i64,
    /// How much can still be held.
    pub free: i64,
}

/// The connections of this process to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// Open ones.
    pub open: u32,
    /// Open ones that nobody uses now.
    pub idle: u32,
    /// The most there may be.
    pub limit: u32,
}

/// Whether webhooks verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookHealth {
    /// When the last one came whose signature fitted.
    pub verified_at: Option<OffsetDateTime>,
    /// When the last one came whose signature did not fit.
    pub refused_at: Option<OffsetDateTime>,
}

impl Store {
    /// Samples counts and ages.
    pub async fn gauges(&self) -> Result<Gauges, StoreError> {
        sqlx::query_as!(
            Gauges,
            r#"select
                (select count(*) from payment_events where state = 'received') as "events_waiting!",
                coalesce((select extract(epoch from now() - min(received_at)) from payment_events
                    where state = 'received'), 0)::float8 as "events_oldest_secs!",
                (select count(*) from payment_events where state = 'unclaimed') as "events_unclaimed!",
                (select count(*) from letters where state in ('queued', 'started')) as "letters_waiting!",
                coalesce((select extract(epoch from now() - min(created_at)) from letters
                    where state in ('queued', 'started')), 0)::float8 as "letters_oldest_secs!",
                (select count(*) from letters where state = 'refused' and created_at > now() - interval '1 day')
                    as "letters_refused!",
                coalesce((select extract(epoch from now() - min(coalesce(paid_at, created_at))) from orders
                    where status = 'provisioning'), 0)::float8 as "undelivered_oldest_secs!",
                (select extract(epoch from max(finished_at))::float8 from backups) as backup_finished_at"#
        )
        .fetch_one(&self.pool)
        .await
        .doing("sampling gauges")
    }

    /// How many orders are in each status that is not final.
    pub async fn open_orders(&self) -> Result<Vec<(OrderStatus, i64)>, StoreError> {
        let rows = sqlx::query!(
            r#"select status, count(*) as "count!" from orders
               where status in ('awaiting_payment', 'provisioning') group by status"#
        )
        .fetch_all(&self.pool)
        .await
        .doing("counting open orders")?;
        rows.into_iter().map(|row| Ok((word(&row.status, "an order's status")?, row.count))).collect()
    }

    /// The steps that wait for staff now, by step and kind of workflow.
    pub async fn waiting_steps(&self) -> Result<Vec<WaitingSteps>, StoreError> {
        let rows = sqlx::query!(
            r#"select step, split_part(workflow_id, '-', 1) as "workflow!", count(*) as "count!",
                extract(epoch from now() - min(raised_at))::float8 as "oldest_secs!"
               from attention where settled_at is null group by step, split_part(workflow_id, '-', 1)"#
        )
        .fetch_all(&self.pool)
        .await
        .doing("counting waiting steps")?;
        rows.into_iter()
            .map(|row| {
                Ok(WaitingSteps {
                    step: word(&row.step, "a step")?,
                    workflow: row.workflow,
                    count: row.count,
                    oldest_secs: row.oldest_secs,
                })
            })
            .collect()
    }

    /// How much of what orders hold is left.
    pub async fn pools(&self) -> Result<Vec<Pool>, StoreError> {
        sqlx::query_as!(
            Pool,
            r#"with held as (select node, memory_mib, vmid, ipv4, ipv6 from reservations where released_at is null)
               select 'vmid' as "name!", (select count(*) from held) as "used!",
                (select count(*) from vmids v where v.blocked_at is null
                    and not exists (select 1 from held where held.vmid = v.vmid)) as "free!"
               union all select 'ipv4', (select count(*) from held),
                (select count(*) from addresses a where a.family = 4
                    and not exists (select 1 from held where held.ipv4 = a.address))
               union all select 'ipv6', (select count(*) from held),
                (select count(*) from addresses a where a.family = 6
                    and not exists (select 1 from held where held.ipv6 = a.address))
               union all select 'memory_mib', (select coalesce(sum(memory_mib), 0)::bigint from held),
                (select coalesce(sum(n.memory_mib_limit), 0)::bigint from nodes n where n.active)
                    - (select coalesce(sum(held.memory_mib), 0)::bigint from held join nodes n on n.name = held.node and n.active)"#
        )
        .fetch_all(&self.pool)
        .await
        .doing("counting what is free")
    }

    /// The storages that disks are made on.
    pub async fn storages(&self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar!("select distinct storage from nodes where active order by 1")
            .fetch_all(&self.pool)
            .await
            .doing("reading the storages")
    }

    /// How this process uses its connections.
    pub fn pool_use(&self) -> PoolUse {
        PoolUse {
            open: self.pool.size(),
            idle: u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX),
            limit: self.pool.options().get_max_connections(),
        }
    }

    /// Notes that a webhook came whose signature did not fit.
    pub async fn webhook_refused(&self) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into webhook_refusals (last_at) values (now()) on conflict (only_one) do update set last_at = now()"
        )
        .execute(&self.pool)
        .await
        .doing("noting a refused webhook")?;
        Ok(())
    }

    /// When webhooks last verified, and last did not.
    pub async fn webhook_health(&self) -> Result<WebhookHealth, StoreError> {
        sqlx::query_as!(
            WebhookHealth,
            r#"select (select max(received_at) from payment_events) as verified_at,
                (select last_at from webhook_refusals) as refused_at"#
        )
        .fetch_one(&self.pool)
        .await
        .doing("reading how webhooks verify")
    }

    /// The database's clock.
    pub async fn clock(&self) -> Result<OffsetDateTime, StoreError> {
        sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
            .fetch_one(&self.pool)
            .await
            .doing("reading the database's clock")
    }

    /// Notes that a backup was finished.
    pub async fn backup_finished(
        &self,
        portal_taken_at: OffsetDateTime,
        temporal_taken_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into backups (id, portal_taken_at, temporal_taken_at) values ($1, $2, $3)",
            Uuid::new_v4(),
            portal_taken_at,
            temporal_taken_at,
        )
        .execute(&self.pool)
        .await
        .doing("noting a backup")?;
        Ok(())
    }
}
