//! Whether whoever asks is known by their own address, and not by that of a proxy before us.
use std::net::IpAddr;

use anyhow::bail;

use crate::{config::Config, network::Network, wiring};

/// Says whose word is believed; or that a proxy is not named, or does not say who asks.
pub(super) async fn check(config: &Config) -> anyhow::Result<String> {
    let trusted = &config.access.trusted_proxies;
    if trusted.is_empty() && config.site.scheme() == "https" {
        bail!("SITE_URL is https, so a proxy stands before `ez serve`, and none is named");
    }
    let seen = wiring::store(config)?.session_networks().await?;
    let seen: Vec<IpAddr> = seen.iter().filter_map(|text| text.parse().ok()).collect();
    match only_proxies(&seen, trusted) {
        Some(proxy) => bail!("everybody who was logged in within a day came from the proxy {proxy} itself"),
        None if trusted.is_empty() => Ok("none is named, and X-Forwarded-For is believed of nobody".to_owned()),
        None => Ok(format!("{} named; {} place(s) of log-ins within a day", trusted.len(), seen.len())),
    }
}

/// One of the proxies, when nobody came from anywhere else.
fn only_proxies(seen: &[IpAddr], trusted: &[Network]) -> Option<IpAddr> {
    let is_proxy = |address: &IpAddr| trusted.iter().any(|proxy| proxy.contains(*address));
    seen.iter().all(is_proxy).then(|| seen.first().copied()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_says_nobody_is_found_and_a_colleague_beside_it_is_not() {
        let trusted: Vec<Network> = vec!["10.0.0.0/8".parse().unwrap()];
        let seen = |list: &[&str]| -> Vec<IpAddr> { list.iter().map(|text| text.parse().unwrap()).collect() };
        assert_eq!(only_proxies(&seen(&["10.0.0.1", "10.0.0.2"]), &trusted), Some(seen(&["10.0.0.1"])[0]));
        assert_eq!(only_proxies(&seen(&["10.0.0.1", "203.0.113.9"]), &trusted), None);
        assert_eq!(only_proxies(&seen(&["10.0.0.1"]), &[]), None);
        assert_eq!(only_proxies(&[], &trusted), None);
    }
}
