//! The settings of what operators see, and where it goes.
use std::net::SocketAddr;

use url::Url;
use zeroize::Zeroizing;

use super::{Reader, Secret};

/// Where metrics, traces and errors go; nowhere when not given.
pub(crate) struct ObserveConfig {
    /// Where metrics are served.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Where `ez work` serves the Temporal SDK's own metrics.
    pub(crate) temporal_metrics_listen: Option<SocketAddr>,
    /// Where traces are sent by OTLP over HTTP.
    pub(crate) otlp_endpoint: Option<Url>,
    /// Where errors are sent by Sentry's protocol.
    pub(crate) sentry_dsn: Option<Secret>,
}

impl Reader<'_> {
    pub(super) fn observe(&mut self) -> ObserveConfig {
        ObserveConfig {
            metrics_listen: self.optional("EZ_METRICS_LISTEN"),
            temporal_metrics_listen: self.optional("EZ_TEMPORAL_METRICS_LISTEN"),
            otlp_endpoint: self.optional("OTEL_EXPORTER_OTLP_ENDPOINT"),
            sentry_dsn: self.optional::<String>("SENTRY_DSN").map(|dsn| Secret(Zeroizing::new(dsn))),
        }
    }
}
