//! The billing engine: ends and renews what is due, expires Checkout Sessions.

use serde_json::{Value, json};

use super::refusal::Refusal;
use super::world::World;
use super::{checkout, invoices, subscriptions};

/// Renewals in one go, so that a clock set far ahead cannot run for ever.
const RENEWALS_MAX: usize = 20_000;

/// Does everything that is due by now, in the order it fell due.
pub(super) fn bill_due(world: &mut World) -> Result<(), Refusal> {
    checkout::expire_due(world)?;
    for _ in 0..RENEWALS_MAX {
        let due = world
            .all("subscription")
            .filter(|row| row["status"] != "canceled")
            .filter_map(|row| Some((period_end(row)?, row)))
            .filter(|(end, row)| *end <= world.clock_of(row))
            .min_by_key(|(end, _)| *end)
            .and_then(|(end, row)| Some((end, row["id"].as_str()?.to_owned())));
        let Some((end, id)) = due else {
            return Ok(());
        };
        world.acting_at(end, |world| renew(world, &id))?;
    }
    Ok(())
}

fn period_end(subscription: &Value) -> Option<i64> {
    subscription["items"]["data"][0]["current_period_end"].as_i64()
}

/// Ends a subscription that was told to, or begins its next period with an invoice.
///
/// The period moves whether the card pays or not, as at Stripe.
fn renew(world: &mut World, id: &str) -> Result<(), Refusal> {
    let before = world.copy("subscription", id)?;
    if before["cancel_at_period_end"] == true {
        return subscriptions::end(world, id, "cancellation_requested");
    }
    let anchor = before["billing_cycle_anchor"].as_i64().unwrap_or(0);
    let month_secs = world.month_secs_of(&before);
    let row = world.get_mut("subscription", id)?;
    if let Some(items) = row["items"]["data"].as_array_mut() {
        for item in items {
            let start = item["current_period_end"].as_i64().unwrap_or(anchor);
            let cadence = subscriptions::cadence(&item["price"]);
            item["current_period_start"] = json!(start);
            item["current_period_end"] = json!(cadence.next_end(anchor, start, month_secs));
        }
    }
    let after = row.clone();
    let lines =
        after["items"]["data"].as_array().into_iter().flatten().map(|item| invoices::line(world, item, None)).collect();
    let invoice = invoices::issue(world, &after, "subscription_cycle", lines)?;
    world.get_mut("subscription", id)?["latest_invoice"] = json!(invoice);
    world.emit(
        "subscription",
        id,
        "customer.subscription.updated",
        Some(json!({"items": before["items"], "latest_invoice": before["latest_invoice"]})),
    );
    invoices::collect(world, &invoice, false)?;
    Ok(())
}

/// Lets the current period of a subscription end now, and bills what follows.
pub(super) fn renew_now(world: &mut World, id: &str) -> Result<(), Refusal> {
    let row = world.get("subscription", id, "id")?;
    if row["status"] == "canceled" {
        return Err(Refusal::state("A canceled subscription is not renewed."));
    }
    let now = world.clock_of(row);
    let row = world.get_mut("subscription", id)?;
    row["billing_cycle_anchor"] = json!(now);
    if row["cancel_at_period_end"] == true {
        row["cancel_at"] = json!(now);
    }
    if let Some(items) = row["items"]["data"].as_array_mut() {
        for item in items {
            item["current_period_end"] = json!(now);
        }
    }
    bill_due(world)
}
