//! The payment activities: Stripe Checkout, subscriptions, invoices and refunds.
use alloc::string::String;
use domain::{
    billing::SubscriptionView,
    ids::{OrderId, SubscriptionId},
    instruction::Instruction,
};
use serde::{Deserialize, Serialize};
use temporalio_common::ActivityError;
use temporalio_macros::activity_definitions;

/// A Checkout Session of one order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckoutRef {
    /// Which order.
    pub order: OrderId,
    /// The Stripe id (`cs_…`).
    pub session: String,
}

/// What Stripe says about a Checkout Session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckoutState {
    /// Can still be paid.
    Open,
    /// Completed, but the payment is still on its way (a delayed payment method).
    Processing,
    /// Paid; the subscription lives.
    Paid {
        /// Which subscription.
        subscription: SubscriptionId,
    },
    /// Can no longer be paid, and was not.
    Expired,
}

/// What to pay back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundInput {
    /// The order given up.
    pub order: OrderId,
    /// Its subscription.
    pub subscription: SubscriptionId,
}

/// An instruction to carry out at Stripe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// Of which subscription.
    pub subscription: SubscriptionId,
    /// What is to be done.
    pub instruction: Instruction,
    /// Whether whoever asks can wait for a payment that the customer's bank wants confirmed.
    #[serde(default)]
    pub may_wait: bool,
}

/// What became of an errand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CarriedOut {
    /// Stripe has it.
    Done {
        /// What it made there, where it made something (`re_…`).
        object: Option<String>,
    },
    /// It cannot be, and nothing was changed.
    Refused {
        /// Why, for the person who asked.
        why: String,
    },
    /// Stripe does it as soon as its payment arrives. Answered only to whoever may wait.
    Waits,
}

/// The payment activities. Every write carries an idempotency key made of the order or subscription and the step.
pub struct Payment;

#[activity_definitions]
impl Payment {
    /// Opens the Checkout Session of an order and writes its address into the order's row.
    #[activity(name = "payment.open_checkout")]
    pub fn open_checkout(_: OrderId) -> Result<CheckoutRef, ActivityError> {
        unimplemented!()
    }

    /// Says whether a Checkout Session was paid.
    #[activity(name = "payment.read_checkout")]
    pub fn read_checkout(_: CheckoutRef) -> Result<CheckoutState, ActivityError> {
        unimplemented!()
    }

    /// Closes a Checkout Session so that it can no longer be paid; says so when it was paid meanwhile. An empty session id
    /// means whichever was opened for the order; none is closed already.
    #[activity(name = "payment.expire_checkout")]
    pub fn expire_checkout(_: CheckoutRef) -> Result<CheckoutState, ActivityError> {
        unimplemented!()
    }

    /// Says what Stripe knows about a subscription, and mirrors its invoices.
    #[activity(name = "payment.read_subscription")]
    pub fn read_subscription(_: SubscriptionId) -> Result<SubscriptionView, ActivityError> {
        unimplemented!()
    }

    /// Ends a subscription at Stripe and voids its open invoices. One that was paid meanwhile is left alive: the answer
    /// says which.
    #[activity(name = "payment.end_subscription")]
    pub fn end_subscription(_: SubscriptionId) -> Result<SubscriptionView, ActivityError> {
        unimplemented!()
    }

    /// Cancels the subscription of an order that was given up and refunds whatever was paid for it.
    #[activity(name = "payment.refund")]
    pub fn refund(_: RefundInput) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Carries out what a person told a subscription to do, once for each instruction.
    #[activity(name = "payment.carry_out")]
    pub fn carry_out(_: Errand) -> Result<CarriedOut, ActivityError> {
        unimplemented!()
    }
}

/// Markers an implementation names with `#[activity(definition = …)]`.
pub mod defs {
    pub use super::payment::{
        CarryOut, EndSubscription, ExpireCheckout, OpenCheckout, ReadCheckout, ReadSubscription, Refund,
    };
}
