//! How a house differs from the usual one.

use std::collections::BTreeMap;

use crate::catalogue::Catalogue;

/// Which Proxmox a house rents its machines from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Cluster {
    /// Our stand-in with two nodes, with faults that can be switched on.
    #[default]
    StandIn,
    /// fakepve, an independent program that answers as Proxmox VE does; one node.
    Fakepve,
}

/// Which mail server a house hands its letters to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Post {
    /// Our stand-in, with faults that can be switched on.
    #[default]
    StandIn,
    /// maildev, an independent mail server with pages and a parser of its own.
    Maildev,
}

/// Patience of orders and subscriptions in seconds; short, so that a life passes while one watches.
#[derive(Clone, Debug)]
pub struct PolicySecs {
    /// How long a checkout waits for its payment.
    pub payment_window: u32,
    /// How often an open checkout is looked at.
    pub checkout_poll: u32,
    /// When reminders go out, counted from the failed payment.
    pub reminders: Vec<u32>,
    /// When the service stops, counted from the failed payment.
    pub suspend_after: u32,
    /// When an unpaid subscription is given up, counted from the failed payment.
    pub grace: u32,
    /// How long a stopped service is kept after its end.
    pub retention: u32,
    /// How long before its removal a letter warns.
    pub retention_warning: u32,
    /// How long before an end that will not renew a letter warns.
    pub expiry_warning: u32,
    /// How long a step tries before it asks staff.
    pub step_patience: u32,
    /// How often a subscription is looked at when Stripe says nothing.
    pub subscription_poll: u32,
    /// How often Stripe's list of events is gone through for what no webhook told.
    pub events: u32,
    /// How often what lives is compared with Stripe.
    pub comparison: u32,
    /// How many may be suspended or ended within an hour before staff are asked.
    pub breaker: u32,
    /// How long after its payment an order has to be delivered.
    pub delivery: u32,
}

impl Default for PolicySecs {
    fn default() -> Self {
        Self {
            payment_window: 60,
            checkout_poll: 2,
            reminders: vec![2, 4],
            suspend_after: 6,
            grace: 600,
            retention: 6,
            retention_warning: 3,
            expiry_warning: 3,
            step_patience: 60,
            subscription_poll: 5,
            events: 604_800,
            comparison: 604_800,
            breaker: 1_000_000,
            delivery: 86_400,
        }
    }
}

/// What [`crate::House::start`] is asked for.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own, and most houses have none")]
pub struct HouseOptions {
    /// Lower-case letters, digits and `-`: names the zone, the task queue and the logs. Made unique when it is taken.
    pub name: String,
    /// Where machines come from.
    pub cluster: Cluster,
    /// Where letters go.
    pub post: Post,
    /// How patient it is.
    pub policy: PolicySecs,
    /// How long Stripe's month is; `None` leaves a month a month.
    pub month_secs: Option<u32>,
    /// What Proxmox's tasks take, in parts of what they really take.
    pub time_scale: f64,
    /// Settings of `ez` that replace or join the usual ones.
    pub settings: BTreeMap<String, String>,
    /// Changes what is on sale.
    pub change_catalogue: fn(&mut Catalogue),
    /// Whether there is room for a thousand machines instead of some sixty.
    pub wide: bool,
    /// Whether worker and web are started; their commands (migrate, seed, user) run in any case.
    pub with_portal: bool,
    /// Whether the portal reaches its database and Temporal through links that can be cut.
    pub with_links: bool,
    /// Whether the portal reaches the real servers among its vendors (PowerDNS, fakepve) through gates with faults.
    pub with_gates: bool,
    /// The host in the portal's address: a number, or `localhost` where a name is needed, as by passkeys.
    pub host: &'static str,
}

impl HouseOptions {
    /// The usual house under this name.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            cluster: Cluster::StandIn,
            post: Post::StandIn,
            policy: PolicySecs::default(),
            month_secs: None,
            time_scale: 0.05,
            settings: BTreeMap::new(),
            change_catalogue: |_| (),
            wide: false,
            with_portal: true,
            with_links: false,
            with_gates: false,
            host: "127.0.0.1",
        }
    }

    /// The same with links to the database and to Temporal that can be cut.
    #[must_use]
    pub fn with_links(mut self) -> Self {
        self.with_links = true;
        self
    }

    /// The same with gates before the real servers.
    #[must_use]
    pub fn with_gates(mut self) -> Self {
        self.with_gates = true;
        self
    }

    /// The same under a name instead of a number.
    #[must_use]
    pub fn at_localhost(mut self) -> Self {
        self.host = "localhost";
        self
    }

    /// The same with one setting of `ez` more.
    #[must_use]
    pub fn with(mut self, setting: &str, value: &str) -> Self {
        self.settings.insert(setting.to_owned(), value.to_owned());
        self
    }
}
