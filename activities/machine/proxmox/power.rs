//! Starting, stopping, and hearing from a machine.
use std::{num::NonZeroU64, time::Duration};

use domain::plan::MachineSize;
use proxmox_api::{
    client::Client,
    nodes::node::qemu::vmid::{config::PutParams, status},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{self, Instant};

use super::{
    ProxmoxApi, Target,
    error::{Meaning, ProxmoxError},
    look::Machine,
    tasks::{PATIENCE_GROWTH, SHORTEST_PAUSE},
};
use crate::machine::alive::Progress;

/// A machine gets this long to shut down by itself; then it is switched off.
const SHUTDOWN_LIMIT_SECS: u64 = 60;
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

#[derive(Deserialize)]
struct Power {
    status: String,
}

impl ProxmoxApi {
    /// Starts the machine.
    ///
    /// *Idempotence*: one that runs already is success. A machine that is locked still answers with a task, which then fails.
    pub async fn start(&self, target: &Target, progress: &Progress) -> Result<(), ProxmoxError> {
        let machine = self.ours(target).await?;
        self.start_now(&machine, progress).await
    }

    /// Waits until the machine's agent answers. It is asked again for as long as the step may take.
    pub async fn answer(&self, target: &Target, progress: &Progress) -> Result<(), ProxmoxError> {
        let machine = self.ours(target).await?;
        let question = agent_question(&machine);
        let began = Instant::now();
        loop {
            match self.client.get::<_, Value>(&question, &()).await {
                Ok(told) if told["result"].is_array() => return Ok(()),
                Ok(_) => {}
                Err(error) if error.meaning() == Meaning::GiveUp => return Err(error),
                Err(error) => {
                    progress.heard(&error);
                    tracing::debug!(%error, vmid = target.vmid.0, "the agent does not answer yet");
                    if !self.runs(&machine).await? {
                        return Err(ProxmoxError::NotYet(format!("machine {} stopped while it booted", target.vmid)));
                    }
                }
            }
            time::sleep((began.elapsed() / PATIENCE_GROWTH).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
        }
    }

    /// Stops the machine and keeps it stopped over a restart of its node.
    ///
    /// *Idempotence*: one that is stopped already is success.
    pub async fn suspend(&self, target: &Target, progress: &Progress) -> Result<(), ProxmoxError> {
        let machine = self.ours(target).await?;
        self.start_with_node(&machine, false).await?;
        self.shut_down(&machine, progress).await
    }

    /// Stops a machine whose stamp was just read, gently first.
    async fn shut_down(&self, machine: &Machine, progress: &Progress) -> Result<(), ProxmoxError> {
        if !self.runs(machine).await? {
            return Ok(());
        }
        let gently = status::shutdown::PostParams {
            timeout: Some(SHUTDOWN_LIMIT_SECS),
            forcestop: Some(true),
            ..status::shutdown::PostParams::default()
        };
        let upid = self.machine(&machine.node, machine.vmid)?.status().shutdown().post(gently).await?;
        let ended = self.finished(&upid, progress).await;
        self.stopped(machine, ended).await
    }

    /// Fits cores, memory and disk to a size. A machine that runs with another size is stopped for it, and `runs` says whether
    /// it runs afterwards.
    ///
    /// *Idempotence*: what fits already is left; the disk never shrinks.
    pub async fn fit(
        &self,
        target: &Target,
        size: MachineSize,
        runs: bool,
        progress: &Progress,
    ) -> Result<(), ProxmoxError> {
        let machine = self.ours(target).await?;
        if !has_size(&machine, size) {
            self.shut_down(&machine, progress).await?;
            let change = PutParams {
                cores: NonZeroU64::new(size.cores.into()),
                memory: Some(size.memory_mib.to_string()),
                ..PutParams::default()
            };
            self.machine(&machine.node, machine.vmid)?.config().put(change).await?;
        }
        self.resize(target, size.disk_gib, progress).await?;
        if runs { self.start_now(&machine, progress).await } else { Ok(()) }
    }

    /// Starts a suspended machine and lets it start with its node again.
    pub async fn resume(&self, target: &Target, progress: &Progress) -> Result<(), ProxmoxError> {
        let machine = self.ours(target).await?;
        self.start_with_node(&machine, true).await?;
        self.start_now(&machine, progress).await
    }

    /// Switches a machine off whose stamp was just read.
    pub(super) async fn stop_now(&self, machine: &Machine, progress: &Progress) -> Result<(), ProxmoxError> {
        if !self.runs(machine).await? {
            return Ok(());
        }
        let plain = status::stop::PostParams::default();
        let upid = self.machine(&machine.node, machine.vmid)?.status().stop().post(plain).await?;
        let ended = self.finished(&upid, progress).await;
        self.stopped(machine, ended).await
    }

    async fn start_now(&self, machine: &Machine, progress: &Progress) -> Result<(), ProxmoxError> {
        if self.runs(machine).await? {
            return Ok(());
        }
        let plain = status::start::PostParams::default();
        let asked = self.machine(&machine.node, machine.vmid)?.status().start().post(plain).await;
        let ended = match asked {
            Ok(upid) => self.finished(&upid, progress).await,
            Err(error) => Err(error),
        };
        match ended {
            Err(error) if error.says("already running") => Ok(()),
            other => other,
        }
    }

    /// Whether the machine is stopped, whatever the task that should have stopped it said.
    async fn stopped(&self, machine: &Machine, ended: Result<(), ProxmoxError>) -> Result<(), ProxmoxError> {
        if self.runs(machine).await? {
            ended?;
            return Err(ProxmoxError::NotYet(format!("machine {} still runs after it was stopped", machine.vmid)));
        }
        Ok(())
    }

    async fn start_with_node(&self, machine: &Machine, wanted: bool) -> Result<(), ProxmoxError> {
        if (machine.setting("onboot") == Some("1")) == wanted {
            return Ok(());
        }
        let change = PutParams { onboot: Some(wanted), ..PutParams::default() };
        self.machine(&machine.node, machine.vmid)?.config().put(change).await
    }

    pub(super) async fn runs(&self, machine: &Machine) -> Result<bool, ProxmoxError> {
        let path = format!("/nodes/{}/qemu/{}/status/current", machine.node, machine.vmid);
        let power: Power = self.client.get(&path, &()).await?;
        match power.status.as_str() {
            "running" => Ok(true),
            "stopped" => Ok(false),
            // Not known is not stopped: nothing may be taken for suspended because of it.
            other => Err(ProxmoxError::NotYet(format!("machine {} is {other}, which we do not know", machine.vmid))),
        }
    }
}

fn has_size(machine: &Machine, size: MachineSize) -> bool {
    let is = |name: &str, wanted: u32| machine.setting(name) == Some(wanted.to_string().as_str());
    is("cores", size.cores) && is("memory", size.memory_mib)
}

fn agent_question(machine: &Machine) -> String {
    format!("/nodes/{}/qemu/{}/agent/network-get-interfaces", machine.node, machine.vmid)
}
