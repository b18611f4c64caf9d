//! The end of an order without a service.
use super::{steps, try_lock};
use crate::{Store, StoreError, catalogue::money, fault::Doing, timeline};
use domain::{
    ids::OrderId,
    money::Money,
    order::{LATE, OrderStatus},
};
use sqlx::PgConnection;

/// What was paid for an order, as far as our mirror of its invoices knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaidFor {
    /// Nothing: its first days cost nothing, or a promotion paid for all of it.
    Nothing,
    /// This.
    This(Money),
    /// No invoice of it was read yet.
    Unread,
}

impl Store {
    /// What was paid for an order.
    pub async fn paid_for(&self, order: OrderId) -> Result<PaidFor, StoreError> {
        let mut db = self.pool.acquire().await.doing("reading what was paid")?;
        paid_for(&mut db, order).await
    }

    /// Closes an order that lapsed or was given up: frees what it held, and ends its service, its entitlement and the
    /// mirror of its subscription; the subscription that covers it goes on, with one more free place. An order that is closed already stays as it is; one that was never written down has
    /// nothing to free.
    ///
    /// *Errors*: [`StoreError::Conflict`] when `status` is no such end (`not_an_end`), or an order that was paid is to
    /// lapse (`order_paid`).
    pub async fn close_order(
        &self,
        order: OrderId,
        status: OrderStatus,
        reason: &str,
        refunded: bool,
    ) -> Result<(), StoreError> {
        if !matches!(status, OrderStatus::Lapsed | OrderStatus::Abandoned) {
            return Err(StoreError::conflict("not_an_end"));
        }
        let mut tx = self.begin().await?;
        let Some(locked) = try_lock(&mut tx, order).await? else { return Ok(()) };
        match locked.status {
            OrderStatus::AwaitingPayment => {}
            OrderStatus::Provisioning | OrderStatus::Delivered if status == OrderStatus::Abandoned => {}
            OrderStatus::Provisioning | OrderStatus::Delivered => return Err(StoreError::conflict("order_paid")),
            OrderStatus::Lapsed | OrderStatus::SoldOut | OrderStatus::Abandoned => return Ok(()),
        }
        sqlx::query!(
            "update orders set status = $2, reason = $3, closed_at = now() where id = $1",
            order.0,
            status.as_str(),
            reason,
        )
        .execute(&mut *tx)
        .await
        .doing("closing an order")?;
        release(&mut tx, order).await?;
        if let Some(subscription) = locked.subscription.as_ref().filter(|_| !locked.covered) {
            end_subscription(&mut tx, subscription).await?;
        }
        sqlx::query!(
            "update services set status = 'undone', changed_at = now() where order_id = $1 and status <> 'undone'",
            order.0,
        )
        .execute(&mut *tx)
        .await
        .doing("undoing a service")?;
        erase_password(&mut tx, order).await?;
        steps::undo_open(&mut tx, order).await?;
        let paid = paid_for(&mut tx, order).await?;
        let line = match (status, locked.status) {
            (OrderStatus::Lapsed, _) => "Not paid in time. Nothing was charged, and nothing is held any more.",
            // Paid on the page, although the order had not heard of it.
            (_, OrderStatus::AwaitingPayment) if refunded && paid != PaidFor::Nothing => {
                "We could not go on with this order. Your payment goes back to you."
            }
            (_, OrderStatus::AwaitingPayment) => "We could not go on with this order. Nothing was charged.",
            _ if locked.covered => {
                "We could not build this server. Everything was undone, and its place in your plan is free again."
            }
            _ if paid == PaidFor::Nothing && reason == LATE => {
                "We could not deliver this order in the time we promise. Everything was undone, and nothing was charged."
            }
            _ if paid == PaidFor::Nothing => {
                "We could not deliver this order. Everything was undone, and nothing was charged."
            }
            _ if reason == LATE => {
                "We could not deliver this order in the time we promise. Everything was undone and your payment goes back to you."
            }
            _ => "We could not deliver this order. Everything was undone and your payment goes back to you.",
        };
        timeline::of_order(&mut tx, order, "order", status.as_str(), line).await?;
        tx.commit().await.doing("closing an order")
    }
}

/// The days that cost nothing are over when an invoice says that something was paid.
async fn paid_for(db: &mut PgConnection, order: OrderId) -> Result<PaidFor, StoreError> {
    let row = sqlx::query!(
        r#"select o.trial_days, sum(i.amount_paid_minor)::bigint as "minor?", min(i.currency) as "currency?"
           from orders o left join invoices i on i.subscription_id = o.subscription_id and i.status = 'paid'
           where o.id = $1 group by o.id, o.trial_days"#,
        order.0,
    )
    .fetch_optional(db)
    .await
    .doing("reading what was paid")?;
    let Some(row) = row else { return Ok(PaidFor::Unread) };
    match row.minor.zip(row.currency) {
        Some((0, _)) => Ok(PaidFor::Nothing),
        Some((minor, currency)) => Ok(PaidFor::This(money(minor, &currency)?)),
        None if row.trial_days > 0 => Ok(PaidFor::Nothing),
        None => Ok(PaidFor::Unread),
    }
}

/// Frees what an order holds. Gives whether it held anything. The order is locked.
pub(crate) async fn release(db: &mut PgConnection, order: OrderId) -> Result<bool, StoreError> {
    let released = sqlx::query!(
        "update reservations set released_at = now() where order_id = $1 and released_at is null",
        order.0,
    )
    .execute(db)
    .await
    .doing("freeing a reservation")?;
    Ok(released.rows_affected() == 1)
}

/// Forgets a password nobody asked for. The order is locked.
pub(crate) async fn erase_password(db: &mut PgConnection, order: OrderId) -> Result<(), StoreError> {
    sqlx::query!(
        "update credentials set sealed_password = null
         from orders o where o.id = $1 and credentials.service_id = o.service_id",
        order.0,
    )
    .execute(db)
    .await
    .doing("erasing a password")?;
    Ok(())
}

async fn end_subscription(db: &mut PgConnection, subscription: &str) -> Result<(), StoreError> {
    sqlx::query!(
        "update subscriptions set status = 'canceled', phase = 'expired', destroy_at = null where id = $1",
        subscription,
    )
    .execute(&mut *db)
    .await
    .doing("ending a subscription")?;
    sqlx::query!(
        "update entitlements set closed_at = now() where subscription_id = $1 and closed_at is null",
        subscription,
    )
    .execute(db)
    .await
    .doing("closing an entitlement")?;
    Ok(())
}
