//! Logging in and out.
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;

use super::super::{
    Shared,
    fields::{Field, Summary},
    page::{self, Refusal, Shell},
    password,
    posted::Posted,
    redirect,
    visitor::Visitor,
};

#[derive(Template)]
#[template(path = "page/login.html")]
struct Login {
    shell: Shell,
    email: Field,
    password: Field,
    next: String,
    confirmed: bool,
}

impl Login {
    fn new(shell: Shell, email: &str, next: &str) -> Self {
        Self {
            shell,
            email: Field::new("email", "E-mail address", email),
            password: Field::new("password", "Password", ""),
            next: redirect::own_path(next).to_owned(),
            confirmed: false,
        }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.email, &self.password])
    }
}

/// Where to go afterwards.
#[derive(Deserialize)]
pub(crate) struct Wanted {
    #[serde(default)]
    next: String,
    #[serde(default)]
    confirmed: Option<String>,
}

/// The empty form.
pub(crate) async fn form(mut visitor: Visitor, Query(wanted): Query<Wanted>) -> Result<Response, Refusal> {
    if visitor.user.is_some() {
        return Ok(redirect::see_other(redirect::own_path(&wanted.next)));
    }
    let mut page = Login::new(visitor.form_shell("login").await?, "", &wanted.next);
    page.confirmed = wanted.confirmed.is_some();
    Ok(page::ok(&page))
}

/// Takes the form. An unknown address costs the same work as a wrong password.
pub(crate) async fn submit(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let next = redirect::own_path(posted.text("next")).to_owned();
    let email = posted.text("email").to_lowercase();
    let typed = posted.exact("password");
    let known = portal.store.log_in(&email).await?;
    let hash = known.as_ref().map(|known| known.password_hash.clone());
    let fits = typed.len() <= password::LONGEST_BYTES && password::fits(typed, hash).await?;
    let Some(known) = known.filter(|_| fits) else {
        let mut page = Login::new(posted.visitor.form_shell("login").await?, &email, &next);
        page.email.refuse("This address and password do not fit together.");
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    };
    posted.visitor.log_in(known.user).await?;
    tracing::info!(user = %known.user, "logged in");
    Ok(redirect::see_other(&next))
}

#[derive(Template)]
#[template(path = "page/logout.html")]
struct Logout {
    shell: Shell,
}

/// Asks whether to log out: a link may not do it by itself.
pub(crate) async fn ask_logout(mut visitor: Visitor) -> Result<Response, Refusal> {
    if visitor.user.is_none() {
        return Ok(redirect::see_other("/"));
    }
    Ok(page::ok(&Logout { shell: visitor.form_shell("logout").await? }))
}

/// Ends the session.
pub(crate) async fn logout(mut posted: Posted) -> Result<Response, Refusal> {
    posted.visitor.log_out().await?;
    Ok(redirect::see_other("/"))
}
