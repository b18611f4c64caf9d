//! The ledger activities: what is written into our own database. Each is one transaction that may run twice.
#![expect(missing_docs, reason = "the constants that the macro makes of each activity cannot carry a docstring")]
use std::sync::Arc;

use contract::{
    attention::Verdict,
    ledger::{
        AttentionRaised, AttentionSettled, AttentionSubject, ClosedOrder, InstructionNote, Leave, PaidOrder,
        PlanChange, PlanChanged, PlanStage, Removal, Reserved, ServiceChange, ServiceRef, StepProgress,
        SubscriptionMirror, defs,
    },
    letter::{LetterInput, LetterSubject},
    machine::MachineRef,
    order::OrderInput,
};
use domain::{
    ids::{OrderId, ServiceId, SubscriptionId},
    instruction::InstructionState,
};
use store::{
    Allowance, AttentionVerdict, InstructionEnd, NewAttention, NewOrder, NewRemoval, PlanVerdict, QueuedLetter,
    SettledAttention, Store, StoreError,
};
use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};

use crate::fault::Fault;

/// The histogram of seconds from the payment of an order to its delivery.
pub const DELIVERY_METRIC: &str = "ez_order_delivery_duration_seconds";

/// The counter of answers to whether something may be taken away.
pub const LEAVE_METRIC: &str = "ez_removals_asked_total";

/// Writes the ledger.
pub struct LedgerDesk {
    /// Our own database.
    pub store: Store,
    /// How much may be taken away from customers within an hour before staff are asked.
    pub allowance: Allowance,
}

#[activities]
impl LedgerDesk {
    /// Writes the order down and holds node, number and addresses for it, and the place in the entitlement that covers it.
    ///
    /// *Idempotence*: the same order again gives the same answer.
    #[activity(definition = defs::Reserve)]
    pub async fn reserve(self: Arc<Self>, _ctx: ActivityContext, input: OrderInput) -> Result<Reserved, ActivityError> {
        let (order, service) = (input.order, input.service);
        let reserved = self.store.reserve(&new_order(input)).await.map_err(failed)?;
        Ok(answer(order, service, reserved))
    }

    /// Gives up the reserved number, which somebody else uses, and holds another.
    ///
    /// *Idempotence*: an order that holds another number than the one given up keeps it.
    #[activity(definition = defs::Renumber)]
    pub async fn renumber(
        self: Arc<Self>,
        _ctx: ActivityContext,
        machine: MachineRef,
    ) -> Result<Reserved, ActivityError> {
        let reserved = self.store.renumber(machine.order, machine.vmid).await.map_err(failed)?;
        Ok(answer(machine.order, machine.service, reserved))
    }

    /// Holds the number staff cloned by hand instead of the reserved one.
    ///
    /// *Idempotence*: a number held already stays held.
    #[activity(definition = defs::AdoptNumber)]
    pub async fn adopt_number(
        self: Arc<Self>,
        _ctx: ActivityContext,
        machine: MachineRef,
    ) -> Result<(), ActivityError> {
        Ok(self.store.adopt_number(machine.order, machine.vmid).await.map_err(failed)?)
    }

    /// Notes how far a step is.
    ///
    /// *Idempotence*: what was noted stays, and so does the line about it.
    #[activity(definition = defs::NoteStep)]
    pub async fn step(self: Arc<Self>, _ctx: ActivityContext, progress: StepProgress) -> Result<(), ActivityError> {
        Ok(self.store.step(progress.order, progress.step, progress.state).await.map_err(failed)?)
    }

    /// Notes that an order was paid.
    ///
    /// *Idempotence*: an order paid by the same subscription stays as it is.
    #[activity(definition = defs::Paid)]
    pub async fn paid(self: Arc<Self>, _ctx: ActivityContext, paid: PaidOrder) -> Result<(), ActivityError> {
        Ok(self.store.paid(paid.order, &paid.subscription).await.map_err(failed)?)
    }

    /// Notes that an order is delivered.
    ///
    /// *Idempotence*: a delivered order stays as it is.
    #[activity(definition = defs::Delivered)]
    pub async fn delivered(self: Arc<Self>, _ctx: ActivityContext, order: OrderId) -> Result<(), ActivityError> {
        if let Some(secs) = self.store.delivered(order).await.map_err(failed)? {
            metrics::histogram!(DELIVERY_METRIC).record(secs);
        }
        Ok(())
    }

    /// Closes an order that lapsed or was given up, and frees what it held.
    ///
    /// *Idempotence*: a closed order stays as it is.
    #[activity(definition = defs::CloseOrder)]
    pub async fn close_order(self: Arc<Self>, _ctx: ActivityContext, closed: ClosedOrder) -> Result<(), ActivityError> {
        let ClosedOrder { order, status, reason, refunded } = closed;
        Ok(self.store.close_order(order, status, &reason, refunded).await.map_err(failed)?)
    }

    /// Writes a letter down to be sent.
    ///
    /// *Idempotence*: an occasion that is known stays as it is.
    #[activity(definition = defs::QueueLetter)]
    pub async fn queue_letter(
        self: Arc<Self>,
        _ctx: ActivityContext,
        letter: LetterInput,
    ) -> Result<(), ActivityError> {
        Ok(self.store.queue_letter(&queued(letter)).await.map_err(failed)?)
    }

    /// Notes that a step waits for staff.
    ///
    /// *Idempotence*: once for each workflow and occurrence.
    #[activity(definition = defs::RaiseAttention)]
    pub async fn raise_attention(
        self: Arc<Self>,
        _ctx: ActivityContext,
        raised: AttentionRaised,
    ) -> Result<(), ActivityError> {
        self.store.raise_attention(&new_attention(raised)).await.map_err(failed)?;
        Ok(())
    }

    /// Notes what staff decided.
    ///
    /// *Idempotence*: the first decision stays.
    #[activity(definition = defs::SettleAttention)]
    pub async fn settle_attention(
        self: Arc<Self>,
        _ctx: ActivityContext,
        settled: AttentionSettled,
    ) -> Result<(), ActivityError> {
        Ok(self.store.settle_attention(&settled_attention(settled)).await.map_err(failed)?)
    }

    /// Mirrors a subscription for the pages.
    ///
    /// *Idempotence*: the last look counts; a line is written once for each payment and each change.
    #[activity(definition = defs::MirrorSubscription)]
    pub async fn mirror_subscription(
        self: Arc<Self>,
        _ctx: ActivityContext,
        mirror: SubscriptionMirror,
    ) -> Result<(), ActivityError> {
        let SubscriptionMirror { subscription, view, phase, destroy_at, held } = mirror;
        Ok(self.store.mirror_subscription(&subscription, &view, phase, destroy_at, held).await.map_err(failed)?)
    }

    /// Says whether something may be taken away from a customer now, or why not yet.
    ///
    /// *Idempotence*: one row for each occasion; whoever got leave keeps its place in the hour's allowance.
    #[activity(definition = defs::AskLeave)]
    pub async fn ask_leave(self: Arc<Self>, _ctx: ActivityContext, removal: Removal) -> Result<Leave, ActivityError> {
        let kind = removal.kind.as_str();
        let held = self.store.ask_leave(&new_removal(removal), self.allowance).await.map_err(failed)?;
        let answer = held.as_ref().map_or("given", |held| held.by.as_str());
        metrics::counter!(LEAVE_METRIC, "kind" => kind, "answer" => answer).increment(1);
        Ok(held.map_or(Leave::Given, |held| Leave::Held { why: held.why, until: held.until }))
    }

    /// The services a subscription pays for that are not expired or undone. Reads only.
    #[activity(definition = defs::Services)]
    pub async fn services(
        self: Arc<Self>,
        _ctx: ActivityContext,
        subscription: SubscriptionId,
    ) -> Result<Vec<ServiceRef>, ActivityError> {
        let services = self.store.services_of(&subscription).await.map_err(failed)?;
        Ok(services
            .into_iter()
            .map(|found| ServiceRef {
                machine: MachineRef { order: found.order, service: found.service, node: found.node, vmid: found.vmid },
                status: found.status,
                covered: found.covered,
            })
            .collect())
    }

    /// Notes a change in the life of a service.
    ///
    /// *Idempotence*: the status it has already changes nothing.
    #[activity(definition = defs::ChangeService)]
    pub async fn change_service(
        self: Arc<Self>,
        _ctx: ActivityContext,
        change: ServiceChange,
    ) -> Result<(), ActivityError> {
        Ok(self.store.change_service(change.service, change.status, change.destroy_at).await.map_err(failed)?)
    }

    /// Holds the memory of another plan, gives it back, or notes that the plan is charged now.
    ///
    /// *Idempotence*: what is held or noted already stays.
    #[activity(definition = defs::ChangePlan)]
    pub async fn change_plan(
        self: Arc<Self>,
        _ctx: ActivityContext,
        change: PlanChange,
    ) -> Result<PlanChanged, ActivityError> {
        let PlanChange { subscription, price, stage, counts, before } = change;
        let changed = match stage {
            PlanStage::Check => self.store.check_plan(&subscription, &price).await,
            PlanStage::Room => self.store.hold_room_for_plan(&subscription, &price).await,
            PlanStage::GiveBack => self.store.give_room_back(&subscription).await,
            PlanStage::Apply => self.store.apply_plan(&subscription, &price, before.as_deref()).await,
        };
        Ok(match changed.map_err(failed)? {
            PlanVerdict::Done => PlanChanged::Done,
            PlanVerdict::SameSize => PlanChanged::SameSize,
            PlanVerdict::NoRoom => PlanChanged::NoRoom,
            PlanVerdict::TooMany if counts => PlanChanged::TooMany,
            PlanVerdict::Shrinks | PlanVerdict::TooMany => PlanChanged::Shrinks,
            PlanVerdict::Unknown => PlanChanged::Unknown,
        })
    }

    /// Writes an instruction down, or what became of it.
    ///
    /// *Idempotence*: one row for each instruction; what is done or refused stays so.
    #[activity(definition = defs::NoteInstruction)]
    pub async fn note_instruction(
        self: Arc<Self>,
        _ctx: ActivityContext,
        note: InstructionNote,
    ) -> Result<InstructionState, ActivityError> {
        let outcome = note.outcome.map(|outcome| InstructionEnd {
            state: outcome.state,
            words: outcome.words,
            object: outcome.object,
        });
        let noted = self.store.note_instruction(&note.subscription, &note.instruction, outcome.as_ref()).await;
        Ok(noted.map_err(failed)?)
    }
}

fn failed(error: StoreError) -> Fault {
    Fault::from(error)
}

/// The order a workflow was started with, as it is written down.
pub fn new_order(input: OrderInput) -> NewOrder {
    NewOrder {
        order: input.order,
        account: input.account,
        service: input.service,
        plan_slug: input.plan,
        term: input.term,
        currency: input.currency,
        hostname: input.hostname,
        image: input.image,
        sealed_ssh_key: input.sealed_ssh_key,
        trial_days: input.trial_days,
        covered_by: input.covered_by,
    }
}

fn new_removal(removal: Removal) -> NewRemoval {
    NewRemoval {
        subscription: removal.subscription,
        kind: removal.kind,
        occasion: removal.occasion,
        invoice: removal.invoice,
        payment_pending: removal.payment_pending,
        reminders: removal.reminders,
        notice_secs: removal.notice_secs,
        service: removal.service,
    }
}

fn answer(order: OrderId, service: ServiceId, reserved: store::Reserved) -> Reserved {
    match reserved {
        store::Reserved::Held(place) => {
            Reserved::Held(MachineRef { order, service, node: place.node, vmid: place.vmid })
        }
        store::Reserved::SoldOut => Reserved::SoldOut,
    }
}

fn queued(letter: LetterInput) -> QueuedLetter {
    let (user, order, subscription) = match letter.subject {
        LetterSubject::User(user) => (Some(user), None, None),
        LetterSubject::Order(order) => (None, Some(order), None),
        LetterSubject::Subscription(id) => (None, None, Some(id)),
    };
    QueuedLetter {
        occasion: letter.occasion,
        kind: letter.kind.as_str().to_owned(),
        user,
        order,
        subscription,
        service: letter.service,
    }
}

/// The workflow that waits, and what it lives with.
fn subject(subject: AttentionSubject) -> (String, Option<OrderId>, Option<SubscriptionId>) {
    match subject {
        AttentionSubject::Order(order) => (order.workflow_id(), Some(order), None),
        AttentionSubject::Subscription(id) => (id.workflow_id(), None, Some(id)),
        AttentionSubject::Letter(occasion) => (format!("letter-{occasion}"), None, None),
        AttentionSubject::Export(export) => (export.workflow_id(), None, None),
        AttentionSubject::Erasure(erasure) => (erasure.workflow_id(), None, None),
    }
}

fn new_attention(raised: AttentionRaised) -> NewAttention {
    let (workflow_id, order, subscription) = subject(raised.subject);
    NewAttention {
        workflow_id,
        occurrence: raised.occurrence,
        order,
        subscription,
        step: raised.step,
        reason: raised.reason,
    }
}

fn settled_attention(settled: AttentionSettled) -> SettledAttention {
    let (verdict, result) = match settled.decision.verdict {
        Verdict::Retry => (AttentionVerdict::Retry, None),
        Verdict::Skip { result } => (AttentionVerdict::Skip, result),
        Verdict::Abandon => (AttentionVerdict::Abandon, None),
    };
    SettledAttention {
        workflow_id: subject(settled.subject).0,
        occurrence: settled.occurrence,
        verdict,
        result,
        by: settled.decision.by,
        because: settled.decision.reason,
    }
}
