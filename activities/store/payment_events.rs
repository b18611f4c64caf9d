//! The Stripe inbox: one row for each event that was told to us, and how far it was driven.
use crate::{Store, StoreError, fault::Doing};
use domain::ids::{OrderId, SubscriptionId};
use sqlx::postgres::PgListener;
use std::collections::{BTreeMap, HashMap};
use time::OffsetDateTime;
use uuid::Uuid;

mod gather;

pub use gather::EventGatherer;

/// The envelope of an event. Nothing else of it is kept; the rest is read at Stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPaymentEvent {
    /// The Stripe id (`evt_…`).
    pub id: String,
    /// Stripe's word (`checkout.session.completed`).
    pub event_type: String,
    /// The object it is about (`cs_…`, `sub_…`, `in_…`).
    pub object_id: String,
    /// Stripe's word for the object (`checkout.session`).
    pub object_kind: String,
    /// The order its metadata names.
    pub order: Option<OrderId>,
    /// The subscription it names.
    pub subscription: Option<SubscriptionId>,
    /// The customer it names (`cus_…`).
    pub customer: Option<String>,
    /// The payment it is about, when it names no customer (`ch_…`, `py_…`, `pi_…`).
    pub payment: Option<String>,
    /// When Stripe made it.
    pub created_at: OffsetDateTime,
    /// Whether real money is meant.
    pub livemode: bool,
}

/// What the inbox knew about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutEvent {
    /// Nothing; it is stored now.
    New,
    /// It was told before.
    Known {
        /// Whether it was handled or ignored; one that was not is due again now.
        handled: bool,
    },
}

/// The channel on which stored events are announced.
const CHANNEL: &str = "payment_events";

/// Hears when an event was stored, from any process.
#[derive(Debug)]
pub struct PaymentEventListener(PgListener);

impl PaymentEventListener {
    /// Waits until an event was stored. Returns too when the connection was lost meanwhile, because one may have been
    /// missed.
    pub async fn heard(&mut self) -> Result<(), StoreError> {
        self.0.try_recv().await.doing("listening for payment events")?;
        // One look answers every announcement that came before it.
        while self.0.next_buffered().is_some() {}
        Ok(())
    }
}

impl Store {
    /// Stores events, each once, and all of them in one commit. One that was told before and not driven to its end is due
    /// again now. Gives what was known of each, in the order given; of an event that stands there twice, the second is known.
    ///
    /// *Errors*: none of them is stored, or it is unknown whether they are; telling them again is safe.
    pub async fn put_payment_events(&self, events: &[NewPaymentEvent]) -> Result<Vec<PutEvent>, StoreError> {
        // Always in the order of their ids, so that two processes never wait for each other crosswise.
        let once: BTreeMap<&str, &NewPaymentEvent> = events.iter().map(|event| (event.id.as_str(), event)).collect();
        let column = |of: fn(&NewPaymentEvent) -> &str| -> Vec<String> {
            once.values().map(|event| of(event).to_owned()).collect()
        };
        let rows = sqlx::query!(
            r#"with put as (
                insert into payment_events
                    (id, type, object_id, object_kind, order_id, subscription_id, stripe_created_at, livemode, customer_id,
                     payment_id)
                select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[],
                    $7::timestamptz[], $8::boolean[], $10::text[], $11::text[])
                on conflict (id) do update set
                    state = case payment_events.state when 'unclaimed' then 'received' else payment_events.state end,
                    next_attempt_at = now()
                returning id, xmax = 0 as new, state in ('handled', 'ignored') as handled
               )
               select id as "id!", new as "new!", handled as "handled!",
                (select count(pg_notify($9, '')) from put where not handled) as "announced!"
               from put"#,
            &column(|event| &event.id),
            &column(|event| &event.event_type),
            &column(|event| &event.object_id),
            &column(|event| &event.object_kind),
            &once.values().map(|event| event.order.map(|order| order.0)).collect::<Vec<_>>() as &[Option<Uuid>],
            &once.values().map(|event| event.subscription.as_ref().map(|id| id.0.clone())).collect::<Vec<_>>()
                as &[Option<String>],
            &once.values().map(|event| event.created_at).collect::<Vec<_>>(),
            &once.values().map(|event| event.livemode).collect::<Vec<_>>(),
            CHANNEL,
            &once.values().map(|event| event.customer.clone()).collect::<Vec<_>>() as &[Option<String>],
            &once.values().map(|event| event.payment.clone()).collect::<Vec<_>>() as &[Option<String>],
        )
        .fetch_all(&self.pool)
        .await
        .doing("storing payment events")?;
        let mut known: HashMap<&str, PutEvent> = rows
            .iter()
            .map(|row| {
                (row.id.as_str(), if row.new { PutEvent::New } else { PutEvent::Known { handled: row.handled } })
            })
            .collect();
        let corrupt = StoreError::Corrupt { what: "the stored payment events" };
        let mut answers = Vec::with_capacity(events.len());
        for event in events {
            let Some(put) = known.get_mut(event.id.as_str()) else { return Err(corrupt) };
            answers.push(*put);
            if *put == PutEvent::New {
                *put = PutEvent::Known { handled: false };
            }
        }
        Ok(answers)
    }

    /// Those of these events that were never told to us.
    pub async fn events_unheard(&self, ids: &[String]) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar!(
            r#"select told.id as "id!" from unnest($1::text[]) as told (id)
               where not exists (select 1 from payment_events known where known.id = told.id)"#,
            ids,
        )
        .fetch_all(&self.pool)
        .await
        .doing("looking for unheard events")
    }

    /// Notes that no workflow wanted an event; staff see it. One that another process handled meanwhile stays as it is.
    pub async fn payment_event_unclaimed(&self, id: &str, why: &str) -> Result<(), StoreError> {
        let ended = sqlx::query!(
            "update payment_events set state = 'unclaimed', last_error = $2, handled_at = now()
             where id = $1 and state in ('received', 'unclaimed')",
            id,
            why,
        )
        .execute(&self.pool)
        .await
        .doing("ending a payment event")?;
        if ended.rows_affected() == 1 || self.knows_event(id).await? {
            Ok(())
        } else {
            Err(StoreError::conflict("payment_event_unknown"))
        }
    }

    async fn knows_event(&self, id: &str) -> Result<bool, StoreError> {
        sqlx::query_scalar!(r#"select exists (select 1 from payment_events where id = $1) as "known!""#, id)
            .fetch_one(&self.pool)
            .await
            .doing("reading a payment event")
    }

    /// Notes that an event could not be driven on. It is due again after a pause that doubles from one second up to five
    /// minutes.
    pub async fn payment_event_failed(&self, id: &str, error: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "update payment_events set attempts = attempts + 1, last_error = $2,
                next_attempt_at = now() + least(power(2, least(attempts, 10)), 300) * interval '1 second'
             where id = $1 and state = 'received'",
            id,
            error,
        )
        .execute(&self.pool)
        .await
        .doing("putting a payment event off")?;
        Ok(())
    }

    /// Hears of stored events, over a connection of its own.
    pub async fn payment_event_listener(&self) -> Result<PaymentEventListener, StoreError> {
        let mut listener = PgListener::connect_with(&self.pool).await.doing("listening for payment events")?;
        listener.listen(CHANNEL).await.doing("listening for payment events")?;
        Ok(PaymentEventListener(listener))
    }
}
