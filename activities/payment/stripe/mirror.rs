//! Everything one customer did, read for the mirror: the customer, the invoices, and every charge with what came after it.
use std::collections::HashMap;

use domain::{
    ids::{OrderId, SubscriptionId},
    money::{Currency, Money},
};
use store::{CreditMoveRow, CustomerMirror, CustomerRow, DisputeRow, InvoiceRow, PaymentRow, RefundRow};
use stripe_billing::{Invoice, invoice::ListInvoice};
use stripe_core::{
    Charge, CustomerBalanceTransaction, Dispute, Refund,
    charge::{ListCharge, RetrieveCharge},
    customer::{RetrieveCustomer, RetrieveCustomerReturned},
    customer_balance_transaction::ListCustomerCustomerBalanceTransaction,
    dispute::ListDispute,
};
use stripe_types::Expandable;
use time::OffsetDateTime;

use super::{StripeApi, customer::ACCOUNT, instruction::INSTRUCTION, invoice, read, refund::CREDIT_OF};
use crate::fault::{Fault, Vendor};

const DOING: &str = "mirroring a customer";
/// How many rows are read in one call; Stripe's most.
const AT_ONCE: i64 = 100;
/// How many pages of a customer's invoices or charges are read.
const PAGES_MAX: usize = 100;

/// What an invoice says about the money it asked for.
#[derive(Clone, Default)]
struct AskedBy {
    invoice: Option<String>,
    subscription: Option<SubscriptionId>,
    order: Option<OrderId>,
}

impl StripeApi {
    /// The customer (`cus_…`) that a charge (`ch_…`, `py_…`) or an attempt to pay (`pi_…`) is of; `None` for one that names
    /// no customer.
    ///
    /// *Errors*: gives up on one that is not there.
    pub async fn customer_of(&self, payment: &str) -> Result<Option<String>, Fault> {
        let doing = "looking for the customer of a payment";
        let charge = if payment.starts_with("pi_") {
            let tried = ListCharge::new().payment_intent(payment).limit(1);
            read(doing, tried.send(&self.client)).await?.data.into_iter().next()
        } else {
            Some(read(doing, RetrieveCharge::new(payment).send(&self.client)).await?)
        };
        Ok(charge.and_then(|charge| charge.customer).map(|customer| customer.id().to_string()))
    }

    /// Reads everything one customer (`cus_…`) did. Reads only. What moved the credit is read when there is credit or an invoice
    /// met some, which spares everybody else a call, and always when everything is read `anew`.
    ///
    /// *Errors*: gives up on a customer that was never there.
    pub async fn customer_mirror(&self, id: &str, anew: bool) -> Result<CustomerMirror, Fault> {
        let customer = self.customer_row(id).await?;
        let (mut invoices, mut asked) = (vec![], HashMap::new());
        let mut had_credit = customer.balance_minor != 0;
        for one in self.invoices_of_customer(id).await? {
            had_credit |= one.starting_balance != 0 || one.ending_balance.is_some_and(|balance| balance != 0);
            let (row, payments) = asked_by(&one)?;
            let by = AskedBy {
                invoice: invoice::id_of(&one),
                subscription: row.as_ref().map(|row| row.subscription.clone()),
                order: order_of(&one),
            };
            asked.extend(payments.into_iter().map(|payment| (payment, by.clone())));
            invoices.extend(row);
        }
        let moves = if !customer.deleted && (had_credit || anew) { self.balance_moves(id).await? } else { vec![] };
        let credit_moves = moves.iter().map(credit_move_row).collect::<Result<_, _>>()?;
        let mut mirror =
            CustomerMirror { customer, invoices, payments: vec![], refunds: vec![], disputes: vec![], credit_moves };
        for charge in self.charges(id).await? {
            if charge.disputed {
                let known = ListDispute::new().charge(charge.id.to_string()).limit(AT_ONCE);
                let known = read("reading disputes", known.send(&self.client)).await?;
                mirror.disputes.extend(known.data.iter().map(dispute_row).collect::<Result<Vec<_>, _>>()?);
            }
            let refunds = charge.refunds.as_ref().map(|list| list.data.as_slice()).unwrap_or_default();
            let refunds = refunds.iter().map(|refund| refund_row(&charge, refund));
            mirror.refunds.extend(refunds.collect::<Result<Vec<_>, _>>()?);
            let intent = charge.payment_intent.as_ref().map(|intent| intent.id().to_string());
            let by = intent.as_ref().and_then(|intent| asked.get(intent)).or_else(|| asked.get(charge.id.as_str()));
            mirror.payments.push(payment_row(&charge, intent.clone(), by.cloned().unwrap_or_default())?);
        }
        Ok(mirror)
    }

    async fn customer_row(&self, id: &str) -> Result<CustomerRow, Fault> {
        let known = match read(DOING, RetrieveCustomer::new(id).send(&self.client)).await? {
            RetrieveCustomerReturned::Customer(known) => known,
            RetrieveCustomerReturned::DeletedCustomer(_) => {
                return Ok(CustomerRow {
                    id: id.to_owned(),
                    account: None,
                    deleted: true,
                    balance_minor: 0,
                    currency: None,
                    delinquent: false,
                    created_at: None,
                });
            }
        };
        Ok(CustomerRow {
            id: id.to_owned(),
            account: known.metadata.as_ref().and_then(|said| said.get(ACCOUNT)?.parse().ok()),
            deleted: false,
            balance_minor: known.balance.unwrap_or(0),
            currency: known.currency.map(|currency| currency.to_string()),
            delinquent: known.delinquent.unwrap_or(false),
            created_at: Some(moment(known.created, id)?),
        })
    }

    async fn invoices_of_customer(&self, id: &str) -> Result<Vec<Invoice>, Fault> {
        let mut found: Vec<Invoice> = vec![];
        for _ in 0..PAGES_MAX {
            let mut question = ListInvoice::new().customer(id).limit(AT_ONCE).expand(["data.payments".to_owned()]);
            if let Some(last) = found.last().and_then(invoice::id_of) {
                question = question.starting_after(last);
            }
            let page = read("reading a customer's invoices", question.send(&self.client)).await?;
            let more = page.has_more && !page.data.is_empty();
            found.extend(page.data);
            if !more {
                break;
            }
        }
        Ok(found)
    }

    async fn charges(&self, id: &str) -> Result<Vec<Charge>, Fault> {
        let mut found: Vec<Charge> = vec![];
        for _ in 0..PAGES_MAX {
            let mut question = ListCharge::new().customer(id).limit(AT_ONCE).expand(["data.refunds".to_owned()]);
            if let Some(last) = found.last() {
                question = question.starting_after(last.id.to_string());
            }
            let page = read("reading a customer's payments", question.send(&self.client)).await?;
            let more = page.has_more && !page.data.is_empty();
            found.extend(page.data);
            if !more {
                break;
            }
        }
        Ok(found)
    }

    async fn balance_moves(&self, id: &str) -> Result<Vec<CustomerBalanceTransaction>, Fault> {
        let mut found: Vec<CustomerBalanceTransaction> = vec![];
        for _ in 0..PAGES_MAX {
            let mut question = ListCustomerCustomerBalanceTransaction::new(id).limit(AT_ONCE);
            if let Some(last) = found.last() {
                question = question.starting_after(last.id.to_string());
            }
            let page = read("reading what moved a customer's credit", question.send(&self.client)).await?;
            let more = page.has_more && !page.data.is_empty();
            found.extend(page.data);
            if !more {
                break;
            }
        }
        Ok(found)
    }
}

fn credit_move_row(moved: &CustomerBalanceTransaction) -> Result<CreditMoveRow, Fault> {
    let id = moved.id.as_str();
    let said = |name: &str| moved.metadata.as_ref().and_then(|said| said.get(name));
    let invoice = moved.invoice.as_ref().and_then(|invoice| invoice.id().as_ref().map(ToString::to_string));
    Ok(CreditMoveRow {
        id: id.to_owned(),
        kind: moved.type_.as_str().to_owned(),
        money: money(moved.amount, &moved.currency.to_string(), id)?,
        invoice: invoice.or_else(|| said(CREDIT_OF).cloned()),
        instruction: said(INSTRUCTION).and_then(|id| id.parse().ok()),
        created_at: moment(moved.created, id)?,
    })
}

/// An invoice of a subscription as our table keeps it, and what it was paid through.
fn asked_by(invoice: &Invoice) -> Result<(Option<InvoiceRow>, Vec<String>), Fault> {
    let subscription = invoice.parent.as_ref().and_then(|parent| parent.subscription_details.as_ref());
    let subscription = subscription.map(|known| SubscriptionId(known.subscription.id().to_string()));
    let row = match subscription.zip(invoice::id_of(invoice)) {
        Some((subscription, id)) => Some(invoice::row(&subscription, id, invoice)?),
        None => None,
    };
    let payments = invoice.payments.as_ref().map(|list| list.data.as_slice()).unwrap_or_default();
    let through = payments.iter().flat_map(|payment| {
        let intent = payment.payment.payment_intent.as_ref().map(|intent| intent.id().to_string());
        intent.into_iter().chain(payment.payment.charge.as_ref().map(|charge| charge.id().to_string()))
    });
    Ok((row, through.collect()))
}

fn order_of(invoice: &Invoice) -> Option<OrderId> {
    let said = invoice.parent.as_ref()?.subscription_details.as_ref()?.metadata.as_ref()?;
    said.get("order")?.parse().ok()
}

fn payment_row(charge: &Charge, intent: Option<String>, by: AskedBy) -> Result<PaymentRow, Fault> {
    Ok(PaymentRow {
        id: charge.id.to_string(),
        intent,
        invoice: by.invoice,
        subscription: by.subscription,
        order: by.order,
        status: charge.status.as_str().to_owned(),
        money: money(charge.amount, &charge.currency.to_string(), charge.id.as_str())?,
        refunded_minor: charge.amount_refunded,
        disputed: charge.disputed,
        failure: charge.failure_message.clone(),
        receipt_url: charge.receipt_url.clone(),
        created_at: moment(charge.created, charge.id.as_str())?,
    })
}

fn refund_row(charge: &Charge, refund: &Refund) -> Result<RefundRow, Fault> {
    let id = refund.id.as_str();
    Ok(RefundRow {
        id: id.to_owned(),
        payment: charge.id.to_string(),
        status: refund.status.clone().unwrap_or_else(|| "pending".to_owned()),
        money: money(refund.amount, &refund.currency.to_string(), id)?,
        reason: refund.reason.as_ref().map(|reason| reason.as_str().to_owned()),
        instruction: refund.metadata.as_ref().and_then(|said| said.get(INSTRUCTION)?.parse().ok()),
        created_at: moment(refund.created, id)?,
    })
}

fn dispute_row(dispute: &Dispute) -> Result<DisputeRow, Fault> {
    let id = dispute.id.as_str();
    let payment = match &dispute.charge {
        Expandable::Id(charge) => charge.to_string(),
        Expandable::Object(charge) => charge.id.to_string(),
    };
    Ok(DisputeRow {
        id: id.to_owned(),
        payment,
        status: dispute.status.as_str().to_owned(),
        money: money(dispute.amount, &dispute.currency.to_string(), id)?,
        reason: dispute.reason.clone(),
        answer_by: dispute.evidence_details.due_by.map(|at| moment(at, id)).transpose()?,
        created_at: moment(dispute.created, id)?,
    })
}

fn money(amount_minor: i64, currency: &str, id: &str) -> Result<Money, Fault> {
    let currency: Currency =
        currency.parse().map_err(|_| Vendor::Stripe.give_up(DOING, format!("the currency of {id} cannot be read")))?;
    Ok(Money { amount_minor, currency })
}

fn moment(secs: i64, id: &str) -> Result<OffsetDateTime, Fault> {
    OffsetDateTime::from_unix_timestamp(secs)
        .map_err(|_| Vendor::Stripe.give_up(DOING, format!("the date of {id} cannot be read")))
}
