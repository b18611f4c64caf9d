//! What the inbox takes and gives back: many rows with one question, because there may be thousands of them at once.
use crate::{
    Store, StoreError,
    fault::{Doing, count, word},
};
use domain::{
    billing::Phase,
    ids::{OrderId, SubscriptionId},
    order::OrderStatus,
};

/// An event to be driven on, with what our own tables know of what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueEvent {
    /// The Stripe id (`evt_…`).
    pub id: String,
    /// Stripe's word (`checkout.session.completed`).
    pub event_type: String,
    /// Stripe's word for the object (`checkout.session`).
    pub object_kind: String,
    /// The order its Checkout Session belongs to, or else the one its metadata names.
    pub order: Option<OrderId>,
    /// Where that order is in its life; none when it is not written down yet.
    pub order_status: Option<OrderStatus>,
    /// The subscription it names.
    pub subscription: Option<SubscriptionId>,
    /// Where that subscription is in its life; none when it is not written down yet.
    pub phase: Option<Phase>,
    /// The customer it names (`cus_…`).
    pub customer: Option<String>,
    /// The payment it is about, when it names no customer (`ch_…`, `py_…`, `pi_…`).
    pub payment: Option<String>,
    /// How many tries failed before.
    pub attempts: u32,
}

impl Store {
    /// Events to be driven on, oldest first. For three seconds nobody else gets them; whoever dies meanwhile loses nothing.
    pub async fn due_events(&self, limit: i64) -> Result<Vec<DueEvent>, StoreError> {
        let rows = sqlx::query!(
            r#"with due as (
                update payment_events set next_attempt_at = now() + interval '3 seconds'
                where id in (
                    select id from payment_events where state = 'received' and next_attempt_at <= now()
                    order by next_attempt_at, received_at limit $1 for no key update skip locked
                )
                returning id, type, object_id, object_kind, order_id, subscription_id, customer_id, payment_id, attempts,
                    received_at
               )
               select due.id as "id!", due.type as "event_type!", due.object_kind as "object_kind!",
                coalesce(o.id, due.order_id) as "order?", o.status as "order_status?",
                due.subscription_id as "subscription?", s.phase as "phase?", due.customer_id as "customer?",
                due.payment_id as "payment?", due.attempts as "attempts!"
               from due
               left join orders o on o.id = coalesce((
                    select by_session.id from orders by_session
                    where due.object_kind = 'checkout.session' and by_session.stripe_session_id = due.object_id
                ), due.order_id)
               left join subscriptions s on s.id = due.subscription_id
               order by due.received_at, due.id"#,
            limit,
        )
        .fetch_all(&self.pool)
        .await
        .doing("claiming payment events")?;
        rows.into_iter()
            .map(|row| {
                Ok(DueEvent {
                    id: row.id,
                    event_type: row.event_type,
                    object_kind: row.object_kind,
                    order: row.order.map(OrderId),
                    order_status: row.order_status.map(|text| word(&text, "an order's status")).transpose()?,
                    subscription: row.subscription.map(SubscriptionId),
                    phase: row.phase.map(|text| word(&text, "a subscription's phase")).transpose()?,
                    customer: row.customer,
                    payment: row.payment,
                    attempts: count(row.attempts, "an event's attempts")?,
                })
            })
            .collect()
    }

    /// Notes that workflows were told of these events, or that `ignored` ones are of types we do nothing about.
    pub async fn end_events(&self, handled: &[String], ignored: &[String]) -> Result<(), StoreError> {
        sqlx::query!(
            "update payment_events set state = case when id = any($2) then 'ignored' else 'handled' end,
                last_error = null, handled_at = now()
             where (id = any($1) or id = any($2)) and state in ('received', 'unclaimed')",
            handled,
            ignored,
        )
        .execute(&self.pool)
        .await
        .doing("ending payment events")?;
        Ok(())
    }

    /// Queues letters again that were refused with the words `why` since two weeks, when they are of one of these `kinds` and
    /// about somebody or something. Gives how many. Twice is once.
    pub async fn queue_letters_again(&self, why: &str, kinds: &[String]) -> Result<u64, StoreError> {
        let queued = sqlx::query!(
            "update letters set state = 'queued', last_error = null
             where state = 'refused' and created_at > now() - interval '14 days' and last_error = $1 and kind = any($2)
                and (user_id is not null or order_id is not null or subscription_id is not null)",
            why,
            kinds,
        )
        .execute(&self.pool)
        .await
        .doing("queueing letters again")?;
        Ok(queued.rows_affected())
    }

    /// Takes letters out of the queue: workflows send them from now on.
    pub async fn letters_started(&self, occasions: &[String]) -> Result<(), StoreError> {
        sqlx::query!("update letters set state = 'started' where occasion = any($1) and state = 'queued'", occasions)
            .execute(&self.pool)
            .await
            .doing("starting letters")?;
        Ok(())
    }
}
