//! The plans, with what they cost and whether there is still one.
use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use store::{Image, Plan};

use super::{
    Shared, home,
    page::{Refusal, Shell, ok},
    visitor::Visitor,
};

#[derive(Template)]
#[template(path = "page/pricing.html")]
struct Pricing {
    shell: Shell,
    plans: Vec<Plan>,
}

/// Every plan on sale.
pub(crate) async fn every_plan(State(portal): Shared, visitor: Option<Visitor>) -> Result<Response, Refusal> {
    let plans = portal.store.plans().await?;
    Ok(ok(&Pricing { shell: home::shell(visitor.as_ref(), "pricing"), plans }))
}

#[derive(Template)]
#[template(path = "page/plan.html")]
struct OnePlan {
    shell: Shell,
    plan: Plan,
    images: Vec<Image>,
}

/// One plan in full.
pub(crate) async fn one_plan(
    State(portal): Shared,
    visitor: Option<Visitor>,
    Path(slug): Path<String>,
) -> Result<Response, Refusal> {
    let plan = portal.store.plan(&slug).await?.ok_or(Refusal::NotFound)?;
    let images = portal.store.images().await?;
    Ok(ok(&OnePlan { shell: home::shell(visitor.as_ref(), "pricing"), plan, images }))
}
