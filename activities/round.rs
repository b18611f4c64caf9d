//! The rounds: Stripe's list of events for what no webhook told, and a comparison of what lives with Stripe.
#![expect(missing_docs, reason = "the constants that the macro makes of each activity cannot carry a docstring")]
use std::{sync::Arc, time::Duration};

use contract::round::{RoundInput, RoundOutcome, defs};
use store::{Pass, Round};
use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use time::OffsetDateTime;

use crate::{
    deadline::in_time,
    fault::{Fault, Vendor},
    payment::{
        mirror::{Comparison, Mirror, rebuild::EVENTS_KEPT},
        stripe::living::Portion,
    },
};

/// How long one try of a round may take. Each of its calls has a time of its own.
const ROUND_LIMIT: Duration = Duration::from_mins(59);
/// Stripe lists an event a moment after it says when it made it: what was walked lately is walked again.
const OVERLAP: time::Duration = time::Duration::minutes(5);
/// A webhook gets this long before it counts as missed, or as long as the round takes to come again.
const LAG_SECS_MAX: u32 = 60;

/// The counter of events that no webhook told.
const MISSED_METRIC: &str = "ez_events_missed_total";
/// The counter of what Stripe says otherwise than our tables, by kind.
const DIFFERENCES_METRIC: &str = "ez_differences_total";
/// What is compared.
const KINDS: [&str; 3] = ["subscription", "invoice", "order"];

/// Begins the counters at nought, so that the first finding is seen as a rise.
pub fn announce() {
    metrics::counter!(MISSED_METRIC).increment(0);
    for kind in KINDS {
        metrics::counter!(DIFFERENCES_METRIC, "kind" => kind).increment(0);
    }
}

/// Goes the rounds.
#[derive(Clone)]
pub struct RoundDesk {
    /// What reads at Stripe and asks for looks.
    pub mirror: Mirror,
    /// How much one comparison reads.
    pub portion: Portion,
}

#[activities]
impl RoundDesk {
    /// Puts every event that no webhook told into the inbox, from where the last round ended.
    ///
    /// *Idempotence*: an event that is known is left as it is, and the next round overlaps this one.
    #[activity(definition = defs::Events)]
    pub async fn events(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: RoundInput,
    ) -> Result<RoundOutcome, ActivityError> {
        let doing = "walking through Stripe's events";
        Ok(in_time(&ctx, ROUND_LIMIT, Vendor::Stripe, doing, self.walked(lag(input))).await?)
    }

    /// Compares what lives with Stripe, and asks for a look at whatever differs two times in a row. Of the subscriptions it
    /// compares as many as one round reads, from where the last one stopped.
    ///
    /// *Idempotence*: a look that was asked for twice looks twice.
    #[activity(definition = defs::Compare)]
    pub async fn compare(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: RoundInput,
    ) -> Result<RoundOutcome, ActivityError> {
        let doing = "comparing what lives with Stripe";
        Ok(in_time(&ctx, ROUND_LIMIT, Vendor::Stripe, doing, self.compared(lag(input))).await?)
    }
}

impl RoundDesk {
    /// Walks from the newest event that the last round met up to `lag` ago. How far it came is told by Stripe's clock: one of
    /// ours that is wrong for a while leaves nothing out.
    ///
    /// *Errors*: Stripe or the database does not answer; the next round begins where this one did.
    pub async fn walked(&self, lag: Duration) -> Result<RoundOutcome, Fault> {
        let now = OffsetDateTime::now_utc();
        let to = now - lag;
        let from = self.mirror.store.walked_to().await?.unwrap_or(now).min(to) - OVERLAP;
        let walked = self.mirror.walk(from.max(now - EVENTS_KEPT), to).await?;
        metrics::counter!(MISSED_METRIC).increment(walked.missed);
        self.mirror.store.round_finished(Round::Events, walked.newest).await?;
        Ok(RoundOutcome { seen: walked.seen, found: walked.missed })
    }

    /// Compares two times with `lag` between, because a fact may just be on its way; what differs both times is looked at.
    ///
    /// *Errors*: Stripe or the database does not answer; the next round begins where this one did. Where Stripe refuses, it
    /// begins from the beginning: the place may be gone.
    pub async fn compared(&self, lag: Duration) -> Result<RoundOutcome, Fault> {
        let store = &self.mirror.store;
        let before = match self.portion {
            Portion::Whole => None,
            Portion::Part(_) => store.comparison_pass().await?,
        };
        let began_at = match &before {
            Some(before) => before.began_at,
            None => store.clock().await?,
        };
        let read = match self.compared_from(before.as_ref(), lag).await {
            Err(fault @ Fault::GiveUp { .. }) => {
                store.put_comparison_pass(None).await?;
                return Err(fault);
            }
            read => read?,
        };
        let stay = &read.differences;
        for difference in stay.iter().filter(|difference| difference.kind.is_of_stripe()) {
            let (kind, object) = (difference.kind.as_str(), &difference.object);
            tracing::warn!(kind, object, why = difference.why, "Stripe says otherwise; it is looked at");
            metrics::counter!(DIFFERENCES_METRIC, "kind" => kind).increment(1);
        }
        store.put_differences(stay, &read.compared(before.as_ref())).await?;
        let outcome = RoundOutcome { seen: read.seen, found: u64::try_from(stay.len()).unwrap_or(0) };
        store.ask_refused_looks_again().await?;
        store.put_comparison_pass(read.next(before, began_at).as_ref()).await?;
        store.round_finished(Round::Comparison, None).await?;
        Ok(outcome)
    }

    async fn compared_from(&self, before: Option<&Pass>, lag: Duration) -> Result<Comparison, Fault> {
        let first = self.mirror.differences(self.portion, before).await?;
        if first.differences.is_empty() {
            return Ok(first);
        }
        tokio::time::sleep(lag).await;
        Ok(first.also_in(self.mirror.differences(self.portion, before).await?))
    }
}

fn lag(input: RoundInput) -> Duration {
    let (RoundInput::Events { every_secs } | RoundInput::Comparison { every_secs }) = input;
    Duration::from_secs(u64::from(every_secs.min(LAG_SECS_MAX)))
}
