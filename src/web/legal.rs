//! The privacy and the terms page. They need no database.
use askama::Template;
use axum::{extract::State, response::Response};
use store::{Keeping, privacy::retention::KeepingTerms, schedule};

use super::{
    Shared, WebSettings,
    home::shell,
    page::{self, Shell},
    visitor::Visitor,
};
use crate::legal::Document;

#[derive(Template)]
#[template(path = "page/legal.html")]
struct Whole<'a> {
    shell: Shell,
    document: &'a Document,
    kept: Vec<Keeping>,
}

/// What is done with data, and what is kept how long.
pub(crate) async fn privacy(State(portal): Shared, visitor: Option<Visitor>) -> Response {
    let kept = schedule(&terms_of(&portal.settings));
    page::ok(&Whole { shell: shell(visitor.as_ref(), "privacy"), document: &portal.settings.legal.privacy, kept })
}

/// Under which terms is sold.
pub(crate) async fn terms(State(portal): Shared, visitor: Option<Visitor>) -> Response {
    page::ok(&Whole { shell: shell(visitor.as_ref(), "terms"), document: &portal.settings.legal.terms, kept: vec![] })
}

/// The periods this installation chose.
fn terms_of(settings: &WebSettings) -> KeepingTerms {
    KeepingTerms {
        session_secs: settings.access.stay.longest_secs,
        export_secs: settings.privacy.export_secs,
        erasure_secs: settings.privacy.erasure_secs,
        books_years: settings.privacy.books_years,
    }
}
