//! Customers.

use serde_json::{Value, json};

use super::forms::{self, merge_metadata, only, text, texts};
use super::refusal::Answer;
use super::world::{Call, World, new_id};
use super::{subscriptions, tax_ids};

/// Where deleted customers are kept, so that reads still find them.
const DELETED: &str = "deleted_customer";

fn opt(params: &Value, path: &str) -> Value {
    text(params, path).map_or(Value::Null, |found| json!(found))
}

/// An address with every field Stripe has.
pub(super) fn address(given: &Value) -> Value {
    let mut address =
        json!({"city": null, "country": null, "line1": null, "line2": null, "postal_code": null, "state": null});
    for (key, value) in given.as_object().into_iter().flatten() {
        address[key.as_str()] = if value == "" { Value::Null } else { value.clone() };
    }
    address
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
            "tax",
            "tax_exempt",
            "tax_id_data",
            "test_clock",
        ],
    )?;
    if let Some(clock) = text(params, "test_clock") {
        world.get(super::clocks::KIND, clock, "test_clock")?;
    }
    let id = new(world, params);
    for row in params["tax_id_data"].as_array().into_iter().flatten() {
        tax_ids::add(world, &id, forms::required(row, "type")?, forms::required(row, "value")?)?;
    }
    world.copy("customer", &id)
}

/// A customer from parameters already checked.
pub(super) fn new(world: &mut World, params: &Value) -> String {
    let id = new_id("cus_");
    let address = forms::at(params, "address").filter(|given| given.is_object()).map_or(Value::Null, address);
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
    let known = [
        "email",
        "name",
        "description",
        "metadata",
        "phone",
        "tax",
        "tax_exempt",
        "invoice_settings",
        "address",
        "preferred_locales",
    ];
    only(params, &known)?;
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
    if let Some(given) = params.get("address") {
        previous["address"] = customer["address"].clone();
        customer["address"] = if given.is_object() { address(given) } else { Value::Null };
    }
    if params.get("preferred_locales").is_some() {
        customer["preferred_locales"] = json!(texts(params, "preferred_locales"));
    }
    if let Some(method) = method {
        customer["invoice_settings"]["default_payment_method"] = json!(method);
    }
    merge_metadata(customer, params.get("metadata"));
    world.emit("customer", id, "customer.updated", Some(previous));
    world.copy("customer", id)
}

/// `GET /v1/customers/{id}`; a deleted one says so.
pub(super) fn one(world: &World, call: &Call, id: &str) -> Answer {
    only(&call.params, &[])?;
    world.copy(DELETED, id).or_else(|_| world.copy("customer", id))
}

/// `DELETE /v1/customers/{id}`: its subscriptions end at once, what is open is no longer collected.
///
/// Events: `customer.subscription.deleted` for each, `customer.deleted`.
pub(super) fn delete(world: &mut World, id: &str) -> Answer {
    world.get("customer", id, "id")?;
    let held: Vec<String> = world
        .all("subscription")
        .filter(|row| row["customer"] == id && row["status"] != "canceled")
        .filter_map(|row| row["id"].as_str().map(str::to_owned))
        .collect();
    for subscription in held {
        subscriptions::end(world, &subscription, "cancellation_requested")?;
    }
    world.emit("customer", id, "customer.deleted", None);
    let drafts: Vec<String> = world
        .all("invoice")
        .filter(|row| row["customer"] == id && row["status"] == "draft")
        .filter_map(|row| row["id"].as_str().map(str::to_owned))
        .collect();
    for draft in drafts {
        world.drafts.remove(&draft);
        world.get_mut("invoice", &draft)?["auto_advance"] = json!(false);
    }
    world.remove("customer", id);
    world.cards.remove(id);
    let rest = json!({"id": id, "object": "customer", "deleted": true});
    world.insert_as(DELETED, rest.clone());
    Ok(rest)
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
