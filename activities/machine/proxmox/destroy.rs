//! Destroying a machine.
use std::time::Duration;

use proxmox_api::nodes::node::qemu::vmid::DeleteParams;
use tokio::time;

use super::{
    ProxmoxApi, Target,
    error::ProxmoxError,
    look::{Looked, Machine},
    stamp::Owner,
};
use crate::machine::alive::Progress;

const PAUSE: Duration = Duration::from_secs(1);
/// A machine that is locked for cloning while no clone runs is looked at this often before it is believed.
const IDLE_LOOKS_MAX: u32 = 5;
/// A machine that was destroyed is looked for this often before it counts as still there.
const LOOKS_MAX: u32 = 10;

impl ProxmoxApi {
    /// Destroys a machine, its disks and its firewall rules. Its clone, if one runs, runs on `copied_on`, the template's node.
    ///
    /// *Idempotence*: not there is done, if Proxmox was well enough to say so; one that is still being cloned is waited for.
    /// *Errors*: [`ProxmoxError::NotOurs`] where the stamp does not match; that machine is left alone.
    pub async fn destroy(&self, target: &Target, copied_on: &str, progress: &Progress) -> Result<(), ProxmoxError> {
        if let Some(upid) = progress.resumed() {
            // Whatever became of it, the look below says what is left to do.
            let _ = self.finished(upid, progress).await;
        }
        let mut idle_looks = 0;
        loop {
            let machine = match self.look(&target.node, target.vmid).await? {
                Looked::Absent => return Ok(()),
                Looked::Foreign => return Err(ProxmoxError::NotOurs(target.vmid.0)),
                Looked::Machine(machine) => machine,
            };
            let owner = machine.owner(target.service);
            // Whose it is shows only when its copying has begun; it can be destroyed only when that is over.
            if owner != Owner::Other && machine.is_being_made() && idle_looks < IDLE_LOOKS_MAX {
                idle_looks = if self.clones_run(copied_on).await? { 0 } else { idle_looks + 1 };
                time::sleep(PAUSE).await;
                continue;
            }
            if owner != Owner::Ours {
                return Err(ProxmoxError::NotOurs(target.vmid.0));
            }
            return match self.delete(&machine, progress).await {
                // An earlier attempt, whose answer was lost, was faster.
                Err(error) if error.says("does not exist") => self.gone(target).await,
                Ok(()) => self.gone(target).await,
                Err(error) => Err(error),
            };
        }
    }

    /// Stops and deletes a machine whose stamp was just read.
    pub(super) async fn delete(&self, machine: &Machine, progress: &Progress) -> Result<(), ProxmoxError> {
        self.stop_now(machine, progress).await?;
        let everything =
            DeleteParams { purge: Some(true), destroy_unreferenced_disks: Some(true), ..DeleteParams::default() };
        let upid = self.machine(&machine.node, machine.vmid)?.delete(everything).await?;
        self.finished(&upid, progress).await
    }

    async fn gone(&self, target: &Target) -> Result<(), ProxmoxError> {
        for _ in 0..LOOKS_MAX {
            match self.look(&target.node, target.vmid).await {
                Ok(Looked::Absent) => return Ok(()),
                // Somebody else may have been given the number meanwhile.
                Ok(Looked::Machine(machine)) if machine.owner(target.service) == Owner::Other => return Ok(()),
                Ok(_) | Err(ProxmoxError::NotYet(_)) => time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        Err(ProxmoxError::NotYet(format!("machine {} is still there after it was destroyed", target.vmid)))
    }
}
