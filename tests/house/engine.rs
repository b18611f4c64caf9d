//! The real servers every house shares: PostgreSQL, Temporal, PowerDNS, and stripe-mock for tests.

mod postgres;
mod powerdns;
mod temporal;
mod temporal_over_postgres;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use url::Url;

pub(crate) use postgres::{Databases, Postgres};
pub(crate) use powerdns::{PowerDns, reverse_zone_v4, reverse_zone_v6};
pub(crate) use temporal::{NAMESPACE, connect as connect_temporal};

use crate::place::Place;
use crate::ports::free_port;
use crate::process::{Launch, Running};
use crate::tools::tool;
use temporal::Temporal;

const STRIPE_MOCK_LIMIT: Duration = Duration::from_secs(20);
const HIGHEST_HOUSE_NUMBER: u16 = 1_000;

/// The servers that a process starts once. Dropping it ends them; so does the end of the process, whatever ends it.
#[derive(Debug)]
pub struct Engine {
    pub(crate) postgres: Postgres,
    pub(crate) temporal: Temporal,
    pub(crate) powerdns: PowerDns,
    stripe_mock: Option<StripeMock>,
    houses: Mutex<Houses>,
    started_in: Duration,
    // Last, so that the folders go after the servers that write to them.
    pub(crate) place: Place,
}

/// How the servers keep what they know.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Quick; nothing survives a kill.
    Fleeting,
    /// What was acknowledged survives a kill; Temporal's is the development server.
    Durable,
    /// The same with Temporal's server over PostgreSQL.
    Production,
    /// That server over a PostgreSQL that is quick instead: the time of a workflow can be skipped.
    Skipping,
}

#[derive(Debug, Default)]
struct Houses {
    last_number: u16,
    names: BTreeSet<String>,
}

#[derive(Debug)]
struct StripeMock {
    url: Url,
    server: Running,
}

impl Engine {
    /// Starts PostgreSQL, Temporal and PowerDNS, and stripe-mock too when `with_stripe_mock`.
    ///
    /// *Errors*: a server is missing (the error names the command that installs it) or did not come up (with the end of its log).
    pub async fn start(with_stripe_mock: bool) -> Result<Self> {
        Box::pin(Self::build(with_stripe_mock, Shape::Fleeting)).await
    }

    /// The same with a stripe-mock, to which every house then shows what it asks of Stripe. It is never among what is killed.
    ///
    /// *Errors*: as [`Engine::start`].
    pub async fn with_stripe_mock(mut self) -> Result<Self> {
        self.stripe_mock = Some(StripeMock::start(&self.place).await?);
        Ok(self)
    }

    /// Without stripe-mock, on servers that may be killed: they know afterwards what they acknowledged, and
    /// PostgreSQL waits for the disk as in production. It is always a private one.
    ///
    /// *Errors*: as [`Engine::start`].
    pub async fn start_durable() -> Result<Self> {
        Box::pin(Self::build(false, Shape::Durable)).await
    }

    /// The same with Temporal's server over PostgreSQL, as production has it.
    ///
    /// *Errors*: as [`Engine::start`].
    pub async fn start_production() -> Result<Self> {
        Box::pin(Self::build(false, Shape::Production)).await
    }

    /// Servers of which Temporal's can skip the time in which a workflow only waits; nothing survives a kill.
    ///
    /// *Errors*: as [`Engine::start`].
    pub async fn start_skipping() -> Result<Self> {
        Box::pin(Self::build(false, Shape::Skipping)).await
    }

    async fn build(with_stripe_mock: bool, shape: Shape) -> Result<Self> {
        let began = Instant::now();
        // Another part of the process may have installed it first; either one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let place = Place::new()?;
        let stripe_mock = async { if with_stripe_mock { StripeMock::start(&place).await.map(Some) } else { Ok(None) } };
        let servers = async {
            match shape {
                Shape::Fleeting => tokio::try_join!(Postgres::start(&place), Temporal::start(&place)),
                Shape::Durable => tokio::try_join!(Postgres::start_durable(&place), Temporal::start(&place)),
                Shape::Production | Shape::Skipping => {
                    let postgres = match shape {
                        Shape::Skipping => Postgres::start(&place).await?,
                        _ => Postgres::start_durable(&place).await?,
                    };
                    let temporal = temporal_over_postgres::start(&place, &postgres).await?;
                    Ok((postgres, temporal))
                }
            }
        };
        let ((postgres, temporal), powerdns, stripe_mock) =
            tokio::try_join!(servers, PowerDns::start(&place), stripe_mock)?;
        let houses = Mutex::default();
        Ok(Self { postgres, temporal, powerdns, stripe_mock, houses, started_in: began.elapsed(), place })
    }

    /// How long the start took.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Temporal's gRPC address.
    pub fn temporal_address(&self) -> &Url {
        &self.temporal.address
    }

    /// Temporal's pages.
    pub fn temporal_ui(&self) -> &Url {
        &self.temporal.ui
    }

    /// Where Temporal keeps what it knows, as `ez backup` is told of it: an `SQLite` file, or databases of PostgreSQL.
    pub fn temporal_databases(&self) -> &[Url] {
        &self.temporal.databases
    }

    /// stripe-mock's API, when it was started.
    pub fn stripe_mock(&self) -> Option<&Url> {
        self.stripe_mock.as_ref().map(|mock| &mock.url)
    }

    /// The folders of this run.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A number from 1 to 1000 that no other house of this engine has, and `name`, made unique by the number when it was taken.
    pub(crate) fn admit(&self, name: &str) -> Result<(u16, String)> {
        let mut houses = self.houses.lock().ok().context("another house panicked while it was admitted")?;
        let number = houses.last_number + 1;
        anyhow::ensure!(number <= HIGHEST_HOUSE_NUMBER, "an engine holds at most {HIGHEST_HOUSE_NUMBER} houses");
        houses.last_number = number;
        let unique = if houses.names.contains(name) { format!("{name}-{number}") } else { name.to_owned() };
        houses.names.insert(unique.clone());
        Ok((number, unique))
    }

    /// Kills PostgreSQL with all its processes, as a power cut would.
    ///
    /// *Errors*: it is the server `DATABASE_URL` names.
    pub async fn kill_postgres(&self) -> Result<()> {
        self.postgres.kill().await
    }

    /// Starts PostgreSQL again and waits until it has recovered.
    pub async fn start_postgres(&self) -> Result<()> {
        self.postgres.start_again().await
    }

    /// Kills Temporal as a power cut would.
    pub async fn kill_temporal(&self) -> Result<()> {
        self.temporal.kill().await
    }

    /// Starts Temporal again and waits until it answers.
    pub async fn start_temporal(&self) -> Result<()> {
        self.temporal.start_again().await
    }

    /// Ends every server in order and removes the run's data.
    pub async fn stop(self) -> Result<()> {
        if let Some(mock) = self.stripe_mock {
            mock.server.stop(Signal::SIGTERM).await?;
        }
        let (temporal, powerdns, postgres) =
            tokio::join!(self.temporal.stop(), self.powerdns.stop(), self.postgres.stop());
        drop(self.place);
        temporal.and(powerdns).and(postgres)
    }
}

impl StripeMock {
    async fn start(place: &Place) -> Result<Self> {
        let program = tool("stripe-mock", "tests/house/install-tools test")?;
        let port = free_port()?;
        // Not told otherwise, it takes one fixed port of every interface for HTTPS.
        let (http, https) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", free_port()?));
        let launch = Launch::new("stripe-mock", program).args(["-http-addr", &http, "-https-addr", &https]);
        let mut server = launch.start(&place.logs())?;
        server.wait_until(STRIPE_MOCK_LIMIT, || listens(port)).await?;
        Ok(Self { url: format!("http://127.0.0.1:{port}").parse()?, server })
    }
}

/// Whether something accepts connections on this port of 127.0.0.1.
pub(crate) async fn listens(port: u16) -> bool {
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}
