//! The mirror built anew from Stripe.
use std::collections::BTreeMap;

use domain::ids::{AccountId, SubscriptionId};
use store::{FoundSubscription, PaidSubscription};
use time::{Duration, OffsetDateTime};

use super::{Looked, Mirror};
use crate::fault::Fault;

/// How long Stripe keeps its list of events.
pub const EVENTS_KEPT: Duration = Duration::days(30);

/// What was read again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Subscriptions at Stripe.
    pub subscriptions: Vec<SubscriptionId>,
    /// Customers, with everything they did.
    pub customers: usize,
    /// Events that were not in the inbox.
    pub events: u64,
    /// What could not be read, and why.
    pub left: Vec<String>,
}

impl Mirror {
    /// Reads every subscription and every customer of ours at Stripe again, and every event it still keeps; with `empty`,
    /// into emptied tables.
    ///
    /// *Idempotence*: may be run any number of times, and goes on where it was broken off.
    /// *Errors*: Stripe or the database does not answer. What only a person can clear is in [`Rebuilt::left`].
    pub async fn rebuild(&self, empty: bool) -> Result<Rebuilt, Fault> {
        let mut rebuilt = Rebuilt::default();
        let mut customers: BTreeMap<String, Option<AccountId>> =
            self.store.customers().await?.into_iter().map(|id| (id, None)).collect();
        let mut found = vec![];
        for paid in self.store.paid_subscriptions().await? {
            match self.found(paid).await {
                Ok((subscription, customer)) => {
                    customers.insert(customer, Some(subscription.paid.account));
                    found.push(subscription);
                }
                Err(fault @ Fault::GiveUp { .. }) => rebuilt.left.push(fault.words()),
                Err(fault) => return Err(fault),
            }
        }
        self.store.put_subscriptions(&found, empty).await?;
        rebuilt.subscriptions = found.into_iter().map(|one| one.paid.subscription).collect();
        for (customer, account) in customers {
            match Box::pin(self.customer(&customer, account, true)).await {
                Ok(Looked::Mirrored) => rebuilt.customers += 1,
                Ok(Looked::Stranger(why)) => rebuilt.left.push(why),
                Err(fault @ Fault::GiveUp { .. }) => rebuilt.left.push(fault.words()),
                Err(fault) => return Err(fault),
            }
        }
        let now = OffsetDateTime::now_utc();
        rebuilt.events = self.walk(now - EVENTS_KEPT, now).await?.missed;
        Ok(rebuilt)
    }

    async fn found(&self, paid: PaidSubscription) -> Result<(FoundSubscription, String), Fault> {
        let known = self.stripe.known_subscription(&paid.subscription).await?;
        Ok((FoundSubscription { paid, view: known.view, stripe_price: known.price }, known.customer))
    }
}
