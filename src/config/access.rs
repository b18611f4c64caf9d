//! The settings of who gets in, from where, how often it may be tried, and for how long.
use std::net::IpAddr;

use super::{Reader, list};
use crate::network::Network;

/// How often something may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitConfig {
    /// By one network at one form, before it has to wait.
    pub(crate) network: u32,
    /// For one address or account, before it has to wait.
    pub(crate) address: u32,
    /// For one address, before its log-in is locked; and for one person's second step.
    pub(crate) lock: u32,
    /// How long a lock lasts.
    pub(crate) lock_secs: u32,
}

/// How long somebody stays logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "units come last, and all of these are seconds")]
pub(crate) struct StayConfig {
    /// Counted from the log-in, for whoever wants to be remembered.
    pub(crate) longest_secs: u32,
    /// The same for everybody else; their browser forgets it when it is closed.
    pub(crate) brief_secs: u32,
    /// Counted from the last use.
    pub(crate) idle_secs: u32,
    /// The same for staff.
    pub(crate) staff_idle_secs: u32,
}

impl StayConfig {
    /// How long a session lasts, counted from the log-in.
    pub(crate) fn lasts_secs(&self, remembered: bool) -> u32 {
        if remembered { self.longest_secs } else { self.brief_secs.min(self.longest_secs) }
    }
}

/// What has to be shown besides a password, and when again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FactorConfig {
    /// Whether staff pages need a second factor.
    pub(crate) staff: bool,
    /// For how long it counts to have said who one is.
    pub(crate) step_up_secs: u32,
    /// How long before factors that are lost are taken away.
    pub(crate) reset_secs: u32,
}

/// Who gets in.
#[derive(Debug, Clone)]
pub(crate) struct AccessConfig {
    /// Whose `X-Forwarded-For` is believed.
    pub(crate) trusted_proxies: Vec<Network>,
    /// From where the staff pages are there; from everywhere when none is named.
    pub(crate) staff_networks: Vec<Network>,
    /// How often something may be tried.
    pub(crate) limits: LimitConfig,
    /// How long somebody stays logged in.
    pub(crate) stay: StayConfig,
    /// What has to be shown besides a password, and when again.
    pub(crate) factors: FactorConfig,
}

impl Reader<'_> {
    pub(super) fn access(&mut self) -> Option<AccessConfig> {
        let (trusted_proxies, staff_networks) =
            (self.networks("EZ_TRUSTED_PROXIES"), self.networks("EZ_STAFF_NETWORKS"));
        let (network, address) = (self.parsed("EZ_LIMIT_NETWORK"), self.parsed("EZ_LIMIT_ADDRESS"));
        let (lock, lock_secs) = (self.parsed("EZ_LIMIT_LOCK"), self.parsed("EZ_LIMIT_LOCK_SECS"));
        let (longest, idle) = (self.parsed("EZ_SESSION_LONGEST_SECS"), self.parsed("EZ_SESSION_IDLE_SECS"));
        let (brief, staff_idle) = (self.parsed("EZ_SESSION_BRIEF_SECS"), self.parsed("EZ_SESSION_STAFF_IDLE_SECS"));
        let (staff_factor, step_up) = (self.parsed("EZ_STAFF_SECOND_FACTOR"), self.parsed("EZ_STEP_UP_SECS"));
        let reset = self.parsed("EZ_FACTOR_RESET_SECS");
        if [network, address, lock, longest, brief, idle, staff_idle, step_up].contains(&Some(0)) {
            self.faults.push("EZ_LIMIT_…, EZ_SESSION_…, EZ_STEP_UP_SECS: nought lets nobody in".to_owned());
        }
        if lock_secs == Some(0) {
            self.faults.push("EZ_LIMIT_LOCK_SECS: nought locks nothing".to_owned());
        }
        Some(AccessConfig {
            trusted_proxies: trusted_proxies?,
            staff_networks: staff_networks?,
            limits: LimitConfig { network: network?, address: address?, lock: lock?, lock_secs: lock_secs? },
            stay: StayConfig {
                longest_secs: longest?,
                brief_secs: brief?,
                idle_secs: idle?,
                staff_idle_secs: staff_idle?,
            },
            factors: FactorConfig { staff: staff_factor?, step_up_secs: step_up?, reset_secs: reset? },
        })
    }

    /// The networks of a setting that may be left out.
    fn networks(&mut self, name: &'static str) -> Option<Vec<Network>> {
        let given = self.optional::<String>(name).unwrap_or_default();
        let networks = list(&given).map(str::parse).collect::<Result<Vec<Network>, _>>();
        networks.map_err(|fault| self.faults.push(format!("{name}: {fault}"))).ok()
    }
}

impl AccessConfig {
    /// Whether the staff pages are there for somebody at this address, as far as it is known.
    pub(crate) fn lets_staff_in(&self, address: Option<IpAddr>) -> bool {
        let inside = |address: IpAddr| self.staff_networks.iter().any(|network| network.contains(address));
        self.staff_networks.is_empty() || address.is_some_and(inside)
    }

    /// What would be unsafe with customers and money.
    pub(super) fn unsafe_settings(&self) -> [(bool, &'static str); 11] {
        [
            (
                self.trusted_proxies.is_empty(),
                "EZ_TRUSTED_PROXIES: https needs a proxy, and without its address every customer looks like one",
            ),
            (
                self.trusted_proxies.iter().any(|proxy| proxy.is_everybody()),
                "EZ_TRUSTED_PROXIES: whoever asks would be believed to be a proxy, and could pretend to be anybody",
            ),
            (
                self.staff_networks.iter().any(|network| network.is_everybody()),
                "EZ_STAFF_NETWORKS: strangers stand in so large a network",
            ),
            (self.limits.address > 20, "EZ_LIMIT_ADDRESS: more than 20 guesses without a wait"),
            (self.limits.lock > 100, "EZ_LIMIT_LOCK: more than 100 guesses before a lock"),
            (self.limits.lock_secs < 900, "EZ_LIMIT_LOCK_SECS: a lock that lasts less than a quarter of an hour"),
            (self.stay.longest_secs > 2_592_000, "EZ_SESSION_LONGEST_SECS: longer than 30 days"),
            (self.stay.brief_secs > 43_200, "EZ_SESSION_BRIEF_SECS: longer than 12 hours"),
            (!self.factors.staff, "EZ_STAFF_SECOND_FACTOR: a password alone would open staff pages"),
            (self.factors.step_up_secs > 3_600, "EZ_STEP_UP_SECS: longer than an hour"),
            (self.factors.reset_secs < 3_600, "EZ_FACTOR_RESET_SECS: less than an hour to object"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(networks: &[&str]) -> AccessConfig {
        AccessConfig {
            trusted_proxies: vec![],
            staff_networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
            limits: LimitConfig { network: 30, address: 5, lock: 12, lock_secs: 3600 },
            stay: StayConfig { longest_secs: 3600, brief_secs: 3600, idle_secs: 3600, staff_idle_secs: 3600 },
            factors: FactorConfig { staff: true, step_up_secs: 600, reset_secs: 86_400 },
        }
    }

    #[test]
    fn staff_come_from_their_networks_and_from_nowhere_that_is_not_known() {
        let at = |text: &str| Some(text.parse().unwrap());
        let office = from(&["198.51.100.0/24", "2001:db8::/32"]);
        assert!(office.lets_staff_in(at("198.51.100.7")) && office.lets_staff_in(at("2001:db8::1")));
        assert!(!office.lets_staff_in(at("203.0.113.9")) && !office.lets_staff_in(at("::1")));
        assert!(!office.lets_staff_in(None), "nobody knows from where");
        assert!(from(&[]).lets_staff_in(None) && from(&[]).lets_staff_in(at("203.0.113.9")));
    }

    #[test]
    fn a_network_of_staff_that_holds_strangers_is_told() {
        let told = |networks: &[&str]| {
            let rules = from(networks).unsafe_settings();
            rules.into_iter().any(|(broken, text)| broken && text.starts_with("EZ_STAFF_NETWORKS"))
        };
        assert!(told(&["0.0.0.0/0"]) && told(&["198.51.100.7", "::/0"]));
        assert!(!told(&[]) && !told(&["198.51.100.0/24"]));
    }
}
