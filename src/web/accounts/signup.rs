//! Signing up.
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use store::NewUser;

use super::super::{
    Shared,
    fields::{self, Field, Summary},
    page::{self, Refusal, Shell},
    password,
    posted::Posted,
    redirect,
    visitor::Visitor,
};

/// The longest name, in characters.
const LONGEST_NAME: usize = 100;

#[derive(Template)]
#[template(path = "page/signup.html")]
struct SignUp {
    shell: Shell,
    name: Field,
    email: Field,
    password: Field,
}

impl SignUp {
    fn new(shell: Shell, name: &str, email: &str) -> Self {
        Self {
            shell,
            name: Field::new("name", "Your name", name),
            email: Field::new("email", "E-mail address", email),
            password: Field::new("password", "Password", ""),
        }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.name, &self.email, &self.password])
    }
}

/// The empty form.
pub(crate) async fn form(mut visitor: Visitor) -> Result<Response, Refusal> {
    if visitor.user.is_some() {
        return Ok(redirect::see_other("/dashboard/"));
    }
    Ok(page::ok(&SignUp::new(visitor.form_shell("signup").await?, "", "")))
}

/// Takes the form. Known and unknown addresses get the same answer after the same work.
pub(crate) async fn submit(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let shell = posted.visitor.form_shell("signup").await?;
    let mut page = SignUp::new(shell, posted.text("name"), posted.text("email"));
    if page.name.value.is_empty() {
        page.name.refuse("Tell us how to address you.");
    } else if page.name.value.chars().count() > LONGEST_NAME || page.name.value.chars().any(char::is_control) {
        page.name.refuse("Use at most 100 characters on one line.");
    }
    let address = fields::email(&page.email.value);
    if let Err(help) = &address {
        page.email.refuse(*help);
    }
    if let Some(fault) = password::fault(posted.exact("password"), &page.email.value, &page.name.value) {
        page.password.refuse(fault);
    }
    let (Ok(email), true) = (address, page.summary().is_empty()) else {
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    };
    let password_hash = password::hash(posted.exact("password")).await?;
    portal.store.sign_up(NewUser { name: page.name.value.clone(), email, password_hash }).await?;
    Ok(redirect::see_other("/accounts/verify/"))
}
