//! The life of a subscription: what Stripe says, where we stand, and the one next thing to do.
//!
//! [`decide`] is a pure function. It never trusts the order or the number of events: it compares what Stripe says *now*
//! with what was done so far, so hearing a fact twice, late or never leads to the same place.
use crate::{UnixSecs, ids::ServiceId, policy::SubscriptionPolicy, states};
use alloc::{borrow::ToOwned as _, format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

states! {
    /// What Stripe calls the state of a subscription. Source: Stripe API, "The Subscription object", `status`.
    SubscriptionStatus {
        /// The first payment is not made yet.
        Incomplete = "incomplete",
        /// The first payment was never made.
        IncompleteExpired = "incomplete_expired",
        /// In a trial period.
        Trialing = "trialing",
        /// Paid.
        Active = "active",
        /// A renewal is not paid yet.
        PastDue = "past_due",
        /// Ended.
        Canceled = "canceled",
        /// Stripe gave up collecting.
        Unpaid = "unpaid",
        /// Paused without a payment method.
        Paused = "paused",
    }
}

impl SubscriptionStatus {
    /// Whether it is over for good: nothing is charged for it any more.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Canceled | Self::IncompleteExpired)
    }
}

states! {
    /// Where we stand with a subscription.
    ///
    /// ```text
    /// active <-> past_due -> suspended -> retained -> expired
    ///    ^___________________/   ^___________/
    ///    \-------------------------------^   (cancelled)
    /// ```
    Phase {
        /// Paid; the service runs.
        Active = "active",
        /// A payment is missing; the service still runs and reminders are sent.
        PastDue = "past_due",
        /// The service is stopped and comes back by itself when it is paid.
        Suspended = "suspended",
        /// The service is stopped and will be destroyed when the retention days are over.
        Retained = "retained",
        /// The service is gone.
        Expired = "expired",
    }
}

/// An invoice that should have been paid by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenInvoice {
    /// The Stripe id (`in_…`).
    pub id: String,
    /// Whether the customer could know of it: it is finalised and its collection was attempted.
    pub delivered: bool,
    /// Whether a payment of it is on its way (processing), so nothing may be held against the customer.
    pub payment_pending: bool,
    /// Whether its payment waits for the customer to confirm it with their bank.
    #[serde(default)]
    pub needs_confirmation: bool,
}

/// What Stripe says about a subscription at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionView {
    /// Stripe's word.
    pub status: SubscriptionStatus,
    /// When the paid period began.
    pub period_start: UnixSecs,
    /// When the paid period ends.
    pub period_end: UnixSecs,
    /// Whether it ends then instead of renewing.
    pub cancel_at_period_end: bool,
    /// The newest invoice that was paid (`in_…`).
    pub paid_invoice: Option<String>,
    /// The oldest invoice that is finalised and not paid.
    pub open_invoice: Option<OpenInvoice>,
    /// What is charged each term (`price_…`).
    #[serde(default)]
    pub price: Option<String>,
    /// A change that waits for its payment.
    #[serde(default)]
    pub pending: Option<PendingChange>,
    /// What is charged after this period, where that is another price.
    #[serde(default)]
    pub next_price: Option<ComingPrice>,
    /// Until when it costs nothing, while it has never cost anything.
    #[serde(default)]
    pub trial_until: Option<UnixSecs>,
}

/// A missing payment and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overdue {
    /// Which invoice.
    pub invoice: String,
    /// When we first saw it. Our own clock: a fact heard late gives the customer the whole time from then on.
    pub since: UnixSecs,
    /// How many reminders were sent.
    pub reminders_sent: u32,
}

/// Where we stand; carried from run to run of the subscription's workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The phase reached.
    pub phase: Phase,
    /// The newest invoice a receipt was sent for.
    pub receipted_invoice: Option<String>,
    /// The period end the customer was warned about.
    pub warned_period_end: Option<UnixSecs>,
    /// The missing payment, if any.
    pub overdue: Option<Overdue>,
    /// When the machine was suspended.
    pub suspended_at: Option<UnixSecs>,
    /// When the retention began.
    pub retained_at: Option<UnixSecs>,
    /// When the customer was warned that the machine will be destroyed.
    pub warned_at: Option<UnixSecs>,
    /// Until when staff hold everything that takes something away.
    #[serde(default)]
    pub hold_until: Option<UnixSecs>,
    /// When staff had what was stopped started again, while nothing was paid since.
    #[serde(default)]
    pub restored_at: Option<UnixSecs>,
    /// The invoice whose payment the customer was asked to confirm.
    #[serde(default)]
    pub asked_to_confirm: Option<String>,
    /// The price the machine was last fitted to; the first one seen is the one it was built for.
    #[serde(default)]
    pub price: Option<String>,
    /// How often it was fitted to another.
    #[serde(default)]
    pub fitted: u32,
    /// The change of plan whose payment is waited for.
    #[serde(default)]
    pub changing: Option<Changing>,
    /// The end of the trial that the customer was told of.
    #[serde(default)]
    pub warned_trial_end: Option<UnixSecs>,
    /// Further servers that their customer takes away.
    #[serde(default)]
    pub leaving: Vec<Leaving>,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            phase: Phase::Active,
            receipted_invoice: None,
            warned_period_end: None,
            overdue: None,
            suspended_at: None,
            retained_at: None,
            warned_at: None,
            hold_until: None,
            restored_at: None,
            asked_to_confirm: None,
            price: None,
            fitted: 0,
            changing: None,
            warned_trial_end: None,
            leaving: Vec::new(),
        }
    }
}

/// The one next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Mail a receipt for a paid invoice.
    Receipt {
        /// Which invoice.
        invoice: String,
    },
    /// Note that a payment is missing.
    NoteOverdue {
        /// Which invoice.
        invoice: String,
    },
    /// Note that nothing is missing any more although nothing had been stopped.
    NotePaid,
    /// Note another price, and fit the machine to its plan.
    Reprice {
        /// The price (`price_…`).
        price: String,
    },
    /// Ask the customer to confirm the payment of a change of plan with their bank.
    AskToConfirmChange,
    /// Note that a change of plan was paid, and the machine fitted to it.
    SettleChange,
    /// Note that a change of plan was not paid: everything stays as it is.
    GiveChangeUp,
    /// Ask the customer to confirm a payment with their bank.
    AskToConfirm {
        /// Of which invoice.
        invoice: String,
    },
    /// Remind the customer of a missing payment.
    Remind {
        /// Which invoice.
        invoice: String,
        /// The how-manieth reminder, from 1.
        number: u32,
    },
    /// Stop the machine until it is paid.
    Suspend {
        /// Which invoice.
        invoice: String,
    },
    /// Start the machine again.
    Resume,
    /// Say when the trial ends and what is charged then.
    WarnOfTrialEnd {
        /// When.
        until: UnixSecs,
    },
    /// Warn that the period will not renew.
    WarnOfEnd {
        /// When it ends.
        period_end: UnixSecs,
    },
    /// Stop the machine at the end of its subscription, and keep it for the retention days.
    Retain,
    /// Warn that the machine will be destroyed.
    WarnOfDestruction {
        /// When.
        destroy_at: UnixSecs,
    },
    /// Stop a further server that its customer takes away, and keep it for the retention days.
    SetServerAside {
        /// Which.
        service: ServiceId,
    },
    /// Destroy a further server that its customer took away, and give back what it held.
    DestroyServer {
        /// Which.
        service: ServiceId,
    },
    /// End the subscription at Stripe, so that nothing can be charged any more, and look again.
    EndSubscription,
    /// Destroy the machine and give everything back.
    Expire,
}

/// What [`decide`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Do this now, then decide again.
    Do(Act),
    /// Nothing to do before this time.
    WaitUntil(UnixSecs),
    /// The life is over.
    Over,
}

/// Gives the one next thing to do, from where we stand, what Stripe says and what time it is. Nothing is taken away while
/// staff hold it.
pub fn decide(standing: &Standing, view: &SubscriptionView, policy: &SubscriptionPolicy, now: UnixSecs) -> Next {
    let next = change::no_later(due(standing, view, policy, now), standing, view, now);
    let next = leaving::no_later(next, standing, policy, now);
    match (standing.hold_until, &next) {
        (Some(until), Next::Do(act)) if act.can_be_held() && now < until => {
            Next::WaitUntil(until.min(now + policy.poll_secs))
        }
        _ => next,
    }
}

/// What would be taken away now, if no payment of the open invoice were on its way.
pub fn kept_by_a_payment(
    standing: &Standing,
    view: &SubscriptionView,
    policy: &SubscriptionPolicy,
    now: UnixSecs,
) -> Option<Act> {
    let mut unpaid = view.clone();
    unpaid.open_invoice.as_mut().filter(|open| open.payment_pending)?.payment_pending = false;
    match decide(standing, &unpaid, policy, now) {
        Next::Do(act) if act.takes_away() => Some(act),
        _ => None,
    }
}

fn due(standing: &Standing, view: &SubscriptionView, policy: &SubscriptionPolicy, now: UnixSecs) -> Next {
    use SubscriptionStatus as S;
    if standing.phase == Phase::Expired {
        return Next::Over;
    }
    let lives = matches!(view.status, S::Active | S::Trialing | S::PastDue | S::Unpaid);
    if let (true, Some(price), Some(fitted)) = (lives, &view.price, &standing.price)
        && price != fitted
    {
        return Next::Do(Act::Reprice { price: price.clone() });
    }
    if let Some(act) = change::due(standing, view) {
        return Next::Do(act);
    }
    match view.status {
        S::Active | S::Trialing => when_paid(standing, view, policy, now),
        S::PastDue | S::Unpaid => when_unpaid(standing, view, policy, now),
        S::Canceled | S::IncompleteExpired => when_ended(standing, policy, now, true),
        S::Incomplete | S::Paused => Next::WaitUntil(now + policy.poll_secs),
    }
}

fn when_paid(standing: &Standing, view: &SubscriptionView, policy: &SubscriptionPolicy, now: UnixSecs) -> Next {
    match standing.phase {
        Phase::Suspended | Phase::Retained => return Next::Do(Act::Resume),
        Phase::PastDue => return Next::Do(Act::NotePaid),
        Phase::Active | Phase::Expired => {}
    }
    if let Some(invoice) = view.paid_invoice.clone().filter(|i| standing.receipted_invoice.as_ref() != Some(i)) {
        return Next::Do(Act::Receipt { invoice });
    }
    let poll_at = now + policy.poll_secs;
    if let Some(until) = view.trial_until.filter(|until| standing.warned_trial_end != Some(*until))
        && !view.cancel_at_period_end
    {
        let warn_at = until - policy.expiry_warning_secs;
        return if now >= warn_at {
            Next::Do(Act::WarnOfTrialEnd { until })
        } else {
            Next::WaitUntil(poll_at.min(warn_at))
        };
    }
    if !view.cancel_at_period_end || standing.warned_period_end == Some(view.period_end) {
        return Next::WaitUntil(poll_at);
    }
    let warn_at = view.period_end - policy.expiry_warning_secs;
    if now >= warn_at {
        return Next::Do(Act::WarnOfEnd { period_end: view.period_end });
    }
    Next::WaitUntil(poll_at.min(warn_at))
}

fn when_unpaid(standing: &Standing, view: &SubscriptionView, policy: &SubscriptionPolicy, now: UnixSecs) -> Next {
    let poll_at = now + policy.poll_secs;
    if view.open_invoice.as_ref().is_some_and(|open| open.payment_pending) {
        return Next::WaitUntil(poll_at);
    }
    if standing.phase == Phase::Retained {
        return when_ended(standing, policy, now, false);
    }
    if standing.phase == Phase::Suspended {
        let give_up_at = standing.suspended_at.unwrap_or(now) + policy.grace_secs;
        return if now >= give_up_at { Next::Do(Act::Retain) } else { Next::WaitUntil(poll_at.min(give_up_at)) };
    }
    let Some(open) = view.open_invoice.as_ref().filter(|open| open.delivered) else {
        return Next::WaitUntil(poll_at);
    };
    let Some(overdue) = standing.overdue.as_ref().filter(|o| o.invoice == open.id) else {
        return Next::Do(Act::NoteOverdue { invoice: open.id.clone() });
    };
    if open.needs_confirmation && standing.asked_to_confirm.as_ref() != Some(&open.id) {
        return Next::Do(Act::AskToConfirm { invoice: open.id.clone() });
    }
    let suspend_at = overdue.since + policy.suspend_after_secs;
    let sent = usize::try_from(overdue.reminders_sent).unwrap_or(usize::MAX);
    let remind_at = policy.reminders_secs.get(sent).map(|after| overdue.since + after).filter(|at| *at < suspend_at);
    match remind_at {
        Some(at) if now >= at => Next::Do(Act::Remind { invoice: open.id.clone(), number: overdue.reminders_sent + 1 }),
        Some(at) => Next::WaitUntil(poll_at.min(at)),
        None if now >= suspend_at => Next::Do(Act::Suspend { invoice: open.id.clone() }),
        None => Next::WaitUntil(poll_at.min(suspend_at)),
    }
}

/// `ended` says whether Stripe has ended the subscription already; without that it is ended before anything is destroyed.
fn when_ended(standing: &Standing, policy: &SubscriptionPolicy, now: UnixSecs, ended: bool) -> Next {
    let Some(destroy_at) = standing.destroy_at(policy).filter(|_| standing.phase == Phase::Retained) else {
        return Next::Do(Act::Retain);
    };
    if standing.warned_at.is_none() {
        let warn_at = destroy_at - policy.retention_warning_secs;
        return if now >= warn_at {
            Next::Do(Act::WarnOfDestruction { destroy_at: destroy_at.max(now + policy.retention_warning_secs) })
        } else {
            Next::WaitUntil(warn_at.min(now + policy.poll_secs))
        };
    }
    if now < destroy_at {
        return Next::WaitUntil(destroy_at.min(now + policy.poll_secs));
    }
    Next::Do(if ended { Act::Expire } else { Act::EndSubscription })
}

impl Standing {
    /// When a kept machine is destroyed: at the end of the retention days, and never sooner after the warning than the
    /// customer was promised, however late the warning was.
    pub fn destroy_at(&self, policy: &SubscriptionPolicy) -> Option<UnixSecs> {
        let kept_until = self.retained_at? + policy.retention_secs;
        let promised = self.warned_at.map(|at| at + policy.retention_warning_secs);
        Some(promised.map_or(kept_until, |promised| promised.max(kept_until)))
    }

    /// What a notice of a stop, and its leave, are named by: after staff had it started again, each is another one.
    #[must_use]
    pub fn since_restored(&self, fact: &str) -> String {
        self.restored_at.map_or_else(|| fact.to_owned(), |at| format!("{fact}/{at}"))
    }

    /// Gives the standing after an act was done.
    #[must_use]
    pub fn after(mut self, act: &Act, now: UnixSecs) -> Self {
        match act {
            Act::Receipt { invoice } => self.receipted_invoice = Some(invoice.clone()),
            Act::NoteOverdue { invoice } => {
                self.phase = Phase::PastDue;
                self.overdue = Some(Overdue { invoice: invoice.clone(), since: now, reminders_sent: 0 });
            }
            Act::Reprice { price } => {
                self.price = Some(price.clone());
                self.fitted = self.fitted.saturating_add(1);
            }
            Act::AskToConfirm { invoice } => self.asked_to_confirm = Some(invoice.clone()),
            Act::AskToConfirmChange => {
                if let Some(changing) = self.changing.as_mut() {
                    changing.asked = true;
                }
            }
            Act::SettleChange | Act::GiveChangeUp => self.changing = None,
            Act::Remind { number, .. } => {
                if let Some(overdue) = self.overdue.as_mut() {
                    overdue.reminders_sent = *number;
                }
            }
            Act::Suspend { .. } => {
                self.phase = Phase::Suspended;
                self.suspended_at = Some(now);
            }
            Act::NotePaid | Act::Resume => self.settle(),
            Act::WarnOfTrialEnd { until } => self.warned_trial_end = Some(*until),
            Act::WarnOfEnd { period_end } => self.warned_period_end = Some(*period_end),
            Act::Retain => {
                self.phase = Phase::Retained;
                self.retained_at = Some(now);
                self.warned_at = None;
            }
            Act::WarnOfDestruction { .. } => self.warned_at = Some(now),
            Act::SetServerAside { service } => self.set_aside(*service, now),
            Act::DestroyServer { service } => self.leaving.retain(|leaving| leaving.service != *service),
            Act::EndSubscription => {}
            Act::Expire => {
                self.phase = Phase::Expired;
                self.leaving.clear();
            }
        }
        self
    }

    fn settle(&mut self) {
        self.phase = Phase::Active;
        self.overdue = None;
        self.suspended_at = None;
        self.retained_at = None;
        self.warned_at = None;
        self.restored_at = None;
    }
}

mod act;
mod change;
pub mod forecast;
mod leaving;
pub use change::{Changing, ComingPrice, PendingChange};
pub use leaving::Leaving;
#[cfg(test)]
mod tests;
