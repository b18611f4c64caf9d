//! What an account has, what it costs, when it renews, and what it may still order.
use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use serde::Deserialize;
use store::Dashboard;

use super::{
    Shared,
    page::{self, Refusal, Shell},
    services::PAYS,
    visitor::Customer,
};

#[derive(Template)]
#[template(path = "page/dashboard.html")]
struct Overview {
    shell: Shell,
    board: Dashboard,
    verified: bool,
    is_confirmed_now: bool,
}

/// What was done just now.
#[derive(Deserialize)]
pub(crate) struct Done {
    #[serde(default)]
    confirmed: String,
}

/// The dashboard.
pub(crate) async fn overview(
    State(portal): Shared,
    mut customer: Customer,
    Query(done): Query<Done>,
) -> Result<Response, Refusal> {
    let mut board = portal.store.dashboard(customer.user.account).await?;
    let shell = customer.visitor.form_shell("dashboard").await?;
    if !shell.may("GET", PAYS) {
        board.services.iter_mut().for_each(|service| service.open_invoice_url = None);
    }
    let verified = customer.user.email_verified;
    Ok(page::ok(&Overview { shell, board, verified, is_confirmed_now: verified && !done.confirmed.is_empty() }))
}
