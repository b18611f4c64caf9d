//! A change of plan that was told and waits: at Stripe for its payment, or with us until the machine is fitted to it.
use super::{Act, Next, Standing, SubscriptionView};
use crate::{UnixSecs, instruction::Instruction};
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// A change that Stripe applies as soon as its invoice is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingChange {
    /// What will be charged each term then (`price_…`).
    pub price: String,
    /// The invoice that has to be paid for it (`in_…`).
    pub invoice: Option<String>,
    /// When Stripe gives it up.
    pub until: UnixSecs,
    /// Whether its payment waits for the customer to confirm it with their bank.
    pub needs_confirmation: bool,
}

/// Another price that Stripe charges from some time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComingPrice {
    /// The price (`price_…`).
    pub price: String,
    /// From when on.
    pub at: UnixSecs,
}

/// A change that was told and whose payment is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changing {
    /// What was told.
    pub instruction: Instruction,
    /// The price it changes to (`price_…`).
    pub price: String,
    /// Whether the customer was asked to confirm the payment.
    #[serde(default)]
    pub asked: bool,
    /// Whether the customer took it back.
    #[serde(default)]
    pub taken_back: bool,
}

/// What is to be done about the change that waits; nothing while there is none, or only waiting is left.
pub(super) fn due(standing: &Standing, view: &SubscriptionView) -> Option<Act> {
    let changing = standing.changing.as_ref()?;
    let is = |price: &Option<String>| price.as_ref() == Some(&changing.price);
    if is(&view.price) {
        // First the machine becomes what is paid for; of one that has ended nothing more becomes anything.
        let settled = is(&standing.price) || view.status.has_ended();
        return settled.then_some(Act::SettleChange);
    }
    match view.pending.as_ref().filter(|pending| pending.price == changing.price) {
        Some(pending) if pending.needs_confirmation && !changing.asked => Some(Act::AskToConfirmChange),
        Some(_) => None,
        None => Some(Act::GiveChangeUp),
    }
}

/// Looks again when Stripe gives the change up.
pub(super) fn no_later(next: Next, standing: &Standing, view: &SubscriptionView, now: UnixSecs) -> Next {
    match (next, &standing.changing, &view.pending) {
        (Next::WaitUntil(at), Some(_), Some(pending)) if now <= pending.until => {
            Next::WaitUntil(at.min(pending.until + 1))
        }
        (next, ..) => next,
    }
}
