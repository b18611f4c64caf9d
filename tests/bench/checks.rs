//! What it costs that every request asks anew who somebody is and what they may: the same page without a session and with one, and
//! a page that the table of permissions keeps for whoever is logged in. None of them asks the database anything else.
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt as _;
use house::House;

use crate::figures::{Aim, Figure, as_f64, percentile_ms};
use crate::machine::cpu_secs;
use crate::web::{logged_in, web_alone};
use crate::{Benchmark, Stage};

/// How often each page is asked for in one run, and how often before without measuring.
const TURNS: usize = 2_000;
const WARM_UP: usize = 200;
/// What the checks may add to a page.
const AIM_MICROS: f64 = 200.0;

/// The benchmark of this file.
pub(crate) const BENCHMARKS: &[Benchmark] = &[Benchmark {
    name: "checks",
    about: "GET /about/ without a session and with one, and GET /accounts/password/ with one, in turns on one connection",
    run: |stage| checks(stage).boxed(),
}];

/// A page, and what it has to say.
struct Asked<'a> {
    path: &'a str,
    session: Option<&'a str>,
    words: &'a str,
}

async fn checks(stage: &Stage) -> Result<Vec<Figure>> {
    let house = web_alone(stage, "bench-checks").await?;
    let session = logged_in(&house).await?;
    let pages = [
        Asked { path: "/about/", session: None, words: "/accounts/login/" },
        Asked { path: "/about/", session: Some(&session), words: "/accounts/logout/" },
        Asked { path: "/accounts/password/", session: Some(&session), words: "name=\"csrf\"" },
    ];
    let web = house.web_pid().await.context("the web is not running")?;
    let mut without = Figure::new("a page without a session, p50", "µs", Aim::Told);
    let mut known = Figure::new("the session adds to the same page, p50", "µs", Aim::AtMost(AIM_MICROS));
    let mut allowed = Figure::new("session, permission, form: together, p50", "µs", Aim::AtMost(AIM_MICROS));
    let mut cpu = Figure::new("processor of `ez serve`, mean of all three", "µs", Aim::Told);
    turns(&house, &pages, WARM_UP).await?;
    for _ in 0..stage.runs {
        let before = cpu_secs(web)?;
        let times = turns(&house, &pages, TURNS).await?;
        let took = cpu_secs(web)? - before;
        let [plain, with_session, with_permission] = times.map(|times| percentile_ms(&times, 0.5) * 1e3);
        without.add(plain);
        known.add(with_session - plain);
        allowed.add(with_permission - plain);
        cpu.add(took * 1e6 / as_f64(TURNS * pages.len()));
    }
    house.stop().await?;
    Ok(vec![without, known, allowed, cpu])
}

/// Asks for the pages in turns, so that whatever else the machine does meets all of them alike, and gives how long each answer took.
async fn turns(house: &House, pages: &[Asked<'_>; 3], number: usize) -> Result<[Vec<Duration>; 3]> {
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(1)
        .timeout(Duration::from_mins(1))
        .build()?;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for turn in 0..number {
        for (page, times) in pages.iter().zip(&mut times) {
            let mut request = http.get(house.url().join(page.path)?);
            if let Some(session) = page.session {
                request = request.header("cookie", session);
            }
            let began = Instant::now();
            let answer = request.send().await?;
            let status = answer.status();
            let body = answer.text().await?;
            times.push(began.elapsed());
            ensure!(status == 200, "{} gave {status}", page.path);
            ensure!(turn > 0 || body.contains(page.words), "{} does not say {}: {body}", page.path, page.words);
        }
    }
    Ok(times)
}
