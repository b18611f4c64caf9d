//! Charges: made, settled, listed.

use serde_json::{Value, json};

use super::forms::{only, text};
use super::payments;
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id, with_nulls};

/// Makes the charge of an attempt; gives its id. `failure` is why it failed.
pub(super) fn make(
    world: &mut World,
    intent: &Value,
    status: &str,
    failure: Option<&Refusal>,
) -> Result<String, Refusal> {
    let id = new_id("ch_");
    let customer = world.copy("customer", intent["customer"].as_str().unwrap_or_default())?;
    let charge = blank(world, &id, intent, &customer, (status, failure));
    world.insert(charge);
    Ok(id)
}

/// A pending charge arrives, or fails.
pub(super) fn settle(world: &mut World, id: &str, failure: Option<&Refusal>) -> Result<(), Refusal> {
    let row = world.get_mut("charge", id)?;
    let failed = failure.map_or(Value::Null, |failure| failure.body()["error"].clone());
    let status = if failure.is_some() { "failed" } else { "succeeded" };
    row["status"] = json!(status);
    row["paid"] = json!(failure.is_none());
    row["captured"] = json!(failure.is_none());
    row["amount_captured"] = if failure.is_none() { row["amount"].clone() } else { json!(0) };
    row["balance_transaction"] = if failure.is_none() { json!(new_id("txn_")) } else { Value::Null };
    row["failure_code"] = failed["code"].clone();
    row["failure_message"] = failed["message"].clone();
    row["outcome"] = outcome(status, &failed);
    Ok(())
}

fn outcome(status: &str, failure: &Value) -> Value {
    let failed = status == "failed";
    json!({
        "advice_code": null, "network_advice_code": null, "network_decline_code": null,
        "network_status": if failed { "declined_by_network" } else { "approved_by_network" },
        "reason": if failed { failure["decline_code"].clone() } else { Value::Null }, "risk_level": "normal",
        "seller_message": if failed { "The bank did not return any further details with this decline." } else { "Payment complete." },
        "type": if failed { "issuer_declined" } else { "authorized" },
    })
}

fn method_details(world: &World, intent: &Value, method: &Value) -> Value {
    let found = method.as_str().and_then(|method| world.find(method)).unwrap_or(&Value::Null);
    if found["type"] == "sepa_debit" {
        return json!({
            "sepa_debit": {
                "bank_code": "19043", "branch_code": "", "country": "AT",
                "fingerprint": found["sepa_debit"]["fingerprint"], "last4": found["sepa_debit"]["last4"],
                "mandate": null,
            },
            "type": "sepa_debit",
        });
    }
    json!({
        "card": {
            "amount_authorized": intent["amount"], "authorization_code": null, "brand": "visa",
            "checks": {"address_line1_check": null, "address_postal_code_check": null, "cvc_check": "pass"},
            "country": "US", "exp_month": 12, "exp_year": 2039, "funding": "credit", "installments": null,
            "last4": found["card"]["last4"], "mandate": null, "network": "visa", "network_transaction_id": null,
            "regulated_status": "unregulated", "three_d_secure": null, "wallet": null,
        },
        "type": "card",
    })
}

fn blank(
    world: &World,
    id: &str,
    intent: &Value,
    customer: &Value,
    (status, failure): (&str, Option<&Refusal>),
) -> Value {
    let amount = &intent["amount"];
    let method = &customer["invoice_settings"]["default_payment_method"];
    let paid = status == "succeeded";
    let failure = failure.map_or(Value::Null, |failure| failure.body()["error"].clone());
    with_nulls(
        json!({
        "id": id, "object": "charge", "amount": amount,
        "amount_captured": if paid { amount.clone() } else { json!(0) }, "amount_refunded": 0,
        "balance_transaction": if paid { json!(new_id("txn_")) } else { Value::Null },
        "billing_details": payments::billing_details(&customer["email"]),
        "calculated_statement_descriptor": "EZ SOLUTIONS", "captured": paid, "created": world.now(),
        "currency": intent["currency"], "customer": intent["customer"], "description": intent["description"],
        "disputed": false, "failure_code": failure["code"],
        "failure_message": failure["message"], "fraud_details": {}, "livemode": false, "metadata": {},
        "outcome": outcome(status, &failure),
        "paid": paid, "payment_intent": intent["id"], "payment_method": method,
        "payment_method_details": method_details(world, intent, method),
        "receipt_email": customer["email"], "receipt_url": format!("{}/receipts/{id}", world.public_url),
        "refunded": false, "status": status,
        }),
        &[
            "application",
            "application_fee",
            "application_fee_amount",
            "failure_balance_transaction",
            "on_behalf_of",
            "receipt_number",
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
pub(super) fn list(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, &["customer", "payment_intent", "created", "limit", "starting_after", "ending_before"])?;
    let customer = text(params, "customer");
    let intent = text(params, "payment_intent");
    world.list("charge", call, |row| {
        customer.is_none_or(|customer| row["customer"] == customer)
            && intent.is_none_or(|intent| row["payment_intent"] == intent)
    })
}
