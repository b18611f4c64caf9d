//! The front page, who we are, and what robots may read.
use askama::Template;
use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use store::Plan;

use super::{
    Shared,
    page::{Refusal, Shell, ok},
    visitor::{Visitor, known},
};

#[derive(Template)]
#[template(path = "page/home.html")]
struct Home<'a> {
    shell: Shell,
    plans: &'a [Plan],
}

/// The front page, with the plans on it.
pub(crate) async fn front(State(portal): Shared, visitor: Option<Visitor>) -> Result<Response, Refusal> {
    let sale = portal.showcase.on_sale().await?;
    let known = known(visitor.as_ref());
    let page = Home { shell: shell(known, "home"), plans: &sale.plans };
    if known.is_some() { Ok(ok(&page)) } else { Ok(sale.front.shown(|| page.render())?) }
}

#[derive(Template)]
#[template(path = "page/about.html")]
struct About {
    shell: Shell,
}

/// Who we are and how to reach us; needs no database.
pub(crate) async fn about(visitor: Option<Visitor>) -> Response {
    ok(&About { shell: shell(visitor.as_ref(), "about") })
}

/// Which pages are of no use to a search engine.
pub(crate) async fn robots() -> Response {
    const TEXT: &str = "User-agent: *\nDisallow: /accounts/\nDisallow: /billing/\nDisallow: /dashboard/\nDisallow: /staff/\n\
        Disallow: /webhooks/\n";
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], TEXT).into_response()
}

/// The frame for a page that is shown to anybody.
pub(crate) fn shell(visitor: Option<&Visitor>, here: &'static str) -> Shell {
    visitor.map_or_else(|| Shell { here, ..Shell::default() }, |visitor| visitor.shell(here))
}
