//! What an account has, what it costs, when it renews, and what it may still order.
use askama::Template;
use axum::{extract::State, response::Response};
use store::Dashboard;

use super::{
    Shared,
    page::{self, Refusal, Shell},
    visitor::Customer,
};

#[derive(Template)]
#[template(path = "page/dashboard.html")]
struct Overview {
    shell: Shell,
    board: Dashboard,
    verified: bool,
}

/// The dashboard.
pub(crate) async fn overview(State(portal): Shared, mut customer: Customer) -> Result<Response, Refusal> {
    let board = portal.store.dashboard(customer.user.account).await?;
    let shell = customer.visitor.form_shell("dashboard").await?;
    Ok(page::ok(&Overview { shell, board, verified: customer.user.email_verified }))
}
