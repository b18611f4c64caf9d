//! Subscriptions: begun by a paid checkout, changed, cancelled.

use serde_json::{Value, json};

use super::calendar::{Cadence, Interval};
use super::forms::{self, boolean, integer, merge_metadata, only, text};
use super::invoices;
use super::plan_change::{self, Proration};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id, with_nulls};

/// What a subscription is begun with.
pub(super) struct Beginning {
    /// `cus_…`.
    pub(super) customer: String,
    /// Price ids and quantities.
    pub(super) items: Vec<(String, i64)>,
    /// The subscription's metadata.
    pub(super) metadata: Value,
    /// The card to charge.
    pub(super) payment_method: String,
}

/// How often a price is charged.
pub(super) fn cadence(price: &Value) -> Cadence {
    let interval = price["recurring"]["interval"].as_str().and_then(Interval::parse).unwrap_or(Interval::Month);
    let count = price["recurring"]["interval_count"].as_i64().unwrap_or(1);
    Cadence { interval, count }
}

/// Begins an active subscription with a first, paid invoice; gives both ids.
pub(super) fn begin(world: &mut World, begin: Beginning) -> Result<(String, String), Refusal> {
    let id = new_id("sub_");
    let customer = world.copy("customer", &begin.customer)?;
    let now = world.clock_of(&customer);
    let mut items = Vec::new();
    let mut currency = Value::Null;
    for (price_id, quantity) in begin.items {
        let price = world.get("price", &price_id, "items.price")?.clone();
        let end = cadence(&price).next_end(now, now, world.month_secs_of(&customer));
        currency = price["currency"].clone();
        items.push(item(&id, &price, quantity, (now, end)));
    }
    let mut subscription = blank(&id, now);
    subscription["customer"] = json!(begin.customer);
    subscription["currency"] = currency;
    subscription["default_payment_method"] = json!(begin.payment_method);
    subscription["items"]["data"] = json!(items);
    subscription["test_clock"] = customer["test_clock"].clone();
    subscription["metadata"] = begin.metadata;
    world.insert(subscription.clone());
    let lines = items.iter().map(|item| invoices::line(world, item, None)).collect();
    let invoice = invoices::issue(world, &subscription, "subscription_create", lines)?;
    world.get_mut("subscription", &id)?["latest_invoice"] = json!(invoice);
    world.emit("subscription", &id, "customer.subscription.created", None);
    invoices::collect(world, &invoice, true)?;
    Ok((id, invoice))
}

/// A subscription item with its period.
pub(super) fn item(subscription: &str, price: &Value, quantity: i64, period: (i64, i64)) -> Value {
    json!({
        "id": new_id("si_"), "object": "subscription_item", "billing_thresholds": null,
        "created": period.0, "current_period_start": period.0, "current_period_end": period.1,
        "discounts": [], "metadata": {}, "plan": plan(price), "price": price, "quantity": quantity,
        "subscription": subscription, "tax_rates": [],
    })
}

/// The older form of a recurring price, which items still carry.
pub(super) fn plan(price: &Value) -> Value {
    let recurring = &price["recurring"];
    json!({
        "id": price["id"], "object": "plan", "active": price["active"], "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"], "billing_scheme": "per_unit", "created": price["created"],
        "currency": price["currency"], "interval": recurring["interval"],
        "interval_count": recurring["interval_count"], "livemode": false, "metadata": price["metadata"],
        "meter": null, "nickname": price["nickname"], "product": price["product"], "tiers_mode": null,
        "transform_usage": null, "trial_period_days": null, "usage_type": "licensed",
    })
}

fn blank(id: &str, now: i64) -> Value {
    with_nulls(
        json!({
        "id": id, "object": "subscription", "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null},
        "billing_cycle_anchor": now, "billing_mode": {"flexible": null, "type": "classic"}, "billing_schedules": [],
        "cancel_at_period_end": false,
        "cancellation_details": {"comment": null, "feedback": null, "feedback_option": null, "reason": null},
        "collection_method": "charge_automatically", "created": now, "default_tax_rates": [],
        "discounts": [], "invoice_settings": {"account_tax_ids": null, "custom_fields": null, "description": null, "footer": null, "issuer": {"type": "self"}},
        "items": {"object": "list", "data": [], "has_more": false, "url": format!("/v1/subscription_items?subscription={id}")},
        "livemode": false, "metadata": {},
        "payment_settings": {"payment_method_options": null, "payment_method_types": null, "save_default_payment_method": "off"},
        "start_date": now, "status": "active", "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        }),
        &[
            "application",
            "application_fee_percent",
            "billing_cycle_anchor_config",
            "billing_thresholds",
            "cancel_at",
            "canceled_at",
            "currency",
            "customer",
            "customer_account",
            "days_until_due",
            "default_payment_method",
            "default_source",
            "description",
            "ended_at",
            "latest_invoice",
            "managed_payments",
            "next_pending_invoice_item_invoice",
            "on_behalf_of",
            "pause_collection",
            "pending_invoice_item_interval",
            "pending_setup_intent",
            "pending_update",
            "schedule",
            "test_clock",
            "transfer_data",
            "trial_end",
            "trial_start",
        ],
    )
}

fn subscription_of(invoice: &Value) -> Option<&str> {
    invoice["parent"]["subscription_details"]["subscription"].as_str()
}

/// An invoice's payment was declined: its subscription is past due.
pub(super) fn payment_failed(world: &mut World, invoice: &Value) -> Result<(), Refusal> {
    move_status(world, invoice, "active", "past_due")
}

/// An invoice was paid or voided: a subscription it is the latest of is active again.
pub(super) fn payment_settled(world: &mut World, invoice: &Value) -> Result<(), Refusal> {
    move_status(world, invoice, "past_due", "active")
}

fn move_status(world: &mut World, invoice: &Value, from: &str, to: &str) -> Result<(), Refusal> {
    let Some(id) = subscription_of(invoice) else {
        return Ok(());
    };
    let row = world.get_mut("subscription", id)?;
    if row["status"] != from || row["latest_invoice"] != invoice["id"] {
        return Ok(());
    }
    row["status"] = json!(to);
    let previous = json!({"status": from});
    world.emit("subscription", id, "customer.subscription.updated", Some(previous));
    Ok(())
}

/// Ends a subscription now.
pub(super) fn end(world: &mut World, id: &str, reason: &str) -> Result<(), Refusal> {
    let now = world.clock_of(world.get("subscription", id, "id")?).min(world.now());
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
    world.emit("subscription", id, "customer.subscription.deleted", None);
    Ok(())
}

/// `DELETE /v1/subscriptions/{id}`.
pub(super) fn cancel(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["invoice_now", "prorate", "cancellation_details"])?;
    if world.get("subscription", id, "id")?["status"] == "canceled" {
        return Err(Refusal::no_such("subscription", id, "id"));
    }
    note_details(world.get_mut("subscription", id)?, &call.params);
    end(world, id, "cancellation_requested")?;
    world.copy("subscription", id)
}

fn note_details(row: &mut Value, params: &Value) {
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

/// `POST /v1/subscriptions/{id}`.
pub(super) fn update(world: &mut World, call: &Call, id: &str) -> Answer {
    let params = &call.params;
    only(
        params,
        &[
            "cancel_at_period_end",
            "items",
            "metadata",
            "proration_behavior",
            "payment_behavior",
            "default_payment_method",
            "cancellation_details",
            "description",
        ],
    )?;
    let status = world.get("subscription", id, "id")?["status"].clone();
    let more_than_notes = ["cancel_at_period_end", "items", "default_payment_method", "description"]
        .iter()
        .any(|field| params.get(field).is_some());
    if status == "canceled" && more_than_notes {
        return Err(Refusal::state("A canceled subscription can only update its cancellation_details and metadata."));
    }
    if let Some(method) = text(params, "default_payment_method") {
        world.get("payment_method", method, "default_payment_method")?;
    }
    let proration = Proration::read(params)?;
    let cancel = boolean(params, "cancel_at_period_end")?;
    let changes = item_changes(world, id, params)?;
    if let Some(cancel) = cancel {
        set_cancel_at_period_end(world, id, cancel)?;
    }
    for (position, price, quantity) in changes {
        plan_change::apply(world, id, position, &price, quantity, proration)?;
    }
    let notes = ["metadata", "cancellation_details", "default_payment_method", "description"];
    if notes.iter().any(|field| params.get(field).is_some()) {
        let row = world.get_mut("subscription", id)?;
        let previous = json!({"metadata": row["metadata"]});
        merge_metadata(row, params.get("metadata"));
        note_details(row, params);
        for field in ["default_payment_method", "description"] {
            if let Some(value) = params.get(field) {
                row[field] = value.clone();
            }
        }
        world.emit("subscription", id, "customer.subscription.updated", Some(previous));
    }
    world.copy("subscription", id)
}

/// The items to change: position, price id, quantity.
fn item_changes(world: &World, id: &str, params: &Value) -> Result<Vec<(usize, String, i64)>, Refusal> {
    let Some(Value::Array(given)) = params.get("items") else {
        return Ok(Vec::new());
    };
    let items = &world.get("subscription", id, "id")?["items"]["data"];
    let mut changes = Vec::new();
    for (index, change) in given.iter().enumerate() {
        only(change, &["id", "price", "quantity", "metadata"])?;
        let item_id =
            forms::required(change, "id").map_err(|_| Refusal::missing_parameter(&format!("items.{index}.id")))?;
        let position = items
            .as_array()
            .and_then(|items| items.iter().position(|item| item["id"] == item_id))
            .ok_or_else(|| Refusal::no_such("subscription_item", item_id, "items.id"))?;
        let item = &items[position];
        let price = text(change, "price").or(item["price"]["id"].as_str()).unwrap_or_default();
        let found = world.get("price", price, &format!("items.{index}.price"))?;
        if found["type"] != "recurring" || found["active"] != true && item["price"]["id"] != price {
            return Err(Refusal::invalid(
                "The price specified is inactive or not recurring.",
                &format!("items.{index}.price"),
            ));
        }
        let quantity = match integer(change, "quantity")? {
            Some(quantity) => quantity,
            None => item["quantity"].as_i64().unwrap_or(1),
        };
        changes.push((position, price.to_owned(), quantity));
    }
    Ok(changes)
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
            Some("ended") => row["status"] == "canceled",
            Some(status) => row["status"] == status,
        };
        wanted
            && customer.is_none_or(|customer| row["customer"] == customer)
            && clock.is_none_or(|clock| row["test_clock"] == clock)
            && price.is_none_or(|price| row["items"]["data"][0]["price"]["id"] == price)
    })
}
