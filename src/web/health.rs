//! Whether this process is well, and whether what it needs is there.
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Shared, page};

/// This process answers.
pub(crate) async fn alive() -> Response {
    plain(StatusCode::OK, "ok\n".to_owned())
}

/// One line each for the database and Temporal. Without Temporal pages still work, so only the database decides.
pub(crate) async fn ready(State(portal): Shared) -> Response {
    let (database, engine) = tokio::join!(portal.store.ping(), portal.temporal.ping());
    let status = if database.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let line = |name: &str, fault: Option<String>| match fault {
        None => format!("{name} ok\n"),
        Some(fault) => {
            tracing::warn!(name, fault, "not ready");
            format!("{name} away\n")
        }
    };
    let database = line("database", database.err().map(|fault| page::whole(&fault)));
    let engine = line("temporal", engine.err().map(|fault| page::whole(&fault)));
    plain(status, database + &engine)
}

fn plain(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
