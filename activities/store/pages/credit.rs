//! What moved the credit of an account, and who or what did it.
use crate::{Store, StoreError, catalogue::money, fault::Doing};
use domain::{ids::AccountId, money::Money};
use time::OffsetDateTime;

/// How many moves are listed at most; the newest stay.
const LISTED_LIMIT: i64 = 100;

/// One move of an account's credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditMoveLine {
    /// The Stripe id (`cbtxn_…`).
    pub id: String,
    /// Whether there is more of it afterwards.
    pub gives: bool,
    /// By how much, without a sign.
    pub money: Money,
    /// Who or what moved it.
    pub by: CreditMover,
    /// When.
    pub at: OffsetDateTime,
}

/// Who or what moved a credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreditMover {
    /// Staff, by name, and why.
    Staff {
        /// Who.
        name: String,
        /// Why.
        reason: String,
    },
    /// An invoice used it, or did not need it after all.
    Invoice(String),
    /// It came back with an order that was given up, which had used it for this invoice.
    GivenUp(String),
    /// Nobody here: somebody at Stripe, in Stripe's word for it.
    Stripe(String),
}

impl Store {
    /// What moved an account's credit, newest first; 100 at most.
    pub(super) async fn credit_moves(&self, account: AccountId) -> Result<Vec<CreditMoveLine>, StoreError> {
        let rows = sqlx::query!(
            r#"select c.id, c.kind, c.amount_minor, c.currency, c.invoice_id, c.created_at, i.reason as "reason?",
                coalesce((select u.name from users u where u.id = case
                    when i.actor ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then i.actor::uuid end), i.actor) as "actor"
               from credit_moves c left join instructions i on i.id = c.instruction_id
               where c.account_id = $1 order by c.created_at desc, c.id desc limit $2"#,
            account.0,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading what moved a credit")?;
        rows.into_iter()
            .map(|row| {
                let by = match (row.actor, row.invoice_id) {
                    (Some(name), _) => CreditMover::Staff { name, reason: row.reason.unwrap_or_default() },
                    (None, Some(invoice)) if row.kind == "adjustment" => CreditMover::GivenUp(invoice),
                    (None, Some(invoice)) => CreditMover::Invoice(invoice),
                    (None, None) => CreditMover::Stripe(row.kind.replace('_', " ")),
                };
                let mut money = money(row.amount_minor, &row.currency)?;
                let gives = money.amount_minor < 0;
                money.amount_minor = money.amount_minor.saturating_abs();
                Ok(CreditMoveLine { id: row.id, gives, money, by, at: row.created_at })
            })
            .collect()
    }
}
