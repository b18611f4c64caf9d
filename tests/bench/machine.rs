//! What the measurements were made on, and what a process takes of it.
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
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("reading a process's times")?;
    // The name in parentheses may hold anything; what follows it is numbered from 3.
    let fields: Vec<&str> = text.rsplit_once(')').context("no name in stat")?.1.split_whitespace().collect();
    let ticks =
        |field: usize| -> Result<usize> { Ok(fields.get(field - 3).context("too few fields in stat")?.parse()?) };
    Ok(as_f64(ticks(14)? + ticks(15)?) / TICKS_PER_SEC)
}

/// Linux counts times in hundredths of a second everywhere it matters (`getconf CLK_TCK`).
const TICKS_PER_SEC: f64 = 100.0;
