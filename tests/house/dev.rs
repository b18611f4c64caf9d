//! A portal that stays up while its sources change: rebuilt and restarted on every change that compiles.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use house::{Customer, Engine, House, HouseOptions, Launch, PolicySecs, repository};

use crate::announce::{self, Announcement};
use crate::asked_to_end;
use crate::steps::Steps;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const BUILD_LIMIT: Duration = Duration::from_mins(30);
/// What `ez` is built from.
const SOURCES: [&str; 8] =
    ["src", "workflows", "activities", "templates", "static", "migrations", "Cargo.toml", "Cargo.lock"];

/// Starts a house, one customer included, and keeps it current until asked to end.
pub(crate) async fn run() -> Result<()> {
    let mut steps = Steps::default();
    let engine = tokio::select! {
        started = steps.run("PostgreSQL, Temporal and PowerDNS", Engine::start(false)) => started?,
        asked = asked_to_end() => return asked,
    };
    let mut house = None;
    let lived = tokio::select! {
        lived = in_house(&engine, &mut house, &mut steps) => lived,
        asked = asked_to_end() => asked,
    };
    let left = match house {
        Some(house) => house.stop().await,
        None => Ok(()),
    };
    lived.and(left).and(engine.stop().await)
}

async fn in_house(engine: &Engine, slot: &mut Option<House>, steps: &mut Steps) -> Result<()> {
    let mut options = HouseOptions::named("vps");
    options.policy = PolicySecs { payment_window: 1_800, ..PolicySecs::default() };
    let starting = House::start(engine, options);
    let house = slot.insert(steps.run("Stripe, Proxmox and mail; tables, catalogue, web and worker", starting).await?);
    let customer = steps.run("a customer signs up", Customer::signed_in(house)).await?;
    let _announcement = Announcement::write(house, &customer)?;
    announce::print(house, &customer)?;
    let mut built = newest_source();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let newest = newest_source();
        if newest <= built {
            continue;
        }
        // An editor may still be writing: build once a look finds nothing newer.
        tokio::time::sleep(LOOK_EVERY).await;
        built = newest_source();
        match steps.run("the sources changed: builds and starts again", renew(house)).await {
            Ok(()) => writeln!(io::stdout(), "     {}", house.url())?,
            Err(error) => writeln!(io::stderr(), "{error:?}\n     what ran before keeps running")?,
        }
    }
}

async fn renew(house: &House) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = std::env::var("CARGO_TARGET_DIR").ok().map(|folder| ("CARGO_TARGET_DIR".to_owned(), folder));
    let offline = ("SQLX_OFFLINE".to_owned(), "true".to_owned());
    let environment = [Some(offline), target];
    let build = Launch::new("cargo-build", cargo).args(["build", "--bin", "ez"]).in_directory(repository());
    build.envs(environment.iter().flatten().map(|(name, value)| (name, value))).run(&house.logs(), BUILD_LIMIT).await?;
    house.stop_web().await?;
    house.stop_worker().await?;
    house.run_ez(&["migrate"], "").await?;
    tokio::try_join!(house.start_web(), house.start_worker()).map(drop)
}

fn newest_source() -> SystemTime {
    SOURCES.iter().map(|source| newest(&repository().join(source))).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn newest(path: &Path) -> SystemTime {
    let own = fs::metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let inside = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| newest(&entry.path())).max();
    inside.map_or(own, |newest| newest.max(own))
}
