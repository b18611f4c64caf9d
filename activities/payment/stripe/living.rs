//! Lists of what lives: every subscription that is not ended, and every invoice that can be paid.
use std::time::{Duration, Instant};

use domain::ids::{OrderId, SubscriptionId};
use stripe_billing::{Invoice, InvoiceStatus, Subscription, invoice::ListInvoice, subscription::ListSubscription};

use super::{
    StripeApi,
    invoice::{id_of, subscription_of},
    read,
};
use crate::fault::Fault;

/// How many rows are read in one call; Stripe's most.
const AT_ONCE: i64 = 100;
/// More than this is not gone through in one go.
const ROWS_MAX: usize = 1_000_000;
/// How long a part of a list is read before it is enough: a round reads it two times, and more besides.
const PART_LIMIT: Duration = Duration::from_mins(3);

/// How much of what lives is read at one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portion {
    /// Everything, from the beginning.
    Whole,
    /// At most so many subscriptions, from where the last part ended.
    Part(usize),
}

/// What one go read of Stripe's list of living subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivingPart {
    /// What stands there, newest first.
    pub listed: Vec<Living>,
    /// Whether there is more after it.
    pub more: bool,
}

/// A subscription that is not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    /// Its id (`sub_…`).
    pub id: String,
    /// Who pays (`cus_…`).
    pub customer: String,
    /// The order it was begun by, if by one of ours.
    pub order: Option<OrderId>,
    /// Stripe's word.
    pub status: String,
    /// When the paid period ends, in Unix seconds.
    pub period_end: i64,
    /// Whether it ends then instead of renewing.
    pub cancel_at_period_end: bool,
    /// Its newest invoice (`in_…`) with Stripe's word for it, once that is final; a draft may still change.
    pub invoice: Option<(String, String)>,
}

/// An invoice that can be paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenInvoiceAtStripe {
    /// Its id (`in_…`).
    pub id: String,
    /// The subscription it is of, if any.
    pub subscription: Option<SubscriptionId>,
    /// Who has to pay (`cus_…`).
    pub customer: Option<String>,
}

impl StripeApi {
    /// The subscriptions that Stripe has not ended: as many as the portion says, after the one that is given.
    pub async fn living_subscriptions(&self, portion: Portion, after: Option<&str>) -> Result<LivingPart, Fault> {
        let begun = Instant::now();
        let (rows, limit) = match portion {
            Portion::Whole => (ROWS_MAX, Duration::MAX),
            Portion::Part(rows) => (rows.clamp(1, ROWS_MAX), PART_LIMIT),
        };
        let mut listed: Vec<Living> = vec![];
        loop {
            let at_once = i64::try_from(rows - listed.len()).unwrap_or(AT_ONCE).min(AT_ONCE);
            let mut question = ListSubscription::new().limit(at_once).expand(["data.latest_invoice".to_owned()]);
            if let Some(last) = listed.last().map(|last| last.id.as_str()).or(after) {
                question = question.starting_after(last);
            }
            let page = read("listing living subscriptions", question.send(&self.client)).await?;
            let more = page.has_more && !page.data.is_empty();
            listed.extend(page.data.iter().map(living));
            if !more || listed.len() >= rows || begun.elapsed() >= limit {
                return Ok(LivingPart { listed, more });
            }
        }
    }

    /// Every invoice that can be paid.
    pub async fn open_invoices(&self) -> Result<Vec<OpenInvoiceAtStripe>, Fault> {
        let mut found: Vec<OpenInvoiceAtStripe> = vec![];
        loop {
            let mut question = ListInvoice::new().status(InvoiceStatus::Open).limit(AT_ONCE);
            if let Some(last) = found.last() {
                question = question.starting_after(last.id.as_str());
            }
            let page = read("listing open invoices", question.send(&self.client)).await?;
            let more = page.has_more && !page.data.is_empty();
            found.extend(page.data.iter().filter_map(|invoice| {
                Some(OpenInvoiceAtStripe {
                    id: id_of(invoice)?,
                    subscription: subscription_of(invoice),
                    customer: invoice.customer.as_ref().map(|customer| customer.id().to_string()),
                })
            }));
            if !more || found.len() >= ROWS_MAX {
                return Ok(found);
            }
        }
    }
}

fn living(one: &Subscription) -> Living {
    let period_end = one.items.data.iter().map(|item| item.current_period_end).max().unwrap_or(0);
    Living {
        id: one.id.to_string(),
        customer: one.customer.id().to_string(),
        order: one.metadata.get("order").and_then(|text| text.parse().ok()),
        status: one.status.as_str().to_owned(),
        period_end,
        // The portal may end a subscription by a date instead of the flag.
        cancel_at_period_end: one.cancel_at_period_end || one.cancel_at.is_some_and(|at| at <= period_end),
        invoice: one.latest_invoice.as_ref().and_then(|newest| final_word(newest.as_object()?)),
    }
}

fn final_word(invoice: &Invoice) -> Option<(String, String)> {
    let status = invoice.status.as_ref().filter(|status| **status != InvoiceStatus::Draft)?;
    Some((id_of(invoice)?, status.as_str().to_owned()))
}
