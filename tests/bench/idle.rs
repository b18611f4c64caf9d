//! What everything takes while nothing happens: with nobody, and with so many subscriptions asleep. `EZ_BENCH_IDLE` says how many,
//! 100,000 unless it is given.
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::FutureExt as _;
use house::{Catalogue, Engine, House, HouseOptions, PolicySecs};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::Benchmark;
use crate::figures::{Aim, Figure, as_f64};
use crate::lives::{self, Live};
use crate::machine::{Parts, machine_cpu_secs, memory_mib};

/// It takes too long to be run unasked.
pub(crate) const NAME: &str = "idle";
const SUBSCRIPTIONS: i32 = 100_000;
/// How long nothing happens, to see what that costs.
const LASTING: Duration = Duration::from_mins(1);
/// What was begun is over when the machine was not less busy any more, twice in a row, in a time as long as this.
const CALM: Duration = Duration::from_secs(5);
const CALM_WITHIN: Duration = Duration::from_mins(5);

/// The benchmark of this file.
pub(crate) const BENCHMARKS: &[Benchmark] = &[Benchmark {
    name: NAME,
    about: "subscriptions asleep on Temporal over PostgreSQL, and nothing happens; one run",
    run: |_| idle().boxed(),
}];

async fn idle() -> Result<Vec<Figure>> {
    let many = how_many("EZ_BENCH_IDLE", SUBSCRIPTIONS)?;
    let scene = Box::pin(Scene::asleep("bench-idle", many, LASTING)).await?;
    scene.house.stop().await?;
    scene.engine.stop().await?;
    Ok(scene.figures)
}

/// How many this variable asks for.
pub(crate) fn how_many(variable: &str, otherwise: i32) -> Result<i32> {
    match std::env::var(variable) {
        Ok(given) => given.parse().with_context(|| format!("{variable} is no number")),
        Err(_) => Ok(otherwise),
    }
}

/// A house in which so many subscriptions sleep, and what it took before they lived and takes since.
pub(crate) struct Scene {
    /// The servers below it.
    pub(crate) engine: Engine,
    /// The house.
    pub(crate) house: House,
    /// Those that sleep.
    pub(crate) lives: Vec<Live>,
    /// What was measured so far.
    pub(crate) figures: Vec<Figure>,
}

impl Scene {
    /// Starts everything, begins so many, and looks before and after for so long at what is taken while nothing happens.
    pub(crate) async fn asleep(name: &str, many: i32, lasting: Duration) -> Result<Self> {
        let engine = Engine::start_production().await?;
        let house = House::start(&engine, options(name)).await?;
        lives::quiet(&house, true).await?;
        let alone = Rest::measured(&engine, &house, lasting).await?;
        let lives = lives::past(&house, many).await?;
        tidy(&engine, &house).await?;
        let before = Disk::measured(&house).await?;
        let began = Instant::now();
        lives::begin(&engine, &house, &lives).await?;
        let took = began.elapsed();
        let asleep = Rest::measured(&engine, &house, lasting).await?;
        let number = as_f64(lives.len());
        let mut figures = vec![
            told("subscriptions that live", "", number),
            told("begun, looked at Stripe and asleep", "/s", number / took.as_secs_f64()),
        ];
        figures.extend(alone.figures("nobody lives"));
        figures.extend(asleep.figures("all asleep"));
        let each = |after: f64, before: f64| (after - before) * 1024.0 / number;
        figures.extend([
            told("the portal's database grew for each begun", "KiB", each(asleep.disk.portal, before.portal)),
            told("the same with its order and its past", "KiB", each(asleep.disk.portal, alone.disk.portal)),
            told("Temporal's databases grew for each begun", "KiB", each(asleep.disk.temporal, before.temporal)),
        ]);
        Ok(Self { engine, house, lives, figures })
    }
}

/// A figure of one run.
pub(crate) fn told(name: impl Into<String>, unit: &'static str, value: f64) -> Figure {
    let mut figure = Figure::new(name, unit, Aim::Told);
    figure.add(value);
    figure
}

/// What everything takes while nothing happens: processors in milliseconds a second, memory in MiB.
struct Rest {
    cpu: Parts,
    machine: f64,
    memory: Memory,
    disk: Disk,
}

impl Rest {
    async fn measured(engine: &Engine, house: &House, lasting: Duration) -> Result<Self> {
        tidy(engine, house).await?;
        until_calm().await?;
        let (cpu, machine, began) = (Parts::cpu_secs()?, machine_cpu_secs()?, Instant::now());
        tokio::time::sleep(lasting).await;
        let passed = began.elapsed().as_secs_f64() / 1e3;
        let (cpu, machine) = (Parts::cpu_secs()?.since(cpu, passed), (machine_cpu_secs()? - machine) / passed);
        Ok(Self { cpu, machine, memory: Memory::measured(house).await?, disk: Disk::measured(house).await? })
    }

    fn figures(&self, when: &str) -> Vec<Figure> {
        let used = |of: &str, value: f64| told(format!("processor of {of}, {when}"), "ms/s", value);
        let mut figures = vec![
            used("`ez`", self.cpu.ez),
            used("Temporal", self.cpu.temporal),
            used("PostgreSQL", self.cpu.postgres),
            used("stand-ins, PowerDNS and this bench", self.cpu.rest),
            used("the whole machine", self.machine),
        ];
        figures.extend(self.memory.figures(when));
        figures.push(told(format!("the portal's database, {when}"), "MiB", self.disk.portal));
        figures.push(told(format!("Temporal's databases, {when}"), "MiB", self.disk.temporal));
        figures
    }
}

/// The memory of each program, in MiB.
pub(crate) struct Memory {
    serve: f64,
    work: f64,
    parts: Parts,
}

impl Memory {
    /// As it is now.
    pub(crate) async fn measured(house: &House) -> Result<Self> {
        let serve = memory_mib(house.web_pid().await.context("the web is not running")?)?;
        let work = memory_mib(*house.worker_pids().await.first().context("no worker is running")?)?;
        Ok(Self { serve, work, parts: Parts::memory_mib()? })
    }

    /// One figure for each.
    pub(crate) fn figures(&self, when: &str) -> Vec<Figure> {
        let held = |by: &str, value: f64| told(format!("memory of {by}, {when}"), "MiB", value);
        vec![
            held("`ez serve`", self.serve),
            held("`ez work`", self.work),
            held("Temporal", self.parts.temporal),
            held("PostgreSQL", self.parts.postgres),
            held("stand-ins, PowerDNS and this bench", self.parts.rest),
        ]
    }
}

/// What the databases take, in MiB.
#[derive(Clone, Copy)]
pub(crate) struct Disk {
    portal: f64,
    temporal: f64,
}

impl Disk {
    /// As it is now.
    pub(crate) async fn measured(house: &House) -> Result<Self> {
        let (portal, temporal): (f64, f64) = sqlx::query_as(
            "select pg_database_size(current_database()) / 1048576.0::float8,
                coalesce(sum(pg_database_size(datname)) filter (where starts_with(datname, 'temporal')), 0)::float8 / 1048576
             from pg_database",
        )
        .fetch_one(house.db())
        .await?;
        Ok(Self { portal, temporal })
    }

    /// Both together.
    pub(crate) fn whole(self) -> f64 {
        self.portal + self.temporal
    }
}

/// What PostgreSQL would tidy up by itself some time is tidied up now, and is not measured with something else.
async fn tidy(engine: &Engine, house: &House) -> Result<()> {
    house.db().execute("vacuum (analyze)").await?;
    for url in engine.temporal_databases() {
        let mut db = PgConnection::connect(url.as_str()).await?;
        db.execute("vacuum (analyze)").await?;
        db.close().await?;
    }
    house.db().execute("checkpoint").await?;
    Ok(())
}

async fn until_calm() -> Result<()> {
    let (until, mut busiest, mut times) = (Instant::now() + CALM_WITHIN, f64::MAX, 0);
    while times < 2 && Instant::now() < until {
        let before = machine_cpu_secs()?;
        tokio::time::sleep(CALM).await;
        let busy = machine_cpu_secs()? - before;
        times = if busy >= busiest * 0.9 { times + 1 } else { 0 };
        busiest = busy.min(busiest);
    }
    Ok(())
}

fn options(name: &str) -> HouseOptions {
    const NEVER: u32 = 86_400;
    let policy = PolicySecs { subscription_poll: NEVER, events: NEVER, step_patience: NEVER, ..PolicySecs::default() };
    HouseOptions { policy, change_catalogue: Catalogue::widen, ..HouseOptions::named(name) }.with("RUST_LOG", "warn")
}
