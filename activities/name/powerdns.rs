//! PowerDNS: records over its HTTP API. Its words stop here.
//!
//! *Source*: PowerDNS Authoritative Server, "Built-in Webserver and HTTP API". A PATCH with REPLACE sets a whole set of
//! records; names must be canonical (lower case, final dot).
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::sleep;
use url::Url;

use crate::{
    call::{Kind, timed, trace_headers},
    fault::{Fault, Vendor},
};

const CALL_LIMIT: Duration = Duration::from_secs(4);
/// When a change is asked for again that the server refused because it was busy with another.
const PAUSES: [Duration; 3] = [Duration::from_millis(20), Duration::from_millis(60), Duration::from_millis(180)];
const ANSWER_LIMIT_BYTES: usize = 16 << 20;
const MESSAGE_LIMIT: usize = 200;
/// How long resolvers may keep a record.
const TTL_SECS: u32 = 300;
const SERVER: &str = "api/v1/servers/localhost";

/// One service's name and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The whole name, canonical.
    pub name: String,
    /// What its A record says.
    pub ipv4: Ipv4Addr,
    /// What its AAAA record says.
    pub ipv6: Ipv6Addr,
}

/// Why something on PowerDNS did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum PowerDnsError {
    /// The settings do not make a client.
    #[error("the settings for PowerDNS do not fit")]
    Settings,
    /// No connection: nothing was asked.
    #[error("PowerDNS is not reachable")]
    Unreached(#[source] reqwest::Error),
    /// Asked, but the answer never came, or cannot be read.
    #[error("the answer of PowerDNS never came")]
    Unanswered(#[source] reqwest::Error),
    /// The answer cannot be read.
    #[error("the answer of PowerDNS cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// A change was answered otherwise than PowerDNS does: with 204 and nothing else.
    #[error("a change was answered with {0}, which PowerDNS does not do")]
    Strange(u16),
    /// The answer is longer than we are willing to read.
    #[error("the answer of PowerDNS is too long")]
    TooLong,
    /// Refused, with PowerDNS's words.
    #[error("PowerDNS answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The list of zones has not one: what answered so is not the server that holds our records.
    #[error("the name server lists no zone at all")]
    NoZones,
    /// No zone holds the name.
    #[error("no zone of the name server holds {0}; create it there, then retry")]
    NoZone(String),
}

impl PowerDnsError {
    /// What it means to a workflow; `doing` is for staff.
    pub fn into_fault(self, doing: &str) -> Fault {
        match &self {
            Self::Unanswered(_) | Self::Unreadable(_) | Self::Strange(_) | Self::TooLong | Self::NoZones => {
                Vendor::PowerDns.outcome_unknown(doing, self)
            }
            Self::Unreached(_) | Self::Refused { status: 408 | 409 | 429 | 500..=599, .. } => {
                Vendor::PowerDns.try_again(doing, self)
            }
            Self::Refused { .. } | Self::NoZone(_) | Self::Settings => {
                let reason = self.to_string();
                Vendor::PowerDns.give_up_over(doing, reason, self)
            }
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Zone {
    /// How its address writes it; a slash in a name is written differently there.
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct ZoneContents {
    rrsets: Vec<RecordSet>,
}

#[derive(Deserialize)]
struct RecordSet {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    records: Vec<Record>,
}

#[derive(Deserialize, Serialize)]
struct Record {
    content: String,
    #[serde(default)]
    disabled: bool,
}

#[derive(Serialize)]
struct Change {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    changetype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u32>,
    records: Vec<Record>,
}

#[derive(Serialize)]
struct Changes {
    rrsets: Vec<Change>,
}

/// One record we publish, alone in its set.
struct Entry {
    name: String,
    kind: &'static str,
    content: String,
}

impl Entry {
    fn replacing(&self) -> Change {
        Change {
            name: self.name.clone(),
            kind: self.kind,
            changetype: "REPLACE",
            ttl: Some(TTL_SECS),
            records: vec![Record { content: self.content.clone(), disabled: false }],
        }
    }
}

/// A PowerDNS authoritative server.
#[derive(Clone)]
pub struct PowerDnsApi {
    http: reqwest::Client,
    base: Url,
    zone: String,
}

impl PowerDnsApi {
    /// Prepares the connection; nothing is asked yet. `zone` is where names are published, such as `vps.example.test.`.
    pub fn new(url: &Url, api_key: &str, zone: &str) -> Result<Self, PowerDnsError> {
        let mut key = HeaderValue::from_str(api_key).map_err(|_| PowerDnsError::Settings)?;
        key.set_sensitive(true);
        let http = reqwest::Client::builder()
            .default_headers(HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), key)]))
            .timeout(CALL_LIMIT)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|_| PowerDnsError::Settings)?;
        let mut base = url.clone();
        base.set_path(&format!("{}/{SERVER}/", url.path().trim_end_matches('/')));
        Ok(Self { http, base, zone: super::canonical(zone) })
    }

    /// Publishes a name forward and backward.
    ///
    /// *Idempotence*: whole sets are replaced, so the same again changes nothing. *Errors*: [`PowerDnsError::NoZone`] before
    /// anything is written, where a zone is missing.
    pub async fn publish(&self, published: &Published) -> Result<(), PowerDnsError> {
        let zones = self.zones().await?;
        let held = entries(published).into_iter().map(|entry| zone_of(&zones, &entry.name).map(|zone| (zone, entry)));
        let held: Vec<_> = held.collect::<Result<_, _>>()?;
        for together in held.chunk_by(|one, next| one.0.id == next.0.id) {
            let Some((zone, _)) = together.first() else { continue };
            self.change(zone, together.iter().map(|(_, entry)| entry.replacing()).collect()).await?;
        }
        Ok(())
    }

    /// Takes back what was published, where it still says what we wrote.
    ///
    /// *Idempotence*: a set or a record that is not there, or that says something else, is done; so is a reverse zone that is
    /// not there. *Errors*: [`PowerDnsError::NoZones`] or [`PowerDnsError::NoZone`] where the list lacks the zone that names are
    /// published in: nothing in it says then that our records are gone.
    pub async fn withdraw(&self, published: &Published) -> Result<(), PowerDnsError> {
        let zones = self.zones().await?;
        if zones.is_empty() {
            return Err(PowerDnsError::NoZones);
        }
        zone_of(&zones, &published.name)?;
        for entry in entries(published) {
            let Ok(zone) = zone_of(&zones, &entry.name) else { continue };
            if !self.says(zone, &entry).await? {
                continue;
            }
            let change =
                Change { name: entry.name, kind: entry.kind, changetype: "DELETE", ttl: None, records: Vec::new() };
            self.change(zone, vec![change]).await?;
        }
        Ok(())
    }

    /// Asks what publishing will need and gives one line about what is well.
    pub async fn check(&self) -> Result<String, PowerDnsError> {
        let zones = self.zones().await?;
        let found = zone_of(&zones, &self.zone)?;
        let reverse = zones.iter().filter(|zone| zone.name.ends_with(".arpa.")).count();
        if reverse == 0 {
            return Err(PowerDnsError::NoZone("any address (in-addr.arpa, ip6.arpa)".to_owned()));
        }
        Ok(format!("names go to the zone {}; {reverse} reverse zones", found.name))
    }

    /// The zone that names are published in, canonical.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    async fn zones(&self) -> Result<Vec<Zone>, PowerDnsError> {
        self.read(self.request(Method::GET, "zones")).await
    }

    async fn says(&self, zone: &Zone, entry: &Entry) -> Result<bool, PowerDnsError> {
        let question = self.request(Method::GET, &format!("zones/{}", zone.id));
        let contents: ZoneContents =
            self.read(question.query(&[("rrset_name", entry.name.as_str()), ("rrset_type", entry.kind)])).await?;
        let set = contents.rrsets.into_iter().find(|set| set.name == entry.name && set.kind == entry.kind);
        Ok(set.is_some_and(|set| matches!(set.records.as_slice(), [only] if same(&only.content, &entry.content))))
    }

    /// Changes sets of one zone. A name server over `SQLite` answers 500 to one of two changes that begin together: it is
    /// asked for again at once.
    async fn change(&self, zone: &Zone, changes: Vec<Change>) -> Result<(), PowerDnsError> {
        let changes = Changes { rrsets: changes };
        for pause in PAUSES {
            match self.try_change(zone, &changes).await {
                Err(PowerDnsError::Refused { status: 500, .. }) => sleep(pause).await,
                done => return done,
            }
        }
        self.try_change(zone, &changes).await
    }

    async fn try_change(&self, zone: &Zone, changes: &Changes) -> Result<(), PowerDnsError> {
        let request = self.request(Method::PATCH, &format!("zones/{}", zone.id));
        let (status, text) = self.send(Kind::Write, request.json(changes)).await?;
        // Any other success is not the name server's: a page of something before it, say.
        if (status, text.is_empty()) == (StatusCode::NO_CONTENT, true) {
            return Ok(());
        }
        Err(PowerDnsError::Strange(status.as_u16()))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut address = self.base.clone();
        address.set_path(&format!("{}{path}", self.base.path()));
        self.http.request(method, address)
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, PowerDnsError> {
        serde_json::from_slice(&self.send(Kind::Read, request).await?.1).map_err(PowerDnsError::Unreadable)
    }

    async fn send(&self, kind: Kind, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), PowerDnsError> {
        timed(Vendor::PowerDns, kind, answered(request)).await
    }
}

async fn answered(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), PowerDnsError> {
    let answer = request.headers(trace_headers()).send().await.map_err(lost)?;
    let status = answer.status();
    let text = body(answer).await?;
    if status.is_success() {
        return Ok((status, text));
    }
    // Some refusals are JSON with an `error`, some plain text.
    let parsed: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let message = parsed["error"].as_str().map_or_else(|| String::from_utf8_lossy(&text), Into::into);
    let message = message.trim().chars().take(MESSAGE_LIMIT).collect();
    Err(PowerDnsError::Refused { status: status.as_u16(), message })
}

async fn body(mut answer: Response) -> Result<Vec<u8>, PowerDnsError> {
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(lost)? {
        if text.len() + chunk.len() > ANSWER_LIMIT_BYTES {
            return Err(PowerDnsError::TooLong);
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

fn lost(source: reqwest::Error) -> PowerDnsError {
    let source = source.without_url();
    if source.is_connect() { PowerDnsError::Unreached(source) } else { PowerDnsError::Unanswered(source) }
}

fn entries(published: &Published) -> [Entry; 4] {
    let Published { name, ipv4, ipv6 } = published;
    let entry = |name: &str, kind, content: String| Entry { name: name.to_owned(), kind, content };
    [
        entry(name, "A", ipv4.to_string()),
        entry(name, "AAAA", ipv6.to_string()),
        entry(&reverse((*ipv4).into()), "PTR", name.clone()),
        entry(&reverse((*ipv6).into()), "PTR", name.clone()),
    ]
}

/// The longest zone a name lies in.
fn zone_of<'a>(zones: &'a [Zone], name: &str) -> Result<&'a Zone, PowerDnsError> {
    let holds = |zone: &&Zone| name.strip_suffix(&zone.name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    zones.iter().filter(holds).max_by_key(|zone| zone.name.len()).ok_or_else(|| PowerDnsError::NoZone(name.to_owned()))
}

/// The name an address is looked up by. Source: RFC 1035, section 3.5; RFC 3596, section 2.5.
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev().map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4));
            nibbles.chain(["ip6.arpa.".to_owned()]).collect()
        }
    }
}

/// Whether two contents say the same: addresses have many spellings, names two.
fn same(one: &str, other: &str) -> bool {
    match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names_read_backwards() {
        assert_eq!(reverse("192.0.2.7".parse().expect("an address")), "7.2.0.192.in-addr.arpa.");
        assert_eq!(
            reverse("2001:db8::567:89ab".parse().expect("an address")),
            "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
        );
    }

    #[test]
    fn a_name_belongs_to_the_longest_zone_that_holds_it() {
        let zone = |name: &str| Zone { id: name.to_owned(), name: name.to_owned() };
        let zones = [zone("192.in-addr.arpa."), zone("2.0.192.in-addr.arpa."), zone("12.0.192.in-addr.arpa.")];
        let found = |name: &str| zone_of(&zones, name).map(|zone| zone.name.clone()).ok();
        assert_eq!(found("7.2.0.192.in-addr.arpa.").as_deref(), Some("2.0.192.in-addr.arpa."));
        assert_eq!(found("7.12.0.192.in-addr.arpa.").as_deref(), Some("12.0.192.in-addr.arpa."));
        assert_eq!(found("7.9.9.192.in-addr.arpa.").as_deref(), Some("192.in-addr.arpa."));
        assert_eq!(found("7.9.9.193.in-addr.arpa."), None);
    }

    #[test]
    fn records_are_compared_by_what_they_mean() {
        assert!(same("2001:db8::1", "2001:0db8:0:0::1"));
        assert!(same("Web.example.test.", "web.example.test."));
        assert!(!same("192.0.2.1", "192.0.2.10"));
    }

    #[test]
    fn a_missing_zone_waits_for_staff_and_a_busy_server_does_not() {
        let kind = |error: PowerDnsError| error.into_fault("publishing").kind();
        assert_eq!(kind(PowerDnsError::NoZone("x.".to_owned())), "give_up");
        assert_eq!(kind(PowerDnsError::NoZones), "outcome_unknown");
        let refused = |status| PowerDnsError::Refused { status, message: String::new() };
        assert_eq!(kind(refused(422)), "give_up");
        assert_eq!(kind(refused(401)), "give_up");
        assert_eq!(kind(refused(409)), "try_again");
        assert_eq!(kind(refused(502)), "try_again");
        assert_eq!(kind(PowerDnsError::Strange(200)), "outcome_unknown");
    }
}
