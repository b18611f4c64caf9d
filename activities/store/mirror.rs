//! The mirror of Stripe: customers, and every payment, refund and dispute of theirs. Whatever stands here was read at Stripe;
//! events only say when to look. Whoever read later is not written over by whoever read before.
use crate::{
    InvoiceRow, Store, StoreError,
    fault::Doing,
    privacy::erasures::is_erased,
    subscriptions::put_invoices,
    timeline::{self, Entry, SYSTEM},
};
use domain::{
    ids::{AccountId, InstructionId, OrderId, SubscriptionId},
    instruction::InstructionState,
    money::Money,
    order::OrderStatus,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

mod credit;
mod looks;
mod lost_refunds;
mod pass;
mod rebuild;
mod rounds;

use credit::put_credit_move;

pub use credit::CreditMoveRow;
pub use looks::DueLook;
pub use pass::{Compared, Pass};
pub use rebuild::{FoundSubscription, PaidSubscription};
pub use rounds::{Difference, DifferenceKind, MirroredSubscription, Round, UnpaidOrder};
pub(crate) use rounds::{covers_too_few, put_difference};

/// A customer as Stripe tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerRow {
    /// The Stripe id (`cus_…`).
    pub id: String,
    /// The account it names; a deleted one names none.
    pub account: Option<AccountId>,
    /// Whether Stripe has deleted it.
    pub deleted: bool,
    /// What is owed, in minor units; below nought it is the customer's credit.
    pub balance_minor: i64,
    /// The currency it is charged in, once it was.
    pub currency: Option<String>,
    /// Whether its newest invoice failed.
    pub delinquent: bool,
    /// When it was made; not known of a deleted one.
    pub created_at: Option<OffsetDateTime>,
}

/// One charge that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRow {
    /// The Stripe id (`ch_…`, `py_…`).
    pub id: String,
    /// The attempt to pay it belongs to (`pi_…`).
    pub intent: Option<String>,
    /// The invoice it is for.
    pub invoice: Option<String>,
    /// The subscription that invoice is of.
    pub subscription: Option<SubscriptionId>,
    /// The order that began it.
    pub order: Option<OrderId>,
    /// Stripe's word (`succeeded`, `pending`, `failed`).
    pub status: String,
    /// What was charged.
    pub money: Money,
    /// What of it was given back, in minor units.
    pub refunded_minor: i64,
    /// Whether the customer's bank disputes it, or did.
    pub disputed: bool,
    /// Why it failed.
    pub failure: Option<String>,
    /// Stripe's page about it.
    pub receipt_url: Option<String>,
    /// When it was tried.
    pub created_at: OffsetDateTime,
}

/// Money given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundRow {
    /// The Stripe id (`re_…`).
    pub id: String,
    /// Which payment it is of.
    pub payment: String,
    /// Stripe's word.
    pub status: String,
    /// How much.
    pub money: Money,
    /// Stripe's word for why.
    pub reason: Option<String>,
    /// The instruction it was made for, if it was made for one.
    pub instruction: Option<InstructionId>,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
}

/// Money a bank claims back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisputeRow {
    /// The Stripe id (`du_…`, `dp_…`).
    pub id: String,
    /// Which payment it is about.
    pub payment: String,
    /// Stripe's word.
    pub status: String,
    /// How much.
    pub money: Money,
    /// Stripe's word for why.
    pub reason: String,
    /// Until when Stripe takes an answer.
    pub answer_by: Option<OffsetDateTime>,
    /// When it was opened.
    pub created_at: OffsetDateTime,
}

/// Everything one customer did, as Stripe tells it at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerMirror {
    /// Who.
    pub customer: CustomerRow,
    /// What was asked.
    pub invoices: Vec<InvoiceRow>,
    /// What was charged.
    pub payments: Vec<PaymentRow>,
    /// What was given back.
    pub refunds: Vec<RefundRow>,
    /// What is claimed back.
    pub disputes: Vec<DisputeRow>,
    /// What moved the credit.
    pub credit_moves: Vec<CreditMoveRow>,
}

impl CustomerMirror {
    /// The same without the pages and words that lead to a person.
    fn unnamed(&self) -> Self {
        let mut bare = self.clone();
        for invoice in &mut bare.invoices {
            (invoice.hosted_url, invoice.print.pdf_url) = (None, None);
        }
        for payment in &mut bare.payments {
            (payment.receipt_url, payment.failure) = (None, None);
        }
        bare
    }
}

impl Store {
    /// Writes down what Stripe said of a customer at `read_at`. Says `false`, and writes nothing, when it is nobody's we
    /// know.
    ///
    /// One that Stripe has deleted is no longer the customer of its account, and its living subscriptions are looked at.
    /// What somebody has read later stays, but for what a wrong clock dates into the future.
    /// Of an account whose data was erased nothing is written that names anybody.
    pub async fn put_customer(&self, mirror: &CustomerMirror, read_at: OffsetDateTime) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let Some(account) = put_row(&mut tx, &mirror.customer, read_at).await? else { return Ok(false) };
        let erased = is_erased(&mut tx, account).await?;
        let unnamed;
        let mirror = if erased {
            unnamed = mirror.unnamed();
            &unnamed
        } else {
            mirror
        };
        put_invoices(&mut tx, &mirror.invoices, read_at).await?;
        let id = &mirror.customer.id;
        for payment in sorted(&mirror.payments, |row| &row.id) {
            put_payment(&mut tx, id, account, payment, read_at).await?;
        }
        for refund in sorted(&mirror.refunds, |row| &row.id) {
            put_refund(&mut tx, refund, read_at).await?;
        }
        for dispute in sorted(&mirror.disputes, |row| &row.id) {
            put_dispute(&mut tx, dispute, read_at).await?;
        }
        for moved in sorted(&mirror.credit_moves, |row| &row.id) {
            put_credit_move(&mut tx, id, account, moved).await?;
        }
        if mirror.customer.deleted {
            forget_customer(&mut tx, id, account).await?;
        }
        if erased {
            // Nobody is left to read the lines about what was given back.
            sqlx::query!("delete from timeline where account_id = $1", account.0)
                .execute(&mut *tx)
                .await
                .doing("removing lines nobody reads")?;
        }
        tx.commit().await.doing("mirroring a customer")?;
        Ok(true)
    }

    /// Every customer of ours: those of the accounts, and those that were mirrored.
    pub async fn customers(&self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar!(
            r#"select stripe_customer_id as "id!" from accounts where stripe_customer_id is not null
               union select id from billing_customers order by 1"#
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading the customers")
    }

    /// How many customers of an account Stripe has deleted.
    pub async fn deleted_customers(&self, account: AccountId) -> Result<i64, StoreError> {
        sqlx::query_scalar!(
            r#"select count(*) as "deleted!" from billing_customers where account_id = $1 and deleted"#,
            account.0,
        )
        .fetch_one(&self.pool)
        .await
        .doing("counting deleted customers")
    }

    /// How many disputes wait for our answer.
    pub async fn open_disputes(&self) -> Result<i64, StoreError> {
        sqlx::query_scalar!(
            r#"select count(*) as "open!" from disputes where status in ('needs_response', 'warning_needs_response')"#
        )
        .fetch_one(&self.pool)
        .await
        .doing("counting disputes")
    }
}

/// One order for everybody, so that two looks at once cannot wait for each other.
fn sorted<T>(rows: &[T], id: fn(&T) -> &String) -> Vec<&T> {
    let mut rows: Vec<&T> = rows.iter().collect();
    rows.sort_unstable_by(|a, b| id(a).cmp(id(b)));
    rows
}

/// Writes a customer, and gives whose it is.
async fn put_row(
    db: &mut PgConnection,
    customer: &CustomerRow,
    read_at: OffsetDateTime,
) -> Result<Option<AccountId>, StoreError> {
    let account = sqlx::query_scalar!(
        r#"select coalesce(
            (select account_id from billing_customers where id = $1),
            (select id from accounts where stripe_customer_id = $1 limit 1),
            (select id from accounts where id = $2)) as account"#,
        customer.id,
        customer.account.map(|account| account.0),
    )
    .fetch_one(&mut *db)
    .await
    .doing("looking for whose a customer is")?;
    let Some(account) = account else { return Ok(None) };
    sqlx::query!(
        "insert into billing_customers (id, account_id, deleted, balance_minor, currency, delinquent, created_at, read_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (id) do update set deleted = billing_customers.deleted or excluded.deleted,
            balance_minor = excluded.balance_minor, currency = coalesce(excluded.currency, billing_customers.currency),
            delinquent = excluded.delinquent,
            created_at = coalesce(excluded.created_at, billing_customers.created_at), read_at = excluded.read_at
         where billing_customers.read_at <= excluded.read_at or billing_customers.read_at > clock_timestamp()",
        customer.id,
        account,
        customer.deleted,
        customer.balance_minor,
        customer.currency,
        customer.delinquent,
        customer.created_at,
        read_at,
    )
    .execute(&mut *db)
    .await
    .doing("mirroring a customer")?;
    Ok(Some(AccountId(account)))
}

/// The next order makes another customer, and whatever this one paid for is looked at.
async fn forget_customer(db: &mut PgConnection, id: &str, account: AccountId) -> Result<(), StoreError> {
    sqlx::query!(
        "update accounts set stripe_customer_id = null where id = $1 and stripe_customer_id = $2",
        account.0,
        id
    )
    .execute(&mut *db)
    .await
    .doing("forgetting a deleted customer")?;
    sqlx::query!(
        "insert into payment_events (id, type, object_id, object_kind, subscription_id, stripe_created_at, livemode)
         select 'deleted/' || $1 || '/' || s.id, 'customer.deleted', $1, 'found', s.id, now(), true
         from subscriptions s
         where s.phase <> 'expired' and s.status <> 'canceled'
            and s.id in (select subscription_id from payments where customer_id = $1)
         on conflict (id) do nothing",
        id,
    )
    .execute(db)
    .await
    .doing("asking for looks at a deleted customer's subscriptions")?;
    Ok(())
}

async fn put_payment(
    db: &mut PgConnection,
    customer: &str,
    account: AccountId,
    payment: &PaymentRow,
    read_at: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into payments (id, payment_intent_id, customer_id, account_id, invoice_id, subscription_id, order_id, status,
            amount_minor, refunded_minor, currency, disputed, failure, receipt_url, created_at, read_at)
         values ($1, $2, $3, $4, $5, $6, coalesce($7, (select order_id from subscriptions where id = $6)), $8, $9, $10, $11,
            $12, $13, $14, $15, $16)
         on conflict (id) do update set invoice_id = excluded.invoice_id, subscription_id = excluded.subscription_id,
            order_id = excluded.order_id, status = excluded.status, amount_minor = excluded.amount_minor,
            refunded_minor = excluded.refunded_minor, disputed = excluded.disputed, failure = excluded.failure,
            receipt_url = excluded.receipt_url, read_at = excluded.read_at
         where payments.read_at <= excluded.read_at or payments.read_at > clock_timestamp()",
        payment.id,
        payment.intent,
        customer,
        account.0,
        payment.invoice,
        payment.subscription.as_ref().map(|id| id.0.as_str()),
        payment.order.map(|order| order.0),
        payment.status,
        payment.money.amount_minor,
        payment.refunded_minor,
        payment.money.currency.as_str(),
        payment.disputed,
        payment.failure,
        payment.receipt_url,
        payment.created_at,
        read_at,
    )
    .execute(db)
    .await
    .doing("mirroring a payment")?;
    Ok(())
}

async fn put_refund(db: &mut PgConnection, refund: &RefundRow, read_at: OffsetDateTime) -> Result<(), StoreError> {
    let newest = sqlx::query!(
        "insert into refunds (id, payment_id, status, amount_minor, currency, reason, created_at, read_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (id) do update set status = excluded.status, amount_minor = excluded.amount_minor,
            reason = excluded.reason, read_at = excluded.read_at
         where refunds.read_at <= excluded.read_at or refunds.read_at > clock_timestamp()",
        refund.id,
        refund.payment,
        refund.status,
        refund.money.amount_minor,
        refund.money.currency.as_str(),
        refund.reason,
        refund.created_at,
        read_at,
    )
    .execute(&mut *db)
    .await
    .doing("mirroring a refund")?;
    match refund.status.as_str() {
        "failed" | "canceled" => tell_lost_refund(db, refund).await,
        "succeeded" if newest.rows_affected() == 1 => tell_refund(db, refund).await,
        _ => Ok(()),
    }
}

/// One line for each refund that no other line tells of: what an instruction gave back stands there with who and why, and an
/// order that was given up says so itself.
async fn tell_refund(db: &mut PgConnection, refund: &RefundRow) -> Result<(), StoreError> {
    if let Some(instruction) = refund.instruction {
        let state = sqlx::query_scalar!("select state from instructions where id = $1", instruction.0)
            .fetch_optional(&mut *db)
            .await
            .doing("reading what a refund was made for")?;
        if state.is_some_and(|state| state != InstructionState::Refused.as_str()) {
            return Ok(());
        }
    }
    let Some(order) = order_of_payment(db, &refund.payment).await? else { return Ok(()) };
    let status = sqlx::query_scalar!("select status from orders where id = $1", order.0)
        .fetch_optional(&mut *db)
        .await
        .doing("reading the order of a refund")?;
    if status.as_deref() != Some(OrderStatus::Delivered.as_str()) {
        return Ok(());
    }
    let line = format!("{} were given back at Stripe on {}.", refund.money, refund.created_at.date());
    let fact = format!("refund/{}", refund.id);
    timeline::write(db, Entry { order, actor: SYSTEM, kind: "payment", line: &line, fact: &fact }).await?;
    Ok(())
}

/// The order whose history tells of a payment.
async fn order_of_payment(db: &mut PgConnection, payment: &str) -> Result<Option<OrderId>, StoreError> {
    let order = sqlx::query_scalar!("select order_id from payments where id = $1", payment)
        .fetch_optional(db)
        .await
        .doing("looking for whose a payment is")?;
    Ok(order.flatten().map(OrderId))
}

/// Shows staff money that was said to go back and does not, once for each refund.
async fn tell_lost_refund(db: &mut PgConnection, refund: &RefundRow) -> Result<(), StoreError> {
    let why = format!(
        "the refund of {} is {} at Stripe, and the customer may have been told of it; give it back again, or by hand",
        refund.money, refund.status
    );
    let told = sqlx::query!(
        "insert into payment_events
            (id, type, object_id, object_kind, order_id, subscription_id, customer_id, stripe_created_at, livemode,
             last_error, state, handled_at)
         select 'difference/refund/' || r.id, 'difference', r.id, 'refund', p.order_id, p.subscription_id, p.customer_id,
            now(), true, $2, 'unclaimed', now()
         from refunds r join payments p on p.id = r.payment_id
         where r.id = $1 and r.status in ('failed', 'canceled')
         on conflict (id) do nothing",
        refund.id,
        why,
    )
    .execute(db)
    .await
    .doing("noting a refund that is lost")?;
    if told.rows_affected() == 1 {
        tracing::warn!(refund = refund.id, status = refund.status, "money that was given back did not arrive");
    }
    Ok(())
}

async fn put_dispute(db: &mut PgConnection, dispute: &DisputeRow, read_at: OffsetDateTime) -> Result<(), StoreError> {
    let newest = sqlx::query!(
        "insert into disputes (id, payment_id, status, amount_minor, currency, reason, answer_by, created_at, read_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (id) do update set status = excluded.status, amount_minor = excluded.amount_minor,
            reason = excluded.reason, answer_by = excluded.answer_by, read_at = excluded.read_at
         where disputes.read_at <= excluded.read_at or disputes.read_at > clock_timestamp()",
        dispute.id,
        dispute.payment,
        dispute.status,
        dispute.money.amount_minor,
        dispute.money.currency.as_str(),
        dispute.reason,
        dispute.answer_by,
        dispute.created_at,
        read_at,
    )
    .execute(&mut *db)
    .await
    .doing("mirroring a dispute")?;
    if newest.rows_affected() == 1 {
        tell_dispute(db, dispute).await?;
    }
    Ok(())
}

/// One line for each dispute that was opened, and one for how it ended.
async fn tell_dispute(db: &mut PgConnection, dispute: &DisputeRow) -> Result<(), StoreError> {
    let Some(order) = order_of_payment(db, &dispute.payment).await? else { return Ok(()) };
    let (id, money) = (&dispute.id, &dispute.money);
    let mut lines = vec![("opened", format!("The payment of {money} is disputed by the customer's bank."))];
    match dispute.status.as_str() {
        "won" => lines.push(("won", format!("The dispute over {money} ended in our favour."))),
        "lost" => lines.push(("lost", format!("The dispute over {money} was lost; the money went back."))),
        _ => {}
    }
    for (what, line) in lines {
        let fact = format!("dispute/{id}/{what}");
        timeline::write(db, Entry { order, actor: SYSTEM, kind: "payment", line: &line, fact: &fact }).await?;
    }
    Ok(())
}
