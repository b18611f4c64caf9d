//! Events as an endpoint from before the API of 2025-03-31 gets them.
//!
//! Periods stood on the subscription then, and an invoice named its subscription, charge and payment intent.

use serde_json::{Value, json};

use super::invoices::payment_of;
use super::world::World;

const API_VERSION: &str = "2025-02-24.acacia";

/// An event in the older shape.
pub(super) fn event(world: &World, event: &Value) -> Value {
    let mut older = event.clone();
    older["api_version"] = json!(API_VERSION);
    object(world, &mut older["data"]["object"]);
    older
}

fn object(world: &World, object: &mut Value) {
    match object["object"].as_str() {
        Some("subscription") => subscription(world, object),
        Some("discount") => discount(world, object),
        Some("invoice") => invoice(world, object),
        Some("charge") => charge(world, object),
        Some("payment_intent") => payment_intent(world, object),
        _ => {}
    }
}

fn remove(object: &mut Value, field: &str) -> Value {
    object.as_object_mut().and_then(|map| map.remove(field)).unwrap_or(Value::Null)
}

/// The first discount of an object, in full.
fn first_discount(world: &World, row: &Value) -> Value {
    let mut found = row["discounts"][0].as_str().and_then(|id| world.find(id)).cloned().unwrap_or(Value::Null);
    if !found.is_null() {
        discount(world, &mut found);
    }
    found
}

fn discount(world: &World, row: &mut Value) {
    let source = remove(row, "source");
    row["coupon"] = source["coupon"].as_str().and_then(|id| world.find(id)).cloned().unwrap_or(Value::Null);
}

fn subscription(world: &World, row: &mut Value) {
    for field in ["current_period_start", "current_period_end"] {
        row[field] = row["items"]["data"][0][field].clone();
        for item in row["items"]["data"].as_array_mut().into_iter().flatten() {
            remove(item, field);
        }
    }
    row["plan"] = row["items"]["data"][0]["plan"].clone();
    row["quantity"] = row["items"]["data"][0]["quantity"].clone();
    row["discount"] = first_discount(world, row);
    remove(row, "billing_mode");
}

fn invoice(world: &World, row: &mut Value) {
    let parent = remove(row, "parent");
    let details = &parent["subscription_details"];
    row["subscription"] = details["subscription"].clone();
    row["subscription_details"] = json!({"metadata": details["metadata"]});
    row["paid"] = json!(row["status"] == "paid");
    let intent = payment_of(world, row["id"].as_str().unwrap_or_default()).map(|(_, intent)| intent);
    row["charge"] =
        intent.as_deref().and_then(|id| world.find(id)).map_or(Value::Null, |found| found["latest_charge"].clone());
    row["payment_intent"] = json!(intent);
    row["discount"] = first_discount(world, row);
    let taxes = remove(row, "total_taxes");
    row["tax"] = match taxes.as_array().map(Vec::as_slice) {
        None | Some([]) => Value::Null,
        Some(rows) => json!(rows.iter().filter_map(|tax| tax["amount"].as_i64()).sum::<i64>()),
    };
    row["total_tax_amounts"] = taxes.as_array().into_iter().flatten().map(tax_amount).collect();
    for field in ["amount_overpaid", "amount_paid_off_stripe", "confirmation_secret"] {
        remove(row, field);
    }
    for line in row["lines"]["data"].as_array_mut().into_iter().flatten() {
        invoice_line(world, line);
    }
}

fn tax_amount(tax: &Value) -> Value {
    json!({
        "amount": tax["amount"], "inclusive": tax["tax_behavior"] == "inclusive",
        "tax_rate": tax["tax_rate_details"]["tax_rate"], "taxability_reason": tax["taxability_reason"],
        "taxable_amount": tax["taxable_amount"],
    })
}

fn invoice_line(world: &World, line: &mut Value) {
    let parent = remove(line, "parent");
    let details = &parent["subscription_item_details"];
    line["subscription"] = details["subscription"].clone();
    line["subscription_item"] = details["subscription_item"].clone();
    line["proration"] = details["proration"].clone();
    line["proration_details"] = details["proration_details"].clone();
    line["type"] = json!("subscription");
    let pricing = remove(line, "pricing");
    let price = pricing["price_details"]["price"].as_str().and_then(|id| world.find(id));
    line["price"] = price.cloned().unwrap_or(Value::Null);
    line["unit_amount_excluding_tax"] = pricing["unit_amount_decimal"].clone();
    line["tax_amounts"] = remove(line, "taxes").as_array().into_iter().flatten().map(tax_amount).collect();
    line["tax_rates"] = json!([]);
}

/// The invoice that a payment intent pays.
fn invoice_of(world: &World, intent: &Value) -> Value {
    world
        .tied("invoice_payment", "payment.payment_intent", intent.as_str().unwrap_or_default())
        .into_iter()
        .rfind(|row| row["payment"]["payment_intent"] == *intent)
        .map_or(Value::Null, |row| row["invoice"].clone())
}

fn charge(world: &World, row: &mut Value) {
    row["invoice"] = invoice_of(world, &row["payment_intent"]);
}

fn payment_intent(world: &World, row: &mut Value) {
    row["invoice"] = invoice_of(world, &row["id"]);
}
