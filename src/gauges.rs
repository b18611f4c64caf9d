//! What is sampled: counts and ages from the tables, Temporal's backlog, and this process's connections. Everything else is
//! counted where it happens.
use std::time::{Duration, SystemTime};

use domain::{
    order::{OrderStatus, Step},
    removal::HeldBy,
};
use store::{Store, StoreError};
use temporalio_client::{Client, tonic::Request};
use temporalio_common::protos::temporal::api::{
    enums::v1::{TaskQueueKind, TaskQueueType},
    taskqueue::v1::TaskQueue,
    workflowservice::v1::DescribeTaskQueueRequest,
};
use tokio_util::sync::CancellationToken;

use crate::inbox::chain;

/// The kinds of workflows whose steps may wait for staff, as their ids begin.
const WORKFLOWS: [&str; 5] = ["order", "subscription", "letter", "export", "erasure"];
/// How often everything is sampled.
const EVERY: Duration = Duration::from_secs(15);
/// How long Temporal may take to say how its queues are.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Samples the connections to the database until `stop`.
pub(crate) async fn watch_pool(store: Store, stop: CancellationToken) {
    loop {
        pool(&store);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

fn pool(store: &Store) {
    let used = store.pool_use();
    metrics::gauge!("ez_database_connections", "state" => "idle").set(used.idle);
    metrics::gauge!("ez_database_connections", "state" => "used").set(used.open.saturating_sub(used.idle));
    metrics::gauge!("ez_database_connections_limit").set(used.limit);
}

/// What a worker samples.
pub(crate) struct Watch {
    /// The tables.
    pub(crate) store: Store,
    /// Temporal.
    pub(crate) temporal: Client,
    /// The namespace of the task queue.
    pub(crate) namespace: String,
    /// The task queue this worker serves.
    pub(crate) task_queue: String,
}

impl Watch {
    /// Samples until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            let (tables, engine) = tokio::join!(self.tables(), self.backlog());
            metrics::gauge!("ez_database_up").set(u8::from(tables.is_ok()));
            metrics::gauge!("ez_temporal_up").set(u8::from(engine));
            if let Err(fault) = tables {
                tracing::warn!(error = %chain(&fault), "the tables could not be sampled");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn tables(&self) -> Result<(), StoreError> {
        pool(&self.store);
        let sampled = self.store.gauges().await?;
        metrics::gauge!("ez_inbox_events_waiting").set(count(sampled.events_waiting));
        metrics::gauge!("ez_inbox_oldest_event_age_seconds").set(sampled.events_oldest_secs);
        metrics::gauge!("ez_inbox_events_unclaimed").set(count(sampled.events_unclaimed));
        metrics::gauge!("ez_letters_waiting").set(count(sampled.letters_waiting));
        metrics::gauge!("ez_letters_oldest_waiting_age_seconds").set(sampled.letters_oldest_secs);
        metrics::gauge!("ez_letters_refused_last_day").set(count(sampled.letters_refused));
        metrics::gauge!("ez_orders_oldest_undelivered_age_seconds").set(sampled.undelivered_oldest_secs);
        metrics::gauge!("ez_backup_last_finished_timestamp_seconds").set(sampled.backup_finished_at.unwrap_or(0.0));
        metrics::gauge!("ez_mirror_oldest_look_age_seconds").set(self.store.oldest_look_secs().await?);
        let unlinked = self.store.audit_waiting().await?;
        metrics::gauge!("ez_audit_unlinked").set(count(unlinked.count));
        metrics::gauge!("ez_audit_oldest_unlinked_age_seconds").set(unlinked.oldest_secs);
        metrics::gauge!("ez_disputes_open").set(count(self.store.open_disputes().await?));
        for (round, at) in self.store.rounds_finished().await? {
            metrics::gauge!("ez_round_finished_timestamp_seconds", "round" => round).set(at);
        }
        let held = self.store.removals_held().await?;
        for by in HeldBy::ALL {
            let found = held.iter().find(|(known, _)| known == by).map_or(0, |(_, found)| *found);
            metrics::gauge!("ez_removals_held", "cause" => by.as_str()).set(count(found));
        }
        let open = self.store.open_orders().await?;
        for status in [OrderStatus::AwaitingPayment, OrderStatus::Provisioning] {
            let found = open.iter().find(|(known, _)| *known == status).map_or(0, |(_, found)| *found);
            metrics::gauge!("ez_orders_open", "status" => status.as_str()).set(count(found));
        }
        self.steps().await?;
        for pool in self.store.pools().await? {
            metrics::gauge!("ez_reservation_pool_used", "pool" => pool.name.clone()).set(count(pool.used));
            metrics::gauge!("ez_reservation_pool_free", "pool" => pool.name).set(count(pool.free));
        }
        for plan in self.store.plans().await? {
            metrics::gauge!("ez_plan_free", "plan" => plan.slug).set(count(plan.free));
        }
        metrics::gauge!("ez_gauges_sampled_timestamp_seconds").set(now());
        Ok(())
    }

    /// Every step has a number, so that an alert sees it rise from nought and fall back to it.
    async fn steps(&self) -> Result<(), StoreError> {
        let waiting = self.store.waiting_steps().await?;
        for (of, step) in WORKFLOWS.iter().flat_map(|of| Step::ALL.iter().map(move |step| (*of, *step))) {
            let found = waiting.iter().find(|found| (found.workflow.as_str(), found.step) == (of, step));
            let (number, oldest) = found.map_or((0, 0.0), |found| (found.count, found.oldest_secs));
            let step = step.as_str();
            metrics::gauge!("ez_steps_waiting", "workflow" => of, "step" => step).set(count(number));
            metrics::gauge!("ez_steps_oldest_waiting_age_seconds", "workflow" => of, "step" => step).set(oldest);
        }
        Ok(())
    }

    /// Samples how much work waits in Temporal, and says whether it answered.
    async fn backlog(&self) -> bool {
        let mut answered = true;
        for (label, kind) in [("workflow", TaskQueueType::Workflow), ("activity", TaskQueueType::Activity)] {
            let queue =
                TaskQueue { name: self.task_queue.clone(), kind: TaskQueueKind::Normal.into(), ..TaskQueue::default() };
            let question = DescribeTaskQueueRequest {
                namespace: self.namespace.clone(),
                task_queue: Some(queue),
                task_queue_type: kind.into(),
                report_stats: true,
                ..DescribeTaskQueueRequest::default()
            };
            let mut service = self.temporal.connection().workflow_service();
            let asked = tokio::time::timeout(ANSWER_LIMIT, service.describe_task_queue(Request::new(question))).await;
            let Ok(Ok(answer)) = asked else {
                answered = false;
                continue;
            };
            let stats = answer.into_inner().stats.unwrap_or_default();
            let age = stats.approximate_backlog_age.unwrap_or_default();
            let age_secs = Duration::from_secs(u64::try_from(age.seconds).unwrap_or_default()).as_secs_f64();
            metrics::gauge!("ez_temporal_backlog_tasks", "kind" => label).set(count(stats.approximate_backlog_count));
            metrics::gauge!("ez_temporal_backlog_age_seconds", "kind" => label).set(age_secs);
        }
        answered
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A count as metrics keep it: more than 2³¹ of anything here is as good as 2³¹.
fn count(number: i64) -> f64 {
    f64::from(i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX }))
}
