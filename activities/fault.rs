//! What a vendor's error means to a workflow: try again, look first, or give up.
//!
//! Nothing else in the hands decides this. The text of a fault is read by staff and kept in histories for years, so it is
//! stripped of whatever looks like an address or a secret before it leaves.
use std::{error::Error, fmt};

use store::StoreError;
use temporalio_sdk::{ApplicationFailure, activities::ActivityError};

mod redact;

pub use redact::redacted;

/// The counter of errors by vendor and kind.
pub const ERRORS_METRIC: &str = "ez_vendor_errors_total";

/// The kinds of faults there are: a failure's type in histories and the label in metrics.
const KINDS: [&str; 3] = ["try_again", "outcome_unknown", "give_up"];

/// What lies beneath a fault.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Whom a fault came from: the label `vendor` of the error counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// Payments.
    Stripe,
    /// Machines.
    Proxmox,
    /// Names.
    PowerDns,
    /// Letters.
    Smtp,
    /// Our own database.
    Database,
}

/// An act that did not succeed, and what may be done about it.
///
/// It is deliberately no `std::error::Error`: every such error turns into a retryable failure of no kind by itself, with its
/// whole text. A fault has its own way into [`ActivityError`], so `?` in an activity does the right thing.
#[derive(Debug)]
pub enum Fault {
    /// Nothing was done; the same act may succeed later. Retried by the workflow's patience.
    TryAgain {
        /// What we were doing, in words for staff.
        doing: String,
        /// Why it did not work.
        source: Cause,
    },
    /// The answer was lost, so it may have been done. Retried, because every act looks first or carries an idempotency key.
    OutcomeUnknown {
        /// What we were doing, in words for staff.
        doing: String,
        /// Why the answer did not come.
        source: Cause,
    },
    /// Trying again cannot help. Never retried: it waits for staff.
    GiveUp {
        /// What we were doing, in words for staff.
        doing: String,
        /// Why it cannot work.
        reason: String,
        /// What lies beneath, if anything.
        source: Option<Cause>,
    },
}

impl Vendor {
    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Proxmox => "proxmox",
            Self::PowerDns => "powerdns",
            Self::Smtp => "smtp",
            Self::Database => "database",
        }
    }

    /// Counts and gives a fault of which nothing was done.
    pub fn try_again(self, doing: impl Into<String>, source: impl Into<Cause>) -> Fault {
        self.counted(Fault::TryAgain { doing: doing.into(), source: source.into() })
    }

    /// Counts and gives a fault whose outcome is unknown.
    pub fn outcome_unknown(self, doing: impl Into<String>, source: impl Into<Cause>) -> Fault {
        self.counted(Fault::OutcomeUnknown { doing: doing.into(), source: source.into() })
    }

    /// Counts and gives a fault that trying again cannot help.
    pub fn give_up(self, doing: impl Into<String>, reason: impl Into<String>) -> Fault {
        self.counted(Fault::GiveUp { doing: doing.into(), reason: reason.into(), source: None })
    }

    /// Counts and gives a fault that trying again cannot help, with what lies beneath.
    pub fn give_up_over(self, doing: impl Into<String>, reason: impl Into<String>, source: impl Into<Cause>) -> Fault {
        self.counted(Fault::GiveUp { doing: doing.into(), reason: reason.into(), source: Some(source.into()) })
    }

    /// Begins the counter of every vendor and kind at nought, so that the first error is seen as a rise.
    pub fn announce_all() {
        for vendor in [Self::Stripe, Self::Proxmox, Self::PowerDns, Self::Smtp, Self::Database] {
            for kind in KINDS {
                metrics::counter!(ERRORS_METRIC, "vendor" => vendor.as_str(), "kind" => kind).increment(0);
            }
        }
    }

    fn counted(self, fault: Fault) -> Fault {
        metrics::counter!(ERRORS_METRIC, "vendor" => self.as_str(), "kind" => fault.kind()).increment(1);
        fault
    }
}

impl Fault {
    /// `try_again`, `outcome_unknown` or `give_up`: the failure's type in histories and the label in metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TryAgain { .. } => "try_again",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::GiveUp { .. } => "give_up",
        }
    }

    /// What we were doing and why it did not work, with the causes beneath, without addresses and secrets.
    pub fn words(&self) -> String {
        let mut words = self.to_string();
        let mut beneath: Option<&(dyn Error + 'static)> = match self {
            Self::TryAgain { source, .. } | Self::OutcomeUnknown { source, .. } => source.source(),
            Self::GiveUp { .. } => None,
        };
        while let Some(cause) = beneath {
            let text = cause.to_string();
            if !words.contains(&text) {
                words.push_str(": ");
                words.push_str(&text);
            }
            beneath = cause.source();
        }
        redacted(&words)
    }

    /// Logs the fault once and gives the failure a workflow sees: flat, redacted, and retryable unless it is given up.
    pub fn into_activity(self) -> ActivityError {
        let words = self.words();
        let beneath = match &self {
            Self::GiveUp { source: Some(source), .. } => redacted(&source.to_string()),
            _ => String::new(),
        };
        tracing::warn!(kind = self.kind(), reason = %words, beneath, "an activity did not succeed");
        let failure = ApplicationFailure::builder(Flat(words))
            .type_name(self.kind().to_owned())
            .non_retryable(matches!(self, Self::GiveUp { .. }))
            .build();
        ActivityError::application(failure)
    }
}

/// Words without anything beneath: the whole chain of causes would be written into the history.
#[derive(Debug)]
struct Flat(String);

impl fmt::Display for Flat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Flat {}

impl fmt::Display for Fault {
    /// Everything that is known, secrets included: for the program alone. Staff read [`Fault::words`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TryAgain { doing, source } => write!(f, "{doing}: {source}"),
            Self::OutcomeUnknown { doing, source } => write!(f, "{doing}: the outcome is unknown: {source}"),
            Self::GiveUp { doing, reason, .. } => write!(f, "{doing}: {reason}"),
        }
    }
}

impl From<Fault> for ActivityError {
    fn from(fault: Fault) -> Self {
        fault.into_activity()
    }
}

/// Gives an activity's error as a workflow may see it: one of no kind of ours is a fault of this program, which repeating
/// does not mend, so it waits for staff.
///
/// Source: temporalio-sdk 1.1 makes of a panic an application failure without a type, and repeats it.
pub fn sorted(error: ActivityError) -> ActivityError {
    match error {
        ActivityError::Application(failure) if failure.type_name().is_none_or(|kind| !KINDS.contains(&kind)) => {
            let (doing, reason) = ("this program met a fault of its own".to_owned(), failure.to_string());
            Fault::GiveUp { doing, reason, source: None }.into_activity()
        }
        sorted => sorted,
    }
}

impl From<StoreError> for Fault {
    /// A database that is away is tried again; a row that contradicts what we were doing is given up.
    fn from(error: StoreError) -> Self {
        let doing = "using our own database";
        match error {
            StoreError::Unavailable { .. } => Vendor::Database.try_again(doing, error),
            StoreError::Conflict { .. } | StoreError::Corrupt { .. } | StoreError::Refused { .. } => {
                Vendor::Database.give_up_over(doing, error.to_string(), error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(fault: Fault) -> ApplicationFailure {
        match fault.into_activity() {
            ActivityError::Application(failure) => *failure,
            other => panic!("not an application failure: {other:?}"),
        }
    }

    #[test]
    fn only_a_given_up_fault_is_not_retried() {
        let lost = || std::io::Error::other("connection reset");
        let again = failure(Vendor::Stripe.try_again("reading a subscription", lost()));
        let unknown = failure(Vendor::Stripe.outcome_unknown("refunding a payment", lost()));
        let given_up = failure(Vendor::Stripe.give_up("reading a subscription", "no such subscription"));
        assert_eq!((again.type_name(), again.is_non_retryable()), (Some("try_again"), false));
        assert_eq!((unknown.type_name(), unknown.is_non_retryable()), (Some("outcome_unknown"), false));
        assert_eq!((given_up.type_name(), given_up.is_non_retryable()), (Some("give_up"), true));
        assert_eq!(again.to_string(), "reading a subscription: connection reset");
        assert_eq!(given_up.to_string(), "reading a subscription: no such subscription");
    }

    #[test]
    fn a_panic_and_a_kind_nobody_knows_are_not_repeated_and_a_fault_of_a_kind_keeps_it() {
        let panic = || std::io::Error::other("Activity function panicked: no row for ann@example.test");
        let ActivityError::Application(told) = sorted(ActivityError::application(ApplicationFailure::new(panic())))
        else {
            panic!("not an application failure");
        };
        assert_eq!((told.type_name(), told.is_non_retryable()), (Some("give_up"), true));
        assert!(
            told.to_string().starts_with("this program met a fault of its own: Activity function panicked"),
            "{told}"
        );
        assert!(!told.to_string().contains("ann@"), "{told}");

        let strange = ApplicationFailure::builder(panic()).type_name("of_nobody".to_owned()).build();
        let ActivityError::Application(told) = sorted(ActivityError::application(strange)) else {
            panic!("not an application failure");
        };
        assert_eq!((told.type_name(), told.is_non_retryable()), (Some("give_up"), true));

        let ActivityError::Application(kept) = sorted(Vendor::Stripe.try_again("reading", panic()).into_activity())
        else {
            panic!("not an application failure");
        };
        assert_eq!((kept.type_name(), kept.is_non_retryable()), (Some("try_again"), false));
    }

    #[test]
    fn a_failure_carries_no_address_no_key_and_no_cause_beneath() {
        let told =
            failure(Vendor::Smtp.try_again("writing to ann@example.test", std::io::Error::other("password=hunter2")));
        assert!(!told.to_string().contains("ann@"), "{told}");
        assert!(!told.to_string().contains("hunter2"), "{told}");
        assert!(told.source_error().source().is_none());
    }
}
