//! The messages over HTTP: pages for people, JSON for programs.

use std::fmt::Write;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::letter::Letter;
use super::spool::Spool;

const PAGE_CSP: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; form-action 'none'";
const LETTER_CSP: &str =
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:";
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;color:#1b1f24;background:#fff}\
ul{list-style:none;padding:0}li{border-bottom:1px solid #d0d7de}li a{display:block;padding:.75rem 0;color:inherit;text-decoration:none}\
li a:focus,li a:hover{background:#f3f5f7}small,dt{color:#57606a}dl{display:grid;grid-template-columns:auto 1fr;gap:.25rem 1rem}\
dd{margin:0;overflow-wrap:anywhere}pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f3f5f7;padding:1rem;font-size:.9rem}\
iframe{width:100%;height:70vh;border:1px solid #d0d7de}h1{font-size:1.4rem;overflow-wrap:anywhere}";

/// The web side of the catcher.
pub(super) fn router(spool: Spool) -> Router {
    Router::new()
        .route("/", get(list_page))
        .route("/messages/{id}", get(letter_page))
        .route("/messages/{id}/html", get(letter_html))
        .route(
            "/view/{id}",
            get(|Path(id): Path<String>| async move { Redirect::permanent(&format!("/messages/{id}")) }),
        )
        .route("/api/v1/messages", get(list).delete(clear))
        .route("/api/v1/message/{id}", get(one))
        .route("/api/v1/message/{id}/raw", get(raw))
        .route("/api/v1/search", get(search))
        .with_state(spool)
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    start: usize,
    #[serde(default = "fifty")]
    limit: usize,
    #[serde(default)]
    query: String,
}

const fn fifty() -> usize {
    50
}

async fn list(State(spool): State<Spool>, Query(range): Query<Range>) -> Json<Value> {
    answer(&spool, &range, |_| true)
}

/// Understands `to:`, `from:` and `subject:` with a value, quoted or not, and bare words; all must match.
async fn search(State(spool): State<Spool>, Query(range): Query<Range>) -> Json<Value> {
    let terms: Vec<String> = range.query.split_whitespace().map(|term| term.replace('"', "").to_lowercase()).collect();
    let holds = |letter: &Letter, term: &String| match term.split_once(':') {
        Some(("to" | "addressed", address)) => letter.is_to(address),
        Some(("from", address)) => letter.from.address.to_lowercase().contains(address),
        Some(("subject", words)) => letter.subject.to_lowercase().contains(words),
        _ => {
            letter.source.to_lowercase().contains(term.as_str())
                || letter.subject.to_lowercase().contains(term.as_str())
        }
    };
    answer(&spool, &range, |letter| terms.iter().all(|term| holds(letter, term)))
}

fn answer(spool: &Spool, range: &Range, wanted: impl Fn(&Letter) -> bool) -> Json<Value> {
    let letters = spool.letters();
    let total = letters.len();
    let found: Vec<_> = letters.into_iter().filter(|letter| wanted(letter)).collect();
    let shown: Vec<Value> = found.iter().skip(range.start).take(range.limit).map(|letter| letter.summary()).collect();
    Json(json!({
        "total": total, "unread": total, "count": shown.len(), "messages_count": found.len(), "start": range.start,
        "messages": shown,
    }))
}

async fn one(State(spool): State<Spool>, Path(id): Path<String>) -> Response {
    found(&spool, &id, |letter| Json(letter.whole()).into_response())
}

async fn raw(State(spool): State<Spool>, Path(id): Path<String>) -> Response {
    found(&spool, &id, |letter| letter.source.clone().into_response())
}

/// Whatever the body says, every message goes.
async fn clear(State(spool): State<Spool>) -> Response {
    match spool.clear().await {
        Ok(()) => "ok".into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{why:#}")).into_response(),
    }
}

fn found(spool: &Spool, id: &str, show: impl FnOnce(&Letter) -> Response) -> Response {
    let wanted = if id == "latest" { spool.letters().into_iter().next() } else { spool.letter(id) };
    wanted.map_or_else(|| (StatusCode::NOT_FOUND, "no such message").into_response(), |letter| show(&letter))
}

async fn list_page(State(spool): State<Spool>) -> Response {
    let letters = spool.letters();
    let mut body = format!("<h1>Mail ({})</h1><ul>", letters.len());
    for letter in letters.iter().take(500) {
        let to: Vec<&str> = letter.to.iter().map(|to| to.address.as_str()).collect();
        let (id, subject, when) = (&letter.id, escaped(&letter.subject), letter.created_text());
        let (from, to) = (escaped(&letter.from.address), escaped(&to.join(", ")));
        let subject = if subject.is_empty() { "(no subject)" } else { &subject };
        _ = write!(
            body,
            "<li><a href=\"/messages/{id}\"><strong>{subject}</strong><br><small>{from} → {to} · \
             <time datetime=\"{when}\">{when}</time></small></a></li>"
        );
    }
    body.push_str("</ul>");
    page("Mail", &body)
}

async fn letter_page(State(spool): State<Spool>, Path(id): Path<String>) -> Response {
    found(&spool, &id, |letter| {
        let to: Vec<String> = letter.to.iter().map(|to| format!("{} <{}>", to.name, to.address)).collect();
        let subject = escaped(&letter.subject);
        let from = escaped(&format!("{} <{}>", letter.from.name, letter.from.address));
        let mut body = format!(
            "<p><a href=\"/\">All mail</a></p><h1>{subject}</h1><dl><dt>From</dt><dd>{from}</dd><dt>To</dt><dd>{}</dd>\
             <dt>Time</dt><dd>{}</dd></dl>",
            escaped(&to.join(", ")),
            letter.created_text(),
        );
        if !letter.text.is_empty() {
            _ = write!(body, "<h2>Text</h2><pre>{}</pre>", linked(&letter.text));
        }
        if !letter.html.is_empty() {
            let id = &letter.id;
            _ = write!(
                body,
                "<h2>HTML</h2><iframe title=\"The message as HTML\" src=\"/messages/{id}/html\" \
                 sandbox=\"allow-popups allow-popups-to-escape-sandbox\"></iframe>"
            );
        }
        page(&subject, &body)
    })
}

async fn letter_html(State(spool): State<Spool>, Path(id): Path<String>) -> Response {
    found(&spool, &id, |letter| {
        let based = format!("<base target=\"_blank\">{}", letter.html);
        ([(header::CONTENT_SECURITY_POLICY, LETTER_CSP)], Html(based)).into_response()
    })
}

fn page(title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{STYLE}</style></head>\
         <body><main>{body}</main></body></html>"
    );
    ([(header::CONTENT_SECURITY_POLICY, PAGE_CSP)], Html(html)).into_response()
}

/// Text that HTML shows as it is.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// Text with its web addresses made links.
fn linked(text: &str) -> String {
    let link = |word: &str| {
        let shown = escaped(word);
        let is_address = word.starts_with("http://") || word.starts_with("https://");
        if is_address { format!("<a href=\"{shown}\" rel=\"noreferrer\">{shown}</a>") } else { shown }
    };
    text.split_inclusive(char::is_whitespace).fold(String::new(), |mut shown, piece| {
        let word = piece.trim_end();
        shown.push_str(&link(word));
        shown.push_str(&piece[word.len()..]);
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::{escaped, linked};

    #[test]
    fn nothing_in_a_message_becomes_markup() {
        assert_eq!(escaped("<b a=\"1\">&'"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
        assert_eq!(
            linked("see\nhttps://x/?a=1&b=\"2 <i>"),
            "see\n<a href=\"https://x/?a=1&amp;b=&quot;2\" rel=\"noreferrer\">https://x/?a=1&amp;b=&quot;2</a> &lt;i&gt;"
        );
    }
}
