//! What the measurements were made on, and what a process takes of it.
use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};
use house::House;

use crate::figures::as_f64;

/// The machine in one line: cores, processor, memory, system.
pub(crate) fn described() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    format!(
        "{cores} cores ({}), memory {}, Linux {}",
        value(&read("/proc/cpuinfo"), "model name"),
        value(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// How long `ez serve` and `ez work` of a house have used a processor so far, in seconds.
pub(crate) async fn house_cpu_secs(house: &House) -> Result<(f64, f64)> {
    let (web, worker) = pids(house).await?;
    Ok((cpu_secs(web)?, cpu_secs(worker)?))
}

/// The memory of `ez serve` and `ez work` of a house together, in MiB (PSS).
pub(crate) async fn house_memory_mib(house: &House) -> Result<f64> {
    let (web, worker) = pids(house).await?;
    Ok(memory_mib(web)? + memory_mib(worker)?)
}

async fn pids(house: &House) -> Result<(i32, i32)> {
    let web = house.web_pid().await.context("the web is not running")?;
    Ok((web, *house.worker_pids().await.first().context("no worker is running")?))
}

/// The memory of a process in MiB, what it shares with others counted in part (PSS).
pub(crate) fn memory_mib(pid: i32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("reading a process's memory")?;
    let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss in smaps_rollup")?;
    let kib: u32 = line.split_whitespace().nth(1).context("no figure behind Pss")?.parse()?;
    Ok(f64::from(kib) / 1024.0)
}

/// How long a process has used a processor so far, in seconds.
pub(crate) fn cpu_secs(pid: i32) -> Result<f64> {
    Ok(as_f64(Process::read(pid)?.own_ticks) / TICKS_PER_SEC)
}

/// One figure for each part of what this process has started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parts {
    /// Every `ez serve` and `ez work`.
    pub(crate) ez: f64,
    /// Temporal.
    pub(crate) temporal: f64,
    /// PostgreSQL with all its processes; zero when it is not ours.
    pub(crate) postgres: f64,
    /// The stand-ins, PowerDNS and this process.
    pub(crate) rest: f64,
}

impl Parts {
    /// How long each part has used a processor so far, in seconds. What ended meanwhile still counts, but for whole programs.
    pub(crate) fn cpu_secs() -> Result<Self> {
        Self::summed(|process, is_own| {
            let ticks = if is_own { process.own_ticks } else { process.own_ticks + process.ended_ticks };
            as_f64(ticks) / TICKS_PER_SEC
        })
    }

    /// The memory of each part, in MiB (PSS).
    pub(crate) fn memory_mib() -> Result<Self> {
        // Whatever ended this instant holds nothing.
        Self::summed(|process, _| memory_mib(process.pid).unwrap_or(0.0))
    }

    /// What was added to each part since `before`, divided by `by`.
    pub(crate) fn since(self, before: Self, by: f64) -> Self {
        Self {
            ez: (self.ez - before.ez) / by,
            temporal: (self.temporal - before.temporal) / by,
            postgres: (self.postgres - before.postgres) / by,
            rest: (self.rest - before.rest) / by,
        }
    }

    fn summed(value: impl Fn(&Process, bool) -> f64) -> Result<Self> {
        let own = i32::try_from(std::process::id())?;
        let entries = fs::read_dir("/proc").context("listing the processes")?.flatten();
        let processes: HashMap<i32, Process> = entries
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter_map(|pid| Some((pid, Process::read(pid).ok()?)))
            .collect();
        let mut parts = Self::default();
        for process in processes.values() {
            let value = |is_own| value(process, is_own);
            match started_as(&processes, process, own) {
                Some("ez") => parts.ez += value(false),
                Some("temporal" | "temporal-server") => parts.temporal += value(false),
                Some("postgres") => parts.postgres += value(false),
                Some(_) => parts.rest += value(process.pid == own),
                None => {}
            }
        }
        Ok(parts)
    }
}

/// The name of the program that this process started and `process` belongs to: itself, or the one it descends from. Nothing for
/// what is not ours.
fn started_as<'a>(processes: &'a HashMap<i32, Process>, process: &'a Process, own: i32) -> Option<&'a str> {
    let mut process = process;
    loop {
        if process.pid == own || process.parent == own {
            return Some(&process.name);
        }
        process = processes.get(&process.parent)?;
    }
}

/// A process as `/proc` tells of it.
#[derive(Debug)]
struct Process {
    pid: i32,
    parent: i32,
    name: String,
    own_ticks: usize,
    /// Of its children that have ended and were waited for.
    ended_ticks: usize,
}

impl Process {
    fn read(pid: i32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("reading a process's times")?;
        // The name in parentheses may hold anything; what follows it is numbered from 3.
        let (before, after) = text.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied().context("too few fields in stat");
        let ticks = |number: usize| -> Result<usize> { Ok(field(number)?.parse()?) };
        Ok(Self {
            pid,
            parent: field(4)?.parse()?,
            name: before.split_once('(').map_or("", |(_, name)| name).to_owned(),
            own_ticks: ticks(14)? + ticks(15)?,
            ended_ticks: ticks(16)? + ticks(17)?,
        })
    }
}

/// How much memory the machine could still give away, in MiB.
pub(crate) fn available_mib() -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading the machine's memory")?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:")).context("no MemAvailable in meminfo")?;
    let kib: u32 = line.split_whitespace().nth(1).context("no figure behind MemAvailable")?.parse()?;
    Ok(f64::from(kib) / 1024.0)
}

/// How long all processors of the machine have been busy so far, in seconds.
pub(crate) fn machine_cpu_secs() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("reading the machine's times")?;
    let ticks: Vec<usize> = text
        .lines()
        .next()
        .context("no line in stat")?
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    // In order: user, nice, system, idle, waiting for the disk, interrupts, their later part; what the host took follows.
    let idle: usize = ticks.iter().skip(3).take(2).sum();
    Ok(as_f64(ticks.iter().take(7).sum::<usize>() - idle) / TICKS_PER_SEC)
}

/// Linux counts times in hundredths of a second everywhere it matters (`getconf CLK_TCK`).
const TICKS_PER_SEC: f64 = 100.0;
