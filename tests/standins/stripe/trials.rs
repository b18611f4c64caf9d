//! Free trials: begun, announced three days before they end, ended.

use serde_json::{Value, json};

use super::calendar::{Cadence, Interval};
use super::refusal::Refusal;
use super::subscriptions;
use super::world::World;

const NOTICE_DAYS: i64 = 3;

/// Makes a subscription trialing from `start` to `end`.
pub(super) fn mark(subscription: &mut Value, start: i64, end: i64) {
    subscription["status"] = json!("trialing");
    subscription["trial_start"] = json!(start);
    subscription["trial_end"] = json!(end);
    subscription["billing_cycle_anchor"] = json!(end);
}

/// The end of a trial of some days that begins at `start`.
pub(super) fn end_after(start: i64, days: i64, month_secs: Option<i64>) -> i64 {
    Cadence { interval: Interval::Day, count: days }.next_end(start, start, month_secs)
}

/// Plans `customer.subscription.trial_will_end`; a trial that is shorter than three days is announced at once.
pub(super) fn announce_later(world: &mut World, id: &str) -> Result<(), Refusal> {
    let row = world.copy("subscription", id)?;
    world.trial_notices.remove(id);
    let Some(end) = row["trial_end"].as_i64().filter(|_| row["status"] == "trialing") else {
        return Ok(());
    };
    let notice_secs = end_after(0, NOTICE_DAYS, world.month_secs_of(&row));
    world.trial_notices.insert(id.to_owned(), end - notice_secs);
    if end - notice_secs <= world.clock_of(&row) {
        announce(world, id);
    }
    Ok(())
}

/// Says that a trial ends soon.
pub(super) fn announce(world: &mut World, id: &str) {
    if world.trial_notices.remove(id).is_some() {
        world.emit("subscription", id, "customer.subscription.trial_will_end", None);
    }
}

/// A trial's time is over; gives whether the subscription goes on with an invoice.
///
/// Without a card it does what `trial_settings` says.
pub(super) fn ended(world: &mut World, id: &str) -> Result<bool, Refusal> {
    let row = world.copy("subscription", id)?;
    let customer = row["customer"].as_str().unwrap_or_default();
    let default = world.get("customer", customer, "customer")?["invoice_settings"]["default_payment_method"].clone();
    if row["default_payment_method"].is_null() && default.is_null() {
        match row["trial_settings"]["end_behavior"]["missing_payment_method"].as_str() {
            Some("cancel") => {
                subscriptions::end(world, id, "payment_failed")?;
                return Ok(false);
            }
            Some("pause") => {
                world.get_mut("subscription", id)?["status"] = json!("paused");
                world.emit("subscription", id, "customer.subscription.paused", None);
                return Ok(false);
            }
            _ => {}
        }
    }
    world.get_mut("subscription", id)?["status"] = json!("active");
    Ok(true)
}
