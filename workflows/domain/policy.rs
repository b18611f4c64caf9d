//! How patient the business is. Policy travels as workflow input, so production passes days and tests pass seconds.
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// How long an order waits, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPolicy {
    /// How long the customer has to pay, in seconds. Stripe itself keeps a Checkout page at least 30 minutes open, so
    /// the end of the window closes the page explicitly.
    pub payment_window_secs: u64,
    /// How often the order asks Stripe by itself whether it was paid, in seconds.
    pub checkout_poll_secs: u64,
    /// How long one step is tried before it waits for staff, in seconds.
    pub step_patience_secs: u64,
    /// How long after its payment an order has to be delivered, in seconds; else it is undone and paid back. Nought means
    /// that it may take as long as it takes.
    #[serde(default)]
    pub deliver_within_secs: u64,
}

/// How long a subscription waits, and for what. All in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionPolicy {
    /// When reminders are sent, counted from the moment the missing payment was first seen; ascending.
    pub reminders_secs: Vec<i64>,
    /// When the machine is stopped, counted from the same moment; never before the reminders that come earlier.
    pub suspend_after_secs: i64,
    /// How long a suspended machine waits for its payment before the subscription is given up.
    pub grace_secs: i64,
    /// How long a stopped machine is kept after the end of its subscription.
    pub retention_secs: i64,
    /// How long before it is destroyed the customer is warned.
    pub retention_warning_secs: i64,
    /// How long before the end of a period that will not renew the customer is warned.
    pub expiry_warning_secs: i64,
    /// How often the subscription is read at Stripe although nothing was heard.
    pub poll_secs: i64,
    /// How long one step is tried before it waits for staff.
    pub step_patience_secs: u64,
}

/// Everything an order hands on to its subscription, and its own part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// For the order itself.
    pub order: OrderPolicy,
    /// For the subscription the order starts.
    pub subscription: SubscriptionPolicy,
}
