//! Cards, payment intents and charges.

use serde_json::{Value, json};

use super::forms::{only, text};
use super::refusal::{Answer, Refusal};
use super::world::{Call, Card, World, new_id, with_nulls};

const GOOD_LAST4: &str = "4242";
const FAILS_LATER_LAST4: &str = "0341";

/// Gives a customer a card and makes it the default one; gives the payment method's id.
pub(super) fn attach_card(world: &mut World, customer: &str, card: Card) -> Result<String, Refusal> {
    world.get("customer", customer, "customer")?;
    let id = new_id("pm_");
    let last4 = match card {
        Card::Good => GOOD_LAST4,
        Card::FailsLater => FAILS_LATER_LAST4,
    };
    let email = world.get("customer", customer, "customer")?["email"].clone();
    world.insert(json!({
        "id": id, "object": "payment_method", "allow_redisplay": "limited",
        "billing_details": billing_details(&email),
        "card": {
            "brand": "visa", "checks": {"address_line1_check": null, "address_postal_code_check": null, "cvc_check": "pass"},
            "country": "US", "display_brand": "visa", "exp_month": 12, "exp_year": 2039,
            "fingerprint": format!("fp{last4}"), "funding": "credit", "generated_from": null,
            "last4": last4, "networks": {"available": ["visa"], "preferred": null},
            "regulated_status": "unregulated", "three_d_secure_usage": {"supported": true}, "wallet": null,
        },
        "created": world.now(), "customer": customer, "customer_account": null, "livemode": false,
        "metadata": {}, "type": "card",
    }));
    world.cards.insert(customer.to_owned(), card);
    let holder = world.get_mut("customer", customer)?;
    let previous =
        json!({"invoice_settings": {"default_payment_method": holder["invoice_settings"]["default_payment_method"]}});
    holder["invoice_settings"]["default_payment_method"] = json!(id);
    world.emit("payment_method", &id, "payment_method.attached", None);
    world.emit("customer", customer, "customer.updated", Some(previous));
    Ok(id)
}

fn billing_details(email: &Value) -> Value {
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

/// Charges the customer's card for an intent; gives whether the money came.
///
/// A card that fails later still pays when `at_checkout`. An intent that has succeeded is never
/// charged again.
pub(super) fn charge_intent(world: &mut World, intent_id: &str, at_checkout: bool) -> Result<bool, Refusal> {
    let intent = world.copy("payment_intent", intent_id)?;
    if intent["status"] == "succeeded" {
        return Ok(true);
    }
    let customer_id = intent["customer"].as_str().unwrap_or_default().to_owned();
    let customer = world.copy("customer", &customer_id)?;
    let method = customer["invoice_settings"]["default_payment_method"].clone();
    let paid = match world.cards.get(&customer_id) {
        Some(Card::Good) => true,
        Some(Card::FailsLater) => at_checkout,
        None => false,
    };
    let charge_id = new_id("ch_");
    let charge = new_charge(world, &charge_id, &intent, &customer, paid);
    world.insert(charge);
    let intent = world.get_mut("payment_intent", intent_id)?;
    intent["latest_charge"] = json!(charge_id);
    if paid {
        intent["status"] = json!("succeeded");
        intent["amount_received"] = intent["amount"].clone();
        intent["payment_method"] = method;
        intent["last_payment_error"] = Value::Null;
        world.emit("charge", &charge_id, "charge.succeeded", None);
        world.emit("payment_intent", intent_id, "payment_intent.succeeded", None);
    } else {
        intent["last_payment_error"] = Refusal::card_declined().body()["error"].clone();
        intent["last_payment_error"]["charge"] = json!(charge_id);
        world.emit("charge", &charge_id, "charge.failed", None);
        world.emit("payment_intent", intent_id, "payment_intent.payment_failed", None);
    }
    Ok(paid)
}

fn new_charge(world: &World, id: &str, intent: &Value, customer: &Value, paid: bool) -> Value {
    let amount = &intent["amount"];
    let method = &customer["invoice_settings"]["default_payment_method"];
    let last4 = method
        .as_str()
        .and_then(|method| world.find(method))
        .map_or(Value::Null, |found| found["card"]["last4"].clone());
    let (status, code, message) = if paid {
        ("succeeded", Value::Null, Value::Null)
    } else {
        ("failed", json!("card_declined"), json!("Your card was declined."))
    };
    with_nulls(
        json!({
        "id": id, "object": "charge", "amount": amount,
        "amount_captured": if paid { amount.clone() } else { json!(0) }, "amount_refunded": 0,
        "balance_transaction": if paid { json!(new_id("txn_")) } else { Value::Null },
        "billing_details": billing_details(&customer["email"]),
        "calculated_statement_descriptor": "EZ SOLUTIONS", "captured": paid, "created": world.now(),
        "currency": intent["currency"], "customer": intent["customer"], "description": intent["description"],
        "disputed": false, "failure_code": code,
        "failure_message": message, "fraud_details": {}, "livemode": false, "metadata": {},
        "outcome": {
            "advice_code": null, "network_advice_code": null, "network_decline_code": null,
            "network_status": if paid { "approved_by_network" } else { "declined_by_network" },
            "reason": if paid { Value::Null } else { json!("generic_decline") }, "risk_level": "normal",
            "seller_message": if paid { "Payment complete." } else { "The bank did not return any further details with this decline." },
            "type": if paid { "authorized" } else { "issuer_declined" },
        },
        "paid": paid, "payment_intent": intent["id"], "payment_method": method,
        "payment_method_details": {
            "card": {
                "amount_authorized": amount, "authorization_code": null, "brand": "visa",
                "checks": {"address_line1_check": null, "address_postal_code_check": null, "cvc_check": "pass"},
                "country": "US", "exp_month": 12, "exp_year": 2039, "funding": "credit", "installments": null,
                "last4": last4, "mandate": null, "network": "visa", "network_transaction_id": null,
                "regulated_status": "unregulated", "three_d_secure": null, "wallet": null,
            },
            "type": "card",
        },
        "receipt_email": customer["email"], "refunded": false, "status": status,
        }),
        &[
            "application",
            "application_fee",
            "application_fee_amount",
            "failure_balance_transaction",
            "on_behalf_of",
            "receipt_number",
            "receipt_url",
            "review",
            "shipping",
            "source_transfer",
            "statement_descriptor",
            "statement_descriptor_suffix",
            "transfer_data",
            "transfer_group",
        ],
    )
}

/// `GET /v1/charges`.
pub(super) fn list_charges(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, &["customer", "payment_intent", "created", "limit", "starting_after", "ending_before"])?;
    let customer = text(params, "customer");
    let intent = text(params, "payment_intent");
    world.list("charge", call, |row| {
        customer.is_none_or(|customer| row["customer"] == customer)
            && intent.is_none_or(|intent| row["payment_intent"] == intent)
    })
}

/// `GET /v1/payment_intents`.
pub(super) fn list_intents(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, &["customer", "created", "limit", "starting_after", "ending_before"])?;
    let customer = text(params, "customer");
    world.list("payment_intent", call, |row| customer.is_none_or(|customer| row["customer"] == customer))
}
