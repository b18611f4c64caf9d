//! Errors, by Sentry's protocol: every log line of level *error*, without addresses and secrets.
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use activities::fault::redacted;
use anyhow::Context;
use sentry::{ClientOptions, Envelope, Transport, TransportFactory, TransportOptions, protocol::Event};
use serde_json::Value;
use tokio::runtime::Handle;

use crate::config::{Environment, Secret};

/// How long handing over one error may take.
const SEND_LIMIT: Duration = Duration::from_secs(5);
/// More than this many on their way at once are dropped: the log has them.
const ON_THEIR_WAY_MAX: usize = 64;
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// What an event must keep as it is to be taken.
const KEPT: [&str; 5] = ["event_id", "timestamp", "trace_id", "span_id", "release"];

/// Prepares to send errors to `dsn`; nothing without one. To be called inside a Tokio runtime.
pub(super) fn start(
    dsn: Option<&Secret>,
    environment: Environment,
    process: &'static str,
) -> anyhow::Result<Option<sentry::ClientInitGuard>> {
    let Some(dsn) = dsn else { return Ok(None) };
    let dsn = dsn.reveal().parse().ok().context("SENTRY_DSN: not a DSN, such as https://key@host/1")?;
    let http = reqwest::Client::builder().timeout(SEND_LIMIT).redirect(reqwest::redirect::Policy::none()).build()?;
    let environment = match environment {
        Environment::Development => "development",
        Environment::Production => "production",
    };
    let mut options = ClientOptions::new();
    options.dsn = Some(dsn);
    options.release = Some(concat!("ez@", env!("CARGO_PKG_VERSION")).into());
    options.environment = Some(environment.into());
    options.server_name = Some(format!("ez-{process}").into());
    options.default_integrations = false;
    options.send_default_pii = false;
    options.max_breadcrumbs = 0;
    options.before_send = Some(Arc::new(|event: Event<'static>| scrubbed(&event)));
    options.transport = Some(Arc::new(Office { http, runtime: Handle::current() }));
    Ok(Some(sentry::init(options)))
}

/// The event with every text redacted; nothing when it cannot be read, because then nobody can say what is in it.
fn scrubbed(event: &Event<'static>) -> Option<Event<'static>> {
    let mut whole = serde_json::to_value(event).ok()?;
    scrub(&mut whole);
    serde_json::from_value(whole).ok()
}

fn scrub(value: &mut Value) {
    match value {
        Value::String(text) => *text = redacted(text),
        Value::Array(values) => values.iter_mut().for_each(scrub),
        Value::Object(fields) => {
            fields.iter_mut().filter(|(name, _)| !KEPT.contains(&name.as_str())).for_each(|(_, value)| scrub(value));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Makes what carries envelopes, over the product's own HTTP client and runtime.
struct Office {
    http: reqwest::Client,
    runtime: Handle,
}

impl TransportFactory for Office {
    fn create_transport_with_options(&self, options: TransportOptions) -> Arc<dyn Transport> {
        let address = options.dsn.envelope_api_url().to_string();
        let auth = options.dsn.to_auth(Some(&options.user_agent)).to_string();
        let (http, runtime) = (self.http.clone(), self.runtime.clone());
        Arc::new(Post { http, runtime, address, auth, on_their_way: Arc::default() })
    }
}

struct Post {
    http: reqwest::Client,
    runtime: Handle,
    address: String,
    auth: String,
    on_their_way: Arc<AtomicUsize>,
}

impl Transport for Post {
    fn send_envelope(&self, envelope: Envelope) {
        let mut body = Vec::new();
        if self.on_their_way.load(Ordering::Acquire) >= ON_THEIR_WAY_MAX || envelope.to_writer(&mut body).is_err() {
            return;
        }
        let request = self.http.post(&self.address).header("X-Sentry-Auth", &self.auth).body(body);
        let on_their_way = self.on_their_way.clone();
        on_their_way.fetch_add(1, Ordering::AcqRel);
        self.runtime.spawn(async move {
            // A line about a failure here would be an error to send.
            let _ = request.send().await;
            on_their_way.fetch_sub(1, Ordering::AcqRel);
        });
    }

    fn flush(&self, timeout: Duration) -> bool {
        let began = Instant::now();
        while self.on_their_way.load(Ordering::Acquire) > 0 {
            if began.elapsed() > timeout {
                return false;
            }
            thread::sleep(LOOK_AGAIN);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_leaves_without_address_and_secret() {
        let mut event = Event::new();
        event.message = Some("writing to ann@example.test: password=hunter2".to_owned());
        event.extra.insert("key".to_owned(), Value::from("sk_test_abc"));
        let id = event.event_id;
        let sent = scrubbed(&event).expect("an event");
        let text = serde_json::to_string(&sent).expect("JSON");
        assert_eq!(sent.event_id, id);
        assert!(!text.contains("ann@") && !text.contains("hunter2") && !text.contains("sk_test"), "{text}");
    }
}
