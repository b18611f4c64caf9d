//! What stands around every request: its id, its span, its limits, its headers, and a page for every bare error.
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::Response,
};
use futures::FutureExt;
use store::SessionRows;
use tower_http::{
    CompressionLevel,
    compression::CompressionLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    timeout::{RequestBodyDeadlineLayer, TimeoutLayer},
    trace::TraceLayer,
};
use tower_sessions::{Expiry, SessionManagerLayer, cookie::SameSite};
use tracing::field::Empty;

use super::{Portal, headers, hosts, measure::measure, page};
use crate::telemetry::note_trace;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a handler may take. A stream of events only has to begin within it.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The largest form.
const FORM_LIMIT_BYTES: usize = 64 * 1024;
/// The largest webhook.
const WEBHOOK_LIMIT_BYTES: usize = 1024 * 1024;
/// How long the session of somebody who has not logged in is kept.
pub(crate) const ANONYMOUS_SESSION: time::Duration = time::Duration::hours(2);

/// Gives the layer that loads and keeps sessions.
pub(crate) fn sessions(portal: &Portal) -> SessionManagerLayer<SessionRows> {
    let secure = portal.settings.secure_cookies;
    SessionManagerLayer::new(SessionRows(portal.store.clone()))
        .with_name(session_cookie(secure))
        .with_secure(secure)
        .with_http_only(true)
        .with_same_site(SameSite::Lax)
        .with_path("/")
        .with_expiry(Expiry::OnInactivity(ANONYMOUS_SESSION))
}

/// The name of the cookie that holds a session's id.
pub(crate) fn session_cookie(secure: bool) -> &'static str {
    if secure { "__Host-ez" } else { "ez" }
}

/// Puts limits, headers, logs and error pages around the routes. Webhooks have a larger limit than forms.
pub(crate) fn around(
    portal: &Arc<Portal>,
    site: Router<Arc<Portal>>,
    webhooks: Router<Arc<Portal>>,
) -> Router<Arc<Portal>> {
    let limited = site.layer(DefaultBodyLimit::max(FORM_LIMIT_BYTES));
    limited
        .merge(webhooks.layer(DefaultBodyLimit::max(WEBHOOK_LIMIT_BYTES)))
        .fallback(page::unknown)
        .layer(RequestBodyDeadlineLayer::new(Duration::from_secs(portal.settings.door.patience_secs.into())))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_WITHIN))
        .layer(middleware::from_fn(survive_panic))
        .layer(middleware::from_fn(dress_bare_errors))
        .layer(CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest))
        .layer(middleware::from_fn_with_state(hosts::Hosts::of(&portal.settings), hosts::check))
        .layer(middleware::from_fn_with_state(headers::Fixed::of(&portal.settings), headers::add))
        .layer(middleware::from_fn(measure))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(middleware::from_fn(forget_foreign_id))
}

/// Only the path is recorded: queries carry the tags of links in letters.
fn span(request: &Request) -> tracing::Span {
    let id = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (method, path) = (request.method(), request.uri().path());
    let span = tracing::info_span!("request", otel.kind = "server", id, %method, path, trace_id = Empty);
    note_trace(&span);
    span
}

/// A request id is ours to give: one from outside could be anything.
async fn forget_foreign_id(mut request: Request, next: Next) -> Response {
    request.headers_mut().remove(REQUEST_ID);
    next.run(request).await
}

async fn survive_panic(request: Request, next: Next) -> Response {
    if let Ok(response) = AssertUnwindSafe(next.run(request)).catch_unwind().await {
        return response;
    }
    tracing::error!("a handler panicked");
    page::error(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Gives a page to every error that came without one: refused methods, lost time, sessions that could not be kept.
async fn dress_bare_errors(request: Request, next: Next) -> Response {
    let wants_page = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    let response = next.run(request).await;
    let status = response.status();
    let bare = !response.headers().contains_key(header::CONTENT_TYPE);
    if !(status.is_client_error() || status.is_server_error()) || !bare {
        return response;
    }
    let lost = status == StatusCode::INTERNAL_SERVER_ERROR || status == StatusCode::SERVICE_UNAVAILABLE;
    let status = if lost { StatusCode::SERVICE_UNAVAILABLE } else { status };
    if wants_page {
        return page::error(status);
    }
    let mut plain = Response::new(format!("{status}\n").into());
    *plain.status_mut() = status;
    plain.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if lost {
        plain.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    plain
}
