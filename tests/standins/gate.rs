//! A gate before a real server: hands every request on as it came, unless a fault strikes.
//!
//! It gives servers that have no faults of their own (PowerDNS, fakepve) those of [`crate::faults`]. The control API listens
//! apart, on plain HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::faults::Faults;
use crate::proxmox::tls;

const ANSWER_WITHIN: Duration = Duration::from_mins(1);

/// How the gate is set up.
#[derive(clap::Args)]
pub(crate) struct GateArgs {
    /// Where requests arrive.
    #[arg(long)]
    listen: SocketAddr,
    /// Where the control API listens, over plain HTTP.
    #[arg(long)]
    control_listen: SocketAddr,
    /// The server behind the gate: `http://127.0.0.1:8081`.
    #[arg(long)]
    target: String,
    /// The certificate of the server behind, in PEM, when it speaks HTTPS.
    #[arg(long)]
    trust: Option<PathBuf>,
    /// Speaks HTTPS itself, and writes the certificate authority here, in PEM.
    #[arg(long)]
    ca_file: Option<PathBuf>,
}

#[derive(Clone)]
struct Way {
    target: String,
    http: reqwest::Client,
}

/// Serves until it is told to stop.
pub(crate) async fn run(args: GateArgs) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut http = reqwest::Client::builder().timeout(ANSWER_WITHIN).redirect(reqwest::redirect::Policy::none());
    if let Some(trust) = &args.trust {
        let pem = std::fs::read(trust).with_context(|| format!("reading {}", trust.display()))?;
        http = http.tls_certs_only([reqwest::Certificate::from_pem(&pem)?]);
    }
    let faults = Faults::new();
    let way = Way { target: args.target.trim_end_matches('/').to_owned(), http: http.build()? };
    let router = faults.wrap(Router::new().fallback(hand_on).with_state(way));
    let bind = async |address: SocketAddr| {
        tokio::net::TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
    };
    let control = axum::serve(bind(args.control_listen).await?, faults.router());
    let Some(ca_file) = args.ca_file else {
        let gate = axum::serve(bind(args.listen).await?, router);
        return tokio::select! { ended = gate => ended, ended = control => ended }.context("serving");
    };
    let gate = axum_server::bind_rustls(args.listen, tls::server_config(&ca_file)?).serve(router.into_make_service());
    tokio::select! { ended = gate => ended, ended = control => ended }.context("serving")
}

async fn hand_on(State(way): State<Way>, method: Method, uri: Uri, mut headers: HeaderMap, body: Bytes) -> Response {
    for own in [HOST, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(own);
    }
    let request = way.http.request(method, format!("{}{uri}", way.target)).headers(headers).body(body);
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    let (status, kind) = (answer.status(), answer.headers().get(CONTENT_TYPE).cloned());
    match answer.bytes().await {
        Ok(bytes) => {
            let mut response = (status, bytes).into_response();
            match kind {
                Some(kind) => drop(response.headers_mut().insert(CONTENT_TYPE, kind)),
                None => drop(response.headers_mut().remove(CONTENT_TYPE)),
            }
            response
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
