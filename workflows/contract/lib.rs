//! What the two wings of the house say to each other: workflow inputs, signals, queries, updates, and the activities with
//! their payloads.
//!
//! Append-only: histories recorded years ago are read with these types. A field may be added with `#[serde(default)]`; a
//! name may never change its meaning. Payloads carry ids and policy, never secrets or personal data, because histories
//! are readable in Temporal UI.
#![no_std]
#![expect(missing_docs, reason = "the markers that the macro makes of each activity cannot carry a docstring")]

extern crate alloc;

pub mod attention;
pub mod ledger;
pub mod letter;
pub mod machine;
pub mod name;
pub mod order;
pub mod payment;
pub mod privacy;
pub mod round;
pub mod subscription;

/// How long a worker may have one task of a workflow in its hands without a word. One that dies with it is noticed after as
/// much, and another goes on.
pub const WORKFLOW_TASK_LIMIT: core::time::Duration = core::time::Duration::from_secs(4);

/// The search attributes an operator filters by in Temporal UI. They are registered when the namespace is made.
pub mod search {
    /// Keyword: the step or phase a workflow is in.
    pub const STAGE: &str = "EzStage";
    /// Keyword: `order`, `subscription`, `letter`, `export` or `erasure`.
    pub const KIND: &str = "EzKind";
    /// Keyword: the account's uuid.
    pub const ACCOUNT: &str = "EzAccount";
    /// Bool: whether a step waits for staff.
    pub const NEEDS_ATTENTION: &str = "EzNeedsAttention";
}
