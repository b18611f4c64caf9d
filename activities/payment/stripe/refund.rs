//! Refunds: giving back whatever was paid and not given back yet.
use domain::ids::{OrderId, SubscriptionId};
use stripe::StripeRequest as _;
use stripe_billing::{Invoice, InvoicePayment, InvoicesPaymentsInvoicePaymentAssociatedPaymentType as PaymentType};
use stripe_core::{
    Refund,
    refund::{CreateRefund, ListRefund},
};

use super::{
    Attempt, Denial, StripeApi, asked,
    invoice::{id_of, is_paid, open_ids},
    read, under,
};
use crate::{
    call::Kind,
    fault::{Fault, Vendor},
};

const DOING: &str = "refunding a payment";
/// Stripe's code for a payment of which nothing is left.
const GIVEN_BACK: &str = "charge_already_refunded";
/// The metadata key of credit given back: the invoice that had used it.
pub(super) const CREDIT_OF: &str = "credit_of";
/// How many refunds of one payment are looked at.
const REFUNDS_MAX: i64 = 100;

/// What the money came through.
pub(super) enum Source {
    Intent(String),
    Charge(String),
}

impl Source {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Intent(id) | Self::Charge(id) => id,
        }
    }

    /// The request that gives all of it back.
    pub(super) fn refund(&self) -> CreateRefund {
        match self {
            Self::Intent(id) => CreateRefund::new().payment_intent(id),
            Self::Charge(id) => CreateRefund::new().charge(id),
        }
    }
}

impl StripeApi {
    /// What of a payment was given back, newest first.
    pub(super) async fn refunds(&self, from: &Source) -> Result<Vec<Refund>, Fault> {
        let known = match from {
            Source::Intent(id) => ListRefund::new().payment_intent(id),
            Source::Charge(id) => ListRefund::new().charge(id),
        };
        Ok(read("looking for a refund", known.limit(REFUNDS_MAX).send(&self.client)).await?.data)
    }

    /// Asks for a refund under `act`, whose look before it saw so many that `failed`.
    ///
    /// A refund that failed is over, so the one after it has another key. A refusal did nothing, yet Stripe repeats it under its
    /// key for a day although its reason, such as a dispute, may be gone: each run of the step asks once more by itself.
    pub(super) async fn ask_for_refund(
        &self,
        request: &CreateRefund,
        (act, failed): (&str, usize),
        attempt: Attempt,
    ) -> Result<Result<Refund, Denial>, Fault> {
        let key = match failed {
            0 => attempt.key(act),
            failed => attempt.key(&format!("{act}/failed-{failed}")),
        };
        let answer = self.send_refund(request, &key).await?;
        match (&answer, &self.run) {
            (Err(denial), Some(run)) if is_of_its_time(denial) => {
                self.send_refund(request, &format!("{key}/{run}")).await
            }
            _ => Ok(answer),
        }
    }

    async fn send_refund(&self, request: &CreateRefund, key: &str) -> Result<Result<Refund, Denial>, Fault> {
        let request = request.customize().request_strategy(under(key)?);
        Ok(asked(Kind::Write, request.send(&self.client)).await)
    }

    /// Cancels the subscription of an order that was given up, voids what is open and gives back everything that was paid,
    /// by card as well as with the customer's credit.
    ///
    /// *Idempotence*: looks at the subscription, the invoices, the refunds and the credits first; each refund is made under
    /// `order-<uuid>/refund/<payment>`, each credit under `order-<uuid>/refund/<invoice>` and names its invoice. *Errors*: to be
    /// tried again while a payment is still on its way.
    pub async fn refund_order(&self, order: OrderId, id: &SubscriptionId, attempt: Attempt) -> Result<(), Fault> {
        let act = format!("{}/refund", order.workflow_id());
        let look = self.look(id).await?;
        let named = look.subscription.metadata.get("order").and_then(|text| text.parse().ok());
        if named != Some(order) {
            return Err(Vendor::Stripe.give_up(DOING, format!("{id} is not of order {order}; nothing was touched")));
        }
        self.cancel(id, look.status, &act, attempt).await?;
        for invoice in open_ids(&self.invoices(id).await?) {
            self.void(&invoice, &act, attempt).await?;
        }
        let customer = look.subscription.customer.id().to_string();
        for invoice in self.invoices(id).await?.iter().filter(|invoice| is_paid(invoice)) {
            let Some(known) = id_of(invoice) else { continue };
            self.refund_invoice(&known, &act, attempt).await?;
            self.return_credit(&customer, invoice, &known, &act, attempt).await?;
        }
        Ok(())
    }

    /// Gives back the credit that an invoice used: Stripe does that only for one that is void.
    async fn return_credit(
        &self,
        customer: &str,
        invoice: &Invoice,
        id: &str,
        act: &str,
        attempt: Attempt,
    ) -> Result<(), Fault> {
        let used_minor = credit_used(invoice.starting_balance, invoice.ending_balance);
        if used_minor == 0 {
            return Ok(());
        }
        let credit = (used_minor, invoice.currency.clone());
        let key = attempt.key(&format!("{act}/{id}"));
        self.credit_once(DOING, customer, credit, (CREDIT_OF, id.to_owned()), &key).await?;
        Ok(())
    }

    /// Gives back what was paid for one invoice, under `<act>/<payment>`.
    pub(super) async fn refund_invoice(&self, invoice: &str, act: &str, attempt: Attempt) -> Result<(), Fault> {
        for payment in self.payments(invoice, "payments").await? {
            let paid_minor = payment.amount_paid.unwrap_or(0);
            if payment.status == "paid" && paid_minor > 0 {
                self.refund_payment(&source(&payment, invoice)?, paid_minor, act, attempt).await?;
            }
        }
        Ok(())
    }

    async fn refund_payment(&self, from: &Source, paid_minor: i64, act: &str, attempt: Attempt) -> Result<(), Fault> {
        let id = from.id();
        let known = self.refunds(from).await?;
        if known.iter().filter(|refund| stands(refund)).map(|refund| refund.amount).sum::<i64>() >= paid_minor {
            return Ok(());
        }
        let failed = known.iter().filter(|refund| !stands(refund)).count();
        match self.ask_for_refund(&from.refund(), (&format!("{act}/{id}"), failed), attempt).await? {
            Ok(refund) if stands(&refund) => Ok(()),
            Ok(refund) => Err(Vendor::Stripe
                .give_up(DOING, format!("Stripe could not carry out {}; the money has to go back by hand", refund.id))),
            Err(Denial::Refused { code: Some(code), .. }) if code == GIVEN_BACK => Ok(()),
            Err(denial) => Err(denial.on_write(DOING)),
        }
    }
}

/// How much of a customer's credit an invoice used, from the customer's balance before and after it.
fn credit_used(before_minor: i64, after_minor: Option<i64>) -> i64 {
    after_minor.map_or(0, |after_minor| after_minor - before_minor).clamp(0, before_minor.min(0).abs())
}

/// Whether Stripe refused it because of how the payment or our balance stood then. A key that was used for something else has
/// no code.
fn is_of_its_time(denial: &Denial) -> bool {
    matches!(denial, Denial::Refused { status: 400 | 402, code: Some(code), .. } if code != GIVEN_BACK)
}

/// Whether the refund gives the money back, now or soon.
pub(super) fn stands(refund: &Refund) -> bool {
    !matches!(refund.status.as_deref(), Some("failed" | "canceled"))
}

pub(super) fn source(payment: &InvoicePayment, invoice: &str) -> Result<Source, Fault> {
    let paid = &payment.payment;
    match (&paid.type_, &paid.payment_intent, &paid.charge) {
        (PaymentType::PaymentIntent, Some(intent), _) => Ok(Source::Intent(intent.id().to_string())),
        (PaymentType::Charge, _, Some(charge)) => Ok(Source::Charge(charge.id().to_string())),
        _ => Err(Vendor::Stripe.give_up(DOING, format!("{invoice} was not paid through Stripe; give it back by hand"))),
    }
}

#[cfg(test)]
mod tests {
    use super::credit_used;

    #[test]
    fn an_invoice_used_the_credit_by_which_the_balance_rose_and_never_more_than_there_was() {
        assert_eq!(credit_used(-1_500, Some(-500)), 1_000);
        assert_eq!(credit_used(-300, Some(0)), 300);
        assert_eq!(credit_used(-300, Some(200)), 300, "a debt that grew is not credit");
        assert_eq!(credit_used(0, Some(-700)), 0, "an invoice that gave credit used none");
        assert_eq!(credit_used(500, Some(0)), 0, "a debt that was paid is not credit");
        assert_eq!(credit_used(-300, None), 0, "an invoice that is not final used none");
    }
}
