//! What a person told a subscription to do, at Stripe. Everything made here names its instruction, so that a try whose
//! answer was lost is found although Stripe has forgotten its key.
use std::collections::HashMap;

use contract::payment::{CarriedOut, Errand};
use domain::{
    UnixSecs,
    billing::SubscriptionStatus,
    ids::{InstructionId, SubscriptionId},
    instruction::Ask,
    money::{Currency, Money},
};
use stripe::StripeRequest as _;
use stripe_billing::{
    Subscription,
    subscription::{UpdateSubscription, UpdateSubscriptionProrationBehavior, UpdateSubscriptionTrialEnd},
};
use stripe_core::customer_balance_transaction::{
    CreateCustomerCustomerBalanceTransaction, ListCustomerCustomerBalanceTransaction,
};

use super::{
    Attempt, StripeApi,
    invoice::is_paid,
    plan::Wish,
    read,
    refund::{Source, source, stands},
    subscription::has_ended,
    under, write,
};
use crate::fault::{Fault, Vendor};

/// The metadata key that names the instruction.
pub(super) const INSTRUCTION: &str = "instruction";
/// How many of a customer's newest credits are looked at.
const CREDITS_MAX: i64 = 100;

/// What one payment of an invoice can still give back.
struct Room {
    from: Source,
    left_minor: i64,
    /// How many refunds for this instruction failed.
    failed: usize,
}

impl StripeApi {
    /// Carries out an instruction. What cannot be is refused in words for the person who asked.
    ///
    /// *Idempotence*: looks first; writes under `subscription-<id>/<instruction>/…`. *Errors*: a lost answer may be repeated.
    pub async fn carry_out(&self, errand: &Errand, attempt: Attempt) -> Result<CarriedOut, Fault> {
        let (id, instruction) = (&errand.subscription, errand.instruction.id);
        let act = format!("{}/{instruction}", id.workflow_id());
        match &errand.instruction.what {
            Ask::Refund { invoice, money } => self.give_back(id, instruction, (invoice, money), &act, attempt).await,
            Ask::Credit { money } => self.give_credit(id, instruction, money, &act, attempt).await,
            Ask::Extend { until } => self.extend(id, *until, &act, attempt).await,
            Ask::ChangePlan { price, proration_date, shown } => {
                let wish = Wish { price, proration_date: *proration_date, shown, may_wait: errand.may_wait };
                self.change_plan(id, &wish, &act, attempt).await
            }
            Ask::ChangePlanAtEnd { price } => self.change_plan_at_end(id, price, &act, attempt).await,
            Ask::KeepPlan => self.keep_plan(id, &act, attempt).await,
            Ask::CancelAtEnd => self.set_ending(id, true, &act, attempt).await,
            Ask::GoOn => self.set_ending(id, false, &act, attempt).await,
            Ask::CancelNow => self.cancel_now(id, &act, attempt).await,
            Ask::Hold { .. }
            | Ask::Release
            | Ask::Restore { .. }
            | Ask::RemoveServer { .. }
            | Ask::KeepServer { .. } => {
                Err(Vendor::Stripe.give_up("carrying out what was asked for", "Stripe has no part in that".to_owned()))
            }
        }
    }

    async fn give_back(
        &self,
        id: &SubscriptionId,
        instruction: InstructionId,
        (invoice, money): (&str, &Money),
        act: &str,
        attempt: Attempt,
    ) -> Result<CarriedOut, Fault> {
        let found = self.invoice_of(id, invoice).await?;
        let Some((currency, paid)) = found.map(|found| (found.currency.to_string(), is_paid(&found))) else {
            return Ok(refused("This invoice is not one of this subscription."));
        };
        if currency != money.currency.as_str() {
            return Ok(refused(&format!("This invoice was paid in {}.", currency.to_uppercase())));
        }
        if !paid {
            return Ok(refused("This invoice is not paid."));
        }
        let (mut left_minor, mut object, mut rooms) = (money.amount_minor, None, vec![]);
        for payment in self.payments(invoice, "payments").await? {
            let paid_minor = payment.amount_paid.unwrap_or(0);
            if payment.status != "paid" || paid_minor <= 0 {
                continue;
            }
            let from = source(&payment, invoice)?;
            let mut room = Room { from, left_minor: paid_minor, failed: 0 };
            for refund in self.refunds(&room.from).await? {
                let own = names(refund.metadata.as_ref(), instruction);
                if !stands(&refund) {
                    room.failed += usize::from(own);
                    continue;
                }
                room.left_minor -= refund.amount;
                if own {
                    left_minor -= refund.amount;
                    object = Some(refund.id.to_string());
                }
            }
            rooms.push(room);
        }
        let can_minor: i64 = rooms.iter().map(|room| room.left_minor.max(0)).sum();
        if object.is_none() && left_minor > can_minor {
            let can = Money { amount_minor: can_minor, currency: money.currency.clone() };
            return Ok(refused(&format!("Only {can} of this invoice can still be given back.")));
        }
        for room in rooms {
            let part_minor = left_minor.min(room.left_minor);
            if part_minor > 0 {
                object = Some(self.give_back_part(&room, part_minor, instruction, act, attempt).await?);
                left_minor -= part_minor;
            }
        }
        if left_minor > 0 {
            let told = format!("{left_minor} minor units of {invoice} could not be given back");
            return Err(Vendor::Stripe.give_up("giving money back", told));
        }
        Ok(CarriedOut::Done { object })
    }

    async fn give_back_part(
        &self,
        room: &Room,
        amount_minor: i64,
        instruction: InstructionId,
        act: &str,
        attempt: Attempt,
    ) -> Result<String, Fault> {
        let request = room.from.refund().amount(amount_minor).metadata(named(instruction));
        let act = format!("{act}/refund/{}", room.from.id());
        let asked = self.ask_for_refund(&request, (&act, room.failed), attempt).await?;
        let refund = asked.map_err(|denial| denial.on_write("giving money back"))?;
        if stands(&refund) {
            return Ok(refund.id.to_string());
        }
        let told = format!("Stripe could not carry out {}; the money has to go back by hand", refund.id);
        Err(Vendor::Stripe.give_up("giving money back", told))
    }

    async fn give_credit(
        &self,
        id: &SubscriptionId,
        instruction: InstructionId,
        money: &Money,
        act: &str,
        attempt: Attempt,
    ) -> Result<CarriedOut, Fault> {
        let subscription = self.look(id).await?.subscription;
        if subscription.currency.to_string() != money.currency.as_str() {
            let known = subscription.currency.to_string().to_uppercase();
            return Ok(refused(&format!("This customer is charged in {known}.")));
        }
        let customer = subscription.customer.id().to_string();
        let credit = (money.amount_minor, currency(&money.currency)?);
        let key = attempt.key(&format!("{act}/credit"));
        let mark = (INSTRUCTION, instruction.to_string());
        let object = self.credit_once("giving credit", &customer, credit, mark, &key).await?;
        Ok(CarriedOut::Done { object: Some(object) })
    }

    /// Gives a customer credit with a mark in its metadata, and gives its id.
    ///
    /// *Idempotence*: one with this mark among the newest is looked for first; it is made under `key`.
    pub(super) async fn credit_once(
        &self,
        doing: &str,
        customer: &str,
        (amount_minor, currency): (i64, stripe_types::Currency),
        (name, value): (&str, String),
        key: &str,
    ) -> Result<String, Fault> {
        let known = ListCustomerCustomerBalanceTransaction::new(customer).limit(CREDITS_MAX);
        let known = read("looking for a credit", known.send(&self.client)).await?.data;
        let marked = |metadata: &HashMap<String, String>| metadata.get(name) == Some(&value);
        if let Some(found) = known.iter().find(|credit| credit.metadata.as_ref().is_some_and(marked)) {
            return Ok(found.id.to_string());
        }
        // At Stripe a balance below zero is what we owe the customer.
        let request = CreateCustomerCustomerBalanceTransaction::new(customer, -amount_minor, currency)
            .metadata(HashMap::from([(name.to_owned(), value)]))
            .customize()
            .request_strategy(under(key)?);
        Ok(write(doing, request.send(&self.client)).await?.id.to_string())
    }

    /// The period ends later: Stripe calls the time until then a trial, and charges nothing for it.
    async fn extend(
        &self,
        id: &SubscriptionId,
        until: UnixSecs,
        act: &str,
        attempt: Attempt,
    ) -> Result<CarriedOut, Fault> {
        let look = self.look(id).await?;
        if !matches!(look.status, SubscriptionStatus::Active | SubscriptionStatus::Trialing) {
            return Ok(refused("Only a paid subscription can be extended. Hold its suspension instead."));
        }
        if look.subscription.trial_end == Some(until) {
            return Ok(CarriedOut::Done { object: None });
        }
        if look.subscription.cancel_at_period_end || look.subscription.cancel_at.is_some() {
            return Ok(refused("It is cancelled. Take the cancellation back first."));
        }
        if look.subscription.schedule.is_some() {
            return Ok(refused("Another plan waits for the end of the period. Let the customer keep the plan first."));
        }
        if paid_until(&look.subscription).is_some_and(|end| end >= until) {
            return Ok(refused("It is paid until later than that."));
        }
        let request = UpdateSubscription::new(id.0.as_str())
            .trial_end(UpdateSubscriptionTrialEnd::Timestamp(until))
            .proration_behavior(UpdateSubscriptionProrationBehavior::None)
            .customize()
            .request_strategy(under(&attempt.key(&format!("{act}/extend")))?);
        write("extending a period", request.send(&self.client)).await?;
        Ok(CarriedOut::Done { object: None })
    }

    async fn set_ending(
        &self,
        id: &SubscriptionId,
        ends: bool,
        act: &str,
        attempt: Attempt,
    ) -> Result<CarriedOut, Fault> {
        let look = self.look(id).await?;
        if has_ended(look.status) {
            return Ok(refused("The subscription has ended already."));
        }
        if look.subscription.cancel_at_period_end == ends && (ends || look.subscription.cancel_at.is_none()) {
            return Ok(CarriedOut::Done { object: None });
        }
        self.unschedule(&look.subscription, act, attempt).await?;
        let mut request = UpdateSubscription::new(id.0.as_str()).cancel_at_period_end(ends).build();
        let mut act = format!("{act}/ending");
        // The flag says nothing of an end by date, which is taken back by an empty one; the crate knows no word for that.
        let date = look.subscription.cancel_at.filter(|_| !ends && !look.subscription.cancel_at_period_end);
        if let Some(at) = date {
            request.body = Some("cancel_at=".to_owned());
            act = format!("{act}/{at}");
        }
        let request = request.customize::<Subscription>().request_strategy(under(&attempt.key(&act))?);
        let doing = "changing how a subscription ends";
        let after = write(doing, request.send(&self.client)).await?;
        if (after.cancel_at_period_end || after.cancel_at.is_some()) == ends {
            return Ok(CarriedOut::Done { object: None });
        }
        let told = if ends { "does not end" } else { "still ends" };
        Err(Vendor::Stripe.give_up(doing, format!("Stripe says that {id} {told} although it was told otherwise")))
    }

    async fn cancel_now(&self, id: &SubscriptionId, act: &str, attempt: Attempt) -> Result<CarriedOut, Fault> {
        let before = self.look(id).await?;
        self.ended(id, &before, act, attempt).await?;
        Ok(CarriedOut::Done { object: None })
    }
}

pub(super) fn refused(why: &str) -> CarriedOut {
    CarriedOut::Refused { why: why.to_owned() }
}

fn named(instruction: InstructionId) -> HashMap<String, String> {
    HashMap::from([(INSTRUCTION.to_owned(), instruction.to_string())])
}

fn names(metadata: Option<&HashMap<String, String>>, instruction: InstructionId) -> bool {
    metadata.and_then(|metadata| metadata.get(INSTRUCTION)) == Some(&instruction.to_string())
}

fn paid_until(subscription: &Subscription) -> Option<UnixSecs> {
    subscription.items.data.iter().map(|item| item.current_period_end).max()
}

fn currency(ours: &Currency) -> Result<stripe_types::Currency, Fault> {
    let unknown = |_| Vendor::Stripe.give_up("giving credit", format!("Stripe does not know {}", ours.as_str()));
    ours.as_str().parse().map_err(unknown)
}
