//! Subscription schedules: phases of prices that a subscription goes through by itself.

use serde_json::{Value, json};

use super::calendar::{Cadence, Interval};
use super::forms::{self, boolean, integer, merge_metadata, only, text};
use super::plan_change::{self, Change, Manner, Proration};
use super::refusal::{Answer, Refusal};
use super::schedule_shape::{self, phase_of};
use super::subscription_shape::{cadence, plan};
use super::subscriptions;
use super::world::{Call, World};

/// Stripe's name of the object.
pub(super) const KIND: &str = "subscription_schedule";
const PHASE_FIELDS: &[&str] = &[
    "billing_cycle_anchor",
    "collection_method",
    "default_payment_method",
    "description",
    "discounts",
    "duration",
    "end_date",
    "items",
    "metadata",
    "proration_behavior",
    "start_date",
];

/// `POST /v1/subscription_schedules`: only `from_subscription`.
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    only(&call.params, &["from_subscription", "metadata"])?;
    let id = forms::required(&call.params, "from_subscription")?;
    let subscription = world.get("subscription", id, "from_subscription")?.clone();
    if subscription["status"] == "canceled" {
        return Err(Refusal::state("You cannot migrate a subscription that is already canceled."));
    }
    if let Some(held) = subscription["schedule"].as_str() {
        return Err(Refusal::state(format!(
            "You cannot migrate a subscription that is already attached to a schedule: {held}"
        )));
    }
    let mut schedule = schedule_shape::from_subscription(world, &subscription);
    merge_metadata(&mut schedule, call.params.get("metadata"));
    let schedule_id = schedule["id"].as_str().unwrap_or_default().to_owned();
    world.insert(schedule);
    world.get_mut("subscription", id)?["schedule"] = json!(schedule_id);
    world.emit(KIND, &schedule_id, "subscription_schedule.created", None);
    world.emit("subscription", id, "customer.subscription.updated", Some(json!({"schedule": null})));
    world.copy(KIND, &schedule_id)
}

/// `POST /v1/subscription_schedules/{id}`.
pub(super) fn update(world: &mut World, call: &Call, id: &str) -> Answer {
    let params = &call.params;
    only(params, &["default_settings", "end_behavior", "metadata", "phases", "proration_behavior"])?;
    let schedule = world.copy(KIND, id)?;
    refuse_unless_active(&schedule, "update")?;
    let end_behavior = match text(params, "end_behavior") {
        None => schedule["end_behavior"].clone(),
        Some(known @ ("cancel" | "release")) => json!(known),
        Some(other) => return Err(Refusal::invalid(format!("Invalid end_behavior: {other}"), "end_behavior")),
    };
    let built = match params.get("phases") {
        Some(Value::Array(given)) => phases(world, &schedule, given)?,
        _ => schedule["phases"].clone(),
    };
    let row = world.get_mut(KIND, id)?;
    row["end_behavior"] = end_behavior;
    row["current_phase"]["end_date"] = current_of(&built, &schedule)["end_date"].clone();
    row["phases"] = built;
    merge_metadata(row, params.get("metadata"));
    let manner = Manner { proration: Proration::read(params)?, ..Manner::default() };
    world.emit(KIND, id, "subscription_schedule.updated", Some(json!({"phases": schedule["phases"]})));
    let now = world.now_of(&schedule);
    let row = world.copy(KIND, id)?;
    if row["current_phase"]["end_date"].as_i64().is_some_and(|end| end <= now) {
        next_phase(world, &row)?;
    } else {
        set_items(world, &row, current_of(&row["phases"], &row), manner)?;
    }
    world.copy(KIND, id)
}

fn refuse_unless_active(schedule: &Value, verb: &str) -> Result<(), Refusal> {
    if schedule["status"] == "active" {
        return Ok(());
    }
    Err(Refusal::state(format!(
        "You cannot {verb} a subscription schedule that is currently in the `{}` status. It must be in `not_started`, `active` status to be {verb}d.",
        schedule["status"].as_str().unwrap_or_default()
    )))
}

fn current_of<'a>(phases: &'a Value, schedule: &Value) -> &'a Value {
    let start = &schedule["current_phase"]["start_date"];
    phases
        .as_array()
        .and_then(|phases| phases.iter().find(|phase| phase["start_date"] == *start))
        .unwrap_or(&Value::Null)
}

/// The phases of an update: they begin with the current one (or ones before it) and follow each other.
fn phases(world: &World, schedule: &Value, given: &[Value]) -> Answer {
    let currency = schedule["phases"][0]["currency"].as_str().unwrap_or_default();
    let subscription = world.copy("subscription", schedule["subscription"].as_str().unwrap_or_default())?;
    let month_secs = world.month_secs_of(&subscription);
    let mut built = Vec::new();
    let mut next_start = schedule["current_phase"]["start_date"].as_i64().unwrap_or(0);
    for (index, phase) in given.iter().enumerate() {
        let path = |name: &str| format!("phases.{index}.{name}");
        only(phase, PHASE_FIELDS)?;
        let start = integer(phase, "start_date")?.unwrap_or(next_start);
        if start != next_start {
            return Err(Refusal::invalid(
                if index == 0 {
                    "You can not modify the start date of the current phase."
                } else {
                    "The start date of a phase must be the end date of the phase before it."
                },
                &path("start_date"),
            ));
        }
        let items = phase_items(world, phase, currency, &path("items"))?;
        let first = world.get("price", items[0]["price"].as_str().unwrap_or_default(), "price")?;
        let end = match (text(phase, "end_date"), phase.get("duration")) {
            (Some("now"), _) => world.now_of(&subscription),
            (Some(_), None) => integer(phase, "end_date")?.unwrap_or(start),
            (None, Some(duration)) => duration_of(duration)?.next_end(start, start, month_secs),
            (None, None) => cadence(first).next_end(start, start, month_secs),
            (Some(_), Some(_)) => return Err(Refusal::state("Only one of end_date and duration may be given.")),
        };
        if end <= start {
            return Err(Refusal::invalid("The end date of a phase must be after its start.", &path("end_date")));
        }
        let proration = text(phase, "proration_behavior").unwrap_or("create_prorations");
        let mut row = phase_of(currency, &json!(items), (start, end), proration);
        merge_metadata(&mut row, phase.get("metadata"));
        built.push(row);
        next_start = end;
    }
    if built.is_empty() { Err(Refusal::missing_parameter("phases")) } else { Ok(json!(built)) }
}

fn duration_of(given: &Value) -> Result<Cadence, Refusal> {
    let interval = text(given, "interval").and_then(Interval::parse);
    let interval = interval.ok_or_else(|| Refusal::missing_parameter("phases.duration.interval"))?;
    Ok(Cadence { interval, count: integer(given, "interval_count")?.unwrap_or(1) })
}

fn phase_items(world: &World, phase: &Value, currency: &str, path: &str) -> Result<Vec<Value>, Refusal> {
    let Some(Value::Array(given)) = phase.get("items") else {
        return Err(Refusal::missing_parameter(path));
    };
    let mut items = Vec::new();
    for item in given {
        only(item, &["price", "quantity", "metadata"])?;
        let price = forms::required(item, "price")?;
        super::catalogue::unit_amount(world, world.get("price", price, path)?, currency)?;
        items.push(schedule_shape::phase_item(price, integer(item, "quantity")?.unwrap_or(1)));
    }
    if items.is_empty() { Err(Refusal::missing_parameter(path)) } else { Ok(items) }
}

/// Gives a subscription the prices of a phase, if they are others.
fn set_items(world: &mut World, schedule: &Value, phase: &Value, manner: Manner) -> Result<(), Refusal> {
    let Some(id) = schedule["subscription"].as_str() else {
        return Ok(());
    };
    plan_change::apply(world, id, &change_to(phase), manner)
}

fn change_to(phase: &Value) -> Change {
    let items = phase["items"].as_array().into_iter().flatten().enumerate().map(|(position, item)| {
        (position, item["price"].as_str().unwrap_or_default().to_owned(), item["quantity"].as_i64().unwrap_or(1))
    });
    Change { items: items.collect(), ..Change::default() }
}

/// When the current phase of a subscription's schedule ends.
pub(super) fn phase_end(world: &World, subscription: &Value) -> Option<i64> {
    let schedule = world.find(subscription["schedule"].as_str()?)?;
    schedule["current_phase"]["end_date"].as_i64().filter(|_| schedule["status"] == "active")
}

/// Moves the end of the current phase, and the start of the one after it.
pub(super) fn end_phase_at(world: &mut World, id: &str, at: i64) -> Result<(), Refusal> {
    let row = world.get_mut(KIND, id)?;
    let end = row["current_phase"]["end_date"].clone();
    row["current_phase"]["end_date"] = json!(at);
    for phase in row["phases"].as_array_mut().into_iter().flatten() {
        for field in ["start_date", "end_date"] {
            if phase[field] == end {
                phase[field] = json!(at);
            }
        }
    }
    Ok(())
}

/// A phase ends inside a billing period: the next one's prices hold from now on.
pub(super) fn turn(world: &mut World, subscription: &str) -> Result<(), Refusal> {
    let id = world.get("subscription", subscription, "id")?["schedule"].as_str().unwrap_or_default().to_owned();
    let schedule = world.copy(KIND, &id)?;
    next_phase(world, &schedule)
}

fn next_phase(world: &mut World, schedule: &Value) -> Result<(), Refusal> {
    let subscription = schedule["subscription"].as_str().unwrap_or_default();
    match step(world, schedule)? {
        Some(phase) => {
            let proration = Proration::read(&phase)?;
            let manner = Manner { proration, proration_date: phase["start_date"].as_i64(), ..Manner::default() };
            let schedule = world.copy(KIND, schedule["id"].as_str().unwrap_or_default())?;
            set_items(world, &schedule, &phase, manner)
        }
        None if schedule["end_behavior"] == "cancel" => {
            subscriptions::end(world, subscription, "cancellation_requested")
        }
        None => Ok(()),
    }
}

/// A phase ends with the billing period: the next one's prices are on the invoice that follows; gives whether the
/// subscription goes on.
pub(super) fn turn_with_period(world: &mut World, subscription: &str) -> Result<bool, Refusal> {
    let row = world.copy("subscription", subscription)?;
    let Some(schedule) = row["schedule"].as_str().and_then(|id| world.copy(KIND, id).ok()) else {
        return Ok(true);
    };
    match step(world, &schedule)? {
        Some(phase) => {
            for (position, price, quantity) in change_to(&phase).items {
                let price = world.copy("price", &price)?;
                let item = &mut world.get_mut("subscription", subscription)?["items"]["data"][position];
                item["plan"] = plan(&price);
                item["price"] = price;
                item["quantity"] = json!(quantity);
            }
            Ok(true)
        }
        None if schedule["end_behavior"] == "cancel" => {
            subscriptions::end(world, subscription, "cancellation_requested")?;
            Ok(false)
        }
        None => Ok(true),
    }
}

/// Moves a schedule to its next phase and gives that; none when it was the last, and the schedule is over.
fn step(world: &mut World, schedule: &Value) -> Result<Option<Value>, Refusal> {
    let id = schedule["id"].as_str().unwrap_or_default();
    let current = &schedule["current_phase"];
    let is_current = |phase: &Value| ["start_date", "end_date"].iter().all(|field| phase[*field] == current[*field]);
    let phases = schedule["phases"].as_array().map_or(&[][..], Vec::as_slice);
    let next = phases.iter().position(is_current).and_then(|at| phases.get(at + 1)).cloned();
    if let Some(phase) = &next {
        world.get_mut(KIND, id)?["current_phase"] =
            json!({"start_date": phase["start_date"], "end_date": phase["end_date"]});
        let previous = json!({"current_phase": schedule["current_phase"]});
        world.emit(KIND, id, "subscription_schedule.updated", Some(previous));
    } else if schedule["end_behavior"] == "cancel" {
        close(world, id, "completed")?;
    } else {
        close(world, id, "released")?;
    }
    Ok(next)
}

/// Ends a schedule as `released`, `completed` or `canceled`; its subscription is free of it.
fn close(world: &mut World, id: &str, status: &str) -> Result<(), Refusal> {
    let now = world.now();
    let row = world.get_mut(KIND, id)?;
    let subscription = row["subscription"].as_str().unwrap_or_default().to_owned();
    row["status"] = json!(status);
    row[format!("{status}_at")] = json!(now);
    row["current_phase"] = Value::Null;
    if status == "released" {
        row["released_subscription"] = json!(subscription);
        row["subscription"] = Value::Null;
    }
    world.get_mut("subscription", &subscription)?["schedule"] = Value::Null;
    world.emit(KIND, id, &format!("subscription_schedule.{status}"), None);
    Ok(())
}

/// A subscription ended: its schedule is cancelled.
pub(super) fn subscription_ended(world: &mut World, subscription: &str) -> Result<(), Refusal> {
    match world.get("subscription", subscription, "id")?["schedule"].as_str().map(str::to_owned) {
        Some(id) => close(world, &id, "canceled"),
        None => Ok(()),
    }
}

/// A subscription got other prices: its current phase says so too.
pub(super) fn items_changed(world: &mut World, subscription: &str) -> Result<(), Refusal> {
    let row = world.copy("subscription", subscription)?;
    let Some(schedule) = row["schedule"].as_str().and_then(|id| world.copy(KIND, id).ok()) else {
        return Ok(());
    };
    let items = schedule_shape::items_of(&row);
    let start = schedule["current_phase"]["start_date"].clone();
    let phases = &mut world.get_mut(KIND, schedule["id"].as_str().unwrap_or_default())?["phases"];
    for phase in phases.as_array_mut().into_iter().flatten().filter(|phase| phase["start_date"] == start) {
        phase["items"] = items.clone();
    }
    Ok(())
}

/// `POST /v1/subscription_schedules/{id}/release`: the subscription goes on as it is.
pub(super) fn release(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["preserve_cancel_date"])?;
    boolean(&call.params, "preserve_cancel_date")?;
    let schedule = world.copy(KIND, id)?;
    refuse_unless_active(&schedule, "release")?;
    close(world, id, "released")?;
    let subscription = schedule["subscription"].as_str().unwrap_or_default();
    world.emit("subscription", subscription, "customer.subscription.updated", Some(json!({"schedule": id})));
    world.copy(KIND, id)
}

/// `POST /v1/subscription_schedules/{id}/cancel`: the subscription ends at once too.
pub(super) fn cancel(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["invoice_now", "prorate"])?;
    let schedule = world.copy(KIND, id)?;
    refuse_unless_active(&schedule, "cancel")?;
    let subscription = schedule["subscription"].as_str().unwrap_or_default();
    subscriptions::end(world, subscription, "cancellation_requested")?;
    world.copy(KIND, id)
}

/// `GET /v1/subscription_schedules`.
pub(super) fn list(world: &World, call: &Call) -> Answer {
    let known = [
        "customer",
        "created",
        "scheduled",
        "canceled_at",
        "completed_at",
        "released_at",
        "limit",
        "starting_after",
        "ending_before",
    ];
    only(&call.params, &known)?;
    let customer = text(&call.params, "customer");
    world.list(KIND, call, |row| customer.is_none_or(|customer| row["customer"] == customer))
}
