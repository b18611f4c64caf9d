//! Links from letters that work once, and the page for one that does not work.
use askama::Template;
use axum::{http::StatusCode, response::Response};
use serde::Deserialize;
use store::{AccessChange, ChangeKind, LinkState, Pressed};
use uuid::Uuid;

use super::super::{
    Portal,
    page::{self, Refusal, Shell},
    posted::Posted,
};

/// What a link carries.
#[derive(Deserialize)]
pub(crate) struct Link {
    #[serde(default)]
    id: String,
    /// What signs it.
    #[serde(default)]
    pub(crate) tag: String,
}

impl Link {
    /// The link that stands in a form.
    pub(crate) fn of(posted: &Posted) -> Self {
        Self { id: posted.text("id").to_owned(), tag: posted.text("tag").to_owned() }
    }

    /// Whether the page was opened without any link.
    pub(crate) fn is_empty(&self) -> bool {
        self.id.is_empty() && self.tag.is_empty()
    }

    /// The id it names, when we signed it for this purpose.
    pub(crate) fn signed(&self, portal: &Portal, purpose: &str) -> Option<Uuid> {
        let id = Uuid::parse_str(&self.id).ok()?;
        portal.keys.tag_matches(purpose, id, &self.tag).then_some(id)
    }

    /// What it is about, when we signed it for this and it works; otherwise how it stands.
    pub(crate) async fn read(
        &self,
        portal: &Portal,
        kind: ChangeKind,
    ) -> Result<Result<(Uuid, AccessChange), Pressed>, Refusal> {
        let Some(id) = self.signed(portal, kind.as_str()) else { return Ok(Err(Pressed::Unknown)) };
        let change = portal.store.access_change(id, kind).await?;
        Ok(match change {
            Some(change) if change.state == LinkState::Good => Ok((id, change)),
            Some(change) => Err(change.state.into()),
            None => Err(Pressed::Unknown),
        })
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

/// The page for a link that does not work: what happened, and what to do.
pub(crate) fn stale(shell: Shell, kind: ChangeKind, how: Pressed) -> Response {
    let (title, text) = match (how, kind) {
        (Pressed::Used, ChangeKind::ResetPassword) => (
            "This link was used already",
            "It works once. If you chose a new password with it, log in. If it was not you, ask for another link at once.",
        ),
        (Pressed::Used, ChangeKind::Unlock) => ("This link was used already", "Your log-in is open. Log in as usual."),
        (Pressed::Used, _) => (
            "This link was used already",
            "It works once, and only the newest one counts. Look at your account, and ask again if you still need it.",
        ),
        (Pressed::Expired, ChangeKind::ResetPassword) => {
            ("This link is too old", "It works for 30 minutes. Ask for another one; your password is still the same.")
        }
        (Pressed::Expired, ChangeKind::Unlock) => {
            ("This link is too old", "The lock has ended by itself meanwhile. Log in as usual.")
        }
        (Pressed::Expired, _) => ("This link is too old", "It works for a day. Nothing was changed; ask again."),
        (Pressed::Taken, _) => (
            "This address is in use",
            "Somebody else uses this address here by now, so yours was not changed. Choose another one.",
        ),
        (Pressed::Unknown | Pressed::Done, _) => (
            "This link does not work",
            "A part of it was lost on the way, or it is for another account than the one you are logged in with. \
             Copy the whole link from the letter, or ask for another one.",
        ),
    };
    let (path, label) = match kind {
        ChangeKind::ResetPassword => ("/accounts/reset/", "Ask for another link"),
        ChangeKind::Unlock => ("/accounts/login/", "To the log-in"),
        ChangeKind::ChangeAddress => ("/accounts/address/", "Change your address"),
        ChangeKind::Close => ("/accounts/", "To your account"),
    };
    page::render(StatusCode::BAD_REQUEST, &Stale { shell, title, text, path, label })
}

/// The page for any other link that does not work: what happened, what to do, and the way on.
pub(crate) fn dead(
    shell: Shell,
    (title, text): (&'static str, &'static str),
    (path, label): (&'static str, &'static str),
) -> Response {
    page::render(StatusCode::BAD_REQUEST, &Stale { shell, title, text, path, label })
}
