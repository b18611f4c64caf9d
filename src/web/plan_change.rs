//! Another plan for a server: which there are, what one costs for the rest of the period to the cent, and the change for it.
use activities::fault::Fault;
use askama::Template;
use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use domain::{
    ids::{InstructionId, ServiceId},
    instruction::Ask,
    money::Money,
    plan::{MachineSize, Term},
    service::ServiceStatus,
};
use serde::Deserialize;
use store::{Plan, Price, ServicePage, User};
use time::OffsetDateTime;

use super::{
    Portal, Shared,
    page::{self, Refusal, Shell},
    posted::Posted,
    redirect,
    tell::{self, Untold},
    visitor::Customer,
};

/// What a plan means for this server.
#[derive(PartialEq, Eq)]
enum Fit {
    /// It has it.
    Current,
    /// It can become it now; the rest of the period is charged.
    Now,
    /// It can become it when the period ends; it costs less.
    AtEnd,
    /// Its disk would have to shrink.
    Shrinks,
}

/// One plan beside the one the server has, paid each month or each year.
struct Choice {
    plan: Plan,
    term: Term,
    money: Money,
    stripe_price_id: String,
    fit: Fit,
    /// Whether only the term is another: the machine stays as it is.
    same_size: bool,
}

impl Choice {
    /// Where its price is shown.
    fn address(&self, service: &ServiceId) -> String {
        format!("/dashboard/vps/{service}/plan/{}/?term={}", self.plan.slug, self.term)
    }
}

#[derive(Template)]
#[template(path = "page/plan_choices.html")]
struct Choices {
    shell: Shell,
    service: ServicePage,
    plans: Vec<Choice>,
    fault: String,
}

impl Choices {
    /// A fresh name for the form.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn next(&self) -> InstructionId {
        tell::next_id()
    }
}

#[derive(Template)]
#[template(path = "page/plan_change.html")]
struct Change {
    shell: Shell,
    service: ServicePage,
    choice: Choice,
    due: Option<Money>,
    proration_date: i64,
    fault: String,
}

impl Change {
    /// A fresh name for the form.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn next(&self) -> InstructionId {
        tell::next_id()
    }
}

/// A year that is paid is lived through; whoever pays by the month can begin a year at once.
fn fit(service: &ServicePage, size: MachineSize, term: Term, money: &Money) -> Fit {
    match service.size {
        has if has == size && term == service.term => Fit::Current,
        has if size.disk_gib < has.disk_gib => Fit::Shrinks,
        _ => match (service.term, term) {
            (Term::Annual, Term::Monthly) => Fit::AtEnd,
            (Term::Monthly, Term::Annual) => Fit::Now,
            _ if money.amount_minor < service.money.amount_minor => Fit::AtEnd,
            _ => Fit::Now,
        },
    }
}

async fn choices(portal: &Portal, service: &ServicePage) -> Result<Vec<Choice>, Refusal> {
    let plans = portal.store.plans().await?;
    let of_plan = |plan: Plan| {
        let prices: Vec<Price> =
            plan.prices.iter().filter(|price| price.money.currency == service.money.currency).cloned().collect();
        prices.into_iter().map(move |price| Choice {
            fit: fit(service, plan.size, price.term, &price.money),
            same_size: plan.size == service.size,
            plan: plan.clone(),
            term: price.term,
            money: price.money,
            stripe_price_id: price.stripe_price_id,
        })
    };
    Ok(plans.into_iter().flat_map(of_plan).collect())
}

async fn running(portal: &Portal, user: &User, id: &str) -> Result<ServicePage, Refusal> {
    let id: ServiceId = id.parse().map_err(|_| Refusal::NotFound)?;
    let service = portal.store.service_page(id, user.account).await?.ok_or(Refusal::NotFound)?;
    if service.status == ServiceStatus::Running && !service.covered { Ok(service) } else { Err(Refusal::NotFound) }
}

/// Said nothing, the term is the one the server has.
async fn possible(portal: &Portal, service: &ServicePage, slug: &str, term: Option<Term>) -> Result<Choice, Refusal> {
    let is = |choice: &Choice| choice.plan.slug == slug && choice.term == term.unwrap_or(service.term);
    let found = choices(portal, service).await?.into_iter().find(is);
    found.filter(|choice| matches!(choice.fit, Fit::Now | Fit::AtEnd)).ok_or(Refusal::NotFound)
}

/// Every plan, and which of them the server can become.
pub(crate) async fn list(
    State(portal): Shared,
    mut customer: Customer,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let service = running(&portal, &customer.user, &id).await?;
    let shell = customer.visitor.form_shell("dashboard").await?;
    listed(&portal, shell, service, String::new(), StatusCode::OK).await
}

async fn listed(
    portal: &Portal,
    shell: Shell,
    service: ServicePage,
    fault: String,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let choices = choices(portal, &service).await?;
    Ok(page::render(status, &Choices { shell, service, plans: choices, fault }))
}

/// Keeps the plan that was to change when the period ends.
pub(crate) async fn keep(
    State(portal): Shared,
    Path(id): Path<String>,
    mut posted: Posted,
) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let service = running(&portal, &user, &id).await?;
    let shell = posted.visitor.form_shell("dashboard").await?;
    let told = match tell::instruction(&posted, &user.id.to_string(), Ask::KeepPlan) {
        Ok(instruction) => tell::tell(&portal, &service.subscription, instruction).await,
        Err(untold) => Err(untold),
    };
    match told {
        Ok(()) => Ok(redirect::see_other(&format!("/dashboard/vps/{}/", service.id))),
        Err(Untold { status, text }) => listed(&portal, shell, service, text, status).await,
    }
}

/// What a page is asked for.
#[derive(Deserialize)]
pub(crate) struct Asked {
    term: Option<String>,
}

/// What one of them costs now. Nothing is charged by looking.
pub(crate) async fn look(
    State(portal): Shared,
    mut customer: Customer,
    Path((id, slug)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let service = running(&portal, &customer.user, &id).await?;
    let choice = possible(&portal, &service, &slug, asked.term.and_then(|term| term.parse().ok())).await?;
    let shell = customer.visitor.form_shell("dashboard").await?;
    Ok(shown(&portal, shell, service, choice, String::new(), StatusCode::OK).await)
}

async fn shown(
    portal: &Portal,
    shell: Shell,
    service: ServicePage,
    choice: Choice,
    fault: String,
    status: StatusCode,
) -> Response {
    let proration_date = OffsetDateTime::now_utc().unix_timestamp();
    if choice.fit == Fit::AtEnd {
        // Nothing is charged before the period ends.
        return page::render(status, &Change { shell, service, choice, due: None, proration_date, fault });
    }
    let asked = portal.stripe.preview_plan(&service.subscription, &choice.stripe_price_id, proration_date).await;
    let asked = asked.inspect_err(|fault: &Fault| tracing::warn!(fault = fault.words(), "a plan's price is not known"));
    let status = if asked.is_err() { StatusCode::SERVICE_UNAVAILABLE } else { status };
    page::render(status, &Change { shell, service, choice, due: asked.ok(), proration_date, fault })
}

/// Tells the subscription to change: now for the amount that was shown and no other, or when the period ends.
pub(crate) async fn tell(
    State(portal): Shared,
    Path((id, slug)): Path<(String, String)>,
    mut posted: Posted,
) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let service = running(&portal, &user, &id).await?;
    let choice = possible(&portal, &service, &slug, posted.text("term").parse().ok()).await?;
    let shell = posted.visitor.form_shell("dashboard").await?;
    let told = match asked(&posted, &choice) {
        Ok(what) => match tell::instruction(&posted, &user.id.to_string(), what) {
            Ok(instruction) => tell::tell(&portal, &service.subscription, instruction).await,
            Err(untold) => Err(untold),
        },
        Err(untold) => Err(untold),
    };
    match told {
        Ok(()) => Ok(redirect::see_other(&format!("/dashboard/vps/{}/", service.id))),
        Err(Untold { status, text }) => Ok(shown(&portal, shell, service, choice, text, status).await),
    }
}

fn asked(posted: &Posted, choice: &Choice) -> Result<Ask, Untold> {
    if !choice.same_size && posted.text("restart") != "yes" {
        return Err(Untold::form("Tick the box to say that your server may be started again. Nothing was changed."));
    }
    if choice.fit == Fit::AtEnd {
        return Ok(Ask::ChangePlanAtEnd { price: choice.stripe_price_id.clone() });
    }
    let reload = || Untold::form("Reload the page and send the form again. Nothing was changed.");
    Ok(Ask::ChangePlan {
        price: choice.stripe_price_id.clone(),
        proration_date: posted.text("proration_date").parse().map_err(|_| reload())?,
        shown: Money::read(posted.text("due"), &choice.money.currency).map_err(|_| reload())?,
    })
}
