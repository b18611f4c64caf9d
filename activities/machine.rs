//! The machine activities: one virtual machine on Proxmox VE.
//!
//! Each activity is thin: it reads what the order says, then asks [`proxmox`] for one act (`build`: for one after the other)
//! and stays alive meanwhile. The acts themselves are plain functions that know neither Temporal nor the database.
#![expect(missing_docs, reason = "the constants that the macro makes of each activity cannot carry a docstring")]
use std::sync::Arc;

use contract::machine::{Building, Built, CloneOutcome, Fitting, MachineRef, defs};
use domain::order::Step;
use rand::seq::IndexedRandom as _;
use store::{KeyRing, Lease, OrderBrief, OrderPlace, Store};
use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use zeroize::Zeroizing;

use crate::{
    fault::{Fault, Vendor},
    name,
};
use alive::alive;
use proxmox::{Access, Interface, ProxmoxApi, Target};

#[warn(missing_docs)]
mod alive;
#[warn(missing_docs)]
mod build;
#[warn(missing_docs)]
pub mod proxmox;

pub use alive::Progress;

/// What a customer's SSH key is sealed for, by the page that takes it.
pub const SSH_KEY_PURPOSE: &str = "ssh-key";
/// What a generated password is sealed for; the page that shows it opens it with this.
pub const PASSWORD_PURPOSE: &str = "vps-password";
/// A generated password: 20 of 56 characters, 116 bits.
const PASSWORD_LENGTH: usize = 20;
/// Letters and digits without those that look alike.
const PASSWORD_CHARACTERS: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// What the machine activities need.
pub struct MachineDesk {
    store: Store,
    proxmox: ProxmoxApi,
    keys: Arc<KeyRing>,
}

#[activities]
impl MachineDesk {
    /// Clones, configures, grows, protects and starts the machine, and waits until it answers. *Idempotence*: each step looks
    /// first; another attempt begins with the first step that is not noted as done.
    #[activity(definition = defs::Build)]
    pub async fn build(self: Arc<Self>, ctx: ActivityContext, building: Building) -> Result<Built, ActivityError> {
        let doing = doing("building", &building.machine);
        let again = ctx.info().attempt > 1;
        alive(&ctx, &doing, |progress| async move { Ok(self.built(&building, again, &progress).await) }).await
    }

    /// Copies the image's template. *Idempotence*: looks first; a second attempt waits for the first one's task.
    #[activity(definition = defs::CloneTemplate)]
    pub async fn clone_template(
        self: Arc<Self>,
        ctx: ActivityContext,
        machine: MachineRef,
    ) -> Result<CloneOutcome, ActivityError> {
        self.alone(&ctx, Step::Clone, machine).await
    }

    /// Sets size, addresses, name, access and tags. *Idempotence*: the same values again, the same password included.
    #[activity(definition = defs::Configure)]
    pub async fn configure(self: Arc<Self>, ctx: ActivityContext, machine: MachineRef) -> Result<(), ActivityError> {
        self.alone(&ctx, Step::Configure, machine).await.map(drop)
    }

    /// Grows the first disk. *Idempotence*: a disk that is large enough is left alone.
    #[activity(definition = defs::Resize)]
    pub async fn resize(self: Arc<Self>, ctx: ActivityContext, machine: MachineRef) -> Result<(), ActivityError> {
        self.alone(&ctx, Step::Resize, machine).await.map(drop)
    }

    /// Turns the firewall on. *Idempotence*: what stands already is left.
    #[activity(definition = defs::Protect)]
    pub async fn protect(self: Arc<Self>, ctx: ActivityContext, machine: MachineRef) -> Result<(), ActivityError> {
        self.alone(&ctx, Step::Protect, machine).await.map(drop)
    }

    /// Starts the machine. *Idempotence*: one that runs already is success.
    #[activity(definition = defs::Start)]
    pub async fn start(self: Arc<Self>, ctx: ActivityContext, machine: MachineRef) -> Result<(), ActivityError> {
        self.alone(&ctx, Step::Start, machine).await.map(drop)
    }

    /// Waits until the agent answers. *Idempotence*: it only asks.
    #[activity(definition = defs::Answer)]
    pub async fn answer(self: Arc<Self>, ctx: ActivityContext, machine: MachineRef) -> Result<(), ActivityError> {
        self.alone(&ctx, Step::Answer, machine).await.map(drop)
    }

    /// Stops the machine and keeps it stopped. *Idempotence*: one that is stopped already is success.
    #[activity(definition = defs::Suspend)]
    pub async fn suspend(self: Arc<Self>, ctx: ActivityContext, machine: MachineRef) -> Result<(), ActivityError> {
        let doing = doing("suspending", &machine);
        alive(&ctx, &doing.clone(), |progress| async move {
            self.proxmox.suspend(&target(&machine), &progress).await.map_err(|error| error.into_fault(doing))
        })
        .await
    }

    /// Starts a suspended machine. *Idempotence*: one that runs already is success.
    #[activity(definition = defs::Resume)]
    pub async fn resume(self: Arc<Self>, ctx: ActivityContext, machine: MachineRef) -> Result<(), ActivityError> {
        let doing = doing("resuming", &machine);
        alive(&ctx, &doing.clone(), |progress| async move {
            self.proxmox.resume(&target(&machine), &progress).await.map_err(|error| error.into_fault(doing))
        })
        .await
    }

    /// Fits size and disk to the plan, with a restart where the size differs. *Idempotence*: what fits already is left.
    #[activity(definition = defs::Fit)]
    pub async fn fit(self: Arc<Self>, ctx: ActivityContext, fitting: Fitting) -> Result<(), ActivityError> {
        let Fitting { machine, runs } = fitting;
        let doing = doing("fitting", &machine);
        alive(&ctx, &doing.clone(), |progress| async move {
            let size = self.order(&machine, &doing).await?.0.size;
            let fitted = self.proxmox.fit(&target(&machine), size, runs, &progress).await;
            fitted.map_err(|error| error.into_fault(doing))
        })
        .await
    }

    /// Destroys the machine. *Idempotence*: not there is done; not ours is left alone and is an error.
    #[activity(definition = defs::Destroy)]
    pub async fn destroy(self: Arc<Self>, ctx: ActivityContext, machine: MachineRef) -> Result<(), ActivityError> {
        let doing = doing("destroying", &machine);
        alive(&ctx, &doing.clone(), |progress| async move {
            let copied_on = self.copied_on(&machine, &doing).await?;
            let destroyed = self.proxmox.destroy(&target(&machine), &copied_on, &progress).await;
            destroyed.map_err(|error| error.into_fault(doing))
        })
        .await
    }
}

impl MachineDesk {
    /// A desk over the orders, the machines, and the keys that open SSH keys and seal passwords.
    pub fn new(store: Store, proxmox: ProxmoxApi, keys: Arc<KeyRing>) -> Self {
        Self { store, proxmox, keys }
    }

    async fn order(&self, machine: &MachineRef, doing: &str) -> Result<(OrderBrief, OrderPlace), Fault> {
        let found = self.store.brief(machine.order).await.map_err(|error| name::of_store(doing, error))?;
        let nothing = |what: &str| Vendor::Database.give_up(doing, format!("order {} {what}", machine.order));
        let mut brief = found.ok_or_else(|| nothing("does not exist"))?;
        let place = brief.place.take().ok_or_else(|| nothing("has no place reserved"))?;
        Ok((brief, place))
    }

    /// The node that copies the machine: its template's. Of an order that nobody knows any more, the one it was put on.
    async fn copied_on(&self, machine: &MachineRef, doing: &str) -> Result<String, Fault> {
        let brief = self.store.brief(machine.order).await.map_err(|error| name::of_store(doing, error))?;
        let place = brief.and_then(|brief| brief.place);
        Ok(place.map_or_else(|| machine.node.clone(), |place| place.template_node))
    }

    /// The customer's key, or a password that is the same however often this runs: the first one sealed stays.
    async fn access(&self, machine: &MachineRef, brief: &OrderBrief, doing: &str) -> Result<Access, Fault> {
        let closed = || Vendor::Database.give_up(doing, "what was sealed does not open with our key");
        let open = |purpose: &str, sealed: &str| -> Result<String, Fault> {
            let plain = self.keys.open(purpose, sealed).map_err(|_| closed())?;
            String::from_utf8(plain).map_err(|_| closed())
        };
        if let Some(sealed) = &brief.sealed_ssh_key {
            return Ok(Access::Key(open(SSH_KEY_PURPOSE, sealed)?));
        }
        let new = self.keys.seal(PASSWORD_PURPOSE, password().as_bytes());
        let new = new.map_err(|error| Vendor::Database.give_up(doing, error.to_string()))?;
        let kept = self.store.put_password(machine.service, &new).await;
        match kept.map_err(|error| name::of_store(doing, error))? {
            Some(sealed) => Ok(Access::Password(Zeroizing::new(open(PASSWORD_PURPOSE, &sealed)?))),
            None => Ok(Access::AsBefore),
        }
    }
}

fn password() -> Zeroizing<String> {
    let mut chance = rand::rng();
    let drawn = (0..PASSWORD_LENGTH).filter_map(|_| PASSWORD_CHARACTERS.choose(&mut chance));
    Zeroizing::new(drawn.map(|byte| char::from(*byte)).collect())
}

fn target(machine: &MachineRef) -> Target {
    Target { node: machine.node.clone(), vmid: machine.vmid, service: machine.service }
}

fn interface(lease: &Lease) -> Interface {
    Interface {
        address: lease.address,
        prefix_length: lease.prefix_length,
        gateway: lease.gateway,
        nameserver: lease.nameserver,
    }
}

fn doing(verb: &str, machine: &MachineRef) -> String {
    format!("{verb} machine {} on {}", machine.vmid, machine.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_password_is_long_and_never_the_same() {
        let (one, other) = (password(), password());
        assert_eq!(one.len(), PASSWORD_LENGTH);
        assert!(one.bytes().all(|byte| PASSWORD_CHARACTERS.contains(&byte)));
        assert_ne!(one, other);
    }
}
