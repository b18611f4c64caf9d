//! A step out of patience waits here until staff retry, skip or abandon it.
//!
//! ```text
//! attempt --ok--> done
//!    | out of patience
//!    v
//!  waiting (search attribute set, staff written to once) --retry--> attempt
//!    |-- skip, with the result by hand --> done
//!    '-- abandon --> the workflow undoes what it promised
//! ```
use contract::{
    attention::{Decision, Verdict, Waiting},
    ledger::{AttentionRaised, AttentionSettled, AttentionSubject, Ledger},
    letter::{LetterInput, LetterKind, LetterSubject},
};
use domain::order::{LATE, Step, StepState};
use temporalio_workflow::{
    ActivityExecutionError, ActivityOptions, WaitConditionOptions, WorkflowCancellationToken, WorkflowContext,
    WorkflowTermination,
    common::{ActivityDefinition, data_converters::TemporalDeserializable},
};

use crate::{
    notify, patience, search,
    wait::{end_task, token_here},
};

/// Who decides what no person decided.
const PORTAL: &str = "system";

/// Why a workflow cannot go on with what it was doing.
#[derive(Debug)]
pub enum Halt {
    /// Staff gave it up.
    Abandoned {
        /// Why, in their words.
        reason: String,
    },
    /// The workflow was cancelled from outside.
    Cancelled,
    /// What was promised was not delivered in time.
    Late,
}

impl Halt {
    /// Why, for the order's row.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Abandoned { reason } => reason,
            Self::Cancelled => "cancelled by an operator".to_owned(),
            Self::Late => LATE.to_owned(),
        }
    }
}

impl From<Halt> for WorkflowTermination {
    fn from(_: Halt) -> Self {
        Self::cancelled()
    }
}

/// What a step gave.
#[derive(Debug)]
pub enum Outcome<T> {
    /// The activity's own answer.
    Ran(T),
    /// Staff did it by hand; what they wrote down.
    ByHand(Option<String>),
}

/// Where a workflow keeps what waits for staff.
#[derive(Debug)]
pub struct Desk {
    subject: AttentionSubject,
    patience_secs: u64,
    may_abandon: bool,
    occurrence: u32,
    waiting: Option<Waiting>,
    decision: Option<Decision>,
    token: Option<WorkflowCancellationToken>,
    /// Whether a step did not succeed at once.
    slow: bool,
    /// The step whose wait for staff was cancelled, until that is written down.
    cancelled: Option<Step>,
}

impl Desk {
    /// An empty desk. `may_abandon` says whether giving up undoes the whole workflow or is refused.
    pub fn new(subject: AttentionSubject, patience_secs: u64, may_abandon: bool) -> Self {
        let (occurrence, slow) = (0, false);
        let (waiting, decision, token, cancelled) = (None, None, None, None);
        Self { subject, patience_secs, may_abandon, occurrence, waiting, decision, token, slow, cancelled }
    }

    /// Goes on counting where an earlier run stopped.
    #[must_use]
    pub fn after(mut self, occurrence: u32) -> Self {
        self.occurrence = occurrence;
        self
    }

    /// How often a step has waited for staff.
    pub fn occurrence(&self) -> u32 {
        self.occurrence
    }

    /// From here on steps run even though the workflow was cancelled, and nothing can be abandoned: for taking back, and
    /// for what was delivered.
    pub fn detach(&mut self) {
        self.token = Some(WorkflowCancellationToken::new());
        self.may_abandon = false;
    }

    /// From here on steps are cancelled by this token, and none has been slow.
    pub(crate) fn cancelled_by(&mut self, token: WorkflowCancellationToken) {
        self.token = Some(token);
        self.slow = false;
    }

    /// Whether a step did not succeed at once.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow
    }

    /// How long a step is tried before it waits for staff, in seconds.
    pub(crate) fn patience_secs(&self) -> u64 {
        self.patience_secs
    }

    /// What steps are cancelled by; nothing means the workflow's own cancellation.
    pub(crate) fn token(&self) -> Option<WorkflowCancellationToken> {
        self.token.clone()
    }

    /// What waits for staff.
    pub fn waiting(&self) -> Option<&Waiting> {
        self.waiting.as_ref()
    }

    /// Says why a decision cannot be taken; nothing when it can.
    pub fn refusal(&self, decision: &Decision) -> Option<&'static str> {
        let Some(waiting) = &self.waiting else {
            return Some("Nothing waits for a decision here; look at the page again.");
        };
        let stale = decision.occurrence.is_some_and(|meant| meant != self.occurrence);
        if waiting.step != decision.step || stale {
            return Some("Another step waits now; look at the page again.");
        }
        if decision.by.trim().is_empty() {
            return Some("Say who decides.");
        }
        if decision.verdict != Verdict::Retry && decision.reason.trim().is_empty() {
            return Some("Write down why.");
        }
        match &decision.verdict {
            Verdict::Retry => None,
            // An instruction is a wish, and can be left undone.
            Verdict::Abandon if self.may_abandon || waiting.step == Step::CarryOut => None,
            Verdict::Abandon => Some("This cannot be given up any more; retry it, or do it by hand and skip it."),
            Verdict::Skip { result } => missing_result(waiting.step, result.as_deref().unwrap_or("").trim()),
        }
    }

    /// Takes a decision; one that is refused is ignored.
    pub fn take(&mut self, decision: Decision) {
        if self.refusal(&decision).is_none() {
            self.decision = Some(decision);
        }
    }
}

/// Says which result a skipped step still owes.
fn missing_result(step: Step, result: &str) -> Option<&'static str> {
    match step {
        Step::Clone if result.parse::<u32>().is_err() => Some("Write the number of the machine you cloned by hand."),
        Step::Checkout if !result.starts_with("cs_") => Some("Write the id of the Checkout Session (cs_…)."),
        Step::Payment if !result.starts_with("sub_") => Some("Write the id of the subscription that paid (sub_…)."),
        Step::Reserve | Step::ReadSubscription | Step::Record | Step::EndSubscription | Step::GatherData => {
            Some("This step cannot be done by hand; retry it.")
        }
        _ => None,
    }
}

/// A workflow whose steps can wait for staff.
pub trait Attended: Sized + 'static {
    /// Its desk.
    fn desk(&self) -> &Desk;
    /// Its desk, to write on.
    fn desk_mut(&mut self) -> &mut Desk;
    /// The word of the stage it is in.
    fn stage(&self) -> &'static str;
}

/// The definition of an activity, lent, so that it can be tried again.
struct Lent<'a, A>(&'a A);

impl<A: ActivityDefinition> ActivityDefinition for Lent<'_, A> {
    type Input = A::Input;
    type Output = A::Output;

    fn name(&self) -> &str {
        self.0.name()
    }
}

/// How an activity is to be run.
pub(crate) type Patience = fn(u64, Option<WorkflowCancellationToken>, &str) -> ActivityOptions;

/// Runs a vendor activity until it succeeds or staff decide otherwise.
pub(crate) async fn attempt<W, A>(
    ctx: &WorkflowContext<W>,
    step: Step,
    activity: A,
    input: A::Input,
    patience: Patience,
) -> Result<Outcome<A::Output>, Halt>
where
    W: Attended,
    A: ActivityDefinition + 'static,
    A::Input: Clone,
    A::Output: TemporalDeserializable,
{
    loop {
        if let Some(outcome) = attempt_once(ctx, step, &activity, input.clone(), patience).await? {
            return Ok(outcome);
        }
    }
}

/// Runs a vendor activity that usually answers at once: first inside the workflow's own task, which costs the engine next
/// to nothing, and if that does not succeed as [`attempt`] does.
pub(crate) async fn attempt_at_once<W, A>(
    ctx: &WorkflowContext<W>,
    step: Step,
    activity: A,
    input: A::Input,
) -> Result<Outcome<A::Output>, Halt>
where
    W: Attended,
    A: ActivityDefinition + 'static,
    A::Input: Clone,
    A::Output: TemporalDeserializable,
{
    let (patience_secs, token) = (ctx.state(|s| s.desk().patience_secs), token_here(ctx));
    let options = patience::at_once(patience_secs, Some(token.clone()), step.title());
    match ctx.execute_local_activity(Lent(&activity), input.clone(), options).await {
        Ok(output) => Ok(Outcome::Ran(output)),
        Err(ActivityExecutionError::Cancelled(_)) => Err(Halt::Cancelled),
        Err(_) => attempt(ctx, step, activity, input, patience::call).await,
    }
}

/// Runs a vendor activity as long as its patience lasts, then asks staff. Gives nothing when they want it tried again, so
/// that the caller can look first whether it is still wanted.
pub(crate) async fn attempt_once<W, A>(
    ctx: &WorkflowContext<W>,
    step: Step,
    activity: &A,
    input: A::Input,
    patience: Patience,
) -> Result<Option<Outcome<A::Output>>, Halt>
where
    W: Attended,
    A: ActivityDefinition + 'static,
    A::Output: TemporalDeserializable,
{
    let patience_secs = ctx.state_mut(|s| {
        s.desk_mut().slow = true;
        s.desk().patience_secs
    });
    let token = token_here(ctx);
    let options = patience(patience_secs, Some(token.clone()), step.title());
    match ctx.execute_activity(Lent(activity), input, options).await {
        Ok(output) => Ok(Some(Outcome::Ran(output))),
        Err(ActivityExecutionError::Cancelled(_)) => Err(Halt::Cancelled),
        Err(error) => match ask(ctx, step, reason(&error)).await? {
            Verdict::Retry => Ok(None),
            Verdict::Skip { result } => Ok(Some(Outcome::ByHand(result))),
            Verdict::Abandon => Err(Halt::Abandoned { reason: reason(&error) }),
        },
    }
}

/// Runs a database activity until it succeeds. One that the database refuses for good waits for staff, who can only retry
/// it (after a repair) or give the whole up.
pub(crate) async fn record<W, A>(ctx: &WorkflowContext<W>, activity: A, input: A::Input) -> Result<A::Output, Halt>
where
    W: Attended,
    A: ActivityDefinition + 'static,
    A::Input: Clone,
    A::Output: TemporalDeserializable,
{
    loop {
        match write(ctx, &activity, input.clone()).await {
            Ok(output) => return Ok(output),
            Err(ActivityExecutionError::Cancelled(_)) => return Err(Halt::Cancelled),
            Err(error) => match ask(ctx, Step::Record, reason(&error)).await? {
                Verdict::Retry | Verdict::Skip { .. } => {}
                Verdict::Abandon => return Err(Halt::Abandoned { reason: reason(&error) }),
            },
        }
    }
}

pub(crate) async fn write<W, A>(
    ctx: &WorkflowContext<W>,
    activity: &A,
    input: A::Input,
) -> Result<A::Output, ActivityExecutionError>
where
    W: Attended,
    A: ActivityDefinition + 'static,
    A::Output: TemporalDeserializable,
{
    let token = token_here(ctx);
    let options = patience::transaction(Some(token.clone()), activity.name());
    ctx.execute_local_activity(Lent(activity), input, options).await
}

/// Makes a step wait for staff, and gives what they decided.
pub(crate) async fn ask<W: Attended>(ctx: &WorkflowContext<W>, step: Step, reason: String) -> Result<Verdict, Halt> {
    let (subject, occurrence, token) = ctx.state_mut(|s| {
        let desk = s.desk_mut();
        desk.occurrence += 1;
        desk.decision = None;
        desk.waiting = Some(Waiting { step, reason: reason.clone() });
        (desk.subject.clone(), desk.occurrence, desk.token.clone())
    });
    search::needs_attention(ctx, true, step.as_str());
    ctx.set_current_details(format!("**{}** waits for staff: {reason}", step.title()));
    let raised = AttentionRaised { subject: subject.clone(), step, reason, occurrence };
    // A database that refuses this entry for good must not hide the step: the search attribute above still shows it.
    let _ = write(ctx, &Ledger::raise_attention, raised).await;
    if let Some(letter) = staff_letter(&subject, occurrence) {
        notify::write_to(ctx, letter).await;
    }

    let options = WaitConditionOptions::builder().maybe_cancellation_token(token).build();
    let waited = ctx.wait_condition_with_options(|s: &W| s.desk().decision.is_some(), options).await;
    let decision = ctx.state_mut(|s| {
        s.desk_mut().waiting = None;
        s.desk_mut().decision.take()
    });
    search::needs_attention(ctx, false, ctx.state(Attended::stage));
    let Some(decision) = decision.filter(|_| waited.is_ok()) else {
        ctx.state_mut(|s| s.desk_mut().cancelled = Some(step));
        return Err(Halt::Cancelled);
    };
    ctx.set_current_details(format!("**{}**: {} decided", step.title(), decision.by));
    // A worker that dies while it writes the decision down takes along what only its task knew: then staff would see that
    // nothing waits, and the workflow would wait for ever. So the decision stands in the history first.
    if ctx.patched("a-decision-is-kept-before-it-is-noted") {
        let _ = end_task(ctx, "the decision is kept").await;
    }
    let verdict = decision.verdict.clone();
    let _ = write(ctx, &Ledger::settle_attention, AttentionSettled { subject, occurrence, decision }).await;
    Ok(verdict)
}

/// Writes down that nobody has to decide any more about a wait that was cancelled, so that staff do not see it for ever.
pub(crate) async fn settle_cancelled<W: Attended>(ctx: &WorkflowContext<W>, reason: &str) {
    let Some(step) = ctx.state_mut(|s| s.desk_mut().cancelled.take()) else { return };
    if !ctx.patched("a-wait-that-is-cancelled-is-settled") {
        return;
    }
    let (subject, occurrence) = ctx.state(|s| (s.desk().subject.clone(), s.desk().occurrence));
    let (by, reason) = (PORTAL.to_owned(), reason.to_owned());
    let decision = Decision { step, occurrence: Some(occurrence), verdict: Verdict::Abandon, by, reason };
    let _ = write(ctx, &Ledger::settle_attention, AttentionSettled { subject, occurrence, decision }).await;
}

/// The letter that tells staff, where there is one.
fn staff_letter(subject: &AttentionSubject, occurrence: u32) -> Option<LetterInput> {
    let (subject, whose) = match subject {
        AttentionSubject::Order(order) => (LetterSubject::Order(*order), order.workflow_id()),
        AttentionSubject::Subscription(id) => (LetterSubject::Subscription(id.clone()), id.workflow_id()),
        // No letter is written about a letter that does not leave. What is asked about data stands on the staff pages.
        AttentionSubject::Letter(_) | AttentionSubject::Export(_) | AttentionSubject::Erasure(_) => return None,
    };
    Some(LetterInput {
        kind: LetterKind::StaffAttention,
        subject,
        service: None,
        occasion: format!("staff_attention/{whose}/{occurrence}"),
        patience_secs: None,
    })
}

/// The words of the innermost cause: what the hands said they were doing, and what the vendor answered.
pub(crate) fn reason(error: &ActivityExecutionError) -> String {
    if let Some(timeout) = error.as_timeout() {
        let last = timeout.cause().map(|cause| format!("; last answer: {cause}")).unwrap_or_default();
        return format!("no success in time ({:?}){last}", timeout.timeout_type());
    }
    error.cause().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Notes how far a step of an order is.
pub(crate) async fn note<W: Attended>(ctx: &WorkflowContext<W>, step: Step, state: StepState) -> Result<(), Halt> {
    let AttentionSubject::Order(order) = ctx.state(|s| s.desk().subject.clone()) else {
        return Ok(());
    };
    show(ctx, step, state);
    record(ctx, Ledger::step, contract::ledger::StepProgress { order, step, state }).await
}

/// Shows operators how far a step is.
pub(crate) fn show<W>(ctx: &WorkflowContext<W>, step: Step, state: StepState) {
    ctx.set_current_details(format!("**{}**: {state}", step.title()));
}
