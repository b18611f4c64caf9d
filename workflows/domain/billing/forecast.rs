//! What will happen to a subscription in the coming days if nothing changes: lived through beforehand, with the same
//! function that decides when the time has come.
use super::{Act, Next, Standing, SubscriptionStatus, SubscriptionView, decide};
use crate::{UnixSecs, policy::SubscriptionPolicy};
use alloc::vec::Vec;

/// How many steps ahead are looked at.
const STEPS_MAX: usize = 200;

/// One thing that will happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coming {
    /// When.
    pub at: UnixSecs,
    /// What.
    pub what: ComingAct,
}

/// What will happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComingAct {
    /// Stripe charges the next period.
    Renews,
    /// Stripe ends it, because it was cancelled.
    Ends,
    /// We do this.
    We(Act),
}

/// Everything that will happen from `now` until `until`, in its order, if nothing else does: no payment, no failure, nothing
/// said. What staff hold comes after the hold.
pub fn forecast(
    standing: &Standing,
    view: &SubscriptionView,
    policy: &SubscriptionPolicy,
    now: UnixSecs,
    until: UnixSecs,
) -> Vec<Coming> {
    // Asked at every turn, not at every poll.
    let policy = SubscriptionPolicy { poll_secs: until.saturating_sub(now).saturating_add(1).max(1), ..policy.clone() };
    let (mut standing, mut view, mut at) = (standing.clone(), view.clone(), now);
    let mut coming = Vec::new();
    for _ in 0..STEPS_MAX {
        let turn = turn_at(&view).filter(|turn| *turn >= at);
        match decide(&standing, &view, &policy, at) {
            Next::Over => break,
            Next::Do(act) => {
                if act == Act::EndSubscription {
                    view.status = SubscriptionStatus::Canceled;
                }
                standing = standing.after(&act, at);
                coming.push(Coming { at, what: ComingAct::We(act) });
            }
            Next::WaitUntil(next) => {
                let next = turn.map_or(next, |turn| turn.min(next));
                if next > until {
                    break;
                }
                at = next.max(at);
                if turn == Some(at) && view.cancel_at_period_end {
                    view.status = SubscriptionStatus::Canceled;
                    coming.push(Coming { at, what: ComingAct::Ends });
                } else if turn == Some(at) {
                    coming.push(Coming { at, what: ComingAct::Renews });
                    // Whether it will be paid nobody knows.
                    break;
                }
            }
        }
    }
    // What only notes something is nothing a person waits for.
    coming.retain(|coming| !matches!(&coming.what, ComingAct::We(act) if act.only_notes()));
    coming
}

/// When the paid period turns, while it is paid.
fn turn_at(view: &SubscriptionView) -> Option<UnixSecs> {
    let paid = matches!(view.status, SubscriptionStatus::Active | SubscriptionStatus::Trialing);
    paid.then_some(view.period_end)
}

impl ComingAct {
    /// Whether staff can hold it.
    pub const fn can_be_held(&self) -> bool {
        match self {
            Self::Renews | Self::Ends => false,
            Self::We(act) => act.can_be_held(),
        }
    }
}
