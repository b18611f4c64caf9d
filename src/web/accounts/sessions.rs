//! Where somebody is logged in, and ending it.
use askama::Template;
use axum::{extract::State, response::Response};
use store::SessionLine;

use super::super::{
    Shared,
    page::{self, Refusal, Shell},
    posted::Posted,
    redirect,
    visitor::Customer,
};

#[derive(Template)]
#[template(path = "page/sessions.html")]
struct List {
    shell: Shell,
    sessions: Vec<SessionLine>,
}

/// The list.
pub(crate) async fn list(State(portal): Shared, mut customer: Customer) -> Result<Response, Refusal> {
    let sessions = portal.store.sessions_of(customer.user.id, customer.visitor.session_id()).await?;
    Ok(page::ok(&List { shell: customer.visitor.form_shell("account").await?, sessions }))
}

/// Ends one session, or every other one. One that is over already, or somebody else's, is left as it is.
pub(crate) async fn end(State(portal): Shared, posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    match posted.text("which") {
        "others" => portal.store.end_other_sessions(user.id, posted.visitor.session_id()).await?,
        handle => {
            let handle = handle.parse().map_err(|_| Refusal::Unreadable)?;
            portal.store.end_session(user.id, handle).await?;
        }
    }
    Ok(redirect::see_other("/accounts/sessions/"))
}
