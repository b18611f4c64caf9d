//! What Stripe sends by itself: is it from Stripe, and what is it about.
//!
//! The shape of an event follows the API version of its endpoint, not ours, so only its envelope is read here, leniently,
//! from whichever place it may stand in. Whoever needs more asks Stripe.
//! Source: Stripe, "Verify webhook signatures manually"; "Event object".
use domain::{
    UnixSecs,
    ids::{OrderId, SubscriptionId},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;
use store::NewPaymentEvent;
use time::OffsetDateTime;
use uuid::Uuid;

/// How far the time of a signature may be from ours, on either side; exactly this far is accepted.
pub const TOLERANCE_SECS: u64 = 300;
/// How many signatures of one header are looked at. Stripe sends one for each secret that is valid.
const SIGNATURES_MAX: usize = 16;
/// The longest id or type that is kept.
const WORD_LENGTH_MAX: usize = 255;

/// Why a delivery is not taken for Stripe's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// There is no `Stripe-Signature` header.
    #[error("there is no signature")]
    Missing,
    /// The header has no single time, or no signature of the kind `v1`.
    #[error("the signature header cannot be read")]
    Malformed,
    /// None of the signatures was made with one of our secrets over this body.
    #[error("no signature fits")]
    Mismatch,
    /// It was signed more than 300 seconds ago: a delivery caught and sent again.
    #[error("the signature is too old")]
    TooOld,
    /// It was signed more than 300 seconds from now.
    #[error("the signature is of the future")]
    TooNew,
}

/// Says whether the body was signed with one of the secrets, by the header `Stripe-Signature`, within 300 seconds of `now`.
///
/// Several secrets and several `v1` signatures are each tried, as during the rotation of a secret; other kinds are
/// ignored. Signatures are compared in constant time.
pub fn verify(header: Option<&str>, body: &[u8], secrets: &[String], now: UnixSecs) -> Result<(), SignatureFault> {
    let header = header.filter(|text| !text.trim().is_empty()).ok_or(SignatureFault::Missing)?;
    let (mut stamp, mut signatures) = (None, Vec::new());
    for (name, value) in header.split(',').filter_map(|part| part.trim().split_once('=')) {
        match name {
            "t" if stamp.replace(value).is_some() => return Err(SignatureFault::Malformed),
            "v1" if signatures.len() < SIGNATURES_MAX => signatures.push(value),
            _ => {}
        }
    }
    let stamp = stamp.ok_or(SignatureFault::Malformed)?;
    let signed_at = unix_secs(stamp).ok_or(SignatureFault::Malformed)?;
    if signatures.is_empty() {
        return Err(SignatureFault::Malformed);
    }
    let signatures: Vec<[u8; 32]> = signatures.into_iter().filter_map(unhex).collect();
    let secrets = secrets.iter().map(String::as_str).filter(|secret| !secret.is_empty());
    if !secrets.into_iter().any(|secret| signatures.iter().any(|sent| fits(secret, stamp, body, sent))) {
        return Err(SignatureFault::Mismatch);
    }
    if now.abs_diff(signed_at) <= TOLERANCE_SECS {
        return Ok(());
    }
    Err(if signed_at < now { SignatureFault::TooOld } else { SignatureFault::TooNew })
}

fn fits(secret: &str, stamp: &str, body: &[u8], sent: &[u8; 32]) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return false;
    };
    mac.update(stamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.verify_slice(sent).is_ok()
}

fn unix_secs(text: &str) -> Option<UnixSecs> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(pair[0] * 16 + pair[1]).ok()?;
    }
    Some(bytes)
}

/// The body is not a Stripe event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a Stripe event")]
pub struct NotAnEvent;

/// What is taken from an event. Everything else is asked of Stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The event (`evt_…`).
    pub id: String,
    /// What happened, for example `invoice.paid`.
    pub kind: String,
    /// When Stripe made the event.
    pub created: UnixSecs,
    /// Whether it is about real money.
    pub livemode: bool,
    /// What it happened to (`in_…`, `sub_…`, `cs_…`); empty for the few objects without an id.
    pub object_id: String,
    /// What that is, for example `invoice`.
    pub object_kind: String,
    /// The order it names, if it names one of ours.
    pub order: Option<Uuid>,
    /// The subscription it is about (`sub_…`), if any.
    pub subscription: Option<String>,
    /// The customer it is about (`cus_…`), if it names one.
    pub customer: Option<String>,
    /// The payment it is about (`ch_…`, `py_…`, else `pi_…`), for whoever has to look for its customer.
    pub payment: Option<String>,
}

/// As much of an event as is ever read.
#[derive(Deserialize)]
pub(super) struct RawEvent {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) created: UnixSecs,
    #[serde(default)]
    pub(super) livemode: bool,
    pub(super) data: RawData,
}

#[derive(Deserialize)]
pub(super) struct RawData {
    pub(super) object: Value,
}

impl Envelope {
    /// Reads the envelope of an event in any of Stripe's payload versions. The signature has to be verified before.
    pub fn read(body: &[u8]) -> Result<Self, NotAnEvent> {
        Self::of(serde_json::from_slice(body).map_err(|_| NotAnEvent)?)
    }

    /// The row our inbox keeps of it.
    pub fn into_row(self) -> Result<NewPaymentEvent, NotAnEvent> {
        Ok(NewPaymentEvent {
            created_at: OffsetDateTime::from_unix_timestamp(self.created).map_err(|_| NotAnEvent)?,
            id: self.id,
            event_type: self.kind,
            object_id: self.object_id,
            object_kind: self.object_kind,
            order: self.order.map(OrderId),
            subscription: self.subscription.map(SubscriptionId),
            customer: self.customer,
            payment: self.payment,
            livemode: self.livemode,
        })
    }

    pub(super) fn of(raw: RawEvent) -> Result<Self, NotAnEvent> {
        let object = &raw.data.object;
        let word_at = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|text| is_word(text));
        if !is_word(&raw.id) || !is_word(&raw.kind) || !object.is_object() {
            return Err(NotAnEvent);
        }
        let object_id = word_at("/id").unwrap_or_default().to_owned();
        let object_kind = word_at("/object").unwrap_or_default().to_owned();
        let order = [
            "/metadata/order",
            "/client_reference_id",
            "/parent/subscription_details/metadata/order",
            "/subscription_details/metadata/order",
        ];
        let subscription = [
            "/subscription",
            "/subscription/id",
            "/parent/subscription_details/subscription",
            "/parent/subscription_details/subscription/id",
        ];
        let subscription = match object_kind.as_str() {
            "subscription" => Some(object_id.clone()).filter(|id| !id.is_empty()),
            _ => subscription.iter().find_map(|pointer| word_at(pointer)).map(str::to_owned),
        };
        let of = |kinds: &[&str]| kinds.contains(&object_kind.as_str()).then_some("/id");
        let first = |pointers: &[Option<&str>]| {
            pointers.iter().flatten().find_map(|pointer| word_at(pointer)).map(str::to_owned)
        };
        Ok(Self {
            customer: first(&[of(&["customer"]), Some("/customer"), Some("/customer/id")]),
            payment: first(&[
                of(&["charge"]),
                Some("/charge"),
                Some("/charge/id"),
                of(&["payment_intent"]),
                Some("/payment_intent"),
                Some("/payment_intent/id"),
            ]),
            order: order.iter().filter_map(|pointer| word_at(pointer)).find_map(|text| Uuid::parse_str(text).ok()),
            id: raw.id,
            kind: raw.kind,
            created: raw.created,
            livemode: raw.livemode,
            object_id,
            object_kind,
            subscription,
        })
    }
}

/// Not empty, not endless, and nothing a database refuses.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= WORD_LENGTH_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
