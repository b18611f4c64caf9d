//! One letter: id `letter-<occasion>`, type `letter`.
use contract::{
    attention::{Decision, Verdict, Waiting},
    ledger::AttentionSubject,
    letter::{LetterInput, Mail},
};
use domain::order::Step;
use temporalio_workflow::{
    ActivityExecutionError, SyncWorkflowContext, WorkflowContext, WorkflowContextView, WorkflowResult,
    common::error::IncomingError, workflow, workflow_methods,
};

use crate::{
    attention::{Attended, Desk, ask, reason},
    patience,
    wait::token_here,
};

type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// Hands one letter to the mail server, for days if need be, and then waits for staff.
#[workflow]
pub struct Letter {
    input: LetterInput,
    desk: Desk,
}

impl Attended for Letter {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn desk_mut(&mut self) -> &mut Desk {
        &mut self.desk
    }

    fn stage(&self) -> &'static str {
        self.input.kind.as_str()
    }
}

#[workflow_methods]
impl Letter {
    #[init]
    fn new(_ctx: &WorkflowContextView, input: LetterInput) -> Self {
        let desk = Desk::new(AttentionSubject::Letter(input.occasion.clone()), 0, true);
        Self { input, desk }
    }

    /// Ends when the mail server has the letter, or staff say that it need not. Fails when the server refused it for good;
    /// staff see that among the refused letters.
    #[run(name = "letter")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<()> {
        let input = ctx.state(|s| s.input.clone());
        match ctx.execute_local_activity(Mail::send, input.clone(), patience::letter_at_once(input.patience_secs)).await
        {
            Ok(()) => return Ok(()),
            Err(error) if !may_pass(&error) => return Err(error.into()),
            // A mail server that does not take it at once is asked for days.
            Err(_) => {}
        }
        loop {
            let token = token_here(ctx);
            let patience = patience::letter(input.patience_secs, token.clone());
            let error = match ctx.execute_activity(Mail::send, input.clone(), patience).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !may_pass(&error) || !ctx.patched("a-letter-out-of-patience-waits-for-staff") {
                return Err(error.into());
            }
            match ask(ctx, Step::Notify, reason(&error)).await? {
                Verdict::Retry => {}
                Verdict::Skip { .. } | Verdict::Abandon => return Ok(()),
            }
        }
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

    /// Takes a staff decision about the letter that waits.
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

/// Whether the letter ran out of patience; the other failures are a refusal for good, and a letter nobody wants any more.
fn may_pass(error: &ActivityExecutionError) -> bool {
    match (error, error.cause()) {
        (ActivityExecutionError::Cancelled(_), _) => false,
        (_, Some(IncomingError::Application(failure))) => !failure.is_non_retryable(),
        _ => true,
    }
}
