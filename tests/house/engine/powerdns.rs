//! One PowerDNS authoritative server with its HTTP API, over LMDB files of its own: changes that begin
//! together wait for each other there, where `SQLite` refuses one of them.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use serde_json::json;
use url::Url;

use crate::place::{Place, give_to};
use crate::ports::free_port;
use crate::process::{Launch, Running};
use crate::tools::tool;

const READY_LIMIT: Duration = Duration::from_secs(20);
const GET_SERVER: &str = "sudo apt-get install pdns-server pdns-backend-lmdb";

/// A running PowerDNS.
#[derive(Debug)]
pub(crate) struct PowerDns {
    pub(crate) url: Url,
    pub(crate) api_key: String,
    /// Where it answers DNS questions on 127.0.0.1.
    pub(crate) dns_port: u16,
    server: Running,
    http: reqwest::Client,
}

impl PowerDns {
    pub(crate) async fn start(place: &Place) -> Result<Self> {
        let program = tool("pdns_server", GET_SERVER)?;
        let folder = place.data().join("powerdns");
        fs::create_dir(&folder)?;
        let (dns_port, api_port) = (free_port()?, free_port()?);
        let api_key = format!("{:032x}", rand::random::<u128>());
        // Rectifying reads the whole zone at every change; zones that are not signed do not need it.
        let settings = format!(
            "launch=lmdb\nlmdb-filename={folder}/zones.lmdb\nlmdb-shards=1\nlmdb-sync-mode=nosync\nlocal-address=127.0.0.1\nlocal-port={dns_port}\n\
             api=yes\napi-key={api_key}\nwebserver=yes\nwebserver-address=127.0.0.1\nwebserver-port={api_port}\n\
             webserver-allow-from=127.0.0.1\nsocket-dir={folder}\ndaemon=no\nguardian=no\ncache-ttl=0\nquery-cache-ttl=0\n\
             negquery-cache-ttl=0\nzone-cache-refresh-interval=0\ndefault-api-rectify=no\nloglevel=4\n",
            folder = folder.display(),
        );
        fs::write(folder.join("pdns.conf"), settings)?;
        for path in [folder.as_path(), &folder.join("pdns.conf")] {
            give_to(path, place.account())?;
        }
        let launch = Launch::new("powerdns", program)
            .args([format!("--config-dir={}", folder.display())])
            .as_account(place.account())
            .in_directory(&folder);
        let server = launch.start(&place.logs())?;
        let url: Url = format!("http://127.0.0.1:{api_port}").parse()?;
        let mut started = Self { url, api_key, dns_port, server, http: reqwest::Client::new() };
        let question =
            started.http.get(started.url.join("/api/v1/servers/localhost")?).header("X-API-Key", &started.api_key);
        let answered = || {
            let question = question.try_clone();
            async move {
                let Some(question) = question else { return false };
                question.send().await.is_ok_and(|answer| answer.status().is_success())
            }
        };
        started.server.wait_until(READY_LIMIT, answered).await?;
        Ok(started)
    }

    /// Makes an empty zone. `name` ends with a dot.
    pub(crate) async fn create_zone(&self, name: &str) -> Result<()> {
        let zone = json!({"name": name, "kind": "Native", "nameservers": ["ns1.example.test."]});
        let address = self.url.join("/api/v1/servers/localhost/zones")?;
        let answer = self.http.post(address).header("X-API-Key", &self.api_key).json(&zone).send().await?;
        let status = answer.status();
        if !status.is_success() {
            bail!("PowerDNS refused the zone {name} ({status}): {}", answer.text().await?);
        }
        Ok(())
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.server.stop(Signal::SIGTERM).await
    }
}

/// The reverse zone of a /16.
pub(crate) fn reverse_zone_v4(network: Ipv4Addr) -> String {
    let [first, second, ..] = network.octets();
    format!("{second}.{first}.in-addr.arpa.")
}

/// The reverse zone of a /64.
pub(crate) fn reverse_zone_v6(network: Ipv6Addr) -> String {
    let nibbles: Vec<String> =
        network.octets()[..8].iter().rev().map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4)).collect();
    format!("{}ip6.arpa.", nibbles.concat())
}

#[cfg(test)]
mod tests {
    use super::{reverse_zone_v4, reverse_zone_v6};

    #[test]
    fn reverse_zones_read_backwards() {
        assert_eq!(reverse_zone_v4("10.7.0.0".parse().expect("an address")), "7.10.in-addr.arpa.");
        let expected = "0.0.0.0.0.0.0.0.7.0.0.0.0.0.d.f.ip6.arpa.";
        assert_eq!(reverse_zone_v6("fd00:7::".parse().expect("an address")), expected);
    }
}
