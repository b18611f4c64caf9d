//! Confirming an address. The link in the letter opens a page with one button, because mail scanners follow links.
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use store::Confirmed;
use uuid::Uuid;

use super::super::{
    Portal, Shared,
    fields::{self, Field, Summary},
    page::{self, Refusal, Shell},
    posted::Posted,
    redirect,
    visitor::Visitor,
};

/// What a link is signed for. The letter makes its link with the same word.
pub(crate) const LINK_PURPOSE: &str = "verify-address";

/// What the link carries.
#[derive(Deserialize)]
pub(crate) struct Link {
    #[serde(default)]
    id: String,
    #[serde(default)]
    tag: String,
}

impl Link {
    /// The verification it is about, when we signed it.
    fn read(&self, portal: &Portal) -> Option<Uuid> {
        let id = Uuid::parse_str(&self.id).ok()?;
        portal.keys.tag_matches(LINK_PURPOSE, id, &self.tag).then_some(id)
    }
}

#[derive(Template)]
#[template(path = "page/verify.html")]
struct Confirm {
    shell: Shell,
    id: Uuid,
    tag: String,
}

#[derive(Template)]
#[template(path = "page/inbox.html")]
struct Inbox {
    shell: Shell,
    email: Field,
    stale: bool,
    sent: bool,
}

impl Inbox {
    fn new(shell: Shell, email: &str) -> Self {
        Self { shell, email: Field::new("email", "E-mail address", email), stale: false, sent: false }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.email])
    }
}

/// With a link: the button. Without one: look into your inbox, or ask for another letter.
pub(crate) async fn look(
    State(portal): Shared,
    mut visitor: Visitor,
    Query(link): Query<Link>,
) -> Result<Response, Refusal> {
    let shell = visitor.form_shell("verify").await?;
    if let Some(id) = link.read(&portal) {
        return Ok(page::ok(&Confirm { shell, id, tag: link.tag }));
    }
    let email = visitor.user.as_ref().map_or("", |user| user.email.as_str());
    let stale = !link.id.is_empty();
    let status = if stale { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    Ok(page::render(status, &Inbox { stale, ..Inbox::new(shell, email) }))
}

/// The button was pressed. Pressing it again changes nothing and is no fault.
pub(crate) async fn confirm(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let link = Link { id: posted.text("id").to_owned(), tag: posted.text("tag").to_owned() };
    let confirmed = match link.read(&portal) {
        Some(id) => portal.store.confirm_email(id).await?,
        None => Confirmed::Unknown,
    };
    match confirmed {
        Confirmed::Done(_) if posted.visitor.user.is_some() => Ok(redirect::see_other("/dashboard/")),
        Confirmed::Done(_) => Ok(redirect::see_other("/accounts/login/?confirmed=1&next=%2Fpricing%2F")),
        Confirmed::Expired | Confirmed::Unknown => {
            let shell = posted.visitor.form_shell("verify").await?;
            Ok(page::render(StatusCode::BAD_REQUEST, &Inbox { stale: true, ..Inbox::new(shell, "") }))
        }
    }
}

/// Asks for another letter. The answer is the same whether there is anybody to write to.
pub(crate) async fn resend(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let shell = posted.visitor.form_shell("verify").await?;
    let mut page = Inbox::new(shell, posted.text("email"));
    let user = match posted.visitor.user.take() {
        Some(user) => Some(user),
        None => match fields::email(&page.email.value) {
            Ok(email) => portal.store.user_by_email(&email).await?,
            Err(help) => {
                page.email.refuse(help);
                return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
            }
        },
    };
    if let Some(user) = user.filter(|user| !user.email_verified) {
        portal.store.ask_verification(user.id).await?;
    }
    page.sent = true;
    Ok(page::ok(&page))
}
