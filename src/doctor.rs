//! `ez doctor`: every setting and every connection, one line each.
use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use temporalio_client::WorkflowCountOptions;

use crate::{config::Config, wiring};

/// No check may take longer.
const CHECK_LIMIT: Duration = Duration::from_secs(20);

/// Checks everything and says so on standard output. The exit code is 1 on any fault.
pub(crate) async fn run(config: &Config) -> ExitCode {
    let mut report = Report { sound: true };
    report.line("settings", Ok::<_, String>("complete"));
    report.line("database", limited(database(config)).await);
    report.line("temporal", limited(temporal(config)).await);
    report.line("stripe", limited(stripe(config)).await);
    match limited(proxmox(config)).await {
        Ok(found) => found.into_iter().for_each(|line| report.line("proxmox", Ok::<_, String>(line))),
        Err(fault) => report.line("proxmox", Err::<String, _>(fault)),
    }
    report.line("dns", limited(dns(config)).await);
    report.line("mail", limited(mail(config)).await);
    if report.sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Report {
    sound: bool,
}

impl Report {
    fn line(&mut self, topic: &str, result: Result<impl Display, impl Display>) {
        let (mark, words) = match result {
            Ok(words) => ("ok   ", words.to_string()),
            Err(words) => {
                self.sound = false;
                ("FAULT", words.to_string())
            }
        };
        let _ = writeln!(io::stdout(), "{mark} {topic:<9} {words}");
    }
}

async fn limited<T>(check: impl Future<Output = anyhow::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(CHECK_LIMIT, check).await {
        Ok(result) => result.map_err(|fault| format!("{fault:#}")),
        Err(_) => Err(format!("no answer in {} s; is it running and reachable from here?", CHECK_LIMIT.as_secs())),
    }
}

async fn database(config: &Config) -> anyhow::Result<String> {
    let store = wiring::store(config)?;
    store.ping().await?;
    let plans = store.plans().await?;
    Ok(format!("answers; {} plan(s) on sale", plans.len()))
}

async fn temporal(config: &Config) -> anyhow::Result<String> {
    let client = wiring::temporal(&config.temporal).await?;
    let open = client.count_workflows("ExecutionStatus = 'Running'", WorkflowCountOptions::default()).await?;
    Ok(format!("answers; {} workflow(s) running in namespace {}", open.count(), config.temporal.namespace))
}

async fn stripe(config: &Config) -> anyhow::Result<String> {
    wiring::stripe(config)?.check().await.map_err(|fault| anyhow::anyhow!(fault.words()))
}

async fn proxmox(config: &Config) -> anyhow::Result<Vec<String>> {
    let templates = wiring::store(config)?.templates().await?;
    Ok(wiring::proxmox(config)?.check(&templates).await?)
}

async fn dns(config: &Config) -> anyhow::Result<String> {
    Ok(wiring::powerdns(config)?.check().await?)
}

async fn mail(config: &Config) -> anyhow::Result<String> {
    Ok(wiring::smtp(config)?.check().await?)
}
