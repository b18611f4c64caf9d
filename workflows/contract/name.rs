//! The naming activities: forward and reverse DNS of one service.
use domain::ids::OrderId;
use temporalio_common::ActivityError;
use temporalio_macros::activity_definitions;

/// The naming activities. What to publish stands in the order's row.
pub struct Name;

#[activity_definitions]
impl Name {
    /// Publishes A, AAAA and PTR records of the order's machine.
    #[activity(name = "name.publish")]
    pub fn publish(_: OrderId) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Removes the records again, but only those that still say what we wrote. Not there is done.
    #[activity(name = "name.withdraw")]
    pub fn withdraw(_: OrderId) -> Result<(), ActivityError> {
        unimplemented!()
    }
}

/// Markers an implementation names with `#[activity(definition = …)]`.
pub mod defs {
    pub use super::name::{Publish, Withdraw};
}
