//! Copying a template.
use std::time::Duration;

use contract::machine::CloneOutcome;
use domain::ids::Vmid;
use proxmox_api::nodes::node::qemu::vmid::clone::{NewidInt, PostParams};
use tokio::time;

use super::{
    ProxmoxApi, Target,
    error::ProxmoxError,
    look::{Looked, Machine},
    stamp::{self, Owner},
};
use crate::machine::alive::Progress;

const PAUSE: Duration = Duration::from_secs(1);
/// A locked machine while no clone runs is looked at this often before the attempt ends.
const IDLE_LOOKS_MAX: u32 = 5;
/// A copy is asked for this often in one attempt; more is a quarrel over the number.
const ASKED_MAX: u32 = 3;

/// What to copy, and to what.
#[derive(Debug, Clone)]
pub struct CloneJob {
    /// The copy.
    pub target: Target,
    /// The template's number.
    pub template: Vmid,
    /// The node the template is on.
    pub template_node: String,
    /// The copy's name, one DNS label.
    pub name: String,
    /// Where its disks go.
    pub storage: String,
}

impl ProxmoxApi {
    /// Copies a template in full and stamps the copy.
    ///
    /// *Idempotence*: a copy that carries our stamp is the answer; one that is being made is waited for. The number is taken
    /// as soon as Proxmox accepts a clone, so a clone whose answer was lost is always seen by the look before the next. A
    /// machine nobody has stamped is somebody else's only once it is finished: until then it is waited for.
    /// *Source*: Proxmox VE API, `POST /nodes/{node}/qemu/{vmid}/clone`.
    pub async fn clone_template(&self, job: &CloneJob, progress: &Progress) -> Result<CloneOutcome, ProxmoxError> {
        if let Some(upid) = progress.resumed()
            && let Err(error) = self.finished(upid, progress).await
        {
            tracing::info!(%error, "an earlier attempt's clone did not end well");
        }
        let (mut asked, mut idle_looks) = (0, 0);
        loop {
            match self.look(&job.target.node, job.target.vmid).await? {
                Looked::Foreign => return Ok(CloneOutcome::Taken),
                Looked::Machine(machine) => match machine.owner(job.target.service) {
                    Owner::Other => return Ok(CloneOutcome::Taken),
                    Owner::Ours if !machine.is_being_made() => return Ok(CloneOutcome::Cloned),
                    Owner::Nobody if !machine.is_being_made() => return Ok(CloneOutcome::Taken),
                    owner if idle_looks == IDLE_LOOKS_MAX => return Err(abandoned(owner, &machine)),
                    // A clone gets its stamp only when its task begins to copy.
                    Owner::Ours | Owner::Nobody => {
                        idle_looks = if self.clones_run(&job.template_node).await? { 0 } else { idle_looks + 1 };
                        time::sleep(PAUSE).await;
                    }
                },
                Looked::Absent if asked == ASKED_MAX => {
                    return Err(ProxmoxError::NotYet(format!("machine {} does not stay", job.target.vmid)));
                }
                Looked::Absent => {
                    asked += 1;
                    self.copy(job, progress).await?;
                }
            }
        }
    }

    async fn copy(&self, job: &CloneJob, progress: &Progress) -> Result<(), ProxmoxError> {
        let target = &job.target;
        let number = NewidInt::try_from(i128::from(target.vmid.0))
            .map_err(|_| ProxmoxError::Unfit(format!("{} is not a machine number Proxmox allows", target.vmid)))?;
        let wanted = PostParams {
            full: Some(true),
            name: Some(job.name.clone()),
            description: Some(stamp::line(target.service)),
            storage: Some(job.storage.clone()),
            // Another node than the template's can be named only where they share the storage.
            target: (target.node != job.template_node).then(|| target.node.clone()),
            ..PostParams::new(number)
        };
        let upid = match self.machine(&job.template_node, job.template)?.clone().post(wanted).await {
            Ok(upid) => upid,
            Err(error) if error.says("config file already exists") => return Ok(()),
            Err(error) => return Err(error),
        };
        let ended = self.finished(&upid, progress).await;
        if let Err(ProxmoxError::TaskFailed { .. }) = ended
            && let Err(error) = self.remove_remains(target, progress).await
        {
            tracing::warn!(%error, vmid = target.vmid.0, "the remains of a failed clone could not be removed");
        }
        ended
    }

    async fn remove_remains(&self, target: &Target, progress: &Progress) -> Result<(), ProxmoxError> {
        match self.look(&target.node, target.vmid).await? {
            Looked::Machine(machine) if machine.owner(target.service) == Owner::Ours => {
                self.delete(&machine, progress).await
            }
            _ => Ok(()),
        }
    }
}

fn abandoned(owner: Owner, machine: &Machine) -> ProxmoxError {
    let (vmid, node) = (machine.vmid, &machine.node);
    let whose = match owner {
        Owner::Ours => format!("destroy it on {node} after `qm unlock {vmid}`"),
        // It may be the copy of a clone whose answer was lost: another number now could make a second machine.
        Owner::Nobody | Owner::Other => format!(
            "nothing says whose it is; wait for what is making it on {node}, or destroy it after `qm unlock {vmid}` if nothing is"
        ),
    };
    ProxmoxError::NotYet(format!("machine {vmid} is locked but no clone runs; {whose}"))
}
