//! What was charged for a subscription, with what was given back of it and what is claimed back.
use crate::{Store, StoreError, catalogue::money, fault::Doing};
use domain::{ids::SubscriptionId, money::Money};
use time::OffsetDateTime;

/// How many charges, and how many refunds, are listed at most; the newest stay.
const LISTED_LIMIT: i64 = 200;

/// One charge that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeLine {
    /// The Stripe id (`ch_…`, `py_…`).
    pub id: String,
    /// The invoice it is for.
    pub invoice: Option<String>,
    /// Stripe's word (`succeeded`, `pending`, `failed`).
    pub status: String,
    /// How much.
    pub money: Money,
    /// Why it failed.
    pub failure: Option<String>,
    /// Stripe's word about the newest dispute.
    pub dispute: Option<String>,
    /// When it was tried.
    pub at: OffsetDateTime,
    /// What was given back of it, oldest first.
    pub refunds: Vec<RefundLine>,
}

/// Money given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundLine {
    /// The Stripe id (`re_…`).
    pub id: String,
    /// Of which charge.
    pub charge: String,
    /// Stripe's word.
    pub status: String,
    /// How much.
    pub money: Money,
    /// When.
    pub at: OffsetDateTime,
}

impl RefundLine {
    /// Whether the money went back, or is on its way.
    pub fn stands(&self) -> bool {
        !matches!(self.status.as_str(), "failed" | "canceled")
    }
}

impl ChargeLine {
    /// What was given back of it, or is on its way, in minor units.
    pub fn given_back_minor(&self) -> i64 {
        self.refunds.iter().filter(|refund| refund.stands()).map(|refund| refund.money.amount_minor).sum()
    }
}

impl Store {
    /// What was charged for a subscription, oldest first; the newest 200.
    pub(super) async fn charges(&self, id: &SubscriptionId) -> Result<Vec<ChargeLine>, StoreError> {
        let rows = sqlx::query!(
            r#"select p.id, p.invoice_id, p.status, p.amount_minor, p.currency, p.failure, p.created_at,
                (select d.status from disputes d where d.payment_id = p.id order by d.created_at desc limit 1) as dispute
               from payments p where p.subscription_id = $1 order by p.created_at desc, p.id desc limit $2"#,
            id.0,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading the charges of a subscription")?;
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let refunds = self.refunds_of(&ids).await?;
        rows.into_iter()
            .rev()
            .map(|row| {
                Ok(ChargeLine {
                    refunds: refunds.iter().filter(|refund| refund.charge == row.id).cloned().collect(),
                    invoice: row.invoice_id,
                    status: row.status,
                    money: money(row.amount_minor, &row.currency)?,
                    failure: row.failure,
                    dispute: row.dispute,
                    at: row.created_at,
                    id: row.id,
                })
            })
            .collect()
    }

    async fn refunds_of(&self, charges: &[String]) -> Result<Vec<RefundLine>, StoreError> {
        let rows = sqlx::query!(
            "select id, payment_id, status, amount_minor, currency, created_at from refunds
             where payment_id = any($1) order by created_at, id limit $2",
            charges,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading refunds")?;
        rows.into_iter()
            .map(|row| {
                Ok(RefundLine {
                    id: row.id,
                    charge: row.payment_id,
                    status: row.status,
                    money: money(row.amount_minor, &row.currency)?,
                    at: row.created_at,
                })
            })
            .collect()
    }
}
