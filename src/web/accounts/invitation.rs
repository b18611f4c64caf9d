//! An invitation to an account. The link from the letter shows what it is about; a button takes it, because mail scanners follow
//! links. It is for the address it was sent to: whoever has an account here logs in with that, whoever has none makes one.
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use store::{Accepted, Invitation, LinkState, NewUser, Pressed};
use uuid::Uuid;

use super::{
    super::{
        Portal, Shared,
        fields::{Field, Summary},
        page::{self, Refusal, Shell},
        password::{self, Asker},
        posted::Posted,
        redirect,
        visitor::{LetIn, Visitor},
    },
    password_fault, signup,
};

/// What signs the link. The letter makes its link with the same word.
const LINK_PURPOSE: &str = "member-invitation";

/// What the link carries.
#[derive(Deserialize)]
pub(crate) struct Link {
    #[serde(default)]
    id: String,
    #[serde(default)]
    tag: String,
}

impl Link {
    fn of(posted: &Posted) -> Self {
        Self { id: posted.text("id").to_owned(), tag: posted.text("tag").to_owned() }
    }

    /// The invitation, when we signed its link and it works; otherwise how it stands.
    async fn read(&self, portal: &Portal) -> Result<Result<(Uuid, Invitation), Pressed>, Refusal> {
        let Ok(id) = Uuid::parse_str(&self.id) else { return Ok(Err(Pressed::Unknown)) };
        if !portal.keys.tag_matches(LINK_PURPOSE, id, &self.tag) {
            return Ok(Err(Pressed::Unknown));
        }
        Ok(match portal.store.invitation(id).await? {
            None => Err(Pressed::Unknown),
            Some(invitation) => match invitation.state {
                LinkState::Good => Ok((id, invitation)),
                state => Err(state.into()),
            },
        })
    }

    /// The page's own address, to come back to after logging in.
    fn address(&self) -> String {
        format!("/accounts/invitation/?id={}&tag={}", self.id, self.tag)
    }
}

#[derive(Template)]
#[template(path = "page/invitation.html")]
struct Page {
    shell: Shell,
    id: Uuid,
    tag: String,
    invitation: Invitation,
    /// Whether the invited person is logged in.
    is_theirs: bool,
    /// Whether somebody else is.
    is_others: bool,
    /// The log-in that leads back here.
    login: String,
    name: Field,
    password: Field,
}

impl Page {
    fn new(shell: Shell, visitor: &Visitor, link: &Link, (id, invitation): (Uuid, Invitation)) -> Self {
        let is_theirs = visitor.user.as_ref().is_some_and(|user| user.email == invitation.email);
        Self {
            shell,
            id,
            tag: link.tag.clone(),
            invitation,
            is_theirs,
            is_others: visitor.user.is_some() && !is_theirs,
            login: redirect::login_then(&link.address()),
            name: Field::new("name", "Your name", ""),
            password: Field::new("password", "Password", ""),
        }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.name, &self.password])
    }
}

#[derive(Template)]
#[template(path = "page/link.html")]
struct Stale {
    shell: Shell,
    title: &'static str,
    text: &'static str,
    path: &'static str,
    label: &'static str,
}

fn stale(shell: Shell, how: Pressed) -> Response {
    let (title, text) = match how {
        Pressed::Used => (
            "This invitation was used already",
            "It works once, and whoever sent it may have taken it back. If you took it, you find the account with your other ones.",
        ),
        Pressed::Expired => {
            ("This invitation is too old", "It works for a week. Ask whoever invited you to send another one.")
        }
        Pressed::Done | Pressed::Unknown | Pressed::Taken => (
            "This invitation does not work",
            "A part of the link was lost on the way. Copy the whole link from the letter.",
        ),
    };
    let (path, label) = ("/accounts/members/", "To your accounts");
    page::render(StatusCode::BAD_REQUEST, &Stale { shell, title, text, path, label })
}

/// What it is about, and the way to take it.
pub(crate) async fn look(
    State(portal): Shared,
    mut visitor: Visitor,
    Query(link): Query<Link>,
) -> Result<Response, Refusal> {
    let shell = visitor.form_shell("invitation").await?;
    Ok(match link.read(&portal).await? {
        Ok(found) => page::ok(&Page::new(shell, &visitor, &link, found)),
        Err(how) => stale(shell, how),
    })
}

/// The button was pressed by whoever is logged in; it has to be the person it was sent to.
pub(crate) async fn accept(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let link = Link::of(&posted);
    let shell = posted.visitor.form_shell("invitation").await?;
    let (id, invitation) = match link.read(&portal).await? {
        Ok(found) => found,
        Err(how) => return Ok(stale(shell, how)),
    };
    match portal.store.accept_invitation(id, &user).await? {
        Accepted::Done(_, account) => {
            tracing::info!(user = %user.id, %account, "an invitation was taken");
            if let Some(session) = posted.visitor.session_id() {
                portal.store.choose_account(session, user.id, account).await?;
            }
            Ok(redirect::see_other("/dashboard/"))
        }
        Accepted::Stale(how) => Ok(stale(shell, how)),
        Accepted::NotTheirs | Accepted::HasUser => {
            let page = Page::new(shell, &posted.visitor, &link, (id, invitation));
            Ok(page::render(StatusCode::FORBIDDEN, &page))
        }
    }
}

/// Somebody new takes it: they sign up with the address it was sent to, which they have shown to be theirs.
pub(crate) async fn join(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let link = Link::of(&posted);
    let shell = posted.visitor.form_shell("invitation").await?;
    portal.take_sign_up(&posted.visitor.caller).await?;
    let (id, invitation) = match link.read(&portal).await? {
        Ok(found) => found,
        Err(how) => return Ok(stale(shell, how)),
    };
    let email = invitation.email.clone();
    let has_user = invitation.has_user;
    let mut page = Page::new(shell, &posted.visitor, &link, (id, invitation));
    if has_user || posted.visitor.user.is_some() {
        return Ok(page::render(StatusCode::CONFLICT, &page));
    }
    posted.text("name").clone_into(&mut page.name.value);
    if let Some(fault) = signup::name_fault(&page.name.value) {
        page.name.refuse(fault);
    }
    if let Some(fault) = password_fault(&portal, posted.exact("password"), &email, &page.name.value).await? {
        page.password.refuse(fault);
    }
    if !page.summary().is_empty() {
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    let password_hash = password::hash(Asker::Known, posted.exact("password")).await?;
    let new = NewUser { name: page.name.value.clone(), email, password_hash };
    match portal.store.join_by_invitation(id, new).await? {
        Accepted::Done(user, account) => {
            tracing::info!(%user, %account, "somebody joined by an invitation");
            let who = LetIn { user, is_staff: false, epoch: 0, factor: None, proven: true, remembered: false };
            posted.visitor.log_in(&portal, &who).await?;
            Ok(redirect::see_other("/dashboard/"))
        }
        Accepted::Stale(how) => Ok(stale(page.shell, how)),
        Accepted::NotTheirs | Accepted::HasUser => {
            page.invitation.has_user = true;
            Ok(page::render(StatusCode::CONFLICT, &page))
        }
    }
}
