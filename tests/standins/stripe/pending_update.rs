//! Changes that wait for their invoice (`payment_behavior=pending_if_incomplete`): applied when it is paid, given up
//! at the end of the period or after 23 hours.

use serde_json::{Value, json};

use super::refusal::Refusal;
use super::world::World;
use super::{invoice_calls, plan_change};

const LIFE_SECS: i64 = 23 * 3600;

/// A change that waits.
#[derive(Debug, Clone)]
pub(super) struct Held {
    invoice: String,
    after: Value,
    announced: bool,
}

/// Lets a change wait for its invoice, which is about to be collected.
pub(super) fn hold(world: &mut World, id: &str, invoice: &str, after: Value) {
    let held = Held { invoice: invoice.to_owned(), after, announced: false };
    world.held_updates.insert(id.to_owned(), held);
}

/// Says that a change waits, if its invoice was not paid. Event: `customer.subscription.updated`.
pub(super) fn announce(world: &mut World, id: &str) -> Result<(), Refusal> {
    let before = world.copy("subscription", id)?;
    let Some(held) = world.held_updates.get_mut(id) else {
        return Ok(());
    };
    held.announced = true;
    let after = held.after.clone();
    let period_end = before["items"]["data"][0]["current_period_end"].as_i64().unwrap_or(i64::MAX);
    let expires_at = period_end.min(world.now_of(&before) + LIFE_SECS);
    let moved = |field: &str| if after[field] == before[field] { Value::Null } else { after[field].clone() };
    world.get_mut("subscription", id)?["pending_update"] = json!({
        "billing_cycle_anchor": moved("billing_cycle_anchor"), "discount": null, "discounts": null,
        "expires_at": expires_at, "metadata": null,
        "subscription_items": after["items"]["data"], "trial_end": moved("trial_end"), "trial_from_plan": null,
    });
    world.emit("subscription", id, "customer.subscription.updated", Some(json!({"pending_update": null})));
    Ok(())
}

/// Whether an invoice is what a change waits for.
pub(super) fn waits_for(world: &World, invoice: &Value) -> bool {
    world.held_updates.values().any(|held| invoice["id"] == held.invoice.as_str())
}

fn holder(world: &World, invoice: &str) -> Option<String> {
    world.held_updates.iter().find(|(_, held)| held.invoice == invoice).map(|(id, _)| id.clone())
}

/// Applies the change that waited for this invoice. Event: `customer.subscription.pending_update_applied`.
pub(super) fn invoice_paid(world: &mut World, invoice: &Value) -> Result<(), Refusal> {
    let Some(id) = holder(world, invoice["id"].as_str().unwrap_or_default()) else {
        return Ok(());
    };
    if let Some(held) = world.held_updates.remove(&id) {
        world.get_mut("subscription", &id)?["pending_update"] = Value::Null;
        plan_change::commit(world, &id, &held.after)?;
        if held.announced {
            world.emit("subscription", &id, "customer.subscription.pending_update_applied", None);
        }
    }
    Ok(())
}

/// The invoice of a waiting change was voided: the change is given up.
pub(super) fn discard_of_invoice(world: &mut World, invoice: &str) -> Result<(), Refusal> {
    match holder(world, invoice) {
        Some(id) => {
            world.held_updates.remove(&id);
            expired(world, &id)
        }
        None => Ok(()),
    }
}

/// Gives a waiting change up and voids its invoice. Event: `customer.subscription.pending_update_expired`.
pub(super) fn discard(world: &mut World, id: &str) -> Result<(), Refusal> {
    let Some(held) = world.held_updates.remove(id) else {
        return Ok(());
    };
    if matches!(world.get("invoice", &held.invoice, "id")?["status"].as_str(), Some("open" | "uncollectible")) {
        invoice_calls::void_now(world, &held.invoice)?;
    }
    expired(world, id)
}

fn expired(world: &mut World, id: &str) -> Result<(), Refusal> {
    world.get_mut("subscription", id)?["pending_update"] = Value::Null;
    world.emit("subscription", id, "customer.subscription.pending_update_expired", None);
    Ok(())
}
