//! The words of the trade and their arithmetic: ids, money, plans, terms, orders, subscriptions, services, policy.
//!
//! Nothing here performs I/O, reads a clock or knows a vendor. Both wings of the house (the story in `workflows`, the
//! hands in `activities`) speak in these types, and so do the SQL checks and the pages.
#![no_std]

extern crate alloc;

pub mod billing;
pub mod ids;
pub mod instruction;
pub mod member;
pub mod money;
pub mod order;
pub mod plan;
pub mod policy;
pub mod removal;
pub mod service;
pub mod states;

/// A point in time as whole seconds since 1970-01-01T00:00:00Z. Histories, inputs and Stripe carry time in this shape.
pub type UnixSecs = i64;

/// A day in the same measure.
pub const DAY_SECS: i64 = 86_400;
