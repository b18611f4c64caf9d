//! What the doctor asks Proxmox.
use domain::ids::Vmid;
use proxmox_api::client::Client;
use serde::Deserialize;
use serde_json::json;

use super::{
    ProxmoxApi,
    error::ProxmoxError,
    look::{Looked, Machine},
    rights::{Granted, judged},
};

/// What orders will need of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Numbers of the templates that are cloned.
    pub templates: Vec<Vmid>,
    /// Storages that disks are made on.
    pub storages: Vec<String>,
    /// The size of the largest disk on sale, in GiB.
    pub disk_gib: u32,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Node {
    node: String,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct Storage {
    #[serde(rename = "storage")]
    name: String,
    #[serde(default)]
    active: u64,
    /// Bytes.
    #[serde(default)]
    avail: u64,
}

impl ProxmoxApi {
    /// Asks everything an order will need and gives one line for each thing that is well.
    ///
    /// *Errors*: [`ProxmoxError::Unfit`] names everything that is not well, or the refusal of the first question.
    pub async fn check(&self, needs: &Needs) -> Result<Vec<String>, ProxmoxError> {
        let version: Version = self.client.get("/version", &()).await?;
        let nodes: Vec<Node> = self.client.get("/nodes", &()).await?;
        let mut lines = vec![format!("Proxmox VE {}", version.version)];
        let mut faults = Vec::new();
        let mut note = |found: Result<String, String>| match found {
            Ok(line) => lines.push(line),
            Err(fault) => faults.push(fault),
        };
        note(self.rights().await);
        for node in &nodes {
            note(online(node));
            note(self.storages(&node.node, needs).await);
        }
        let first = nodes.first().map(|node| node.node.as_str()).unwrap_or_default();
        for vmid in &needs.templates {
            note(self.is_template(first, *vmid).await);
        }
        if faults.is_empty() { Ok(lines) } else { Err(ProxmoxError::Unfit(faults.join("; "))) }
    }

    async fn rights(&self) -> Result<String, String> {
        let asked: Result<Granted, _> = self.client.get("/access/permissions", &json!({})).await;
        judged(&asked.map_err(|error| format!("the token's rights: {error}"))?)
    }

    async fn storages(&self, node: &str, needs: &Needs) -> Result<String, String> {
        let asked: Result<Vec<Storage>, ProxmoxError> =
            self.client.get(&format!("/nodes/{node}/storage"), &json!({"content": "images"})).await;
        let storages = asked.map_err(|error| error.to_string())?;
        let active = storages.iter().filter(|storage| storage.active == 1);
        let ours = active.clone().filter(|storage| needs.storages.contains(&storage.name));
        let full: Vec<String> = ours
            .filter(|storage| storage.avail >> 30 < u64::from(needs.disk_gib))
            .map(|storage| format!("{} has {} GiB free", storage.name, storage.avail >> 30))
            .collect();
        if !full.is_empty() {
            let (told, gib) = (full.join(", "), needs.disk_gib);
            return Err(format!("storage on node {node} is full: {told}, and a disk takes {gib} GiB"));
        }
        let shown: Vec<String> =
            active.map(|storage| format!("{} ({} GiB free)", storage.name, storage.avail >> 30)).collect();
        if shown.is_empty() {
            return Err(format!("node {node} has no active storage for disks"));
        }
        Ok(format!("node {node} has storage for disks: {}", shown.join(", ")))
    }

    async fn is_template(&self, node: &str, vmid: Vmid) -> Result<String, String> {
        match self.look(node, vmid).await.map_err(|error| error.to_string())? {
            Looked::Machine(machine) if machine.is_template() => fit(&machine),
            Looked::Machine(_) | Looked::Foreign => Err(format!("{vmid} is no template")),
            Looked::Absent => Err(format!("there is no template {vmid}")),
        }
    }
}

fn online(node: &Node) -> Result<String, String> {
    match node.status.as_str() {
        "online" => Ok(format!("node {} is online", node.node)),
        other => Err(format!("node {} is {other}", node.node)),
    }
}

fn fit(template: &Machine) -> Result<String, String> {
    let vmid = template.vmid;
    if template.setting("net0").is_none() {
        return Err(format!("template {vmid} has no network card net0"));
    }
    Ok(format!("template {vmid} is on {}", template.node))
}
