//! `ez` as one house runs it: its settings, its commands, its web and its workers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::signal::Signal;
use tokio::sync::Mutex;
use url::Url;

use crate::engine::{Engine, NAMESPACE, listens};
use crate::options::PolicySecs;
use crate::ports::free_port;
use crate::process::{Launch, Running};
use crate::stand_ins::StandIns;
use crate::tools::own_binary;

const COMMAND_LIMIT: Duration = Duration::from_mins(2);
const READY_LIMIT: Duration = Duration::from_mins(1);
/// What the door is told. A second web of a house has another port.
const DOOR: [(&str, &str); 8] = [
    ("EZ_WEB_HOSTS", "127.0.0.1,localhost"),
    ("EZ_WEB_PATIENCE_SECS", "60"),
    ("EZ_WEB_CONNECTIONS", "4096"),
    ("EZ_CSP_REPORT_ONLY", "false"),
    ("EZ_HSTS_SECS", "31536000"),
    ("EZ_HSTS_SUBDOMAINS", "true"),
    ("EZ_HSTS_PRELOAD", "false"),
    ("EZ_REFUSED_DOMAINS", "disposable"),
];
/// Whom letters for staff go to, and who is the first staff user.
pub(crate) const STAFF_EMAIL: &str = "staff@example.test";

/// What one house's `ez` is started with, and its processes.
#[derive(Debug)]
pub(crate) struct Portal {
    pub(crate) url: Url,
    pub(crate) settings: BTreeMap<String, String>,
    logs: PathBuf,
    web: Mutex<Option<Running>>,
    workers: Mutex<Vec<Running>>,
    /// Where the newest worker serves its metrics, and Temporal's SDK its own.
    pub(crate) metrics: std::sync::Mutex<Option<(u16, u16)>>,
}

impl Portal {
    pub(crate) fn new(url: Url, settings: BTreeMap<String, String>, logs: PathBuf) -> Self {
        Self {
            url,
            settings,
            logs,
            web: Mutex::default(),
            workers: Mutex::default(),
            metrics: std::sync::Mutex::default(),
        }
    }

    fn ez(&self, log: &str, words: &[&str]) -> Result<Launch> {
        self.binary("ez", log, words)
    }

    fn binary(&self, name: &str, log: &str, words: &[&str]) -> Result<Launch> {
        Ok(Launch::new(log, own_binary(name)?).args(words).envs(&self.settings))
    }

    pub(crate) async fn run(&self, words: &[&str], input: &str) -> Result<String> {
        let name = format!("ez-{}", words.first().copied().unwrap_or("help"));
        self.ez(&name, words)?.input(input).run(&self.logs, COMMAND_LIMIT).await
    }

    /// Runs a command with some settings replaced.
    pub(crate) async fn run_with(&self, replaced: &[(&str, &str)], words: &[&str]) -> Result<String> {
        let replaced: BTreeMap<String, String> =
            replaced.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let name = format!("ez-{}", words.first().copied().unwrap_or("help"));
        self.ez(&name, words)?.envs(&replaced).run(&self.logs, COMMAND_LIMIT).await
    }

    pub(crate) async fn start_web(&self) -> Result<()> {
        let mut web = self.web.lock().await;
        if web.is_some() {
            bail!("the web is running already");
        }
        let mut running = self.ez("ez-serve", &["serve"])?.start(&self.logs)?;
        let ready = self.url.join("/readyz")?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
        let answers = || {
            let question = http.get(ready.clone());
            async move { question.send().await.is_ok_and(|answer| answer.status().is_success()) }
        };
        running.wait_until(READY_LIMIT, answers).await?;
        *web = Some(running);
        Ok(())
    }

    /// Starts one more web beside the first, on a port of its own, and gives where it listens. It ends with the workers.
    pub(crate) async fn start_another_web(&self) -> Result<Url> {
        let port = free_port()?;
        let own = BTreeMap::from([
            ("EZ_WEB_LISTEN".to_owned(), format!("127.0.0.1:{port}")),
            ("EZ_METRICS_LISTEN".to_owned(), format!("127.0.0.1:{}", free_port()?)),
        ]);
        let mut workers = self.workers.lock().await;
        let mut running = self.ez("ez-serve-too", &["serve"])?.envs(&own).start(&self.logs)?;
        running.wait_until(READY_LIMIT, || listens(port)).await?;
        workers.push(running);
        Ok(format!("http://127.0.0.1:{port}").parse()?)
    }

    /// Starts `work` of the binary of this name.
    pub(crate) async fn start_worker(&self, binary: &str) -> Result<()> {
        let (port, temporal_port) = (free_port()?, free_port()?);
        let metrics = BTreeMap::from([
            ("EZ_METRICS_LISTEN".to_owned(), format!("127.0.0.1:{port}")),
            ("EZ_TEMPORAL_METRICS_LISTEN".to_owned(), format!("127.0.0.1:{temporal_port}")),
        ]);
        let mut workers = self.workers.lock().await;
        let mut running = self.binary(binary, "ez-work", &["work"])?.envs(&metrics).start(&self.logs)?;
        running.wait_until(READY_LIMIT, || listens(port)).await?;
        workers.push(running);
        if let Ok(mut known) = self.metrics.lock() {
            *known = Some((port, temporal_port));
        }
        Ok(())
    }

    /// The process of the web, while it runs.
    pub(crate) async fn web_pid(&self) -> Option<i32> {
        self.web.lock().await.as_ref().map(Running::pid)
    }

    /// The processes of the workers that run.
    pub(crate) async fn worker_pids(&self) -> Vec<i32> {
        self.workers.lock().await.iter().map(Running::pid).collect()
    }

    /// Ends the web: gracefully, or as a power cut would.
    pub(crate) async fn end_web(&self, gracefully: bool) -> Result<()> {
        match self.web.lock().await.take() {
            Some(web) => end(web, gracefully).await,
            None => Ok(()),
        }
    }

    /// Ends the worker that runs longest, gracefully.
    pub(crate) async fn end_oldest_worker(&self) -> Result<()> {
        let mut workers = self.workers.lock().await;
        if workers.is_empty() {
            bail!("no worker is running");
        }
        end(workers.remove(0), true).await
    }

    /// Ends every worker: gracefully, or as a power cut would.
    pub(crate) async fn end_workers(&self, gracefully: bool) -> Result<()> {
        for worker in std::mem::take(&mut *self.workers.lock().await) {
            end(worker, gracefully).await?;
        }
        Ok(())
    }
}

async fn end(process: Running, gracefully: bool) -> Result<()> {
    if gracefully { process.stop(Signal::SIGTERM).await } else { process.kill().await }
}

/// Every setting of `ez`, so that nothing depends on its defaults.
pub(crate) fn settings(
    engine: &Engine,
    stand_ins: &StandIns,
    policy: &PolicySecs,
    (portal, database, zone, task_queue): (&Url, &Url, &str, &str),
) -> Result<BTreeMap<String, String>> {
    let listen = format!("127.0.0.1:{}", portal.port().context("the portal's address has a port")?);
    let site = trimmed(portal);
    let reminders: Vec<String> = policy.reminders.iter().map(ToString::to_string).collect();
    let secret_key = BASE64_STANDARD.encode(rand::random::<[u8; 32]>());
    let pairs = [
        ("EZ_ENVIRONMENT", "development".to_owned()),
        ("SITE_URL", site),
        ("EZ_WEB_LISTEN", listen),
        ("EZ_METRICS_LISTEN", format!("127.0.0.1:{}", free_port()?)),
        ("EZ_SECRET_KEY", secret_key),
        ("DATABASE_URL", database.to_string()),
        ("EZ_DATABASE_POOL_SIZE", "10".to_owned()),
        ("TEMPORAL_ADDRESS", trimmed(engine.temporal_address())),
        ("TEMPORAL_NAMESPACE", NAMESPACE.to_owned()),
        ("EZ_TEMPORAL_TASK_QUEUE", task_queue.to_owned()),
        ("EZ_TEMPORAL_UI_URL", trimmed(engine.temporal_ui())),
        ("STRIPE_SECRET_KEY", stand_ins.stripe_secret_key.clone()),
        ("STRIPE_WEBHOOK_SECRET", stand_ins.webhook_secret.clone()),
        ("EZ_STRIPE_API_URL", trimmed(stand_ins.stripe.base())),
        ("EZ_STRIPE_PAGE_ORIGINS", trimmed(stand_ins.stripe.base())),
        ("PROXMOX_URL", trimmed(&stand_ins.proxmox_url)),
        ("PROXMOX_TOKEN_ID", stand_ins.proxmox_token_id.to_owned()),
        ("PROXMOX_TOKEN_SECRET", stand_ins.proxmox_token_secret.clone()),
        ("PROXMOX_VERIFY_SSL", "true".to_owned()),
        ("PROXMOX_CA_FILE", path_text(&stand_ins.proxmox_ca)?),
        ("EZ_DNS_URL", trimmed(&engine.powerdns.url)),
        ("EZ_DNS_API_KEY", engine.powerdns.api_key.clone()),
        ("EZ_DNS_ZONE", zone.to_owned()),
        ("EZ_SMTP_URL", trimmed(&stand_ins.smtp_url)),
        ("EZ_MAIL_FROM", "EZ <no-reply@example.test>".to_owned()),
        ("EZ_STAFF_EMAIL", STAFF_EMAIL.to_owned()),
        // Everybody in a house comes from one address.
        ("EZ_LIMIT_NETWORK", "1000000".to_owned()),
        ("EZ_LIMIT_ADDRESS", "5".to_owned()),
        ("EZ_LIMIT_LOCK", "12".to_owned()),
        ("EZ_LIMIT_LOCK_SECS", "3600".to_owned()),
        ("EZ_SESSION_LONGEST_SECS", "1209600".to_owned()),
        ("EZ_SESSION_IDLE_SECS", "259200".to_owned()),
        ("EZ_SESSION_STAFF_IDLE_SECS", "86400".to_owned()),
        // Most tests are not about who staff are, and some last longer than ten minutes.
        ("EZ_STAFF_SECOND_FACTOR", "false".to_owned()),
        ("EZ_STEP_UP_SECS", "86400".to_owned()),
        ("EZ_FACTOR_RESET_SECS", "86400".to_owned()),
        ("EZ_POLICY_EXPORT_SECS", "604800".to_owned()),
        ("EZ_POLICY_ERASURE_SECS", "1209600".to_owned()),
        ("EZ_POLICY_BOOKS_YEARS", "10".to_owned()),
        ("EZ_POLICY_PAYMENT_WINDOW_SECS", policy.payment_window.to_string()),
        ("EZ_POLICY_CHECKOUT_POLL_SECS", policy.checkout_poll.to_string()),
        ("EZ_POLICY_REMINDERS_SECS", reminders.join(",")),
        ("EZ_POLICY_SUSPEND_AFTER_SECS", policy.suspend_after.to_string()),
        ("EZ_POLICY_GRACE_SECS", policy.grace.to_string()),
        ("EZ_POLICY_RETENTION_SECS", policy.retention.to_string()),
        ("EZ_POLICY_RETENTION_WARNING_SECS", policy.retention_warning.to_string()),
        ("EZ_POLICY_EXPIRY_WARNING_SECS", policy.expiry_warning.to_string()),
        ("EZ_POLICY_STEP_PATIENCE_SECS", policy.step_patience.to_string()),
        ("EZ_POLICY_SUBSCRIPTION_POLL_SECS", policy.subscription_poll.to_string()),
        ("EZ_POLICY_BREAKER_NUMBER", policy.breaker.to_string()),
        ("EZ_POLICY_DELIVERY_SECS", policy.delivery.to_string()),
        ("EZ_POLICY_EVENTS_SECS", policy.events.to_string()),
        ("EZ_POLICY_COMPARISON_SECS", policy.comparison.to_string()),
    ];
    let pairs = pairs.into_iter().chain(DOOR.map(|(name, value)| (name, value.to_owned())));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn trimmed(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

fn path_text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("the repository's path is not UTF-8")
}
