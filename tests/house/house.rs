//! One portal with vendors, database, names and task queue of its own; many fit on one engine.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use temporalio_client::Client;
use url::Url;

use crate::catalogue::{Catalogue, networks};
use crate::control::{Control, Machines, Mailbox, Names};
use crate::engine::{Databases, Engine, connect_temporal, reverse_zone_v4, reverse_zone_v6};
use crate::gates::Gates;
use crate::options::{Cluster, HouseOptions};
use crate::portal::{Portal, STAFF_EMAIL, settings};
use crate::ports::free_port;
use crate::relay::Link;
use crate::stand_ins::{MOCK_REFUSALS, StandIns};
use crate::visitor::Visitor;

const POOL_SIZE: u32 = 4;

/// What the portal reaches its servers through, when it is to be cut off from them.
#[derive(Debug)]
struct Links {
    database: Link,
    temporal: Link,
}

/// A portal that is up. Dropping it kills its processes; [`House::stop`] ends them in order. Either panics if Stripe's own
/// contract forbids a request that was made in it.
#[derive(Debug)]
pub struct House {
    name: String,
    zone: String,
    task_queue: String,
    database: (Databases, String, Url),
    temporal_address: Url,
    temporal_ui: Url,
    portal: Portal,
    links: Option<Links>,
    gates: Option<Gates>,
    stand_ins: StandIns,
    names: Names,
    db: PgPool,
    folder: PathBuf,
    staff_password: String,
    started_in: Duration,
}

impl House {
    /// Starts a house: vendors, tables, catalogue, one staff user, then the web and one worker unless told otherwise.
    ///
    /// *Errors*: a binary is not built, a command failed or a process was not ready in time, with the end of its log.
    pub async fn start(engine: &Engine, options: HouseOptions) -> Result<Self> {
        Box::pin(Self::build(engine, options)).await
    }

    async fn build(engine: &Engine, options: HouseOptions) -> Result<Self> {
        let began = Instant::now();
        let (number, name) = engine.admit(&options.name)?;
        let folder = engine.place().run().join(&name);
        fs::create_dir_all(folder.join("logs"))?;
        let url: Url = format!("http://{}:{}", options.host, free_port()?).parse()?;
        let names = make_zones(engine, number, &name).await?;
        let stand_ins = StandIns::start(engine, &options, &folder, &url).await?;
        let databases = engine.postgres.databases();
        let database_name = format!("house_{}_{number}_{:08x}", std::process::id(), rand::random::<u32>());
        let database_url = databases.create(&database_name).await?;
        let (zone, task_queue) = (names.zones[0].clone(), format!("ez-{name}"));
        let mut its_settings =
            settings(engine, &stand_ins, &options.policy, (&url, &database_url, &zone, &task_queue))?;
        let links =
            if options.with_links { Some(Links::make(&database_url, engine.temporal_address())?) } else { None };
        its_settings.extend(links.iter().flat_map(Links::settings));
        let gates =
            if options.with_gates { Some(Gates::start(engine, &stand_ins, &options, &folder).await?) } else { None };
        its_settings.extend(gates.iter().flat_map(Gates::settings));
        its_settings.extend(options.settings.clone());
        let portal = Portal::new(url, its_settings, folder.join("logs"));
        portal.run(&["migrate"], "").await?;
        let mut house = Self {
            db: PgPoolOptions::new().max_connections(POOL_SIZE).connect(database_url.as_str()).await?,
            database: (databases, database_name, database_url),
            temporal_address: engine.temporal_address().clone(),
            temporal_ui: engine.temporal_ui().clone(),
            staff_password: format!("staff-{:016x}", rand::random::<u64>()),
            started_in: Duration::ZERO,
            name,
            zone,
            task_queue,
            portal,
            links,
            gates,
            stand_ins,
            names,
            folder,
        };
        house.fill(number, &options).await?;
        if options.with_portal {
            tokio::try_join!(house.start_web(), house.start_worker())?;
        }
        house.started_in = began.elapsed();
        Ok(house)
    }

    async fn fill(&self, number: u16, options: &HouseOptions) -> Result<()> {
        let nodes: &[&str] = if options.cluster == Cluster::Fakepve { &["pve1"] } else { &["pve1", "pve2"] };
        let mut catalogue = Catalogue::of_house(number, nodes);
        if options.wide {
            catalogue.widen();
        }
        (options.change_catalogue)(&mut catalogue);
        let file = self.folder.join("catalogue.json");
        fs::write(&file, serde_json::to_vec_pretty(&catalogue)?)?;
        self.run_ez(&["seed", file.to_str().context("the repository's path is not UTF-8")?], "").await?;
        self.run_ez(&["user", "create", "--email", STAFF_EMAIL, "--staff"], &self.staff_password).await?;
        Ok(())
    }

    /// Runs a command of `ez` with this house's settings, `input` on its standard input, and gives what it printed.
    pub async fn run_ez(&self, words: &[&str], input: &str) -> Result<String> {
        self.portal.run(words, input).await
    }

    /// Runs a command of `ez` with some of this house's settings replaced, and gives what it printed.
    ///
    /// *Errors*: it ended with another code than 0; the error holds everything it printed.
    pub async fn run_ez_with(&self, settings: &[(&str, &str)], words: &[&str]) -> Result<String> {
        self.portal.run_with(settings, words).await
    }

    /// Starts `ez serve` and waits until it is ready.
    pub async fn start_web(&self) -> Result<()> {
        self.portal.start_web().await
    }

    /// Starts one more `ez serve` beside the first, and gives where it listens. It ends with the workers.
    pub async fn start_another_web(&self) -> Result<Url> {
        self.portal.start_another_web().await
    }

    /// Starts one more `ez work`.
    pub async fn start_worker(&self) -> Result<()> {
        self.portal.start_worker("ez").await
    }

    /// Starts one `ez work` of the release before this one, which `tests/previous/build` makes.
    pub async fn start_previous_worker(&self) -> Result<()> {
        self.portal.start_worker("ez-previous").await
    }

    /// The process of `ez serve`, while it runs.
    pub async fn web_pid(&self) -> Option<i32> {
        self.portal.web_pid().await
    }

    /// The processes of every `ez work` that runs.
    pub async fn worker_pids(&self) -> Vec<i32> {
        self.portal.worker_pids().await
    }

    /// Kills the web as a power cut would.
    pub async fn kill_web(&self) -> Result<()> {
        self.portal.end_web(false).await
    }

    /// Kills every worker as a power cut would.
    pub async fn kill_worker(&self) -> Result<()> {
        self.portal.end_workers(false).await
    }

    /// Asks the web to end and waits.
    pub async fn stop_web(&self) -> Result<()> {
        self.portal.end_web(true).await
    }

    /// Asks the worker that runs longest to end and waits, as a rolling deployment does.
    pub async fn stop_oldest_worker(&self) -> Result<()> {
        self.portal.end_oldest_worker().await
    }

    /// Asks every worker to end and waits.
    pub async fn stop_worker(&self) -> Result<()> {
        self.portal.end_workers(true).await
    }

    /// Kills the mail server as a power cut would; letters it accepted are still there after [`House::start_mail`].
    pub async fn kill_mail(&self) -> Result<()> {
        self.stand_ins.kill_mail().await
    }

    /// Starts the mail server again, on the same ports.
    pub async fn start_mail(&self) -> Result<()> {
        self.stand_ins.start_mail().await
    }

    /// The portal's link to its database; [`House::db`] does not use it.
    ///
    /// *Errors*: the house was started without links.
    pub fn database_link(&self) -> Result<&Link> {
        self.links.as_ref().map(|links| &links.database).context("the house was started without links")
    }

    /// The portal's link to Temporal; [`House::temporal`] does not use it.
    ///
    /// *Errors*: the house was started without links.
    pub fn temporal_link(&self) -> Result<&Link> {
        self.links.as_ref().map(|links| &links.temporal).context("the house was started without links")
    }

    /// The control API of the gate before PowerDNS.
    ///
    /// *Errors*: the house was started without gates.
    pub fn names_gate(&self) -> Result<&Control> {
        self.gates.as_ref().map(|gates| &gates.names).context("the house was started without gates")
    }

    /// The control API of the gate before fakepve.
    ///
    /// *Errors*: the house was started without gates, or its machines are not fakepve's.
    pub fn machines_gate(&self) -> Result<&Control> {
        let gate = self.gates.as_ref().and_then(|gates| gates.machines.as_ref());
        gate.context("the house has no gate before its machines")
    }

    /// Ends everything of this house and drops its database.
    pub async fn stop(mut self) -> Result<()> {
        let ended = tokio::join!(self.portal.end_web(true), self.portal.end_workers(true));
        self.db.close().await;
        if let Some(gates) = self.gates.take() {
            gates.stop().await?;
        }
        self.stand_ins.stop().await?;
        self.database.0.remove(&self.database.1).await?;
        ended.0.and(ended.1)
    }

    /// A new browser at the portal.
    pub fn visitor(&self) -> Result<Visitor> {
        Visitor::new(&self.portal.url)
    }

    /// Its name, as made unique.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The portal's address.
    pub fn url(&self) -> &Url {
        &self.portal.url
    }

    /// The zone its machines get names in, with a dot at the end.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The Temporal task queue of its workers.
    pub fn task_queue(&self) -> &str {
        &self.task_queue
    }

    /// Temporal's pages.
    pub fn temporal_ui(&self) -> &Url {
        &self.temporal_ui
    }

    /// Temporal's gRPC address.
    pub fn temporal_address(&self) -> &Url {
        &self.temporal_address
    }

    /// A new Temporal client.
    pub async fn temporal(&self) -> Result<Client> {
        connect_temporal(&self.temporal_address).await
    }

    /// Its database.
    pub fn db(&self) -> &PgPool {
        &self.db
    }

    /// Its database's address, with the password.
    pub fn database_url(&self) -> &Url {
        &self.database.2
    }

    /// Stripe's control API; its pages and its API are at the same address.
    pub fn stripe(&self) -> &Control {
        &self.stand_ins.stripe
    }

    /// What signs Stripe's webhooks.
    pub fn stripe_webhook_secret(&self) -> &str {
        &self.stand_ins.webhook_secret
    }

    /// The machines it rents out, whichever cluster they are on.
    pub fn machines(&self) -> &Machines {
        &self.stand_ins.machines
    }

    /// The Proxmox stand-in's control API.
    ///
    /// *Errors*: the house runs on fakepve, which has none.
    pub fn proxmox(&self) -> Result<&Control> {
        self.stand_ins.machines.control()
    }

    /// Proxmox's HTTPS address.
    pub fn proxmox_url(&self) -> &Url {
        &self.stand_ins.proxmox_url
    }

    /// Every letter it sent.
    pub fn mail(&self) -> &Mailbox {
        &self.stand_ins.mail
    }

    /// Where it hands letters in.
    pub fn smtp_url(&self) -> &Url {
        &self.stand_ins.smtp_url
    }

    /// The records in its zones.
    pub fn dns(&self) -> &Names {
        &self.names
    }

    /// PowerDNS's API key.
    pub fn dns_api_key(&self) -> &str {
        &self.names.api_key
    }

    /// A setting `ez` was started with.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.portal.settings.get(name).map(String::as_str)
    }

    /// Everything its web, its newest worker and that worker's Temporal SDK tell Prometheus now.
    ///
    /// *Errors*: one of them is not running.
    pub async fn metrics(&self) -> Result<String> {
        let web = self.setting("EZ_METRICS_LISTEN").context("the web serves metrics")?.to_owned();
        let known = self.portal.metrics.lock().ok().and_then(|known| *known).context("a worker was started")?;
        let mut all = String::new();
        for address in [web, format!("127.0.0.1:{}", known.0), format!("127.0.0.1:{}", known.1)] {
            let answer = reqwest::get(format!("http://{address}/metrics")).await?.error_for_status()?;
            all.push_str(&answer.text().await?);
            all.push('\n');
        }
        Ok(all)
    }

    /// The address of the first staff user.
    pub fn staff_email(&self) -> &'static str {
        STAFF_EMAIL
    }

    /// The password of the first staff user.
    pub fn staff_password(&self) -> &str {
        &self.staff_password
    }

    /// Where each of its processes writes `<name>.log`.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// How long the start took.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }
}

impl Links {
    fn make(database: &Url, temporal: &Url) -> Result<Self> {
        Ok(Self { database: Link::to_database(database)?, temporal: Link::to(temporal)? })
    }

    fn settings(&self) -> [(String, String); 2] {
        let temporal = self.temporal.url().as_str().trim_end_matches('/').to_owned();
        [("DATABASE_URL".to_owned(), self.database.url().to_string()), ("TEMPORAL_ADDRESS".to_owned(), temporal)]
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // Logs stay; what only the processes needed goes with them.
        let _ = fs::remove_dir_all(self.folder.join("spool"));
        let refused = fs::read_to_string(self.logs().join(MOCK_REFUSALS)).unwrap_or_default();
        // A second panic would end the process, and nobody would read the first.
        assert!(refused.is_empty() || thread::panicking(), "house {}: stripe-mock refused: {refused}", self.name);
    }
}

async fn make_zones(engine: &Engine, number: u16, name: &str) -> Result<Names> {
    let (v4, v6) = networks(number);
    let zones = vec![format!("{name}.example.test."), reverse_zone_v4(v4), reverse_zone_v6(v6)];
    for zone in &zones {
        engine.powerdns.create_zone(zone).await?;
    }
    let (url, api_key) = (engine.powerdns.url.clone(), engine.powerdns.api_key.clone());
    Ok(Names { url, api_key, zones, dns_port: engine.powerdns.dns_port, http: reqwest::Client::new() })
}
