//! `house demo [--once]` sells one server and lets its life pass; `house dev` keeps a portal up while its sources change.

mod announce;
mod demo;
mod dev;
mod life;
mod steps;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "house demo [--once]: sell one server and let its life pass; stay up until Ctrl-C unless --once\n\
                     house dev: keep a portal up, rebuilt whenever its sources change";

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = match words.as_slice() {
        ["demo"] => Box::pin(demo::run(false)).await,
        ["demo", "--once"] => Box::pin(demo::run(true)).await,
        ["dev"] => Box::pin(dev::run()).await,
        _ => {
            let _ = writeln!(io::stderr(), "{USAGE}");
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
            let _ = writeln!(io::stderr(), "\n{}", causes.join("\n  because "));
            ExitCode::FAILURE
        }
    }
}

/// Returns when somebody asks us to end: Ctrl-C, a closed terminal, or `kill`.
async fn asked_to_end() -> Result<()> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = hang_up.recv() => (),
        _ = terminate.recv() => (),
    }
    Ok(())
}
