//! Test clocks: a customer made with one lives in its frozen time, with calendar months.

use serde_json::json;

use super::billing;
use super::forms::{integer, only, text};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id};

/// Stripe's name of the object.
pub(super) const KIND: &str = "test_helpers.test_clock";
const LIFE_SECS: i64 = 30 * 86_400;

/// `POST /v1/test_helpers/test_clocks`.
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    only(&call.params, &["frozen_time", "name"])?;
    let frozen_time = integer(&call.params, "frozen_time")?.ok_or_else(|| Refusal::missing_parameter("frozen_time"))?;
    let id = new_id("clock_");
    let now = world.now();
    world.insert(json!({
        "id": id, "object": KIND, "created": now, "deletes_after": now + LIFE_SECS,
        "frozen_time": frozen_time, "livemode": false, "name": text(&call.params, "name"),
        "status": "ready", "status_details": {},
    }));
    world.copy(KIND, &id)
}

/// `POST /v1/test_helpers/test_clocks/{id}/advance`; done when it answers.
pub(super) fn advance(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["frozen_time"])?;
    let frozen_time = integer(&call.params, "frozen_time")?.ok_or_else(|| Refusal::missing_parameter("frozen_time"))?;
    let clock = world.get_mut(KIND, id)?;
    if clock["frozen_time"].as_i64().is_some_and(|now| frozen_time <= now) {
        return Err(Refusal::invalid("Test clocks can only be advanced forward.", "frozen_time"));
    }
    clock["frozen_time"] = json!(frozen_time);
    billing::bill_due(world)?;
    world.emit(KIND, id, "test_helpers.test_clock.ready", None);
    world.copy(KIND, id)
}
