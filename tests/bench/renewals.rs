//! A storm of renewals: so many live subscriptions, on Temporal over PostgreSQL as production has it, all renew at once.
//! `EZ_BENCH_SUBSCRIPTIONS` says how many live, 10,000 unless it is given.
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::FutureExt as _;
use house::House;
use serde_json::json;

use crate::Benchmark;
use crate::figures::{Figure, as_f64, percentile_ms};
use crate::idle::{Disk, Memory, Scene, how_many, told};
use crate::lives::{self, Live, in_parallel, newest_line, payments_told};
use crate::patience::Patience;

/// It takes too long to be run unasked.
pub(crate) const NAME: &str = "renewals";
const SUBSCRIPTIONS: i32 = 10_000;
const AT_ONCE: usize = 16;
/// How long nothing happens before and after they live, to see what that costs.
const IDLE: Duration = Duration::from_secs(20);
const PATIENCE: Patience = Patience { look_every: Duration::from_millis(200), limit: Duration::from_hours(1) };
const RENEWALS_A_YEAR: f64 = 12.0;

/// The benchmarks of this file.
pub(crate) const BENCHMARKS: &[Benchmark] = &[Benchmark {
    name: NAME,
    about: "every live subscription renews, on Temporal over PostgreSQL; one run",
    run: |_| storm().boxed(),
}];

async fn storm() -> Result<Vec<Figure>> {
    let many = how_many("EZ_BENCH_SUBSCRIPTIONS", SUBSCRIPTIONS)?;
    let Scene { engine, house, lives, mut figures } = Box::pin(Scene::asleep("bench-renewals", many, IDLE)).await?;
    let wanted = lives.len();
    lives::quiet(&house, false).await?;
    let (size, line) = (Disk::measured(&house).await?, newest_line(&house).await?);
    let stormed: f64 = sqlx::query_scalar("select extract(epoch from now())::float8").fetch_one(house.db()).await?;
    let began = Instant::now();
    in_parallel(lives, AT_ONCE, |live| renew(&house, live)).await?;
    let renewed = began.elapsed();
    PATIENCE.until(wanted, "are mirrored", || payments_told(&house, line)).await?;
    let converged = began.elapsed();
    PATIENCE.until(wanted, "have a receipt", || receipts(&house)).await?;
    let took = began.elapsed();
    let times = times(&house, stormed, wanted).await?;
    let grown = (Disk::measured(&house).await?.whole() - size.whole()) * 1024.0;
    let memory = Memory::measured(&house).await?;
    house.stop().await?;
    engine.stop().await?;

    let number = as_f64(wanted);
    figures.extend([
        told("Stripe renewed them all within", "s", renewed.as_secs_f64()),
        told("all mirrored after", "s", converged.as_secs_f64()),
        told("all receipts sent after", "s", took.as_secs_f64()),
        told("renewals", "/s", number / took.as_secs_f64()),
        told("from the first event to the mirror, p50", "ms", percentile_ms(&times, 0.50)),
        told("from the first event to the mirror, p99", "ms", percentile_ms(&times, 0.99)),
    ]);
    figures.extend(memory.figures("after the renewals"));
    figures.push(told("databases grow for each subscription a year", "KiB", grown / number * RENEWALS_A_YEAR));
    Ok(figures)
}

async fn renew(house: &House, live: Live) -> Result<()> {
    house.stripe().post(&format!("/_control/subscriptions/{}/renew", live.id), json!({})).await.map(drop)
}

/// How many receipts were sent; a past that nobody lived has none.
async fn receipts(house: &House) -> Result<usize> {
    let question = "select count(*) from letters where kind = 'payment_received' and state = 'sent'";
    let sent: i64 = sqlx::query_scalar(question).fetch_one(house.db()).await?;
    Ok(usize::try_from(sent)?)
}

/// How long each took from the first event of its renewal to the line that its mirror got.
async fn times(house: &House, since: f64, wanted: usize) -> Result<Vec<Duration>> {
    let millis: Vec<f64> = sqlx::query_scalar(
        "select (extract(epoch from max(t.happened_at) - min(e.received_at)) * 1000)::float8
         from payment_events e join timeline t on t.subscription_id = e.subscription_id and t.kind = 'renewal'
         where e.received_at >= to_timestamp($1) group by e.subscription_id",
    )
    .bind(since)
    .fetch_all(house.db())
    .await?;
    ensure!(millis.len() == wanted, "{} of {wanted} renewals were told of", millis.len());
    Ok(millis.into_iter().map(|time| Duration::from_secs_f64(time.max(0.0) / 1e3)).collect())
}
