//! The order workflows: id `order-<uuid>`, type `order`, or `covered_order` when a subscription covers it.
use alloc::{string::String, vec::Vec};
use domain::{
    ids::{AccountId, OrderId, ServiceId, SubscriptionId},
    order::{OrderStatus, Step},
    plan::Term,
    policy::Policy,
};
use serde::{Deserialize, Serialize};

/// What one order is for. The door fills it in after checking every field; the order's first step writes it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderInput {
    /// Which order.
    pub order: OrderId,
    /// Who buys.
    pub account: AccountId,
    /// The service it will become; also the owner stamp of its machine.
    pub service: ServiceId,
    /// The plan's slug.
    pub plan: String,
    /// Monthly or annual.
    pub term: Term,
    /// The currency's lower-case code.
    pub currency: String,
    /// The name the customer gave, one DNS label.
    pub hostname: String,
    /// The image's slug.
    pub image: String,
    /// The customer's SSH public key, sealed with the portal's key; readable by nobody else.
    pub sealed_ssh_key: Option<String>,
    /// How many days cost nothing at first, as the customer saw it.
    #[serde(default)]
    pub trial_days: u32,
    /// The subscription that covers it, when nothing is to be paid. A workflow of type `covered_order` only: a worker of the
    /// release before does not know it, and would ask for money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered_by: Option<SubscriptionId>,
    /// How often a step of it has waited for staff in the workflows it had before.
    #[serde(default)]
    pub attention_raised: u32,
    /// What is to be taken back, when it was being given up as it lost its workflow: nothing is begun for it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<GivenUp>,
    /// How long to wait for what.
    pub policy: Policy,
}

/// An order that was being given up when its workflow was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// Why it was.
    pub reason: String,
    /// The steps that had begun.
    pub begun: Vec<Step>,
    /// The subscription that paid for it; none when nothing is known to be paid, or another one covers it.
    pub subscription: Option<SubscriptionId>,
}

/// The answer of the update `checkout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckoutReply {
    /// The payment page is open; its address stands in the order's row.
    Ready,
    /// Nothing was free; nothing was charged.
    SoldOut,
    /// The order is past its payment page.
    Closed,
    /// The payment page could not be opened yet; staff have been told.
    Delayed,
}

/// The answer of the update `begin` of an order that a subscription covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CoverReply {
    /// It has its place, and is being built.
    Begun,
    /// There is no place for it; why stands in the order's row.
    Refused,
    /// It is past its beginning.
    Closed,
    /// It could not be written down yet; staff have been told.
    Delayed,
}

/// The signal `payment_reported`: something happened to this order at Stripe, look there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentReported {
    /// The Stripe event that said so (`evt_…`), for the reader of the history.
    pub event: String,
}

/// How an order ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderOutcome {
    /// Its last status.
    pub status: OrderStatus,
}

/// Wire names of the order workflow.
pub mod wire {
    /// Workflow type.
    pub const TYPE: &str = "order";
    /// Workflow type of an order that a subscription covers.
    pub const COVERED: &str = "covered_order";
    /// Update of such an order: hold its place and say whether there is one.
    pub const BEGIN: &str = "begin";
    /// Update: open the payment page and say when it is open.
    pub const CHECKOUT: &str = "checkout";
    /// Signal: look at Stripe.
    pub const PAYMENT_REPORTED: &str = "payment_reported";
}
