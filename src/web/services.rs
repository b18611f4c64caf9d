//! One server: its state, how to reach it, what it costs, its history, and its password once.
use activities::machine::PASSWORD_PURPOSE;
use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use store::ServicePage;
use zeroize::Zeroizing;

use super::{
    Shared,
    page::{self, Refusal, Shell},
    posted::Posted,
    visitor::Customer,
};

/// Whoever may ask for this pays for what the account has.
pub(super) const PAYS: &str = "/billing/invoices/{id}/page/";

#[derive(Template)]
#[template(path = "page/vps.html")]
struct Whole {
    shell: Shell,
    service: ServicePage,
}

/// The page.
pub(crate) async fn look(
    State(portal): Shared,
    mut customer: Customer,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let id = id.parse().map_err(|_| Refusal::NotFound)?;
    let service = portal.store.service_page(id, customer.user.account).await?.ok_or(Refusal::NotFound)?;
    let shell = customer.visitor.form_shell("dashboard").await?;
    let pays = shell.may("GET", PAYS);
    Ok(page::ok(&Whole { shell, service: if pays { service } else { without_payment(service) } }))
}

/// The ways to Stripe's pages are for whoever may pay.
fn without_payment(mut service: ServicePage) -> ServicePage {
    service.open_invoice_url = None;
    service.pending_plan.iter_mut().for_each(|plan| plan.pay_url = None);
    service.invoices.iter_mut().for_each(|invoice| invoice.hosted_url = None);
    service
}

#[derive(Template)]
#[template(path = "page/password.html")]
struct Shown {
    shell: Shell,
    service: ServicePage,
    password: Option<Zeroizing<String>>,
}

/// Shows the generated password, once: it is erased before it is shown, so nobody reads it after the customer.
pub(crate) async fn show_password(
    State(portal): Shared,
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let id = id.parse().map_err(|_| Refusal::NotFound)?;
    let service = portal.store.service_page(id, user.account).await?.ok_or(Refusal::NotFound)?;
    let sealed = portal.store.take_password(id, user.account).await?;
    let password = sealed
        .map(|sealed| {
            let bytes =
                portal.keys.open(PASSWORD_PURPOSE, &sealed).map_err(|_| Refusal::Broken("opening a password"))?;
            String::from_utf8(bytes).map(Zeroizing::new).map_err(|_| Refusal::Broken("reading a password"))
        })
        .transpose()?;
    Ok(page::ok(&Shown { shell: posted.visitor.shell("dashboard"), service, password }))
}
