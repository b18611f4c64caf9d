//! Workflows of the portal that are begun by name, as the portal begins them.
use anyhow::Result;
use house::House;
use serde_json::Value;
use temporalio_client::{Client, WorkflowStartOptions};
use temporalio_common::{
    HasWorkflowDefinition, WorkflowDefinition,
    search_attributes::{SearchAttributeKey, SearchAttributes},
};
use uuid::Uuid;

/// A workflow as the wire knows it.
pub(crate) struct Named {
    /// What it is called there, and the beginning of its id.
    pub(crate) kind: &'static str,
    /// The rest of its id.
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) account: Uuid,
    /// The stage it begins in.
    pub(crate) stage: &'static str,
}

impl WorkflowDefinition for Named {
    type Input = Value;
    type Output = Value;

    fn name(&self) -> &str {
        self.kind
    }
}

impl HasWorkflowDefinition for Named {
    type Run = Self;
}

impl Named {
    /// Begins it.
    pub(crate) async fn start(self, house: &House, client: &Client, input: Value) -> Result<()> {
        let id = format!("{}-{}", self.kind, self.id);
        let options = WorkflowStartOptions::new(house.task_queue().to_owned(), id)
            .search_attributes(self.search_attributes())
            .build();
        client.start_workflow(self, input, options).await?;
        Ok(())
    }

    fn search_attributes(&self) -> SearchAttributes {
        let text = SearchAttributeKey::<String>::keyword;
        SearchAttributes::new([
            text("EzKind").value_set(self.kind.to_owned()),
            text("EzStage").value_set(self.stage.to_owned()),
            text("EzAccount").value_set(self.account.to_string()),
            SearchAttributeKey::<bool>::bool("EzNeedsAttention").value_set(false),
        ])
    }
}
