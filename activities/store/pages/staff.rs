//! Everything staff look at first.
use super::{RefusedLetter, StaffEvent, StaffOrder, StaffOverview, StaffSubscription};
use crate::{
    Store, StoreError,
    fault::{Doing, count, word},
};
use domain::ids::{OrderId, SubscriptionId};

/// How many rows each list has at most.
const ROWS_LIMIT: i64 = 50;

impl Store {
    /// Everything staff look at first.
    pub async fn staff_overview(&self) -> Result<StaffOverview, StoreError> {
        Ok(StaffOverview {
            held: self.held_removals().await?,
            attention: self.open_attention().await?,
            orders: self.staff_orders().await?,
            subscriptions: self.staff_subscriptions().await?,
            events: self.staff_events().await?,
            letters_refused: self.letters_refused().await?,
        })
    }

    async fn staff_orders(&self) -> Result<Vec<StaffOrder>, StoreError> {
        let rows = sqlx::query!(
            r#"select o.id, a.name as account_name, o.hostname, p.name as plan_name, o.status, o.created_at,
                (select s.step from order_steps s where s.order_id = o.id and s.state in ('running', 'delayed')
                    order by s.started_at desc limit 1) as step
               from orders o join accounts a on a.id = o.account_id join plans p on p.id = o.plan_id
               order by o.created_at desc, o.id limit $1"#,
            ROWS_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading orders")?;
        rows.into_iter()
            .map(|row| {
                let id = OrderId(row.id);
                Ok(StaffOrder {
                    id,
                    workflow_id: id.workflow_id(),
                    account_name: row.account_name,
                    hostname: row.hostname,
                    plan_name: row.plan_name,
                    status: word(&row.status, "an order's status")?,
                    step: row.step.map(|step| word(&step, "a step")).transpose()?,
                    created_at: row.created_at,
                })
            })
            .collect()
    }

    async fn staff_subscriptions(&self) -> Result<Vec<StaffSubscription>, StoreError> {
        let rows = sqlx::query!(
            "select s.id, a.name as account_name, p.name as plan_name, s.status, s.phase, s.period_end, s.destroy_at
             from subscriptions s join accounts a on a.id = s.account_id join plans p on p.id = s.plan_id
             order by s.created_at desc, s.id limit $1",
            ROWS_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading subscriptions")?;
        rows.into_iter()
            .map(|row| {
                let id = SubscriptionId(row.id);
                Ok(StaffSubscription {
                    workflow_id: id.workflow_id(),
                    id,
                    account_name: row.account_name,
                    plan_name: row.plan_name,
                    status: word(&row.status, "a subscription's status")?,
                    phase: word(&row.phase, "a subscription's phase")?,
                    period_end: row.period_end,
                    destroy_at: row.destroy_at,
                })
            })
            .collect()
    }

    async fn staff_events(&self) -> Result<Vec<StaffEvent>, StoreError> {
        let rows = sqlx::query!(
            r#"select id as "id!", type as "type!", object_id as "object_id!", state as "state!", attempts as "attempts!",
                last_error, order_id, subscription_id, received_at as "received_at!"
               from (
                (select 0 as turn, * from payment_events where state = 'unclaimed' order by received_at desc, id limit $1)
                union all
                (select 1 as turn, * from payment_events where state = 'received' order by received_at desc, id limit $1)
                union all
                (select 2 as turn, * from payment_events where state in ('handled', 'ignored')
                    order by received_at desc, id limit $1)
               ) as events
               order by turn, received_at desc, id limit $1"#,
            ROWS_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading payment events")?;
        rows.into_iter()
            .map(|row| {
                Ok(StaffEvent {
                    id: row.id,
                    event_type: row.r#type,
                    object_id: row.object_id,
                    state: row.state,
                    attempts: count(row.attempts, "an event's attempts")?,
                    last_error: row.last_error,
                    order: row.order_id.map(OrderId),
                    subscription: row.subscription_id.map(SubscriptionId),
                    received_at: row.received_at,
                })
            })
            .collect()
    }

    async fn letters_refused(&self) -> Result<Vec<RefusedLetter>, StoreError> {
        sqlx::query_as!(
            RefusedLetter,
            "select occasion, kind, last_error, created_at from letters
             where state = 'refused' order by created_at desc, occasion limit $1",
            ROWS_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading refused letters")
    }
}
