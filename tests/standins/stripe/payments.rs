//! Payment methods, payment intents and what charging one comes to.

use serde_json::{Value, json};

use super::cards::Card;
use super::charges;
use super::forms::{only, text};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id, with_nulls};

/// What an attempt to collect money came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The money came.
    Paid,
    /// The card was declined.
    Declined,
    /// A person has to authenticate the payment first.
    NeedsAction,
    /// The money is on its way.
    Processing,
}

/// Gives a customer a card and makes it the default one; gives the payment method's id.
pub(super) fn attach_card(world: &mut World, customer: &str, card: Card) -> Result<String, Refusal> {
    let id = new_id("pm_");
    let email = world.get("customer", customer, "customer")?["email"].clone();
    let mut method = json!({
        "id": id, "object": "payment_method", "allow_redisplay": "limited",
        "billing_details": billing_details(&email), "created": world.now(), "customer": customer,
        "customer_account": null, "livemode": false, "metadata": {}, "type": "card",
    });
    let last4 = card.last4();
    if card == Card::Delayed {
        method["type"] = json!("sepa_debit");
        method["sepa_debit"] = json!({
            "bank_code": "19043", "branch_code": "", "country": "AT", "fingerprint": format!("fp{last4}"),
            "generated_from": {"charge": null, "setup_attempt": null}, "last4": last4,
        });
    } else {
        method["card"] = json!({
            "brand": "visa", "checks": {"address_line1_check": null, "address_postal_code_check": null, "cvc_check": "pass"},
            "country": "US", "display_brand": "visa", "exp_month": 12, "exp_year": 2039,
            "fingerprint": format!("fp{last4}"), "funding": "credit", "generated_from": null,
            "last4": last4, "networks": {"available": ["visa"], "preferred": null},
            "regulated_status": "unregulated", "three_d_secure_usage": {"supported": true}, "wallet": null,
        });
    }
    world.insert(method);
    world.cards.insert(customer.to_owned(), card);
    let holder = world.get_mut("customer", customer)?;
    let previous =
        json!({"invoice_settings": {"default_payment_method": holder["invoice_settings"]["default_payment_method"]}});
    holder["invoice_settings"]["default_payment_method"] = json!(id);
    world.emit("payment_method", &id, "payment_method.attached", None);
    world.emit("customer", customer, "customer.updated", Some(previous));
    Ok(id)
}

/// Billing details with nothing but an address to write to.
pub(super) fn billing_details(email: &Value) -> Value {
    json!({
        "address": {"city": null, "country": null, "line1": null, "line2": null, "postal_code": null, "state": null},
        "email": email, "name": null, "phone": null, "tax_id": null,
    })
}

/// A payment intent for an invoice.
pub(super) fn new_intent(world: &mut World, invoice: &Value) -> String {
    let id = new_id("pi_");
    world.insert(with_nulls(json!({
        "id": id, "object": "payment_intent", "amount": invoice["amount_due"], "amount_capturable": 0, "amount_details": {"tip": {}},
        "amount_received": 0, "capture_method": "automatic", "client_secret": format!("{id}_secret_{}", new_id("")),
        "confirmation_method": "automatic", "created": world.now(), "currency": invoice["currency"],
        "customer": invoice["customer"], "description": invoice["lines"]["data"][0]["description"],
        "livemode": false, "metadata": {}, "payment_method_options": {}, "payment_method_types": ["card"], "status": "requires_payment_method", }), &["allowed_payment_method_types", "application", "application_fee_amount", "automatic_payment_methods", "canceled_at", "cancellation_reason", "customer_account", "excluded_payment_method_types", "last_payment_error", "latest_charge", "next_action", "on_behalf_of", "payment_method", "payment_method_configuration_details", "processing", "receipt_email", "review", "setup_future_usage", "shipping", "statement_descriptor", "statement_descriptor_suffix", "transfer_data", "transfer_group"]));
    world.emit("payment_intent", &id, "payment_intent.created", None);
    id
}

/// Charges the customer's card for an intent.
///
/// Cards that fail later still pay when `at_checkout`, where a person is there to authenticate.
/// An intent that has succeeded or is on its way is not charged again.
pub(super) fn charge_intent(world: &mut World, intent_id: &str, at_checkout: bool) -> Result<Outcome, Refusal> {
    let intent = world.copy("payment_intent", intent_id)?;
    match intent["status"].as_str() {
        Some("succeeded") => return Ok(Outcome::Paid),
        Some("processing") => return Ok(Outcome::Processing),
        Some("canceled") => return Err(Refusal::state("This PaymentIntent has been canceled.")),
        _ => {}
    }
    let customer = intent["customer"].as_str().unwrap_or_default();
    let card = world.cards.get(customer).copied();
    match card {
        Some(Card::Good) => succeed(world, intent_id)?,
        Some(Card::FailsLater | Card::Authenticate) if at_checkout => succeed(world, intent_id)?,
        Some(Card::Delayed) => {
            begin_processing(world, intent_id)?;
            return Ok(Outcome::Processing);
        }
        Some(Card::Authenticate) => {
            require_action(world, intent_id)?;
            return Ok(Outcome::NeedsAction);
        }
        Some(Card::FailsLater | Card::Insufficient) | None => {
            let code = card.map_or("generic_decline", Card::decline_code);
            fail(world, intent_id, &Refusal::card_declined(code))?;
            return Ok(Outcome::Declined);
        }
    }
    Ok(Outcome::Paid)
}

fn method_of(world: &World, intent: &Value) -> Value {
    let customer = intent["customer"].as_str().unwrap_or_default();
    world.find(customer).map_or(Value::Null, |found| found["invoice_settings"]["default_payment_method"].clone())
}

fn succeed(world: &mut World, id: &str) -> Result<(), Refusal> {
    let intent = world.copy("payment_intent", id)?;
    let charge = charges::make(world, &intent, "succeeded", None)?;
    let method = method_of(world, &intent);
    let row = world.get_mut("payment_intent", id)?;
    row["latest_charge"] = json!(charge);
    row["payment_method"] = method;
    mark_succeeded(row);
    world.emit("charge", &charge, "charge.succeeded", None);
    world.emit("payment_intent", id, "payment_intent.succeeded", None);
    Ok(())
}

fn mark_succeeded(row: &mut Value) {
    row["status"] = json!("succeeded");
    row["amount_received"] = row["amount"].clone();
    row["last_payment_error"] = Value::Null;
    row["next_action"] = Value::Null;
}

fn fail(world: &mut World, id: &str, why: &Refusal) -> Result<(), Refusal> {
    let intent = world.copy("payment_intent", id)?;
    let charge = charges::make(world, &intent, "failed", Some(why))?;
    let row = world.get_mut("payment_intent", id)?;
    row["latest_charge"] = json!(charge);
    row["status"] = json!("requires_payment_method");
    row["next_action"] = Value::Null;
    row["last_payment_error"] = why.body()["error"].clone();
    row["last_payment_error"]["charge"] = json!(charge);
    world.emit("charge", &charge, "charge.failed", None);
    world.emit("payment_intent", id, "payment_intent.payment_failed", None);
    Ok(())
}

fn require_action(world: &mut World, id: &str) -> Result<(), Refusal> {
    let method = method_of(world, &world.copy("payment_intent", id)?);
    let row = world.get_mut("payment_intent", id)?;
    row["status"] = json!("requires_action");
    row["payment_method"] = method;
    row["next_action"] = json!({
        "type": "use_stripe_sdk",
        "use_stripe_sdk": {"type": "three_d_secure_redirect", "source": new_id("payatt_"), "stripe_js": ""},
    });
    world.emit("payment_intent", id, "payment_intent.requires_action", None);
    Ok(())
}

fn begin_processing(world: &mut World, id: &str) -> Result<(), Refusal> {
    let intent = world.copy("payment_intent", id)?;
    let charge = charges::make(world, &intent, "pending", None)?;
    let method = method_of(world, &intent);
    let row = world.get_mut("payment_intent", id)?;
    row["status"] = json!("processing");
    row["latest_charge"] = json!(charge);
    row["payment_method"] = method;
    row["last_payment_error"] = Value::Null;
    world.emit("charge", &charge, "charge.pending", None);
    world.emit("payment_intent", id, "payment_intent.processing", None);
    Ok(())
}

/// A person authenticates the payment of an intent that requires it, or fails to.
pub(super) fn authenticate(world: &mut World, id: &str, passed: bool) -> Result<Outcome, Refusal> {
    let status = world.get("payment_intent", id, "id")?["status"].clone();
    if status != "requires_action" {
        return Err(Refusal::state("There is nothing to authenticate for this payment."));
    }
    if passed {
        succeed(world, id)?;
        return Ok(Outcome::Paid);
    }
    let row = world.get_mut("payment_intent", id)?;
    row["status"] = json!("requires_payment_method");
    row["next_action"] = Value::Null;
    row["last_payment_error"] = Refusal::authentication_failed().body()["error"].clone();
    world.emit("payment_intent", id, "payment_intent.payment_failed", None);
    Ok(Outcome::Declined)
}

/// A payment on its way arrives, or does not.
pub(super) fn settle(world: &mut World, id: &str, arrived: bool) -> Result<Outcome, Refusal> {
    let intent = world.copy("payment_intent", id)?;
    if intent["status"] != "processing" {
        return Err(Refusal::state("This payment is not processing."));
    }
    let charge = intent["latest_charge"].as_str().unwrap_or_default().to_owned();
    let failure = Refusal::card_declined("insufficient_funds");
    charges::settle(world, &charge, (!arrived).then_some(&failure))?;
    let row = world.get_mut("payment_intent", id)?;
    if arrived {
        mark_succeeded(row);
    } else {
        row["status"] = json!("requires_payment_method");
        row["last_payment_error"] = failure.body()["error"].clone();
    }
    let (name, outcome) = if arrived {
        ("payment_intent.succeeded", Outcome::Paid)
    } else {
        ("payment_intent.payment_failed", Outcome::Declined)
    };
    world.emit("charge", &charge, if arrived { "charge.succeeded" } else { "charge.failed" }, None);
    world.emit("payment_intent", id, name, None);
    Ok(outcome)
}

/// Cancels the intent of an invoice that is void or was paid outside Stripe.
pub(super) fn cancel(world: &mut World, id: &str) -> Result<(), Refusal> {
    let now = world.now();
    let row = world.get_mut("payment_intent", id)?;
    row["status"] = json!("canceled");
    row["canceled_at"] = json!(now);
    row["cancellation_reason"] = json!("void_invoice");
    row["next_action"] = Value::Null;
    world.emit("payment_intent", id, "payment_intent.canceled", None);
    Ok(())
}

/// `GET /v1/payment_methods` and `GET /v1/customers/{id}/payment_methods`.
pub(super) fn list_methods(world: &World, call: &Call, of: Option<&str>) -> Answer {
    let params = &call.params;
    only(params, &["allow_redisplay", "customer", "type", "limit", "starting_after", "ending_before"])?;
    let customer = of.or(text(params, "customer"));
    if let Some(customer) = customer {
        world.get("customer", customer, if of.is_some() { "id" } else { "customer" })?;
    }
    let kind = text(params, "type");
    world.list("payment_method", call, |row| {
        customer.is_none_or(|customer| row["customer"] == customer) && kind.is_none_or(|kind| row["type"] == kind)
    })
}

/// `GET /v1/payment_intents`.
pub(super) fn list_intents(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, &["customer", "created", "limit", "starting_after", "ending_before"])?;
    let customer = text(params, "customer");
    world.list("payment_intent", call, |row| customer.is_none_or(|customer| row["customer"] == customer))
}
