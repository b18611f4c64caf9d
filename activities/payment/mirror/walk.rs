//! A walk through Stripe's list of events, which finds those that no webhook told.
use std::collections::BTreeSet;

use store::NewPaymentEvent;
use time::OffsetDateTime;

use super::Mirror;
use crate::{
    fault::Fault,
    payment::stripe::{events::EventsPage, webhook::Envelope},
};

/// What a walk met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Walked {
    /// How many events there were.
    pub seen: u64,
    /// How many of them nobody had told us; they are in the inbox now.
    pub missed: u64,
    /// When Stripe made the newest of them, by its own clock.
    pub newest: Option<OffsetDateTime>,
}

impl Mirror {
    /// Puts every event that Stripe made from `from` to `to` and that nobody told us into the inbox, as if it had been told.
    ///
    /// *Idempotence*: an event that is known is left as it is.
    pub async fn walk(&self, from: OffsetDateTime, to: OffsetDateTime) -> Result<Walked, Fault> {
        let mut walked = Walked::default();
        let mut after: Option<String> = None;
        loop {
            let EventsPage { events, next } = self.stripe.events(from, to, after.as_deref()).await?;
            walked.seen += u64::try_from(events.len()).unwrap_or(0);
            let newest = events.iter().map(|event| event.created).max();
            walked.newest = walked.newest.max(newest.and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok()));
            walked.missed += self.take_in(events).await?;
            after = next;
            if after.is_none() {
                return Ok(walked);
            }
        }
    }

    async fn take_in(&self, events: Vec<Envelope>) -> Result<u64, Fault> {
        let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
        let unheard: BTreeSet<String> = self.store.events_unheard(&ids).await?.into_iter().collect();
        let rows: Vec<NewPaymentEvent> = events
            .into_iter()
            .filter(|event| unheard.contains(&event.id))
            .filter_map(|event| event.into_row().ok())
            .collect();
        for row in &rows {
            tracing::info!(event = row.id, kind = row.event_type, "no webhook told of an event; it is taken in");
        }
        if !rows.is_empty() {
            self.store.put_payment_events(&rows).await?;
        }
        Ok(u64::try_from(rows.len()).unwrap_or(0))
    }
}
