//! What a person tells a running subscription to do: staff about its money and its suspension, the customer about its end.
use crate::{
    DAY_SECS, UnixSecs,
    ids::{InstructionId, ServiceId},
    money::Money,
    states,
};
use alloc::{
    borrow::Cow,
    string::{String, ToString},
};
use serde::{Deserialize, Serialize};

/// How far ahead a hold or an extension may reach.
pub const AHEAD_MAX_SECS: i64 = 400 * DAY_SECS;
/// How many instructions of one subscription may wait at once.
pub const WAITING_MAX: usize = 20;
/// The longest reason, in characters.
pub const REASON_MAX: usize = 500;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Suspend, stop and destroy nothing before this time.
    Hold {
        /// Until when.
        until: UnixSecs,
    },
    /// Take the hold away.
    Release,
    /// Start a machine again that was stopped at the end of its subscription, and hold until this time.
    Restore {
        /// Until when.
        until: UnixSecs,
    },
    /// Give back what was paid for an invoice, in full or in part.
    Refund {
        /// Which invoice (`in_…`).
        invoice: String,
        /// How much.
        money: Money,
    },
    /// Give the account credit, which its next invoices use up first.
    Credit {
        /// How much.
        money: Money,
    },
    /// Move the end of the paid period, without charging for the time between.
    Extend {
        /// The new end.
        until: UnixSecs,
    },
    /// Change to a larger plan, for exactly the amount that was shown.
    ChangePlan {
        /// The price of the plan at Stripe (`price_…`).
        price: String,
        /// The moment the rest of the period is counted from.
        proration_date: UnixSecs,
        /// What is charged at once.
        shown: Money,
    },
    /// Change to another plan when the paid period ends.
    ChangePlanAtEnd {
        /// The price of the plan at Stripe (`price_…`).
        price: String,
    },
    /// Keep the plan after all, which was to change at the end of the period.
    KeepPlan,
    /// End the subscription at the end of the paid period.
    CancelAtEnd,
    /// Take a cancellation back that has not come to its end.
    GoOn,
    /// End the subscription now.
    CancelNow,
    /// Take away a further server that the plan covers, with everything on it.
    RemoveServer {
        /// Which.
        service: ServiceId,
    },
    /// Keep a further server after all that was to be taken away, as long as it is not destroyed.
    KeepServer {
        /// Which.
        service: ServiceId,
    },
}

states! {
    /// The one word for what is to be done, in SQL and pages.
    AskKind {
        /// Hold.
        Hold = "hold",
        /// Take the hold away.
        Release = "release",
        /// Start a stopped machine again.
        Restore = "restore",
        /// Give money back.
        Refund = "refund",
        /// Give credit.
        Credit = "credit",
        /// Extend the period.
        Extend = "extend",
        /// Change the plan.
        ChangePlan = "change_plan",
        /// Change the plan at the end of the period.
        ChangePlanAtEnd = "change_plan_at_end",
        /// Keep the plan after all.
        KeepPlan = "keep_plan",
        /// Cancel at the end.
        CancelAtEnd = "cancel_at_end",
        /// Take the cancellation back.
        GoOn = "go_on",
        /// Cancel now.
        CancelNow = "cancel_now",
        /// Take a further server away.
        RemoveServer = "remove_server",
        /// Keep it after all.
        KeepServer = "keep_server",
    }
}

states! {
    /// How far an instruction is.
    InstructionState {
        /// Taken, and not done yet.
        Accepted = "accepted",
        /// Done.
        Done = "done",
        /// It could not be; nothing was changed.
        Refused = "refused",
    }
}

/// One instruction. The same id again is the same instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// Which.
    pub id: InstructionId,
    /// Who says so: a user's uuid, or a name typed in Temporal UI.
    pub by: String,
    /// Why, in their words. Staff always say why.
    pub reason: String,
    /// What is to be done.
    pub what: Ask,
}

impl Ask {
    /// Its one word.
    pub const fn kind(&self) -> AskKind {
        match self {
            Self::Hold { .. } => AskKind::Hold,
            Self::Release => AskKind::Release,
            Self::Restore { .. } => AskKind::Restore,
            Self::Refund { .. } => AskKind::Refund,
            Self::Credit { .. } => AskKind::Credit,
            Self::Extend { .. } => AskKind::Extend,
            Self::ChangePlan { .. } => AskKind::ChangePlan,
            Self::ChangePlanAtEnd { .. } => AskKind::ChangePlanAtEnd,
            Self::KeepPlan => AskKind::KeepPlan,
            Self::CancelAtEnd => AskKind::CancelAtEnd,
            Self::GoOn => AskKind::GoOn,
            Self::CancelNow => AskKind::CancelNow,
            Self::RemoveServer { .. } => AskKind::RemoveServer,
            Self::KeepServer { .. } => AskKind::KeepServer,
        }
    }

    /// How much money it moves.
    pub const fn money(&self) -> Option<&Money> {
        match self {
            Self::Refund { money, .. } | Self::Credit { money } => Some(money),
            Self::ChangePlan { shown, .. } => Some(shown),
            _ => None,
        }
    }

    /// What it is about, at Stripe or with us.
    pub fn about(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Refund { invoice, .. } => Some(Cow::Borrowed(invoice)),
            Self::ChangePlan { price, .. } | Self::ChangePlanAtEnd { price } => Some(Cow::Borrowed(price)),
            Self::RemoveServer { service } | Self::KeepServer { service } => Some(Cow::Owned(service.to_string())),
            _ => None,
        }
    }

    /// The time it names.
    pub const fn until(&self) -> Option<UnixSecs> {
        match self {
            Self::Hold { until } | Self::Restore { until } | Self::Extend { until } => Some(*until),
            _ => None,
        }
    }

    /// Whether only a person who says why may ask for it.
    pub const fn needs_reason(&self) -> bool {
        !matches!(
            self,
            Self::ChangePlan { .. }
                | Self::ChangePlanAtEnd { .. }
                | Self::KeepPlan
                | Self::CancelAtEnd
                | Self::GoOn
                | Self::CancelNow
                | Self::RemoveServer { .. }
        )
    }
}

impl Instruction {
    /// Says why it can never be done, whatever else is the case; nothing when it may be. Who knows no time leaves it out.
    pub fn fault(&self, now: Option<UnixSecs>) -> Option<&'static str> {
        if self.by.trim().is_empty() {
            return Some("Say who asks for it.");
        }
        if self.what.needs_reason() && self.reason.trim().is_empty() {
            return Some("Write down why.");
        }
        if self.reason.chars().count() > REASON_MAX {
            return Some("Use at most 500 characters for the reason.");
        }
        // The rest of a period may cost nothing, because credit pays for it.
        let least_minor = i64::from(!matches!(self.what, Ask::ChangePlan { .. }));
        if self.what.money().is_some_and(|money| money.amount_minor < least_minor) {
            return Some("The amount has to be more than nothing.");
        }
        let ahead_secs = self.what.until()?.saturating_sub(now?);
        if ahead_secs <= 0 {
            return Some("Choose a day that is still to come.");
        }
        (ahead_secs > AHEAD_MAX_SECS).then_some("Choose a day within the next 400 days.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;
    use uuid::Uuid;

    fn asked(what: Ask) -> Instruction {
        Instruction { id: InstructionId(Uuid::nil()), by: "staff".to_owned(), reason: "kindness".to_owned(), what }
    }

    fn euro(amount_minor: i64) -> Money {
        Money { amount_minor, currency: "eur".parse().expect("a currency") }
    }

    #[test]
    fn what_can_never_be_done_is_said_with_a_reason() {
        assert_eq!(asked(Ask::Hold { until: 11 }).fault(Some(10)), None);
        assert!(asked(Ask::Hold { until: 10 }).fault(Some(10)).is_some(), "a hold that is over");
        assert!(asked(Ask::Hold { until: 11 + AHEAD_MAX_SECS }).fault(Some(10)).is_some(), "a hold for ever");
        assert!(asked(Ask::Credit { money: euro(0) }).fault(Some(10)).is_some(), "nothing was given");
        assert!(
            asked(Ask::Refund { invoice: "in_1".to_owned(), money: euro(-5) }).fault(Some(10)).is_some(),
            "a charge"
        );
        let silent = |what| Instruction { reason: " ".to_owned(), ..asked(what) };
        assert!(silent(Ask::Release).fault(Some(10)).is_some(), "staff said no reason");
        assert_eq!(silent(Ask::CancelAtEnd).fault(Some(10)), None);
    }

    #[test]
    fn every_kind_reads_back_from_its_word() {
        for kind in AskKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
        }
    }
}
