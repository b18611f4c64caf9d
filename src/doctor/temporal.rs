//! Whether Temporal has what we need: our namespace, and every search attribute in it. A workflow that names an attribute
//! nobody registered cannot be started at all.
use anyhow::{Context, bail};
use contract::search;
use temporalio_client::{
    Client,
    tonic::{Code, Request},
};
use temporalio_common::protos::temporal::api::{
    enums::v1::IndexedValueType, operatorservice::v1::ListSearchAttributesRequest,
    workflowservice::v1::DescribeNamespaceRequest,
};

use crate::{config::Config, wiring};

/// Every attribute workflows are found by, and its type.
const ATTRIBUTES: [(&str, IndexedValueType); 4] = [
    (search::STAGE, IndexedValueType::Keyword),
    (search::KIND, IndexedValueType::Keyword),
    (search::ACCOUNT, IndexedValueType::Keyword),
    (search::NEEDS_ATTENTION, IndexedValueType::Bool),
];

/// Says that everything is there, or what is missing and the command that makes it.
pub(super) async fn check(config: &Config) -> anyhow::Result<String> {
    let namespace = &config.temporal.namespace;
    let client = wiring::temporal(&config.temporal).await?;
    find_namespace(&client, namespace).await?;
    find_attributes(&client, namespace).await?;
    Ok(format!("answers; the namespace {namespace} has every search attribute"))
}

async fn find_namespace(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let question = DescribeNamespaceRequest { namespace: namespace.to_owned(), ..DescribeNamespaceRequest::default() };
    match client.connection().workflow_service().describe_namespace(Request::new(question)).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::NotFound => {
            bail!(
                "there is no namespace {namespace}; make it: temporal operator namespace create --namespace {namespace}"
            )
        }
        Err(status) => Err(status).context("asking for the namespace"),
    }
}

async fn find_attributes(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let question = ListSearchAttributesRequest { namespace: namespace.to_owned() };
    let answer = client.connection().operator_service().list_search_attributes(Request::new(question)).await;
    let known = answer.context("asking for the search attributes")?.into_inner().custom_attributes;
    let missing: Vec<String> = ATTRIBUTES
        .into_iter()
        .filter(|(name, kind)| known.get(*name) != Some(&i32::from(*kind)))
        .map(|(name, kind)| format!("--name {name} --type {kind:?}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "search attributes are missing; make them: temporal operator search-attribute create --namespace {namespace} {}",
        missing.join(" ")
    )
}
