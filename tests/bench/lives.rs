//! Subscriptions that live: begun as quickly as the machine allows, each with its counterpart at Stripe and a workflow of its own that
//! has looked there once and sleeps on its timer.
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, stream};
use house::{Engine, House, Past};
use serde_json::{Value, json};
use sqlx::PgPool;
use temporalio_client::Client;
use uuid::Uuid;

use crate::figures::as_f64;
use crate::machine::available_mib;
use crate::named::Named;
use crate::patience::Patience;

/// So many are made at Stripe, written down and given their workflows together.
const TOGETHER: usize = 500;
const AT_ONCE: usize = 32;
const PATIENCE: Patience = Patience { look_every: Duration::from_millis(500), limit: Duration::from_hours(1) };
const TELL_EVERY: Duration = Duration::from_secs(5);
/// With less than this the machine would soon do nothing but look for memory.
const MEMORY_MIB_MIN: f64 = 512.0;

/// One subscription that lives.
#[derive(Clone)]
pub(crate) struct Live {
    /// What Stripe calls it.
    pub(crate) id: String,
    account: Uuid,
    order: Uuid,
    service: Uuid,
    price: String,
}

/// What Stripe made for one.
struct Made {
    customer: String,
    invoice: Value,
}

/// Puts so many accounts into the tables, each with a server that runs, and gives their subscriptions.
pub(crate) async fn past(house: &House, many: i32) -> Result<Vec<Live>> {
    house.crowd(many, Past { running: 1, ..Past::default() }).await?;
    PATIENCE.until(1, "trails are linked", || linked_trails(house)).await?;
    let rows: Vec<(String, Uuid, Uuid, Uuid, String)> = sqlx::query_as(
        "select s.id, s.account_id, s.order_id, o.service_id, pr.stripe_price_id
         from subscriptions s join orders o on o.id = s.order_id join prices pr on pr.id = s.price_id order by s.id",
    )
    .fetch_all(house.db())
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, account, order, service, price)| Live { id, account, order, service, price })
        .collect())
}

/// One once the worker has linked what the trail tells of them, nought before.
async fn linked_trails(house: &House) -> Result<usize> {
    let waits: bool = sqlx::query_scalar("select exists (select from audit_unlinked)").fetch_one(house.db()).await?;
    Ok(usize::from(!waits))
}

/// Begins them all, says on standard error how far it is, and waits until each workflow has looked at Stripe once and sleeps.
pub(crate) async fn begin(engine: &Engine, house: &House, lives: &[Live]) -> Result<()> {
    let client = house.temporal().await?;
    let (first_line, begun) = (newest_line(house).await?, AtomicUsize::new(0));
    let beginning = async {
        for some in lives.chunks(TOGETHER) {
            begin_some(house, &client, some, &begun).await?;
        }
        Ok::<(), anyhow::Error>(())
    };
    tokio::try_join!(beginning, until_looked(house, first_line, lives.len(), &begun))?;
    until_asleep(engine, lives.len()).await
}

/// Stripe tells of nothing that happens there, or does again; either way it bills nobody of its own accord, for which the stand-in
/// goes through everybody once a second.
pub(crate) async fn quiet(house: &House, quiet: bool) -> Result<()> {
    house.stripe().post("/_control/quiet", json!({"quiet": quiet, "still": true})).await.map(drop)
}

/// The newest line of history there is.
pub(crate) async fn newest_line(house: &House) -> Result<i64> {
    Ok(sqlx::query_scalar("select coalesce(max(id), 0) from timeline").fetch_one(house.db()).await?)
}

/// How many payments the lines after this one tell of.
pub(crate) async fn payments_told(house: &House, after: i64) -> Result<usize> {
    let told: i64 = sqlx::query_scalar("select count(*) from timeline where id > $1 and kind = 'renewal'")
        .bind(after)
        .fetch_one(house.db())
        .await?;
    Ok(usize::try_from(told)?)
}

/// Does this for all of them, so many at once, and gives what it gave in their order.
pub(crate) async fn in_parallel<I, T, F>(items: Vec<I>, at_once: usize, act: impl Fn(I) -> F) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>>,
{
    stream::iter(items).map(act).buffered(at_once).collect::<Vec<Result<T>>>().await.into_iter().collect()
}

async fn begin_some(house: &House, client: &Client, lives: &[Live], begun: &AtomicUsize) -> Result<()> {
    let made = in_parallel(lives.to_vec(), AT_ONCE, |live| at_stripe(house, live)).await?;
    let accounts: Vec<Uuid> = lives.iter().map(|live| live.account).collect();
    let customers: Vec<String> = made.iter().map(|made| made.customer.clone()).collect();
    sqlx::query(
        "update accounts set stripe_customer_id = given.customer
         from unnest($1::uuid[], $2::text[]) as given (account, customer) where id = given.account",
    )
    .bind(accounts)
    .bind(customers)
    .execute(house.db())
    .await?;
    let pairs: Vec<(Live, Made)> = lives.iter().cloned().zip(made).collect();
    in_parallel(pairs, AT_ONCE, |(live, made)| start(house, client, live, made, begun)).await.map(drop)
}

/// Gives it its counterpart at Stripe, with a customer of its own.
async fn at_stripe(house: &House, live: Live) -> Result<Made> {
    let customer = json!({"email": format!("{}@crowd.test", live.account), "metadata": {"account": live.account}});
    let metadata = json!({"account": live.account, "order": live.order, "service": live.service});
    let asked = json!({"id": live.id, "price": live.price, "metadata": metadata, "customer": customer});
    let made = house.stripe().post("/_control/customers/new/subscriptions", asked).await?;
    let customer = made["customer"].as_str().context("a customer's id")?.to_owned();
    Ok(Made { customer, invoice: made["latest_invoice"].clone() })
}

/// Gives it its workflow.
async fn start(house: &House, client: &Client, live: Live, made: Made, begun: &AtomicUsize) -> Result<()> {
    let input = input(&live, &made.invoice);
    let workflow = Named { kind: "subscription", id: live.id, account: live.account, stage: "active" };
    workflow.start(house, client, input).await?;
    begun.fetch_add(1, Ordering::Relaxed);
    Ok(())
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

/// Waits until the first look of each is written down.
async fn until_looked(house: &House, first_line: i64, wanted: usize, begun: &AtomicUsize) -> Result<()> {
    let since = Instant::now();
    let (mut told_at, mut told) = (since, 0);
    let tell = |looked: usize| -> Result<()> {
        if told_at.elapsed() >= TELL_EVERY {
            let rate = as_f64(looked.saturating_sub(told)) / told_at.elapsed().as_secs_f64();
            let (begun, free) = (begun.load(Ordering::Relaxed), available_mib()?);
            let _ = writeln!(
                io::stderr(),
                "  after {:.0} s: of {wanted} begun {begun}, looked at Stripe {looked}, {rate:.0} /s; {free:.0} MiB free",
                since.elapsed().as_secs_f64()
            );
            ensure!(free > MEMORY_MIB_MIN, "the machine has no memory for more than {begun} of {wanted}");
            (told_at, told) = (Instant::now(), looked);
        }
        Ok(())
    };
    PATIENCE.until_telling(wanted, "have looked at Stripe", || payments_told(house, first_line), tell).await
}

/// Waits until Temporal keeps a timer for each.
async fn until_asleep(engine: &Engine, wanted: usize) -> Result<()> {
    let url = engine.temporal_databases().first().context("where Temporal keeps what it knows")?;
    let db = PgPool::connect(url.as_str()).await?;
    PATIENCE.until(wanted, "sleep on a timer", || asleep(&db)).await?;
    db.close().await;
    Ok(())
}

async fn asleep(db: &PgPool) -> Result<usize> {
    let asleep: i64 = sqlx::query_scalar(
        "select count(distinct workflow_id) from timer_info_maps where starts_with(workflow_id, 'subscription-')",
    )
    .fetch_one(db)
    .await?;
    Ok(usize::try_from(asleep)?)
}
