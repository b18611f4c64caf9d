//! What moved the credit of an account: staff, an invoice, or somebody at Stripe itself.
use crate::{StoreError, fault::Doing};
use domain::{
    ids::{AccountId, InstructionId},
    money::Money,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

/// One move of a customer's balance as Stripe tells it. Source: Stripe, "Customer balance transaction".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditMoveRow {
    /// The Stripe id (`cbtxn_…`).
    pub id: String,
    /// Stripe's word (`adjustment`, `applied_to_invoice`, …).
    pub kind: String,
    /// By how much; below nought it gives credit.
    pub money: Money,
    /// The invoice that used it, or that it was given back for.
    pub invoice: Option<String>,
    /// The instruction it was made for, if it was made for one.
    pub instruction: Option<InstructionId>,
    /// When.
    pub created_at: OffsetDateTime,
}

/// Writes one down, once: a move never changes.
pub(super) async fn put_credit_move(
    db: &mut PgConnection,
    customer: &str,
    account: AccountId,
    moved: &CreditMoveRow,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into credit_moves
            (id, customer_id, account_id, kind, amount_minor, currency, invoice_id, instruction_id, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (id) do nothing",
        moved.id,
        customer,
        account.0,
        moved.kind,
        moved.money.amount_minor,
        moved.money.currency.as_str(),
        moved.invoice,
        moved.instruction.map(|id| id.0),
        moved.created_at,
    )
    .execute(db)
    .await
    .doing("mirroring what moved a credit")?;
    Ok(())
}
