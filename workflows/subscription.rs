//! The subscription workflow: an entity that lives for years.
//!
//! Each signal only says "look": it reads the subscription at Stripe, asks [`domain::billing::decide`] for the one next
//! act, does it, and looks again. So the order and the number of events do not matter, and a lost one is made up for by
//! the next look.
use core::convert::Infallible;

use contract::{
    attention::{Decision, Waiting},
    ledger::{AttentionSubject, InstructionNote, Ledger, ServiceRef, SubscriptionMirror},
    payment::Payment,
    subscription::{Outlook, StripeChanged, SubscriptionInput, ToldAgain},
};
use domain::instruction::{Instruction, WAITING_MAX};
use domain::{
    UnixSecs,
    billing::{Act, Changing, Leaving, Next, Phase, Standing, SubscriptionView, decide, kept_by_a_payment},
    ids::{ServiceId, SubscriptionId},
    order::Step,
    policy::SubscriptionPolicy,
    service::ServiceStatus,
};
use temporalio_workflow::{
    ContinueAsNewOptions, SyncWorkflowContext, WorkflowContext, WorkflowContextView, WorkflowResult, workflow,
    workflow_methods,
};

use crate::{
    attention::{Attended, Desk, Halt, Outcome, attempt_at_once, record, write},
    expire, instructions, leave, plan, remove, renew, search, suspend,
    wait::{LongWait, now, wait},
};

/// A run is followed by a fresh one at this many events, well before the server warns (10,240).
const HISTORY_LIMIT_EVENTS: u32 = 4_000;

type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// One subscription, for as long as it lives.
#[workflow]
pub struct Subscription {
    life: SubscriptionInput,
    desk: Desk,
    heard: u64,
    seen: Option<SubscriptionView>,
    building: LongWait,
    held: LongWait,
}

impl Subscription {
    /// Where the subscription stands.
    pub(crate) fn standing_ref(&self) -> &Standing {
        &self.life.standing
    }
}

/// What people told it to do.
impl Subscription {
    /// Which subscription it is.
    pub(crate) fn id(&self) -> SubscriptionId {
        self.life.subscription.clone()
    }

    /// What is to be done next.
    pub(crate) fn told_first(&self) -> Option<Instruction> {
        self.life.told.first().cloned()
    }

    /// Takes an instruction off the list.
    pub(crate) fn told_over(&mut self, instruction: &Instruction) {
        self.life.told.retain(|told| told.id != instruction.id);
    }

    /// Whether it was told this and has not done it yet, or waits until it can be done.
    fn has_to_do(&self, instruction: &Instruction) -> bool {
        let changes = self.life.standing.changing.iter().map(|changing| &changing.instruction);
        let goes = self.life.standing.leaving.iter().filter(|leaving| leaving.stopped_at.is_none());
        self.life
            .told
            .iter()
            .chain(changes)
            .chain(goes.map(|leaving| &leaving.instruction))
            .any(|told| told.id == instruction.id)
    }

    /// Whether another price is charged than the machine was fitted to.
    fn is_repriced(&self, view: &SubscriptionView) -> bool {
        view.price.is_some() && self.life.standing.price.is_some() && view.price != self.life.standing.price
    }

    /// Keeps what Stripe said last. The first price seen is the one the machine was built for.
    fn saw(&mut self, view: &SubscriptionView) {
        if self.life.standing.price.is_none() {
            self.life.standing.price.clone_from(&view.price);
        }
        self.seen = Some(view.clone());
    }

    /// How often it was told to look.
    pub(crate) fn heard(&self) -> u64 {
        self.heard
    }

    /// Its wait for an order that is still being built.
    pub(crate) fn building(&mut self) -> &mut LongWait {
        &mut self.building
    }

    /// Notes that a change of plan waits for its payment.
    pub(crate) fn change_waits(&mut self, changing: Changing) {
        self.life.standing.changing = Some(changing);
    }

    /// Notes that the customer does not want the change any more that waits.
    pub(crate) fn change_taken_back(&mut self) {
        if let Some(changing) = self.life.standing.changing.as_mut() {
            changing.taken_back = true;
        }
    }

    /// Notes that its customer takes a further server away.
    pub(crate) fn leaves(&mut self, leaving: Leaving) {
        self.life.standing.leaving.push(leaving);
    }

    /// Notes that a server stays after all.
    pub(crate) fn stays(&mut self, service: ServiceId) {
        self.life.standing.leaving.retain(|leaving| leaving.service != service);
    }

    /// Until when staff hold what takes something away.
    pub(crate) fn hold_until(&mut self, until: Option<UnixSecs>) {
        self.life.standing.hold_until = until;
    }

    /// How patient it is.
    pub(crate) fn policy(&self) -> SubscriptionPolicy {
        self.life.policy.clone()
    }

    /// Its wait for leave to take something away.
    pub(crate) fn held(&mut self) -> &mut LongWait {
        &mut self.held
    }

    /// Notes that a machine stopped at the end runs again.
    pub(crate) fn restored(&mut self, now: UnixSecs) {
        self.life.standing = Standing { restored_at: Some(now), ..self.life.standing.clone().after(&Act::Resume, now) };
    }
}

impl Attended for Subscription {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn desk_mut(&mut self) -> &mut Desk {
        &mut self.desk
    }

    fn stage(&self) -> &'static str {
        self.life.standing.phase.as_str()
    }
}

/// What a look led to.
enum Look {
    /// Nothing more to do before this time.
    Settled(UnixSecs),
    /// Look at Stripe again before the next act.
    Again,
    /// The life is over.
    Over,
}

/// What became of an act.
enum Performed {
    /// It is done.
    Done,
    /// It is done, and this is what Stripe says now.
    Saw(Box<SubscriptionView>),
    /// It is not done; look at Stripe first whether it is still wanted.
    LookFirst,
}

#[workflow_methods]
impl Subscription {
    #[init]
    fn new(_ctx: &WorkflowContextView, life: SubscriptionInput) -> Self {
        let subject = AttentionSubject::Subscription(life.subscription.clone());
        let desk = Desk::new(subject, life.policy.step_patience_secs, false).after(life.attention_raised);
        Self { life, desk, heard: 0, seen: None, building: LongWait::default(), held: LongWait::default() }
    }

    /// Ends when the subscription's services are gone.
    #[run(name = "subscription")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<()> {
        loop {
            // Counted before the look: a signal that lands during it leads to another look.
            let heard = ctx.state(|s| s.heard);
            instructions::carry_out(ctx).await?;
            match Self::look(ctx).await? {
                Look::Over => {
                    instructions::refuse(ctx, "The subscription is over.").await?;
                    let handlers = ctx.clone();
                    ctx.wait_condition(move |_| handlers.all_handlers_finished()).await?;
                    return Ok(());
                }
                Look::Again => {
                    // A run of an earlier release was followed only when nothing was due.
                    if Self::is_long(ctx) && ctx.patched("a-run-that-never-settles-is-followed") {
                        Self::follow(ctx).await?;
                    }
                }
                Look::Settled(until) => {
                    if Self::is_long(ctx) {
                        Self::follow(ctx).await?;
                    }
                    let left_secs = (until - now(ctx)).max(1);
                    wait(ctx, left_secs, "look at the subscription", move |s: &Self| s.heard != heard).await?;
                }
            }
        }
    }

    /// Something happened to this subscription at Stripe: look there.
    #[signal(name = "stripe_changed")]
    pub fn stripe_changed(&mut self, _ctx: &mut SyncWorkflowContext<Self>, _change: StripeChanged) {
        self.heard += 1;
    }

    /// What waits for staff, if anything.
    #[query(name = "attention")]
    pub fn attention(&self, _ctx: &WorkflowContextView) -> Option<Waiting> {
        self.desk.waiting().cloned()
    }

    /// Where the subscription stands.
    #[query(name = "standing")]
    pub fn standing(&self, _ctx: &WorkflowContextView) -> Standing {
        self.life.standing.clone()
    }

    /// What the next thing to do is decided by.
    #[query(name = "outlook")]
    pub fn outlook(&self, _ctx: &WorkflowContextView) -> Outlook {
        let (standing, policy) = (self.life.standing.clone(), self.life.policy.clone());
        Outlook { standing, policy, seen: self.seen.clone() }
    }

    /// Refuses a decision that does not fit what waits.
    #[update_validator(decide)]
    fn check_decision(&self, _ctx: &WorkflowContextView, decision: &Decision) -> Result<(), Refusal> {
        self.desk.refusal(decision).map_or(Ok(()), |why| Err(why.into()))
    }

    /// Takes a staff decision about the step that waits.
    #[update(name = "decide")]
    pub fn decide(&mut self, _ctx: &mut SyncWorkflowContext<Self>, decision: Decision) {
        self.desk.take(decision);
    }

    /// The same as a signal, for Temporal UI; one that does not fit what waits is ignored.
    #[signal(name = "decided")]
    pub fn decided(&mut self, _ctx: &mut SyncWorkflowContext<Self>, decision: Decision) {
        self.desk.take(decision);
    }

    /// Refuses what can never be done.
    #[update_validator(instruct)]
    fn check_instruction(&self, _ctx: &WorkflowContextView, instruction: &Instruction) -> Result<(), Refusal> {
        if self.life.standing.phase == Phase::Expired {
            return Err("This subscription is over.".into());
        }
        if self.life.told.len() >= WAITING_MAX {
            return Err("Too much waits to be done here already; try again later.".into());
        }
        instruction.fault(None).map_or(Ok(()), |why| Err(why.into()))
    }

    /// Takes what a person wants done. Answers when it is written down; what became of it stands in its row.
    #[update(name = "instruct")]
    pub async fn instruct(ctx: &mut WorkflowContext<Self>, instruction: Instruction) -> Result<(), Refusal> {
        let note = ctx.state_mut(|s| {
            if s.life.told.iter().all(|told| told.id != instruction.id) {
                s.life.told.push(instruction.clone());
            }
            InstructionNote { subscription: s.id(), instruction, outcome: None }
        });
        // On the page before the answer is. Refused or lost, it is written down once more when it is carried out.
        let _ = write(ctx, &Ledger::note_instruction, note).await;
        ctx.state_mut(|s| s.heard += 1);
        Ok(())
    }

    /// Takes what it was told before and nobody said what became of, and says whether it knew of it.
    #[update(name = "instruct_again")]
    pub fn instruct_again(&mut self, _ctx: &mut SyncWorkflowContext<Self>, again: ToldAgain) -> bool {
        let ToldAgain { instruction, carry_on } = again;
        let known = self.has_to_do(&instruction);
        if !known && carry_on && self.life.told.len() < WAITING_MAX {
            self.life.told.push(instruction);
            self.heard += 1;
        }
        known
    }

    fn is_long(ctx: &WorkflowContext<Self>) -> bool {
        ctx.history_length() >= HISTORY_LIMIT_EVENTS || ctx.continue_as_new_suggested()
    }

    /// Ends this run, so that a fresh one follows. That begins with a look, so a signal that lands meanwhile is not lost.
    async fn follow(ctx: &WorkflowContext<Self>) -> WorkflowResult<Infallible> {
        let handlers = ctx.clone();
        ctx.wait_condition(move |_| handlers.all_handlers_finished()).await?;
        let mut life = ctx.state(|s| s.life.clone());
        life.attention_raised = ctx.state(|s| s.desk.occurrence());
        ctx.continue_as_new(life, ContinueAsNewOptions::default())
    }

    /// Reads the subscription and does what is due.
    async fn look(ctx: &WorkflowContext<Self>) -> Result<Look, Halt> {
        let id = ctx.state(|s| s.life.subscription.clone());
        let read = attempt_at_once(ctx, Step::ReadSubscription, Payment::read_subscription, id.clone()).await?;
        let Outcome::Ran(mut view) = read else { return Ok(Look::Again) };
        let mut fresh = true;
        let mut mirrored = None;
        loop {
            if let Some(open) = view.open_invoice.as_mut().filter(|open| open.needs_confirmation) {
                // A worker of the release before may have read this already, and asked for nothing.
                open.needs_confirmation = ctx.patched("a-payment-to-confirm-is-asked-for");
            }
            if ctx.state(|s| s.is_repriced(&view)) && !ctx.patched("a-price-that-changed-is-fitted") {
                // So may it have done with another price.
                view.price = None;
            }
            ctx.state_mut(|s| s.saw(&view));
            let (standing, policy) = ctx.state(|s| (s.life.standing.clone(), s.policy()));
            let mut only_building = false;
            let act = match decide(&standing, &view, &policy, now(ctx)) {
                Next::Over => return Ok(Look::Over),
                Next::WaitUntil(at) => {
                    let held = match kept_by_a_payment(&standing, &view, &policy, now(ctx)) {
                        Some(act) => leave::held_until(ctx, &act, &view).await?.is_some(),
                        None => false,
                    };
                    Self::mirror(ctx, &view, held, &mut mirrored).await?;
                    let late = suspend::late_ones(ctx, &id, &view, fresh).await?;
                    return Ok(if late { Look::Again } else { Look::Settled(at) });
                }
                Next::Do(Act::Retain) if view.status.has_ended() => {
                    let left = services(ctx, &id).await?;
                    only_building = left.iter().all(|service| service.status == ServiceStatus::Provisioning);
                    // Its order was given up, and there is nothing to keep.
                    if left.is_empty() { Act::Expire } else { Act::Retain }
                }
                Next::Do(act) => act,
            };
            // What a person told meanwhile comes first: it may be a hold.
            let told = ctx.state(|s| !s.life.told.is_empty());
            if act.takes_away() && (told || !fresh) {
                return Ok(Look::Again);
            }
            // What is not there yet takes no place in the hour's allowance, and may never be there.
            if only_building && act == Act::Retain && ctx.patched("what-is-being-built-asks-for-no-leave") {
                suspend::building(ctx).await?;
                return Ok(Look::Again);
            }
            if let Some(at) = leave::held_until(ctx, &act, &view).await? {
                Self::mirror(ctx, &view, true, &mut mirrored).await?;
                return Ok(Look::Settled(at));
            }
            match Self::perform(ctx, &act, &view).await? {
                Performed::Done => fresh = false,
                Performed::Saw(newer) => view = *newer,
                Performed::LookFirst => return Ok(Look::Again),
            }
            let at = now(ctx);
            ctx.state_mut(|s| s.life.standing = s.life.standing.clone().after(&act, at));
            let stage = ctx.state(Attended::stage);
            if stage != standing.phase.as_str() {
                search::stage(ctx, stage);
            }
            Self::mirror(ctx, &view, false, &mut mirrored).await?;
        }
    }

    /// Does one act.
    async fn perform(ctx: &WorkflowContext<Self>, act: &Act, view: &SubscriptionView) -> Result<Performed, Halt> {
        let id = ctx.state(|s| s.life.subscription.clone());
        let done = match act {
            Act::NoteOverdue { .. } | Act::NotePaid => true,
            Act::Receipt { invoice } => renew::receipt(ctx, &id, invoice).await?,
            Act::Reprice { price } => plan::reprice(ctx, &id, price).await?,
            Act::AskToConfirmChange => plan::ask_to_confirm(ctx, &id).await?,
            Act::SettleChange => plan::settle(ctx, view).await?,
            Act::GiveChangeUp => plan::give_up(ctx, &id, view).await?,
            Act::AskToConfirm { invoice } => renew::ask_to_confirm(ctx, &id, invoice).await?,
            Act::Remind { invoice, number } => renew::remind(ctx, &id, invoice, *number).await?,
            Act::WarnOfTrialEnd { until } => renew::warn_of_trial_end(ctx, &id, *until).await?,
            Act::WarnOfEnd { period_end } => renew::warn_of_end(ctx, &id, *period_end).await?,
            Act::Suspend { invoice } => suspend::suspend(ctx, &id, invoice).await?,
            Act::Resume => suspend::resume(ctx, &id).await?,
            Act::Retain => expire::retain(ctx, &id, view.period_end).await?,
            Act::WarnOfDestruction { destroy_at } => expire::warn(ctx, &id, *destroy_at).await?,
            Act::SetServerAside { service } => remove::set_aside(ctx, &id, *service).await?,
            Act::DestroyServer { service } => remove::destroy(ctx, &id, *service).await?,
            Act::EndSubscription => {
                return expire::end_subscription(ctx, id).await.map(|view| Performed::Saw(Box::new(view)));
            }
            Act::Expire => expire::expire(ctx, &id).await?,
        };
        Ok(if done { Performed::Done } else { Performed::LookFirst })
    }

    /// Mirrors what is known for the pages, unless this look has mirrored the same already.
    async fn mirror(
        ctx: &WorkflowContext<Self>,
        view: &SubscriptionView,
        held: bool,
        mirrored: &mut Option<SubscriptionMirror>,
    ) -> Result<(), Halt> {
        let (id, standing, policy) =
            ctx.state(|s| (s.life.subscription.clone(), s.life.standing.clone(), s.life.policy.clone()));
        let destroy_at = Some(&standing)
            .filter(|standing| standing.phase == Phase::Retained)
            .and_then(|standing| standing.destroy_at(&policy));
        let mirror =
            SubscriptionMirror { subscription: id, view: view.clone(), phase: standing.phase, destroy_at, held };
        if mirrored.as_ref() == Some(&mirror) {
            return Ok(());
        }
        record(ctx, Ledger::mirror_subscription, mirror.clone()).await?;
        *mirrored = Some(mirror);
        Ok(())
    }
}

/// The services a subscription pays for.
pub(crate) async fn services(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
) -> Result<Vec<ServiceRef>, Halt> {
    record(ctx, Ledger::services, id.clone()).await
}
