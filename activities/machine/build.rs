//! The steps of building a machine: one by itself, or all at one go.
use std::time::Duration;

use contract::machine::{Building, Built, CloneOutcome, MachineRef};
use domain::order::Step;
use store::{OrderBrief, OrderPlace};
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use tokio::time;

use super::{
    MachineDesk,
    alive::{Progress, alive},
    doing, interface,
    proxmox::{CloneJob, Setup},
    target,
};
use crate::{
    fault::{Fault, Vendor},
    name,
};

/// The steps, in their order.
const STEPS: [Step; 6] = [Step::Clone, Step::Configure, Step::Resize, Step::Protect, Step::Start, Step::Answer];

/// An order and its place.
type Order = (OrderBrief, OrderPlace);

impl MachineDesk {
    /// One step by itself, for as long as its attempt may take.
    pub(super) async fn alone(
        &self,
        ctx: &ActivityContext,
        step: Step,
        machine: MachineRef,
    ) -> Result<CloneOutcome, ActivityError> {
        let doing = doing(verb(step), &machine);
        alive(ctx, &doing.clone(), |progress| async move {
            let order = self.order(&machine, &doing).await?;
            self.act(step, &machine, &order, &doing, &progress).await
        })
        .await
    }

    /// Every step from the one asked for on, each tried once within its limit. The first that does not succeed ends it.
    pub(super) async fn built(&self, building: &Building, again: bool, progress: &Progress) -> Built {
        let machine = &building.machine;
        let limit = Duration::from_secs(building.step_limit_secs);
        let read = async {
            let words = doing("building", machine);
            let order = self.order(machine, &words).await?;
            let done = if again {
                self.store.steps_done(machine.order).await.map_err(|error| name::of_store(&words, error))?
            } else {
                Vec::new()
            };
            Ok::<_, Fault>((order, done))
        };
        let (order, done) = match read.await {
            Ok(read) => read,
            Err(fault) => return stopped(building.from, &fault),
        };
        for step in STEPS.into_iter().filter(|step| *step >= building.from && !done.contains(step)) {
            let doing = doing(verb(step), machine);
            let tried = time::timeout(limit, self.noted(step, machine, &order, &doing, progress)).await;
            let tried = tried.unwrap_or_else(|late| Err(Vendor::Proxmox.outcome_unknown(doing.as_str(), late)));
            match tried {
                Ok(CloneOutcome::Cloned) => {}
                Ok(CloneOutcome::Taken) => return Built::Taken,
                Err(fault) => return stopped(step, &fault),
            }
        }
        Built::Ready
    }

    /// One step, written down before it is begun.
    async fn noted(
        &self,
        step: Step,
        machine: &MachineRef,
        order: &Order,
        doing: &str,
        progress: &Progress,
    ) -> Result<CloneOutcome, Fault> {
        let begun = self.store.begin_step(machine.order, step).await.map_err(|error| name::of_store(doing, error))?;
        if !begun {
            // An attempt that was given up while nobody could tell it so must not build what was taken back.
            return Err(Vendor::Database.give_up(doing, "the order is over"));
        }
        self.act(step, machine, order, doing, progress).await
    }

    async fn act(
        &self,
        step: Step,
        machine: &MachineRef,
        (brief, place): &Order,
        doing: &str,
        progress: &Progress,
    ) -> Result<CloneOutcome, Fault> {
        let (proxmox, target) = (&self.proxmox, target(machine));
        let done = match step {
            Step::Clone => {
                let job = CloneJob {
                    target,
                    template: brief.template_vmid,
                    template_node: place.template_node.clone(),
                    name: name::label(&brief.hostname, machine.service),
                    storage: place.storage.clone(),
                };
                return proxmox.clone_template(&job, progress).await.map_err(|error| error.into_fault(doing));
            }
            Step::Configure => {
                let setup = Setup {
                    name: name::label(&brief.hostname, machine.service),
                    size: brief.size,
                    access: self.access(machine, brief, doing).await?,
                    ipv4: interface(&place.ipv4),
                    ipv6: interface(&place.ipv6),
                };
                proxmox.configure(&target, &setup, progress).await
            }
            Step::Resize => proxmox.resize(&target, brief.size.disk_gib, progress).await,
            Step::Protect => proxmox.protect(&target, [place.ipv4.address, place.ipv6.address]).await,
            Step::Start => proxmox.start(&target, progress).await,
            Step::Answer => proxmox.answer(&target, progress).await,
            other => return Err(Vendor::Proxmox.give_up(doing, format!("{other} is no step of building a machine"))),
        };
        done.map(|()| CloneOutcome::Cloned).map_err(|error| error.into_fault(doing))
    }
}

fn stopped(step: Step, fault: &Fault) -> Built {
    let reason = fault.words();
    tracing::warn!(%step, %reason, "a machine could not be built at one go; this step goes on alone");
    Built::Stopped { step, reason }
}

/// What a step does, for staff.
fn verb(step: Step) -> &'static str {
    match step {
        Step::Clone => "cloning",
        Step::Configure => "configuring",
        Step::Resize => "growing the disk of",
        Step::Protect => "protecting",
        Step::Start => "starting",
        Step::Answer => "hearing from",
        _ => "building",
    }
}
