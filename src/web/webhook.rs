//! What Stripe reports. The door verifies the signature, keeps the envelope, and answers; whatever follows from it is
//! decided by the workflow that is told.
use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use activities::payment::stripe::webhook::{Envelope, verify};
use axum::{
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use store::{NewPaymentEvent, PutEvent, StoreError};
use time::OffsetDateTime;

use super::{Portal, Shared, page};

/// How often a refused signature is remembered at most.
const NOTE_EVERY: Duration = Duration::from_mins(1);
/// The counter of what came, by what became of it.
const METRIC: &str = "ez_webhooks_total";
/// What may become of what comes.
const OUTCOMES: [&str; 4] = ["stored", "unsigned", "unreadable", "store_away"];

/// Why an event was not taken. Stripe tries again for three days after anything but a 2xx.
enum WebhookRefusal {
    /// The body is larger than we take.
    TooLarge,
    /// The body was cut off.
    Unreadable,
    /// It is not from Stripe, or not from now; nothing is stored.
    Unsigned(String),
    /// It is signed, but not an event.
    NotAnEvent,
    /// It could not be stored, so Stripe has to try again.
    StoreAway(StoreError),
}

impl IntoResponse for WebhookRefusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too large\n"),
            Self::Unreadable => (StatusCode::BAD_REQUEST, "unreadable\n"),
            Self::Unsigned(fault) => {
                tracing::warn!(fault, "a webhook was refused");
                (StatusCode::BAD_REQUEST, "signature refused\n")
            }
            Self::NotAnEvent => {
                tracing::error!("a signed webhook is not an event");
                (StatusCode::BAD_REQUEST, "not an event\n")
            }
            Self::StoreAway(fault) => {
                tracing::error!(fault = page::whole(&fault), "a webhook could not be stored");
                (StatusCode::SERVICE_UNAVAILABLE, "try again\n")
            }
        };
        let mut response = (status, text).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        response
    }
}

/// Begins to count, so that the first refused ones are seen as a rise.
pub(crate) fn count_from_nought() {
    for outcome in OUTCOMES {
        metrics::counter!(METRIC, "outcome" => outcome).increment(0);
    }
}

/// Takes one event, and answers once it is in the table. The same event again is stored once; one that was not driven to its end yet is due again.
pub(crate) async fn receive(
    State(portal): Shared,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let received = received(&portal, &headers, body).await;
    metrics::counter!(METRIC, "outcome" => outcome(&received)).increment(1);
    match received {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(refusal) => {
            if matches!(refusal, WebhookRefusal::Unsigned(_)) {
                note_refused(&portal);
            }
            refusal.into_response()
        }
    }
}

/// The label in metrics.
const fn outcome(received: &Result<(), WebhookRefusal>) -> &'static str {
    match received {
        Ok(()) => "stored",
        Err(WebhookRefusal::Unsigned(_)) => "unsigned",
        Err(WebhookRefusal::TooLarge | WebhookRefusal::Unreadable | WebhookRefusal::NotAnEvent) => "unreadable",
        Err(WebhookRefusal::StoreAway(_)) => "store_away",
    }
}

/// Remembers for `ez doctor` that a signature did not fit: at most once a minute, so that nobody can make us write.
fn note_refused(portal: &Portal) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let Ok(mut last) = LAST.lock() else { return };
    if last.is_some_and(|noted| noted.elapsed() < NOTE_EVERY) {
        return;
    }
    *last = Some(Instant::now());
    let store = portal.store.clone();
    tokio::spawn(async move {
        if let Err(fault) = store.webhook_refused().await {
            tracing::warn!(fault = page::whole(&fault), "a refused webhook could not be noted");
        }
    });
}

async fn received(
    portal: &Portal,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(), WebhookRefusal> {
    let body = body.map_err(|fault| match fault.status() {
        StatusCode::PAYLOAD_TOO_LARGE => WebhookRefusal::TooLarge,
        _ => WebhookRefusal::Unreadable,
    })?;
    let signature = headers.get("stripe-signature").and_then(|value| value.to_str().ok());
    let now = OffsetDateTime::now_utc().unix_timestamp();
    verify(signature, &body, &portal.settings.webhook_secrets, now)
        .map_err(|fault| WebhookRefusal::Unsigned(fault.to_string()))?;
    let event = envelope(&body)?;
    let (id, kind) = (event.id.clone(), event.event_type.clone());
    match portal.events.put(event).await.map_err(WebhookRefusal::StoreAway)? {
        PutEvent::New => tracing::info!(event = id, kind, "an event was stored"),
        PutEvent::Known { handled } => tracing::info!(event = id, handled, "an event was told again"),
    }
    Ok(())
}

fn envelope(body: &[u8]) -> Result<NewPaymentEvent, WebhookRefusal> {
    Envelope::read(body).and_then(Envelope::into_row).map_err(|_| WebhookRefusal::NotAnEvent)
}

#[cfg(test)]
mod tests {
    use domain::ids::SubscriptionId;

    use super::*;

    #[test]
    fn only_the_envelope_of_an_event_is_kept() {
        let body = br#"{"id":"evt_1","type":"invoice.paid","created":1767225600,"livemode":false,
            "data":{"object":{"id":"in_1","object":"invoice","subscription":"sub_1","customer_email":"ann@example.com"}}}"#;
        let Ok(event) = envelope(body) else { panic!("an event is refused") };
        assert_eq!((event.id.as_str(), event.event_type.as_str()), ("evt_1", "invoice.paid"));
        assert_eq!(event.subscription, Some(SubscriptionId("sub_1".to_owned())));
        assert!(!format!("{event:?}").contains("ann@"));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        assert!(envelope(b"[]").is_err());
        assert!(envelope(br#"{"id":"evt_1","type":"x","created":9223372036854775807,"data":{"object":{}}}"#).is_err());
    }
}
