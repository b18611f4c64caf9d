//! The end of everything about a person: id `erasure-<uuid>`, type `erasure`.
//!
//! ```text
//! asked --not confirmed in time--> over
//!   | confirmed: the account is closed
//!   v
//! waits for the policy's days --taken back--> over
//!   | the days are over
//!   v
//! begin --something lives, money is on its way--> held, looked at again
//!   v
//! Stripe's customer -> our tables -> the last letter -> its address
//! ```
//!
//! What was pressed stands in the row of the erasure, and the row decides: two who press at the same moment are told apart
//! there. The workflow only looks, and acts when the row says that the time has come.
use contract::{
    attention::{Decision, Waiting},
    ledger::AttentionSubject,
    letter::{LetterInput, LetterKind, LetterSubject, Mail},
    privacy::{ErasureBegun, ErasureChanged, ErasureInput, ErasureLook, Privacy},
};
use domain::order::Step;
use temporalio_workflow::{
    ActivityExecutionError, SyncWorkflowContext, WorkflowContext, WorkflowContextView, WorkflowResult, workflow,
    workflow_methods,
};

use crate::{
    attention::{Attended, Desk, Halt, attempt, record},
    patience, search,
    wait::{token_here, wait},
};

/// The stages an operator sees.
const WAITING: &str = "waiting";
const ERASING: &str = "erasing";

type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// One wish that everything about a person goes.
#[workflow]
pub struct Erasure {
    input: ErasureInput,
    desk: Desk,
    changes: u64,
    stage: &'static str,
}

impl Attended for Erasure {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn desk_mut(&mut self) -> &mut Desk {
        &mut self.desk
    }

    fn stage(&self) -> &'static str {
        self.stage
    }
}

#[workflow_methods]
impl Erasure {
    #[init]
    fn new(_ctx: &WorkflowContextView, input: ErasureInput) -> Self {
        let desk = Desk::new(AttentionSubject::Erasure(input.erasure), input.patience_secs, false);
        Self { input, desk, changes: 0, stage: WAITING }
    }

    /// Ends when the wish is over, or everything went that could.
    #[run(name = "erasure")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<()> {
        if Self::is_begun(ctx).await? {
            Self::erase(ctx).await?;
        }
        let handlers = ctx.clone();
        ctx.wait_condition(move |_| handlers.all_handlers_finished()).await?;
        Ok(())
    }

    /// Something was pressed about this erasure: look at its row.
    #[signal(name = "changed")]
    pub fn changed(&mut self, _ctx: &mut SyncWorkflowContext<Self>, _change: ErasureChanged) {
        self.changes += 1;
    }

    /// What waits for staff, if anything.
    #[query(name = "attention")]
    pub fn attention(&self, _ctx: &WorkflowContextView) -> Option<Waiting> {
        self.desk.waiting().cloned()
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
}

impl Erasure {
    /// Waits until the row says that everything may go, or that nothing will.
    async fn is_begun(ctx: &mut WorkflowContext<Self>) -> Result<bool, Halt> {
        let input = ctx.state(|s| s.input);
        loop {
            // Counted before the look: a signal that lands during it leads to another look.
            let seen = ctx.state(|s| s.changes);
            let secs = match record(ctx, Privacy::look, input.erasure).await? {
                ErasureLook::Over => return Ok(false),
                ErasureLook::Waits { secs } => secs,
                ErasureLook::Due => match record(ctx, Privacy::begin, input.erasure).await? {
                    ErasureBegun::Begun => return Ok(true),
                    ErasureBegun::Over => return Ok(false),
                    ErasureBegun::Held { why } => {
                        ctx.set_current_details(format!("held: {why}"));
                        input.poll_secs
                    }
                },
            };
            let secs = secs.min(input.poll_secs).max(1);
            wait(ctx, secs, "look at the erasure", move |s: &Self| s.changes != seen).await?;
        }
    }

    /// Removes what can go, and says in a last letter what stays.
    async fn erase(ctx: &mut WorkflowContext<Self>) -> Result<(), Halt> {
        let input = ctx.state_mut(|s| {
            s.stage = ERASING;
            s.input
        });
        search::stage(ctx, ERASING);
        attempt(ctx, Step::ForgetCustomer, Privacy::forget_customer, input.erasure, patience::call).await?;
        record(ctx, Privacy::erase, input.erasure).await?;
        let letter = LetterInput {
            kind: LetterKind::ErasureDone,
            subject: LetterSubject::User(input.user),
            service: None,
            occasion: format!("erasure_done/{}", input.erasure),
            patience_secs: None,
        };
        let token = token_here(ctx);
        // A letter that cannot leave is no reason to keep where it would have gone: the staff page says the same.
        if let Err(ActivityExecutionError::Cancelled(_)) =
            ctx.execute_activity(Mail::send, letter, patience::letter(None, token.clone())).await
        {
            return Err(Halt::Cancelled);
        }
        record(ctx, Privacy::finish, input.erasure).await
    }
}
