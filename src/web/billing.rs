//! Coming back from Stripe, and going to its Billing Portal.
use std::sync::Arc;

use activities::fault::Fault;
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::ids::OrderId;
use serde::Deserialize;
use store::OrderPage;

use super::{
    Portal, Shared,
    page::{self, Refusal, Shell},
    posted::Posted,
    redirect,
    visitor::Customer,
};

/// Why the Billing Portal could not be opened.
enum BillingRefusal {
    /// As everywhere.
    Page(Refusal),
    /// Nothing was ever paid, so Stripe knows nobody.
    NobodyThere(Shell),
    /// Stripe did not open it.
    StripeAway(Shell, Fault),
}

impl<T: Into<Refusal>> From<T> for BillingRefusal {
    fn from(fault: T) -> Self {
        Self::Page(fault.into())
    }
}

impl IntoResponse for BillingRefusal {
    fn into_response(self) -> Response {
        match self {
            Self::Page(refusal) => refusal.into_response(),
            Self::NobodyThere(shell) => page::ok(&Manage { shell, known: false, away: false }),
            Self::StripeAway(shell, fault) => {
                tracing::warn!(fault = fault.words(), "the billing portal could not be opened");
                page::render(StatusCode::SERVICE_UNAVAILABLE, &Manage { shell, known: true, away: true })
            }
        }
    }
}

/// What Stripe sends back in the address.
#[derive(Deserialize)]
pub(crate) struct Back {
    #[serde(default)]
    order: String,
    #[serde(default)]
    session_id: String,
    #[serde(default)]
    cancelled: Option<String>,
}

#[derive(Template)]
#[template(path = "page/return.html")]
struct Return {
    shell: Shell,
    order: OrderPage,
    left: bool,
}

/// Back from the payment page. What is shown is what our own rows say, never what the address claims.
pub(crate) async fn back(
    State(portal): Shared,
    customer: Customer,
    Query(back): Query<Back>,
) -> Result<Response, Refusal> {
    let order = match back.order.parse::<OrderId>() {
        Ok(order) => Some(order),
        Err(_) if !back.session_id.is_empty() => portal.store.order_of_session(&back.session_id).await?,
        Err(_) => None,
    };
    let Some(order) = order else { return Ok(redirect::see_other("/dashboard/")) };
    let order = portal.store.order_page(order, customer.user.account).await?.ok_or(Refusal::NotFound)?;
    Ok(page::ok(&Return { shell: customer.visitor.shell("dashboard"), order, left: back.cancelled.is_some() }))
}

#[derive(Template)]
#[template(path = "page/manage_billing.html")]
struct Manage {
    shell: Shell,
    known: bool,
    away: bool,
}

/// The page with the button.
pub(crate) async fn ask_portal(State(portal): Shared, mut customer: Customer) -> Result<Response, Refusal> {
    let known = portal.store.stripe_customer(customer.user.account).await?.is_some();
    Ok(page::ok(&Manage { shell: customer.visitor.form_shell("billing").await?, known, away: false }))
}

/// Opens Stripe's Billing Portal and leads there.
pub(crate) async fn open_portal(State(portal): Shared, posted: Posted) -> Response {
    opened(portal, posted).await.unwrap_or_else(BillingRefusal::into_response)
}

async fn opened(portal: Arc<Portal>, mut posted: Posted) -> Result<Response, BillingRefusal> {
    let user = posted.user()?;
    let shell = posted.visitor.form_shell("billing").await?;
    let Some(customer) = portal.store.stripe_customer(user.account).await? else {
        return Err(BillingRefusal::NobodyThere(shell));
    };
    let return_url = format!("{}/dashboard/", portal.settings.site_url);
    match portal.stripe.portal_url(&customer, &return_url).await {
        Ok(address) => Ok(redirect::to_stripe(&address, &portal.settings.checkout_origins)),
        Err(fault) => Err(BillingRefusal::StripeAway(shell, fault)),
    }
}
