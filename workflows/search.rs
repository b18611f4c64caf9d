//! The search attributes an operator filters by in Temporal UI.
use contract::search;
use temporalio_workflow::{
    WorkflowContext,
    common::search_attributes::{SearchAttributeKey, SearchAttributes},
};

const STAGE: SearchAttributeKey<String> = SearchAttributeKey::keyword(search::STAGE);
const KIND: SearchAttributeKey<String> = SearchAttributeKey::keyword(search::KIND);
const ACCOUNT: SearchAttributeKey<String> = SearchAttributeKey::keyword(search::ACCOUNT);
const NEEDS_ATTENTION: SearchAttributeKey<bool> = SearchAttributeKey::bool(search::NEEDS_ATTENTION);

/// Notes which stage a workflow is in.
pub(crate) fn stage<W>(ctx: &WorkflowContext<W>, stage: &str) {
    ctx.upsert_search_attributes([STAGE.value_set(stage.to_owned())]);
}

/// Notes whether a workflow waits for staff, and at what.
pub(crate) fn needs_attention<W>(ctx: &WorkflowContext<W>, waits: bool, stage: &str) {
    ctx.upsert_search_attributes([NEEDS_ATTENTION.value_set(waits), STAGE.value_set(stage.to_owned())]);
}

/// What a new child workflow starts with.
pub(crate) fn at_start(kind: &str, stage: &str, account: &str) -> SearchAttributes {
    SearchAttributes::new([
        KIND.value_set(kind.to_owned()),
        STAGE.value_set(stage.to_owned()),
        ACCOUNT.value_set(account.to_owned()),
        NEEDS_ATTENTION.value_set(false),
    ])
}
