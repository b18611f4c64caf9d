//! `ez backup` and `ez restore`: the portal's database and Temporal's, taken one after the other while everything runs. That
//! the two are of different instants is made up for by `ez reconcile`.
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::process::Command;
use url::Url;

use crate::{config::Config, wiring};

const MANIFEST: &str = "backup.json";
const PORTAL: &str = "portal.dump";

/// What a folder holds. Everything else about it is in the dumps.
#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Of which program.
    ez: String,
    /// When the portal's database was taken; what was written later is not in it.
    #[serde(with = "time::serde::rfc3339")]
    portal_taken_at: OffsetDateTime,
    /// When Temporal's was.
    #[serde(with = "time::serde::rfc3339")]
    temporal_taken_at: OffsetDateTime,
    /// One file for each of Temporal's databases, in the order of the setting.
    temporal: Vec<String>,
}

/// Takes both databases into a new folder that nobody else can read.
pub(crate) async fn take(config: &Config, folder: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(folder).with_context(|| format!("making {}", folder.display()))?;
    let portal_taken_at = OffsetDateTime::now_utc();
    dump(&config.database_url.reveal().parse()?, &folder.join(PORTAL)).await.context("taking the portal's database")?;
    let temporal_taken_at = OffsetDateTime::now_utc();
    let mut temporal = vec![];
    for (number, database) in config.temporal.databases.iter().enumerate() {
        let name = format!("temporal-{number}.dump");
        let taken = take_one(&Database::read(database.reveal())?, &folder.join(&name)).await;
        taken.context("taking Temporal's database")?;
        temporal.push(name);
    }
    let manifest = Manifest { ez: env!("CARGO_PKG_VERSION").to_owned(), portal_taken_at, temporal_taken_at, temporal };
    write_private(&folder.join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?)?;
    wiring::store(config)?.backup_finished(portal_taken_at, temporal_taken_at).await?;
    let mut told = io::stdout();
    writeln!(told, "taken: the portal at {portal_taken_at}, into {}", folder.display())?;
    if config.temporal.databases.is_empty() {
        writeln!(told, "EZ_TEMPORAL_DATABASE_URL is not given: Temporal's database is NOT in this backup")?;
    } else {
        writeln!(told, "taken: Temporal at {temporal_taken_at}")?;
    }
    writeln!(told, "EZ_SECRET_KEY is not in it and is needed to read it: keep it elsewhere")?;
    Ok(())
}

/// Puts back what a folder holds, over what is there. The portal and Temporal must not be running.
pub(crate) async fn restore(config: &Config, folder: &Path, overwrite: bool) -> anyhow::Result<()> {
    ensure!(overwrite, "this replaces what is in the databases; say --overwrite if that is meant");
    let text =
        fs::read(folder.join(MANIFEST)).with_context(|| format!("{} holds no finished backup", folder.display()))?;
    let manifest: Manifest = serde_json::from_slice(&text).context("reading the backup's manifest")?;
    ensure!(
        manifest.temporal.len() == config.temporal.databases.len(),
        "the backup holds {} of Temporal's databases and EZ_TEMPORAL_DATABASE_URL names {}",
        manifest.temporal.len(),
        config.temporal.databases.len()
    );
    let others = wiring::store(config)?.other_processes().await?;
    ensure!(others == 0, "{others} connection(s) of `ez` are open; stop every `ez serve` and `ez work` first");
    undump(&config.database_url.reveal().parse()?, &folder.join(PORTAL))
        .await
        .context("restoring the portal's database")?;
    for (name, database) in manifest.temporal.iter().zip(&config.temporal.databases) {
        let restored = restore_one(&Database::read(database.reveal())?, &folder.join(name)).await;
        restored.context("restoring Temporal's database")?;
    }
    writeln!(
        io::stdout(),
        "restored: the portal as of {}, Temporal as of {}\nnow start Temporal, then `ez migrate`, `ez reconcile --restored`, `ez work`, `ez serve`",
        manifest.portal_taken_at,
        manifest.temporal_taken_at
    )?;
    Ok(())
}

/// Where Temporal keeps what it knows.
enum Database {
    /// A server.
    Postgres(Url),
    /// The development server's file.
    Sqlite(PathBuf),
}

impl Database {
    fn read(address: &str) -> anyhow::Result<Self> {
        let address: Url = address.parse().context("EZ_TEMPORAL_DATABASE_URL")?;
        match address.scheme() {
            "postgres" | "postgresql" => Ok(Self::Postgres(address)),
            "sqlite" => Ok(Self::Sqlite(address.path().into())),
            other => bail!("EZ_TEMPORAL_DATABASE_URL: {other} is neither postgres nor sqlite"),
        }
    }
}

async fn take_one(database: &Database, into: &Path) -> anyhow::Result<()> {
    match database {
        Database::Postgres(address) => dump(address, into).await,
        // The file changes while it is read; SQLite's own backup gives one moment of it.
        Database::Sqlite(file) => {
            let copy = format!(".backup '{}'", quoted(into)?);
            run(Command::new("sqlite3").arg("-bail").arg(file).arg(".timeout 20000").arg(copy)).await?;
            Ok(fs::set_permissions(into, fs::Permissions::from_mode(0o600))?)
        }
    }
}

async fn restore_one(database: &Database, from: &Path) -> anyhow::Result<()> {
    match database {
        Database::Postgres(address) => undump(address, from).await,
        Database::Sqlite(file) => {
            // What stands in these belongs to the file that is replaced.
            for beside in ["-wal", "-shm"] {
                let mut name = file.clone().into_os_string();
                name.push(beside);
                match fs::remove_file(&name) {
                    Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault.into()),
                    _ => {}
                }
            }
            // Written in place, so that it stays its owner's.
            fs::write(file, fs::read(from)?).with_context(|| format!("writing {}", file.display()))
        }
    }
}

async fn dump(address: &Url, into: &Path) -> anyhow::Result<()> {
    write_private(into, &[])?;
    run(postgres("pg_dump", address).args(["--format=custom", "--no-owner", "--no-privileges", "--file"]).arg(into))
        .await
}

async fn undump(address: &Url, from: &Path) -> anyhow::Result<()> {
    let name = address.path().trim_start_matches('/');
    let how = ["--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction", "--dbname", name];
    run(postgres("pg_restore", address).args(how).arg(from)).await
}

/// A program of PostgreSQL for this database. Where it is travels in the environment: arguments are for everybody to see.
fn postgres(program: &str, address: &Url) -> Command {
    let mut command = Command::new(program);
    command.env("PGDATABASE", percent_decoded(address.path().trim_start_matches('/')));
    command.env("PGUSER", percent_decoded(address.username())).env("PGCONNECT_TIMEOUT", "10");
    if let Some(host) = address.host_str() {
        command.env("PGHOST", host);
    }
    if let Some(port) = address.port() {
        command.env("PGPORT", port.to_string());
    }
    if let Some(password) = address.password() {
        command.env("PGPASSWORD", percent_decoded(password));
    }
    for (name, value) in address.query_pairs() {
        match name.as_ref() {
            "sslmode" => command.env("PGSSLMODE", value.as_ref()),
            "sslrootcert" => command.env("PGSSLROOTCERT", value.as_ref()),
            "host" => command.env("PGHOST", value.as_ref()),
            _ => &mut command,
        };
    }
    command
}

/// Runs a program to its end; what it said is the error.
async fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let ran =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).output().await;
    let ran = ran.with_context(|| format!("{name} cannot be run; is it installed?"))?;
    ensure!(ran.status.success(), "{name} ended with {}: {}", ran.status, String::from_utf8_lossy(&ran.stderr).trim());
    Ok(())
}

fn write_private(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    fs::write(file, content).with_context(|| format!("writing {}", file.display()))?;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o600))?)
}

fn quoted(path: &Path) -> anyhow::Result<&str> {
    let text = path.to_str().context("the folder's name is not UTF-8")?;
    ensure!(!text.contains('\''), "the folder's name has a quote in it");
    Ok(text)
}

fn percent_decoded(text: &str) -> String {
    let whole = format!("x={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(whole.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_travels_as_it_is_and_never_as_an_argument() {
        let address: Url = "postgres://ez:a%2Fb+c@db:5433/portal?sslmode=require".parse().expect("a URL");
        let command = postgres("pg_dump", &address);
        let kept: Vec<_> =
            command.as_std().get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?))).collect();
        for pair in [
            ("PGPASSWORD", "a/b+c"),
            ("PGHOST", "db"),
            ("PGPORT", "5433"),
            ("PGDATABASE", "portal"),
            ("PGSSLMODE", "require"),
        ] {
            assert!(kept.contains(&pair), "{pair:?} in {kept:?}");
        }
        assert_eq!(command.as_std().get_args().count(), 0);
    }
}
