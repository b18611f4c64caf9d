//! The subscription workflow: id `subscription-<stripe id>`, type `subscription`.
use alloc::string::String;
use domain::{
    billing::Standing,
    ids::{AccountId, SubscriptionId},
    policy::SubscriptionPolicy,
};
use serde::{Deserialize, Serialize};

/// What one subscription's workflow lives with, and what it hands to its next run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionInput {
    /// Which subscription.
    pub subscription: SubscriptionId,
    /// Whose.
    pub account: AccountId,
    /// How long to wait for what.
    pub policy: SubscriptionPolicy,
    /// Where we stand; fresh at the start.
    #[serde(default)]
    pub standing: Standing,
    /// How often a step of it has waited for staff.
    #[serde(default)]
    pub attention_raised: u32,
}

/// The signal `stripe_changed`: something happened to this subscription, look there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StripeChanged {
    /// The Stripe event that said so (`evt_…`), for the reader of the history.
    pub event: String,
}
