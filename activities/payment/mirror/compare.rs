//! What lives, compared with Stripe: every living subscription, every unpaid invoice, every order that waits for its payment.
//! Of the subscriptions one round may read only a part; the next goes on after it.
use std::collections::{BTreeMap, BTreeSet};

use contract::payment::CheckoutState;
use domain::ids::{OrderId, SubscriptionId};
use store::{Compared, Difference, DifferenceKind, MirroredSubscription, Pass};
use time::OffsetDateTime;

use super::Mirror;
use crate::{
    fault::Fault,
    payment::stripe::living::{Living, LivingPart, OpenInvoiceAtStripe, Portion},
};

/// How many invoices are looked up in one question.
const INVOICES_AT_ONCE: usize = 1_000;

/// What one comparison read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// How much was compared.
    pub seen: u64,
    /// Everything of which Stripe says otherwise than our tables.
    pub differences: Vec<Difference>,
    /// The subscriptions that Stripe listed this time.
    listed: Vec<String>,
    /// Whether Stripe's list goes on after them.
    more: bool,
}

impl Comparison {
    /// What this one says and another one, made later from the same place, says too; as far as both came.
    #[must_use]
    pub fn also_in(self, later: Self) -> Self {
        let differences =
            later.differences.into_iter().filter(|difference| self.differences.contains(difference)).collect();
        let later_came_as_far = self.listed.last().is_some_and(|last| later.listed.contains(last));
        let (listed, more) =
            if self.more && later_came_as_far { (self.listed, true) } else { (later.listed, later.more) };
        Self { seen: self.seen, differences, listed, more }
    }

    /// Which subscriptions are compared with it, after what the rounds before it met.
    pub fn compared(&self, before: Option<&Pass>) -> Compared {
        if self.more {
            return Compared::Only(self.listed.clone());
        }
        Compared::AllBut(before.map(|before| before.met.iter().cloned().collect()).unwrap_or_default())
    }

    /// Where the next one goes on, if this one came not to the end.
    pub fn next(self, before: Option<Pass>, began_at: OffsetDateTime) -> Option<Pass> {
        let reached = self.listed.last().filter(|_| self.more)?.clone();
        let mut met = before.map(|before| before.met).unwrap_or_default();
        met.extend(self.listed);
        Some(Pass { began_at, reached, met })
    }
}

impl Mirror {
    /// Everything of which Stripe says otherwise than our tables: of the subscriptions a portion, from where the rounds before
    /// came to, and all of the rest. Reads only.
    pub async fn differences(&self, portion: Portion, before: Option<&Pass>) -> Result<Comparison, Fault> {
        let mut found = vec![];
        let part = self.stripe.living_subscriptions(portion, before.map(|before| before.reached.as_str())).await?;
        let seen = self.subscriptions_that_differ(&part, before, &mut found).await?
            + self.invoices_that_differ(&mut found).await?
            + self.orders_that_differ(&mut found).await?;
        found.extend(self.store.covered_too_few().await?);
        found.extend(self.store.unsettled_instructions().await?);
        Ok(Comparison {
            seen: u64::try_from(seen).unwrap_or(u64::MAX),
            differences: found,
            listed: part.listed.into_iter().map(|living| living.id).collect(),
            more: part.more,
        })
    }

    async fn subscriptions_that_differ(
        &self,
        part: &LivingPart,
        before: Option<&Pass>,
        found: &mut Vec<Difference>,
    ) -> Result<usize, Fault> {
        let at_stripe = &part.listed;
        let ours = self.store.mirrored_subscriptions().await?;
        let mut unknown: BTreeMap<&str, &Living> =
            at_stripe.iter().map(|living| (living.id.as_str(), living)).collect();
        let mut compared = 0;
        for one in &ours {
            let living = unknown.remove(one.id.as_str());
            // That Stripe does not list one is known at the end of the list.
            if living.is_none() && (part.more || before.is_some_and(|before| is_elsewhere(one, before))) {
                continue;
            }
            compared += 1;
            if let Some(why) = differs(one, living) {
                found.push(of_subscription(&one.id, living, why));
            }
        }
        self.newest_invoices_that_differ(at_stripe, found).await?;
        for (id, living) in unknown {
            let mine = living.order.is_some() || self.store.knows_customer(&living.customer).await?;
            // Its life may be over with us, which no longer lists it.
            if mine && self.store.subscription(&SubscriptionId(id.to_owned())).await?.is_none() {
                let why = "it lives at Stripe, and no order of ours began it".to_owned();
                found.push(of_subscription(id, Some(living), why));
            }
        }
        Ok(compared + at_stripe.len())
    }

    /// A subscription may have been read before its renewal was charged, or its invoices before it renewed: then all that is
    /// said of it is right, and its newest invoice is not.
    async fn newest_invoices_that_differ(
        &self,
        at_stripe: &[Living],
        found: &mut Vec<Difference>,
    ) -> Result<(), Fault> {
        for some in at_stripe.chunks(INVOICES_AT_ONCE) {
            let ids: Vec<String> =
                some.iter().filter_map(|living| living.invoice.as_ref()).map(|(id, _)| id.clone()).collect();
            let ours = self.store.invoice_statuses(&ids).await?;
            for living in some {
                let Some((id, status)) = &living.invoice else { continue };
                let subscription = SubscriptionId(living.id.clone());
                if ours.get(id) == Some(status) || self.store.subscription(&subscription).await?.is_none() {
                    continue;
                }
                let we_say = ours.get(id).map_or("does not know it", String::as_str);
                let why = format!("its newest invoice is {status} at Stripe, and our table says: {we_say}");
                found.push(of_invoice(id, subscription, Some(living.customer.clone()), why));
            }
        }
        Ok(())
    }

    async fn invoices_that_differ(&self, found: &mut Vec<Difference>) -> Result<usize, Fault> {
        let at_stripe = self.stripe.open_invoices().await?;
        let ours: BTreeMap<String, SubscriptionId> = self.store.mirrored_open_invoices().await?.into_iter().collect();
        let open: BTreeSet<&str> = at_stripe.iter().map(|invoice| invoice.id.as_str()).collect();
        for (id, subscription) in &ours {
            if !open.contains(id.as_str()) {
                let why = "our table calls it open, and Stripe does not".to_owned();
                found.push(of_invoice(id, subscription.clone(), None, why));
            }
        }
        for OpenInvoiceAtStripe { id, subscription, customer } in &at_stripe {
            let Some(subscription) = subscription else { continue };
            if !ours.contains_key(id) && self.store.subscription(subscription).await?.is_some() {
                let why = "it is open at Stripe, and our table does not say so".to_owned();
                found.push(of_invoice(id, subscription.clone(), customer.clone(), why));
            }
        }
        Ok(ours.len() + at_stripe.len())
    }

    async fn orders_that_differ(&self, found: &mut Vec<Difference>) -> Result<usize, Fault> {
        let waiting = self.store.awaiting_orders().await?;
        for one in &waiting {
            let Some(session) = &one.session else { continue };
            let state = match self.stripe.read_checkout(one.order, session).await {
                Ok(state) => state,
                Err(fault @ Fault::GiveUp { .. }) => {
                    found.push(of_order(DifferenceKind::Page, one.order, session, fault.words()));
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            if let CheckoutState::Paid { .. } | CheckoutState::Expired = state {
                let why = if state == CheckoutState::Expired { "its page is closed" } else { "it was paid" };
                let why = format!("{why}, and our table calls it unpaid");
                found.push(of_order(DifferenceKind::Order, one.order, session, why));
            }
        }
        Ok(waiting.len())
    }
}

/// Whether a subscription stands before the place from which Stripe's list was read on.
fn is_elsewhere(ours: &MirroredSubscription, before: &Pass) -> bool {
    before.met.contains(&ours.id) || ours.created_at >= before.began_at
}

/// What Stripe says otherwise of a subscription, if anything.
fn differs(ours: &MirroredSubscription, living: Option<&Living>) -> Option<String> {
    let ended = matches!(ours.status.as_str(), "canceled" | "incomplete_expired");
    let Some(living) = living else {
        return (!ended).then(|| format!("our table calls it {}, and Stripe has ended it", ours.status));
    };
    if ours.status != living.status {
        return Some(format!("our table calls it {}, Stripe {}", ours.status, living.status));
    }
    if ours.period_end.is_some_and(|end| end.unix_timestamp() != living.period_end) {
        return Some("its period ends at another time".to_owned());
    }
    (ours.cancel_at_period_end != living.cancel_at_period_end).then(|| "whether it renews differs".to_owned())
}

fn of_subscription(id: &str, living: Option<&Living>, why: String) -> Difference {
    Difference {
        kind: DifferenceKind::Subscription,
        object: id.to_owned(),
        order: living.and_then(|living| living.order),
        subscription: Some(SubscriptionId(id.to_owned())),
        customer: living.map(|living| living.customer.clone()),
        why,
    }
}

fn of_invoice(id: &str, subscription: SubscriptionId, customer: Option<String>, why: String) -> Difference {
    Difference {
        kind: DifferenceKind::Invoice,
        object: id.to_owned(),
        order: None,
        subscription: Some(subscription),
        customer,
        why,
    }
}

fn of_order(kind: DifferenceKind, order: OrderId, session: &str, why: String) -> Difference {
    Difference { kind, object: session.to_owned(), order: Some(order), subscription: None, customer: None, why }
}
