//! Every invoice of an account, with what became of it; and the account's credit.
use crate::{Store, StoreError, catalogue::money, fault::Doing};
use domain::{
    ids::{AccountId, SubscriptionId},
    money::Money,
};
use time::OffsetDateTime;

/// How many invoices stand on a page.
const PAGE_LIMIT: usize = 50;
/// How many services are named beside an invoice.
const NAMED_LIMIT: i64 = 5;

/// One page of an account's invoices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoicesPage {
    /// Newest first; 50 at most.
    pub invoices: Vec<AccountInvoice>,
    /// Where the page after this one begins, if there are older ones.
    pub older: Option<String>,
    /// What its next invoices use up before the card.
    pub credit: Vec<Money>,
}

/// One invoice of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountInvoice {
    /// The Stripe id (`in_…`).
    pub id: String,
    /// The number printed on it; none before it is finalised.
    pub number: Option<String>,
    /// Stripe's word.
    pub status: String,
    /// The subscription it is for.
    pub subscription: SubscriptionId,
    /// The plan's name.
    pub plan_name: String,
    /// What the subscription pays for, by name.
    pub hostnames: String,
    /// What it comes to, before credit.
    pub total: Money,
    /// What was asked, after credit.
    pub amount_due: Money,
    /// What was given back, in minor units.
    pub refunded_minor: i64,
    /// Whether the customer's bank disputes its payment, or did.
    pub disputed: bool,
    /// Whether Stripe has a page and a PDF of it: it is no draft.
    pub has_page: bool,
    /// Whether Stripe has a receipt of its payment.
    pub has_receipt: bool,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// Where one invoice can be read, as last seen; Stripe's addresses grow old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceLinks {
    /// The page where it can be read and paid.
    pub hosted_url: Option<String>,
    /// The PDF.
    pub pdf_url: Option<String>,
    /// The payment that paid it (`ch_…`, `py_…`).
    pub payment: Option<String>,
    /// The receipt of that payment.
    pub receipt_url: Option<String>,
}

impl Store {
    /// The invoices of an account, newest first; those made before the invoice `before`, when that is one of the account's.
    pub async fn account_invoices(&self, account: AccountId, before: Option<&str>) -> Result<InvoicesPage, StoreError> {
        let rows = sqlx::query!(
            r#"select i.id, i.number, i.status, i.subscription_id, p.name as plan_name,
                coalesce(i.total_minor, i.amount_due_minor) as "total_minor!", i.amount_due_minor, i.currency, i.created_at,
                i.hosted_url is not null as "has_page!",
                coalesce((select string_agg(named.hostname, ', ') from (
                    select v.hostname from services v where v.subscription_id = s.id and v.status <> 'undone'
                    order by v.hostname limit $4) as named), '') as "hostnames!"
               from subscriptions s join invoices i on i.subscription_id = s.id join plans p on p.id = s.plan_id
               where s.account_id = $1 and ($2::text is null or (i.created_at, i.id) < (
                    select other.created_at, other.id from invoices other join subscriptions own on own.id = other.subscription_id
                    where other.id = $2 and own.account_id = $1))
               order by i.created_at desc, i.id desc limit $3"#,
            account.0,
            before,
            i64::try_from(PAGE_LIMIT).unwrap_or(i64::MAX).saturating_add(1),
            NAMED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading an account's invoices")?;
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let paid = self.paid_through(account, &ids).await?;
        let more = rows.len() > PAGE_LIMIT;
        let invoices = rows
            .into_iter()
            .take(PAGE_LIMIT)
            .map(|row| {
                let paid = paid.iter().find(|paid| paid.invoice == row.id);
                Ok(AccountInvoice {
                    refunded_minor: paid.map_or(0, |paid| paid.refunded_minor),
                    disputed: paid.is_some_and(|paid| paid.disputed),
                    has_receipt: paid.is_some_and(|paid| paid.has_receipt),
                    number: row.number,
                    status: row.status,
                    subscription: SubscriptionId(row.subscription_id),
                    plan_name: row.plan_name,
                    hostnames: row.hostnames,
                    total: money(row.total_minor, &row.currency)?,
                    amount_due: money(row.amount_due_minor, &row.currency)?,
                    has_page: row.has_page,
                    created_at: row.created_at,
                    id: row.id,
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let older = invoices.last().filter(|_| more).map(|last| last.id.clone());
        Ok(InvoicesPage { invoices, older, credit: self.credit(account).await? })
    }

    /// Where an invoice of this account can be read; `None` when it is not one of the account's.
    pub async fn invoice_links(&self, id: &str, account: AccountId) -> Result<Option<InvoiceLinks>, StoreError> {
        sqlx::query_as!(
            InvoiceLinks,
            r#"select i.hosted_url, i.pdf_url, paid.id as "payment?", paid.receipt_url as "receipt_url?"
               from invoices i join subscriptions s on s.id = i.subscription_id
               left join lateral (
                    select p.id, p.receipt_url from payments p
                    where p.subscription_id = s.id and p.invoice_id = i.id and p.status = 'succeeded'
                    order by p.created_at desc, p.id limit 1) as paid on true
               where i.id = $1 and s.account_id = $2"#,
            id,
            account.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading an invoice")
    }

    async fn paid_through(&self, account: AccountId, invoices: &[String]) -> Result<Vec<PaidThrough>, StoreError> {
        sqlx::query_as!(
            PaidThrough,
            r#"select invoice_id as "invoice!", sum(refunded_minor)::bigint as "refunded_minor!",
                bool_or(disputed) as "disputed!", bool_or(receipt_url is not null) as "has_receipt!"
               from payments where account_id = $1 and invoice_id = any($2) and status = 'succeeded' group by invoice_id"#,
            account.0,
            invoices,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading an account's payments")
    }

    /// What Stripe owes an account, as last seen.
    async fn credit(&self, account: AccountId) -> Result<Vec<Money>, StoreError> {
        let rows = sqlx::query!(
            r#"select -sum(balance_minor)::bigint as "owed_minor!", currency as "currency!" from billing_customers
               where account_id = $1 and not deleted and balance_minor < 0 and currency is not null
               group by currency order by currency"#,
            account.0,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading an account's credit")?;
        rows.into_iter().map(|row| money(row.owed_minor, &row.currency)).collect()
    }
}

/// What was paid for an invoice.
struct PaidThrough {
    invoice: String,
    refunded_minor: i64,
    disputed: bool,
    has_receipt: bool,
}
