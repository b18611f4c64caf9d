//! The one history that customers and staff read. Every line belongs to an order, and through it to an account, a service
//! and a subscription.
use crate::{StoreError, fault::Doing};
use domain::ids::OrderId;
use sqlx::PgConnection;

/// Who did what the portal did by itself.
pub(crate) const SYSTEM: &str = "system";

/// One line to write.
pub(crate) struct Entry<'a> {
    /// The order it belongs to.
    pub(crate) order: OrderId,
    /// [`SYSTEM`], or who.
    pub(crate) actor: &'a str,
    /// What it is about, one word.
    pub(crate) kind: &'a str,
    /// A sentence for the customer.
    pub(crate) line: &'a str,
    /// What happened; the same fact again writes nothing.
    pub(crate) fact: &'a str,
}

/// Writes a line, once for each fact. Gives whether it is new.
pub(crate) async fn write(db: &mut PgConnection, entry: Entry<'_>) -> Result<bool, StoreError> {
    let written = sqlx::query!(
        "insert into timeline (account_id, order_id, service_id, subscription_id, actor, kind, line, fact)
         select account_id, id, service_id, subscription_id, $2, $3, $4, $5 from orders where id = $1
         on conflict (fact) do nothing",
        entry.order.0,
        entry.actor,
        entry.kind,
        entry.line,
        entry.fact,
    )
    .execute(db)
    .await
    .doing("writing the timeline")?;
    Ok(written.rows_affected() == 1)
}

/// Writes what the portal itself did to an order; the fact is `order/<id>/<what>`.
pub(crate) async fn of_order(
    db: &mut PgConnection,
    order: OrderId,
    kind: &str,
    what: &str,
    line: &str,
) -> Result<bool, StoreError> {
    let fact = format!("order/{order}/{what}");
    write(db, Entry { order, actor: SYSTEM, kind, line, fact: &fact }).await
}
