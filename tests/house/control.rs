//! Small clients for what a test asks of the world outside the portal: the stand-ins' control APIs, the mailbox, the names.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::StatusCode;
use serde_json::{Value, json};
use url::Url;

use crate::options::Post;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A stand-in's control API: faults, requests seen, state.
#[derive(Clone, Debug)]
pub struct Control {
    base: Url,
    http: reqwest::Client,
}

impl Control {
    pub(crate) fn new(base: Url) -> Self {
        Self { base, http: reqwest::Client::new() }
    }

    /// The same with a new connection for each question, for who closes those that rest.
    pub(crate) fn unpooled(base: Url) -> Result<Self> {
        Ok(Self { base, http: reqwest::Client::builder().pool_max_idle_per_host(0).build()? })
    }

    /// Where it listens.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Switches a fault on and gives its id; the stand-ins document the kinds.
    pub async fn add_fault(&self, fault: Value) -> Result<u64> {
        let answer = self.post("/_control/faults", fault).await?;
        answer["id"].as_u64().with_context(|| format!("no id in {answer}"))
    }

    /// Switches every fault off.
    pub async fn clear_faults(&self) -> Result<()> {
        self.delete("/_control/faults").await
    }

    /// Switches one fault off; off already is no error.
    pub async fn remove_fault(&self, id: u64) -> Result<()> {
        self.delete(&format!("/_control/faults/{id}")).await
    }

    /// The vendor requests seen, oldest first; only those whose path contains `part` when it is given.
    pub async fn requests(&self, part: Option<&str>) -> Result<Vec<Value>> {
        let mut url = self.base.join("/_control/requests")?;
        if let Some(part) = part {
            url.query_pairs_mut().append_pair("path", part);
        }
        let answer = answered(self.http.get(url)).await?;
        let list = answer.as_array().or_else(|| answer["requests"].as_array()).cloned();
        list.with_context(|| format!("no list of requests in {answer}"))
    }

    /// Forgets the requests seen so far.
    pub async fn forget_requests(&self) -> Result<()> {
        self.delete("/_control/requests").await
    }

    /// Everything the stand-in holds, as it documents it.
    pub async fn state(&self) -> Result<Value> {
        self.get("/_control/state").await
    }

    /// Any other call of its control API.
    pub async fn get(&self, path: &str) -> Result<Value> {
        answered(self.http.get(self.base.join(path)?)).await
    }

    /// Any other call of its control API.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        answered(self.http.post(self.base.join(path)?).json(&body)).await
    }

    /// Any other call of its control API.
    pub async fn delete(&self, path: &str) -> Result<()> {
        answered(self.http.delete(self.base.join(path)?)).await.map(drop)
    }
}

/// Sends and gives the JSON answered, `null` for an empty body.
///
/// *Errors*: no answer, or one that is not a success, with its text.
pub(crate) async fn answered(request: reqwest::RequestBuilder) -> Result<Value> {
    let answer = request.send().await?;
    let (status, url, text) = (answer.status(), answer.url().clone(), answer.text().await?);
    if !status.is_success() {
        bail!("{url} answered {status}: {text}");
    }
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).with_context(|| format!("{url} answered no JSON: {text}"))
}

/// One letter that was delivered.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The mailbox's own id.
    pub id: String,
    /// Its Message-ID: the same letter given twice has the same one.
    pub message_id: String,
    /// Its subject.
    pub subject: String,
    /// Its text part.
    pub text: String,
    /// Its HTML part.
    pub html: String,
}

impl Letter {
    /// The first link in the text that contains `part`.
    pub fn link(&self, part: &str) -> Result<Url> {
        let mut words = self.text.split(|letter: char| letter.is_whitespace() || matches!(letter, '<' | '>' | '"'));
        let link = words.find(|word| word.starts_with("http") && word.contains(part));
        link.with_context(|| format!("no link with {part} in the letter “{}”:\n{}", self.subject, self.text))?
            .parse()
            .map_err(Into::into)
    }
}

/// Every letter sent.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// The stand-in's control API; the REST of maildev in a house that hands its letters to it.
    pub control: Control,
    pub(crate) post: Post,
}

impl Mailbox {
    /// The letters to `address` whose subject contains `subject` in any case, oldest first.
    pub async fn letters(&self, address: &str, subject: &str) -> Result<Vec<Letter>> {
        if self.post == Post::Maildev {
            return self.letters_at_maildev(address, subject).await;
        }
        let mut url = self.control.base.join("/api/v1/search")?;
        url.query_pairs_mut().append_pair("query", &format!("to:{address}")).append_pair("limit", "500");
        let answer = answered(self.control.http.get(url)).await?;
        let mut found = answer["messages"].as_array().cloned().with_context(|| format!("no messages in {answer}"))?;
        found.sort_by_key(|message| message["Created"].as_str().map(str::to_owned));
        let mut letters = Vec::new();
        for message in found {
            let its_subject = message["Subject"].as_str().unwrap_or_default().to_lowercase();
            if its_subject.contains(&subject.to_lowercase()) {
                letters.push(self.letter(message["ID"].as_str().context("a message without an ID")?).await?);
            }
        }
        Ok(letters)
    }

    /// maildev lists whole messages, in no order after it was started again.
    async fn letters_at_maildev(&self, address: &str, subject: &str) -> Result<Vec<Letter>> {
        let answer = self.control.get("/email").await?;
        let mut found = answer.as_array().cloned().with_context(|| format!("no messages in {answer}"))?;
        found.sort_by_key(|message| text_of(&message["time"]));
        let mut letters = Vec::new();
        for message in found {
            let text = |name: &str| text_of(&message[name]);
            let mut receivers = message["to"].as_array().into_iter().flatten();
            let is_to = receivers.any(|to| text_of(&to["address"]).eq_ignore_ascii_case(address));
            if is_to && text("subject").to_lowercase().contains(&subject.to_lowercase()) {
                letters.push(Letter {
                    id: text("id"),
                    message_id: text("messageId"),
                    subject: text("subject"),
                    text: text("text"),
                    html: text("html"),
                });
            }
        }
        Ok(letters)
    }

    async fn letter(&self, id: &str) -> Result<Letter> {
        let message = self.control.get(&format!("/api/v1/message/{id}")).await?;
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let id = id.to_owned();
        Ok(Letter {
            id,
            message_id: text("MessageID"),
            subject: text("Subject"),
            text: text("Text"),
            html: text("HTML"),
        })
    }

    /// Waits for the letter number `nth` (from 1) to `address` whose subject contains `subject`.
    ///
    /// *Errors*: it did not come within `limit`; the error lists what came instead.
    pub async fn wait_for(&self, address: &str, subject: &str, nth: usize, limit: Duration) -> Result<Letter> {
        let until = Instant::now() + limit;
        loop {
            let letters = self.letters(address, subject).await?;
            if let Some(letter) = letters.into_iter().nth(nth.saturating_sub(1)) {
                return Ok(letter);
            }
            if Instant::now() >= until {
                let came: Vec<String> =
                    self.letters(address, "").await?.into_iter().map(|letter| letter.subject).collect();
                bail!(
                    "no letter number {nth} to {address} with “{subject}” in its subject within {} s; came: {came:?}",
                    limit.as_secs()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// One DNS record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// With a dot at the end.
    pub name: String,
    /// `A`, `AAAA`, `PTR` …
    pub kind: String,
    /// As in a zone file.
    pub content: String,
}

/// The names of one house: its zone and its two reverse zones.
#[derive(Clone, Debug)]
pub struct Names {
    pub(crate) url: Url,
    pub(crate) api_key: String,
    pub(crate) zones: Vec<String>,
    pub(crate) dns_port: u16,
    pub(crate) http: reqwest::Client,
}

impl Names {
    /// Where DNS questions are answered, over UDP and TCP on 127.0.0.1.
    pub fn dns_port(&self) -> u16 {
        self.dns_port
    }

    /// Removes the two reverse zones from the server; removed already is no error.
    pub async fn remove_reverse_zones(&self) -> Result<()> {
        for zone in self.zones.iter().skip(1) {
            let url = self.url.join(&format!("/api/v1/servers/localhost/zones/{zone}"))?;
            let answer = self.http.delete(url).header("X-API-Key", &self.api_key).send().await?;
            let status = answer.status();
            if !status.is_success() && status != StatusCode::NOT_FOUND {
                bail!("PowerDNS did not remove {zone} ({status}): {}", answer.text().await?);
            }
        }
        Ok(())
    }

    /// Every record in the house's zones beside those that make a zone (SOA, NS), sorted. A zone that was removed has none.
    pub async fn records(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for zone in &self.zones {
            let url = self.url.join(&format!("/api/v1/servers/localhost/zones/{zone}"))?;
            let answer = self.http.get(url).header("X-API-Key", &self.api_key).send().await?;
            if answer.status() == StatusCode::NOT_FOUND {
                continue;
            }
            let answer: Value = answer.error_for_status()?.json().await?;
            for set in answer["rrsets"].as_array().into_iter().flatten() {
                let (name, kind) = (text_of(&set["name"]), text_of(&set["type"]));
                for record in set["records"].as_array().into_iter().flatten() {
                    records.push(Record {
                        name: name.clone(),
                        kind: kind.clone(),
                        content: text_of(&record["content"]),
                    });
                }
            }
        }
        records.retain(|record| !matches!(record.kind.as_str(), "SOA" | "NS"));
        records.sort();
        Ok(records)
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// One VM on the cluster that is not a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its name.
    pub name: String,
    /// `running` or `stopped`.
    pub status: String,
    /// Its node.
    pub node: String,
}

/// The cluster as its owner sees it.
#[derive(Clone, Debug)]
pub enum Machines {
    /// Our stand-in, asked through its control API.
    StandIn(Control),
    /// fakepve, asked through the API of Proxmox itself.
    Fakepve {
        /// Makes one of its own scenarios happen.
        acts: Control,
        /// Its HTTPS address.
        url: Url,
        /// The value of its `Authorization` header.
        authorization: String,
        /// A client that trusts its certificate.
        http: reqwest::Client,
    },
}

impl Machines {
    /// Every VM that is not a template, by its number.
    pub async fn vms(&self) -> Result<BTreeMap<u32, Vm>> {
        let rows: Vec<(u32, Value)> = match self {
            Self::StandIn(control) => {
                let state = control.state().await?;
                let vms = state["vms"].as_object().cloned().with_context(|| format!("no vms in {state}"))?;
                vms.into_iter().filter_map(|(vmid, vm)| vmid.parse().ok().map(|vmid| (vmid, vm))).collect()
            }
            Self::Fakepve { url, authorization, http, .. } => {
                let address = url.join("/api2/json/cluster/resources?type=vm")?;
                let answer = answered(http.get(address).header("Authorization", authorization)).await?;
                let rows = answer["data"].as_array().cloned().unwrap_or_default();
                rows.into_iter().filter_map(|row| Some((u32::try_from(row["vmid"].as_u64()?).ok()?, row))).collect()
            }
        };
        let is_template = |row: &Value| row["template"] == json!(true) || row["template"] == json!(1);
        let vms = rows.into_iter().filter(|(_, row)| !is_template(row)).map(|(vmid, row)| {
            (vmid, Vm { name: text_of(&row["name"]), status: text_of(&row["status"]), node: text_of(&row["node"]) })
        });
        Ok(vms.collect())
    }

    /// What a VM is configured with, in Proxmox's words.
    pub async fn config(&self, vmid: u32) -> Result<Value> {
        let config = match self {
            Self::StandIn(control) => control.state().await?["vms"][vmid.to_string()]["config"].clone(),
            Self::Fakepve { url, authorization, http, .. } => {
                let vms = self.vms().await?;
                let node = &vms.get(&vmid).with_context(|| format!("no machine {vmid} in {vms:?}"))?.node;
                let address = url.join(&format!("/api2/json/nodes/{node}/qemu/{vmid}/config"))?;
                answered(http.get(address).header("Authorization", authorization)).await?["data"].clone()
            }
        };
        let found = Some(config).filter(|config| !config.is_null());
        found.with_context(|| format!("nothing configures machine {vmid}"))
    }

    /// The stand-in's control API.
    ///
    /// *Errors*: the house runs on fakepve, which has none.
    pub fn control(&self) -> Result<&Control> {
        match self {
            Self::StandIn(control) => Ok(control),
            Self::Fakepve { .. } => bail!("fakepve has no control API"),
        }
    }

    /// Makes one of fakepve's own scenarios happen; its launcher lists them.
    ///
    /// *Errors*: the house runs on the stand-in, or fakepve refused.
    pub async fn act(&self, name: &str, args: Value) -> Result<()> {
        match self {
            Self::StandIn(_) => bail!("the stand-in has faults instead"),
            Self::Fakepve { acts, .. } => {
                acts.post("/_control/acts", json!({"act": name, "args": args})).await.map(drop)
            }
        }
    }
}
