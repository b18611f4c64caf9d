//! Every invoice of an account, and the way to its page, its PDF and its receipt at Stripe.
use std::time::Duration;

use activities::payment::stripe::links::InvoicePage;
use askama::Template;
use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use store::{AccountInvoice, InvoicesPage};
use tokio::time::timeout;

use super::{
    Shared,
    page::{self, Refusal, Shell},
    redirect,
    visitor::Customer,
};

/// How long Stripe is waited for before the address we know is taken.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Template)]
#[template(path = "page/invoices.html")]
struct Whole {
    shell: Shell,
    page: InvoicesPage,
    is_newest: bool,
}

/// Where the page begins.
#[derive(Deserialize)]
pub(crate) struct From {
    before: Option<String>,
}

/// The page.
pub(crate) async fn list(
    State(portal): Shared,
    mut customer: Customer,
    Query(from): Query<From>,
) -> Result<Response, Refusal> {
    let page = portal.store.account_invoices(customer.user.account, from.before.as_deref()).await?;
    let shell = customer.visitor.form_shell("billing").await?;
    Ok(page::ok(&Whole { shell, page, is_newest: from.before.is_none() }))
}

/// Leads to a page of an own invoice, as Stripe names it now; while Stripe is away, as it named it last.
pub(crate) async fn lead(
    State(portal): Shared,
    customer: Customer,
    Path((id, what)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let known = portal.store.invoice_links(&id, customer.user.account).await?.ok_or(Refusal::NotFound)?;
    let (wanted, kept) = match what.as_str() {
        "page" => (InvoicePage::Hosted, &known.hosted_url),
        "pdf" => (InvoicePage::Pdf, &known.pdf_url),
        "receipt" => {
            let payment = known.payment.as_deref().ok_or(Refusal::NotFound)?;
            (InvoicePage::Receipt(payment), &known.receipt_url)
        }
        _ => return Err(Refusal::NotFound),
    };
    let address = match timeout(PATIENCE, Box::pin(portal.stripe.invoice_page(&id, wanted))).await {
        Ok(Ok(address)) => address,
        Ok(Err(fault)) => {
            tracing::warn!(fault = fault.words(), "the page of an invoice was not found at Stripe");
            kept.clone()
        }
        Err(_) => kept.clone(),
    };
    Ok(match address {
        Some(address) => redirect::to_stripe(&address, &portal.settings.checkout_origins),
        None => page::error(StatusCode::NOT_FOUND),
    })
}

/// What was given back of an invoice, and whether that was all.
fn back(invoice: &AccountInvoice) -> Option<String> {
    let minor = invoice.refunded_minor;
    let given = super::words::amount(&minor, &invoice.total);
    match minor {
        ..=0 => None,
        _ if minor >= invoice.amount_due.amount_minor => Some(format!("{given} given back, all of it")),
        _ => Some(format!("{given} given back")),
    }
}
