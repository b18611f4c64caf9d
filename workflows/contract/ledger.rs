//! The ledger activities: what is written into our own database. They run as local activities.
use alloc::{string::String, vec::Vec};
use domain::{
    UnixSecs,
    billing::{Phase, SubscriptionView},
    ids::{ErasureId, ExportId, OrderId, ServiceId, SubscriptionId},
    instruction::{Instruction, InstructionState},
    order::{OrderStatus, Step, StepState},
    removal::RemovalKind,
    service::ServiceStatus,
};
use serde::{Deserialize, Serialize};
use temporalio_common::ActivityError;
use temporalio_macros::activity_definitions;

use crate::{attention::Decision, letter::LetterInput, machine::MachineRef, order::OrderInput};

/// What became of an attempt to reserve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reserved {
    /// Node, number and addresses are held for the order.
    Held(MachineRef),
    /// Nothing was free.
    SoldOut,
}

/// A payment that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaidOrder {
    /// Which order.
    pub order: OrderId,
    /// The subscription that pays for it.
    pub subscription: SubscriptionId,
}

/// How far one step of an order is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepProgress {
    /// Which order.
    pub order: OrderId,
    /// Which step; every earlier step that was running is done.
    pub step: Step,
    /// How far.
    pub state: StepState,
}

/// The end of an order without a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedOrder {
    /// Which order.
    pub order: OrderId,
    /// `lapsed` or `abandoned`.
    pub status: OrderStatus,
    /// Why, for the timeline.
    pub reason: String,
    /// Whether money went back, although the order may never have heard that it was paid.
    #[serde(default)]
    pub refunded: bool,
}

/// Whose step waits for staff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttentionSubject {
    /// An order's.
    Order(OrderId),
    /// A subscription's.
    Subscription(SubscriptionId),
    /// The letter's of this occasion.
    Letter(String),
    /// A copy of somebody's data.
    Export(ExportId),
    /// The end of somebody's data.
    Erasure(ErasureId),
}

/// A step that ran out of patience.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttentionRaised {
    /// Whose.
    pub subject: AttentionSubject,
    /// Which step.
    pub step: Step,
    /// Why.
    pub reason: String,
    /// Which time it is for this workflow, from 1: the same number twice is the same waiting.
    pub occurrence: u32,
}

/// What staff decided about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttentionSettled {
    /// Whose.
    pub subject: AttentionSubject,
    /// The number it was raised with.
    pub occurrence: u32,
    /// The decision, with who and why.
    pub decision: Decision,
}

/// What Stripe said about a subscription, and where we stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionMirror {
    /// Which subscription.
    pub subscription: SubscriptionId,
    /// What Stripe said.
    pub view: SubscriptionView,
    /// Our phase.
    pub phase: Phase,
    /// When the machine will be destroyed, if it will.
    pub destroy_at: Option<UnixSecs>,
    /// Whether something that is due is held back just now.
    #[serde(default)]
    pub held: bool,
}

/// Something that is about to be taken away from a customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// By which subscription.
    pub subscription: SubscriptionId,
    /// What.
    pub kind: RemovalKind,
    /// What makes it this one and no other: asked again, it is the same.
    pub occasion: String,
    /// The unpaid invoice it is for (`in_…`), where it is for one.
    pub invoice: Option<String>,
    /// Whether a payment of that invoice is on its way.
    pub payment_pending: bool,
    /// How many reminders of that invoice the mail server has to have.
    pub reminders: u32,
    /// How long it has to have had the last notice, in seconds.
    pub notice_secs: i64,
    /// The one server it takes away, where its customer wants only that.
    #[serde(default)]
    pub service: Option<ServiceId>,
}

/// Whether something may be taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leave {
    /// It may, now.
    Given,
    /// It may not yet.
    Held {
        /// Why, in a sentence.
        why: String,
        /// When that is over by itself, where it is known.
        until: Option<UnixSecs>,
    },
}

/// A service that a subscription pays for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRef {
    /// Its machine, and its own id as the stamp.
    pub machine: MachineRef,
    /// Where it is in its life.
    pub status: ServiceStatus,
    /// Whether it is covered beside the one that is paid for.
    #[serde(default)]
    pub covered: bool,
}

/// A change in the life of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChange {
    /// Which service.
    pub service: ServiceId,
    /// Its new status. `expired` also returns its addresses, its machine's number and its entitlement.
    pub status: ServiceStatus,
    /// When it is destroyed because its customer takes it away; nothing when they do not.
    #[serde(default)]
    pub destroy_at: Option<UnixSecs>,
}

/// An instruction, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstructionNote {
    /// Of which subscription.
    pub subscription: SubscriptionId,
    /// The instruction.
    pub instruction: Instruction,
    /// What became of it; nothing while it waits.
    pub outcome: Option<InstructionOutcome>,
}

/// What became of an instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstructionOutcome {
    /// Done or refused.
    pub state: InstructionState,
    /// Why it was refused, or who did it by hand.
    pub words: Option<String>,
    /// What it made at Stripe.
    pub object: Option<String>,
}

/// What is to be done about another price of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlanStage {
    /// Say only whether a machine can become what its plan is.
    Check,
    /// Hold the memory its plan needs, before anything is charged.
    Room,
    /// Hold only what the plan needs that the machine was last fitted to.
    GiveBack,
    /// It is charged: note it.
    Apply,
}

/// Another price of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanChange {
    /// Which subscription.
    pub subscription: SubscriptionId,
    /// The price at Stripe (`price_…`).
    pub price: String,
    /// What is to be done.
    pub stage: PlanStage,
    /// Whether the asker understands [`PlanChanged::TooMany`].
    #[serde(default)]
    pub counts: bool,
    /// The price the machine was fitted to before (`price_…`), where that is known.
    #[serde(default)]
    pub before: Option<String>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlanChanged {
    /// Done.
    Done,
    /// Done, and the machine is as large as before: only how often it is paid is another.
    SameSize,
    /// The node of a machine has not enough memory left.
    NoRoom,
    /// A disk would have to shrink.
    Shrinks,
    /// It covers fewer services than there are. Only for an asker that says it understands this.
    TooMany,
    /// No plan of ours has that price.
    Unknown,
}

/// The ledger activities. Each is one database transaction, and writes its own timeline entry.
pub struct Ledger;

#[activity_definitions]
impl Ledger {
    /// Writes the order down and holds node, number and addresses for it, in one transaction; its payment page is the next
    /// step. One that a subscription covers holds a place in its entitlement, too, and is built next. The same order again
    /// gives the same answer.
    #[activity(name = "ledger.reserve")]
    pub fn reserve(_: OrderInput) -> Result<Reserved, ActivityError> {
        unimplemented!()
    }

    /// Gives up the reserved number, which somebody else uses, and holds another. `SoldOut` when none is left.
    #[activity(name = "ledger.renumber")]
    pub fn renumber(_: MachineRef) -> Result<Reserved, ActivityError> {
        unimplemented!()
    }

    /// Holds the number staff cloned by hand instead of the reserved one.
    #[activity(name = "ledger.adopt_number")]
    pub fn adopt_number(_: MachineRef) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Notes how far a step is.
    #[activity(name = "ledger.step")]
    pub fn step(_: StepProgress) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Notes that an order was paid: its subscription, its entitlement and its service are there from now on.
    #[activity(name = "ledger.paid")]
    pub fn paid(_: PaidOrder) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Notes that an order is delivered: its service runs, and the letter that says so waits to be sent.
    #[activity(name = "ledger.delivered")]
    pub fn delivered(_: OrderId) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Closes an order that lapsed or was given up, and frees what it held.
    #[activity(name = "ledger.close_order")]
    pub fn close_order(_: ClosedOrder) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Writes a letter down to be sent, once for each occasion.
    #[activity(name = "ledger.queue_letter")]
    pub fn queue_letter(_: LetterInput) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Notes that a step waits for staff.
    #[activity(name = "ledger.raise_attention")]
    pub fn raise_attention(_: AttentionRaised) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Notes what staff decided.
    #[activity(name = "ledger.settle_attention")]
    pub fn settle_attention(_: AttentionSettled) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Mirrors a subscription for the pages.
    #[activity(name = "ledger.mirror_subscription")]
    pub fn mirror_subscription(_: SubscriptionMirror) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// The services a subscription pays for that are not expired or undone.
    #[activity(name = "ledger.services")]
    pub fn services(_: SubscriptionId) -> Result<Vec<ServiceRef>, ActivityError> {
        unimplemented!()
    }

    /// Notes a change in the life of a service.
    #[activity(name = "ledger.change_service")]
    pub fn change_service(_: ServiceChange) -> Result<(), ActivityError> {
        unimplemented!()
    }

    /// Says whether something may be taken away from a customer now, or why not yet; the pages show that. Whoever got leave
    /// once keeps its place in the hour's allowance.
    #[activity(name = "ledger.ask_leave")]
    pub fn ask_leave(_: Removal) -> Result<Leave, ActivityError> {
        unimplemented!()
    }

    /// Holds the memory of another plan, gives it back, or notes that the plan is charged now.
    #[activity(name = "ledger.change_plan")]
    pub fn change_plan(_: PlanChange) -> Result<PlanChanged, ActivityError> {
        unimplemented!()
    }

    /// Writes an instruction down, or what became of it. Gives how far it is; what is done or refused stays so.
    #[activity(name = "ledger.note_instruction")]
    pub fn note_instruction(_: InstructionNote) -> Result<InstructionState, ActivityError> {
        unimplemented!()
    }
}

/// Markers an implementation names with `#[activity(definition = …)]`.
pub mod defs {
    pub use super::ledger::{
        AdoptNumber, AskLeave, ChangePlan, ChangeService, CloseOrder, Delivered, MirrorSubscription, NoteInstruction,
        Paid, QueueLetter, RaiseAttention, Renumber, Reserve, Services, SettleAttention, Step as NoteStep,
    };
}
