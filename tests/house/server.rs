//! A server that may be away for a while: it is started again as it was, on the same ports and data.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::Mutex;

use crate::process::{Launch, Running};

const GONE_LIMIT: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How a server is started, and its process while it runs.
#[derive(Debug)]
pub(crate) struct Server {
    launch: Launch,
    logs: PathBuf,
    limit: Duration,
    running: Mutex<Option<Running>>,
}

impl Server {
    /// Remembers how to start it; nothing runs yet. `limit` is how long it may take to be ready.
    pub(crate) fn new(launch: Launch, logs: PathBuf, limit: Duration) -> Self {
        Self { launch, logs, limit, running: Mutex::default() }
    }

    /// Starts it and waits until `ready` says yes.
    ///
    /// *Errors*: it runs already, or was not ready in time.
    pub(crate) async fn start<F, Fut>(&self, ready: F) -> Result<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = bool>,
    {
        let mut running = self.running.lock().await;
        if running.is_some() {
            bail!("{} is running already", self.launch.name());
        }
        let mut started = self.launch.clone().start(&self.logs)?;
        started.wait_until(self.limit, ready).await?;
        *running = Some(started);
        Ok(())
    }

    /// Kills it and every process it started, whatever group they made for themselves, all in the same instant.
    pub(crate) async fn kill(&self) -> Result<()> {
        let Some(running) = self.running.lock().await.take() else { return Ok(()) };
        // Held still, it starts no further process while they are counted.
        let _ = kill(Pid::from_raw(running.pid()), Signal::SIGSTOP);
        let children = children(running.pid());
        running.signal(Signal::SIGKILL);
        for child in &children {
            let _ = kill(Pid::from_raw(*child), Signal::SIGKILL);
        }
        running.kill().await?;
        let until = std::time::Instant::now() + GONE_LIMIT;
        while children.iter().any(|child| lives(*child)) {
            if std::time::Instant::now() >= until {
                bail!("a process of {} outlived its kill", self.launch.name());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Asks it to end with `signal` and waits.
    pub(crate) async fn stop(self, signal: Signal) -> Result<()> {
        match self.running.into_inner() {
            Some(running) => running.stop(signal).await,
            None => Ok(()),
        }
    }
}

/// The processes that `parent` started itself.
fn children(parent: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter(|pid| stat(*pid).is_some_and(|(_, its_parent)| its_parent == parent)).collect()
}

/// Whether a process is there and not merely waited for.
fn lives(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// State and parent of a process. The name before them is in brackets and may hold anything.
fn stat(pid: i32) -> Option<(char, i32)> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
