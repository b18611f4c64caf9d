//! A step out of patience, and what staff decide about it. Both workflows take the same update and signal.
use alloc::string::String;
use domain::order::Step;
use serde::{Deserialize, Serialize};

/// What staff want done with a step that waits for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Try the step again.
    Retry,
    /// Go on as if the step had succeeded.
    Skip {
        /// The result the step would have given, where it gives one (for `clone`: the machine's number).
        result: Option<String>,
    },
    /// Give the order up: undo everything, refund, apologise. A subscription's step is never given up.
    Abandon,
}

/// The update `decide` (and the signal `decided`): a staff member's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Which step it is about; refused when another step waits.
    pub step: Step,
    /// Which waiting of the workflow it is about, from 1; refused when it is another one. Not said, the step counts alone.
    #[serde(default)]
    pub occurrence: Option<u32>,
    /// What to do.
    pub verdict: Verdict,
    /// Who decided: a staff user's uuid, or a name typed in Temporal UI.
    pub by: String,
    /// Why, in the decider's words. Mandatory for skip and abandon.
    pub reason: String,
}

/// The answer of the query `attention`: what waits for staff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Which step.
    pub step: Step,
    /// The vendor's or our own words about why.
    pub reason: String,
}
