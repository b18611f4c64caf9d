//! The frame of every page, and the pages for what did not work.
use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use store::StoreError;

use super::redirect;

/// What the frame of a page shows.
#[derive(Default)]
pub(crate) struct Shell {
    /// The user's name, when logged in.
    pub(crate) name: Option<String>,
    /// Whether the way to the staff page is shown.
    pub(crate) is_staff: bool,
    /// The token for forms; empty where there is none.
    pub(crate) csrf: String,
    /// Which entry of the menu this page belongs to.
    pub(crate) here: &'static str,
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
    /// The form is not one of ours, or its session is over.
    StaleForm,
    /// The form is larger than we take.
    TooLarge,
    /// The form could not be read to its end.
    Unreadable,
    /// The database refused or is away.
    Store(StoreError),
    /// The session could not be read or kept.
    Session(tower_sessions::session::Error),
    /// A mistake of ours; says which.
    Broken(&'static str),
}

impl From<StoreError> for Refusal {
    fn from(fault: StoreError) -> Self {
        Self::Store(fault)
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
            Self::StaleForm => error(StatusCode::FORBIDDEN),
            Self::TooLarge => error(StatusCode::PAYLOAD_TOO_LARGE),
            Self::Unreadable => error(StatusCode::BAD_REQUEST),
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
