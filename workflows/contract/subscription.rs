//! The subscription workflow: id `subscription-<stripe id>`, type `subscription`.
use alloc::{string::String, vec::Vec};
use domain::{
    billing::{Standing, SubscriptionView},
    ids::{AccountId, SubscriptionId},
    instruction::Instruction,
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
    /// What people told it to do and is not done yet, oldest first.
    #[serde(default)]
    pub told: Vec<Instruction>,
}

/// The answer of the query `outlook`: what the next thing to do is decided by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// Where we stand.
    pub standing: Standing,
    /// How long to wait for what.
    pub policy: SubscriptionPolicy,
    /// What Stripe said last; nothing before the first look of a run.
    pub seen: Option<SubscriptionView>,
}

/// Something it was told before, and nobody said what became of: the update `instruct_again`. It answers whether it knew of
/// it and has it still to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldAgain {
    /// What it was told.
    pub instruction: Instruction,
    /// Whether it is to be done if it is not known any more.
    pub carry_on: bool,
}

/// Wire names of the subscription workflow.
pub mod wire {
    /// Update: take an [`domain::instruction::Instruction`]. It answers when the instruction is taken; its row says what
    /// became of it. The same instruction again is the same one.
    pub const INSTRUCT: &str = "instruct";
    /// Query: what the next thing to do is decided by, an [`super::Outlook`].
    pub const OUTLOOK: &str = "outlook";
}

/// The signal `stripe_changed`: something happened to this subscription, look there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StripeChanged {
    /// The Stripe event that said so (`evt_…`), for the reader of the history.
    pub event: String,
}
