//! Traces, by OTLP over HTTP: one trace from a browser's request through the workflow to the calls of vendors.
use std::{collections::HashMap, fmt, sync::OnceLock, time::Duration};

use activities::fault::redacted;
use anyhow::Context as _;
use futures::future::BoxFuture;
use opentelemetry::{Value, global, propagation::TextMapPropagator, trace::Status, trace::TraceContextExt};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use temporalio_client::ClientOptions;
use temporalio_common::protos::temporal::api::common::v1::Payload;
use temporalio_sdk::opentelemetry::{OpenTelemetryPlugin, TRACE_HEADER_KEY, WorkflowIdGenerator};
use tokio::runtime::Handle;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use url::Url;

/// How long handing over one batch may take.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);

/// Whether this process sends traces.
static TRACED: OnceLock<()> = OnceLock::new();

/// Where spans go.
pub(super) struct Traces {
    pub(super) provider: SdkTracerProvider,
}

impl Traces {
    /// Prepares to send spans to `endpoint`, as `ez-<process>`; nothing without one. To be called inside a Tokio runtime.
    pub(super) fn start(endpoint: Option<&Url>, process: &str) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = endpoint else { return Ok(None) };
        let http =
            reqwest::Client::builder().timeout(EXPORT_LIMIT).redirect(reqwest::redirect::Policy::none()).build()?;
        let exporter = OtlpExporter::builder()
            .with_http()
            .with_http_client(Carrier { http, runtime: Handle::current() })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/')))
            .with_timeout(EXPORT_LIMIT)
            .build()
            .context("reading OTEL_EXPORTER_OTLP_ENDPOINT")?;
        let provider = SdkTracerProvider::builder()
            .with_id_generator(WorkflowIdGenerator::default())
            .with_batch_exporter(Scrubbed(exporter))
            .with_resource(Resource::builder().with_service_name(format!("ez-{process}")).build())
            .build();
        global::set_tracer_provider(provider.clone());
        let _ = TRACED.set(());
        Ok(Some(Self { provider }))
    }
}

/// Options of a Temporal client in this namespace; with the trace in Temporal's headers where there is one.
pub(crate) fn client_options(namespace: &str) -> ClientOptions {
    let options = ClientOptions::new(namespace.to_owned());
    if TRACED.get().is_some() {
        options.plugin(OpenTelemetryPlugin::builder().build()).build()
    } else {
        options.build()
    }
}

/// Makes a span part of the trace that Temporal's headers name, if they name one.
pub(crate) fn continue_trace(span: &Span, headers: &HashMap<String, Payload>) {
    if TRACED.get().is_none() {
        return;
    }
    let carried = headers.get(TRACE_HEADER_KEY).and_then(|payload| serde_json::from_slice(&payload.data).ok());
    let carried: HashMap<String, String> = carried.unwrap_or_default();
    let context = TraceContextPropagator::new().extract(&carried);
    if context.span().span_context().is_valid() {
        let _ = span.set_parent(context);
    }
}

/// Writes the id of a span's trace into its field `trace_id`, which every log line within shows.
pub(crate) fn note_trace(span: &Span) {
    if TRACED.get().is_none() {
        return;
    }
    let context = span.context();
    let about = context.span().span_context().clone();
    if about.is_valid() {
        span.record("trace_id", about.trace_id().to_string());
    }
}

/// Sends from whatever thread asks, over the product's own runtime.
struct Carrier {
    http: reqwest::Client,
    runtime: Handle,
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carrier")
    }
}

impl HttpClient for Carrier {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> BoxFuture<'b, Result<Response<Bytes>, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let (head, body) = request.into_parts();
            let question = http.request(head.method, head.uri.to_string()).headers(head.headers).body(body);
            let answer = question.send().await?.error_for_status()?;
            let status = answer.status();
            let mut kept = Response::new(answer.bytes().await?);
            *kept.status_mut() = status;
            Ok::<_, HttpError>(kept)
        });
        Box::pin(async move { sent.await? })
    }
}

/// Takes addresses and secrets out of every span on its way out.
#[derive(Debug)]
struct Scrubbed(OtlpExporter);

impl SpanExporter for Scrubbed {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(scrub);
        self.0.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn scrub(span: &mut SpanData) {
    let within = span.events.events.iter_mut().flat_map(|event| event.attributes.iter_mut());
    for attribute in span.attributes.iter_mut().chain(within) {
        if let Value::String(text) = &attribute.value {
            attribute.value = Value::from(redacted(text.as_str()));
        }
    }
    if let Status::Error { description } = &span.status {
        span.status = Status::error(redacted(description));
    }
}
