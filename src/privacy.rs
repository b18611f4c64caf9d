//! What people ask about their own data becomes workflows. Rows are read, workflows are started or told, then the rows are
//! marked; a death in between starts or tells once more, which changes nothing.
use std::time::Duration;

use contract::{
    WORKFLOW_TASK_LIMIT,
    privacy::{ErasureChanged, ErasureInput, ExportInput},
};
use domain::ids::ExportId;
use store::{ErasureChange, Store, StoreError};
use temporalio_client::{Client, WorkflowIdReusePolicy, WorkflowStartOptions, errors::WorkflowStartError};
use tokio_util::sync::CancellationToken;
use workflows::{erasure::Erasure, export::Export};

use crate::{attributes::found_by, inbox::chain};

/// How often it is looked whether somebody asked.
const POLL: Duration = Duration::from_secs(2);

/// Starts and tells the workflows of what people ask, until told to stop.
pub(crate) struct Wishes {
    /// Where the rows stand.
    pub(crate) store: Store,
    /// Where the workflows live.
    pub(crate) temporal: Client,
    /// The task queue they are put on.
    pub(crate) task_queue: String,
    /// How long a step is tried before it waits for staff.
    pub(crate) patience_secs: u64,
    /// How often an erasure is looked at although nothing was heard.
    pub(crate) poll_secs: i64,
}

impl Wishes {
    /// Runs until `stop`. A database or a Temporal that is away is waited for.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(fault) = self.turn().await {
                tracing::warn!(error = %chain(&fault), "what people ask about their data could not be read; trying again");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    async fn turn(&self) -> Result<(), StoreError> {
        for export in self.store.exports_to_start().await? {
            if self.start(export).await {
                self.store.export_started(export).await?;
            }
        }
        for change in self.store.erasures_to_tell().await? {
            if self.tell(change).await {
                self.store.erasure_told(change.id, change.version).await?;
            }
        }
        Ok(())
    }

    /// Starts the workflow of a copy. One that is known already is success.
    async fn start(&self, export: ExportId) -> bool {
        let input = ExportInput { export, patience_secs: self.patience_secs };
        let options = self.options(export.workflow_id(), "export");
        went(Box::pin(self.temporal.start_workflow(Export::run, input, options)).await)
    }

    /// Tells the workflow of an erasure that something was pressed, and starts it when it is not there.
    async fn tell(&self, change: ErasureChange) -> bool {
        let input = ErasureInput {
            erasure: change.id,
            user: change.user,
            patience_secs: self.patience_secs,
            poll_secs: self.poll_secs,
        };
        let signal = ErasureChanged { version: change.version };
        let options = self.options(change.id.workflow_id(), "erasure");
        let told = self.temporal.signal_with_start_workflow(Erasure::run, input, Erasure::changed, signal, options);
        went(Box::pin(told).await)
    }

    fn options(&self, id: String, kind: &str) -> WorkflowStartOptions {
        WorkflowStartOptions::new(self.task_queue.clone(), id)
            // One that has ended looks once more: a restored row may be where it was before.
            .id_reuse_policy(WorkflowIdReusePolicy::AllowDuplicate)
            .task_timeout(WORKFLOW_TASK_LIMIT)
            .search_attributes(found_by(kind, "waiting", None))
            .build()
    }
}

fn went<T>(asked: Result<T, WorkflowStartError>) -> bool {
    match asked {
        Ok(_) | Err(WorkflowStartError::AlreadyStarted { .. }) => true,
        Err(fault) => {
            tracing::warn!(error = %chain(&fault), "a workflow about somebody's data could not be started; trying again");
            false
        }
    }
}
