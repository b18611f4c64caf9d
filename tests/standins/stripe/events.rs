//! `GET /v1/events`, and the shapes that events are delivered in.

use serde_json::{Value, json};

use super::forms::{self, only, text};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id};

/// Stripe keeps events this long.
const KEPT_SECS: i64 = 30 * 86_400;
const TYPES_MAX: usize = 20;

fn is_kept(world: &World, event: &Value) -> bool {
    event["created"].as_i64().is_some_and(|at| at > world.clock() - KEPT_SECS)
}

/// `GET /v1/events/{id}`: gone after 30 days of the stand-in's clock.
pub(super) fn one(world: &World, call: &Call, id: &str) -> Answer {
    only(&call.params, &[])?;
    let found = world.copy("event", id)?;
    if is_kept(world, &found) { Ok(found) } else { Err(Refusal::no_such("event", id, "id")) }
}

/// `GET /v1/events`, newest first.
pub(super) fn list(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, &["created", "type", "types", "delivery_success", "limit", "starting_after", "ending_before"])?;
    let mut types = forms::texts(params, "types");
    if types.len() > TYPES_MAX {
        return Err(Refusal::invalid(format!("You may specify at most {TYPES_MAX} types."), "types"));
    }
    if !types.is_empty() && text(params, "type").is_some() {
        return Err(Refusal::state("You may pass either type or types, not both."));
    }
    types.extend(text(params, "type").map(str::to_owned));
    let delivered = forms::boolean(params, "delivery_success")?;
    world.list("event", call, |row| {
        let wanted = types.is_empty()
            || types.iter().any(|pattern| {
                let name = row["type"].as_str().unwrap_or_default();
                pattern.strip_suffix('*').map_or(name == pattern, |prefix| name.starts_with(prefix))
            });
        wanted && is_kept(world, row) && delivered.is_none_or(|delivered| (row["pending_webhooks"] == 0) == delivered)
    })
}

/// States the same fact under a second id, as Stripe does at times; gives the new event, which is delivered too.
pub(super) fn restate(world: &mut World, id: &str) -> Answer {
    let mut event = world.copy("event", id)?;
    let again = new_id("evt_");
    event["id"] = json!(again);
    event["pending_webhooks"] = json!(1);
    world.insert(event.clone());
    world.outbox.enqueue(again);
    Ok(event)
}
