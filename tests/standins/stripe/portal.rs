//! Billing Portal sessions and configurations.

use serde_json::{Value, json};

use super::forms::{boolean, merge_metadata, only, required, text};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id};

const CONFIGURATION: &str = "billing_portal.configuration";

/// `POST /v1/billing_portal/sessions`; each call makes a new short-lived page address.
pub(super) fn create_session(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, &["customer", "return_url", "configuration", "locale", "flow_data"])?;
    let customer = required(params, "customer")?;
    world.get("customer", customer, "customer")?;
    let configuration = match text(params, "configuration") {
        Some(configuration) => {
            world.get(CONFIGURATION, configuration, "configuration")?;
            configuration.to_owned()
        }
        None => default_configuration(world),
    };
    let id = new_id("bps_");
    world.insert(json!({
        "id": id, "object": "billing_portal.session", "configuration": configuration,
        "created": world.now(), "customer": customer, "customer_account": null, "flow": null,
        "livemode": false, "locale": text(params, "locale"), "on_behalf_of": null,
        "return_url": text(params, "return_url"), "url": format!("{}/p/session/{id}", world.public_url),
    }));
    world.copy("billing_portal.session", &id)
}

/// The one saved at the dashboard: what our pages lead there for is on, and what they do themselves is off.
fn default_configuration(world: &mut World) -> String {
    let found = world
        .all(CONFIGURATION)
        .find(|row| row["is_default"] == true)
        .and_then(|row| row["id"].as_str())
        .map(str::to_owned);
    found.unwrap_or_else(|| new_configuration(world, true))
}

fn new_configuration(world: &mut World, is_default: bool) -> String {
    let id = new_id("bpc_");
    world.insert(json!({
        "id": id, "object": CONFIGURATION, "active": true, "application": null,
        "business_profile": {"headline": null, "privacy_policy_url": null, "terms_of_service_url": null},
        "created": world.now(), "default_return_url": null,
        "features": {
            "customer_update": {"allowed_updates": ["address", "tax_id"], "enabled": true},
            "invoice_history": {"enabled": true},
            "payment_method_update": {"enabled": true, "payment_method_configuration": null},
            "subscription_cancel": {
                "cancellation_reason": {"enabled": false, "options": ["other"]},
                "enabled": false, "mode": "at_period_end", "proration_behavior": "none",
            },
            "subscription_update": {
                "billing_cycle_anchor": null, "default_allowed_updates": ["price"], "enabled": false,
                "products": [], "proration_behavior": "create_prorations",
                "schedule_at_period_end": {"conditions": []}, "trial_update_behavior": "end_trial",
            },
        },
        "is_default": is_default, "livemode": false, "login_page": {"enabled": false, "url": null},
        "metadata": {}, "name": null, "updated": world.now(),
    }));
    id
}

/// `POST /v1/billing_portal/configurations`. The features are kept and given back; the page
/// offers all of its forms whatever they say.
pub(super) fn create_configuration(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    if params.get("features").is_none() {
        return Err(Refusal::missing_parameter("features"));
    }
    let known = ["features", "business_profile", "default_return_url", "metadata", "login_page", "name"];
    only(params, &known)?;
    let id = new_configuration(world, false);
    apply(world, params, &id)?;
    world.copy(CONFIGURATION, &id)
}

/// `POST /v1/billing_portal/configurations/{id}`.
pub(super) fn update_configuration(world: &mut World, call: &Call, id: &str) -> Answer {
    let known = ["features", "business_profile", "default_return_url", "metadata", "login_page", "name", "active"];
    only(&call.params, &known)?;
    world.get(CONFIGURATION, id, "id")?;
    apply(world, &call.params, id)?;
    world.copy(CONFIGURATION, id)
}

fn apply(world: &mut World, params: &Value, id: &str) -> Result<(), Refusal> {
    let active = boolean(params, "active")?;
    let now = world.now();
    let row = world.get_mut(CONFIGURATION, id)?;
    for field in ["features", "business_profile"] {
        if let Some(given) = params.get(field) {
            overlay(&mut row[field], given);
        }
    }
    for field in ["default_return_url", "name"] {
        if let Some(given) = params.get(field) {
            row[field] = given.clone();
        }
    }
    if let Some(active) = active {
        row["active"] = json!(active);
    }
    row["updated"] = json!(now);
    merge_metadata(row, params.get("metadata"));
    Ok(())
}

/// Writes given form values over an object, keeping the types that are there.
fn overlay(target: &mut Value, given: &Value) {
    match (target, given) {
        (Value::Object(target), Value::Object(given)) => {
            for (key, value) in given {
                overlay(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target @ Value::Bool(_), Value::String(word)) => *target = json!(word == "true"),
        (target, given) => *target = given.clone(),
    }
}

/// `GET /v1/billing_portal/configurations`. The default one was saved at the dashboard before anybody asks.
pub(super) fn list_configurations(world: &mut World, call: &Call) -> Answer {
    only(&call.params, &["active", "is_default", "limit", "starting_after", "ending_before"])?;
    let active = boolean(&call.params, "active")?;
    let is_default = boolean(&call.params, "is_default")?;
    default_configuration(world);
    world.list(CONFIGURATION, call, |row| {
        active.is_none_or(|active| row["active"] == active)
            && is_default.is_none_or(|is_default| row["is_default"] == is_default)
    })
}
