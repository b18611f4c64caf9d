//! The door of the API: key, stripe-mock, idempotency, then the endpoint.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Value, json};

use super::idempotency::{Finished, Turn};
use super::refusal::Refusal;
use super::world::{API_VERSION, Call, Origin, new_id};
use super::{App, expand, forms, routes};

const MOCK_WITHIN: Duration = Duration::from_secs(10);
/// What is answered when stripe-mock itself does not.
const BAD_GATEWAY: u16 = 502;
const KEY_LENGTH_MAX: usize = 255;

/// `/v1/…`.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new().route("/v1/{*path}", any(answer)).with_state(app)
}

/// One request, owned, so that its work ends even when the caller goes away.
struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

struct Reply {
    finished: Finished,
    replayed: bool,
    request_id: String,
}

async fn answer(State(app): State<Arc<App>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let request = Request { method, uri, headers, body };
    let key = header(&request.headers, "idempotency-key").map(str::to_owned);
    let reply = tokio::spawn(async move { handle(&app, &request).await }).await.unwrap_or_else(|error| Reply {
        finished: refused(&Refusal::broken(500, error.to_string())),
        replayed: false,
        request_id: new_id("req_"),
    });
    let status = StatusCode::from_u16(reply.finished.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (
        status,
        [("request-id", reply.request_id.as_str()), ("stripe-version", API_VERSION)],
        axum::Json(reply.finished.body),
    )
        .into_response();
    if let Some(key) = key.and_then(|key| key.parse().ok()) {
        response.headers_mut().insert("idempotency-key", key);
    }
    if reply.replayed {
        response.headers_mut().insert("idempotent-replayed", axum::http::HeaderValue::from_static("true"));
    }
    response
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn refused(refusal: &Refusal) -> Finished {
    Finished { status: refusal.status, body: refusal.body() }
}

async fn handle(app: &App, request: &Request) -> Reply {
    let request_id = new_id("req_");
    let reply = |finished, replayed| Reply { finished, replayed, request_id: request_id.clone() };
    if !authorized(&request.headers, &app.secret_key) {
        return reply(refused(&Refusal::unauthorized()), false);
    }
    if let Some(finished) = shown_to_mock(app, request).await {
        return reply(finished, false);
    }
    let key = header(&request.headers, "idempotency-key").filter(|_| request.method == Method::POST);
    let params = params_of(request);
    if let Some(key) = key {
        if key.len() > KEY_LENGTH_MAX {
            let refusal = Refusal::state("Idempotency keys may be at most 255 characters long.");
            return reply(refused(&refusal), false);
        }
        let identity = format!("{} {} {params}", request.method, request.uri.path());
        match app.keys().begin(key, &identity) {
            Ok(Turn::Run) => {}
            Ok(Turn::Replay(finished)) => return reply(finished, true),
            Err(refusal) => return reply(refused(&refusal), false),
        }
    }
    let origin = Origin { request: Some(request_id.clone()), key: key.map(str::to_owned) };
    let (finished, kept) = work(app, request, params, origin).await;
    if let Some(key) = key {
        app.keys().finish(key, kept.then(|| finished.clone()));
    }
    reply(finished, false)
}

/// Runs the endpoint; gives its answer and whether an idempotency key keeps it.
async fn work(app: &App, request: &Request, params: Value, origin: Origin) -> (Finished, bool) {
    let path = request.uri.path();
    if request.method == Method::POST {
        if let Some(fault) = app.faults.take("slow_work", Some(path)) {
            tokio::time::sleep(Duration::from_millis(fault.ms)).await;
        }
        if let Some(fault) = app.faults.take("stored_status", Some(path)) {
            let status = fault.status.unwrap_or(500);
            return (refused(&Refusal::broken(status, "An unknown error occurred.")), true);
        }
    }
    let call = Call { params, path: path.to_owned() };
    let mut world = app.world();
    world.origin = origin;
    let result = routes::dispatch(&mut world, request.method.as_str(), &call)
        .and_then(|answer| expand::expanded(&world, answer, &call.params));
    world.origin = Origin::default();
    match result {
        Ok(body) => (Finished { status: 200, body }, true),
        Err(refusal) => (refused(&refusal), refusal.kept),
    }
}

fn params_of(request: &Request) -> Value {
    let mut encoded = request.uri.query().unwrap_or_default().as_bytes().to_vec();
    if !encoded.is_empty() && !request.body.is_empty() {
        encoded.push(b'&');
    }
    encoded.extend_from_slice(&request.body);
    forms::parse(&encoded)
}

fn authorized(headers: &HeaderMap, secret_key: &str) -> bool {
    let Some(given) = header(headers, "authorization") else {
        return false;
    };
    match given.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token == secret_key,
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("basic") => decode_base64(token.trim())
            .is_some_and(|pair| pair.split(|byte| *byte == b':').next() == Some(secret_key.as_bytes())),
        _ => false,
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0_u32, 0_u32, Vec::new());
    for byte in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == byte)?;
        bits = (bits << 6 | u32::try_from(value).ok()?) & 0xff_ffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// Shows the request to stripe-mock; gives the answer when that refuses it.
async fn shown_to_mock(app: &App, request: &Request) -> Option<Finished> {
    let base = app.mock_url.as_ref()?;
    let target = format!("{}{}", base.trim_end_matches('/'), request.uri);
    let forward = || {
        let mut forwarded =
            app.http.request(request.method.clone(), &target).timeout(MOCK_WITHIN).body(request.body.to_vec());
        for name in ["authorization", "content-type"] {
            if let Some(value) = request.headers.get(name) {
                forwarded = forwarded.header(name, value);
            }
        }
        forwarded.send()
    };
    // It may hang up just when a connection that rested is used again. It keeps nothing, so it may be asked twice.
    let answer = match forward().await {
        Err(_) => forward().await,
        answer => answer,
    };
    let (status, body) = match answer {
        Ok(answer) if answer.status().is_client_error() => {
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or(Value::Null))
        }
        Ok(answer) if answer.status().is_success() => return None,
        Ok(answer) => {
            let why = format!("stripe-mock answered {}", answer.status());
            (BAD_GATEWAY, Refusal::broken(BAD_GATEWAY, why).body())
        }
        Err(error) => (BAD_GATEWAY, Refusal::broken(BAD_GATEWAY, format!("stripe-mock: {error}")).body()),
    };
    let refused = json!({
        "method": request.method.as_str(), "path": request.uri.to_string(),
        "params": params_of(request), "status": status, "body": body,
    });
    // A mock that did not answer says nothing about the request.
    if status != BAD_GATEWAY {
        write_down(app, &refused);
    }
    app.mock_refusals().push(refused);
    Some(Finished { status, body })
}

fn write_down(app: &App, refused: &Value) {
    let Some(path) = &app.mock_refusals_file else { return };
    let written =
        OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| writeln!(file, "{refused}"));
    if let Err(error) = written {
        eprintln!("{}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::authorized;

    #[test]
    fn the_key_is_a_bearer_token_or_a_basic_user_name() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", axum::http::HeaderValue::from_static(value));
            headers
        };
        assert!(authorized(&with("Bearer sk_test_x"), "sk_test_x"));
        assert!(authorized(&with("Basic c2tfdGVzdF94Og=="), "sk_test_x"));
        assert!(!authorized(&with("Bearer sk_test_y"), "sk_test_x"));
        assert!(!authorized(&HeaderMap::new(), "sk_test_x"));
    }
}
