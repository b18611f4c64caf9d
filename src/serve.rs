//! Connections: so many at once, each with a client that has to hurry. A browser beside a proxy speaks HTTP/1.1 here; other
//! versions are the proxy's.
use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::config::DoorConfig;

/// The largest head of a request, and how much of a body is read at once.
const BUFFER_LIMIT_BYTES: usize = 64 * 1024;
/// How long answers that were begun may take when the process is told to stop.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long nobody is let in when there are no more files to be had.
const BREATH: Duration = Duration::from_millis(50);

/// How long a client may take, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the head of a request, also while it says nothing at all; and to take what was sent.
    pub(crate) slow: Duration,
    /// Connections at once.
    pub(crate) connections: usize,
}

impl Patience {
    /// Reads it from the settings.
    pub(crate) fn of(door: &DoorConfig) -> Self {
        let connections = usize::try_from(door.connections).unwrap_or(Semaphore::MAX_PERMITS);
        Self { slow: Duration::from_secs(door.patience_secs.into()), connections }
    }
}

/// Answers until `stop`, and then ends what was begun.
pub(crate) async fn answer(listener: TcpListener, routes: &Router, patience: Patience, stop: &CancellationToken) {
    let places = Arc::new(Semaphore::new(patience.connections));
    let farewell = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.slow).max_buf_size(BUFFER_LIMIT_BYTES);
    while let Some((socket, peer, place)) = next(&listener, &places, stop).await {
        hurry(&socket, patience.slow);
        let routes = routes.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            routes.clone().oneshot(request)
        });
        let connection = farewell.watch(http.serve_connection(TokioIo::new(socket), service));
        tokio::spawn(async move {
            if let Err(fault) = connection.await {
                tracing::debug!(%fault, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    tokio::select! {
        () = farewell.shutdown() => {}
        () = tokio::time::sleep(FAREWELL) => tracing::warn!("some answers took too long to wait for"),
    }
}

/// The next client, once there is a place; nothing when it is time to stop.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let come = async {
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => return Some((socket, peer, place)),
                Err(fault) => {
                    tracing::warn!(%fault, "nobody can be let in");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => None,
        come = come => come,
    }
}

/// A client that does not take what it asked for loses its connection. Source: tcp(7), `TCP_USER_TIMEOUT`.
fn hurry(socket: &TcpStream, slow: Duration) {
    let said = socket.set_nodelay(true).and_then(|()| SockRef::from(socket).set_tcp_user_timeout(Some(slow)));
    if let Err(fault) = said {
        tracing::debug!(%fault, "a connection has no time limit of its own");
    }
}
