//! What a person may ask about their own data: a copy (workflow `export-<uuid>`, type `export`) and its end
//! (`erasure-<uuid>`, type `erasure`). Nothing here says who it is: ids alone.
use alloc::string::String;
use domain::ids::{ErasureId, ExportId, UserId};
use serde::{Deserialize, Serialize};
use temporalio_common::ActivityError;
use temporalio_macros::activity_definitions;

/// A copy that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportInput {
    /// Which.
    pub export: ExportId,
    /// How long a step is tried before it waits for staff, in seconds.
    pub patience_secs: u64,
}

/// An end that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureInput {
    /// Which.
    pub erasure: ErasureId,
    /// Whose; the last letter is about them.
    pub user: UserId,
    /// How long a step is tried before it waits for staff, in seconds.
    pub patience_secs: u64,
    /// How often it is looked at although nothing was heard, in seconds.
    pub poll_secs: i64,
}

/// The signal `changed`: something was pressed about this erasure; look at its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureChanged {
    /// The how-manieth change of the row it is.
    pub version: i64,
}

/// How an erasure stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErasureLook {
    /// It waits to be confirmed, or for the days in which it can be taken back.
    Waits {
        /// For how long yet, in seconds.
        secs: i64,
    },
    /// The days are over.
    Due,
    /// It was never confirmed, was taken back, or is done.
    Over,
}

/// Whether everything may go now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErasureBegun {
    /// It may, and nothing can take it back any more.
    Begun,
    /// Money is on its way, or something lives.
    Held {
        /// Why, in a sentence for staff.
        why: String,
    },
    /// It was taken back at the last moment.
    Over,
}

/// The activities about a person's own data.
pub struct Privacy;

#[activity_definitions]
impl Privacy {
    /// Gathers everything about a person into a sealed archive, and writes the letter down that leads to it.
    #[activity(name = "privacy.export")]
    pub fn export(_: ExportId) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Says how an erasure stands. One that nobody confirmed in time ends here.
    #[activity(name = "privacy.look")]
    pub fn look(_: ErasureId) -> Result<ErasureLook, ActivityError> {
        unimplemented!()
    }

    /// Begins what cannot be taken back, unless something lives or money is on its way.
    #[activity(name = "privacy.begin")]
    pub fn begin(_: ErasureId) -> Result<ErasureBegun, ActivityError> {
        unimplemented!()
    }

    /// Deletes the account's customers at Stripe. Invoices stay there as they were issued.
    #[activity(name = "privacy.forget_customer")]
    pub fn forget_customer(_: ErasureId) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Removes or blanks everything in our tables that the law does not oblige us to keep, but for where the last letter goes.
    #[activity(name = "privacy.erase")]
    pub fn erase(_: ErasureId) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Removes where the last letter went, after it left or will never.
    #[activity(name = "privacy.finish")]
    pub fn finish(_: ErasureId) -> Result<(), ActivityError> {
        unimplemented!()
    }
}

/// Markers an implementation names with `#[activity(definition = …)]`.
pub mod defs {
    pub use super::privacy::{Begin, Erase, Export, Finish, ForgetCustomer, Look};
}
