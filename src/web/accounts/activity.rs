//! What happened in the account of whoever is logged in: log-ins, changes, orders, servers, and what staff did.
use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use serde::Deserialize;

use super::super::{
    Shared,
    page::{self, Refusal, Shell},
    trail::{self, ON_A_PAGE, Shown},
    visitor::Customer,
};

/// Where the page begins.
#[derive(Deserialize)]
pub(crate) struct Wanted {
    #[serde(default)]
    before: String,
}

#[derive(Template)]
#[template(path = "page/activity.html")]
struct Activity {
    shell: Shell,
    lines: Vec<Shown>,
    /// The number of the last one, when there may be older ones.
    older: Option<i64>,
}

/// The page.
pub(crate) async fn list(
    State(portal): Shared,
    mut customer: Customer,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    let before = trail::beginning(&wanted.before)?;
    let user = &customer.user;
    let found = portal.store.account_audit(user.account, user.id, before, ON_A_PAGE).await?;
    let is_full = i64::try_from(found.len()) == Ok(ON_A_PAGE);
    let older = found.last().filter(|_| is_full).map(|line| line.id);
    let lines = found.into_iter().map(|line| trail::shown(line, Some(customer.user.id.0))).collect();
    Ok(page::ok(&Activity { shell: customer.visitor.form_shell("account").await?, lines, older }))
}
