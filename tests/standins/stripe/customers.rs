//! Customers.

use serde_json::{Value, json};

use super::forms::{self, merge_metadata, only, text, texts};
use super::refusal::Answer;
use super::world::{Call, World, new_id};

fn opt(params: &Value, path: &str) -> Value {
    text(params, path).map_or(Value::Null, |found| json!(found))
}

/// `POST /v1/customers`.
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    only(
        params,
        &[
            "email",
            "name",
            "description",
            "metadata",
            "phone",
            "address",
            "preferred_locales",
            "tax_exempt",
            "test_clock",
        ],
    )?;
    if let Some(clock) = text(params, "test_clock") {
        world.get(super::clocks::KIND, clock, "test_clock")?;
    }
    let id = new(world, params);
    world.copy("customer", &id)
}

/// A customer from parameters already checked.
pub(super) fn new(world: &mut World, params: &Value) -> String {
    let id = new_id("cus_");
    let address = match forms::at(params, "address") {
        Some(Value::Object(given)) => {
            let mut address = json!({"city": null, "country": null, "line1": null, "line2": null, "postal_code": null, "state": null});
            for (key, value) in given {
                address[key.as_str()] = value.clone();
            }
            address
        }
        _ => Value::Null,
    };
    let mut customer = json!({
        "id": id, "object": "customer", "address": address, "balance": 0, "created": world.now(),
        "currency": null, "customer_account": null, "default_source": null, "delinquent": false,
        "description": opt(params, "description"), "discount": null, "email": opt(params, "email"),
        "invoice_prefix": id[4..12].to_uppercase(),
        "invoice_settings": {"custom_fields": null, "default_payment_method": null, "footer": null, "rendering_options": null},
        "livemode": false, "metadata": {}, "name": opt(params, "name"), "next_invoice_sequence": 1,
        "phone": opt(params, "phone"), "preferred_locales": texts(params, "preferred_locales"),
        "shipping": null, "tax_exempt": text(params, "tax_exempt").unwrap_or("none"),
        "test_clock": opt(params, "test_clock"),
    });
    merge_metadata(&mut customer, params.get("metadata"));
    world.insert(customer);
    world.emit("customer", &id, "customer.created", None);
    id
}

/// `POST /v1/customers/{id}`.
pub(super) fn update(world: &mut World, call: &Call, id: &str) -> Answer {
    let params = &call.params;
    only(params, &["email", "name", "description", "metadata", "phone", "tax_exempt", "invoice_settings"])?;
    let method = text(params, "invoice_settings.default_payment_method").map(str::to_owned);
    if let Some(method) = &method {
        world.get("payment_method", method, "invoice_settings.default_payment_method")?;
    }
    let customer = world.get_mut("customer", id)?;
    let mut previous = json!({});
    for field in ["email", "name", "description", "phone", "tax_exempt"] {
        if let Some(value) = params.get(field) {
            previous[field] = customer[field].clone();
            customer[field] = if value == "" { Value::Null } else { value.clone() };
        }
    }
    if let Some(method) = method {
        customer["invoice_settings"]["default_payment_method"] = json!(method);
    }
    merge_metadata(customer, params.get("metadata"));
    world.emit("customer", id, "customer.updated", Some(previous));
    world.copy("customer", id)
}

/// `GET /v1/customers`.
pub(super) fn list(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, &["email", "created", "limit", "starting_after", "ending_before", "test_clock"])?;
    let email = text(params, "email");
    let clock = text(params, "test_clock");
    world.list("customer", call, |row| {
        email.is_none_or(|email| row["email"] == email) && row["test_clock"].as_str() == clock
    })
}
