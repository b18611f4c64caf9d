//! What the pages share: one plain document with its styles, escaping, amounts, dates.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use time::OffsetDateTime;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f5f6f8;color:#1b1f27}\
main{max-width:34rem;margin:2rem auto;padding:1.5rem;background:#fff;border-radius:.6rem}\
h1{font-size:1.4rem;margin-top:0}section{border-top:1px solid #d5d9e0;padding:1rem 0}\
label{display:block;font-weight:600}input,select{font:inherit;padding:.5rem;width:100%;box-sizing:border-box;margin:.2rem 0 1rem}\
button{font:inherit;padding:.6rem 1rem;margin:.2rem .4rem .2rem 0;border:1px solid #3a4db8;border-radius:.4rem;background:#fff;color:#25338a;cursor:pointer}\
button.main{background:#3a4db8;color:#fff}form{margin:.4rem 0}.alert{background:#fdecea;color:#7a1c12;padding:.8rem;border-radius:.4rem}\
.note{background:#e9f4ec;padding:.8rem;border-radius:.4rem}";

/// A whole page; `body` is HTML.
pub(super) fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let title = escape(title);
    let document = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    (status, Html(document)).into_response()
}

/// Text that is safe between tags and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// `12.50 EUR`.
pub(super) fn amount(minor: i64, currency: &str) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    let minor = minor.unsigned_abs();
    format!("{sign}{}.{:02} {}", minor / 100, minor % 100, escape(&currency.to_uppercase()))
}

/// `2027-02-28 09:30 UTC`.
pub(super) fn moment(unix_secs: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix_secs).map_or_else(
        |_| unix_secs.to_string(),
        |at| {
            format!("{}-{:02}-{:02} {:02}:{:02} UTC", at.year(), u8::from(at.month()), at.day(), at.hour(), at.minute())
        },
    )
}
