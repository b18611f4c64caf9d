//! What is sold.
use crate::states;
use serde::{Deserialize, Serialize};

states! {
    /// How often a price is charged.
    Term {
        /// Once a calendar month.
        Monthly = "monthly",
        /// Once a year.
        Annual = "annual",
    }
}

/// The size of a virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSize {
    /// Virtual processor cores.
    pub cores: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Size of the first disk in GiB.
    pub disk_gib: u32,
}
