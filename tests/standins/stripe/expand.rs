//! `expand[]`: ids replaced by the objects they name.

use serde_json::{Value, json};

use super::forms;
use super::refusal::{Answer, Refusal};
use super::world::World;

const DEPTH_MAX: usize = 4;

/// The answer with every asked-for path expanded.
pub(super) fn expanded(world: &World, mut answer: Value, params: &Value) -> Answer {
    for path in forms::texts(params, "expand") {
        let segments: Vec<&str> = path.split('.').collect();
        let depth = segments.iter().filter(|segment| **segment != "data").count();
        if depth > DEPTH_MAX {
            return Err(Refusal::invalid(
                format!("You cannot expand more than {DEPTH_MAX} levels of a property. Property: {path}"),
                "expand",
            ));
        }
        walk(world, &mut answer, &segments, &path)?;
    }
    Ok(answer)
}

fn walk(world: &World, at: &mut Value, segments: &[&str], path: &str) -> Result<(), Refusal> {
    let Some((head, rest)) = segments.split_first() else {
        return Ok(());
    };
    if let Value::Array(rows) = at {
        return rows.iter_mut().try_for_each(|row| walk(world, row, segments, path));
    }
    include_list(world, at, head);
    let Some(field) = at.get_mut(*head) else {
        return Err(Refusal::invalid(format!("This property cannot be expanded ({path})."), "expand"));
    };
    match field {
        Value::String(id) => {
            let Some(found) = world.find(id).cloned() else {
                return Err(Refusal::invalid(format!("This property cannot be expanded ({path})."), "expand"));
            };
            *field = found;
        }
        Value::Null => return Ok(()),
        _ => {}
    }
    if let Value::Array(rows) = field {
        for row in rows {
            if !rest.is_empty() {
                walk(world, row, rest, path)?;
            } else if let Some(found) = row.as_str().and_then(|id| world.find(id)).cloned() {
                *row = found;
            }
        }
        return Ok(());
    }
    walk(world, field, rest, path)
}

/// Lists that are in an object only when asked for.
fn include_list(world: &World, object: &mut Value, name: &str) {
    if object.get(name).is_some_and(Value::is_object) {
        return;
    }
    let id = object["id"].as_str().unwrap_or_default().to_owned();
    if name == "currency_options" && object["object"] == "price" {
        object[name] = currency_options(world, object);
        return;
    }
    let (kind, field, url) = match (object["object"].as_str(), name) {
        (Some("invoice"), "payments") => ("invoice_payment", "invoice", format!("/v1/invoice_payments?invoice={id}")),
        (Some("charge"), "refunds") => ("refund", "charge", format!("/v1/charges/{id}/refunds")),
        (Some("customer"), "tax_ids") => ("tax_id", "customer", format!("/v1/customers/{id}/tax_ids")),
        (Some("customer"), "subscriptions") => {
            ("subscription", "customer", format!("/v1/customers/{id}/subscriptions"))
        }
        (Some("checkout.session"), "line_items") => {
            ("item", "session", format!("/v1/checkout/sessions/{id}/line_items"))
        }
        _ => return,
    };
    let mut rows: Vec<Value> = world
        .tied(kind, field, &id)
        .into_iter()
        .rev()
        .filter(|row| row[field] == id.as_str())
        .filter(|row| kind != "subscription" || row["status"] != "canceled")
        .cloned()
        .collect();
    if kind == "item" {
        rows.reverse();
        for row in &mut rows {
            if let Some(map) = row.as_object_mut() {
                map.remove("session");
            }
        }
    }
    object[name] = json!({"object": "list", "data": rows, "has_more": false, "url": url});
}

/// Every currency of a price, its own among them.
fn currency_options(world: &World, price: &Value) -> Value {
    let own = price["currency"].as_str().unwrap_or_default();
    let further = world.currency_options.get(price["id"].as_str().unwrap_or_default());
    let mut options = further.cloned().unwrap_or_else(|| json!({}));
    options[own] = json!({
        "custom_unit_amount": null, "tax_behavior": price["tax_behavior"], "unit_amount": price["unit_amount"],
        "unit_amount_decimal": price["unit_amount_decimal"],
    });
    options
}
