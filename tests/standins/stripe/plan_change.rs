//! Another price or quantity for a subscription item, with prorations.

use serde_json::{Value, json};

use super::forms::text;
use super::refusal::Refusal;
use super::world::World;
use super::{invoices, subscriptions};

/// Stripe's `proration_behavior`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proration {
    /// The difference is on the next invoice.
    NextInvoice,
    /// The difference is invoiced and charged at once.
    InvoiceNow,
    /// No difference is charged.
    None,
}

impl Proration {
    /// Reads `proration_behavior`.
    pub(super) fn read(params: &Value) -> Result<Self, Refusal> {
        match text(params, "proration_behavior") {
            None | Some("create_prorations") => Ok(Self::NextInvoice),
            Some("always_invoice") => Ok(Self::InvoiceNow),
            Some("none") => Ok(Self::None),
            Some(other) => Err(Refusal::invalid(
                format!(
                    "Invalid proration_behavior: must be one of always_invoice, create_prorations, or none, got {other}"
                ),
                "proration_behavior",
            )),
        }
    }
}

/// Changes one item. Another interval begins a new period now and invoices it at once.
pub(super) fn apply(
    world: &mut World,
    id: &str,
    position: usize,
    price_id: &str,
    quantity: i64,
    proration: Proration,
) -> Result<(), Refusal> {
    let price = world.copy("price", price_id)?;
    let before = world.copy("subscription", id)?;
    let now = world.clock_of(&before);
    let old_item = before["items"]["data"][position].clone();
    if old_item["price"]["id"] == price_id && old_item["quantity"] == quantity {
        return Ok(());
    }
    let new_period = subscriptions::cadence(&old_item["price"]) != subscriptions::cadence(&price);
    let month_secs = world.month_secs_of(&before);
    let row = world.get_mut("subscription", id)?;
    let item = &mut row["items"]["data"][position];
    item["plan"] = subscriptions::plan(&price);
    item["price"] = price.clone();
    item["quantity"] = json!(quantity);
    if new_period {
        item["current_period_start"] = json!(now);
        item["current_period_end"] = json!(subscriptions::cadence(&price).next_end(now, now, month_secs));
        row["billing_cycle_anchor"] = json!(now);
        if row["cancel_at_period_end"] == true {
            row["cancel_at"] = row["items"]["data"][position]["current_period_end"].clone();
        }
    }
    let after = row.clone();
    let item = after["items"]["data"][position].clone();
    world.emit("subscription", id, "customer.subscription.updated", Some(json!({"items": before["items"]})));
    let mut lines = Vec::new();
    if proration != Proration::None {
        lines.push(invoices::line(world, &old_item, Some(-unused(&old_item, now))));
        if !new_period {
            lines.push(invoices::line(world, &item, Some(unused(&item, now))));
        }
    }
    if new_period {
        lines.push(invoices::line(world, &item, None));
    }
    if new_period || proration == Proration::InvoiceNow {
        let invoice = invoices::issue(world, &after, "subscription_update", lines)?;
        world.get_mut("subscription", id)?["latest_invoice"] = json!(invoice);
        invoices::collect(world, &invoice, false)?;
    } else if !lines.is_empty() {
        world.pending_lines.entry(id.to_owned()).or_default().extend(lines);
    }
    Ok(())
}

/// The part of an item's price that its unused time is worth.
fn unused(item: &Value, now: i64) -> i64 {
    let int = |field: &str| item[field].as_i64().unwrap_or(0);
    let (start, end) = (int("current_period_start"), int("current_period_end"));
    let full = item["price"]["unit_amount"].as_i64().unwrap_or(0) * int("quantity");
    let length = (end - start).max(1);
    full * (end - now).clamp(0, length) / length
}
