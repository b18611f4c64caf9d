//! What operators see of this process: logs always; metrics, traces and errors where the settings send them.
use std::{io, time::SystemTime};

use activities::fault::Vendor;
use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use opentelemetry::trace::TracerProvider;
use sentry::integrations::tracing::ErrorLayer;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{self, LevelFilter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::config::{Config, ObserveConfig};

pub(crate) mod activity;
mod errors;
mod traces;

pub(crate) use traces::{client_options, continue_trace, note_trace};

/// Seconds that separate a quick call from a slow one.
const CALL_BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];
/// Seconds that separate a quick delivery from a late one.
const DELIVERY_BUCKETS: [f64; 14] =
    [1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1800.0, 3600.0];

/// What has to be handed over before the process ends.
pub(crate) struct Telemetry {
    traces: Option<traces::Traces>,
    errors: Option<sentry::ClientInitGuard>,
}

impl Telemetry {
    /// Starts logs, and whatever else the settings name. `process` is `serve` or `work`.
    ///
    /// *Errors*: metrics cannot be served, or traces cannot be sent, at the address given.
    pub(crate) fn start(config: &Config, process: &'static str) -> anyhow::Result<Self> {
        let observe = &config.observe;
        let traces = traces::Traces::start(observe.otlp_endpoint.as_ref(), process)?;
        let errors = errors::start(observe.sentry_dsn.as_ref(), config.environment, process)?;
        let words = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,temporalio=warn"));
        let logs = tracing_subscriber::fmt::layer().json().with_writer(io::stderr).with_filter(words);
        let spans = traces.as_ref().map(|traces| {
            // Spans of libraries would show up between a workflow and its calls.
            tracing_opentelemetry::layer()
                .with_tracer(traces.provider.tracer("ez"))
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_filter(filter::filter_fn(|about| about.is_span() && is_ours(about.target())))
        });
        let faults = errors.as_ref().map(|_| ErrorLayer::new().with_filter(LevelFilter::ERROR));
        tracing_subscriber::registry().with(spans).with(faults).with(logs).init();
        metrics(observe, process)?;
        Ok(Self { traces, errors })
    }

    /// Hands over what is still here.
    pub(crate) async fn end(self) {
        // Both wait for the network, and must not hold the runtime that carries it.
        let ended = tokio::task::spawn_blocking(move || {
            drop(self.errors);
            self.traces.map(|traces| traces.provider.shutdown())
        });
        if let Ok(Some(Err(fault))) = ended.await {
            tracing::warn!(%fault, "the last traces were not handed over");
        }
    }
}

fn is_ours(target: &str) -> bool {
    ["ez", "activities", "store"].contains(&target.split("::").next().unwrap_or(target))
}

fn metrics(observe: &ObserveConfig, process: &'static str) -> anyhow::Result<()> {
    let Some(address) = observe.metrics_listen else { return Ok(()) };
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), &CALL_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(activities::ledger::DELIVERY_METRIC.to_owned()), &DELIVERY_BUCKETS)?
        .with_http_listener(address)
        .install()
        .context("serving metrics")?;
    Vendor::announce_all();
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    metrics::gauge!("ez_process_start_time_seconds", "process" => process).set(started.as_secs_f64());
    Ok(())
}
