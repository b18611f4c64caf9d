//! A copy of everything about a person: id `export-<uuid>`, type `export`.
use contract::{
    attention::{Decision, Waiting},
    ledger::AttentionSubject,
    privacy::{ExportInput, Privacy},
};
use domain::order::Step;
use temporalio_workflow::{
    SyncWorkflowContext, WorkflowContext, WorkflowContextView, WorkflowResult, workflow, workflow_methods,
};

use crate::{
    attention::{Attended, Desk, attempt},
    patience,
};

type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// Gathers, seals and announces one copy.
#[workflow]
pub struct Export {
    input: ExportInput,
    desk: Desk,
}

impl Attended for Export {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn desk_mut(&mut self) -> &mut Desk {
        &mut self.desk
    }

    fn stage(&self) -> &'static str {
        Step::GatherData.as_str()
    }
}

#[workflow_methods]
impl Export {
    #[init]
    fn new(_ctx: &WorkflowContextView, input: ExportInput) -> Self {
        let desk = Desk::new(AttentionSubject::Export(input.export), input.patience_secs, false);
        Self { input, desk }
    }

    /// Ends when the sealed copy and the letter about it are written down.
    #[run(name = "export")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<()> {
        let export = ctx.state(|s| s.input.export);
        attempt(ctx, Step::GatherData, Privacy::export, export, patience::task).await?;
        let handlers = ctx.clone();
        ctx.wait_condition(move |_| handlers.all_handlers_finished()).await?;
        Ok(())
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
