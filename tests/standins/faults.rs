//! Faults that can be switched on, and a log of what was asked: the control API every stand-in shares.
//!
//! | call | does |
//! |---|---|
//! | `POST /_control/faults` | adds one fault (JSON, below); answers it with its `id` |
//! | `GET /_control/faults` | lists the faults still in force, and how often each `struck` |
//! | `DELETE /_control/faults`, `DELETE /_control/faults/{id}` | clears them all, or one |
//! | `GET /_control/requests[?path=part]` | lists the vendor requests seen, oldest first |
//! | `DELETE /_control/requests` | forgets them |
//! | `POST /_control/late` | does the work of every request that a fault `late` cut off, in the order they came |
//!
//! A fault is `{"kind": …, "method"?, "path"?, "contains"?, "times"?, "skip"?, "subject"?, …}`. `path` is a part of the path
//! and query as sent (absent: every path), `contains` a part of the body as sent, `times` how often it strikes (absent:
//! until cleared), `skip` how many matching requests pass first, `percent` which part of the matching requests it strikes, as
//! dice thrown from `seed` say (absent: every one; the next fault may strike those it lets pass). With `"once_each": true` it
//! strikes each request (method, path, query and body; of letters each Message-ID) when it comes first, and lets it pass when
//! it comes again. The oldest fault that matches strikes. Kinds known to every stand-in:
//!
//! - `delay` `{ms}`: waits, then works; with `"after_work": true` works, then waits.
//! - `hang`: never answers and does nothing; with `"after_work": true` works first.
//! - `drop`: does the work, then cuts the connection without an answer.
//! - `refuse`: cuts the connection without doing the work.
//! - `late`: cuts the connection, and does the work when it is told to, long after nobody waits for it any more.
//! - `status` `{status, body?, reason?}`: answers that instead of doing the work.
//! - `malformed` `{shape?}`: does the work, then answers 200 with something else; [`shapes`] lists what, at first half the JSON.
//!
//! Other kinds belong to one vendor: its handlers ask for them by name, with what they concern as `subject`.

mod log;
mod shapes;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use hyper::ext::ReasonPhrase;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use log::{LogFilter, RequestLog};

const BODY_LIMIT_BYTES: usize = 4 << 20;
const GENERIC_KINDS: [&str; 7] = ["delay", "hang", "drop", "refuse", "late", "status", "malformed"];

/// The faults in force and the requests seen by one stand-in; clones share both.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    state: Arc<Mutex<FaultState>>,
    named_kinds: &'static [&'static str],
}

#[derive(Default)]
struct FaultState {
    last_id: u64,
    faults: Vec<Fault>,
    /// Which fault of those that strike each request once met which request.
    met: HashSet<(u64, u64)>,
    /// What was cut off and is still to be done.
    late: Vec<Work>,
    log: RequestLog,
}

/// One fault as it was asked for; the module explains its fields.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// Given when the fault is added.
    #[serde(default)]
    pub(crate) id: u64,
    /// What happens.
    pub(crate) kind: String,
    /// Strikes only this HTTP method.
    pub(crate) method: Option<String>,
    /// Strikes only where the path and query contain this.
    #[serde(default)]
    pub(crate) path: String,
    /// Strikes only where the body contains this.
    #[serde(default)]
    pub(crate) contains: String,
    /// How often it still strikes.
    pub(crate) times: Option<u64>,
    /// How many matches it still lets pass.
    #[serde(default)]
    pub(crate) skip: u64,
    /// Which part of the matching requests it strikes.
    pub(crate) percent: Option<u32>,
    /// What its dice are thrown from.
    #[serde(default)]
    pub(crate) seed: u64,
    /// How often they were thrown.
    #[serde(skip)]
    pub(crate) thrown: u64,
    /// How often it struck.
    #[serde(default)]
    pub(crate) struck: u64,
    /// Strikes each request only when it comes first.
    #[serde(default)]
    pub(crate) once_each: bool,
    /// What a vendor's own fault concerns, such as a VM's number.
    #[serde(default, deserialize_with = "text_or_number")]
    pub(crate) subject: Option<String>,
    /// Delay in milliseconds.
    #[serde(default)]
    pub(crate) ms: u64,
    /// Delay or hang after the work is done.
    #[serde(default)]
    pub(crate) after_work: bool,
    /// HTTP status of kind `status`.
    pub(crate) status: Option<u16>,
    /// Body of kind `status`: text is sent as it is, anything else as JSON.
    pub(crate) body: Option<Value>,
    /// What kind `malformed` answers.
    pub(crate) shape: Option<String>,
    /// Reason phrase of kind `status`, or the text of a vendor's own fault.
    pub(crate) reason: Option<String>,
}

fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Option::<Value>::deserialize(from)? {
        None => None,
        Some(Value::String(text)) => Some(text),
        Some(other) => Some(other.to_string()),
    })
}

impl Fault {
    /// Throws its dice; always true for one without.
    fn falls(&mut self) -> bool {
        let Some(percent) = self.percent else { return true };
        self.thrown += 1;
        let mut dice = StdRng::seed_from_u64(self.seed.rotate_left(17) ^ self.thrown);
        dice.random_range(0..100) < percent
    }
}

impl Faults {
    /// No faults yet; any kind may be added.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Refuses, when a fault is added, every kind that is neither shared nor one of these.
    pub(crate) fn with_kinds(mut self, named_kinds: &'static [&'static str]) -> Self {
        self.named_kinds = named_kinds;
        self
    }

    /// The control API, to be merged into a router or served on a port of its own.
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/_control/faults", get(list_faults).post(add_fault).delete(clear_faults))
            .route("/_control/faults/{id}", delete(clear_fault))
            .route("/_control/requests", get(list_requests).delete(clear_requests))
            .route("/_control/late", post(do_late))
            .with_state(self.clone())
    }

    /// Logs every request outside `/_control` and lets the faults strike.
    pub(crate) fn wrap(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), strike))
    }

    /// The oldest fault of a vendor's own kind that concerns `subject`, counted as having struck.
    ///
    /// A fault without a subject concerns every subject.
    pub(crate) fn take(&self, kind: &str, subject: Option<&str>) -> Option<Fault> {
        self.strike_first(concerns(kind, subject), None)
    }

    /// The same about something that may come again under the same name, so that a fault may strike each once.
    pub(crate) fn take_named(&self, kind: &str, subject: Option<&str>, name: &[u8]) -> Option<Fault> {
        let mut named = DefaultHasher::new();
        name.hash(&mut named);
        self.strike_first(concerns(kind, subject), Some(named.finish()))
    }

    fn take_for_request(&self, method: &str, path: &str, body: &[u8]) -> Option<Fault> {
        let mut request = DefaultHasher::new();
        (method, question(path), body).hash(&mut request);
        let matches = |fault: &Fault| {
            GENERIC_KINDS.contains(&fault.kind.as_str())
                && fault.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
                && path.contains(&fault.path)
                && (fault.contains.is_empty() || holds(body, fault.contains.as_bytes()))
        };
        self.strike_first(matches, Some(request.finish()))
    }

    fn strike_first(&self, matches: impl Fn(&Fault) -> bool, request: Option<u64>) -> Option<Fault> {
        let FaultState { faults, met, .. } = &mut *self.lock();
        for index in 0..faults.len() {
            let fault = &mut faults[index];
            if !matches(fault) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            if fault.once_each && !request.is_some_and(|request| met.insert((fault.id, request))) {
                continue;
            }
            if !fault.falls() {
                continue;
            }
            fault.struck += 1;
            let struck = fault.clone();
            if let Some(times) = &mut fault.times {
                *times -= 1;
                if *times == 0 {
                    faults.remove(index);
                }
            }
            return Some(struck);
        }
        None
    }

    fn add(&self, mut fault: Fault) -> Result<Fault, String> {
        let kind = fault.kind.as_str();
        if !self.named_kinds.is_empty() && !GENERIC_KINDS.contains(&kind) && !self.named_kinds.contains(&kind) {
            return Err(format!("no fault is called {kind}; there are {GENERIC_KINDS:?} and {:?}", self.named_kinds));
        }
        if kind == "status" && fault.status.is_none_or(|code| StatusCode::from_u16(code).is_err()) {
            return Err("kind status needs a status from 100 to 999".to_owned());
        }
        if let Some(shape) = fault.shape.as_deref().filter(|shape| !shapes::ALL.contains(shape)) {
            return Err(format!("no answer is {shape}; there are {:?}", shapes::ALL));
        }
        if fault.times == Some(0) {
            return Err("times is at least 1; leave it out for a fault that stays".to_owned());
        }
        let mut state = self.lock();
        state.last_id += 1;
        fault.id = state.last_id;
        state.faults.push(fault.clone());
        Ok(fault)
    }

    fn lock(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a path asks for, whenever it is asked: a list until now is the same list a second later.
fn question(path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let lasting = query.split('&').filter(|pair| !pair.starts_with("created"));
    format!("{path}?{}", lasting.collect::<Vec<_>>().join("&"))
}

fn concerns(kind: &str, subject: Option<&str>) -> impl Fn(&Fault) -> bool {
    move |fault| fault.kind == kind && fault.subject.as_deref().is_none_or(|wanted| Some(wanted) == subject)
}

async fn add_fault(State(faults): State<Faults>, Json(fault): Json<Fault>) -> Response {
    match faults.add(fault) {
        Ok(fault) => Json(fault).into_response(),
        Err(why) => (StatusCode::BAD_REQUEST, Json(json!({ "error": why }))).into_response(),
    }
}

async fn list_faults(State(faults): State<Faults>) -> Json<Vec<Fault>> {
    Json(faults.lock().faults.clone())
}

async fn clear_faults(State(faults): State<Faults>) -> StatusCode {
    faults.lock().faults.clear();
    StatusCode::NO_CONTENT
}

async fn clear_fault(State(faults): State<Faults>, Path(id): Path<u64>) -> StatusCode {
    faults.lock().faults.retain(|fault| fault.id != id);
    StatusCode::NO_CONTENT
}

async fn list_requests(State(faults): State<Faults>, Query(filter): Query<LogFilter>) -> Json<Value> {
    Json(faults.lock().log.list(&filter))
}

async fn clear_requests(State(faults): State<Faults>) -> StatusCode {
    faults.lock().log.clear();
    StatusCode::NO_CONTENT
}

async fn do_late(State(faults): State<Faults>) -> StatusCode {
    let late = std::mem::take(&mut faults.lock().late);
    for work in late {
        work.done().await;
    }
    StatusCode::NO_CONTENT
}

async fn strike(State(faults): State<Faults>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/_control") {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, BODY_LIMIT_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let path = parts.uri.path_and_query().map_or("/", |whole| whole.as_str());
    let fault = faults.take_for_request(parts.method.as_str(), path, &bytes);
    let kind = fault.as_ref().map(|fault| fault.kind.as_str());
    let seq = faults.lock().log.open(&parts, &bytes, kind);
    let request = Request::from_parts(parts, Body::from(bytes));
    let work = Work { faults: faults.clone(), seq, request, next };
    let Some(fault) = fault else { return work.done().await };
    let response = struck(&fault, work).await;
    faults.lock().log.close(seq, response.status());
    response
}

/// What a call asks for.
struct Work {
    faults: Faults,
    seq: u64,
    request: Request,
    next: Next,
}

impl Work {
    /// Does it and notes the answer, although whoever asked may have gone meanwhile: so does a vendor.
    async fn done(self) -> Response {
        let Self { faults, seq, request, next } = self;
        let task = tokio::spawn(async move {
            let response = next.run(request).await;
            faults.lock().log.close(seq, response.status());
            response
        });
        match task.await {
            Ok(response) => response,
            Err(broken) if broken.is_panic() => std::panic::resume_unwind(broken.into_panic()),
            Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    }
}

async fn struck(fault: &Fault, work: Work) -> Response {
    match fault.kind.as_str() {
        "refuse" => cut(),
        "late" => {
            let faults = work.faults.clone();
            faults.lock().late.push(work);
            cut()
        }
        "status" => answer(fault),
        "hang" if !fault.after_work => std::future::pending().await,
        "delay" if !fault.after_work => {
            tokio::time::sleep(Duration::from_millis(fault.ms)).await;
            work.done().await
        }
        kind => {
            let response = work.done().await;
            match kind {
                "drop" => cut(),
                "hang" => std::future::pending().await,
                "malformed" => shapes::shaped(response, fault.shape.as_deref().unwrap_or("half")).await,
                _ => {
                    tokio::time::sleep(Duration::from_millis(fault.ms)).await;
                    response
                }
            }
        }
    }
}

/// Ends the connection's task: the socket closes, and the panic hook prints nothing.
fn cut() -> ! {
    std::panic::resume_unwind(Box::new("a fault cuts this connection"))
}

fn answer(fault: &Fault) -> Response {
    let status =
        fault.status.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match &fault.body {
        None => status.into_response(),
        Some(Value::String(text)) => (status, text.clone()).into_response(),
        Some(json) => (status, Json(json)).into_response(),
    };
    if let Some(reason) = fault.reason.as_deref() {
        set_reason(&mut response, reason);
    }
    response
}

/// Sends `reason` on the status line in place of the standard words; bytes a status line cannot carry become spaces.
pub(crate) fn set_reason(response: &mut Response, reason: &str) {
    let line: Vec<u8> =
        reason.trim_end().bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }).collect();
    if let Ok(phrase) = ReasonPhrase::try_from(line) {
        response.extensions_mut().insert(phrase);
    }
}

fn holds(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests;
