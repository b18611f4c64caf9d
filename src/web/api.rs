//! What programs ask with a token. A route names what the token must be allowed to do in the type of its bearer, so none can
//! forget to look: `Bearer<ServicesRead>`. Nothing here knows of sessions or cookies.
use std::{marker::PhantomData, sync::Arc};

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use sha2::{Digest, Sha256};
use store::{Scope, StoreError, TokenBearer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

use super::{Portal, Shared, caller::Caller, page::whole};

/// What every token begins with, so that people and scanners of secrets recognise it.
const BEGIN: &str = "ez_";
/// How many characters of it are kept to recognise it by, the beginning included.
const PREFIX: usize = 9;
const SCHEME: &str = "bearer ";
const REFUSED_METRIC: &str = "ez_api_refused_total";

/// A token: 256 random bits. Has no `Debug`: it is a secret, and is wiped when it is dropped.
pub(crate) struct Token(Zeroizing<[u8; 32]>);

impl Token {
    /// Makes a new one.
    pub(crate) fn new() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// As its owner keeps it.
    pub(crate) fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{BEGIN}{}", URL_SAFE_NO_PAD.encode(*self.0)))
    }

    /// What it is recognised by: 36 of its bits, which leaves 220 to guess.
    pub(crate) fn prefix(&self) -> String {
        self.text().chars().take(PREFIX).collect()
    }

    /// What is kept of it.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(*self.0).into()
    }

    fn read(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.strip_prefix(BEGIN)?).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }
}

/// What a token may do, in words.
pub(crate) fn words(scope: Scope) -> &'static str {
    match scope {
        Scope::AccountRead => "Read whose account it is",
        Scope::ServicesRead => "Read your servers: names, addresses, plans and states",
    }
}

/// What a route asks of a token.
pub(crate) trait Asks {
    /// What it must be allowed to do.
    const SCOPE: Scope;
}

/// Of a token that may read the account.
pub(crate) struct AccountRead;

impl Asks for AccountRead {
    const SCOPE: Scope = Scope::AccountRead;
}

/// Of a token that may read what the account has.
pub(crate) struct ServicesRead;

impl Asks for ServicesRead {
    const SCOPE: Scope = Scope::ServicesRead;
}

/// Whoever brought a token that may do what the route asks for.
pub(crate) struct Bearer<A> {
    token: TokenBearer,
    asks: PhantomData<fn() -> A>,
}

impl<A: Asks> FromRequestParts<Arc<Portal>> for Bearer<A> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, Refused> {
        let brought = brought(&parts.headers)?;
        let token = portal.store.token_bearer(&brought.hash()).await?.ok_or(Refused::Unknown)?;
        if !token.scopes.contains(&A::SCOPE) {
            return Err(Refused::Scope(A::SCOPE));
        }
        // An answer is as good without the note.
        if token.is_rested
            && let Err(fault) = portal.store.token_used(token.id, &Caller::of(parts, &portal.settings).network()).await
        {
            tracing::warn!(fault = whole(&fault), "the use of a token could not be noted");
        }
        tracing::debug!(token = %token.id, "a token is used");
        Ok(Self { token, asks: PhantomData })
    }
}

/// The one token of a request.
fn brought(headers: &HeaderMap) -> Result<Token, Refused> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Err(Refused::Missing) };
    let line = line.to_str().map_err(|_| Refused::Missing)?;
    let scheme = line.get(..SCHEME.len()).filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
    let text = scheme.and_then(|scheme| line.get(scheme.len()..)).ok_or(Refused::Missing)?;
    Token::read(text.trim()).ok_or(Refused::Unknown)
}

/// Why a program gets no answer. It says nothing of what is there.
#[derive(Debug)]
pub(crate) enum Refused {
    /// No token, or more than one.
    Missing,
    /// None of ours, or one that works no more.
    Unknown,
    /// It may not do that.
    Scope(Scope),
    /// What it is about is not there any more.
    NotFound,
    /// The database refused or is away.
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(fault: StoreError) -> Self {
        Self::Store(fault)
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
    message: String,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, error, message, challenge) = match self {
            Self::Missing => (
                StatusCode::UNAUTHORIZED,
                "no_token",
                "Send one token in the header Authorization: Bearer ez_…".to_owned(),
                Some("Bearer".to_owned()),
            ),
            Self::Unknown => (
                StatusCode::UNAUTHORIZED,
                "invalid_token",
                "This token does not work: it was revoked, is too old, or is none of ours.".to_owned(),
                Some(r#"Bearer error="invalid_token""#.to_owned()),
            ),
            Self::Scope(scope) => (
                StatusCode::FORBIDDEN,
                "insufficient_scope",
                format!("This token may not do that. It needs {scope}."),
                Some(format!(r#"Bearer error="insufficient_scope", scope="{scope}""#)),
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "This is not here.".to_owned(), None),
            Self::Store(fault @ StoreError::Unavailable { .. }) => {
                tracing::warn!(fault = whole(&fault), "the database is away");
                (StatusCode::SERVICE_UNAVAILABLE, "away", "Try again in a few seconds.".to_owned(), None)
            }
            Self::Store(fault) => {
                tracing::error!(fault = whole(&fault), "the database refused");
                (StatusCode::INTERNAL_SERVER_ERROR, "broken", "It is our fault.".to_owned(), None)
            }
        };
        metrics::counter!(REFUSED_METRIC, "why" => error).increment(1);
        let mut response = unkept((status, Json(Problem { error, message })).into_response());
        if let Some(value) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// An answer that no cache keeps.
fn unkept(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[derive(Serialize)]
struct Account {
    id: String,
    token: String,
    scopes: Vec<Scope>,
    made_by: String,
}

/// Whose account it is, and what the token may do.
pub(crate) async fn account(State(portal): Shared, bearer: Bearer<AccountRead>) -> Result<Response, Refused> {
    let token = bearer.token;
    let user = portal.store.user(token.user).await?.ok_or(Refused::NotFound)?;
    let answer = Account {
        id: token.account.to_string(),
        token: token.id.to_string(),
        scopes: token.scopes,
        made_by: user.name,
    };
    Ok(unkept(Json(answer).into_response()))
}

#[derive(Serialize)]
struct Service {
    id: String,
    hostname: String,
    name: Option<String>,
    ipv4: Option<String>,
    ipv6: Option<String>,
    status: &'static str,
    plan: String,
    paid_until: Option<String>,
}

#[derive(Serialize)]
struct Services {
    services: Vec<Service>,
}

/// What the account has, as on its dashboard.
pub(crate) async fn services(State(portal): Shared, bearer: Bearer<ServicesRead>) -> Result<Response, Refused> {
    let board = portal.store.dashboard(bearer.token.account).await?;
    let services = board.services.into_iter().map(|service| Service {
        id: service.id.to_string(),
        hostname: service.hostname,
        name: service.dns_name,
        ipv4: service.ipv4.map(|address| address.to_string()),
        ipv6: service.ipv6.map(|address| address.to_string()),
        status: service.status.as_str(),
        plan: service.plan_name,
        paid_until: service.period_end.and_then(moment),
    });
    Ok(unkept(Json(Services { services: services.collect() }).into_response()))
}

fn moment(at: OffsetDateTime) -> Option<String> {
    at.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_read_as_it_was_shown_and_nothing_else_is() {
        let token = Token::new();
        let text = token.text();
        assert_eq!(text.len(), 46);
        assert!(text.starts_with(&token.prefix()) && token.prefix().len() == PREFIX);
        for line in [format!("Bearer {}", *text), format!("bearer  {} ", *text)] {
            assert_eq!(brought(&headers(&[&line])).unwrap().hash(), token.hash(), "{line}");
        }
        for bad in ["Bearer ez_short", "Bearer", "Bearer ", "Bearer ez_"] {
            assert!(brought(&headers(&[bad])).is_err(), "{bad}");
        }
        let bare = text.trim_start_matches(BEGIN);
        for bad in [format!("Basic {}", *text), format!("Bearer {bare}"), format!("Bearer {}A", *text), (*text).clone()]
        {
            assert!(brought(&headers(&[&bad])).is_err(), "{bad}");
        }
        let line = format!("Bearer {}", *text);
        assert!(matches!(brought(&headers(&[&line, &line])), Err(Refused::Missing)), "two tokens");
        assert!(matches!(brought(&headers(&[])), Err(Refused::Missing)), "no token");
    }
}
