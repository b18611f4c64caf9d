//! The web front: what one `ez serve` answers in a second to 32 browsers, and what it costs.
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use futures::FutureExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use house::{House, HouseOptions, Page, Past};
use serde_json::json;
use sha2::Sha256;

use crate::figures::{Aim, Figure, as_f64};
use crate::load::{CONNECTIONS, Load, Measured, Request, look};
use crate::machine::{cpu_secs, memory_mib};
use crate::{Benchmark, Stage};

/// How long one measurement takes, and how long the same is done before without measuring.
const LASTING: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_secs(1);
/// More webhooks than can be taken in one measurement.
const EVENTS_EACH_RUN: usize = 60_000;

/// The benchmarks of this file.
pub(crate) const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "pricing",
        about: "GET /pricing/ without a session, 32 connections",
        run: |stage| pricing(stage).boxed(),
    },
    Benchmark {
        name: "dashboard",
        about: "GET /dashboard/ of 32 people with 3 servers and 2 open orders each, 32 connections",
        run: |stage| dashboard(stage).boxed(),
    },
    Benchmark {
        name: "webhook",
        about: "POST /webhooks/stripe/, each event another one, 32 connections",
        run: |stage| webhook(stage).boxed(),
    },
    Benchmark {
        name: "memory",
        about: "PSS of `ez serve` after some work, and of `ez work` after its start",
        run: |stage| memory(stage).boxed(),
    },
];

/// The figures of a page or door, one value added for each run.
struct Door {
    rate: Figure,
    p50: Figure,
    p99: Figure,
    cpu: Figure,
}

impl Door {
    fn new(rate_aim: Aim, p99_aim: Aim) -> Self {
        Self {
            rate: Figure::new("answers", "/s", rate_aim),
            p50: Figure::new("time of an answer, p50", "ms", Aim::Told),
            p99: Figure::new("time of an answer, p99", "ms", p99_aim),
            cpu: Figure::new("processor of `ez serve` for one answer", "µs", Aim::Told),
        }
    }

    fn add(&mut self, measured: &Measured, cpu_secs: f64) {
        self.rate.add(measured.rate());
        self.p50.add(measured.percentile_ms(0.50));
        self.p99.add(measured.percentile_ms(0.99));
        self.cpu.add(cpu_secs * 1e6 / as_f64(measured.times.len()));
    }

    fn figures(self) -> Vec<Figure> {
        vec![self.rate, self.p50, self.p99, self.cpu]
    }
}

async fn pricing(stage: &Stage) -> Result<Vec<Figure>> {
    let house = web_alone(stage, "bench-pricing").await?;
    let request = get(&house, "/pricing/", "");
    let door =
        page_load(stage, &house, vec![request], "plan-price", Door::new(Aim::AtLeast(15_000.0), Aim::Told)).await?;
    house.stop().await?;
    Ok(door.figures())
}

async fn dashboard(stage: &Stage) -> Result<Vec<Figure>> {
    let house = web_alone(stage, "bench-dashboard").await?;
    let mut requests = Vec::new();
    for session in crowd_logged_in(&house).await? {
        requests.push(get(&house, "/dashboard/", &session));
    }
    let door = Door::new(Aim::AtLeast(5_000.0), Aim::AtMost(40.0));
    let door = page_load(stage, &house, requests, "server-grid", door).await?;
    house.stop().await?;
    Ok(door.figures())
}

async fn webhook(stage: &Stage) -> Result<Vec<Figure>> {
    let house = web_alone(stage, "bench-webhook").await?;
    let mut door = Door::new(Aim::AtLeast(6_000.0), Aim::AtMost(20.0));
    let mut lost = Figure::new("acknowledged and not in the table", "events", Aim::AtMost(0.0));
    for run in 0..=stage.runs {
        let before = events_stored(&house).await?;
        let (measured, cpu) = told(&house, &format!("evt_bench_{run}"), LASTING).await?;
        // Every request of a run was answered with 200, or the run had failed.
        lost.add(as_f64(measured.times.len()) - (as_f64(events_stored(&house).await?) - as_f64(before)));
        if run > 0 {
            door.add(&measured, cpu);
        }
    }
    house.stop().await?;
    let mut figures = door.figures();
    figures.push(lost);
    Ok(figures)
}

/// Tells the house events of an unknown type for so long, each under another id beginning with `name`, as Stripe would.
/// Gives what was measured, every answer being 200, and how long `ez serve` used a processor.
pub(crate) async fn told(house: &House, name: &str, lasting: Duration) -> Result<(Measured, f64)> {
    let one = |number| Request { bytes: event(house, &format!("{name}_{number}")), body_length: "ok\n".len() };
    let requests = Arc::new((0..EVENTS_EACH_RUN).map(one).collect());
    let load = Load { address: address(house)?, requests, again: false };
    let web = house.web_pid().await.context("the web is not running")?;
    let before = cpu_secs(web)?;
    let measured = load.run(lasting).await?;
    ensure!(measured.times.len() + CONNECTIONS < EVENTS_EACH_RUN, "there were too few events to tell");
    Ok((measured, cpu_secs(web)? - before))
}

async fn events_stored(house: &House) -> Result<usize> {
    let stored: i64 = sqlx::query_scalar("select count(*) from payment_events").fetch_one(house.db()).await?;
    Ok(usize::try_from(stored)?)
}

async fn memory(stage: &Stage) -> Result<Vec<Figure>> {
    let mut serve = Figure::new("`ez serve`", "MiB", Aim::Told);
    let mut work = Figure::new("`ez work`", "MiB", Aim::Told);
    let mut both = Figure::new("both", "MiB", Aim::AtMost(80.0));
    for run in 0..stage.runs {
        let options = HouseOptions::named(&format!("bench-memory-{run}")).with("RUST_LOG", "info");
        let house = House::start(&stage.engine, options).await?;
        load_of(&house, vec![get(&house, "/pricing/", "")], "plan-price").await?.run(LASTING).await?;
        told(&house, "evt_memory", WARM_UP).await?;
        let web = memory_mib(house.web_pid().await.context("the web is not running")?)?;
        let worker = memory_mib(*house.worker_pids().await.first().context("no worker is running")?)?;
        serve.add(web);
        work.add(worker);
        both.add(web + worker);
        house.stop().await?;
    }
    Ok(vec![serve, work, both])
}

/// A house in which only the web runs.
pub(crate) async fn web_alone(stage: &Stage, name: &str) -> Result<House> {
    let options = HouseOptions { with_portal: false, ..HouseOptions::named(name) };
    let house = House::start(&stage.engine, options).await?;
    house.start_web().await?;
    Ok(house)
}

/// These pages in turns, after a look at each.
async fn load_of(house: &House, pages: Vec<Vec<u8>>, words: &str) -> Result<Load> {
    let (address, mut requests) = (address(house)?, Vec::new());
    for bytes in pages {
        let body_length = look(address, &bytes, words).await?.len();
        requests.push(Request { bytes, body_length });
    }
    Ok(Load { address, requests: Arc::new(requests), again: true })
}

async fn page_load(stage: &Stage, house: &House, pages: Vec<Vec<u8>>, words: &str, mut door: Door) -> Result<Door> {
    let load = load_of(house, pages, words).await?;
    let web = house.web_pid().await.context("the web is not running")?;
    load.run(WARM_UP).await?;
    for _ in 0..stage.runs {
        let before = cpu_secs(web)?;
        let measured = load.run(LASTING).await?;
        door.add(&measured, cpu_secs(web)? - before);
    }
    Ok(door)
}

fn address(house: &House) -> Result<SocketAddr> {
    let url = house.url();
    format!("{}:{}", url.host_str().context("no host")?, url.port().context("no port")?).parse().context("an address")
}

fn get(house: &House, path: &str, cookie: &str) -> Vec<u8> {
    let host = house.url().authority();
    let cookie = if cookie.is_empty() { String::new() } else { format!("cookie: {cookie}\r\n") };
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/html\r\n{cookie}\r\n").into_bytes()
}

/// As many people as there are connections, each with an account of their own, 3 servers and 2 open orders: their cookies.
async fn crowd_logged_in(house: &House) -> Result<Vec<String>> {
    house.crowd(i32::try_from(CONNECTIONS)?, Past { running: 3, open: 2, ..Past::default() }).await?;
    let whose = "update users set password_hash = staff.password_hash from users staff
        where staff.email = $1 and users.email like '%@crowd.test' returning users.email";
    let emails: Vec<String> = sqlx::query_scalar(whose).bind(house.staff_email()).fetch_all(house.db()).await?;
    let mut cookies = Vec::new();
    for email in emails {
        cookies.push(logged_in_as(house, &email).await?);
    }
    Ok(cookies)
}

/// Logs the first staff user in as a browser would, and gives the cookie.
pub(crate) async fn logged_in(house: &House) -> Result<String> {
    logged_in_as(house, house.staff_email()).await
}

/// Logs somebody in who has the first staff user's password, and gives the cookie.
async fn logged_in_as(house: &House, email: &str) -> Result<String> {
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let url = house.url().join("/accounts/login/")?;
    let answer = browser.get(url.clone()).send().await?;
    let (anonymous, status) = (cookie(&answer)?, answer.status().as_u16());
    let page = Page { url: url.clone(), status, html: answer.text().await? };
    let token = page.attributes("input[name=csrf]", "value").into_iter().next().context("a form without a token")?;
    let form = [("csrf", token.as_str()), ("email", email), ("password", house.staff_password())];
    let answer = browser.post(url).header("cookie", anonymous).form(&form).send().await?;
    ensure!(answer.status() == 303, "logging in gave {}", answer.status());
    cookie(&answer)
}

pub(crate) fn cookie(answer: &reqwest::Response) -> Result<String> {
    let mut set = answer.headers().get_all("set-cookie").iter().filter_map(|line| line.to_str().ok());
    let whole = set.find(|line| line.starts_with("ez=")).context("no cookie was set")?;
    Ok(whole.split(';').next().unwrap_or(whole).to_owned())
}

/// One signed event of a type nothing is done about.
fn event(house: &House, id: &str) -> Vec<u8> {
    let body = json!({
        "id": id, "object": "event", "api_version": "2025-03-31.basil", "type": "bench.event", "created": now_secs(),
        "livemode": false, "pending_webhooks": 1, "request": {"id": null, "idempotency_key": null},
        "data": {"object": {"id": format!("obj_{id}"), "object": "thing", "metadata": {}, "description": "x".repeat(1200)}}
    })
    .to_string();
    let at = now_secs();
    let signature = signed(house.stripe_webhook_secret(), &format!("{at}.{body}"));
    format!(
        "POST /webhooks/stripe/ HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nstripe-signature: \
         t={at},v1={signature}\r\ncontent-length: {}\r\n\r\n{body}",
        house.url().authority(),
        body.len()
    )
    .into_bytes()
}

fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}

fn signed(secret: &str, text: &str) -> String {
    // An HMAC takes keys of every length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}
