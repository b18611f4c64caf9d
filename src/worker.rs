//! `ez work`: lends its hands to Temporal until it is told to stop.
use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use temporalio_client::Client;
use temporalio_common::telemetry::{
    PrometheusExporterOptions, TelemetryOptions, metrics::CoreMeter, start_prometheus_metric_exporter,
};
use temporalio_sdk::{
    Runtime, Worker, WorkerOptions,
    runtime::{
        PollerBehavior, RuntimeOptions,
        worker_tuner::{FixedSizeSlotSupplier, TunerHolder},
    },
};
use tokio_util::sync::CancellationToken;
use workflows::{
    covered::CoveredOrder, erasure::Erasure, export::Export, letter::Letter, order::Order, round::Round,
    subscription::Subscription,
};

use crate::{
    config::TemporalConfig,
    telemetry::activity::Spans,
    wiring::{Hands, patient_temporal},
};

/// How long running activities may go on after the stop was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// How long a workflow waits for the worker it last ran on before any other may take it.
const STICKY_WAIT: Duration = Duration::from_secs(1);
/// Signs of life of a running activity are passed on at most this often.
const HEARTBEAT_PACE: Duration = Duration::from_secs(1);
/// How many long polls wait for work of each kind.
const POLLERS: usize = 5;
/// How many workflow tasks run at once; they wait for the database and for vendors that answer at once.
const WORKFLOW_TASKS: usize = 100;
/// How many workflows stand in memory between two of their tasks. One that is not there is replayed; those that sleep for
/// a month need not be.
const WORKFLOWS_REMEMBERED: usize = 250;
/// How many database steps and vendor calls run at once inside workflow tasks.
const LOCAL_ACTIVITIES: usize = 100;
/// How many other activities run at once; they wait for machines most of the time.
const ACTIVITIES: usize = 500;
/// How many workers in a row may end by themselves soon after they began, before the program ends.
const SHORT_LIVES: u32 = 3;
/// A worker that lived this long did not fail for a reason that stays.
const LONG_LIFE: Duration = Duration::from_mins(1);
/// How long it takes until another worker takes the place of one that ended.
const REPLACED_AFTER: Duration = Duration::from_secs(1);

/// Registers every workflow and activity, and runs until `stop`. A worker that ends by itself is replaced by another: what it
/// had begun is done again, as after every death.
///
/// *Errors*: the worker could not be made, or three in a row ended by themselves within a minute.
pub(crate) async fn run(
    mut client: Client,
    temporal: &TemporalConfig,
    hands: Hands,
    metrics: Option<SocketAddr>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let runtime = runtime(metrics)?;
    let options = options(&temporal.task_queue, hands)?;
    let mut short_lives = ShortLives::default();
    loop {
        let worker = Worker::new(&runtime, client, options.clone()).context("making the worker")?;
        tracing::info!(task_queue = temporal.task_queue, "working");
        let began = Instant::now();
        let Err(fault) = work(worker, &stop).await else { return Ok(()) };
        if stop.is_cancelled() || short_lives.are_too_many(began.elapsed()) {
            return Err(fault);
        }
        tracing::error!(fault = format!("{fault:#}"), "the worker ended by itself; another takes its place");
        tokio::time::sleep(REPLACED_AFTER).await;
        // The connection remembers the worker that ended, and allows no other of its kind beside it.
        let Some(another) = patient_temporal(temporal, &stop).await else { return Ok(()) };
        client = another;
    }
}

/// How many workers in a row lived shortly.
#[derive(Default)]
struct ShortLives(u32);

impl ShortLives {
    /// Counts one more worker that ended, and says whether there is no point in another.
    fn are_too_many(&mut self, lived: Duration) -> bool {
        self.0 = if lived < LONG_LIFE { self.0 + 1 } else { 0 };
        self.0 >= SHORT_LIVES
    }
}

/// What the worker can do, and how much of it at once.
fn options(task_queue: &str, hands: Hands) -> anyhow::Result<WorkerOptions> {
    let options = WorkerOptions::new(task_queue)
        .register_workflow::<Order>()?
        .register_workflow::<CoveredOrder>()?
        .register_workflow::<Subscription>()?
        .register_workflow::<Letter>()?
        .register_workflow::<Round>()?
        .register_workflow::<Export>()?
        .register_workflow::<Erasure>()?
        .register_activities(hands.ledger)
        .register_activities(hands.payment)
        .register_activities(hands.machine)
        .register_activities(hands.name)
        .register_activities(hands.mail)
        .register_activities(hands.privacy)
        .register_activities(hands.round)
        .activity_inbound_interceptor(Spans)
        .graceful_shutdown_period(GRACE)
        .sticky_queue_schedule_to_start_timeout(STICKY_WAIT)
        .max_heartbeat_throttle_interval(HEARTBEAT_PACE)
        .max_cached_workflows(WORKFLOWS_REMEMBERED)
        .workflow_task_poller_behavior(PollerBehavior::SimpleMaximum(POLLERS))
        .activity_task_poller_behavior(PollerBehavior::SimpleMaximum(POLLERS))
        .tuner(
            TunerHolder::builder()
                .workflow_task_slot_supplier(FixedSizeSlotSupplier::new(WORKFLOW_TASKS))
                .local_activity_task_slot_supplier(FixedSizeSlotSupplier::new(LOCAL_ACTIVITIES))
                .activity_task_slot_supplier(FixedSizeSlotSupplier::new(ACTIVITIES))
                .nexus_task_slot_supplier(FixedSizeSlotSupplier::new(1))
                .build(),
        )
        .build();
    Ok(options)
}

/// Lets one worker work until `stop`.
///
/// *Errors*: it ended by itself.
async fn work(worker: Worker, stop: &CancellationToken) -> anyhow::Result<()> {
    let shut_down = worker.shutdown_handle();
    let (done, mut ended) = tokio::sync::oneshot::channel();
    let handle = tokio::runtime::Handle::current();
    // A worker's future stays on one thread, so it gets one of its own.
    let thread = thread::Builder::new().name("temporal-worker".to_owned()).spawn(move || {
        // What the worker holds closes its connections when it is dropped, and needs the runtime for it.
        let _entered = handle.enter();
        let mut worker = worker;
        let result = handle.block_on(worker.run()).map_err(|fault| anyhow!("{fault}"));
        let _ = done.send(result);
    })?;
    let result = tokio::select! {
        result = &mut ended => result,
        () = stop.cancelled() => {
            shut_down();
            ended.await
        }
    };
    let _ = thread.join();
    result.context("the worker's thread ended without a word")?
}

/// The SDK's runtime on ours, with its own metrics where they are wanted.
fn runtime(metrics: Option<SocketAddr>) -> anyhow::Result<Runtime> {
    let options = match metrics {
        Some(address) => {
            let exporter = PrometheusExporterOptions::builder()
                .socket_addr(address)
                .counters_total_suffix(true)
                .unit_suffix(true)
                .use_seconds_for_durations(true)
                .build();
            let served = start_prometheus_metric_exporter(exporter).context("serving Temporal's metrics")?;
            let telemetry = TelemetryOptions::builder().metrics(served.meter as Arc<dyn CoreMeter>).build();
            RuntimeOptions::builder().telemetry_options(telemetry).build().map_err(|fault| anyhow!(fault))?
        }
        None => RuntimeOptions::default(),
    };
    Runtime::from_current_tokio(options).context("making the Temporal runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_ends_is_replaced_unless_three_in_a_row_ended_at_once() {
        let (soon, late) = (Duration::from_secs(5), Duration::from_mins(5));
        let mut lives = ShortLives::default();
        assert_eq!(
            [soon, soon, late, soon, soon, soon].map(|lived| lives.are_too_many(lived)),
            [false, false, false, false, false, true]
        );
    }
}
