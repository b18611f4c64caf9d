//! What would be unsafe with customers and money: what production refuses to start with, and what it may start with for a while.
use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::policy::SubscriptionPolicy;
use url::{Host, Url};

use super::{Config, Environment, door::HSTS_YEAR_SECS};
use crate::network;

/// How long a key that somebody chose has to be, in characters.
const SHORTEST_KEY: usize = 16;

/// Whether something is wrong, and how to say so.
type Rule = (bool, &'static str);

impl Config {
    /// What production refuses to start with; empty in development.
    pub(super) fn unsafe_settings(&self) -> Vec<String> {
        if self.environment == Environment::Development { vec![] } else { self.unsafe_with_customers() }
    }

    /// The same, whatever the environment is.
    pub(crate) fn unsafe_with_customers(&self) -> Vec<String> {
        let SubscriptionPolicy { suspend_after_secs, reminders_secs, .. } = &self.policy.subscription;
        let is_hasty = *suspend_after_secs < 86_400;
        // A reminder that would be due after the suspension is not sent.
        let is_reminded = reminders_secs.iter().any(|after_secs| after_secs < suspend_after_secs);
        let rules = [
            (self.site.scheme() != "https", "SITE_URL: production needs https"),
            (is_one_byte(self.secret_key.reveal()), "EZ_SECRET_KEY: not random; make one with openssl rand -base64 32"),
            (
                self.other_keys.iter().any(|key| is_one_byte(key.reveal())),
                "EZ_SECRET_KEYS_OTHER: not random, and links that are made with it would be believed",
            ),
            (!self.proxmox.verify_ssl, "PROXMOX_VERIFY_SSL: production needs a verified certificate"),
            (self.proxmox.url.scheme() != "https", "PROXMOX_URL: production needs https"),
            (is_test_key(self.stripe.secret_key.reveal()), "STRIPE_SECRET_KEY: a test key cannot take money"),
            (self.stripe.api.scheme() != "https", "EZ_STRIPE_API_URL: production needs https"),
            (
                self.stripe.page_origins.iter().any(|origin| !origin.starts_with("https://")),
                "EZ_STRIPE_PAGE_ORIGINS: production needs https",
            ),
            (
                self.stripe.webhook_secrets.iter().any(|s| s.reveal().len() < 20),
                "STRIPE_WEBHOOK_SECRET: shorter than 20 characters",
            ),
            (is_hasty, "EZ_POLICY_SUSPEND_AFTER_SECS: less than a day"),
            (self.policy.subscription.retention_secs < 86_400, "EZ_POLICY_RETENTION_SECS: less than a day"),
            (
                reminders_secs.is_empty() || (!is_hasty && !is_reminded),
                "EZ_POLICY_REMINDERS_SECS: nobody would be reminded before the suspension",
            ),
        ];
        let rules = rules.into_iter().chain(self.access.unsafe_settings()).chain(self.door.unsafe_settings());
        said(rules.chain(self.privacy.unsafe_settings()))
    }

    /// What production may start with, and should not stay with: `ez doctor --production` names it.
    pub(crate) fn unsafe_to_stay_with(&self) -> Vec<String> {
        let (hsts, stay) = (&self.door.hsts, &self.access.stay);
        said([
            (
                self.environment == Environment::Development,
                "EZ_ENVIRONMENT: not production, so mistakes would be let through",
            ),
            (self.door.csp_report_only, "EZ_CSP_REPORT_ONLY: what the content policy forbids is only reported"),
            (hsts.secs < HSTS_YEAR_SECS, "EZ_HSTS_SECS: less than a year"),
            (!hsts.subdomains, "EZ_HSTS_SUBDOMAINS: names beneath ours may be reached without TLS"),
            (
                self.access.limits.network > 1_000,
                "EZ_LIMIT_NETWORK: more than a thousand forms of one network within an hour",
            ),
            (self.access.staff_networks.is_empty(), "EZ_STAFF_NETWORKS: staff pages are there from everywhere"),
            (
                self.door.refused_passwords.is_empty(),
                "EZ_REFUSED_PASSWORDS: new passwords are not compared with a list of stolen ones",
            ),
            (stay.staff_idle_secs > 86_400, "EZ_SESSION_STAFF_IDLE_SECS: longer than a day"),
            (self.dns.api_key.reveal().len() < SHORTEST_KEY, "EZ_DNS_API_KEY: shorter than 16 characters"),
            (is_open(&self.dns.url), "EZ_DNS_URL: leaves our own network without TLS"),
            (is_open(&self.temporal.address), "TEMPORAL_ADDRESS: leaves our own network without TLS"),
            (is_open_mail(self.mail.smtp.reveal()), "EZ_SMTP_URL: letters would leave our own network without TLS"),
            (
                is_open_database(self.database_url.reveal()),
                "DATABASE_URL: leaves our own network without TLS that is verified; add sslmode=verify-full",
            ),
            (
                self.temporal.databases.iter().any(|url| is_open_database(url.reveal())),
                "EZ_TEMPORAL_DATABASE_URL: leaves our own network without TLS that is verified; add sslmode=verify-full",
            ),
            (
                self.observe.otlp_endpoint.as_ref().is_some_and(is_open),
                "OTEL_EXPORTER_OTLP_ENDPOINT: traces would leave our own network without TLS",
            ),
            (
                self.observe
                    .sentry_dsn
                    .as_ref()
                    .is_some_and(|dsn| dsn.reveal().parse::<Url>().is_ok_and(|url| is_open(&url))),
                "SENTRY_DSN: errors would leave our own network without TLS",
            ),
        ])
    }
}

fn said(rules: impl IntoIterator<Item = Rule>) -> Vec<String> {
    rules.into_iter().filter(|(broken, _)| *broken).map(|(_, fault)| fault.to_owned()).collect()
}

/// Secret and restricted keys of Stripe's test mode. Source: docs.stripe.com/keys.
fn is_test_key(key: &str) -> bool {
    key.starts_with("sk_test_") || key.starts_with("rk_test_")
}

/// Whether every byte of a key is the same: an example that was copied.
fn is_one_byte(key: &str) -> bool {
    STANDARD.decode(key).is_ok_and(|bytes| bytes.windows(2).all(|pair| pair.first() == pair.last()))
}

/// Whether what is sent there could be read on its way.
fn is_open(url: &Url) -> bool {
    url.scheme() != "https" && !is_inside(url)
}

fn is_open_mail(url: &str) -> bool {
    let Ok(url) = url.parse::<Url>() else { return false };
    let upgraded = url.query_pairs().any(|(name, value)| name == "tls" && value == "required");
    url.scheme() != "smtps" && !upgraded && !is_inside(&url)
}

fn is_open_database(url: &str) -> bool {
    let Ok(url) = url.parse::<Url>() else { return false };
    // What is said last counts. `require` takes any certificate, `verify-ca` one for any host.
    let modes = url.query_pairs().filter(|(name, _)| matches!(name.as_ref(), "sslmode" | "ssl-mode"));
    let is_verified = modes.last().is_some_and(|(_, value)| value.eq_ignore_ascii_case("verify-full"));
    !is_verified && !is_inside(&url)
}

/// Whether a host is beside us: an address no customer comes from, or a name without a dot, as containers have.
fn is_inside(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => match name.parse::<IpAddr>() {
            Ok(address) => network::is_inside(address),
            Err(_) => !name.contains('.') || name.ends_with(".internal"),
        },
        Some(Host::Ipv4(address)) => network::is_inside(address.into()),
        Some(Host::Ipv6(address)) => network::is_inside(address.into()),
        // A socket of this machine.
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_beside_us_may_travel_openly() {
        let open = |text: &str| is_open(&text.parse().unwrap());
        for inside in
            ["http://127.0.0.1:8081", "http://pdns:8081", "http://10.1.2.3/", "http://[::1]:1", "https://dns.example"]
        {
            assert!(!open(inside), "{inside}");
        }
        for outside in ["http://dns.example.com:8081", "http://203.0.113.9/"] {
            assert!(open(outside), "{outside}");
        }
        assert!(is_open_mail("smtp://mail.example.com") && is_open_mail("smtp://203.0.113.9:25"));
        assert!(!is_open_mail("smtps://mail.example.com") && !is_open_mail("smtp://mail.example.com?tls=required"));
        assert!(!is_open_mail("smtp://mailpit:1025"));
        assert!(is_open_database("postgres://ez@db.example.com/ez"));
        assert!(!is_open_database("postgres://ez@db.example.com/ez?sslmode=verify-full"));
        for mode in ["sslmode=prefer", "sslmode=require", "sslmode=verify-ca", "sslmode=verify-full&ssl-mode=require"] {
            assert!(is_open_database(&format!("postgres://ez@db.example.com/ez?{mode}")), "{mode}");
        }
        assert!(!is_open_database("postgres://ez@localhost/ez") && !is_open_database("postgres:///ez"));
        assert!(!is_open_database("sqlite:///var/lib/temporal.db"));
    }

    #[test]
    fn an_example_is_no_key() {
        assert!(is_one_byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
        assert!(!is_one_byte("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="));
        assert!(is_test_key("sk_test_x") && is_test_key("rk_test_x") && !is_test_key("sk_live_x"));
    }
}
