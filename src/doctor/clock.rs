//! Whether our clock agrees with the others': signatures of webhooks, waits and periods of payment all depend on it.
use std::{
    fs,
    time::{Duration, SystemTime},
};

use anyhow::bail;
use reqwest::{Certificate, header::DATE, redirect};
use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};
use url::Url;

use crate::{config::Config, wiring};

/// More than this is drift. An answer's own way is far shorter, and a signature may be 300 s old.
const DRIFT_MAX: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Says whose clock ours agrees with, or whose it does not. Who does not answer has a line of its own already.
pub(super) async fn check(config: &Config) -> anyhow::Result<String> {
    let mut clocks = vec![];
    if let Ok(Ok(now)) = tokio::time::timeout(ANSWER_LIMIT, wiring::store(config)?.clock()).await {
        clocks.push(("the database", drift(now)));
    }
    let http = client(config)?;
    let vendors = [("Stripe", &config.stripe.api), ("Proxmox VE", &config.proxmox.url), ("PowerDNS", &config.dns.url)];
    for (who, address) in vendors {
        if let Some(now) = date_of(&http, address).await {
            clocks.push((who, drift(now)));
        }
    }
    let off: Vec<String> =
        clocks.iter().filter(|(_, secs)| secs.unsigned_abs() > DRIFT_MAX.as_secs()).map(words).collect();
    if !off.is_empty() {
        bail!("{}", off.join("; "));
    }
    let agree: Vec<&str> = clocks.iter().map(|(who, _)| *who).collect();
    Ok(format!("agrees with {}", if agree.is_empty() { "nobody: none was heard".to_owned() } else { agree.join(", ") }))
}

fn words((who, secs): &(&str, i64)) -> String {
    let direction = if *secs > 0 { "ahead of" } else { "behind" };
    format!("the clock of {who} is {} s {direction} ours", secs.unsigned_abs())
}

/// Seconds that clock is ahead of ours.
fn drift(theirs: OffsetDateTime) -> i64 {
    (theirs - OffsetDateTime::from(SystemTime::now())).whole_seconds()
}

fn client(config: &Config) -> anyhow::Result<reqwest::Client> {
    let proxmox = &config.proxmox;
    let mut http = reqwest::Client::builder()
        .timeout(ANSWER_LIMIT)
        .redirect(redirect::Policy::none())
        .tls_danger_accept_invalid_certs(!proxmox.verify_ssl);
    if let Some(file) = &proxmox.ca_file {
        http = http.tls_certs_merge(Certificate::from_pem_bundle(&fs::read(file)?)?);
    }
    Ok(http.build()?)
}

/// The date any answer carries, a refusal's too. Source: RFC 9110, sections 5.6.7 and 6.6.1.
async fn date_of(http: &reqwest::Client, address: &Url) -> Option<OffsetDateTime> {
    let answer = http.get(address.clone()).send().await.ok()?;
    read_date(answer.headers().get(DATE)?.to_str().ok()?)
}

fn read_date(text: &str) -> Option<OffsetDateTime> {
    let shape =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    PrimitiveDateTime::parse(text, &shape).ok().map(PrimitiveDateTime::assume_utc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        let read = read_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        assert_eq!(read.unix_timestamp(), 784_111_777);
        assert!(read_date("yesterday").is_none());
    }
}
