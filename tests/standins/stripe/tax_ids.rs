//! Tax ids of customers.

use serde_json::json;

use super::forms::{only, required};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id};

const KIND: &str = "tax_id";

/// `POST /v1/customers/{id}/tax_ids`.
pub(super) fn create(world: &mut World, call: &Call, customer: &str) -> Answer {
    only(&call.params, &["type", "value"])?;
    world.get("customer", customer, "id")?;
    let id = add(world, customer, required(&call.params, "type")?, required(&call.params, "value")?)?;
    world.copy(KIND, &id)
}

/// Gives a customer a tax id. Event: `customer.tax_id.created`.
///
/// *Errors*: 400 when it cannot be one of that type.
pub(super) fn add(world: &mut World, customer: &str, kind: &str, value: &str) -> Result<String, Refusal> {
    let value: String = value.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_uppercase();
    let (prefix, rest) = value.split_at_checked(2).unwrap_or(("", ""));
    let shaped = prefix.chars().all(|c| c.is_ascii_alphabetic())
        && (2..=13).contains(&rest.len())
        && rest.chars().all(|c| c.is_ascii_alphanumeric());
    if kind == "eu_vat" && !shaped {
        return Err(Refusal::invalid("Invalid value for eu_vat.", "value").with_code("tax_id_invalid"));
    }
    let country = if kind == "eu_vat" { prefix } else { kind.split('_').next().unwrap_or_default() };
    let id = new_id("txi_");
    world.insert(json!({
        "id": id, "object": KIND, "country": country.to_uppercase(), "created": world.now(), "customer": customer,
        "customer_account": null, "livemode": false,
        "owner": {"customer": customer, "type": "customer"}, "type": kind, "value": value,
        "verification": {"status": "verified", "verified_address": null, "verified_name": null},
    }));
    world.emit(KIND, &id, "customer.tax_id.created", None);
    Ok(id)
}

/// `GET /v1/customers/{id}/tax_ids`.
pub(super) fn list(world: &World, call: &Call, customer: &str) -> Answer {
    only(&call.params, &["limit", "starting_after", "ending_before"])?;
    world.get("customer", customer, "id")?;
    world.list_of_customer(customer, KIND, call, |_| true)
}

/// `GET /v1/customers/{customer}/tax_ids/{id}`.
pub(super) fn one(world: &World, call: &Call, customer: &str, id: &str) -> Answer {
    only(&call.params, &[])?;
    let found = world.copy(KIND, id)?;
    if found["customer"] == customer { Ok(found) } else { Err(Refusal::no_such(KIND, id, "id")) }
}

/// `DELETE /v1/customers/{customer}/tax_ids/{id}`.
pub(super) fn delete(world: &mut World, call: &Call, customer: &str, id: &str) -> Answer {
    one(world, call, customer, id)?;
    world.emit(KIND, id, "customer.tax_id.deleted", None);
    world.remove(KIND, id);
    Ok(json!({"id": id, "object": KIND, "deleted": true}))
}
