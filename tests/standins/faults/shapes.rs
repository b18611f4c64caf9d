//! Answers that are none: what a broken vendor, or whatever stands before it, says with status 200.
//!
//! `half`: the first half of the JSON. `empty`: nothing. `html`: a page. `list`: `[]`. `hollow`: `{}`. `number`: `42`.
//! `short`: the whole JSON under a content length it never reaches.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use hyper::body::Frame;

/// Every shape.
pub(super) const ALL: [&str; 7] = ["half", "empty", "html", "list", "hollow", "number", "short"];

const PAGE: &str = "<!doctype html><title>Welcome</title><h1>It works!</h1>";
/// How many bytes a short answer lacks.
const MISSING_BYTES: usize = 64;

/// The answer in another shape.
pub(super) async fn shaped(response: Response, shape: &str) -> Response {
    let whole = to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
    match shape {
        "empty" => json(Bytes::new()),
        "html" => Html(PAGE).into_response(),
        "list" => json("[]".into()),
        "hollow" => json("{}".into()),
        "number" => json("42".into()),
        "short" => short(whole),
        _ => half(&whole),
    }
}

fn json(text: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

fn half(whole: &Bytes) -> Response {
    let half = whole.slice(..whole.len() / 2);
    json(if half.is_empty() { "{\"".into() } else { half })
}

fn short(whole: Bytes) -> Response {
    let claimed = (whole.len() + MISSING_BYTES).to_string();
    let headers = [(CONTENT_TYPE, "application/json".to_owned()), (CONTENT_LENGTH, claimed)];
    (headers, Body::new(Piece(Some(whole)))).into_response()
}

/// A body that does not say beforehand how long it is.
struct Piece(Option<Bytes>);

impl HttpBody for Piece {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}
