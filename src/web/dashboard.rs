//! What an account has, what it costs, when it renews, and what it may still order.
use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use domain::service::ServiceStatus;
use serde::Deserialize;
use store::{Dashboard, ServiceCard};

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
    /// What was stopped at its end and is kept for a while, and what was destroyed lately.
    ended: Vec<ServiceCard>,
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
    let (ended, services) = board.services.into_iter().partition(has_ended);
    board.services = services;
    let verified = customer.user.email_verified;
    Ok(page::ok(&Overview { shell, board, ended, verified, is_confirmed_now: verified && !done.confirmed.is_empty() }))
}

fn has_ended(service: &ServiceCard) -> bool {
    matches!(service.status, ServiceStatus::Retained | ServiceStatus::Expired)
}
