//! Rounds: what is gone through from time to time, because nobody may have told. Started by schedules; a round that could not
//! be finished is made up for by the next one. Workflow type `round`.
use serde::{Deserialize, Serialize};
use temporalio_common::ActivityError;
use temporalio_macros::activity_definitions;

/// Which round, and how often it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoundInput {
    /// Through Stripe's list of events, for those that no webhook told.
    Events {
        /// How often.
        every_secs: u32,
    },
    /// Through every living subscription, unpaid invoice and open order, for what Stripe says otherwise.
    Comparison {
        /// How often.
        every_secs: u32,
    },
}

/// What a round found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundOutcome {
    /// What was looked at.
    pub seen: u64,
    /// What was missing or different; it is being looked at now.
    pub found: u64,
}

/// The activities of rounds. They read at Stripe, and ask for looks.
pub struct Rounds;

#[activity_definitions]
impl Rounds {
    /// Puts every event that no webhook told into the inbox.
    #[activity(name = "round.events")]
    pub fn events(_: RoundInput) -> Result<RoundOutcome, ActivityError> {
        unimplemented!()
    }

    /// Compares what lives with Stripe, and asks for a look at whatever differs.
    #[activity(name = "round.compare")]
    pub fn compare(_: RoundInput) -> Result<RoundOutcome, ActivityError> {
        unimplemented!()
    }
}

/// Markers an implementation names with `#[activity(definition = …)]`.
pub mod defs {
    pub use super::rounds::{Compare, Events};
}
