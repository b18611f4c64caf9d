//! PostgreSQL: the server `DATABASE_URL` names, else a private cluster from local binaries, else from downloaded ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use postgresql_embedded::{PostgreSQL, Settings, VersionReq};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use url::Url;

use crate::place::{Place, give_to, house_folder};
use crate::ports::free_port;
use crate::process::Launch;
use crate::server::Server;

const OLDEST_MAJOR: u32 = 14;
/// What is downloaded when the machine has no PostgreSQL.
const DOWNLOADED_VERSION: &str = "=17.6.0";
const ZONKY_RELEASES: &str = "https://github.com/zonkyio/embedded-postgres-binaries";
const READY_LIMIT: Duration = Duration::from_secs(30);
const SUPERUSER: &str = "house";
const SERVER_SETTINGS: [&str; 4] =
    ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=400", "shared_buffers=128MB"];
/// Nothing outlives the run, so nothing needs to survive a power cut.
const FLEETING: [&str; 3] = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"];
/// What was acknowledged is on disk, as in production.
const DURABLE: [&str; 3] = ["fsync=on", "synchronous_commit=on", "full_page_writes=on"];

/// A PostgreSQL server in which the house makes databases.
#[derive(Debug)]
pub(crate) struct Postgres {
    admin_url: Url,
    server: Option<Server>,
}

impl Postgres {
    /// The server `DATABASE_URL` names, or a private one that may forget when it is killed.
    pub(crate) async fn start(place: &Place) -> Result<Self> {
        if let Some(given) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            let admin_url: Url = given.parse().context("DATABASE_URL is not a URL")?;
            PgConnection::connect(admin_url.as_str())
                .await
                .context("connect to the server DATABASE_URL names")?
                .close()
                .await?;
            return Ok(Self { admin_url, server: None });
        }
        Self::start_private(place, FLEETING).await
    }

    /// A private server that may be killed: what it acknowledged it knows afterwards.
    pub(crate) async fn start_durable(place: &Place) -> Result<Self> {
        Self::start_private(place, DURABLE).await
    }

    async fn start_private(place: &Place, durability: [&str; 3]) -> Result<Self> {
        let binaries = match local_binaries() {
            Some(found) => found,
            None => download().await?,
        };
        let binaries = reachable(place, binaries)?;
        let password = format!("{:032x}", rand::random::<u128>());
        let (cluster, password_file) = (place.data().join("postgresql"), place.data().join("postgresql-password"));
        fs::write(&password_file, &password)?;
        give_to(&password_file, place.account())?;
        let initdb = Launch::new("initdb", binaries.join("initdb"))
            .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"])
            .args([format!("--username={SUPERUSER}"), format!("--pwfile={}", password_file.display())])
            .args(["-D".as_ref(), cluster.as_os_str()])
            .as_account(place.account())
            .in_directory(place.data());
        initdb.run(&place.logs(), READY_LIMIT).await?;
        let port = free_port()?;
        let admin_url: Url = format!("postgres://{SUPERUSER}:{password}@127.0.0.1:{port}/postgres").parse()?;
        let launch = Launch::new("postgresql", binaries.join("postgres"))
            .args(["-D".as_ref(), cluster.as_os_str()])
            .args(["-p".to_owned(), port.to_string()])
            .args(SERVER_SETTINGS.into_iter().chain(durability).flat_map(|setting| ["-c", setting]))
            .as_account(place.account())
            .in_directory(place.data())
            .farewell(Signal::SIGQUIT);
        let server = Server::new(launch, place.logs(), READY_LIMIT);
        server.start(|| answers(admin_url.clone())).await?;
        Ok(Self { admin_url, server: Some(server) })
    }

    /// Kills the server with all its processes.
    pub(crate) async fn kill(&self) -> Result<()> {
        self.private()?.kill().await
    }

    /// Starts it again; it recovers from its log first.
    pub(crate) async fn start_again(&self) -> Result<()> {
        self.private()?.start(|| answers(self.admin_url.clone())).await
    }

    fn private(&self) -> Result<&Server> {
        self.server.as_ref().context("the server of DATABASE_URL is not ours")
    }

    /// What makes and removes databases in it.
    pub(crate) fn databases(&self) -> Databases {
        Databases { admin_url: self.admin_url.clone() }
    }

    pub(crate) async fn stop(self) -> Result<()> {
        match self.server {
            Some(server) => server.stop(Signal::SIGINT).await,
            None => Ok(()),
        }
    }
}

/// Makes and removes databases.
#[derive(Clone, Debug)]
pub(crate) struct Databases {
    admin_url: Url,
}

impl Databases {
    /// Makes an empty database and gives its URL. `name` holds only lower-case letters, digits and `_`.
    pub(crate) async fn create(&self, name: &str) -> Result<Url> {
        self.run(&format!("create database \"{name}\""))
            .await
            .with_context(|| format!("create the database {name}"))?;
        let mut url = self.admin_url.clone();
        url.set_path(name);
        Ok(url)
    }

    /// Removes a database with every connection to it; one that is not there is no error.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        self.run(&format!("drop database if exists \"{name}\" with (force)"))
            .await
            .with_context(|| format!("drop the database {name}"))
    }

    async fn run(&self, statement: &str) -> Result<()> {
        let mut connection = PgConnection::connect(self.admin_url.as_str()).await?;
        sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }
}

async fn answers(url: Url) -> bool {
    PgConnection::connect(url.as_str()).await.is_ok()
}

/// The newest local binaries that are new enough: the distribution's folders first, then PATH.
fn local_binaries() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for parent in ["/usr/lib/postgresql", "/usr/pgsql"] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let folder = entry.path().join("bin");
            found.extend(major_version(&folder).map(|major| (major, folder)));
        }
    }
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        if let Ok(folder) = folder.join("postgres").canonicalize().map(|file| file.parent().unwrap_or(&file).to_owned())
        {
            found.extend(major_version(&folder).map(|major| (major, folder)));
        }
    }
    found
        .into_iter()
        .filter(|(major, _)| *major >= OLDEST_MAJOR)
        .max_by_key(|(major, _)| *major)
        .map(|(_, folder)| folder)
}

fn major_version(folder: &Path) -> Option<u32> {
    if !folder.join("initdb").exists() {
        return None;
    }
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(2)?.split('.').next()?.parse().ok()
}

/// Downloads PostgreSQL once into `.house/tools` and gives the folder of its binaries.
async fn download() -> Result<PathBuf> {
    let tools = house_folder().join("tools");
    // The crate makes a cluster of its own unless it sees one; ours must belong to another user, so it is shown an empty one.
    let decoy = tools.join("postgresql-decoy");
    fs::create_dir_all(&decoy)?;
    fs::write(decoy.join("postgresql.conf"), "")?;
    let settings = Settings {
        version: VersionReq::parse(DOWNLOADED_VERSION)?,
        installation_dir: tools.join("postgresql"),
        data_dir: decoy.clone(),
        password_file: decoy.join("password"),
        releases_url: ZONKY_RELEASES.to_owned(),
        ..Settings::default()
    };
    let mut postgresql = PostgreSQL::new(settings);
    postgresql.setup().await.context(
        "PostgreSQL is not installed and could not be downloaded; install it with: sudo apt-get install postgresql",
    )?;
    let binaries = postgresql.settings().binary_dir();
    fs::remove_dir_all(&decoy)?;
    if !binaries.join("initdb").exists() {
        bail!(
            "the downloaded PostgreSQL has no initdb in {}; install it with: sudo apt-get install postgresql",
            binaries.display()
        );
    }
    Ok(binaries)
}

/// `binaries`, or a copy in the run's data when the servers' user cannot enter them.
fn reachable(place: &Place, binaries: PathBuf) -> Result<PathBuf> {
    if place.servers_can_enter(&binaries.join("postgres")) {
        return Ok(binaries);
    }
    let (source, copy) = (binaries.parent().unwrap_or(&binaries), place.data().join("postgresql-binaries"));
    let status = Command::new("cp").arg("-r").arg(source).arg(&copy).status()?;
    let status_owner = Command::new("chmod").args(["-R", "a+rX"]).arg(&copy).status()?;
    if !status.success() || !status_owner.success() {
        bail!("could not copy PostgreSQL from {} to {}", source.display(), copy.display());
    }
    Ok(copy.join("bin"))
}
