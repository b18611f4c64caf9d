//! Closing the way in, and every account that is one's own alone: refused while something lives, with the reason.
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use store::{Closing, Living};

use super::{
    super::{
        Shared,
        fields::{Field, Summary},
        page::{self, Refusal, Shell},
        posted::Posted,
        visitor::Customer,
    },
    knows_password,
};

#[derive(Template)]
#[template(path = "page/close.html")]
struct Close {
    shell: Shell,
    reasons: Vec<String>,
    sure: Field,
    password: Field,
}

impl Close {
    fn new(shell: Shell, living: &[Living]) -> Self {
        Self {
            shell,
            reasons: living.iter().map(reason).collect(),
            sure: Field::new("sure", "Close my account", ""),
            password: Field::new("password", "Your password", ""),
        }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.sure, &self.password])
    }
}

#[derive(Template)]
#[template(path = "page/closed.html")]
struct Closed {
    shell: Shell,
}

/// What keeps an account open, and what to do about it.
pub(super) fn reason(living: &Living) -> String {
    match living {
        Living::Server(name) => {
            format!("The server {name} is still there. Cancel it, and come back when it was removed.")
        }
        Living::Order(name) => {
            format!("The order of {name} is on its way. Come back when it is delivered or has lapsed.")
        }
        Living::Subscription(plan) => format!("A subscription to {plan} has not ended. Cancel it first."),
        Living::Invoice(number) => format!("The invoice {number} is open. Pay it first, or write to us about it."),
        Living::Members(name) => {
            format!(
                "Others belong to the account {name}, and nobody else owns it. Hand it over or take them out first."
            )
        }
        Living::Staff => "You work here. An account of staff is closed by a colleague.".to_owned(),
    }
}

/// The form, or the reasons why not.
pub(crate) async fn look(State(portal): Shared, mut customer: Customer) -> Result<Response, Refusal> {
    let living = portal.store.living(customer.user.id).await?;
    Ok(page::ok(&Close::new(customer.visitor.form_shell("account").await?, &living)))
}

/// Takes the form. What lives is asked again while nothing new can begin.
pub(crate) async fn close(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let shell = posted.visitor.form_shell("account").await?;
    let mut page = Close::new(shell, &[]);
    if posted.text("sure") != "yes" {
        page.sure.refuse("Tick this to say that you are sure.");
    }
    if page.summary().is_empty() && !knows_password(&portal, &posted, &user, "password").await? {
        page.password.refuse("This is not your password.");
    }
    if !page.summary().is_empty() {
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    match portal.store.close_account(&user).await? {
        Closing::Lives(living) => {
            page.reasons = living.iter().map(reason).collect();
            Ok(page::render(StatusCode::CONFLICT, &page))
        }
        Closing::Done => {
            posted.visitor.log_out().await?;
            tracing::info!(user = %user.id, "an account was closed");
            Ok(page::ok(&Closed { shell: Shell { here: "closed", ..Shell::default() } }))
        }
    }
}
