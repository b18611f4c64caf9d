//! One request: who asks, with which parameters; and how it is refused.

use std::collections::BTreeMap;
use std::sync::MutexGuard;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response as HttpResponse, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Stage;
use super::calls::{CALLS, Call, path_form};
use super::cluster::{Cluster, Vm};
use super::params::percent_decoded;
use crate::faults::set_reason;

const BODY_LIMIT_BYTES: usize = 512 << 10;

/// What a call gives: the `data` of the answer, or a refusal.
pub(super) type Answer = Result<Value, Refusal>;

/// Why a call was not served.
#[derive(Debug)]
pub(super) enum Refusal {
    /// 400, with a word on each parameter.
    Params(BTreeMap<String, String>),
    /// Any other status, with one message.
    Failed(u16, String),
}

impl Refusal {
    /// A 500 with this message.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(500, message.into())
    }

    /// A 400 that blames one parameter.
    pub(super) fn param(name: &str, why: impl Into<String>) -> Self {
        Self::Params(BTreeMap::from([(name.to_owned(), why.into())]))
    }
}

/// A request whose parameters have been checked.
pub(super) struct Ask<'a> {
    pub(super) stage: &'a Stage,
    pub(super) params: BTreeMap<String, String>,
}

impl Ask<'_> {
    /// A parameter's text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str)
    }

    /// Whether a flag is given as `1`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("1")
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// The VM the path names; 0 where it names none.
    pub(super) fn vmid(&self) -> u32 {
        self.text("vmid").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// The node the path names; empty where it names none.
    pub(super) fn node(&self) -> &str {
        self.text("node").unwrap_or_default()
    }

    /// The cluster, held until the guard is dropped.
    pub(super) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.stage.cluster()
    }

    /// The VM the path names, if it lives on the node the path names.
    pub(super) fn vm<'c>(&self, cluster: &'c mut Cluster) -> Result<&'c mut Vm, Refusal> {
        let (node, vmid) = (self.node(), self.vmid());
        cluster.vms.get_mut(&vmid).filter(|vm| vm.node == node).ok_or_else(|| {
            Refusal::failed(format!("Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist"))
        })
    }

    /// Refuses if a `locked` fault strikes this VM.
    pub(super) fn lock_file(&self, vmid: u32) -> Result<(), Refusal> {
        self.stage.lock_fault(vmid).map_or(Ok(()), |message| Err(Refusal::failed(message)))
    }
}

/// Answers any request under `/api2/json`.
pub(super) async fn serve(State(stage): State<Stage>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(message) = authorised(&stage, &parts.headers) {
        let mut response = StatusCode::UNAUTHORIZED.into_response();
        set_reason(&mut response, &message);
        return response;
    }
    let Ok(body) = to_bytes(body, BODY_LIMIT_BYTES).await else {
        return refused(&Refusal::Failed(501, "for data too large".to_owned()));
    };
    let query = parts.uri.query().unwrap_or_default();
    let answer = form_text(&parts.headers, &body)
        .and_then(|text| dispatch(&stage, parts.method.as_str(), parts.uri.path(), &[query, text]));
    match answer {
        Ok(data) => json_response(StatusCode::OK, &json!({ "data": data })),
        Err(refusal) => refused(&refusal),
    }
}

fn authorised(stage: &Stage, headers: &HeaderMap) -> Result<(), String> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = header.strip_prefix("PVEAPIToken=").ok_or("No ticket")?;
    let (id, secret) = token.split_once('=').ok_or("no such token")?;
    if id != stage.settings.token_id {
        Err(format!("no such token '{}'", id.rsplit('!').next().unwrap_or_default()))
    } else if secret == stage.settings.token_secret {
        Ok(())
    } else {
        Err("invalid token value!".to_owned())
    }
}

fn form_text<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<&'b str, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !body.is_empty() && !kind.starts_with("application/x-www-form-urlencoded") {
        return Err(Refusal::Failed(400, format!("unexpected content type '{kind}'")));
    }
    std::str::from_utf8(body).map_err(|_| Refusal::Failed(400, "body is not UTF-8".to_owned()))
}

fn dispatch(stage: &Stage, method: &str, path: &str, forms: &[&str]) -> Answer {
    let not_there = || Refusal::Failed(501, format!("Method '{method} {path}' not implemented"));
    let path = path.strip_prefix("/api2/json").ok_or_else(not_there)?;
    let segments: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let found =
        CALLS.iter().filter(|call| call.method == method).find_map(|call| Some((call, bound(call, &segments)?)));
    let (call, mut params) = found.ok_or_else(not_there)?;
    let mut faults = BTreeMap::new();
    for (name, value) in &params {
        if let Err(why) = path_form(name).check(value) {
            faults.insert(name.clone(), why);
        }
    }
    for form in forms {
        read_form(call, form, &mut params, &mut faults);
    }
    for param in call.params.iter().filter(|param| param.required && !params.contains_key(param.name)) {
        faults.entry(param.name.to_owned()).or_insert_with(|| "property is missing and it is not optional".to_owned());
    }
    if params.get("skiplock").is_some_and(|value| value == "1") {
        faults.insert("skiplock".to_owned(), "Only root may use this option.".to_owned());
    }
    if !faults.is_empty() {
        return Err(Refusal::Params(faults));
    }
    let ask = Ask { stage, params };
    if method != "GET" && stage.faults.take("no_quorum", ask.text("vmid")).is_some() {
        return Err(Refusal::failed("cluster not ready - no quorum?"));
    }
    if ask.text("node").is_some_and(|node| !stage.settings.nodes.iter().any(|known| known == node)) {
        let node = ask.node();
        return Err(Refusal::failed(format!(
            "hostname lookup '{node}' failed - failed to get address info for: {node}"
        )));
    }
    (call.answer)(&ask)
}

/// The values of the path's braces, if the path is this call's.
fn bound(call: &Call, segments: &[&str]) -> Option<BTreeMap<String, String>> {
    let pattern: Vec<&str> = call.path.split('/').collect();
    if pattern.len() != segments.len() {
        return None;
    }
    let mut values = BTreeMap::new();
    for (expected, segment) in pattern.iter().zip(segments) {
        match expected.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => {
                values.insert(name.to_owned(), percent_decoded(segment)?);
            }
            None if expected == segment => {}
            None => return None,
        }
    }
    Some(values)
}

/// Reads pairs as the cluster does: `&` and `;` both separate, and a value ends at a raw `=`.
fn read_form(call: &Call, form: &str, params: &mut BTreeMap<String, String>, faults: &mut BTreeMap<String, String>) {
    let mut seen = Vec::new();
    for pair in form.split(['&', ';']).filter(|pair| !pair.is_empty()) {
        let mut parts = pair.split('=').map(|part| percent_decoded(&part.replace('+', " ")));
        let (Some(Some(name)), Some(value)) = (parts.next(), parts.next().unwrap_or(Some(String::new()))) else {
            faults.insert(pair.to_owned(), "value is not UTF-8".to_owned());
            continue;
        };
        let Some(param) = call.params.iter().find(|param| param.is_called(&name)) else {
            let why = "property is not defined in schema and the schema does not allow additional properties";
            faults.insert(name, why.to_owned());
            continue;
        };
        if seen.contains(&name) {
            faults.insert(name, "type check ('string') failed - got ARRAY".to_owned());
            continue;
        }
        if let Err(why) = param.form.check(&value) {
            faults.insert(name.clone(), why);
        }
        seen.push(name.clone());
        params.insert(name, value);
    }
}

fn refused(refusal: &Refusal) -> Response {
    let (status, message, body) = match refusal {
        Refusal::Params(errors) => {
            let message = "Parameter verification failed.\n";
            (400, message, json!({ "data": null, "errors": errors, "message": message }))
        }
        Refusal::Failed(status, message) => {
            (*status, message.as_str(), json!({ "data": null, "message": format!("{}\n", message.trim_end()) }))
        }
    };
    let mut response = json_response(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &body);
    set_reason(&mut response, message);
    response
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    let built = HttpResponse::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json;charset=UTF-8")
        .header(header::SERVER, "pve-api-daemon/3.0")
        .header(header::CACHE_CONTROL, "max-age=0")
        .body(Body::from(body.to_string()));
    built.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

#[cfg(test)]
mod tests;
