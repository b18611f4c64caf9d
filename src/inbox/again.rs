//! What a subscription was told and nobody said what became of: its workflow is asked whether it knows of it, and does it if
//! not. What may not be wanted any more, or whose subscription is over, comes to its end.
use std::time::Duration;

use contract::subscription::ToldAgain;
use domain::{billing::Phase, ids::InstructionId};
use store::{DueEvent, OpenInstruction, StoreError};
use temporalio_client::{WorkflowExecuteUpdateOptions, errors::WorkflowUpdateError};
use workflows::subscription::Subscription;

use super::{Driven, Inbox, chain};

/// How long a workflow may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the differences begin with that are about an instruction.
const ABOUT: &str = "difference/instruction/";

const OVER: &str = "The subscription is over.";
const OVERTAKEN: &str =
    "It was lost on our side, and something else was done since. Ask for it again if it is still wanted.";

/// The instruction that an event is about.
pub(super) fn instruction_of(event: &DueEvent) -> Option<InstructionId> {
    event.id.strip_prefix(ABOUT)?.split('/').next()?.parse().ok()
}

impl Inbox {
    /// Gives an instruction to the workflow again, or ends it.
    pub(super) async fn tell_again(&self, id: InstructionId, event: &DueEvent) -> Result<Driven, StoreError> {
        let open = match self.store.open_instruction(id).await {
            Ok(Some(open)) => open,
            Ok(None) => return Ok(Driven::Handled),
            Err(StoreError::Corrupt { .. }) => {
                return Ok(Driven::NobodyYet("what it was told cannot be read any more"));
            }
            Err(fault) => return Err(fault),
        };
        let OpenInstruction { subscription, instruction, overtaken } = open;
        let handle = self.temporal.get_workflow_handle::<Subscription>(subscription.workflow_id());
        let again = ToldAgain { instruction, carry_on: !overtaken };
        let options = WorkflowExecuteUpdateOptions::default();
        let asked = handle.execute_update(Subscription::instruct_again, again, options);
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(false)) if overtaken => self.store.end_lost_instruction(id, OVERTAKEN).await?,
            Ok(Ok(_)) => {}
            Ok(Err(WorkflowUpdateError::NotFound(_))) if event.phase == Some(Phase::Expired) => {
                self.store.end_lost_instruction(id, OVER).await?;
            }
            Ok(Err(WorkflowUpdateError::NotFound(_))) => {
                return Ok(Driven::NobodyYet("it was told something, and no workflow lives with this subscription"));
            }
            Ok(Err(fault)) => {
                tracing::warn!(error = %chain(&fault), %subscription, "an instruction could not be given again");
                return Ok(Driven::NobodyYet("its workflow does not take what it was told"));
            }
            Err(_) => return Ok(Driven::NobodyYet("its workflow does not say whether it does what it was told")),
        }
        Ok(Driven::Handled)
    }
}
