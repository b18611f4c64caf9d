//! What browsers report that a page wanted and its policy forbids. Anybody may send anything here, so little is read, less is
//! written down, and nothing of it is a person's: which rule, which kind of thing, and in which part of the portal.
use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    extract::rejection::BytesRejection,
    http::{HeaderMap, StatusCode, header},
};
use serde_json::Value;
use url::{Host, Url};

/// Where browsers send them.
pub(crate) const PATH: &str = "/csp-reports/";
/// The largest letter of reports, in bytes.
pub(crate) const LIMIT_BYTES: usize = 16 * 1024;
/// How many letters are read in a window; what comes beyond that is only counted.
const LETTERS_MAX: u32 = 60;
const WINDOW: Duration = Duration::from_mins(1);
/// How many reports of one letter are read.
const REPORTS_MAX: usize = 10;
const METRIC: &str = "ez_csp_reports_total";

/// The words a browser may use. Source: CSP Level 3, section 6.
const DIRECTIVES: [&str; 19] = [
    "base-uri",
    "child-src",
    "connect-src",
    "default-src",
    "font-src",
    "form-action",
    "frame-ancestors",
    "frame-src",
    "img-src",
    "manifest-src",
    "media-src",
    "object-src",
    "script-src",
    "script-src-attr",
    "script-src-elem",
    "style-src",
    "style-src-attr",
    "style-src-elem",
    "worker-src",
];
/// The parts of the portal.
const PARTS: [&str; 6] = ["accounts", "billing", "dashboard", "staff", "pricing", "about"];

/// Begins to count, so that operators see nought before the first.
pub(crate) fn count_from_nought() {
    for outcome in ["noted", "dropped", "unreadable"] {
        metrics::counter!(METRIC, "outcome" => outcome).increment(0);
    }
}

/// What is kept of a report.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    directive: &'static str,
    blocked: String,
    part: &'static str,
}

/// Takes a letter of reports. Nobody is told what became of it, but for what could be sent in another way.
pub(crate) async fn receive(headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> StatusCode {
    let (outcome, status) = received(&headers, body, &TURN);
    metrics::counter!(METRIC, "outcome" => outcome).increment(1);
    status
}

fn received(headers: &HeaderMap, body: Result<Bytes, BytesRejection>, turn: &Turn) -> (&'static str, StatusCode) {
    let body = match body {
        Ok(body) => body,
        Err(fault) => return ("unreadable", fault.status()),
    };
    if !turn.take(Instant::now()) {
        return ("dropped", StatusCode::TOO_MANY_REQUESTS);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !["application/csp-report", "application/reports+json", "application/json"].contains(&kind) {
        return ("unreadable", StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let Ok(letter) = serde_json::from_slice::<Value>(&body) else { return ("unreadable", StatusCode::BAD_REQUEST) };
    let reports = read(&letter);
    if reports.is_empty() {
        return ("unreadable", StatusCode::BAD_REQUEST);
    }
    for Report { directive, blocked, part } in reports {
        tracing::warn!(directive, blocked, part, "a page wanted what its policy forbids");
    }
    ("noted", StatusCode::NO_CONTENT)
}

/// Both shapes there are. Source: CSP Level 3, section 5.4 (`csp-report`), and the Reporting API, section 2.4 (a list).
fn read(letter: &Value) -> Vec<Report> {
    let one = letter.get("csp-report").into_iter();
    let many = letter.as_array().into_iter().flatten().filter_map(|report| report.get("body"));
    one.chain(many).filter(|body| body.is_object()).take(REPORTS_MAX).map(report).collect()
}

fn report(body: &Value) -> Report {
    let text = |names: [&str; 3]| names.iter().find_map(|name| body.get(*name)?.as_str()).unwrap_or_default();
    let directive = text(["effective-directive", "effectiveDirective", "violated-directive"]);
    let directive = directive.split_whitespace().next().unwrap_or_default();
    let blocked = text(["blocked-uri", "blockedURL", "blocked-url"]);
    let page = text(["document-uri", "documentURL", "document-url"]);
    Report {
        directive: DIRECTIVES.into_iter().find(|known| *known == directive).unwrap_or("other"),
        blocked: kind_of(blocked),
        part: part_of(page),
    }
}

/// What was wanted: a word, or a scheme and a host. Nothing that stands behind the host, and no address of a machine.
fn kind_of(blocked: &str) -> String {
    const WORDS: [&str; 7] = ["inline", "eval", "wasm-eval", "self", "data", "blob", "trusted-types-sink"];
    if let Some(word) = WORDS.into_iter().find(|word| *word == blocked) {
        return word.to_owned();
    }
    let Ok(url) = blocked.parse::<Url>() else { return "other".to_owned() };
    match url.host() {
        Some(Host::Domain(host)) if host.len() <= 100 && ["http", "https", "ws", "wss"].contains(&url.scheme()) => {
            format!("{}://{host}", url.scheme())
        }
        Some(_) => "an address".to_owned(),
        None => WORDS.into_iter().find(|word| *word == url.scheme()).unwrap_or("other").to_owned(),
    }
}

/// Which part of the portal it was in: the rest of an address may say whose.
fn part_of(page: &str) -> &'static str {
    let Ok(url) = page.parse::<Url>() else { return "other" };
    let first = url.path_segments().and_then(|mut parts| parts.next()).unwrap_or_default();
    if first.is_empty() { "front" } else { PARTS.into_iter().find(|part| *part == first).unwrap_or("other") }
}

static TURN: Turn = Turn(Mutex::new(None));

/// How many letters were read in this window.
struct Turn(Mutex<Option<(Instant, u32)>>);

impl Turn {
    fn take(&self, now: Instant) -> bool {
        let Ok(mut window) = self.0.lock() else { return false };
        let taken = match *window {
            Some((began, taken)) if now.duration_since(began) < WINDOW => (began, taken.saturating_add(1)),
            _ => (now, 1),
        };
        *window = Some(taken);
        taken.1 <= LETTERS_MAX
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_of_a_person_is_kept_of_a_report() {
        let old = json!({"csp-report": {"document-uri": "https://portal.example/accounts/reset/?id=1&tag=secret",
            "violated-directive": "script-src 'self'", "blocked-uri": "https://evil.example/x?who=ann@example.test",
            "original-policy": "…", "script-sample": "ann@example.test"}});
        let kept = read(&old);
        let wanted = Report { directive: "script-src", blocked: "https://evil.example".to_owned(), part: "accounts" };
        assert_eq!(kept, [wanted]);
        let new = json!([{"type": "csp-violation", "url": "https://portal.example/dashboard/orders/1/", "body":
            {"documentURL": "https://portal.example/dashboard/orders/1/", "effectiveDirective": "img-src",
             "blockedURL": "https://203.0.113.9/ann"}}]);
        assert_eq!(
            format!("{:?}", read(&new)),
            r#"[Report { directive: "img-src", blocked: "an address", part: "dashboard" }]"#
        );
        let odd =
            json!({"csp-report": {"effective-directive": "ann@example.test", "blocked-uri": "ann", "document-uri": 7}});
        assert_eq!(format!("{:?}", read(&odd)), r#"[Report { directive: "other", blocked: "other", part: "other" }]"#);
        assert_eq!((kind_of("inline"), kind_of("data:text/html,x")), ("inline".to_owned(), "data".to_owned()));
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let sent = |kind: &'static str, body: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
            received(&headers, Ok(Bytes::from_static(body.as_bytes())), &Turn(Mutex::new(None))).1.as_u16()
        };
        assert_eq!(sent("text/plain", "{}"), 415);
        for body in ["", "{", "[]", "{}", "7", "[{\"body\": 7}]", "{\"csp-report\": null}"] {
            assert_eq!(sent("application/csp-report", body), 400, "{body}");
        }
        assert_eq!(sent("application/csp-report; charset=utf-8", "{\"csp-report\": {}}"), 204);
    }

    #[test]
    fn so_many_letters_are_read_in_a_minute() {
        let (turn, now) = (Turn(Mutex::new(None)), Instant::now());
        assert!((0..LETTERS_MAX).all(|_| turn.take(now)));
        assert!(!turn.take(now) && !turn.take(now + WINDOW / 2));
        assert!(turn.take(now + WINDOW));
    }
}
