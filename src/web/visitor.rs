//! Who is asking: from the session, looked up at every request.
use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{Method, request::Parts},
};
use domain::ids::UserId;
use store::{User, sessions};
use tower_sessions::{Expiry, Session};

use super::{
    Portal,
    csrf::Token,
    page::{Refusal, Shell},
};

const TOKEN: &str = "csrf";
/// How long somebody stays logged in, counted from the log-in.
const LOGGED_IN: time::Duration = time::Duration::days(14);

/// Somebody, logged in or not.
pub(crate) struct Visitor {
    session: Session,
    token: Option<Token>,
    /// The user, when logged in.
    pub(crate) user: Option<User>,
}

impl Visitor {
    async fn read(parts: &Parts) -> Result<Self, Refusal> {
        let Some(session) = parts.extensions.get::<Session>().cloned() else {
            return Err(Refusal::Broken("a page without sessions"));
        };
        let token = session.get::<String>(TOKEN).await?.as_deref().and_then(Token::from_kept);
        let user = session.get::<User>(sessions::WHO_KEY).await?;
        Ok(Self { session, token, user })
    }

    /// Gives what the frame of a page shows, for a page without a form of its own.
    pub(crate) fn shell(&self, here: &'static str) -> Shell {
        Shell {
            name: self.user.as_ref().map(|user| user.name.clone()),
            is_staff: self.user.as_ref().is_some_and(|user| user.is_staff),
            csrf: self.token.as_ref().map(Token::shown).unwrap_or_default(),
            here,
        }
    }

    /// Gives what the frame of a page with a form shows; the session gets its token when it has none.
    pub(crate) async fn form_shell(&mut self, here: &'static str) -> Result<Shell, Refusal> {
        if self.token.is_none() {
            let token = Token::new();
            self.session.insert(TOKEN, token.kept()).await?;
            self.token = Some(token);
        }
        Ok(self.shell(here))
    }

    /// Says whether a form brought the session's token.
    pub(crate) fn sent(&self, shown: &str) -> bool {
        self.token.as_ref().is_some_and(|token| token.matches(shown))
    }

    /// Makes the session the user's, under a new id and with a new token.
    pub(crate) async fn log_in(&mut self, user: UserId) -> Result<(), Refusal> {
        self.session.cycle_id().await?;
        let token = Token::new();
        self.session.insert(sessions::USER_KEY, user).await?;
        self.session.insert(TOKEN, token.kept()).await?;
        self.session.set_expiry(Some(Expiry::AtDateTime(time::OffsetDateTime::now_utc() + LOGGED_IN)));
        self.token = Some(token);
        Ok(())
    }

    /// Ends the session: its id is worth nothing from now on.
    pub(crate) async fn log_out(&mut self) -> Result<(), Refusal> {
        self.session.flush().await?;
        self.user = None;
        self.token = None;
        Ok(())
    }
}

impl FromRequestParts<Arc<Portal>> for Visitor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Portal>) -> Result<Self, Refusal> {
        Self::read(parts).await
    }
}

impl OptionalFromRequestParts<Arc<Portal>> for Visitor {
    type Rejection = Refusal;

    /// For pages that are as good without knowing who asks, even while the database is away.
    async fn from_request_parts(parts: &mut Parts, _: &Arc<Portal>) -> Result<Option<Self>, Refusal> {
        Ok(Self::read(parts).await.ok())
    }
}

/// The visitor, when a page has to be written for them alone because they are logged in.
pub(crate) fn known(visitor: Option<&Visitor>) -> Option<&Visitor> {
    visitor.filter(|visitor| visitor.user.is_some())
}

/// Somebody who is logged in; everybody else is sent to the log-in page and back.
pub(crate) struct Customer {
    /// The visit.
    pub(crate) visitor: Visitor,
    /// Who it is.
    pub(crate) user: User,
}

impl FromRequestParts<Arc<Portal>> for Customer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Portal>) -> Result<Self, Refusal> {
        let visitor = Visitor::read(parts).await?;
        match visitor.user.clone() {
            Some(user) => Ok(Self { visitor, user }),
            None => Err(Refusal::LoginFirst(way_back(parts))),
        }
    }
}

/// A form cannot be sent again after logging in, so only pages are come back to.
pub(crate) fn way_back(parts: &Parts) -> String {
    if parts.method != Method::GET {
        return "/dashboard/".to_owned();
    }
    parts.uri.path_and_query().map_or_else(|| "/dashboard/".to_owned(), ToString::to_string)
}

/// A member of staff; for everybody else these pages do not exist.
pub(crate) struct Staff {
    /// The visit.
    pub(crate) visitor: Visitor,
    /// Who it is.
    pub(crate) user: User,
}

impl FromRequestParts<Arc<Portal>> for Staff {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Portal>) -> Result<Self, Refusal> {
        let visitor = Visitor::read(parts).await?;
        match visitor.user.clone().filter(|user| user.is_staff) {
            Some(user) => Ok(Self { visitor, user }),
            None => Err(Refusal::NotFound),
        }
    }
}
