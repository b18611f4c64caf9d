//! The settings of the door: names it answers to, patience with slow clients, what browsers are told, and who may sign up.
use std::{fs, sync::Arc};

use url::Url;
use zeroize::Zeroizing;

use super::{Reader, Secret, list};
use crate::web::password::SHORTEST;

/// A year, in seconds: what browsers should be told of HTTPS in the end. Source: OWASP ASVS 5.0, 3.4.1.
pub(super) const HSTS_YEAR_SECS: u32 = 31_536_000;
/// Providers of addresses that anybody reads, or that vanish within the hour.
const DISPOSABLE: &str = include_str!("disposable.txt");

/// For how long browsers are to come back by HTTPS alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HstsConfig {
    /// How long, in seconds; nought takes it back.
    pub(crate) secs: u32,
    /// Whether every name beneath ours is meant, too.
    pub(crate) subdomains: bool,
    /// Whether browsers may carry our name in the list they are delivered with.
    pub(crate) preload: bool,
}

/// The check that whoever signs up is a person, by Cloudflare Turnstile.
#[derive(Clone)]
pub(crate) struct TurnstileConfig {
    /// The public key, for the page.
    pub(crate) site_key: String,
    /// The secret key, for our question.
    pub(crate) secret: Secret,
    /// Where script and check are.
    pub(crate) url: Url,
}

/// Domains whose addresses are not taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct RefusedDomains(Arc<[String]>);

impl RefusedDomains {
    /// Whether an address in lower case belongs to one of them, or to a name beneath one.
    pub(crate) fn refuses(&self, email: &str) -> bool {
        let Some((_, mut host)) = email.rsplit_once('@') else { return false };
        loop {
            if self.0.binary_search_by(|known| known.as_str().cmp(host)).is_ok() {
                return true;
            }
            match host.split_once('.') {
                Some((_, parent)) => host = parent,
                None => return false,
            }
        }
    }

    /// Reads `disposable`, domains, and absolute paths of files with a domain on each line. Lines that begin with # are not read.
    fn read(given: &str) -> Result<Self, String> {
        let mut all = vec![];
        for part in list(given) {
            let text = match part {
                "off" => String::new(),
                "disposable" => DISPOSABLE.to_owned(),
                path if path.starts_with('/') => {
                    fs::read_to_string(path).map_err(|fault| format!("{path} cannot be read: {fault}"))?
                }
                domain if domain.contains('.') => domain.to_owned(),
                other => return Err(format!("{other} is no domain, no path and not one of off, disposable")),
            };
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            all.extend(lines.map(str::to_lowercase));
        }
        all.sort_unstable();
        all.dedup();
        Ok(Self(all.into()))
    }
}

/// How long a list of passwords may be: every process keeps it.
const LONGEST_LIST_BYTES: u64 = 64 << 20;

/// Passwords that nobody may choose: those of lists of stolen ones.
#[derive(Clone, Default)]
pub(crate) struct RefusedPasswords(Arc<[String]>);

impl RefusedPasswords {
    /// Whether a password in lower case is one of them.
    pub(crate) fn refuses(&self, password: &str) -> bool {
        self.0.binary_search_by(|known| known.as_str().cmp(password)).is_ok()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads absolute paths of files with a password on each line. What is too short to be chosen is not kept.
    fn read(given: &str) -> Result<Self, String> {
        let mut all = vec![];
        for path in list(given) {
            if !path.starts_with('/') {
                return Err(format!("{path} is no absolute path"));
            }
            let unread = |fault| format!("{path} cannot be read: {fault}");
            if fs::metadata(path).map_err(unread)?.len() > LONGEST_LIST_BYTES {
                return Err(format!(
                    "{path} is longer than {} MiB, and every process keeps it",
                    LONGEST_LIST_BYTES >> 20
                ));
            }
            let bytes = fs::read(path).map_err(unread)?;
            // Not everything that was stolen is in UTF-8; what is not fits nothing that is typed.
            let text = String::from_utf8_lossy(&bytes);
            all.extend(text.lines().filter(|line| line.chars().count() >= SHORTEST).map(str::to_lowercase));
        }
        all.sort_unstable();
        all.dedup();
        Ok(Self(all.into()))
    }
}

/// What the door needs to know.
#[derive(Clone)]
pub(crate) struct DoorConfig {
    /// Names it answers to besides that of the site, each with or without a port.
    pub(crate) hosts: Vec<String>,
    /// How long a client may take for the head of a request, for its body, and to take what we send.
    pub(crate) patience_secs: u32,
    /// How many connections there may be at once.
    pub(crate) connections: u32,
    /// Whether what the content policy forbids is only reported.
    pub(crate) csp_report_only: bool,
    /// HTTPS alone.
    pub(crate) hsts: HstsConfig,
    /// Whether whoever signs up has to be a person.
    pub(crate) turnstile: Option<TurnstileConfig>,
    /// Whose addresses are not taken.
    pub(crate) refused_domains: RefusedDomains,
    /// Which passwords nobody may choose.
    pub(crate) refused_passwords: RefusedPasswords,
}

impl Reader<'_> {
    pub(super) fn door(&mut self) -> Option<DoorConfig> {
        let names = self.optional::<String>("EZ_WEB_HOSTS").unwrap_or_default();
        let (patience, connections) = (self.parsed("EZ_WEB_PATIENCE_SECS"), self.parsed("EZ_WEB_CONNECTIONS"));
        if [patience, connections].contains(&Some(0)) {
            self.faults.push("EZ_WEB_PATIENCE_SECS, EZ_WEB_CONNECTIONS: nought lets nobody in".to_owned());
        }
        let csp_report_only = self.parsed("EZ_CSP_REPORT_ONLY");
        let (hsts, turnstile) = (self.hsts(), self.turnstile());
        let refused = self.text("EZ_REFUSED_DOMAINS").unwrap_or_default();
        let refused = RefusedDomains::read(&refused);
        let refused = refused.map_err(|fault| self.faults.push(format!("EZ_REFUSED_DOMAINS: {fault}")));
        let stolen = self.optional::<String>("EZ_REFUSED_PASSWORDS").unwrap_or_default();
        let stolen = RefusedPasswords::read(&stolen);
        let stolen = stolen.map_err(|fault| self.faults.push(format!("EZ_REFUSED_PASSWORDS: {fault}")));
        Some(DoorConfig {
            hosts: list(&names).map(str::to_lowercase).collect(),
            patience_secs: patience?,
            connections: connections?,
            csp_report_only: csp_report_only?,
            hsts: hsts?,
            turnstile,
            refused_domains: refused.ok()?,
            refused_passwords: stolen.ok()?,
        })
    }

    fn hsts(&mut self) -> Option<HstsConfig> {
        let (secs, subdomains) = (self.parsed("EZ_HSTS_SECS"), self.parsed("EZ_HSTS_SUBDOMAINS"));
        let preload = self.parsed("EZ_HSTS_PRELOAD");
        // Source: hstspreload.org, "Submission Requirements". Who is once in that list is not soon out of it.
        if preload == Some(true) && !(subdomains == Some(true) && secs >= Some(HSTS_YEAR_SECS)) {
            self.faults
                .push("EZ_HSTS_PRELOAD: needs EZ_HSTS_SUBDOMAINS, and EZ_HSTS_SECS of a year at least".to_owned());
        }
        Some(HstsConfig { secs: secs?, subdomains: subdomains?, preload: preload? })
    }

    fn turnstile(&mut self) -> Option<TurnstileConfig> {
        let site_key = self.optional::<String>("EZ_TURNSTILE_SITE_KEY");
        let secret = self.optional::<String>("EZ_TURNSTILE_SECRET").map(|text| Secret(Zeroizing::new(text)));
        let url: Option<Url> = self.parsed("EZ_TURNSTILE_URL");
        if site_key.is_some() != secret.is_some() {
            self.faults.push("EZ_TURNSTILE_SITE_KEY, EZ_TURNSTILE_SECRET: one needs the other".to_owned());
        }
        Some(TurnstileConfig { site_key: site_key?, secret: secret?, url: url? })
    }
}

impl DoorConfig {
    /// What would be unsafe with customers and money.
    pub(super) fn unsafe_settings(&self) -> [(bool, &'static str); 2] {
        let turnstile = self.turnstile.as_ref();
        [
            (
                turnstile.is_some_and(|turnstile| turnstile.url.scheme() != "https"),
                "EZ_TURNSTILE_URL: production needs https",
            ),
            (self.patience_secs > 300, "EZ_WEB_PATIENCE_SECS: more than five minutes for a slow client"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_refused_with_every_name_beneath_it() {
        let refused = RefusedDomains::read("disposable, Evil.Example").unwrap();
        for email in ["a@mailinator.com", "a@x.mailinator.com", "a@evil.example", "a@b.c.evil.example"] {
            assert!(refused.refuses(email), "{email}");
        }
        for email in ["a@example.com", "a@notmailinator.com", "a@com", "a", "mailinator.com@example.com"] {
            assert!(!refused.refuses(email), "{email}");
        }
        assert!(!RefusedDomains::read("off").unwrap().refuses("a@mailinator.com"));
        assert!(RefusedDomains::read("nonsense").is_err() && RefusedDomains::read("/nowhere/at/all").is_err());
    }

    #[test]
    fn a_password_of_a_list_is_refused_in_every_case_of_its_letters() {
        let path = std::env::temp_dir().join(format!("ez-stolen-{}", std::process::id()));
        fs::write(&path, b"too short\nVelvet Anchor 88\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\n").unwrap();
        let refused = RefusedPasswords::read(path.to_str().unwrap()).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(refused.refuses("velvet anchor 88") && !refused.refuses("velvet anchor 89"));
        assert!(!refused.refuses("too short"), "what is too short anyway takes room");
        assert!(RefusedPasswords::read("").unwrap().is_empty() && !refused.is_empty());
        assert!(RefusedPasswords::read("nonsense").is_err() && RefusedPasswords::read("/nowhere/at/all").is_err());
    }

    #[test]
    fn the_list_of_disposable_domains_is_plain() {
        let lines: Vec<&str> = DISPOSABLE.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.len() > 50);
        for line in lines {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
            assert!(line.contains('.') && line.bytes().all(plain), "{line:?}");
        }
    }
}
