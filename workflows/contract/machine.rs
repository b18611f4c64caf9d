//! The machine activities: one virtual machine on Proxmox VE.
use alloc::string::String;
use domain::{
    ids::{OrderId, ServiceId, Vmid},
    order::Step,
};
use serde::{Deserialize, Serialize};
use temporalio_common::ActivityError;
use temporalio_macros::activity_definitions;

/// Which machine. Everything else about it stands in the order's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRef {
    /// The order it is built for.
    pub order: OrderId,
    /// The owner stamp.
    pub service: ServiceId,
    /// The node it lives on.
    pub node: String,
    /// Its number.
    pub vmid: Vmid,
}

/// What became of a clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloneOutcome {
    /// The machine is there and carries our stamp.
    Cloned,
    /// Somebody else's machine has that number; it was not touched.
    Taken,
}

/// A machine to be built at one go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Building {
    /// Which machine.
    pub machine: MachineRef,
    /// The first step to be done; those before it are.
    pub from: Step,
    /// How long one step may take before it is left to an activity of its own, in seconds.
    pub step_limit_secs: u64,
}

/// How far a machine was built at one go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Built {
    /// It answers.
    Ready,
    /// Somebody else's machine has the number; it was not touched.
    Taken,
    /// A step did not succeed at once; those before it are done.
    Stopped {
        /// Which step.
        step: Step,
        /// Why, for the reader of the history.
        reason: String,
    },
}

/// A machine to be fitted to its plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fitting {
    /// Which machine.
    pub machine: MachineRef,
    /// Whether it runs afterwards; one that is stopped stays stopped.
    pub runs: bool,
}

/// The machine activities. Each may run twice; each looks before it acts.
pub struct Machine;

#[activity_definitions]
impl Machine {
    /// Clones, configures, grows, protects and starts the machine, and waits until it answers: each step noted, tried once,
    /// and the first that does not succeed named, so that it can go on alone.
    #[activity(name = "machine.build")]
    pub fn build(_: Building) -> Result<Built, ActivityError> {
        unimplemented!()
    }

    /// Clones the image's template to the reserved number, stamped with its owner.
    #[activity(name = "machine.clone")]
    pub fn clone_template(_: MachineRef) -> Result<CloneOutcome, ActivityError> {
        unimplemented!()
    }

    /// Sets size, addresses, name, access and tags.
    #[activity(name = "machine.configure")]
    pub fn configure(_: MachineRef) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Grows the first disk to the plan's size; never shrinks it.
    #[activity(name = "machine.resize")]
    pub fn resize(_: MachineRef) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Turns the firewall on, with address and hardware-address filters.
    #[activity(name = "machine.protect")]
    pub fn protect(_: MachineRef) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Starts the machine; one that runs already is success.
    #[activity(name = "machine.start")]
    pub fn start(_: MachineRef) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Waits until the guest agent answers.
    #[activity(name = "machine.answer")]
    pub fn answer(_: MachineRef) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Stops the machine and keeps it stopped over a restart of its node. Refuses a machine without our stamp.
    #[activity(name = "machine.suspend")]
    pub fn suspend(_: MachineRef) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Starts a suspended machine and lets it start with its node again. Refuses a machine without our stamp.
    #[activity(name = "machine.resume")]
    pub fn resume(_: MachineRef) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Fits size and disk to the plan in the order's row, with a restart when the machine runs and its size differs. The
    /// disk only grows. Refuses a machine without our stamp.
    #[activity(name = "machine.fit")]
    pub fn fit(_: Fitting) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Destroys the machine, its disks and its firewall rules. Not there is done; not ours is left alone and is an error.
    #[activity(name = "machine.destroy")]
    pub fn destroy(_: MachineRef) -> Result<(), ActivityError> {
        unimplemented!()
    }
}

/// Markers an implementation names with `#[activity(definition = …)]`.
pub mod defs {
    pub use super::machine::{
        Answer, Build, CloneTemplate, Configure, Destroy, Fit, Protect, Resize, Resume, Start, Suspend,
    };
}
