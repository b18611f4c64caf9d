//! Proxmox VE: the cluster the machines live on. Its words stop in this folder.
//!
//! Calls go through the typed bindings of `proxmox-api` over a client of our own (`client`). Three kinds of answers are read
//! straight instead: lists of the whole cluster, configurations and power states. The bindings refuse a whole answer
//! when one machine in it has a value they do not know, and a stranger's machine must not stop ours.
//!
//! | file | holds |
//! |---|---|
//! | `client` | the wire: TLS, token, forms, deadlines |
//! | `error` | what a refusal means |
//! | `stamp` | whose machine it is |
//! | `look` | finding a machine and reading it |
//! | `tasks` | waiting for a task |
//! | `clone`, `setup`, `power`, `destroy` | the acts |
//! | `check`, `rights` | what the doctor asks |
use std::sync::Arc;

use domain::ids::{ServiceId, Vmid};
use proxmox_api::{
    nodes::{NodesClient, node::qemu::vmid::VmidClient},
    types::VmId,
};
use tokio::sync::Mutex;
use url::Url;

mod check;
mod client;
mod clone;
mod destroy;
mod error;
mod found;
mod look;
mod power;
mod rights;
mod setup;
mod stamp;
mod tasks;

pub use check::Needs;
pub use client::SettingsFault;
pub use clone::CloneJob;
pub use error::{Call, ProxmoxError};
pub use found::{BareCopies, BareCopy, FoundMachine};
pub use setup::{Access, Interface, Setup};

/// Which machine, and whose it must be. Nothing is done to a machine before its stamp was read and matched.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it was put; a machine that was moved since is found where it is.
    pub node: String,
    /// Its number.
    pub vmid: Vmid,
    /// Its owner stamp.
    pub service: ServiceId,
}

/// What we do on Proxmox VE. Every method may be called twice; each looks before it acts.
#[derive(Clone)]
pub struct ProxmoxApi {
    client: client::PveClient,
    list: Arc<Mutex<look::ClusterList>>,
}

impl ProxmoxApi {
    /// Prepares the connection to `https://pve.example.test:8006` with the token `user@realm!name`; nothing is asked yet.
    ///
    /// `extra_certificates_pem` are trusted beside the system's own. Not to verify certificates is for development alone.
    pub fn new(
        url: &Url,
        token_id: &str,
        token_secret: &str,
        verify_certificates: bool,
        extra_certificates_pem: Option<&[u8]>,
    ) -> Result<Self, SettingsFault> {
        let token = client::token(token_id, token_secret)?;
        let client = client::PveClient::new(url, token, verify_certificates, extra_certificates_pem)?;
        Ok(Self { client, list: Arc::default() })
    }

    fn machine(&self, node: &str, vmid: Vmid) -> Result<VmidClient<client::PveClient>, ProxmoxError> {
        let id = VmId::try_from(i128::from(vmid.0))
            .map_err(|_| ProxmoxError::Unfit(format!("{vmid} is not a machine number Proxmox allows")))?;
        Ok(NodesClient::new(self.client.clone()).node(node).qemu().vmid(id))
    }
}
