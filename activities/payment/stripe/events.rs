//! Stripe's own list of what happened, which it keeps for 30 days: what a webhook that never came would have said.
use stripe_core::event::ListEvent;
use stripe_types::{RangeBoundsTs, RangeQueryTs, with_serde_json};
use time::OffsetDateTime;

use super::{
    StripeApi, read,
    webhook::{Envelope, RawData, RawEvent},
};
use crate::fault::{Fault, Vendor};

/// How many events are read in one call; Stripe's most.
const AT_ONCE: i64 = 100;
const DOING: &str = "reading the list of events";

/// One page of the list, newest first.
#[derive(Debug)]
pub struct EventsPage {
    /// The events that can be read; those of objects without a form are left out.
    pub events: Vec<Envelope>,
    /// What the next page begins after; none when this was the last.
    pub next: Option<String>,
}

impl StripeApi {
    /// Events made from `from` to `to`, both included: the page after the event `after`.
    pub async fn events(
        &self,
        from: OffsetDateTime,
        to: OffsetDateTime,
        after: Option<&str>,
    ) -> Result<EventsPage, Fault> {
        let range = RangeBoundsTs {
            gte: Some(from.unix_timestamp()),
            lte: Some(to.unix_timestamp()),
            ..RangeBoundsTs::default()
        };
        let mut question = ListEvent::new().created(RangeQueryTs::Bounds(range)).limit(AT_ONCE);
        if let Some(after) = after {
            question = question.starting_after(after);
        }
        let page = read(DOING, question.send(&self.client)).await?;
        let next = page.data.last().filter(|_| page.has_more).map(|event| event.id.to_string());
        let mut events = Vec::with_capacity(page.data.len());
        for event in page.data {
            let object = with_serde_json::serialize(&event.data.object, serde_json::value::Serializer)
                .map_err(|error| Vendor::Stripe.give_up_over(DOING, "an event cannot be read", error))?;
            let raw = RawEvent {
                id: event.id.to_string(),
                kind: event.type_.as_str().to_owned(),
                created: event.created,
                livemode: event.livemode,
                data: RawData { object },
            };
            match Envelope::of(raw) {
                Ok(envelope) => events.push(envelope),
                Err(fault) => tracing::warn!(event = %event.id, %fault, "an event of the list is left out"),
            }
        }
        Ok(EventsPage { events, next })
    }
}
