//! Subscriptions: begun by a paid checkout, followed, ended.

use serde_json::{Value, json};

use super::discounts::{self, Source};
use super::forms::{boolean, only, text};
use super::invoice_shape::{self, Part};
use super::payments::Outcome;
use super::refusal::{Answer, Refusal};
use super::subscription_shape::{blank, cadence, item};
use super::world::{Call, World, new_id};
use super::{catalogue, invoices, pending_update, plan_change, schedules, trials};

/// What a subscription is begun with.
#[derive(Default)]
pub(super) struct Beginning {
    /// `sub_…`; a new one if absent.
    pub(super) id: Option<String>,
    /// `cus_…`.
    pub(super) customer: String,
    /// Price ids and quantities.
    pub(super) items: Vec<(String, i64)>,
    /// The subscription's metadata.
    pub(super) metadata: Value,
    /// The card to charge; none is possible for a free trial.
    pub(super) payment_method: Option<String>,
    /// The first price's own if absent.
    pub(super) currency: Option<String>,
    /// When a free trial ends, in Unix seconds.
    pub(super) trial_end: Option<i64>,
    /// Fields that are kept as they are: `description`, `trial_settings`, `automatic_tax`.
    pub(super) extra: Value,
    /// What makes it cheaper.
    pub(super) discounts: Vec<Source>,
    /// The Checkout Session it comes from.
    pub(super) session: Option<String>,
}

/// Begins an active or trialing subscription with a first invoice; gives both ids.
pub(super) fn begin(world: &mut World, begin: Beginning) -> Result<(String, String), Refusal> {
    let id = begin.id.unwrap_or_else(|| new_id("sub_"));
    let customer = world.copy("customer", &begin.customer)?;
    let now = world.clock_of(&customer);
    let mut subscription = blank(&id, now);
    let mut items = Vec::new();
    let mut currency = begin.currency.clone().unwrap_or_default();
    for (price_id, quantity) in &begin.items {
        let price = world.get("price", price_id, "items.price")?.clone();
        if currency.is_empty() {
            price["currency"].as_str().unwrap_or_default().clone_into(&mut currency);
        }
        catalogue::unit_amount(world, &price, &currency)?;
        let end = begin.trial_end.unwrap_or_else(|| cadence(&price).next_end(now, now, world.month_secs_of(&customer)));
        items.push(item(&id, &price, *quantity, (now, end)));
    }
    subscription["customer"] = json!(begin.customer);
    subscription["currency"] = json!(currency);
    subscription["default_payment_method"] = json!(begin.payment_method);
    subscription["items"]["data"] = json!(items);
    subscription["test_clock"] = customer["test_clock"].clone();
    subscription["metadata"] = begin.metadata;
    for (field, value) in begin.extra.as_object().into_iter().flatten() {
        subscription[field.as_str()] = value.clone();
    }
    if let Some(end) = begin.trial_end {
        trials::mark(&mut subscription, now, end);
    }
    world.insert(subscription);
    for source in &begin.discounts {
        discounts::attach(world, source, &id, begin.session.as_deref())?;
    }
    let subscription = world.copy("subscription", &id)?;
    let part = if begin.trial_end.is_some() { Part::Trial } else { Part::Period };
    let lines = items.iter().map(|item| invoice_shape::line(world, item, &currency, part)).collect();
    let invoice = invoices::issue(world, &subscription, "subscription_create", lines)?;
    world.get_mut("subscription", &id)?["latest_invoice"] = json!(invoice);
    if customer["currency"].is_null() {
        world.get_mut("customer", &begin.customer)?["currency"] = json!(currency);
    }
    world.emit("subscription", &id, "customer.subscription.created", None);
    if matches!(invoices::collect(world, &invoice, true)?, Outcome::Declined | Outcome::NeedsAction) {
        world.get_mut("subscription", &id)?["status"] = json!("incomplete");
    }
    trials::announce_later(world, &id)?;
    Ok((id, invoice))
}

/// The subscription an invoice is for.
pub(super) fn of_invoice(invoice: &Value) -> Option<&str> {
    invoice["parent"]["subscription_details"]["subscription"].as_str()
}

/// An invoice's payment was declined: its subscription is past due.
///
/// A change that waits for its invoice leaves the subscription as it is.
pub(super) fn payment_failed(world: &mut World, invoice: &Value) {
    if !pending_update::waits_for(world, invoice) {
        move_status(world, invoice, &["active"], "past_due");
    }
}

/// An invoice was paid or voided: a subscription it is the latest of is active again.
pub(super) fn payment_settled(world: &mut World, invoice: &Value) {
    move_status(world, invoice, &["past_due", "incomplete"], "active");
}

fn move_status(world: &mut World, invoice: &Value, from: &[&str], to: &str) {
    let Some(row) = of_invoice(invoice).and_then(|id| world.get_mut("subscription", id).ok()) else {
        return;
    };
    let before = row["status"].clone();
    if !from.iter().any(|from| before == *from) || row["latest_invoice"] != invoice["id"] {
        return;
    }
    row["status"] = json!(to);
    let id = row["id"].as_str().unwrap_or_default().to_owned();
    world.emit("subscription", &id, "customer.subscription.updated", Some(json!({"status": before})));
}

/// Ends a subscription now; its schedule ends with it.
pub(super) fn end(world: &mut World, id: &str, reason: &str) -> Result<(), Refusal> {
    let now = world.clock_of(world.get("subscription", id, "id")?).min(world.now());
    pending_update::discard(world, id)?;
    let row = world.get_mut("subscription", id)?;
    row["status"] = json!("canceled");
    row["ended_at"] = json!(now);
    if row["canceled_at"].is_null() {
        row["canceled_at"] = json!(now);
    }
    if row["cancellation_details"]["reason"].is_null() {
        row["cancellation_details"]["reason"] = json!(reason);
    }
    world.pending_lines.remove(id);
    world.trial_notices.remove(id);
    schedules::subscription_ended(world, id)?;
    world.emit("subscription", id, "customer.subscription.deleted", None);
    Ok(())
}

/// `DELETE /v1/subscriptions/{id}`; with `prorate` and `invoice_now` the unused time becomes credit.
pub(super) fn cancel(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["invoice_now", "prorate", "cancellation_details"])?;
    let before = world.copy("subscription", id)?;
    if before["status"] == "canceled" {
        return Err(Refusal::no_such("subscription", id, "id"));
    }
    if boolean(&call.params, "invoice_now")? == Some(true) {
        let mut lines = Vec::new();
        if boolean(&call.params, "prorate")? == Some(true) && before["status"] != "trialing" {
            lines = plan_change::credits(world, &before, world.now_of(&before))?;
        }
        if !lines.is_empty() || world.pending_lines.contains_key(id) {
            let invoice = invoices::issue(world, &before, "subscription_update", lines)?;
            world.get_mut("subscription", id)?["latest_invoice"] = json!(invoice);
            invoices::collect(world, &invoice, false)?;
        }
    }
    note_details(world.get_mut("subscription", id)?, &call.params);
    end(world, id, "cancellation_requested")?;
    world.copy("subscription", id)
}

/// Keeps what a person said about leaving.
pub(super) fn note_details(row: &mut Value, params: &Value) {
    for field in ["comment", "feedback"] {
        if let Some(given) = text(params, &format!("cancellation_details.{field}")) {
            row["cancellation_details"][field] = json!(given);
        }
    }
}

/// Marks or unmarks a subscription to end with its period.
pub(super) fn set_cancel_at_period_end(world: &mut World, id: &str, cancel: bool) -> Result<(), Refusal> {
    let now = world.clock_of(world.get("subscription", id, "id")?);
    let row = world.get_mut("subscription", id)?;
    if row["cancel_at_period_end"] == cancel {
        return Ok(());
    }
    let previous = json!({
        "cancel_at_period_end": row["cancel_at_period_end"], "cancel_at": row["cancel_at"],
        "canceled_at": row["canceled_at"],
    });
    row["cancel_at_period_end"] = json!(cancel);
    if cancel {
        row["cancel_at"] = row["items"]["data"][0]["current_period_end"].clone();
        row["canceled_at"] = json!(now);
        row["cancellation_details"]["reason"] = json!("cancellation_requested");
    } else {
        row["cancel_at"] = Value::Null;
        row["canceled_at"] = Value::Null;
        row["cancellation_details"]["reason"] = Value::Null;
    }
    world.emit("subscription", id, "customer.subscription.updated", Some(previous));
    Ok(())
}

/// Ends a subscription at a moment, or at none (`None`).
pub(super) fn set_cancel_at(world: &mut World, id: &str, at: Option<i64>) -> Result<(), Refusal> {
    let now = world.clock_of(world.get("subscription", id, "id")?);
    if at.is_some_and(|at| at <= now) {
        return Err(Refusal::invalid("`cancel_at` must be a timestamp in the future.", "cancel_at"));
    }
    let row = world.get_mut("subscription", id)?;
    if row["cancel_at"].as_i64() == at && row["cancel_at_period_end"] == false {
        return Ok(());
    }
    let previous = json!({
        "cancel_at": row["cancel_at"], "cancel_at_period_end": row["cancel_at_period_end"],
        "canceled_at": row["canceled_at"],
    });
    row["cancel_at"] = json!(at);
    row["cancel_at_period_end"] = json!(false);
    row["canceled_at"] = at.map_or(Value::Null, |_| json!(now));
    row["cancellation_details"]["reason"] = at.map_or(Value::Null, |_| json!("cancellation_requested"));
    world.emit("subscription", id, "customer.subscription.updated", Some(previous));
    Ok(())
}

/// `GET /v1/subscriptions`: without `status` everything but the cancelled ones.
pub(super) fn list(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(
        params,
        &[
            "customer",
            "price",
            "status",
            "created",
            "collection_method",
            "test_clock",
            "limit",
            "starting_after",
            "ending_before",
        ],
    )?;
    let customer = text(params, "customer");
    let price = text(params, "price");
    let clock = text(params, "test_clock");
    let status = text(params, "status");
    world.list("subscription", call, |row| {
        let wanted = match status {
            None => row["status"] != "canceled",
            Some("all") => true,
            Some("ended") => row["status"] == "canceled" || row["status"] == "incomplete_expired",
            Some(status) => row["status"] == status,
        };
        wanted
            && customer.is_none_or(|customer| row["customer"] == customer)
            && clock.is_none_or(|clock| row["test_clock"] == clock)
            && price.is_none_or(|price| row["items"]["data"][0]["price"]["id"] == price)
    })
}
