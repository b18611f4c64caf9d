//! Invoices of one subscription: which is unpaid, which was paid last, and how to void one.
use domain::{
    billing::OpenInvoice,
    ids::SubscriptionId,
    money::{Currency, Money},
};
use store::{InvoicePrint, InvoiceRow};
use stripe::StripeRequest as _;
use stripe_billing::{
    Invoice, InvoiceCollectionMethod, InvoicePayment, InvoiceStatus,
    invoice::{ListInvoice, RetrieveInvoice, VoidInvoiceInvoice},
};
use stripe_core::PaymentIntentStatus;
use time::OffsetDateTime;

use super::{Attempt, Denial, StripeApi, asked, read, under};
use crate::{
    call::Kind,
    fault::{Fault, Vendor},
};

/// How many of a subscription's newest invoices are read.
const INVOICES_MAX: i64 = 24;

/// The payment of an invoice that is not paid.
pub(super) struct OpenPayment {
    /// Whether it is on its way.
    pub(super) is_pending: bool,
    /// Whether it waits for the customer to confirm it with their bank.
    pub(super) needs_confirmation: bool,
}

impl StripeApi {
    /// The subscription's newest invoices, newest first.
    pub(super) async fn invoices(&self, subscription: &SubscriptionId) -> Result<Vec<Invoice>, Fault> {
        let request = ListInvoice::new().subscription(subscription.0.as_str()).limit(INVOICES_MAX);
        Ok(read("reading the invoices of a subscription", request.send(&self.client)).await?.data)
    }

    /// An invoice (`in_…`), if it is one of this subscription, however old.
    pub(super) async fn invoice_of(
        &self,
        subscription: &SubscriptionId,
        invoice: &str,
    ) -> Result<Option<Invoice>, Fault> {
        let request = RetrieveInvoice::new(invoice);
        match asked(Kind::Read, request.send(&self.client)).await {
            Ok(found) => Ok(Some(found).filter(|found| subscription_of(found).as_ref() == Some(subscription))),
            Err(Denial::Refused { status: 404, .. }) => Ok(None),
            Err(denial) => Err(denial.on_read("reading an invoice")),
        }
    }

    /// The oldest invoice that is finalised and not paid, and whether it may be held against the customer.
    pub(super) async fn open_invoice(&self, invoices: &[Invoice]) -> Result<Option<OpenInvoice>, Fault> {
        let Some((invoice, id)) = oldest_open(invoices) else {
            return Ok(None);
        };
        let payment = self.payment_of(&id).await?;
        let mut payment_pending = payment.is_pending;
        // Whoever pays a newer one first is paying.
        for newer in open_ids(invoices).iter().filter(|newer| **newer != id) {
            payment_pending = payment_pending || self.payment_of(newer).await?.is_pending;
        }
        Ok(Some(OpenInvoice {
            id,
            delivered: is_delivered(invoice),
            payment_pending,
            needs_confirmation: payment.needs_confirmation,
        }))
    }

    /// What became of the payment of an open invoice so far.
    pub(super) async fn payment_of(&self, invoice: &str) -> Result<OpenPayment, Fault> {
        let payments = self.payments(invoice, "payments.data.payment.payment_intent").await?;
        let is_any = |status: &PaymentIntentStatus| {
            let intents = payments.iter().filter_map(|payment| payment.payment.payment_intent.as_ref()?.as_object());
            intents.into_iter().any(|intent| intent.status == *status)
        };
        Ok(OpenPayment {
            is_pending: is_any(&PaymentIntentStatus::Processing),
            needs_confirmation: is_any(&PaymentIntentStatus::RequiresAction),
        })
    }

    /// The payments of an invoice, with what `expand` names.
    pub(super) async fn payments(&self, invoice: &str, expand: &str) -> Result<Vec<InvoicePayment>, Fault> {
        let request = RetrieveInvoice::new(invoice).expand([expand.to_owned()]);
        let doing = "reading the payments of an invoice";
        let payments = read(doing, request.send(&self.client)).await?.payments;
        // Asked for, they are told of, be it as an empty list: money must not stay because an answer is half.
        payments.map(|payments| payments.data).ok_or_else(|| Vendor::Stripe.try_again(doing, "the answer names none"))
    }

    /// Voids an open invoice under `<act>/void/<invoice>`. One that is not open any more, paid included, is left as it is.
    pub(super) async fn void(&self, invoice: &str, act: &str, attempt: Attempt) -> Result<(), Fault> {
        let doing = "voiding an unpaid invoice";
        let key = under(&attempt.key(&format!("{act}/void/{invoice}")))?;
        let request = VoidInvoiceInvoice::new(invoice).customize().request_strategy(key);
        match asked(Kind::Write, request.send(&self.client)).await {
            Ok(_) => Ok(()),
            Err(denial) if denial.is_final() => {
                let now = read(doing, RetrieveInvoice::new(invoice).send(&self.client)).await?;
                // Stripe refuses to void an invoice whose payment is on its way: that ends by itself.
                if is_open(&now) { Err(Vendor::Stripe.try_again(doing, denial)) } else { Ok(()) }
            }
            Err(denial) => Err(denial.on_write(doing)),
        }
    }
}

pub(super) fn is_open(invoice: &Invoice) -> bool {
    invoice.status == Some(InvoiceStatus::Open)
}

pub(super) fn is_paid(invoice: &Invoice) -> bool {
    invoice.status == Some(InvoiceStatus::Paid)
}

/// The ids of the open invoices.
pub(super) fn open_ids(invoices: &[Invoice]) -> Vec<String> {
    invoices.iter().filter(|invoice| is_open(invoice)).filter_map(id_of).collect()
}

pub(super) fn id_of(invoice: &Invoice) -> Option<String> {
    invoice.id.as_ref().map(ToString::to_string)
}

/// The subscription an invoice is of, if any.
pub(super) fn subscription_of(invoice: &Invoice) -> Option<SubscriptionId> {
    let details = invoice.parent.as_ref()?.subscription_details.as_ref()?;
    Some(SubscriptionId(details.subscription.id().to_string()))
}

/// The newest invoice that was paid. Stripe lists the newest first, which decides between those made in one second. One for
/// nothing is none, which Stripe calls paid, too: it begins an extended period. With a `trial`, neither is what cost nothing
/// after a discount.
pub(super) fn newest_paid(invoices: &[Invoice], trial: bool) -> Option<String> {
    let for_nothing = |invoice: &Invoice| invoice.total == 0 && (trial || invoice.subtotal == 0);
    let counts = |invoice: &&Invoice| is_paid(invoice) && !for_nothing(invoice);
    invoices.iter().rev().filter(counts).max_by_key(|invoice| invoice.created).and_then(id_of)
}

fn oldest_open(invoices: &[Invoice]) -> Option<(&Invoice, String)> {
    let oldest = invoices.iter().rev().filter(|invoice| is_open(invoice)).min_by_key(|invoice| invoice.created)?;
    Some((oldest, id_of(oldest)?))
}

/// Whether the customer could know of an open invoice: collecting was tried, or it was sent to be paid by hand.
fn is_delivered(invoice: &Invoice) -> bool {
    let tried = invoice.attempted || invoice.attempt_count > 0;
    let sent = invoice.collection_method == InvoiceCollectionMethod::SendInvoice
        && invoice.auto_advance == Some(true)
        && invoice.hosted_invoice_url.is_some();
    tried || sent
}

/// The invoices as our database keeps them; a draft without an id is left out.
pub(super) fn rows(subscription: &SubscriptionId, invoices: &[Invoice]) -> Result<Vec<InvoiceRow>, Fault> {
    invoices
        .iter()
        .filter_map(|invoice| Some((id_of(invoice)?, invoice)))
        .map(|(id, i)| row(subscription, id, i))
        .collect()
}

pub(super) fn row(subscription: &SubscriptionId, id: String, invoice: &Invoice) -> Result<InvoiceRow, Fault> {
    let unreadable =
        |what: &str| Vendor::Stripe.give_up("mirroring an invoice", format!("the {what} of {id} cannot be read"));
    let currency: Currency = invoice.currency.to_string().parse().map_err(|_| unreadable("currency"))?;
    let moment = |secs: i64| OffsetDateTime::from_unix_timestamp(secs).map_err(|_| unreadable("date"));
    let print = InvoicePrint {
        number: invoice.number.clone(),
        billing_reason: invoice.billing_reason.as_ref().map(|reason| reason.as_str().to_owned()),
        period_start: Some(moment(invoice.period_start)?),
        period_end: Some(moment(invoice.period_end)?),
        subtotal_minor: invoice.subtotal,
        discount_minor: invoice.total_discount_amounts.iter().flatten().map(|discount| discount.amount).sum(),
        tax_minor: invoice.total_taxes.iter().flatten().map(|tax| tax.amount).sum(),
        total_minor: invoice.total,
        pdf_url: invoice.invoice_pdf.clone(),
        paid_at: invoice.status_transitions.paid_at.map(moment).transpose()?,
    };
    Ok(InvoiceRow {
        subscription: subscription.clone(),
        status: invoice.status.as_ref().map_or("draft", InvoiceStatus::as_str).to_owned(),
        amount_due: Money { amount_minor: invoice.amount_due, currency },
        amount_paid_minor: invoice.amount_paid,
        hosted_url: invoice.hosted_invoice_url.clone(),
        created_at: moment(invoice.created)?,
        print,
        id,
    })
}
