//! A storm of renewals: so many live subscriptions, on Temporal over PostgreSQL as production has it, all renew at once.
//! `EZ_BENCH_SUBSCRIPTIONS` says how many live, 10,000 unless it is given.
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{FutureExt as _, StreamExt as _, stream};
use house::{Catalogue, Engine, House, HouseOptions, Past, PolicySecs};
use serde_json::{Value, json};
use temporalio_client::{Client, WorkflowStartOptions};
use temporalio_common::{
    HasWorkflowDefinition, WorkflowDefinition,
    search_attributes::{SearchAttributeKey, SearchAttributes},
};
use uuid::Uuid;

use crate::Benchmark;
use crate::figures::{Aim, Figure, as_f64, percentile_ms};
use crate::machine::{house_cpu_secs, house_memory_mib};

/// It takes too long to be run unasked.
pub(crate) const NAME: &str = "renewals";
const SUBSCRIPTIONS: i32 = 10_000;
const AT_ONCE: usize = 16;
/// How long nothing happens, to see what that costs.
const IDLE: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_hours(1);
const RENEWALS_A_YEAR: f64 = 12.0;

/// The benchmarks of this file.
pub(crate) const BENCHMARKS: &[Benchmark] = &[Benchmark {
    name: NAME,
    about: "every live subscription renews, on Temporal over PostgreSQL; one run",
    run: |_| storm().boxed(),
}];

/// One subscription that lives.
#[derive(Clone)]
struct Live {
    id: String,
    account: Uuid,
    order: Uuid,
    service: Uuid,
}

/// The subscription workflow as the wire knows it.
struct SubscriptionWorkflow;

impl WorkflowDefinition for SubscriptionWorkflow {
    type Input = Value;
    type Output = Value;

    fn name(&self) -> &'static str {
        "subscription"
    }
}

impl HasWorkflowDefinition for SubscriptionWorkflow {
    type Run = Self;
}

async fn storm() -> Result<Vec<Figure>> {
    let many: i32 = match std::env::var("EZ_BENCH_SUBSCRIPTIONS") {
        Ok(given) => given.parse().context("EZ_BENCH_SUBSCRIPTIONS is no number")?,
        Err(_) => SUBSCRIPTIONS,
    };
    let engine = Engine::start_production().await?;
    let house = House::start(&engine, options().with("RUST_LOG", "warn")).await?;
    webhooks(&house, 100).await?;
    house.crowd(many, Past { running: 1, ..Past::default() }).await?;
    let lives = lives(&house).await?;
    let began = Instant::now();
    let client = house.temporal().await?;
    in_parallel(&lives, |live| begin(&house, &client, live)).await?;
    until_lines(&house, lives.len()).await?;
    let started = began.elapsed();
    webhooks(&house, 0).await?;

    let before = house_cpu_secs(&house).await?;
    tokio::time::sleep(IDLE).await;
    let after = house_cpu_secs(&house).await?;
    let idle = (after.0 + after.1 - before.0 - before.1) / IDLE.as_secs_f64() * 1e3;
    let size = databases_bytes(&house).await?;
    let stormed: f64 = sqlx::query_scalar("select extract(epoch from now())::float8").fetch_one(house.db()).await?;
    let began = Instant::now();
    in_parallel(&lives, |live| renew(&house, live)).await?;
    let told = began.elapsed();
    until_lines(&house, 2 * lives.len()).await?;
    let converged = began.elapsed();
    until_receipts(&house, lives.len()).await?;
    let took = began.elapsed();
    let times = times(&house, stormed, lives.len()).await?;
    let grown = as_f64(databases_bytes(&house).await?.saturating_sub(size)) / 1024.0;
    let memory = house_memory_mib(&house).await?;
    house.stop().await?;
    engine.stop().await?;

    let figure = |name: &str, unit: &'static str, value: f64| {
        let mut figure = Figure::new(name, unit, Aim::Told);
        figure.add(value);
        figure
    };
    let number = as_f64(lives.len());
    Ok(vec![
        figure("subscriptions that live", "", number),
        figure("begun", "/s", number / started.as_secs_f64()),
        figure("processor of `ez` while nothing happens", "ms/s", idle),
        figure("Stripe renewed them all within", "s", told.as_secs_f64()),
        figure("all mirrored after", "s", converged.as_secs_f64()),
        figure("all receipts sent after", "s", took.as_secs_f64()),
        figure("renewals", "/s", number / took.as_secs_f64()),
        figure("from the first event to the mirror, p50", "ms", percentile_ms(&times, 0.50)),
        figure("from the first event to the mirror, p99", "ms", percentile_ms(&times, 0.99)),
        figure("`ez serve` and `ez work` afterwards", "MiB", memory),
        figure("databases grow for each subscription a year", "KiB", grown / number * RENEWALS_A_YEAR),
    ])
}

fn options() -> HouseOptions {
    const NEVER: u32 = 86_400;
    let policy = PolicySecs { subscription_poll: NEVER, events: NEVER, step_patience: NEVER, ..PolicySecs::default() };
    HouseOptions { policy, change_catalogue: Catalogue::widen, ..HouseOptions::named("bench-renewals") }
}

async fn webhooks(house: &House, dropped_percent: u32) -> Result<()> {
    house.stripe().post("/_control/webhooks", json!({"drop_percent": dropped_percent})).await.map(drop)
}

async fn lives(house: &House) -> Result<Vec<Live>> {
    let rows: Vec<(String, Uuid, Uuid, Uuid)> = sqlx::query_as(
        "select s.id, s.account_id, s.order_id, o.service_id from subscriptions s join orders o on o.id = s.order_id
         order by s.id",
    )
    .fetch_all(house.db())
    .await?;
    Ok(rows.into_iter().map(|(id, account, order, service)| Live { id, account, order, service }).collect())
}

async fn in_parallel<F: Future<Output = Result<()>>>(lives: &[Live], act: impl Fn(Live) -> F) -> Result<()> {
    stream::iter(lives.to_vec())
        .map(act)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<Result<()>>>()
        .await
        .into_iter()
        .collect()
}

/// Gives it its counterpart at Stripe, and its workflow.
async fn begin(house: &House, client: &Client, live: Live) -> Result<()> {
    let price: String = sqlx::query_scalar(
        "select pr.stripe_price_id from subscriptions s join prices pr on pr.id = s.price_id where s.id = $1",
    )
    .bind(&live.id)
    .fetch_one(house.db())
    .await?;
    let customer = customer(house, &live).await?;
    let metadata = json!({"account": live.account, "order": live.order, "service": live.service});
    let asked = json!({"id": live.id, "price": price, "metadata": metadata});
    let made = house.stripe().post(&format!("/_control/customers/{customer}/subscriptions"), asked).await?;
    sqlx::query("update accounts set stripe_customer_id = $2 where id = $1")
        .bind(live.account)
        .bind(&customer)
        .execute(house.db())
        .await?;
    let text = SearchAttributeKey::<String>::keyword;
    let found_by = SearchAttributes::new([
        text("EzKind").value_set("subscription".to_owned()),
        text("EzStage").value_set("active".to_owned()),
        text("EzAccount").value_set(live.account.to_string()),
        SearchAttributeKey::<bool>::bool("EzNeedsAttention").value_set(false),
    ]);
    let workflow = format!("subscription-{}", live.id);
    let options =
        WorkflowStartOptions::new(house.task_queue().to_owned(), workflow).search_attributes(found_by).build();
    client.start_workflow(SubscriptionWorkflow, input(&live, &made["latest_invoice"]), options).await?;
    Ok(())
}

async fn customer(house: &House, live: &Live) -> Result<String> {
    let url = house.stripe().base().join("/v1/customers")?;
    let form = [("email", format!("{}@crowd.test", live.account)), ("metadata[account]", live.account.to_string())];
    let key = house.setting("STRIPE_SECRET_KEY").context("a key")?;
    let made: Value = reqwest::Client::new().post(url).bearer_auth(key).form(&form).send().await?.json().await?;
    Ok(made["id"].as_str().context("a customer's id")?.to_owned())
}

fn input(live: &Live, receipted: &Value) -> Value {
    json!({
        "subscription": live.id, "account": live.account,
        "policy": {
            "reminders_secs": [86_400], "suspend_after_secs": 172_800, "grace_secs": 604_800, "retention_secs": 604_800,
            "retention_warning_secs": 86_400, "expiry_warning_secs": 86_400, "poll_secs": 86_400,
            "step_patience_secs": 900
        },
        "standing": {
            "phase": "active", "receipted_invoice": receipted, "warned_period_end": null, "overdue": null,
            "suspended_at": null, "retained_at": null, "warned_at": null
        }
    })
}

async fn renew(house: &House, live: Live) -> Result<()> {
    house.stripe().post(&format!("/_control/subscriptions/{}/renew", live.id), json!({})).await.map(drop)
}

async fn until_lines(house: &House, wanted: usize) -> Result<()> {
    until_counted(house, "select count(*) from timeline where kind = 'renewal'", wanted).await
}

async fn until_receipts(house: &House, wanted: usize) -> Result<()> {
    let question = "select count(*) from letters where kind = 'payment_received' and state = 'sent'";
    until_counted(house, question, wanted).await
}

async fn until_counted(house: &House, question: &'static str, wanted: usize) -> Result<()> {
    let until = Instant::now() + LIMIT;
    loop {
        let there: i64 = sqlx::query_scalar(question).fetch_one(house.db()).await?;
        if usize::try_from(there)? >= wanted {
            return Ok(());
        }
        ensure!(Instant::now() < until, "only {there} of {wanted} after {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
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

/// The portal's database and Temporal's.
async fn databases_bytes(house: &House) -> Result<usize> {
    let bytes: i64 = sqlx::query_scalar(
        "select sum(pg_database_size(datname))::bigint from pg_database where datname not like 'template%'",
    )
    .fetch_one(house.db())
    .await?;
    Ok(usize::try_from(bytes)?)
}
