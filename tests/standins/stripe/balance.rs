//! A customer's balance: below zero it is credit, used on the next invoices; every change is a transaction.

use serde_json::{Value, json};

use super::forms::{self, integer, merge_metadata, only, required, text};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id};

const KIND: &str = "customer_balance_transaction";

/// Why a balance moves.
pub(super) struct Move<'a> {
    /// Stripe's `type`.
    pub(super) kind: &'a str,
    /// Minor units; below zero gives credit.
    pub(super) amount: i64,
    /// The invoice that moved it.
    pub(super) invoice: Option<&'a str>,
    /// A person's words.
    pub(super) description: Option<&'a str>,
}

/// Moves a customer's balance; gives the transaction's id. Event: `customer.updated`.
pub(super) fn change(world: &mut World, customer: &str, currency: &str, moved: &Move<'_>) -> Result<String, Refusal> {
    let id = new_id("cbtxn_");
    let now = world.now();
    let row = world.get_mut("customer", customer)?;
    let previous = json!({"balance": row["balance"]});
    let ending = row["balance"].as_i64().unwrap_or(0) + moved.amount;
    row["balance"] = json!(ending);
    if row["currency"].is_null() {
        row["currency"] = json!(currency);
    }
    world.insert(json!({
        "id": id, "object": KIND, "amount": moved.amount, "checkout_session": null, "created": now,
        "credit_note": null, "currency": currency, "customer": customer, "customer_account": null,
        "description": moved.description, "ending_balance": ending, "invoice": moved.invoice, "livemode": false,
        "metadata": {}, "type": moved.kind,
    }));
    world.emit("customer", customer, "customer.updated", Some(previous));
    Ok(id)
}

/// Uses a balance on an invoice that is being finalized; `amount` is what moves.
pub(super) fn apply(world: &mut World, invoice: &Value, amount: i64) -> Result<(), Refusal> {
    of_invoice(world, invoice, "applied_to_invoice", amount)
}

/// Gives back what was used on an invoice that is void now.
pub(super) fn unapply(world: &mut World, invoice: &Value) -> Result<(), Refusal> {
    let own = world.tied(KIND, "customer", invoice["customer"].as_str().unwrap_or_default()).into_iter();
    let used: i64 = own.filter(|row| row["invoice"] == invoice["id"]).filter_map(|row| row["amount"].as_i64()).sum();
    of_invoice(world, invoice, "unapplied_from_invoice", -used)
}

fn of_invoice(world: &mut World, invoice: &Value, kind: &str, amount: i64) -> Result<(), Refusal> {
    if amount == 0 {
        return Ok(());
    }
    let text = |field: &str| invoice[field].as_str().unwrap_or_default();
    let moved = Move { kind, amount, invoice: Some(text("id")), description: None };
    change(world, text("customer"), text("currency"), &moved).map(drop)
}

/// `POST /v1/customers/{id}/balance_transactions`.
pub(super) fn create(world: &mut World, call: &Call, customer: &str) -> Answer {
    let params = &call.params;
    only(params, &["amount", "currency", "description", "metadata"])?;
    let amount = integer(params, "amount")?.ok_or_else(|| Refusal::missing_parameter("amount"))?;
    let currency = required(params, "currency")?.to_lowercase();
    let held = world.get("customer", customer, "id")?["currency"].clone();
    if held.as_str().is_some_and(|held| held != currency) {
        return Err(Refusal::invalid(
            format!(
                "The customer's currency is {}; a balance transaction in {currency} cannot be made.",
                held.as_str().unwrap_or_default()
            ),
            "currency",
        ));
    }
    let moved = Move { kind: "adjustment", amount, invoice: None, description: text(params, "description") };
    let id = change(world, customer, &currency, &moved)?;
    merge_metadata(world.get_mut(KIND, &id)?, params.get("metadata"));
    world.copy(KIND, &id)
}

/// `GET /v1/customers/{id}/balance_transactions`, newest first.
pub(super) fn list(world: &World, call: &Call, customer: &str) -> Answer {
    only(&call.params, &["created", "invoice", "limit", "starting_after", "ending_before"])?;
    world.get("customer", customer, "id")?;
    let invoice = text(&call.params, "invoice");
    world.list_of_customer(customer, KIND, call, |row| invoice.is_none_or(|invoice| row["invoice"] == invoice))
}

/// `GET /v1/customers/{customer}/balance_transactions/{id}`.
pub(super) fn one(world: &World, call: &Call, customer: &str, id: &str) -> Answer {
    only(&call.params, &[])?;
    let found = world.copy(KIND, id)?;
    if found["customer"] == customer { Ok(found) } else { Err(Refusal::no_such(KIND, id, "id")) }
}

/// `POST /v1/customers/{customer}/balance_transactions/{id}`: only words change.
pub(super) fn update(world: &mut World, call: &Call, customer: &str, id: &str) -> Answer {
    only(&call.params, &["description", "metadata"])?;
    one(world, &Call { params: json!({}), path: call.path.clone() }, customer, id)?;
    let row = world.get_mut(KIND, id)?;
    if let Some(description) = forms::at(&call.params, "description") {
        row["description"] = description.clone();
    }
    merge_metadata(row, call.params.get("metadata"));
    world.copy(KIND, id)
}
