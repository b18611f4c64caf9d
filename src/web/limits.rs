//! How often each form may be sent: by one network, and for one address, account or known browser. The counting is the
//! store's, so it holds over every process; here stand the rules.
use std::time::Duration;

use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use domain::ids::AccountId;
use store::{Counted, Rule, Taken};
use uuid::Uuid;

use super::{
    Portal,
    caller::Caller,
    page::{self, Refusal, Shell},
};

/// Tries of a network are forgotten evenly within an hour, those for an address after a day without any, and what an account ordered
/// or whom it invited evenly within a day.
const FORGET_NETWORK_SECS: u32 = 3_600;
const FORGET_ADDRESS_SECS: u32 = 86_400;
/// How many locks' worth of codes may be tried within a day without a further wait, however often the lock is opened.
const LOCKS_OF_A_DAY: u32 = 2;
/// How many times as often as one network the networks of a whole range may sign up.
const RANGE_NETWORKS: u32 = 8;
/// What is written, or not, about an address that may be nobody's takes less than this.
const EVEN: Duration = Duration::from_millis(100);

/// A form whose tries are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Logging in.
    LogIn,
    /// Signing up.
    SignUp,
    /// Asking for a link, and using one, to replace a forgotten password.
    Reset,
    /// Asking for another letter to confirm an address.
    Verify,
    /// Ordering.
    Checkout,
    /// Saying one's password again to change something.
    Password,
    /// Asking to confirm another address.
    Address,
    /// Inviting somebody to an account.
    Invite,
    /// The second step of a log-in.
    Second,
    /// Taking an erasure back by its link.
    Undo,
}

/// What was refused, by the form.
const REFUSED_METRIC: &str = "ez_tries_refused_total";

/// Begins to count what is refused, so that operators see nought before the first.
pub(crate) fn count_from_nought() {
    for way in Way::ALL {
        metrics::counter!(REFUSED_METRIC, "route" => way.route()).increment(0);
    }
}

impl Way {
    const ALL: [Self; 10] = [
        Self::LogIn,
        Self::SignUp,
        Self::Reset,
        Self::Verify,
        Self::Checkout,
        Self::Password,
        Self::Address,
        Self::Invite,
        Self::Second,
        Self::Undo,
    ];

    /// The word in the table of counts.
    pub(crate) fn route(self) -> &'static str {
        match self {
            Self::LogIn => "login",
            Self::SignUp => "signup",
            Self::Reset => "reset",
            Self::Verify => "verify",
            Self::Checkout => "checkout",
            Self::Password => "password",
            Self::Address => "address",
            Self::Invite => "invite",
            Self::Second => "second",
            Self::Undo => "undo",
        }
    }
}

impl Portal {
    /// What is counted for the network a request comes from.
    pub(crate) fn by_network(&self, way: Way, caller: &Caller) -> Result<Counted, Refusal> {
        self.counted(way, "network", &caller.place(), network_rule(self.settings.access.limits.network))
    }

    /// What is counted for the range a request comes from, where one customer of a provider may have many networks.
    fn by_range(&self, way: Way, caller: &Caller) -> Result<Option<Counted>, Refusal> {
        let rule = network_rule(self.settings.access.limits.network.saturating_mul(RANGE_NETWORKS));
        caller.range().map(|range| self.counted(way, "range", &range, rule)).transpose()
    }

    /// What is counted for an address, whether or not anybody has it.
    pub(crate) fn for_address(&self, way: Way, email: &str) -> Result<Counted, Refusal> {
        self.counted(way, "address", email, self.address_rule(way))
    }

    /// What is counted for a browser that its owner logged in with before: strangers who guess do not lock it out.
    pub(crate) fn for_device(&self, way: Way, device: Uuid) -> Result<Counted, Refusal> {
        self.counted(way, "device", &device.to_string(), self.address_rule(way))
    }

    /// What is counted for somebody who is logged in.
    pub(crate) fn for_account(&self, way: Way, id: Uuid) -> Result<Counted, Refusal> {
        self.counted(way, "account", &id.to_string(), self.address_rule(way))
    }

    /// What is counted of codes besides the lock, which whoever reads the owner's mail opens: they guess no faster by it.
    pub(crate) fn for_codes(&self, id: Uuid) -> Result<Counted, Refusal> {
        let free = self.settings.access.limits.lock.saturating_mul(LOCKS_OF_A_DAY);
        let leak_secs = Some((FORGET_ADDRESS_SECS / free).max(1));
        let rule = Rule { free, lock: None, lock_secs: 0, leak_secs, forget_secs: FORGET_ADDRESS_SECS };
        self.counted(Way::Second, "codes", &id.to_string(), rule)
    }

    fn address_rule(&self, way: Way) -> Rule {
        let limits = &self.settings.access.limits;
        // Whoever buys or invites day by day guesses nothing: what they did is forgotten evenly, and not only once they pause.
        let guesses_nothing = matches!(way, Way::Checkout | Way::Invite);
        let free = if guesses_nothing { limits.network } else { limits.address };
        Rule {
            free,
            // A lock is opened by a letter, and only of the two steps of a log-in is there one.
            lock: matches!(way, Way::LogIn | Way::Second).then_some(limits.lock),
            lock_secs: limits.lock_secs,
            leak_secs: guesses_nothing.then(|| (FORGET_ADDRESS_SECS / free).max(1)),
            forget_secs: FORGET_ADDRESS_SECS,
        }
    }

    fn counted(&self, way: Way, kind: &str, text: &str, rule: Rule) -> Result<Counted, Refusal> {
        let subject = self.keys.digest(&format!("limit/{kind}"), text);
        let subject = subject.map_err(|_| Refusal::Broken("making a digest"))?;
        Ok(Counted { route: way.route(), subject, rule })
    }

    /// Counts a try for each of these, the network first. Says whether the way is locked unless this one succeeds.
    ///
    /// *Errors*: [`Refusal::Slower`] when one of them is closed.
    pub(crate) async fn take(&self, counted: &[Counted]) -> Result<bool, Refusal> {
        match self.store.take(counted).await? {
            Taken::Open => Ok(false),
            Taken::Last => Ok(true),
            Taken::Closed { secs, locked } => {
                let route = counted.first().map_or("", |one| one.route);
                metrics::counter!(REFUSED_METRIC, "route" => route).increment(1);
                tracing::info!(route, secs, locked, "a try was refused");
                Err(Refusal::Slower { secs, locked })
            }
        }
    }

    /// Counts an order for the network it comes from and for the account it is of.
    ///
    /// *Errors*: [`Refusal::Slower`] when one of them is closed.
    pub(crate) async fn take_order(&self, caller: &Caller, account: AccountId) -> Result<(), Refusal> {
        let network = self.by_network(Way::Checkout, caller)?;
        self.take(&[network, self.for_account(Way::Checkout, account.0)?]).await?;
        Ok(())
    }

    /// Counts a sign-up for the network it comes from, and for the range that network belongs to.
    ///
    /// *Errors*: [`Refusal::Slower`] when one of them is closed.
    pub(crate) async fn take_sign_up(&self, caller: &Caller) -> Result<(), Refusal> {
        let mut counted = vec![self.by_network(Way::SignUp, caller)?];
        counted.extend(self.by_range(Way::SignUp, caller)?);
        self.take(&counted).await?;
        Ok(())
    }

    /// Takes one try back for each of these: it was not made.
    pub(crate) async fn not_made(&self, counted: &[Counted]) -> Result<(), Refusal> {
        for one in counted {
            self.store.give_back(one.route, &one.subject).await?;
        }
        Ok(())
    }

    /// Takes what was counted back after a success: everything for the address, one try for the network.
    pub(crate) async fn succeeded(&self, network: &Counted, own: &Counted) -> Result<(), Refusal> {
        self.store.forgive(own.route, &own.subject).await?;
        self.store.give_back(network.route, &network.subject).await?;
        Ok(())
    }
}

/// How often a form may be sent within an hour by everybody who counts as one.
fn network_rule(free: u32) -> Rule {
    let leak_secs = Some((FORGET_NETWORK_SECS / free).max(1));
    Rule { free, lock: None, lock_secs: 0, leak_secs, forget_secs: FORGET_NETWORK_SECS }
}

/// Does what writes more for an address that somebody has, in a time that does not tell: a letter that is queued waits for the
/// disk, nothing does not.
pub(crate) async fn evenly<T>(work: impl Future<Output = T>) -> T {
    let (done, ()) = tokio::join!(work, tokio::time::sleep(EVEN));
    done
}

#[derive(Template)]
#[template(path = "page/slower.html")]
struct Slower {
    shell: Shell,
    wait: String,
    locked: bool,
}

/// The page for whoever has to wait: the same whether anybody has the address that was tried.
pub(crate) fn slower(secs: u64, locked: bool) -> Response {
    let page = Slower { shell: Shell { here: "error", ..Shell::default() }, wait: wait(secs), locked };
    let mut response = page::render(StatusCode::TOO_MANY_REQUESTS, &page);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
    response
}

/// A time in words, never shorter than it is.
fn wait(secs: u64) -> String {
    let (number, unit) = match secs {
        0..=90 => (secs.max(1), "second"),
        91..=5400 => (secs.div_ceil(60), "minute"),
        _ => (secs.div_ceil(3600), "hour"),
    };
    if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
}

#[cfg(test)]
mod tests {
    use super::wait;

    #[test]
    fn a_wait_is_told_in_the_largest_plain_unit() {
        for (secs, words) in
            [(0, "1 second"), (1, "1 second"), (64, "64 seconds"), (91, "2 minutes"), (3600, "60 minutes")]
        {
            assert_eq!(wait(secs), words);
        }
        assert_eq!(wait(5401), "2 hours");
    }
}
