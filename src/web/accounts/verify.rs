//! Confirming an address. The link in the letter opens a page with one button, because mail scanners follow links.
//!
//! Only whoever is logged in confirms. Anybody may sign up with somebody else's address, and whoever reads mail there would confirm
//! a password they never chose. So a link opened in another browser asks for that password first; whoever does not know it chooses
//! another one by *forgot your password*, which confirms the address, too, and ends whatever the other person had.
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use store::Confirmed;
use uuid::Uuid;

use super::{
    super::{
        Portal, Shared,
        fields::{self, Field, Summary},
        limits::{self, Way},
        page::{self, Refusal, Shell},
        posted::Posted,
        redirect,
        visitor::Visitor,
    },
    link::dead,
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

    /// The log-in that leads back here and says why.
    fn login(&self) -> String {
        let here = format!("/accounts/verify/?id={}&tag={}", self.id, self.tag);
        format!("{}&confirm=1", redirect::login_then(&here))
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

/// The page for a link to somebody else's address.
fn not_theirs(shell: Shell) -> Response {
    let text = "It confirms another address than the one you are logged in with. Nothing was changed. Log out, and open the link \
                from the letter once more.";
    dead(shell, ("This link is for somebody else", text), ("/accounts/logout/", "Log out"))
}

/// With a link: the button, for whoever is logged in. Without one: look into your inbox, or ask for another letter.
pub(crate) async fn look(
    State(portal): Shared,
    mut visitor: Visitor,
    Query(link): Query<Link>,
) -> Result<Response, Refusal> {
    let found = link.read(&portal);
    if found.is_some() && visitor.user.is_none() {
        return Ok(redirect::see_other(&link.login()));
    }
    let shell = visitor.form_shell("verify").await?;
    if let Some(id) = found {
        let asked = portal.store.verification(id).await?;
        if asked.is_some_and(|asked| visitor.user.as_ref().is_some_and(|user| user.id != asked.user)) {
            return Ok(not_theirs(shell));
        }
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
    let confirmed = match (link.read(&portal), &posted.visitor.user) {
        (Some(_), None) => return Ok(redirect::see_other(&link.login())),
        (Some(id), Some(user)) => portal.store.confirm_email(id, user).await?,
        (None, _) => Confirmed::Unknown,
    };
    match confirmed {
        Confirmed::Done => Ok(redirect::see_other("/dashboard/?confirmed=1")),
        Confirmed::NotTheirs => {
            let shell = posted.visitor.form_shell("verify").await?;
            Ok(not_theirs(shell))
        }
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
    let address = match &posted.visitor.user {
        Some(user) => Ok(user.email.clone()),
        None => fields::email(&page.email.value),
    };
    let email = match address {
        Ok(email) => email,
        Err(help) => {
            page.email.refuse(help);
            return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
        }
    };
    let network = portal.by_network(Way::Verify, &posted.visitor.caller)?;
    portal.take(&[network, portal.for_address(Way::Verify, &email)?]).await?;
    limits::evenly(portal.store.ask_verification(&email)).await?;
    page.sent = true;
    Ok(page::ok(&page))
}
