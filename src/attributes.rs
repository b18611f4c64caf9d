//! What operators and staff find a workflow by in Temporal, from its start on.
use contract::search;
use domain::ids::AccountId;
use temporalio_common::search_attributes::{SearchAttributeKey, SearchAttributes};

const KIND: SearchAttributeKey<String> = SearchAttributeKey::keyword(search::KIND);
const STAGE: SearchAttributeKey<String> = SearchAttributeKey::keyword(search::STAGE);
const ACCOUNT: SearchAttributeKey<String> = SearchAttributeKey::keyword(search::ACCOUNT);
const NEEDS_ATTENTION: SearchAttributeKey<bool> = SearchAttributeKey::bool(search::NEEDS_ATTENTION);

/// The search attributes of a workflow that starts at `stage` and needs nobody's attention; a letter is nobody's account.
pub(crate) fn found_by(kind: &str, stage: &str, account: Option<AccountId>) -> SearchAttributes {
    let common = [KIND.value_set(kind.to_owned()), STAGE.value_set(stage.to_owned()), NEEDS_ATTENTION.value_set(false)];
    SearchAttributes::new(common.into_iter().chain(account.map(|account| ACCOUNT.value_set(account.to_string()))))
}
