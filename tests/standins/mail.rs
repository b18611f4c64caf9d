//! An SMTP server that catches every message, with pages to read them and Mailpit's JSON to query them.
//!
//! A message is on disk, in `--spool`, before the client hears "accepted"; the spool is read again at the start.
//! Over HTTP:
//!
//! | call | gives |
//! |---|---|
//! | `GET /`, `GET /messages/{id}` | pages: the list, newest first; one message, its HTML sandboxed |
//! | `GET /api/v1/messages?start=&limit=` | `{total, messages: [{ID, MessageID, From: {Name, Address}, To, Subject, Created, Snippet}]}` |
//! | `GET /api/v1/message/{ID or latest}` | one message with `Text`, `HTML` and `Headers`; `/raw` gives its source |
//! | `GET /api/v1/search?query=to:address` | the same list, filtered; also `from:`, `subject:` and words |
//! | `DELETE /api/v1/messages` | takes every message away |
//!
//! `/_control/faults` is that of [`crate::faults`]; here the faults strike SMTP. `subject` is a recipient's address (the
//! first one, except for `permfail`), absent for every message:
//!
//! - `refuse`: a new connection is closed at once (takes no `subject`).
//! - `permfail`: 550 at RCPT.
//! - `tempfail`: 451 at DATA.
//! - `hang`: the message is neither kept nor answered; with `"after_work": true` it is kept.
//! - `garble`: the message is kept, and the answer is none of SMTP.
//! - `drop`: the message is kept, then the connection is cut before the 250.

mod letter;
mod pages;
mod session;
mod spool;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::faults::Faults;
use spool::Spool;

/// How the catcher is set up.
#[derive(clap::Args)]
pub(crate) struct MailArgs {
    /// Where SMTP listens.
    #[arg(long)]
    listen: SocketAddr,
    /// Where the pages, the JSON and the control API listen.
    #[arg(long)]
    http_listen: SocketAddr,
    /// The folder that keeps the messages.
    #[arg(long)]
    spool: PathBuf,
}

/// Serves until it is told to stop.
pub(crate) async fn run(args: MailArgs) -> anyhow::Result<()> {
    let spool = Spool::open(&args.spool).await?;
    let faults = Faults::new().with_kinds(&["permfail", "tempfail", "garble"]);
    let bind =
        async |address: SocketAddr| TcpListener::bind(address).await.with_context(|| format!("listening on {address}"));
    let (smtp, http) = (bind(args.listen).await?, bind(args.http_listen).await?);
    let router = pages::router(spool.clone()).merge(faults.router());
    tokio::select! {
        ended = axum::serve(http, router) => ended.context("serving HTTP"),
        ended = accept(smtp, spool, faults) => ended.context("serving SMTP"),
    }
}

async fn accept(smtp: TcpListener, spool: Spool, faults: Faults) -> std::io::Result<()> {
    loop {
        let (socket, _) = smtp.accept().await?;
        tokio::spawn(session::talk(socket, spool.clone(), faults.clone()));
    }
}
