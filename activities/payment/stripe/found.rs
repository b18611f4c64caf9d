//! Payment pages found by their time alone: what a restored database may have forgotten.
use std::collections::BTreeMap;

use domain::ids::{OrderId, SubscriptionId};
use stripe_checkout::{CheckoutSessionStatus, checkout_session::ListCheckoutSession};
use stripe_types::RangeQueryTs;
use time::OffsetDateTime;

use super::{StripeApi, read};
use crate::fault::Fault;

/// How many pages of payment are read in one call; Stripe's most.
const AT_ONCE: i64 = 100;
/// More payments than this are not looked through in one go.
const LOOKED_AT_MAX: usize = 100_000;

/// A payment page that was completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidPage {
    /// Its id (`cs_…`).
    pub session: String,
    /// The order it was opened for.
    pub order: OrderId,
    /// The subscription that pays for it.
    pub subscription: Option<SubscriptionId>,
    /// Who paid (`cus_…`).
    pub customer: Option<String>,
    /// What the page says about the order.
    pub metadata: BTreeMap<String, String>,
}

impl StripeApi {
    /// Every payment page of ours that was opened since then and completed, newest first.
    pub async fn paid_pages(&self, since: OffsetDateTime) -> Result<Vec<PaidPage>, Fault> {
        let mut found: Vec<PaidPage> = vec![];
        let mut last: Option<String> = None;
        let mut looked_at = 0;
        loop {
            let mut question = ListCheckoutSession::new()
                .created(RangeQueryTs::gte(since.unix_timestamp()))
                .status(CheckoutSessionStatus::Complete)
                .limit(AT_ONCE);
            if let Some(last) = last.take() {
                question = question.starting_after(last);
            }
            let page = read("looking for paid orders", question.send(&self.client)).await?;
            looked_at += page.data.len();
            last = page.data.last().map(|session| session.id.to_string());
            found.extend(page.data.into_iter().filter_map(|session| {
                Some(PaidPage {
                    order: session.client_reference_id.as_deref()?.parse().ok()?,
                    session: session.id.to_string(),
                    subscription: session.subscription.as_ref().map(|known| SubscriptionId(known.id().to_string())),
                    customer: session.customer.as_ref().map(|known| known.id().to_string()),
                    metadata: session.metadata.unwrap_or_default().into_iter().collect(),
                })
            }));
            if !page.has_more || last.is_none() || looked_at >= LOOKED_AT_MAX {
                return Ok(found);
            }
        }
    }
}
