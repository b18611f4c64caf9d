//! Invoices: issued for a subscription, finalized, collected.
//!
//! A renewal's invoice stays a `draft` for `draft_secs` of the control API, none of them by default; Stripe takes about
//! an hour.

use serde_json::{Value, json};

use super::invoice_shape::blank;
use super::payments::Outcome;
use super::refusal::Refusal;
use super::world::{World, new_id};
use super::{balance, discounts, payments, pending_update, subscriptions, tax};

/// Issues an open invoice with `lines` and the subscription's waiting lines; gives its id.
///
/// Events: `invoice.created`, `invoice.finalized`.
pub(super) fn issue(
    world: &mut World,
    subscription: &Value,
    reason: &str,
    lines: Vec<Value>,
) -> Result<String, Refusal> {
    let id = draft(world, subscription, reason, lines)?;
    finalize(world, &id)?;
    Ok(id)
}

/// Drafts an invoice; gives its id. Event: `invoice.created`.
pub(super) fn draft(
    world: &mut World,
    subscription: &Value,
    reason: &str,
    mut lines: Vec<Value>,
) -> Result<String, Refusal> {
    let id = new_id("in_");
    let subscription_id = subscription["id"].as_str().unwrap_or_default();
    let customer_id = subscription["customer"].as_str().unwrap_or_default();
    lines.extend(world.pending_lines.remove(subscription_id).unwrap_or_default());
    for line in &mut lines {
        line["invoice"] = json!(id);
    }
    let customer = world.copy("customer", customer_id)?;
    let mut invoice = blank(world, &id, &customer, subscription);
    invoice["billing_reason"] = json!(reason);
    let reductions = discounts::take_off(world, subscription, &mut lines);
    let taxes = if subscription["automatic_tax"]["enabled"] == true {
        tax::charge(world, &customer, &mut lines, &mut invoice)?
    } else {
        tax::Sums::default()
    };
    let subtotal: i64 = lines.iter().filter_map(|line| line["amount"].as_i64()).sum();
    let off: i64 = reductions.iter().map(|(_, amount)| amount).sum();
    invoice["subtotal"] = json!(subtotal);
    invoice["subtotal_excluding_tax"] = json!(subtotal - taxes.inclusive);
    invoice["total"] = json!(subtotal - off + taxes.exclusive);
    invoice["total_excluding_tax"] = json!(subtotal - off - taxes.inclusive);
    invoice["discounts"] = reductions.iter().map(|(id, _)| json!(id)).collect();
    invoice["total_discount_amounts"] =
        reductions.iter().map(|(id, amount)| json!({"amount": amount, "discount": id})).collect();
    invoice["lines"] =
        json!({"object": "list", "data": lines, "has_more": false, "url": format!("/v1/invoices/{id}/lines")});
    discounts::used(world, subscription)?;
    owe(&mut invoice, &customer);
    world.insert(invoice);
    world.emit("invoice", &id, "invoice.created", None);
    Ok(id)
}

/// Works out what is due after the customer's balance: credit is used up first, a total below zero becomes credit.
fn owe(invoice: &mut Value, customer: &Value) {
    let balance = customer["balance"].as_i64().unwrap_or(0);
    let due = (invoice["total"].as_i64().unwrap_or(0) + balance).max(0);
    invoice["starting_balance"] = json!(balance);
    invoice["amount_due"] = json!(due);
    invoice["amount_remaining"] = json!(due);
}

/// Finalizes a draft: it has a number, an intent to pay, and the customer's balance is used on it.
///
/// Event: `invoice.finalized`.
pub(super) fn finalize(world: &mut World, id: &str) -> Result<(), Refusal> {
    let now = world.now();
    let mut invoice = world.copy("invoice", id)?;
    if invoice["status"] != "draft" {
        return Ok(());
    }
    world.drafts.remove(id);
    let customer = world.copy("customer", invoice["customer"].as_str().unwrap_or_default())?;
    owe(&mut invoice, &customer);
    let url = format!("{}/i/{id}", world.public_url);
    invoice["status"] = json!("open");
    invoice["number"] = json!(world.next_invoice_number());
    invoice["effective_at"] = json!(now);
    invoice["hosted_invoice_url"] = json!(url);
    invoice["invoice_pdf"] = json!(format!("{url}/pdf"));
    invoice["automatically_finalizes_at"] = Value::Null;
    invoice["status_transitions"]["finalized_at"] = json!(now);
    let used = invoice["amount_due"].as_i64().unwrap_or(0) - invoice["total"].as_i64().unwrap_or(0);
    invoice["ending_balance"] = json!(invoice["starting_balance"].as_i64().unwrap_or(0) - used);
    *world.get_mut("invoice", id)? = invoice.clone();
    balance::apply(world, &invoice, -used)?;
    if invoice["amount_due"].as_i64().unwrap_or(0) > 0 {
        let intent = payments::new_intent(world, &invoice);
        world.insert(json!({
            "id": new_id("inpay_"), "object": "invoice_payment", "amount_paid": null,
            "amount_requested": invoice["amount_due"], "created": now, "currency": invoice["currency"],
            "invoice": id, "is_default": true, "livemode": false,
            "payment": {"payment_intent": intent, "type": "payment_intent"}, "status": "open",
            "status_transitions": {"canceled_at": null, "paid_at": null},
        }));
    }
    world.emit("invoice", id, "invoice.finalized", None);
    Ok(())
}

/// Tries to collect an open invoice; gives what came of it.
///
/// Paid: `invoice.paid`, `invoice.payment_succeeded`, `invoice_payment.paid`, and the
/// subscription of a latest invoice is active again. Declined: `invoice.payment_failed`, and the
/// subscription is past due; a payment to authenticate says `invoice.payment_action_required` too.
/// A paid invoice is not charged again, and one whose payment is on its way is left alone.
pub(super) fn collect(world: &mut World, id: &str, at_checkout: bool) -> Result<Outcome, Refusal> {
    let invoice = world.copy("invoice", id)?;
    match invoice["status"].as_str() {
        Some("open" | "uncollectible") => {}
        Some("paid") => return Ok(Outcome::Paid),
        _ => return Ok(Outcome::Declined),
    }
    let outcome = match payment_of(world, id) {
        Some((_, intent)) => payments::charge_intent(world, &intent, at_checkout)?,
        None => Outcome::Paid,
    };
    let row = world.get_mut("invoice", id)?;
    row["attempted"] = json!(true);
    row["attempt_count"] = json!(row["attempt_count"].as_i64().unwrap_or(0) + 1);
    conclude(world, id, outcome)?;
    Ok(outcome)
}

/// Writes down what an attempt to pay an invoice came to.
fn conclude(world: &mut World, id: &str, outcome: Outcome) -> Result<(), Refusal> {
    let invoice = world.copy("invoice", id)?;
    match outcome {
        Outcome::Paid => return mark_paid(world, id, false),
        Outcome::Processing => return Ok(()),
        Outcome::Declined => {}
        Outcome::NeedsAction => world.emit("invoice", id, "invoice.payment_action_required", None),
    }
    world.emit("invoice", id, "invoice.payment_failed", None);
    subscriptions::payment_failed(world, &invoice);
    Ok(())
}

/// A payment to authenticate was, or a payment on its way came to an end: its invoice follows.
pub(super) fn intent_moved(world: &mut World, intent: &str, outcome: Outcome) -> Result<Option<String>, Refusal> {
    let invoice = world
        .tied("invoice_payment", "payment.payment_intent", intent)
        .into_iter()
        .rfind(|row| row["payment"]["payment_intent"] == intent)
        .and_then(|row| row["invoice"].as_str())
        .map(str::to_owned);
    if let Some(invoice) = &invoice {
        conclude(world, invoice, outcome)?;
    }
    Ok(invoice)
}

/// An invoice is paid, by its own payment or outside Stripe.
pub(super) fn mark_paid(world: &mut World, id: &str, out_of_band: bool) -> Result<(), Refusal> {
    let now = world.now();
    let row = world.get_mut("invoice", id)?;
    row["status"] = json!("paid");
    row["amount_paid"] = row["amount_due"].clone();
    row["amount_remaining"] = json!(0);
    row["auto_advance"] = json!(false);
    row["attempted"] = json!(true);
    row["status_transitions"]["paid_at"] = json!(now);
    if out_of_band {
        row["amount_paid_off_stripe"] = row["amount_due"].clone();
    }
    let invoice = row.clone();
    if let Some((payment, intent)) = payment_of(world, id) {
        let row = world.get_mut("invoice_payment", &payment)?;
        if out_of_band {
            row["status"] = json!("canceled");
            row["status_transitions"]["canceled_at"] = json!(now);
            payments::cancel(world, &intent)?;
        } else {
            row["status"] = json!("paid");
            row["amount_paid"] = row["amount_requested"].clone();
            row["status_transitions"]["paid_at"] = json!(now);
            world.emit("invoice_payment", &payment, "invoice_payment.paid", None);
        }
    }
    world.emit("invoice", id, "invoice.paid", None);
    if !out_of_band {
        world.emit("invoice", id, "invoice.payment_succeeded", None);
    }
    subscriptions::payment_settled(world, &invoice);
    pending_update::invoice_paid(world, &invoice)
}

/// The invoice's default payment and its payment intent.
pub(super) fn payment_of(world: &World, invoice: &str) -> Option<(String, String)> {
    let payment =
        world.tied("invoice_payment", "invoice", invoice).into_iter().rfind(|payment| payment["invoice"] == invoice)?;
    let intent = payment["payment"]["payment_intent"].as_str()?;
    Some((payment["id"].as_str()?.to_owned(), intent.to_owned()))
}
