//! One round, started by a schedule: type `round`. It may fail; then staff see it by its age, and the next one does it all.
use contract::round::{RoundInput, Rounds};
use temporalio_workflow::{WorkflowContext, WorkflowContextView, WorkflowResult, workflow, workflow_methods};

use crate::patience;

/// Goes through Stripe's events, or compares what lives with Stripe, once.
#[workflow]
pub struct Round {
    input: RoundInput,
}

#[workflow_methods]
impl Round {
    #[init]
    fn new(_ctx: &WorkflowContextView, input: RoundInput) -> Self {
        Self { input }
    }

    /// Ends when the round is finished.
    #[run(name = "round")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<()> {
        let input = ctx.state(|s| s.input);
        let found = match input {
            RoundInput::Events { .. } => {
                ctx.execute_activity(Rounds::events, input, patience::round("find events nobody told")).await?
            }
            RoundInput::Comparison { .. } => {
                ctx.execute_activity(Rounds::compare, input, patience::round("compare what lives with Stripe")).await?
            }
        };
        ctx.set_current_details(format!("seen {}, found {}", found.seen, found.found));
        Ok(())
    }
}
