//! Traces, logs and errors as they leave the product: one trace from the browser's request to the vendor's call, ids on log
//! lines, and nothing personal or secret on the wire.
use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use hmac::{Hmac, KeyInit, Mac};
use house::{Customer, GOOD_CARD, House, HouseOptions, OrderForm, order_id};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, any_value::Value as Kept},
    trace::v1::Span,
};
use prost::Message;
use serde_json::Value;
use sha2::Sha256;

use crate::shop::{SOON, open, open_with, until};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ada@example.test";

/// Takes whatever is sent to it.
#[derive(Clone, Default)]
struct Receiver {
    spans: Arc<Mutex<Vec<Bytes>>>,
    envelopes: Arc<Mutex<Vec<Bytes>>>,
}

impl Receiver {
    /// Starts one on a free port and gives its address with it.
    async fn start() -> (Self, String) {
        let receiver = Self::default();
        let routes = Router::new()
            .route("/v1/traces", post(|State(here): State<Self>, body: Bytes| async move { keep(&here.spans, body) }))
            .route(
                "/api/7/envelope/",
                post(|State(here): State<Self>, body: Bytes| async move { keep(&here.envelopes, body) }),
            )
            .with_state(receiver.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (receiver, address)
    }

    fn spans(&self) -> Vec<Span> {
        let bodies = self.spans.lock().expect("the spans").clone();
        let requests =
            bodies.into_iter().map(|body| ExportTraceServiceRequest::decode(body).expect("a batch of spans"));
        let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// Everything that was sent, as one text.
    fn everything(&self) -> String {
        let bodies =
            [self.spans.lock().expect("the spans").clone(), self.envelopes.lock().expect("the envelopes").clone()];
        bodies.iter().flatten().map(|body| String::from_utf8_lossy(body).into_owned()).collect()
    }
}

fn keep(into: &Mutex<Vec<Bytes>>, body: Bytes) -> StatusCode {
    into.lock().expect("a list").push(body);
    StatusCode::OK
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match &found.value {
        Some(AnyValue { value: Some(Kept::StringValue(text)) }) => Some(text.clone()),
        _ => None,
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

async fn traced_house(name: &str, address: &str) -> House {
    let options = HouseOptions::named(name)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}"))
        .with("SENTRY_DSN", &format!("http://public@{address}/7"));
    open_with(options).await
}

/// Sells one server and gives the customer and the order's id.
async fn sell(house: &House, hostname: &str) -> (Customer, String) {
    let customer = Customer::signed_in(house).await.expect("a customer");
    let form = OrderForm { ssh_key: KEY, ..OrderForm::small(hostname) };
    let page = customer.order(&form).await.expect("the payment page");
    let back = customer.pay(&page, GOOD_CARD).await.expect("paying");
    let order = customer.order_page(&back).await.expect("the order's page");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    (customer, order_id(&order).expect("an id"))
}

/// A webhook that Stripe signed and that is no event: an error of the program's log.
async fn provoke_an_error(house: &House) {
    let body = r#"{"note":"ann@example.test"}"#;
    let at = time::OffsetDateTime::now_utc().unix_timestamp();
    let mut mac = Hmac::<Sha256>::new_from_slice(house.stripe_webhook_secret().as_bytes()).expect("a key");
    mac.update(format!("{at}.{body}").as_bytes());
    let signature = format!("t={at},v1={}", hex(&mac.finalize().into_bytes()));
    let url = house.url().join("/webhooks/stripe/").expect("a path");
    let question = reqwest::Client::new().post(url).header("Stripe-Signature", signature).body(body);
    assert_eq!(question.send().await.expect("an answer").status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_browser_through_the_workflow_to_the_vendor() {
    let (receiver, address) = Receiver::start().await;
    let house = traced_house("traced", &address).await;
    let (customer, order) = sell(&house, "traced-1").await;
    let workflow = format!("order-{order}");

    let trace = until("the spans of the order arrive", SOON * 2, || async {
        let spans = receiver.spans();
        let request = spans.iter().find(|span| {
            attribute(span, "method").as_deref() == Some("POST")
                && attribute(span, "path").is_some_and(|path| path.starts_with("/billing/checkout/"))
        })?;
        let names: BTreeSet<&str> =
            spans.iter().filter(|span| span.trace_id == request.trace_id).map(|span| span.name.as_str()).collect();
        let wanted = ["RunWorkflow:order", "activity machine.build", "proxmox write", "stripe write", "powerdns write"];
        wanted.iter().all(|name| names.contains(name)).then(|| hex(&request.trace_id))
    })
    .await;

    let asked = house.proxmox().expect("a stand-in").requests(Some("/clone")).await.expect("requests");
    let told: Vec<&str> = asked.iter().filter_map(|entry| entry["headers"]["traceparent"].as_str()).collect();
    assert!(!told.is_empty() && told.iter().all(|header| header.contains(&trace)), "{trace} is not in {asked:?}");

    assert_log_lines(&house, "ez-work", &[("order", &order), ("workflow", &workflow), ("trace_id", &trace)]);
    assert_log_lines(&house, "ez-serve", &[("trace_id", &trace)]);

    provoke_an_error(&house).await;
    until("the error arrives", SOON, || async {
        let all = receiver.envelopes.lock().expect("the envelopes").clone();
        all.iter().any(|body| String::from_utf8_lossy(body).contains("a signed webhook is not an event")).then_some(())
    })
    .await;
    let sent = receiver.everything();
    for private in [
        customer.email.as_str(),
        &customer.password,
        &customer.name,
        "ann@example.test",
        KEY,
        house.setting("STRIPE_SECRET_KEY").expect("a key"),
        house.setting("PROXMOX_TOKEN_SECRET").expect("a secret"),
        house.dns_api_key(),
        house.stripe_webhook_secret(),
    ] {
        assert!(!sent.contains(private), "{private} was sent");
    }
    house.stop().await.expect("a clean end");
}

/// Some line of this log stands within spans that carry all of these.
fn assert_log_lines(house: &House, log: &str, ids: &[(&str, &str)]) {
    let text = fs::read_to_string(house.logs().join(format!("{log}.log"))).expect("a log");
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let carries = |line: &Value, name: &str, id: &str| {
        line["spans"].as_array().is_some_and(|spans| spans.iter().any(|span| span[name] == id))
    };
    let found = lines.into_iter().any(|line| ids.iter().all(|(name, id)| carries(&line, name, id)));
    assert!(found, "no line of {log} carries {ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_traced_where_nobody_asked_for_it() {
    let house = open("untraced").await;
    let (_, order) = sell(&house, "untraced-1").await;
    let asked = house.proxmox().expect("a stand-in").requests(None).await.expect("requests");
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|entry| entry["headers"]["traceparent"].is_null()), "a vendor was told of a trace");
    assert_log_lines(&house, "ez-work", &[("order", &order), ("workflow", &format!("order-{order}"))]);
    let log = fs::read_to_string(house.logs().join("ez-work.log")).expect("a log");
    assert!(!log.contains("\"trace_id\":\""), "a trace was begun");
    house.stop().await.expect("a clean end");
}
