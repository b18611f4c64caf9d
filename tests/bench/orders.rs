//! Orders from the signed webhook to the delivered machine: a burst, a steady stream, and what the engine gives beside it.
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{FutureExt as _, StreamExt as _, stream};
use house::{Catalogue, House, HouseOptions, PolicySecs};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::figures::{Aim, Figure, as_f64, percentile_ms};
use crate::machine::{Parts, house_cpu_secs, house_memory_mib};
use crate::named::Named;
use crate::patience::Patience;
use crate::stations::{self, Stations};
use crate::web::told;
use crate::{Benchmark, Stage, bare};

/// How many orders are paid at once.
const BURST: usize = 500;
/// How many are paid one after the other, and how often one is.
const PACED: usize = 100;
const PACE: Duration = Duration::from_millis(200);
/// Orders that are delivered before anything is measured.
const WARM_UP: usize = 30;
/// How many bare workflows are run beside them.
const BARE: usize = 600;
/// How long the webhook door is pushed while orders are worked.
const PUSHED: Duration = Duration::from_secs(4);
const PATIENCE: Patience = Patience { look_every: Duration::from_millis(20), limit: Duration::from_mins(5) };
const AT_ONCE: usize = 16;
/// What the stand-in's tasks of one order take, in milliseconds before they are scaled: clone, configure, resize, start,
/// and the guest's boot.
const VENDORS_MS: f64 = 400.0 + 50.0 + 100.0 + 150.0 + 300.0;
/// The same part of what a real cluster takes for each.
const TIME_SCALE: f64 = 0.1;

/// The benchmarks of this file.
pub(crate) const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "orders",
        about: "500 signed webhooks of payments at once, from the first of them to the last delivered machine",
        run: |stage| burst(stage).boxed(),
    },
    Benchmark {
        name: "bare",
        about: "a workflow with one activity that does nothing, 50 at a time",
        run: |stage| engine(stage).boxed(),
    },
    Benchmark {
        name: "paced",
        about: "5 payments a second, each from its webhook to its delivered machine",
        run: |stage| paced(stage).boxed(),
    },
    Benchmark {
        name: "door",
        about: "POST /webhooks/stripe/ while orders are worked, 32 connections",
        run: |stage| door(stage).boxed(),
    },
];

async fn burst(stage: &Stage) -> Result<Vec<Figure>> {
    let mut rate = Figure::new("delivered", "orders/s", Aim::AtLeast(25.0));
    let mut p50 = Figure::new("from webhook to delivery, p50", "ms", Aim::Told);
    let mut p99 = Figure::new("from webhook to delivery, p99", "ms", Aim::Told);
    let mut bare_rate = Figure::new("bare one-activity workflows", "/s", Aim::Told);
    let mut ratio = Figure::new("orders for each bare workflow", "", Aim::Told);
    let mut worker = Figure::new("processor of `ez work` for one order", "ms", Aim::Told);
    let mut web = Figure::new("processor of `ez serve` for one order", "ms", Aim::Told);
    let mut temporal = Figure::new("processor of Temporal for one order", "ms", Aim::Told);
    let mut postgres = Figure::new("processor of PostgreSQL for one order", "ms", Aim::Told);
    let mut memory = Figure::new("`ez serve` and `ez work` afterwards", "MiB", Aim::AtMost(80.0));
    for run in 0..stage.runs {
        let shop = Shop::open(stage, &format!("bench-orders-{run}")).await?;
        shop.deliver(WARM_UP).await?;
        bare_rate.add(bare::rate(&shop.house, BARE).await?);
        let orders = shop.unpaid(BURST).await?;
        shop.webhooks(true).await?;
        shop.pay(&orders).await?;
        let (before, parts) = (house_cpu_secs(&shop.house).await?, Parts::cpu_secs()?);
        let began = Instant::now();
        shop.webhooks(false).await?;
        shop.delivered(WARM_UP + BURST).await?;
        let took = began.elapsed();
        let after = house_cpu_secs(&shop.house).await?;
        let parts = Parts::cpu_secs()?.since(parts, as_f64(BURST));
        let times = shop.times(&orders).await?;
        rate.add(as_f64(BURST) / took.as_secs_f64());
        ratio.add(as_f64(BURST) / took.as_secs_f64() / bare_rate.last());
        p50.add(percentile_ms(&times, 0.50));
        p99.add(percentile_ms(&times, 0.99));
        web.add((after.0 - before.0) * 1e3 / as_f64(BURST));
        worker.add((after.1 - before.1) * 1e3 / as_f64(BURST));
        temporal.add(parts.temporal * 1e3);
        postgres.add(parts.postgres * 1e3);
        memory.add(house_memory_mib(&shop.house).await?);
        shop.house.stop().await?;
    }
    Ok(vec![rate, p50, p99, bare_rate, ratio, worker, web, temporal, postgres, memory])
}

async fn engine(stage: &Stage) -> Result<Vec<Figure>> {
    let mut rate = Figure::new("bare one-activity workflows", "/s", Aim::Told);
    let shop = Shop::open(stage, "bench-bare").await?;
    for _ in 0..stage.runs {
        rate.add(bare::rate(&shop.house, BARE).await?);
    }
    shop.house.stop().await?;
    Ok(vec![rate])
}

async fn paced(stage: &Stage) -> Result<Vec<Figure>> {
    let vendors = VENDORS_MS * TIME_SCALE;
    let mut whole = Figure::new("from webhook to delivery, p50", "ms", Aim::Told);
    let mut told = Figure::new("what the stand-ins were told to take of it", "ms", Aim::Told);
    let mut p50 = Figure::new("added by us, p50", "ms", Aim::AtMost(100.0));
    let mut p99 = Figure::new("added by us, p99", "ms", Aim::AtMost(300.0));
    let mut stations = Stations::default();
    for run in 0..stage.runs {
        let shop = Shop::open(stage, &format!("bench-paced-{run}")).await?;
        shop.deliver(WARM_UP).await?;
        let orders = shop.unpaid(PACED).await?;
        let mut clock = tokio::time::interval(PACE);
        for order in &orders {
            clock.tick().await;
            shop.pay(std::slice::from_ref(order)).await?;
        }
        shop.delivered(WARM_UP + PACED).await?;
        let times = shop.times(&orders).await?;
        whole.add(percentile_ms(&times, 0.50));
        told.add(vendors);
        p50.add(percentile_ms(&times, 0.50) - vendors);
        p99.add(percentile_ms(&times, 0.99) - vendors);
        stations.add(stations::medians(&shop.house, &orders).await?);
        shop.house.stop().await?;
    }
    Ok([vec![whole, told, p50, p99], stations.figures()].concat())
}

async fn door(stage: &Stage) -> Result<Vec<Figure>> {
    let mut rate = Figure::new("answers", "/s", Aim::AtLeast(2_500.0));
    let mut lost = Figure::new("acknowledged and not in the table", "events", Aim::AtMost(0.0));
    let mut delivered = Figure::new("orders delivered meanwhile", "orders", Aim::Told);
    for run in 0..stage.runs {
        let shop = Shop::open(stage, &format!("bench-door-{run}")).await?;
        shop.deliver(WARM_UP).await?;
        let orders = shop.unpaid(BURST).await?;
        shop.webhooks(true).await?;
        shop.pay(&orders).await?;
        shop.webhooks(false).await?;
        let (measured, _) = told(&shop.house, "evt_busy", PUSHED).await?;
        rate.add(measured.rate());
        // Every request was answered with 200, or the run had failed.
        lost.add(as_f64(measured.times.len()) - as_f64(shop.count_told().await?));
        delivered.add(as_f64(shop.count_delivered().await?) - as_f64(WARM_UP));
        shop.delivered(WARM_UP + BURST).await?;
        shop.house.stop().await?;
    }
    Ok(vec![rate, lost, delivered])
}

/// A house with room for every order, and one account that buys.
struct Shop {
    house: House,
    account: Uuid,
}

impl Shop {
    async fn open(stage: &Stage, name: &str) -> Result<Self> {
        let policy = PolicySecs {
            payment_window: 3_600,
            checkout_poll: 600,
            step_patience: 900,
            subscription_poll: 86_400,
            ..PolicySecs::default()
        };
        let options = HouseOptions {
            policy,
            time_scale: TIME_SCALE,
            change_catalogue: Catalogue::widen,
            ..HouseOptions::named(name)
        };
        let house = House::start(&stage.engine, options.with("RUST_LOG", "warn")).await?;
        let account = sqlx::query_scalar("select account_id from users where email = $1")
            .bind(house.staff_email())
            .fetch_one(house.db())
            .await?;
        Ok(Self { house, account })
    }

    /// Starts so many orders as the checkout form does, and waits until each has its payment page.
    async fn unpaid(&self, many: usize) -> Result<Vec<Uuid>> {
        let client = self.house.temporal().await?;
        let orders: Vec<Uuid> = (0..many).map(|_| Uuid::new_v4()).collect();
        let starts = stream::iter(orders.clone().into_iter().enumerate()).map(|(number, order)| {
            let (client, input) = (client.clone(), self.input(order, number));
            let workflow = Named { kind: "order", id: order.to_string(), account: self.account, stage: "reserve" };
            async move { workflow.start(&self.house, &client, input).await }
        });
        starts.buffer_unordered(AT_ONCE).collect::<Vec<Result<()>>>().await.into_iter().collect::<Result<()>>()?;
        PATIENCE.until(many, "orders have a payment page", || self.count_payable(&orders)).await?;
        Ok(orders)
    }

    fn input(&self, order: Uuid, number: usize) -> Value {
        json!({
            "order": order, "account": self.account, "service": Uuid::new_v4(), "plan": "small", "term": "monthly",
            "currency": "eur", "hostname": format!("bench-{number}"), "image": "debian-13", "sealed_ssh_key": null,
            "policy": {
                "order": {"payment_window_secs": 3600, "checkout_poll_secs": 600, "step_patience_secs": 900},
                "subscription": {
                    "reminders_secs": [86_400], "suspend_after_secs": 172_800, "grace_secs": 604_800,
                    "retention_secs": 604_800, "retention_warning_secs": 86_400, "expiry_warning_secs": 86_400,
                    "poll_secs": 86_400, "step_patience_secs": 900
                }
            }
        })
    }

    /// Pays at Stripe's stand-in.
    async fn pay(&self, orders: &[Uuid]) -> Result<()> {
        let sessions: Vec<String> = sqlx::query_scalar("select stripe_session_id from orders where id = any($1)")
            .bind(orders)
            .fetch_all(self.house.db())
            .await?;
        ensure!(sessions.len() == orders.len(), "an order has no payment page");
        let paid = stream::iter(sessions).map(|session| async move {
            self.house.stripe().post(&format!("/_control/sessions/{session}/pay"), json!({})).await.map(drop)
        });
        paid.buffer_unordered(AT_ONCE).collect::<Vec<Result<()>>>().await.into_iter().collect()
    }

    async fn webhooks(&self, paused: bool) -> Result<()> {
        self.house.stripe().post("/_control/webhooks", json!({"paused": paused})).await.map(drop)
    }

    /// Sells and delivers so many, unmeasured.
    async fn deliver(&self, many: usize) -> Result<()> {
        let orders = self.unpaid(many).await?;
        self.pay(&orders).await?;
        self.delivered(many).await
    }

    /// How many of these have a payment page.
    async fn count_payable(&self, orders: &[Uuid]) -> Result<usize> {
        let question = "select count(*) from orders where id = any($1) and checkout_url is not null";
        let payable: i64 = sqlx::query_scalar(question).bind(orders).fetch_one(self.house.db()).await?;
        Ok(usize::try_from(payable)?)
    }

    async fn count_delivered(&self) -> Result<usize> {
        let delivered: i64 = sqlx::query_scalar("select count(*) from orders where status = 'delivered'")
            .fetch_one(self.house.db())
            .await?;
        Ok(usize::try_from(delivered)?)
    }

    /// How many of the events that were pushed at the door are in the table.
    async fn count_told(&self) -> Result<usize> {
        let told: i64 = sqlx::query_scalar("select count(*) from payment_events where starts_with(id, 'evt_busy')")
            .fetch_one(self.house.db())
            .await?;
        Ok(usize::try_from(told)?)
    }

    async fn delivered(&self, wanted: usize) -> Result<()> {
        PATIENCE.until(wanted, "orders are delivered", || self.count_delivered()).await
    }

    /// How long each order took from the webhook of its payment to its delivery.
    async fn times(&self, orders: &[Uuid]) -> Result<Vec<Duration>> {
        let millis: Vec<f64> = sqlx::query_scalar(
            "select (extract(epoch from o.delivered_at - min(e.received_at)) * 1000)::float8
             from orders o join payment_events e
                on e.object_id = o.stripe_session_id and e.type = 'checkout.session.completed'
             where o.id = any($1) group by o.id, o.delivered_at",
        )
        .bind(orders)
        .fetch_all(self.house.db())
        .await?;
        ensure!(millis.len() == orders.len(), "an order has no webhook");
        Ok(millis.into_iter().map(|time| Duration::from_secs_f64(time.max(0.0) / 1e3)).collect())
    }
}
