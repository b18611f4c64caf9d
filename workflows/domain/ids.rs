//! Identities. Each exists before the act it names, so that an act repeated can find its first try.
use alloc::{format, string::String};
use core::fmt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl core::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// Who buys: the billing party.
    AccountId
);
uuid_id!(
    /// A person who logs in.
    UserId
);
uuid_id!(
    /// One request for one service.
    OrderId
);
uuid_id!(
    /// One delivered thing. Its text form is the owner stamp written into the virtual machine.
    ServiceId
);
uuid_id!(
    /// One step that ran out of patience and waits for staff.
    AttentionId
);

uuid_id!(
    /// One thing a person told a subscription to do.
    InstructionId
);
uuid_id!(
    /// One copy of everything about a person, which they asked for.
    ExportId
);
uuid_id!(
    /// One wish of a person that everything about them goes.
    ErasureId
);

impl ExportId {
    /// The id of the workflow that makes the copy.
    pub fn workflow_id(self) -> String {
        format!("export-{self}")
    }
}

impl ErasureId {
    /// The id of the workflow that lives with the wish; also the first part of every idempotency key it uses.
    pub fn workflow_id(self) -> String {
        format!("erasure-{self}")
    }
}

impl OrderId {
    /// The id of the workflow that lives with this order; also the first part of every idempotency key it uses.
    pub fn workflow_id(self) -> String {
        format!("order-{self}")
    }
}

/// The id of one Stripe subscription (`sub_…`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubscriptionId(pub String);

impl SubscriptionId {
    /// The id of the workflow that lives with this subscription.
    pub fn workflow_id(&self) -> String {
        format!("subscription-{}", self.0)
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a virtual machine, unique over a whole Proxmox cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Vmid(pub u32);

impl fmt::Display for Vmid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
