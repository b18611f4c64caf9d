//! Finding a machine and reading what it is.
use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use domain::ids::{ServiceId, Vmid};
use proxmox_api::client::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ProxmoxApi, Target,
    error::ProxmoxError,
    stamp::{self, Owner},
};

/// Stands in every configuration. *Source*: Proxmox VE API, `GET /nodes/{node}/qemu/{vmid}/config`.
const DIGEST: &str = "digest";

/// What a look at a number found.
pub(super) enum Looked {
    /// Nothing has that number; Proxmox was well enough to say so twice.
    Absent,
    /// Something has it that is no virtual machine.
    Foreign,
    /// A virtual machine has it.
    Machine(Machine),
}

/// A virtual machine as it is configured.
pub(super) struct Machine {
    /// Where it is now.
    pub(super) node: String,
    pub(super) vmid: Vmid,
    settings: BTreeMap<String, String>,
}

impl Machine {
    #[cfg(test)]
    pub(super) fn of(node: &str, vmid: Vmid, settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { node: node.to_owned(), vmid, settings }
    }

    /// A value of its configuration.
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// What locks it, such as `clone` or `backup`.
    pub(super) fn lock(&self) -> Option<&str> {
        self.setting("lock")
    }

    /// Whether it is still being made.
    pub(super) fn is_being_made(&self) -> bool {
        matches!(self.lock(), Some("clone" | "create"))
    }

    /// Whether it is there to be cloned.
    pub(super) fn is_template(&self) -> bool {
        self.setting("template") == Some("1")
    }

    /// Whom it belongs to.
    pub(super) fn owner(&self, service: ServiceId) -> Owner {
        let text = |name| self.setting(name).unwrap_or_default();
        stamp::owner(text("description"), text("tags"), service)
    }

    /// The service whose stamp it carries.
    pub(super) fn service(&self) -> Option<ServiceId> {
        let text = |name| self.setting(name).unwrap_or_default();
        stamp::service(text("description"), text("tags"))
    }
}

/// The last list of everything in the cluster, by number, and when it was asked for.
#[derive(Default)]
pub(super) struct ClusterList {
    began: Option<Instant>,
    failed: Option<Instant>,
    resources: HashMap<String, Value>,
}

#[derive(Deserialize)]
struct Resource {
    node: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    template: Value,
}

impl ProxmoxApi {
    /// Looks for a number in the whole cluster, and on `node` where the list does not have it.
    ///
    /// *Errors*: whenever Proxmox could not say; a machine that cannot be reached is never absent.
    pub(super) async fn look(&self, node: &str, vmid: Vmid) -> Result<Looked, ProxmoxError> {
        let found = self.listed(vmid).await?;
        if found.as_ref().is_some_and(|resource| resource.kind != "qemu") {
            return Ok(Looked::Foreign);
        }
        let is_listed = found.is_some();
        let is_template = found.as_ref().is_some_and(|resource| plain(&resource.template) == "1");
        let node = found.map_or_else(|| node.to_owned(), |resource| resource.node);
        match self.settings(&node, vmid).await {
            Ok(mut settings) => {
                if is_template {
                    settings.insert("template".to_owned(), "1".to_owned());
                }
                Ok(Looked::Machine(Machine { node, vmid, settings }))
            }
            Err(error) if error.is_absence_of(vmid.0) && is_listed => {
                Err(ProxmoxError::NotYet(format!("machine {vmid} is being moved or destroyed")))
            }
            Err(error) if error.is_absence_of(vmid.0) => Ok(Looked::Absent),
            Err(error) => Err(error),
        }
    }

    /// The machine, if it carries the service's stamp. It is looked for in the cluster only when it is not where it was put.
    pub(super) async fn ours(&self, target: &Target) -> Result<Machine, ProxmoxError> {
        let looked = match self.settings(&target.node, target.vmid).await {
            Ok(settings) => Looked::Machine(Machine { node: target.node.clone(), vmid: target.vmid, settings }),
            Err(error) if error.says("does not exist") => self.look(&target.node, target.vmid).await?,
            Err(error) => return Err(error),
        };
        match looked {
            Looked::Absent => Err(ProxmoxError::Missing(target.vmid.0)),
            Looked::Machine(machine) if machine.owner(target.service) == Owner::Ours => Ok(machine),
            Looked::Foreign | Looked::Machine(_) => Err(ProxmoxError::NotOurs(target.vmid.0)),
        }
    }

    /// The machine of a number on a node that was just listed there; nothing when it is there no more.
    pub(super) async fn listed_at(&self, node: &str, vmid: Vmid) -> Result<Option<Machine>, ProxmoxError> {
        match self.settings(node, vmid).await {
            Ok(settings) => Ok(Some(Machine { node: node.to_owned(), vmid, settings })),
            Err(error) if error.is_absence_of(vmid.0) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the cluster's list says of a number. Everybody who asked before a list was asked for shares its answer.
    async fn listed(&self, vmid: Vmid) -> Result<Option<Resource>, ProxmoxError> {
        let (asked, number) = (Instant::now(), vmid.to_string());
        let mut last = self.list.lock().await;
        if last.failed.is_some_and(|began| began >= asked) {
            // Whoever waited for a list that was not given asks for one of their own, all at the same time.
            drop(last);
            return read(self.every_resource().await?.remove(&number), vmid);
        }
        if last.began.is_none_or(|began| began < asked) {
            let began = Instant::now();
            last.failed = Some(began);
            let resources = self.every_resource().await?;
            *last = ClusterList { began: Some(began), failed: None, resources };
        }
        read(last.resources.get(&number).cloned(), vmid)
    }

    async fn every_resource(&self) -> Result<HashMap<String, Value>, ProxmoxError> {
        let all: Vec<Value> = self.client.get("/cluster/resources", &json!({"type": "vm"})).await?;
        Ok(all.into_iter().map(|resource| (plain(&resource["vmid"]), resource)).collect())
    }

    async fn settings(&self, node: &str, vmid: Vmid) -> Result<BTreeMap<String, String>, ProxmoxError> {
        let path = format!("/nodes/{node}/qemu/{vmid}/config");
        let settings: BTreeMap<String, Value> = self.client.get(&path, &()).await?;
        // Without its stamp a machine counts as somebody else's, so half a configuration must not pass for a whole one.
        if !settings.contains_key(DIGEST) {
            return Err(incomplete("the configuration", vmid));
        }
        Ok(settings.into_iter().map(|(name, value)| (name, plain(&value))).collect())
    }
}

fn incomplete(what: &str, vmid: Vmid) -> ProxmoxError {
    ProxmoxError::NotYet(format!("{what} of machine {vmid} came incomplete"))
}

/// Strangers may be listed in any form; what bears our number is read, or the list says nothing.
fn read(found: Option<Value>, vmid: Vmid) -> Result<Option<Resource>, ProxmoxError> {
    found.map(serde_json::from_value).transpose().map_err(|_| incomplete("the cluster's entry", vmid))
}

/// A value as text, whether it came as a number or as text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
