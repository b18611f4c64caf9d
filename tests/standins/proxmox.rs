//! A Proxmox VE 9.1 cluster at the wire: HTTPS with API tokens, form-encoded in, `{"data": …}` out, tasks that take time.
//!
//! Only the calls in [`calls`] are served, and each refuses unknown and ill-typed parameters as the real one does.
//! The cluster is in memory. Templates live on the first node, on storage shared by all (`--shared-storage`); every
//! node also has `local-lvm` of its own.
//!
//! The control API listens apart, on plain HTTP. Beside [`crate::faults`] it has:
//!
//! | call | does |
//! |---|---|
//! | `GET /_control/state` | `{vms: {vmid: {node, name, status, template, config, lock, disks, firewall, guest_passwords}}, tasks, disks, leftovers: {firewalls, disks}}` |
//! | `POST /_control/vms` | plants a VM nobody here made: `{vmid, node, name, description?, running?}` |
//! | `DELETE /_control/vms/{vmid}` | takes a VM, its disks and its firewall away |
//!
//! Faults of its own; `subject` is the VM's number as text or number, absent for every VM. `times` counts as ever, and
//! `reason` replaces the text where one is shown:
//!
//! - `agent_never`: the guest agent does not answer.
//! - `locked`: the lock file cannot be had: clone, config and resize answer 500, power changes and removal fail in their task.
//! - `no_quorum`: every call that is not a `GET` answers 500.
//! - `out_of_space`, `clone_fails`: the clone's task fails and leaves nothing; `subject` is the new VM.
//! - `task_fails`: a task fails; `subject` may also be a type (`qmstart`) or both (`qmstart:101`).
//! - `task_warns`: a task ends with `WARNINGS: 1`.
//! - `shutdown_ignored`: the guest does not heed a shutdown.

mod agent;
mod ask;
mod calls;
mod clone;
mod cluster;
mod config;
mod control;
mod firewall;
mod nodes;
mod params;
mod power;
mod tasks;
pub(crate) mod tls;
mod upid;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::Router;

use crate::faults::Faults;
use cluster::Cluster;

const OWN_FAULTS: &[&str] = &[
    "agent_never",
    "locked",
    "no_quorum",
    "out_of_space",
    "clone_fails",
    "task_fails",
    "task_warns",
    "shutdown_ignored",
];

/// How the cluster is set up.
#[derive(clap::Args)]
pub(crate) struct ProxmoxArgs {
    /// Where the API listens, over HTTPS.
    #[arg(long)]
    listen: SocketAddr,
    /// Where the control API listens, over plain HTTP.
    #[arg(long)]
    control_listen: SocketAddr,
    /// The one token: user@realm!name.
    #[arg(long)]
    token_id: String,
    /// The token's secret.
    #[arg(long)]
    token_secret: String,
    /// Where to write the certificate authority, in PEM.
    #[arg(long)]
    ca_file: PathBuf,
    /// The cluster's nodes.
    #[arg(long, value_delimiter = ',', default_value = "pve1,pve2")]
    nodes: Vec<String>,
    /// VMs that can be cloned.
    #[arg(long, value_delimiter = ',', default_value = "9000,9001")]
    templates: Vec<u32>,
    /// The storage all nodes share.
    #[arg(long, default_value = "shared")]
    shared_storage: String,
    /// Multiplies how long tasks and guests take.
    #[arg(long, default_value_t = 1.0)]
    time_scale: f64,
}

/// The cluster and what acts on it; clones share everything.
#[derive(Clone)]
struct Stage {
    settings: Arc<ProxmoxArgs>,
    cluster: Arc<Mutex<Cluster>>,
    turns: Arc<Mutex<Turns>>,
    faults: Faults,
}

/// By VM: whose turn it is to change it.
type Turns = BTreeMap<u32, Arc<tokio::sync::Mutex<()>>>;

impl Stage {
    fn new(settings: ProxmoxArgs) -> anyhow::Result<Self> {
        let first = settings.nodes.first().context("--nodes names no node")?;
        anyhow::ensure!(settings.time_scale >= 0.0 && settings.time_scale <= 1000.0, "--time-scale is 0 to 1000");
        let cluster = Cluster::with_templates(first, &settings.shared_storage, &settings.templates);
        Ok(Self {
            settings: Arc::new(settings),
            cluster: Arc::new(Mutex::new(cluster)),
            turns: Arc::default(),
            faults: Faults::new().with_kinds(OWN_FAULTS),
        })
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by a task while it works on a VM.
    fn turn(&self, vmid: u32) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(vmid).or_default())
    }

    /// How long something of `ms` milliseconds takes here.
    fn lasts(&self, ms: u64) -> Duration {
        Duration::from_millis(ms).mul_f64(self.settings.time_scale)
    }

    /// What a lock that cannot be had says, if the fault `locked` strikes this VM.
    fn lock_fault(&self, vmid: u32) -> Option<String> {
        let fault = self.faults.take("locked", Some(&vmid.to_string()))?;
        let file = format!("/var/lock/qemu-server/lock-{vmid}.conf");
        Some(fault.reason.unwrap_or_else(|| format!("can't lock file '{file}' - got timeout")))
    }

    fn api(&self) -> Router {
        self.faults.wrap(Router::new().fallback(ask::serve).with_state(self.clone()))
    }
}

/// Serves until it is told to stop.
pub(crate) async fn run(args: ProxmoxArgs) -> anyhow::Result<()> {
    let (listen, control_listen) = (args.listen, args.control_listen);
    let tls = tls::server_config(&args.ca_file)?;
    let stage = Stage::new(args)?;
    let control = stage.faults.router().merge(control::router(stage.clone()));
    let control_socket = tokio::net::TcpListener::bind(control_listen)
        .await
        .with_context(|| format!("listening on {control_listen}"))?;
    let api = axum_server::bind_rustls(listen, tls).serve(stage.api().into_make_service());
    tokio::select! {
        ended = api => ended.with_context(|| format!("listening on {listen}")),
        ended = axum::serve(control_socket, control) => ended.context("serving the control API"),
    }
}
