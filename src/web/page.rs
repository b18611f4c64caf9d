//! The frame of every page, and the pages for what did not work.
use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use store::{Seat, StoreError, USER_EPOCH};

use super::{
    limits, permit, redirect,
    words::{self, When},
};

/// What the frame of a page shows.
#[derive(Default)]
pub(crate) struct Shell {
    /// The user's name, when logged in.
    pub(crate) name: Option<String>,
    /// What the user is in the account they look at, and here, when logged in.
    pub(crate) seat: Option<Seat>,
    /// The token for forms; empty where there is none.
    pub(crate) csrf: String,
    /// Which entry of the menu this page belongs to.
    pub(crate) here: &'static str,
}

impl Shell {
    /// Whether the visitor may ask for this: a page offers nothing that would be refused.
    pub(crate) fn may(&self, method: &str, route: &str) -> bool {
        permit::may(self.seat.as_ref(), method, route)
    }

    /// Whether one of the staff looks at a customer's account.
    pub(crate) fn is_viewing(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.viewing.is_some())
    }

    /// Whether the visitor belongs to several accounts, so that it has to be said which one this is.
    pub(crate) fn has_accounts(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.accounts > 1)
    }

    /// The name of the account that is looked at.
    pub(crate) fn account_name(&self) -> &str {
        self.seat.as_ref().map_or("", |seat| seat.account_name.as_str())
    }

    /// Why one of the staff looks at it.
    pub(crate) fn viewing_reason(&self) -> &str {
        let viewing = self.seat.as_ref().and_then(|seat| seat.viewing.as_ref());
        viewing.map_or("", |viewing| viewing.reason.as_str())
    }

    /// Until when.
    pub(crate) fn viewing_ends(&self) -> Option<When> {
        let viewing = self.seat.as_ref().and_then(|seat| seat.viewing.as_ref());
        viewing.map(|viewing| words::moment(&viewing.ends_at))
    }
}

/// Renders a page.
pub(crate) fn render(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(fault) => {
            tracing::error!(%fault, "a page could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, Html("<h1>Something went wrong</h1>")).into_response()
        }
    }
}

/// Renders a page that is all right.
pub(crate) fn ok(template: &impl Template) -> Response {
    render(StatusCode::OK, template)
}

#[derive(Template)]
#[template(path = "page/error.html")]
struct ErrorPage {
    shell: Shell,
    code: u16,
    title: &'static str,
    text: &'static str,
}

/// Gives the page for a status, with `Retry-After` where trying again helps.
pub(crate) fn error(status: StatusCode) -> Response {
    let (title, text) = match status {
        StatusCode::NOT_FOUND => {
            ("This page is not here", "It may have moved, or the address has a typing mistake in it.")
        }
        StatusCode::FORBIDDEN => {
            ("This form has expired", "Go back, reload the page and send it again. Nothing was changed.")
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            ("That does not work here", "This address is there, but it cannot be used in this way.")
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            ("That was too much", "The form is larger than we take. Shorten it and send it again.")
        }
        StatusCode::REQUEST_TIMEOUT => {
            ("That took too long", "The form arrived too slowly to be read. Send it again; nothing was changed.")
        }
        StatusCode::TOO_MANY_REQUESTS => ("A little slower, please", "Wait a minute and try again."),
        StatusCode::SERVICE_UNAVAILABLE => (
            "We will be right back",
            "A part of the portal is away for a moment. Your servers are not affected. Try again in a few seconds.",
        ),
        _ if status.is_client_error() => ("We could not read that", "Go back and try again."),
        _ => ("Something went wrong", "It is our fault, and it was written down. Try again in a moment."),
    };
    let page = ErrorPage { shell: Shell { here: "error", ..Shell::default() }, code: status.as_u16(), title, text };
    let mut response = render(status, &page);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// The answer for every address there is not.
pub(crate) async fn unknown() -> Response {
    error(StatusCode::NOT_FOUND)
}

/// Why a page is not shown, for every page group alike.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Not there, or not for this visitor to know of.
    NotFound,
    /// Somebody has to log in first, and comes back to this path.
    LoginFirst(String),
    /// Somebody has to say again who they are, and comes back to this path.
    ProveFirst(String),
    /// Somebody has to add a second factor, or log in with it.
    FactorFirst,
    /// The form is not one of ours, or its session is over.
    StaleForm,
    /// The form is larger than we take.
    TooLarge,
    /// The form could not be read to its end.
    Unreadable,
    /// The form came too slowly.
    TooSlow,
    /// Too many ask for the same at once.
    Busy,
    /// The database refused or is away.
    Store(StoreError),
    /// The session could not be read or kept.
    Session(tower_sessions::session::Error),
    /// It was tried too often.
    Slower {
        /// For how long nothing is taken, in seconds.
        secs: u64,
        /// Whether it is a lock that a letter opens.
        locked: bool,
    },
    /// A mistake of ours; says which.
    Broken(&'static str),
}

impl From<StoreError> for Refusal {
    fn from(fault: StoreError) -> Self {
        match fault {
            // Whoever asks was logged out while this was done.
            StoreError::Conflict { constraint } if constraint == USER_EPOCH => {
                Self::LoginFirst("/accounts/".to_owned())
            }
            fault => Self::Store(fault),
        }
    }
}

impl From<tower_sessions::session::Error> for Refusal {
    fn from(fault: tower_sessions::session::Error) -> Self {
        Self::Session(fault)
    }
}

impl From<askama::Error> for Refusal {
    fn from(fault: askama::Error) -> Self {
        tracing::error!(%fault, "a page could not be rendered");
        Self::Broken("rendering a page")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => error(StatusCode::NOT_FOUND),
            Self::LoginFirst(path) => redirect::see_other(&redirect::login_then(&path)),
            Self::ProveFirst(path) => redirect::see_other(&redirect::prove_then(&path)),
            Self::FactorFirst => redirect::see_other("/accounts/factors/?staff=1"),
            Self::StaleForm => error(StatusCode::FORBIDDEN),
            Self::TooLarge => error(StatusCode::PAYLOAD_TOO_LARGE),
            Self::Unreadable => error(StatusCode::BAD_REQUEST),
            Self::TooSlow => error(StatusCode::REQUEST_TIMEOUT),
            Self::Busy => error(StatusCode::SERVICE_UNAVAILABLE),
            Self::Slower { secs, locked } => limits::slower(secs, locked),
            Self::Store(fault @ StoreError::Unavailable { .. }) => {
                tracing::warn!(fault = whole(&fault), "the database is away");
                error(StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Store(fault) => {
                tracing::error!(fault = whole(&fault), "the database refused");
                error(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::Session(fault) => {
                tracing::warn!(fault = whole(&fault), "a session could not be read or kept");
                error(StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Broken(what) => {
                tracing::error!(what, "a mistake of ours");
                error(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

/// Gives an error with everything that caused it, on one line.
pub(crate) fn whole(fault: &dyn std::error::Error) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
