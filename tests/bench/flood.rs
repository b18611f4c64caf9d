//! A flood of log-ins: what it costs the pages of whoever is logged in, and the log-in of a browser that was here before.
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use argon2::Argon2;
use futures::FutureExt as _;
use house::{House, Page, Past};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::figures::{Aim, Figure, as_f64, percentile_ms};
use crate::web::{cookie, logged_in, web_alone};
use crate::{Benchmark, Stage};

/// How many log-ins come in a second.
const LOG_INS_EACH_SEC: u32 = 200;
/// How long they come.
const LASTING: Duration = Duration::from_secs(10);
/// How often somebody looks at the dashboard meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often somebody logs in with a browser that was here before.
const KNOWN_EVERY: Duration = Duration::from_millis(500);

/// How often a password is hashed, to know what that takes alone.
const HASHES: usize = 50;

/// The benchmark of this file.
pub(crate) const BENCHMARKS: &[Benchmark] = &[Benchmark {
    name: "flood",
    about: "GET /dashboard/ 50 times a second, while 200 log-ins with wrong passwords come in a second, each for another address",
    run: |stage| flood(stage).boxed(),
}];

async fn flood(stage: &Stage) -> Result<Vec<Figure>> {
    let house = web_alone(stage, "bench-flood").await?;
    let account = sqlx::query_scalar("select account_id from users where email = $1")
        .bind(house.staff_email())
        .fetch_one(house.db())
        .await?;
    house.furnish(account, Past { running: 3, open: 2, ..Past::default() }).await?;
    let session = logged_in(&house).await?;
    let mut hash = Figure::new("one Argon2id hash and nothing else, p50", "ms", Aim::Told);
    let mut log_in = Figure::new("log-in of a known browser, p50, without a flood", "ms", Aim::Told);
    let mut calm = Figure::new("dashboard p99, without a flood", "ms", Aim::Told);
    let mut p50 = Figure::new("dashboard p50, during the flood", "ms", Aim::Told);
    let mut p99 = Figure::new("dashboard p99, during the flood", "ms", Aim::AtMost(100.0));
    let mut known = Figure::new("log-in of a known browser, p99, during it", "ms", Aim::AtMost(1_000.0));
    let mut tried = Figure::new("log-ins of strangers that were tried", "/s", Aim::Told);
    let mut away = Figure::new("log-ins of strangers that were turned away", "/s", Aim::Told);
    let device = device(&house).await?;
    for _ in 0..stage.runs {
        hash.add(percentile_ms(&tokio::task::spawn_blocking(hashes).await??, 0.50));
        log_in.add(percentile_ms(&log_in_again(&house, &device).await?, 0.50));
        calm.add(percentile_ms(&look(&house, &session).await?, 0.99));
        let (looks, log_ins, flooded) =
            tokio::try_join!(look(&house, &session), log_in_again(&house, &device), strangers(&house))?;
        p50.add(percentile_ms(&looks, 0.50));
        p99.add(percentile_ms(&looks, 0.99));
        known.add(percentile_ms(&log_ins, 0.99));
        tried.add(as_f64(flooded.tried) / LASTING.as_secs_f64());
        away.add(as_f64(flooded.turned_away) / LASTING.as_secs_f64());
    }
    house.stop().await?;
    Ok(vec![hash, log_in, calm, p50, p99, known, tried, away])
}

/// How long hashes take. The library's own parameters are those of the portal: 19 MiB, 2 passes, 1 lane.
fn hashes() -> Result<Vec<Duration>> {
    let (hasher, mut hash) = (Argon2::default(), [0; 32]);
    let mut times = Vec::new();
    for _ in 0..HASHES {
        let began = Instant::now();
        hasher.hash_password_into(b"a guess that is wrong", b"salt of 16 bytes", &mut hash)?;
        times.push(began.elapsed());
    }
    Ok(times)
}

fn browser() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_mins(1))
        .build()?)
}

/// Looks at the dashboard again and again, and gives how long each look took.
async fn look(house: &House, session: &str) -> Result<Vec<Duration>> {
    let (http, url) = (browser()?, house.url().join("/dashboard/")?);
    let (mut times, mut turns, began) = (Vec::new(), interval(LOOK_EVERY), Instant::now());
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while began.elapsed() < LASTING {
        turns.tick().await;
        let asked = Instant::now();
        let answer = http.get(url.clone()).header("cookie", session).send().await?;
        let status = answer.status();
        answer.bytes().await?;
        times.push(asked.elapsed());
        ensure!(status == 200, "the dashboard gave {status}");
    }
    Ok(times)
}

/// A log-in form: the session it stands in, and its token.
struct Form {
    session: String,
    token: String,
}

impl Form {
    async fn open(http: &reqwest::Client, house: &House) -> Result<Self> {
        let url = house.url().join("/accounts/login/")?;
        let answer = http.get(url.clone()).send().await?;
        let (session, status) = (cookie(&answer)?, answer.status().as_u16());
        let page = Page { url, status, html: answer.text().await? };
        let token =
            page.attributes("input[name=csrf]", "value").into_iter().next().context("a form without a token")?;
        Ok(Self { session, token })
    }

    async fn send(
        &self,
        http: &reqwest::Client,
        house: &House,
        who: (&str, &str),
        more: &str,
    ) -> Result<reqwest::Response> {
        let fields = [("csrf", self.token.as_str()), ("email", who.0), ("password", who.1)];
        let cookies = format!("{}{more}", self.session);
        Ok(http.post(house.url().join("/accounts/login/")?).header("cookie", cookies).form(&fields).send().await?)
    }
}

/// Logs in once, and gives what the browser keeps to be known by, as it is sent with other cookies.
async fn device(house: &House) -> Result<String> {
    let http = browser()?;
    let form = Form::open(&http, house).await?;
    let answer = form.send(&http, house, (house.staff_email(), house.staff_password()), "").await?;
    let mut set = answer.headers().get_all("set-cookie").iter().filter_map(|line| line.to_str().ok());
    let line = set.find(|line| line.starts_with("ez-device=")).context("the browser is not remembered")?;
    Ok(format!("; {}", line.split(';').next().unwrap_or(line)))
}

/// Logs in again and again with that browser, and gives how long each log-in took.
async fn log_in_again(house: &House, device: &str) -> Result<Vec<Duration>> {
    let (http, mut times, mut turns, began) = (browser()?, Vec::new(), interval(KNOWN_EVERY), Instant::now());
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while began.elapsed() < LASTING {
        turns.tick().await;
        let form = Form::open(&http, house).await?;
        let asked = Instant::now();
        let answer = form.send(&http, house, (house.staff_email(), house.staff_password()), device).await?;
        times.push(asked.elapsed());
        ensure!(answer.status() == 303, "a known browser was answered {}", answer.status());
    }
    Ok(times)
}

/// What became of the flood.
#[derive(Default)]
struct Flooded {
    tried: usize,
    turned_away: usize,
}

/// Strangers who log in with wrong passwords, each for another address; nobody waits for anybody.
async fn strangers(house: &House) -> Result<Flooded> {
    let http = browser()?;
    let form = Arc::new(Form::open(&http, house).await?);
    let url = house.url().join("/accounts/login/")?;
    let mut turns = interval(Duration::from_secs(1) / LOG_INS_EACH_SEC);
    turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut all, began, mut number) = (JoinSet::new(), Instant::now(), 0_u32);
    while began.elapsed() < LASTING {
        turns.tick().await;
        number += 1;
        let (http, form, url) = (http.clone(), Arc::clone(&form), url.clone());
        all.spawn(async move {
            let email = format!("nobody-{number}-{:08x}@example.test", std::process::id());
            let fields = [("csrf", form.token.as_str()), ("email", &email), ("password", "a guess that is wrong")];
            let answer = http.post(url).header("cookie", &form.session).form(&fields).send().await?;
            anyhow::Ok(answer.status().as_u16())
        });
    }
    let mut flooded = Flooded::default();
    while let Some(status) = all.join_next().await {
        match status?? {
            422 => flooded.tried += 1,
            503 => flooded.turned_away += 1,
            other => anyhow::bail!("a stranger was answered {other}"),
        }
    }
    ensure!(flooded.tried > 0, "nobody's guess was tried");
    Ok(flooded)
}
