//! Stripe as the hands use it, and the only place that knows its crate.
//!
//! Every call has a deadline. A write carries an idempotency key made of our own id and the step, so the same write made
//! again is answered with the first answer. A read that got no answer is tried again; a write that got none is *unknown*.
//! Source: Stripe API reference, "Errors" and "Idempotent requests".
use std::{
    fmt::{self, Write as _},
    future::Future,
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use stripe::{Client, ClientBuilder, IdempotencyKey, RequestStrategy, StripeError};
use stripe_product::price::ListPrice;

use crate::{
    call::{Kind, timed},
    fault::{Fault, Vendor},
};

pub mod catalogue;
pub mod checkout;
pub mod customer;
pub mod events;
pub mod found;
mod instruction;
mod invoice;
pub mod links;
pub mod living;
pub mod mirror;
mod plan;
mod portal;
mod refund;
mod schedule;
pub mod subscription;
pub mod webhook;

/// How long one call may take, connection and answer included.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How many tries share one idempotency key.
const TRIES_PER_KEY: u32 = 5;

/// Stripe's API with our key. Cheap to clone. Has no `Debug`, because it holds the key.
#[derive(Clone)]
pub struct StripeApi {
    client: Client,
    live: bool,
    terms: checkout::SaleTerms,
    run: Option<String>,
}

/// The how-manieth try of an activity this is, from 1.
///
/// Stripe keeps the first answer to a key for at least 24 hours, a failure of its own included, so after some tries the key
/// has to change. Everything here looks before it writes, so a new key does nothing twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The idempotency key of this try for what `act` names, for example `order-<uuid>/checkout`.
    pub fn key(self, act: &str) -> String {
        match self.0.saturating_sub(1) / TRIES_PER_KEY {
            0 => act.to_owned(),
            turn => format!("{act}/{turn}"),
        }
    }
}

impl StripeApi {
    /// Stripe at `base_url` (`https://api.stripe.com`, or a stand-in), with a secret or restricted key.
    ///
    /// *Errors*: gives up when the key or the address cannot be part of a request at all. Nothing is asked yet.
    pub fn new(secret_key: &str, base_url: &str) -> Result<Self, Fault> {
        let client = ClientBuilder::new(secret_key)
            .url(base_url.trim_end_matches('/'))
            .timeout(CALL_LIMIT)
            .request_strategy(RequestStrategy::Once)
            .build()
            .map_err(|error| Vendor::Stripe.give_up("preparing calls to Stripe", unusable(error)))?;
        let live = secret_key.split('_').nth(1) == Some("live");
        Ok(Self { client, live, terms: checkout::SaleTerms::default(), run: None })
    }

    /// The same, with payment pages under these terms.
    #[must_use]
    pub fn selling_under(self, terms: checkout::SaleTerms) -> Self {
        Self { terms, ..self }
    }

    /// The same for one run of a step, by whatever words tell it from others. The machine's own tries are one run; what a
    /// person has tried again is another.
    #[must_use]
    pub fn in_run(&self, words: &[&str]) -> Self {
        Self { run: Some(short(words)), ..self.clone() }
    }

    /// Says in one line that Stripe answers and takes our key, and in which mode.
    ///
    /// *Errors*: gives up with Stripe's words when the key is wrong; to be tried again when Stripe does not answer.
    pub async fn check(&self) -> Result<String, Fault> {
        let prices = read("asking Stripe for a price", ListPrice::new().limit(1).send(&self.client)).await?;
        let mode = if self.live { "live" } else { "test" };
        let prices = if prices.data.is_empty() { "no price yet" } else { "prices are there" };
        Ok(format!("Stripe takes our key, in {mode} mode; {prices}"))
    }
}

/// Why a call to Stripe gave nothing.
#[derive(Debug)]
enum Denial {
    /// Stripe said no.
    Refused {
        /// HTTP status.
        status: u16,
        /// Stripe's error code, for example `resource_missing`.
        code: Option<String>,
        /// Stripe's words.
        message: String,
    },
    /// No answer, or none that can be read.
    Lost(String),
    /// The request could not be made of our settings.
    Unusable(String),
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, code: Some(code), message } => {
                write!(f, "Stripe says {status} {code}: {message}")
            }
            Self::Refused { status, code: None, message } => write!(f, "Stripe says {status}: {message}"),
            Self::Lost(words) => write!(f, "no usable answer from Stripe: {words}"),
            Self::Unusable(words) => write!(f, "no request can be made: {words}"),
        }
    }
}

impl std::error::Error for Denial {}

impl From<StripeError> for Denial {
    /// Takes the few fields that hold no customer data; the rest of Stripe's error may hold a whole payment.
    fn from(error: StripeError) -> Self {
        match error {
            StripeError::Stripe(told, status) => Self::Refused {
                status,
                code: told.code.map(|code| code.to_string()),
                message: told.message.unwrap_or_else(|| "no reason was given".to_owned()),
            },
            StripeError::JSONDeserialize(_) => Self::Lost("it is not in Stripe's format".to_owned()),
            StripeError::ClientError(words) => Self::Lost(words),
            StripeError::ConfigError(words) => Self::Unusable(words),
            StripeError::Timeout => Self::Lost(format!("none within {} seconds", CALL_LIMIT.as_secs())),
        }
    }
}

impl Denial {
    /// Stripe read the request and its answer is final: the thing is not there, or its state forbids it.
    const fn is_final(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 402 | 404 | 410, .. })
    }

    /// Whether the same request may be answered otherwise later.
    const fn may_pass(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Refused { status: 408 | 409 | 424 | 429 | 500.., .. })
    }

    /// What it means when nothing was to be changed.
    fn on_read(self, doing: &str) -> Fault {
        if self.may_pass() { Vendor::Stripe.try_again(doing, self) } else { self.give_up(doing) }
    }

    /// What it means when something was to be changed.
    fn on_write(self, doing: &str) -> Fault {
        match self {
            Self::Refused { status: 429, .. } => Vendor::Stripe.try_again(doing, self),
            _ if self.may_pass() => Vendor::Stripe.outcome_unknown(doing, self),
            _ => self.give_up(doing),
        }
    }

    fn give_up(self, doing: &str) -> Fault {
        let reason = match self {
            Self::Refused { status: 401 | 403, .. } => format!("our key is not accepted: {self}"),
            _ => self.to_string(),
        };
        Vendor::Stripe.give_up_over(doing, reason, self)
    }
}

/// Stripe's crate calls a key that cannot be sent an error of communication.
fn unusable(error: StripeError) -> String {
    match error {
        StripeError::ClientError(words) | StripeError::ConfigError(words) => words,
        other => Denial::from(other).to_string(),
    }
}

/// Asks Stripe, where what it refuses may be an answer, too.
fn asked<T>(kind: Kind, call: impl Future<Output = Result<T, StripeError>>) -> impl Future<Output = Result<T, Denial>> {
    let call = Box::pin(call);
    async move { timed(Vendor::Stripe, kind, call).await.map_err(Denial::from) }
}

/// Reads; `doing` says what for, in words for staff.
async fn read<T>(doing: &str, call: impl Future<Output = Result<T, StripeError>>) -> Result<T, Fault> {
    asked(Kind::Read, call).await.map_err(|denial| denial.on_read(doing))
}

/// Writes; `doing` says what, in words for staff.
async fn write<T>(doing: &str, call: impl Future<Output = Result<T, StripeError>>) -> Result<T, Fault> {
    asked(Kind::Write, call).await.map_err(|denial| denial.on_write(doing))
}

/// The strategy of a write: once, under this key.
fn under(key: &str) -> Result<RequestStrategy, Fault> {
    IdempotencyKey::new(key)
        .map(RequestStrategy::Idempotent)
        .map_err(|error| Vendor::Stripe.give_up("preparing a call to Stripe", error.to_string()))
}

/// A short name for these words in a key, where they are too long for one or name a person.
fn short(words: &[&str]) -> String {
    let mut digest = Sha256::new();
    for word in words {
        digest.update(word.as_bytes());
        digest.update([0]);
    }
    digest.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> Denial {
        Denial::Refused { status, code: None, message: "no".to_owned() }
    }

    #[test]
    fn what_stripe_answers_decides_what_may_be_done() {
        for (status, read, write) in [
            (400, "give_up", "give_up"),
            (401, "give_up", "give_up"),
            (402, "give_up", "give_up"),
            (403, "give_up", "give_up"),
            (404, "give_up", "give_up"),
            (409, "try_again", "outcome_unknown"),
            (429, "try_again", "try_again"),
            (500, "try_again", "outcome_unknown"),
            (502, "try_again", "outcome_unknown"),
            (599, "try_again", "outcome_unknown"),
        ] {
            assert_eq!(refused(status).on_read("x").kind(), read, "{status}");
            assert_eq!(refused(status).on_write("x").kind(), write, "{status}");
        }
        assert_eq!(Denial::from(StripeError::Timeout).on_read("x").kind(), "try_again");
        assert_eq!(Denial::from(StripeError::Timeout).on_write("x").kind(), "outcome_unknown");
    }

    #[test]
    fn other_words_have_another_short_name() {
        assert_eq!(short(&["a", "b"]), short(&["a", "b"]));
        assert_eq!(short(&["a", "b"]).len(), 16);
        for other in [["a", "c"], ["b", "a"], ["ab", ""], ["", "ab"]] {
            assert_ne!(short(&["a", "b"]), short(&other), "{other:?}");
        }
    }

    #[test]
    fn a_key_changes_only_after_several_tries() {
        let keys: Vec<String> = (1..=11).map(|number| Attempt(number).key("order-1/checkout")).collect();
        assert!(keys[..5].iter().all(|key| key == "order-1/checkout"));
        assert!(keys[5..10].iter().all(|key| key == "order-1/checkout/1"));
        assert_eq!(keys[10], "order-1/checkout/2");
    }
}
