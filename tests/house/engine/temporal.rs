//! Temporal's development server with its UI, tuned so that a step costs milliseconds and a short timer is exact.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use temporalio_client::{Client, ClientOptions, Connection, ConnectionOptions, GrpcCompression, WorkflowCountOptions};
use url::Url;

use crate::place::Place;
use crate::ports::free_port;
use crate::process::Launch;
use crate::server::Server;
use crate::tools::tool;

pub(super) const READY_LIMIT: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The namespace every house uses.
pub(crate) const NAMESPACE: &str = "default";

/// The defaults poll 20 times a second and round short timers up to one second; four partitions and the long poll's
/// expiry stall a run now and then for seconds. An activity that is handed to the worker with the answer to its workflow's
/// task saves the way over its queue.
pub(super) const TUNING: [&str; 7] = [
    "history.transferProcessorMaxPollRPS=1000",
    "history.timerProcessorMaxPollRPS=1000",
    "history.timerProcessorMaxTimeShift=\"20ms\"",
    "history.longPollExpirationInterval=\"2s\"",
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
    "system.enableActivityEagerExecution=true",
];
pub(super) const SEARCH_ATTRIBUTES: [&str; 4] =
    ["EzStage=Keyword", "EzKind=Keyword", "EzAccount=Keyword", "EzNeedsAttention=Bool"];

/// A running Temporal server.
#[derive(Debug)]
pub(crate) struct Temporal {
    pub(crate) address: Url,
    pub(crate) ui: Url,
    /// Where it keeps what it knows, as `ez backup` is told of it.
    pub(crate) databases: Vec<Url>,
    pub(super) server: Server,
}

impl Temporal {
    pub(crate) async fn start(place: &Place) -> Result<Self> {
        let program = tool("temporal", "tests/house/install-tools demo")?;
        let (port, ui_port) = (free_port()?, free_port()?);
        let launch = Launch::new("temporal", program)
            .args(["server", "start-dev", "--ip", "127.0.0.1", "--log-level", "warn"])
            .args(["--port", &port.to_string(), "--ui-port", &ui_port.to_string()])
            .args(["--http-port", &free_port()?.to_string(), "--metrics-port", &free_port()?.to_string()])
            .args(["--db-filename".as_ref(), file(place).as_os_str()])
            .args(["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"])
            .args(TUNING.iter().flat_map(|value| ["--dynamic-config-value", value]))
            .args(SEARCH_ATTRIBUTES.iter().flat_map(|attribute| ["--search-attribute", attribute]));
        let server = Server::new(launch, place.logs(), READY_LIMIT);
        let address: Url = format!("http://127.0.0.1:{port}").parse()?;
        server.start(|| knows_our_attributes(address.clone())).await?;
        let ui = format!("http://127.0.0.1:{ui_port}").parse()?;
        let databases = vec![format!("sqlite://{}", file(place).display()).parse()?];
        Ok(Self { address, ui, databases, server })
    }

    /// Kills the server; what it acknowledged is in its file.
    pub(crate) async fn kill(&self) -> Result<()> {
        self.server.kill().await
    }

    /// Starts it again on the same file and ports.
    pub(crate) async fn start_again(&self) -> Result<()> {
        self.server.start(|| knows_our_attributes(self.address.clone())).await
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.server.stop(Signal::SIGTERM).await
    }
}

/// The server's database.
fn file(place: &Place) -> PathBuf {
    place.data().join("temporal.db")
}

/// A client of the server at `address`.
pub(crate) async fn connect(address: &Url) -> Result<Client> {
    let options = ConnectionOptions::new(address.clone())
        .identity("house")
        .connect_timeout(CONNECT_LIMIT)
        .grpc_compression(GrpcCompression::None)
        .build();
    let connection = Connection::connect(options).await.context("connect to Temporal")?;
    Ok(Client::new(connection, ClientOptions::new(NAMESPACE).build())?)
}

/// Whether a client gets through to it.
pub(super) async fn answers(address: Url) -> bool {
    matches!(tokio::time::timeout(CONNECT_LIMIT, connect(&address)).await, Ok(Ok(_)))
}

/// A workflow start that names a search attribute the server does not know yet fails for good: wait until it does.
pub(super) async fn knows_our_attributes(address: Url) -> bool {
    let Ok(Ok(client)) = tokio::time::timeout(CONNECT_LIMIT, connect(&address)).await else { return false };
    client.count_workflows("EzNeedsAttention = true", WorkflowCountOptions::default()).await.is_ok()
}
