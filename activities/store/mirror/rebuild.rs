//! The mirror built anew: what our own tables still say, and the rows that are put back beneath it.
use super::super::subscriptions::moment;
use crate::{Store, StoreError, fault::Doing};
use domain::{
    billing::SubscriptionView,
    ids::{AccountId, OrderId, SubscriptionId},
};

/// A subscription that one of our orders was paid with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidSubscription {
    /// Which.
    pub subscription: SubscriptionId,
    /// The order.
    pub order: OrderId,
    /// Who pays.
    pub account: AccountId,
}

/// A subscription as Stripe tells it, to be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSubscription {
    /// Which, and whose.
    pub paid: PaidSubscription,
    /// What Stripe says.
    pub view: SubscriptionView,
    /// What is charged for it (`price_…`).
    pub stripe_price: Option<String>,
}

impl Store {
    /// Every subscription that an order was paid with, read a page at a time.
    pub async fn paid_subscriptions(&self) -> Result<Vec<PaidSubscription>, StoreError> {
        let mut paid: Vec<PaidSubscription> = vec![];
        loop {
            let last = paid.last().map_or("", |known| known.subscription.0.as_str());
            let rows = sqlx::query!(
                r#"select subscription_id as "subscription!", id, account_id from orders
                   where subscription_id > $1 and covered_by is null order by subscription_id limit 1000"#,
                last,
            )
            .fetch_all(&self.pool)
            .await
            .doing("reading paid orders")?;
            if rows.is_empty() {
                return Ok(paid);
            }
            paid.extend(rows.into_iter().map(|row| PaidSubscription {
                subscription: SubscriptionId(row.subscription),
                order: OrderId(row.id),
                account: AccountId(row.account_id),
            }));
        }
    }

    /// Puts subscriptions back that are not in the table, in the phase their services are in; with `empty`, after every
    /// table of the mirror was emptied in the same transaction. Gives how many were put back.
    ///
    /// What a subscription's workflow knows better, its next look writes.
    pub async fn put_subscriptions(&self, found: &[FoundSubscription], empty: bool) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        if empty {
            sqlx::query!(
                "truncate credit_moves, refunds, disputes, payments, invoices, subscriptions, billing_customers, payment_events,
                    mirror_looks"
            )
            .execute(&mut *tx)
            .await
            .doing("emptying the mirror")?;
        }
        let mut put = 0;
        for one in found {
            let done = sqlx::query!(
                "insert into subscriptions (id, account_id, order_id, plan_id, price_id, status, phase, period_start,
                    period_end, cancel_at_period_end, created_at, read_at,
                    pending_price, pending_invoice, pending_until, next_price, next_price_at, trial_until)
                 select $2, o.account_id, o.id, coalesce(p.plan_id, o.plan_id), coalesce(p.id, o.price_id), $3,
                    (select case when bool_or(s.status = 'suspended') then 'suspended'
                        when bool_or(s.status = 'retained') then 'retained'
                        when bool_and(s.status in ('expired', 'undone')) then 'expired'
                        when $3 in ('past_due', 'unpaid') then 'past_due' else 'active' end
                     from services s where s.subscription_id = $2),
                    $4, $5, $6, coalesce(o.paid_at, o.created_at), now(), $8, $9, $10, $11, $12, $13
                 from orders o left join prices p on p.stripe_price_id = $7 where o.id = $1
                 on conflict (id) do nothing",
                one.paid.order.0,
                one.paid.subscription.0,
                one.view.status.as_str(),
                moment(one.view.period_start)?,
                moment(one.view.period_end)?,
                one.view.cancel_at_period_end,
                one.stripe_price,
                one.view.pending.as_ref().map(|pending| &pending.price),
                one.view.pending.as_ref().and_then(|pending| pending.invoice.as_ref()),
                one.view.pending.as_ref().map(|pending| moment(pending.until)).transpose()?,
                one.view.next_price.as_ref().map(|next| &next.price),
                one.view.next_price.as_ref().map(|next| moment(next.at)).transpose()?,
                one.view.trial_until.map(moment).transpose()?,
            )
            .execute(&mut *tx)
            .await
            .doing("putting a subscription back")?;
            put += done.rows_affected();
        }
        tx.commit().await.doing("putting subscriptions back")?;
        Ok(put)
    }
}
