//! One letter: id `letter-<occasion>`, type `letter`.
use contract::letter::{LetterInput, Mail};
use temporalio_workflow::{WorkflowContext, WorkflowContextView, WorkflowResult, workflow, workflow_methods};

use crate::patience;

/// Hands one letter to the mail server, for days if need be.
#[workflow]
pub struct Letter {
    input: LetterInput,
}

#[workflow_methods]
impl Letter {
    #[init]
    fn new(_ctx: &WorkflowContextView, input: LetterInput) -> Self {
        Self { input }
    }

    /// Ends when the mail server has the letter; fails when it refused it for good or did not take it for days.
    #[run(name = "letter")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<()> {
        let input = ctx.state(|s| s.input.clone());
        ctx.execute_activity(Mail::send, input, patience::letter()).await?;
        Ok(())
    }
}
