//! `POST /v1/subscriptions/{id}`.

use serde_json::{Value, json};

use super::discounts::{self, Purchase};
use super::forms::{self, boolean, integer, merge_metadata, only, text};
use super::plan_change::{self, Behavior, Change, Manner};
use super::refusal::{Answer, Refusal};
use super::subscriptions::{note_details, set_cancel_at, set_cancel_at_period_end};
use super::world::{Call, World};

const KNOWN: &[&str] = &[
    "automatic_tax",
    "billing_cycle_anchor",
    "cancel_at",
    "cancel_at_period_end",
    "cancellation_details",
    "default_payment_method",
    "description",
    "discounts",
    "items",
    "metadata",
    "off_session",
    "pause_collection",
    "payment_behavior",
    "payment_settings",
    "proration_behavior",
    "proration_date",
    "trial_end",
    "trial_settings",
];
/// What a change may hold that waits for its invoice.
const PENDING: &[&str] = &[
    "billing_cycle_anchor",
    "expand",
    "items",
    "off_session",
    "payment_behavior",
    "proration_behavior",
    "proration_date",
    "trial_end",
];
/// What an ended subscription still takes.
const AFTER_THE_END: &[&str] = &["cancellation_details", "expand", "metadata"];
const NOTES: &[&str] = &[
    "automatic_tax",
    "cancellation_details",
    "default_payment_method",
    "description",
    "metadata",
    "payment_settings",
    "trial_settings",
];

/// `POST /v1/subscriptions/{id}`.
pub(super) fn update(world: &mut World, call: &Call, id: &str) -> Answer {
    let params = &call.params;
    only(params, KNOWN)?;
    let before = world.copy("subscription", id)?;
    let ended = ["canceled", "incomplete_expired"].iter().any(|status| before["status"] == *status);
    if ended && !holds_only(params, AFTER_THE_END) {
        return Err(Refusal::state("A canceled subscription can only update its cancellation_details and metadata."));
    }
    refuse_what_its_schedule_does(&before, params)?;
    if let Some(method) = text(params, "default_payment_method") {
        world.get("payment_method", method, "default_payment_method")?;
    }
    let manner = Manner::read(params)?;
    if manner.behavior == Behavior::Hold && !holds_only(params, PENDING) {
        return Err(Refusal::state(
            "When `payment_behavior` is set to `pending_if_incomplete`, only parameters of pending updates may be given.",
        ));
    }
    let change = change_of(world, id, params)?;
    let cancel = boolean(params, "cancel_at_period_end")?;
    let ending = cancel_at(&before, params)?;
    let wanted = Purchase {
        customer: before["customer"].as_str(),
        currency: before["currency"].as_str().unwrap_or_default(),
        amount: None,
    };
    let sources = discounts::read(world, params, &wanted)?;
    let paused = pause(params)?;

    if let Some(cancel) = cancel {
        set_cancel_at_period_end(world, id, cancel)?;
    }
    match ending {
        Ending::Unchanged => {}
        Ending::Never => set_cancel_at(world, id, None)?,
        Ending::At(at) => set_cancel_at(world, id, Some(at))?,
    }
    if params.get("discounts").is_some() {
        discounts::clear(world, id)?;
        for source in &sources {
            discounts::attach(world, source, id, None)?;
        }
        world.emit(
            "subscription",
            id,
            "customer.subscription.updated",
            Some(json!({"discounts": before["discounts"]})),
        );
    }
    if let Some(paused) = paused {
        world.get_mut("subscription", id)?["pause_collection"] = paused;
        let previous = json!({"pause_collection": before["pause_collection"]});
        world.emit("subscription", id, "customer.subscription.updated", Some(previous));
    }
    if !change.is_empty() {
        plan_change::apply(world, id, &change, manner)?;
    }
    if NOTES.iter().any(|field| params.get(field).is_some()) {
        note(world, id, params)?;
    }
    world.copy("subscription", id)
}

fn holds_only(params: &Value, known: &[&str]) -> bool {
    params.as_object().is_none_or(|given| given.keys().all(|key| known.contains(&key.as_str())))
}

fn refuse_what_its_schedule_does(before: &Value, params: &Value) -> Result<(), Refusal> {
    let Some(schedule) = before["schedule"].as_str() else {
        return Ok(());
    };
    if params.get("cancel_at").is_none() && params.get("cancel_at_period_end").is_none() {
        return Ok(());
    }
    Err(Refusal::state(format!(
        "The subscription is managed by the subscription schedule `{schedule}`, and updating any cancelation behavior directly is not allowed. Please update the schedule instead."
    )))
}

/// What is to change about items and dates.
pub(super) fn change_of(world: &World, id: &str, params: &Value) -> Result<Change, Refusal> {
    let now = world.now_of(world.get("subscription", id, "id")?);
    let mut change = Change { items: item_changes(world, id, params)?, ..Change::default() };
    change.read_dates(params, now)?;
    Ok(change)
}

/// What `cancel_at` asks for.
enum Ending {
    Unchanged,
    Never,
    At(i64),
}

fn cancel_at(before: &Value, params: &Value) -> Result<Ending, Refusal> {
    let period_end = &before["items"]["data"][0]["current_period_end"];
    let at = match params.get("cancel_at").and_then(Value::as_str) {
        None => return Ok(Ending::Unchanged),
        Some("") => return Ok(Ending::Never),
        Some("min_period_end" | "max_period_end") => period_end.as_i64(),
        Some(_) => integer(params, "cancel_at")?,
    };
    Ok(at.map_or(Ending::Never, Ending::At))
}

/// `pause_collection`: absent, a behavior, or (empty) no more.
fn pause(params: &Value) -> Result<Option<Value>, Refusal> {
    match params.get("pause_collection") {
        None => Ok(None),
        Some(Value::String(_)) => Ok(Some(Value::Null)),
        Some(given) => {
            only(given, &["behavior", "resumes_at"])?;
            let behavior = forms::required(params, "pause_collection.behavior")?;
            if !["keep_as_draft", "mark_uncollectible", "void"].contains(&behavior) {
                return Err(Refusal::invalid("Invalid pause_collection[behavior].", "pause_collection.behavior"));
            }
            Ok(Some(json!({"behavior": behavior, "resumes_at": integer(given, "resumes_at")?})))
        }
    }
}

fn note(world: &mut World, id: &str, params: &Value) -> Result<(), Refusal> {
    let taxed = boolean(params, "automatic_tax.enabled")?;
    let row = world.get_mut("subscription", id)?;
    let previous = json!({"metadata": row["metadata"]});
    merge_metadata(row, params.get("metadata"));
    note_details(row, params);
    for field in ["default_payment_method", "description"] {
        if let Some(value) = params.get(field) {
            row[field] = value.clone();
        }
    }
    if let Some(enabled) = taxed {
        row["automatic_tax"]["enabled"] = json!(enabled);
    }
    if let Some(word) = text(params, "trial_settings.end_behavior.missing_payment_method") {
        row["trial_settings"]["end_behavior"]["missing_payment_method"] = json!(word);
    }
    if let Some(word) = text(params, "payment_settings.save_default_payment_method") {
        row["payment_settings"]["save_default_payment_method"] = json!(word);
    }
    world.emit("subscription", id, "customer.subscription.updated", Some(previous));
    Ok(())
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
