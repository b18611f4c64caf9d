//! What a stand-in was asked, kept for tests to read.

use std::collections::VecDeque;
use std::time::Instant;

use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

const ENTRIES_LIMIT: usize = 20_000;
const HEADERS_OF_INTEREST: [&str; 6] =
    ["content-type", "idempotency-key", "stripe-version", "stripe-account", "traceparent", "user-agent"];

/// Which requests to list: those whose path and query contain `path` and whose method is `method`.
#[derive(Default, Deserialize)]
pub(super) struct LogFilter {
    #[serde(default)]
    path: String,
    method: Option<String>,
}

/// The last requests, oldest first; older ones fall out past [`ENTRIES_LIMIT`].
#[derive(Default)]
pub(super) struct RequestLog {
    last_seq: u64,
    entries: VecDeque<Entry>,
}

#[derive(Serialize)]
struct Entry {
    seq: u64,
    at_unix_ms: i128,
    method: String,
    path: String,
    query: Map<String, Value>,
    params: Value,
    headers: Map<String, Value>,
    status: Option<u16>,
    fault: Option<String>,
    took_ms: Option<u128>,
    #[serde(skip)]
    began: Instant,
}

impl RequestLog {
    /// Notes a request as it arrives; gives the number to [`Self::close`] it with.
    pub(super) fn open(&mut self, parts: &Parts, body: &[u8], fault: Option<&str>) -> u64 {
        self.last_seq += 1;
        if self.entries.len() == ENTRIES_LIMIT {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry {
            seq: self.last_seq,
            at_unix_ms: OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: form(parts.uri.query().unwrap_or_default().as_bytes()),
            params: params(&parts.headers, body),
            headers: interesting(&parts.headers),
            status: None,
            fault: fault.map(str::to_owned),
            took_ms: None,
            began: Instant::now(),
        });
        self.last_seq
    }

    /// Notes the status the work ended with; the first one counts.
    pub(super) fn close(&mut self, seq: u64, status: StatusCode) {
        if let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.seq == seq && entry.status.is_none()) {
            entry.status = Some(status.as_u16());
            entry.took_ms = Some(entry.began.elapsed().as_millis());
        }
    }

    /// The entries `filter` lets through, as JSON.
    pub(super) fn list(&self, filter: &LogFilter) -> Value {
        let kept = self.entries.iter().filter(|entry| {
            entry.path.contains(&filter.path)
                && filter.method.as_deref().is_none_or(|method| entry.method.eq_ignore_ascii_case(method))
        });
        Value::Array(kept.filter_map(|entry| serde_json::to_value(entry).ok()).collect())
    }

    /// Forgets every entry.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}

fn interesting(headers: &HeaderMap) -> Map<String, Value> {
    let text = |name: &&str| Some(((*name).to_owned(), headers.get(*name)?.to_str().ok()?.into()));
    HEADERS_OF_INTEREST.iter().filter_map(text).collect()
}

fn params(headers: &HeaderMap, body: &[u8]) -> Value {
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if body.is_empty() {
        Value::Null
    } else if kind.contains("json") {
        serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into())
    } else if kind.contains("form") {
        Value::Object(form(body))
    } else {
        String::from_utf8_lossy(body).into()
    }
}

/// Form pairs as an object; a key sent more than once holds an array.
pub(super) fn form(encoded: &[u8]) -> Map<String, Value> {
    let mut object = Map::new();
    for (key, value) in url::form_urlencoded::parse(encoded) {
        let value = Value::from(value);
        match object.get_mut(key.as_ref()) {
            None => {
                object.insert(key.into_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    object
}
