//! The account of whoever is logged in, and another password for it.
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use store::User;

use super::{
    super::{
        Shared,
        fields::{Field, Summary},
        page::{self, Refusal, Shell},
        password::{self, Asker},
        posted::Posted,
        redirect,
        visitor::Customer,
    },
    factors::go_on,
    knows_password, password_fault,
};

/// What was done just now.
#[derive(Deserialize)]
pub(crate) struct Done {
    #[serde(default)]
    changed: String,
}

#[derive(Template)]
#[template(path = "page/account.html")]
struct Overview {
    shell: Shell,
    user: User,
    notice: &'static str,
}

/// What there is to change.
pub(crate) async fn overview(mut customer: Customer, Query(done): Query<Done>) -> Result<Response, Refusal> {
    let notice = match done.changed.as_str() {
        "password" => "Your password is changed. Every other browser has been logged out.",
        "address" => "Your address is changed. Every other browser has been logged out.",
        _ => "",
    };
    Ok(page::ok(&Overview { shell: customer.visitor.form_shell("account").await?, user: customer.user, notice }))
}

#[derive(Template)]
#[template(path = "page/password_change.html")]
struct Change {
    shell: Shell,
    old: Field,
    password: Field,
}

impl Change {
    fn new(shell: Shell) -> Self {
        Self {
            shell,
            old: Field::new("old", "Present password", ""),
            password: Field::new("password", "New password", ""),
        }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.old, &self.password])
    }
}

/// The empty form.
pub(crate) async fn ask_password(mut customer: Customer) -> Result<Response, Refusal> {
    Ok(page::ok(&Change::new(customer.visitor.form_shell("account").await?)))
}

/// Takes the form. Every session ends; this one goes on under another id.
pub(crate) async fn change_password(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let mut page = Change::new(posted.visitor.form_shell("account").await?);
    if posted.exact("password") == posted.exact("old") {
        page.password.refuse("This is your present password.");
    }
    if page.summary().is_empty() && !knows_password(&portal, &posted, &user, "old").await? {
        page.old.refuse("This is not your present password.");
    }
    // Weighed last: it is work, and whoever does not know the present password gets none of it.
    if page.summary().is_empty()
        && let Some(fault) = password_fault(&portal, posted.exact("password"), &user.email, &user.name).await?
    {
        page.password.refuse(fault);
    }
    if !page.summary().is_empty() {
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    let password_hash = password::hash(Asker::Known, posted.exact("password")).await?;
    let device = posted.visitor.caller.device.map(|token| token.hash());
    let epoch = portal.store.change_password(&user, &password_hash, device).await?;
    let factor = posted.visitor.factor();
    go_on(&portal, &mut posted, &user, epoch, factor).await?;
    tracing::info!(user = %user.id, "a password was changed");
    Ok(redirect::see_other("/accounts/?changed=password"))
}
