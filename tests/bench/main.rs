//! `bench [--runs N] [name…]`: how fast the house is, measured through the wire on this machine; `make bench` builds and
//! runs it. Each benchmark starts a house of its own with the binaries that stand beside this one, checks every answer,
//! and prints medians over several runs. The figures prove nothing by themselves: they are not tests, and nothing fails
//! when one is slow. `--production` runs Temporal's server over PostgreSQL (`tests/house/install-tools long` builds it)
//! instead of the development server.
//!
//! | file | measures |
//! |---|---|
//! | `web` | the pricing page, the dashboard, the webhook door, memory |
//! | `flood` | the dashboard, and a log-in of a known browser, while strangers try to log in by the hundred |
//! | `checks` | what session and permission add to a page of somebody who is logged in |
//! | `orders` | orders from the webhook to the delivered machine, in a burst and paced; the door meanwhile |
//! | `stations` | where the time of a paced order goes |
//! | `renewals` | every live subscription renews at once, on Temporal over PostgreSQL; only when it is asked for |
//! | `idle` | what everything takes while as many as a hundred thousand subscriptions sleep; only when it is asked for |
//! | `lives` | begins them for both |
//! | `bare` | what the engine gives beside it |

mod bare;
mod checks;
mod figures;
mod flood;
mod idle;
mod lives;
mod load;
mod machine;
mod named;
mod orders;
mod patience;
mod renewals;
mod stations;
mod web;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use futures::future::BoxFuture;
use house::Engine;

use figures::Figure;

const USAGE: &str = "bench [--runs N] [--volatile | --production] [name…]";
const RUNS: usize = 5;

/// What every benchmark is given.
pub(crate) struct Stage {
    /// The servers all houses share.
    pub(crate) engine: Engine,
    /// How often a measurement is made; the figures are medians of these.
    pub(crate) runs: usize,
}

/// One benchmark.
#[derive(Clone, Copy)]
pub(crate) struct Benchmark {
    /// What it is called by on the command line; every name that begins with a given word is run.
    pub(crate) name: &'static str,
    /// What it does, in one line.
    pub(crate) about: &'static str,
    /// Measures. *Errors*: something did not start, or an answer was not what it should be.
    pub(crate) run: for<'a> fn(&'a Stage) -> BoxFuture<'a, Result<Vec<Figure>>>,
}

/// What the command line asks for.
struct Asked {
    runs: usize,
    volatile: bool,
    production: bool,
    names: Vec<String>,
}

fn every() -> Vec<Benchmark> {
    [web::BENCHMARKS, flood::BENCHMARKS, checks::BENCHMARKS, orders::BENCHMARKS, renewals::BENCHMARKS, idle::BENCHMARKS]
        .concat()
}

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(run()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            let _ = writeln!(io::stderr(), "{fault:?}");
            ExitCode::FAILURE
        }
    }
}

fn asked() -> Result<Asked> {
    let mut asked = Asked { runs: RUNS, volatile: false, production: false, names: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--runs" => asked.runs = words.next().context(USAGE)?.parse().context(USAGE)?,
            "--volatile" => asked.volatile = true,
            "--production" => asked.production = true,
            flag if flag.starts_with('-') => bail!(USAGE),
            _ => asked.names.push(word),
        }
    }
    if asked.runs == 0 || (asked.volatile && asked.production) {
        bail!(USAGE);
    }
    Ok(asked)
}

async fn run() -> Result<()> {
    let asked = asked()?;
    let wanted = |name: &str| {
        (asked.names.is_empty() && ![renewals::NAME, idle::NAME].contains(&name))
            || asked.names.iter().any(|word| name.starts_with(word.as_str()))
    };
    let chosen: Vec<Benchmark> = every().into_iter().filter(|benchmark| wanted(benchmark.name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = every().iter().map(|benchmark| benchmark.name).collect();
        bail!("no benchmark is called that; there are: {}", names.join(", "));
    }
    let engine = match (asked.volatile, asked.production) {
        (true, _) => Engine::start(false).await?,
        (false, true) => Engine::start_production().await?,
        (false, false) => Engine::start_durable().await?,
    };
    let stage = Stage { engine, runs: asked.runs };
    let mut out = io::stdout();
    writeln!(out, "{}", machine::described())?;
    let disk = if asked.volatile { "does not wait for the disk" } else { "waits for the disk at every commit" };
    let temporal = if asked.production { "Temporal over PostgreSQL" } else { "Temporal's development server" };
    writeln!(out, "PostgreSQL {disk}; {temporal}; medians of {} runs, lowest and highest beside them\n", stage.runs)?;
    for benchmark in chosen {
        writeln!(out, "{}: {}", benchmark.name, benchmark.about)?;
        out.flush()?;
        let figures = (benchmark.run)(&stage).await.with_context(|| format!("the benchmark {}", benchmark.name))?;
        for figure in figures {
            writeln!(out, "  {figure}")?;
        }
        writeln!(out)?;
    }
    stage.engine.stop().await
}
