//! Another price, quantity or trial end for a subscription, with prorations.

use serde_json::{Value, json};

use super::discounts;
use super::forms::{self, integer, text};
use super::invoice_shape::{self, Part};
use super::payments::Outcome;
use super::refusal::Refusal;
use super::subscription_shape::{cadence, plan};
use super::world::World;
use super::{catalogue, invoices, pending_update, schedules, trials};

/// Stripe's `proration_behavior`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Proration {
    /// The difference is on the next invoice.
    #[default]
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

/// Stripe's `payment_behavior`: what an invoice that is not paid at once means for the change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Behavior {
    /// The change stands, the subscription is past due.
    #[default]
    Allow,
    /// The change stands, the invoice waits for a person.
    Wait,
    /// The change is refused with a 402.
    Refuse,
    /// The change waits until the invoice is paid.
    Hold,
}

impl Behavior {
    /// Reads `payment_behavior`.
    pub(super) fn read(params: &Value) -> Result<Self, Refusal> {
        match text(params, "payment_behavior") {
            None | Some("allow_incomplete") => Ok(Self::Allow),
            Some("default_incomplete") => Ok(Self::Wait),
            Some("error_if_incomplete") => Ok(Self::Refuse),
            Some("pending_if_incomplete") => Ok(Self::Hold),
            Some(other) => Err(Refusal::invalid(format!("Invalid payment_behavior: {other}"), "payment_behavior")),
        }
    }
}

/// How a change is charged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manner {
    /// What happens to the difference.
    pub(super) proration: Proration,
    /// The moment that prorations are counted from; now if absent.
    pub(super) proration_date: Option<i64>,
    /// What an unpaid invoice means.
    pub(super) behavior: Behavior,
}

impl Manner {
    /// Reads `proration_behavior`, `proration_date` and `payment_behavior`.
    pub(super) fn read(params: &Value) -> Result<Self, Refusal> {
        Ok(Self {
            proration: Proration::read(params)?,
            proration_date: integer(params, "proration_date")?,
            behavior: Behavior::read(params)?,
        })
    }
}

/// When a trial is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrialEnd {
    /// At once.
    Now,
    /// At a moment to come, in Unix seconds.
    At(i64),
}

/// What is to change.
#[derive(Debug, Clone, Default)]
pub(super) struct Change {
    /// Positions of items, their new prices and quantities.
    pub(super) items: Vec<(usize, String, i64)>,
    /// Another end of the trial.
    pub(super) trial_end: Option<TrialEnd>,
    /// Whether a new period begins now.
    pub(super) anchor_now: bool,
}

impl Change {
    /// One item's price and quantity.
    pub(super) fn of_item(position: usize, price: &str, quantity: i64) -> Self {
        Self { items: vec![(position, price.to_owned(), quantity)], ..Self::default() }
    }

    /// Reads `trial_end` and `billing_cycle_anchor`.
    pub(super) fn read_dates(&mut self, params: &Value, now: i64) -> Result<(), Refusal> {
        self.trial_end = match text(params, "trial_end") {
            None => None,
            Some("now") => Some(TrialEnd::Now),
            Some(_) => integer(params, "trial_end")?.map(TrialEnd::At),
        };
        if matches!(self.trial_end, Some(TrialEnd::At(at)) if at <= now) {
            return Err(Refusal::invalid(
                "Invalid timestamp: must be an integer Unix timestamp in the future.",
                "trial_end",
            ));
        }
        self.anchor_now = forms::text(params, "billing_cycle_anchor") == Some("now");
        Ok(())
    }

    /// Whether nothing is asked for.
    pub(super) const fn is_empty(&self) -> bool {
        self.items.is_empty() && self.trial_end.is_none() && !self.anchor_now
    }
}

struct Planned {
    after: Value,
    lines: Vec<Value>,
    invoice_now: bool,
}

/// Changes a subscription. Another interval begins a new period now and invoices it at once.
pub(super) fn apply(world: &mut World, id: &str, change: &Change, manner: Manner) -> Result<(), Refusal> {
    let Some(planned) = plan_of(world, id, change, manner)? else {
        return Ok(());
    };
    if !planned.invoice_now {
        commit(world, id, &planned.after)?;
        if !planned.lines.is_empty() {
            world.pending_lines.entry(id.to_owned()).or_default().extend(planned.lines);
        }
        return Ok(());
    }
    pending_update::discard(world, id)?;
    match manner.behavior {
        Behavior::Hold => return apply_when_paid(world, id, planned),
        Behavior::Refuse => probe(world, id, change, manner)?,
        Behavior::Allow | Behavior::Wait => {}
    }
    commit(world, id, &planned.after)?;
    let invoice = invoices::issue(world, &planned.after, "subscription_update", planned.lines)?;
    world.get_mut("subscription", id)?["latest_invoice"] = json!(invoice);
    if manner.behavior != Behavior::Wait || world.get("invoice", &invoice, "id")?["amount_due"] == 0 {
        invoices::collect(world, &invoice, false)?;
    }
    Ok(())
}

fn apply_when_paid(world: &mut World, id: &str, planned: Planned) -> Result<(), Refusal> {
    let invoice = invoices::issue(world, &planned.after, "subscription_update", planned.lines)?;
    world.get_mut("subscription", id)?["latest_invoice"] = json!(invoice);
    pending_update::hold(world, id, &invoice, planned.after);
    invoices::collect(world, &invoice, false)?;
    pending_update::announce(world, id)
}

/// Refuses a change whose invoice would not be paid, before anything is done.
fn probe(world: &World, id: &str, change: &Change, manner: Manner) -> Result<(), Refusal> {
    let customer = world.get("subscription", id, "id")?["customer"].as_str().unwrap_or_default().to_owned();
    let mut trial = world.sandbox(&customer);
    apply(&mut trial, id, change, Manner { behavior: Behavior::Wait, ..manner })?;
    let invoice = trial.get("subscription", id, "id")?["latest_invoice"].as_str().unwrap_or_default().to_owned();
    match invoices::collect(&mut trial, &invoice, false)? {
        Outcome::Declined => Err(Refusal::card_declined("generic_decline")),
        Outcome::NeedsAction => Err(Refusal::needs_action()),
        Outcome::Paid | Outcome::Processing => Ok(()),
    }
}

/// Writes a planned change over a subscription. Event: `customer.subscription.updated`.
pub(super) fn commit(world: &mut World, id: &str, after: &Value) -> Result<(), Refusal> {
    let row = world.get_mut("subscription", id)?;
    let mut previous = json!({});
    for field in ["items", "status", "trial_start", "trial_end", "billing_cycle_anchor", "cancel_at"] {
        if row[field] != after[field] {
            previous[field] = row[field].clone();
            row[field] = after[field].clone();
        }
    }
    let trial_moved = previous.get("trial_end").is_some();
    world.emit("subscription", id, "customer.subscription.updated", Some(previous));
    if trial_moved {
        trials::announce_later(world, id)?;
    }
    schedules::items_changed(world, id)
}

fn plan_of(world: &World, id: &str, change: &Change, manner: Manner) -> Result<Option<Planned>, Refusal> {
    let before = world.copy("subscription", id)?;
    let now = world.now_of(&before);
    let currency = before["currency"].as_str().unwrap_or_default();
    let mut after = before.clone();
    let mut new_period = change.anchor_now;
    for (position, price_id, quantity) in &change.items {
        let price = world.copy("price", price_id)?;
        catalogue::unit_amount(world, &price, currency)?;
        let item = &mut after["items"]["data"][*position];
        new_period |= cadence(&item["price"]) != cadence(&price);
        item["plan"] = plan(&price);
        item["price"] = price;
        item["quantity"] = json!(quantity);
    }
    if after == before && change.trial_end.is_none() && !new_period {
        return Ok(None);
    }
    let trialing = before["status"] == "trialing";
    let mut trial_begins = false;
    match change.trial_end {
        Some(TrialEnd::At(end)) => {
            let start = if trialing { before["trial_start"].as_i64().unwrap_or(now) } else { now };
            trials::mark(&mut after, start, end);
            set_period(&mut after, |_| (start, end));
            (new_period, trial_begins) = (false, !trialing);
        }
        Some(TrialEnd::Now) if trialing => {
            after["status"] = json!("active");
            after["trial_end"] = json!(now);
            new_period = true;
        }
        _ => new_period &= !trialing,
    }
    if new_period {
        let month_secs = world.month_secs_of(&before);
        set_period(&mut after, |item| (now, cadence(&item["price"]).next_end(now, now, month_secs)));
        after["billing_cycle_anchor"] = json!(now);
        if after["cancel_at_period_end"] == true {
            after["cancel_at"] = after["items"]["data"][0]["current_period_end"].clone();
        }
    }
    let mut lines = Vec::new();
    if manner.proration != Proration::None && !trialing {
        lines = prorations(world, &before, &after, manner.proration_date.unwrap_or(now), new_period || trial_begins)?;
    }
    if new_period || trial_begins {
        let part = if trial_begins { Part::Trial } else { Part::Period };
        lines.extend(items(&after).iter().map(|item| invoice_shape::line(world, item, currency, part)));
    }
    let invoice_now = new_period || trial_begins || manner.proration == Proration::InvoiceNow && !lines.is_empty();
    Ok(Some(Planned { after, lines, invoice_now }))
}

fn items(subscription: &Value) -> &[Value] {
    subscription["items"]["data"].as_array().map_or(&[], Vec::as_slice)
}

fn set_period(subscription: &mut Value, period: impl Fn(&Value) -> (i64, i64)) {
    for item in subscription["items"]["data"].as_array_mut().into_iter().flatten() {
        let (start, end) = period(item);
        item["current_period_start"] = json!(start);
        item["current_period_end"] = json!(end);
    }
}

/// What the unused time is worth: given back for what was there, charged for what replaces it unless the period
/// starts over.
fn prorations(world: &World, before: &Value, after: &Value, at: i64, restarts: bool) -> Result<Vec<Value>, Refusal> {
    let currency = before["currency"].as_str().unwrap_or_default();
    let part = |item: &Value, sign: i64| Part::Proration { amount: sign * unused(world, before, item, at), at };
    let mut lines = Vec::new();
    for (old, new) in items(before).iter().zip(items(after)) {
        let changed = old["price"]["id"] != new["price"]["id"] || old["quantity"] != new["quantity"];
        if !changed && !restarts {
            continue;
        }
        let start = old["current_period_start"].as_i64().unwrap_or(0);
        let end = old["current_period_end"].as_i64().unwrap_or(0);
        if !(start..=end).contains(&at) {
            return Err(Refusal::invalid(
                "The `proration_date` must be inside the current period of the subscription.",
                "proration_date",
            ));
        }
        lines.push(invoice_shape::line(world, old, currency, part(old, -1)));
        if !restarts {
            lines.push(invoice_shape::line(world, new, currency, part(new, 1)));
        }
    }
    Ok(lines)
}

/// Lines that give the unused time of a subscription back.
pub(super) fn credits(world: &World, subscription: &Value, at: i64) -> Result<Vec<Value>, Refusal> {
    prorations(world, subscription, subscription, at, true)
}

/// The part of an item's price, after discounts, that its unused time is worth.
fn unused(world: &World, subscription: &Value, item: &Value, at: i64) -> i64 {
    let int = |field: &str| item[field].as_i64().unwrap_or(0);
    let (start, end) = (int("current_period_start"), int("current_period_end"));
    let unit = catalogue::unit_amount(world, &item["price"], subscription["currency"].as_str().unwrap_or_default());
    let full = discounts::reduced(world, subscription, unit.unwrap_or(0) * int("quantity"));
    let length = (end - start).max(1);
    full * (end - at).clamp(0, length) / length
}
