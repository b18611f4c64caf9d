//! One call to a vendor, as operators see it: how long it took, and which trace it belongs to.
use std::time::Instant;

use opentelemetry::{Context, trace::TraceContextExt};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tracing::Instrument;

use crate::fault::Vendor;

/// The histogram of seconds that calls take, by vendor, kind and outcome.
pub const CALLS_METRIC: &str = "ez_vendor_call_duration_seconds";
/// Source: W3C Trace Context, section 3.2.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Whether a call may change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only looks.
    Read,
    /// It changes something, or may.
    Write,
}

impl Kind {
    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Makes a call within a span of its own and notes how long it took. `Ok` counts as answered, `Err` as failed.
pub async fn timed<T, E>(vendor: Vendor, kind: Kind, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let (vendor, kind) = (vendor.as_str(), kind.as_str());
    let span = tracing::info_span!("vendor call", otel.name = %format_args!("{vendor} {kind}"), otel.kind = "client", vendor, kind);
    let began = Instant::now();
    let answer = call.instrument(span).await;
    let outcome = if answer.is_ok() { "answered" } else { "failed" };
    metrics::histogram!(CALLS_METRIC, "vendor" => vendor, "kind" => kind, "outcome" => outcome)
        .record(began.elapsed().as_secs_f64());
    answer
}

/// The header that lets a vendor's own traces join ours; none where nothing is traced.
pub fn trace_headers() -> HeaderMap {
    let context = Context::current();
    let span = context.span().span_context().clone();
    if !span.is_valid() {
        return HeaderMap::new();
    }
    let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
    let value = HeaderValue::from_str(&format!("00-{trace}-{id}-{flags:02x}"));
    value.map(|value| HeaderMap::from_iter([(TRACEPARENT, value)])).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    #[test]
    fn a_call_outside_every_trace_says_nothing_of_traces() {
        assert!(trace_headers().is_empty());
    }

    #[test]
    fn a_call_inside_a_trace_names_it_as_w3c_says() {
        let (trace, id) = (TraceId::from(0x1234_u128), SpanId::from(0x56_u64));
        let span = SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::default());
        let _within = Context::new().with_remote_span_context(span).attach();
        let header = trace_headers().remove(TRACEPARENT).expect("a header");
        assert_eq!(header, "00-00000000000000000000000000001234-0000000000000056-01");
    }
}
