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
    visitor::{Visitor, known},
};

#[derive(Template)]
#[template(path = "page/pricing.html")]
struct Pricing<'a> {
    shell: Shell,
    plans: &'a [Plan],
}

/// Every plan on sale.
pub(crate) async fn every_plan(State(portal): Shared, visitor: Option<Visitor>) -> Result<Response, Refusal> {
    let sale = portal.showcase.on_sale().await?;
    let known = known(visitor.as_ref());
    let page = Pricing { shell: home::shell(known, "pricing"), plans: &sale.plans };
    if known.is_some() { Ok(ok(&page)) } else { Ok(sale.pricing.shown(|| page.render())?) }
}

#[derive(Template)]
#[template(path = "page/plan.html")]
struct OnePlan<'a> {
    shell: Shell,
    plan: &'a Plan,
    images: &'a [Image],
}

/// One plan in full.
pub(crate) async fn one_plan(
    State(portal): Shared,
    visitor: Option<Visitor>,
    Path(slug): Path<String>,
) -> Result<Response, Refusal> {
    let sale = portal.showcase.on_sale().await?;
    let plan = sale.plans.iter().find(|plan| plan.slug == slug).ok_or(Refusal::NotFound)?;
    Ok(ok(&OnePlan { shell: home::shell(visitor.as_ref(), "pricing"), plan, images: &sale.images }))
}
