//! The billing engine: does what falls due on subscriptions and drafts, in the order it falls due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde_json::{Value, json};

use super::invoice_shape::{self, Part};
use super::refusal::Refusal;
use super::subscription_shape::cadence;
use super::world::World;
use super::{checkout, invoice_calls, invoices, pending_update, schedules, subscriptions, trials};

/// Acts in one go, so that a clock set far ahead cannot run for ever.
const ACTS_MAX: usize = 20_000;
const FIRST_PAYMENT_WITHIN_SECS: i64 = 23 * 3600;

/// What something falls due on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// An invoice to finalize.
    Draft(String),
    /// A subscription.
    Subscription(String),
}

/// What falls due on a subscription; of two at one moment the first is done first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// Its first invoice was not paid in time.
    Incomplete,
    /// A change that waits is given up.
    Expiry,
    /// Invoices are collected again.
    Resumption,
    /// Its trial ends soon.
    Notice,
    /// It was to end.
    End,
    /// A phase of its schedule ends before the period does.
    Phase,
    /// Its period ends.
    Period,
}

/// Does everything that is due by now, in the order it fell due.
///
/// *Errors*: the first act that could not be done; all others are done nevertheless.
pub(super) fn bill_due(world: &mut World) -> Result<(), Refusal> {
    checkout::expire_due(world)?;
    let drafts = world.drafts.keys().cloned().map(Subject::Draft);
    let subscriptions =
        world.all("subscription").filter_map(|row| Some(Subject::Subscription(row["id"].as_str()?.to_owned())));
    bill(world, drafts.chain(subscriptions).collect())
}

/// Does what is due by now of these alone, and of the drafts that come of it.
fn bill(world: &mut World, subjects: Vec<Subject>) -> Result<(), Refusal> {
    let due = subjects.into_iter().filter_map(|subject| Some(Reverse((due_at(world, &subject)?, subject))));
    let mut queue: BinaryHeap<Reverse<(i64, Subject)>> = due.collect();
    let mut refused = None;
    for _ in 0..ACTS_MAX {
        let Some(Reverse((at, subject))) = queue.pop() else {
            break;
        };
        if due_at(world, &subject) == Some(at) {
            if let Err(refusal) = world.acting_at(at, |world| act(world, &subject, at)) {
                refused.get_or_insert(refusal);
                continue;
            }
            if let Subject::Subscription(id) = &subject
                && let Some(draft) = world.get("subscription", id, "id")?["latest_invoice"].as_str()
            {
                let draft = Subject::Draft(draft.to_owned());
                queue.extend(due_at(world, &draft).map(|at| Reverse((at, draft))));
            }
        }
        queue.extend(due_at(world, &subject).map(|at| Reverse((at, subject))));
    }
    refused.map_or(Ok(()), Err)
}

fn due_at(world: &World, subject: &Subject) -> Option<i64> {
    let (row, at) = match subject {
        Subject::Draft(id) => (world.get("invoice", id, "id").ok()?, *world.drafts.get(id)?),
        Subject::Subscription(id) => {
            let row = world.get("subscription", id, "id").ok()?;
            (row, next(world, row)?.0)
        }
    };
    (at <= world.clock_of(row)).then_some(at)
}

/// The next thing that falls due on a subscription.
fn next(world: &World, row: &Value) -> Option<(i64, Due)> {
    let id = row["id"].as_str()?;
    match row["status"].as_str()? {
        "canceled" | "incomplete_expired" => return None,
        "incomplete" => return Some((row["created"].as_i64()? + FIRST_PAYMENT_WITHIN_SECS, Due::Incomplete)),
        _ => {}
    }
    let period_end = period_end(row).filter(|_| row["status"] != "paused");
    let stated_end = row["cancel_at"].as_i64().filter(|_| row["cancel_at_period_end"] == false);
    [
        (row["pending_update"]["expires_at"].as_i64(), Due::Expiry),
        (row["pause_collection"]["resumes_at"].as_i64(), Due::Resumption),
        (world.trial_notices.get(id).copied(), Due::Notice),
        (stated_end, Due::End),
        (schedules::phase_end(world, row).filter(|end| period_end.is_some_and(|period| *end < period)), Due::Phase),
        (period_end, Due::Period),
    ]
    .into_iter()
    .filter_map(|(at, due)| Some((at?, due)))
    .min()
}

fn period_end(subscription: &Value) -> Option<i64> {
    subscription["items"]["data"][0]["current_period_end"].as_i64()
}

fn act(world: &mut World, subject: &Subject, at: i64) -> Result<(), Refusal> {
    let id = match subject {
        Subject::Draft(id) => {
            invoices::finalize(world, id)?;
            return invoices::collect(world, id, false).map(drop);
        }
        Subject::Subscription(id) => id.as_str(),
    };
    let due = next(world, world.get("subscription", id, "id")?).map(|(_, due)| due);
    match due {
        None => Ok(()),
        Some(Due::Expiry) => pending_update::discard(world, id),
        Some(Due::Notice) => {
            trials::announce(world, id);
            Ok(())
        }
        Some(Due::End) => subscriptions::end(world, id, "cancellation_requested"),
        Some(Due::Phase) => schedules::turn(world, id),
        Some(Due::Period) => renew(world, id, at),
        Some(Due::Resumption) => {
            let row = world.get_mut("subscription", id)?;
            let previous = json!({"pause_collection": row["pause_collection"].take()});
            world.emit("subscription", id, "customer.subscription.updated", Some(previous));
            Ok(())
        }
        Some(Due::Incomplete) => {
            let row = world.get_mut("subscription", id)?;
            row["status"] = json!("incomplete_expired");
            row["ended_at"] = json!(at);
            let invoice = row["latest_invoice"].as_str().unwrap_or_default().to_owned();
            world.emit("subscription", id, "customer.subscription.updated", Some(json!({"status": "incomplete"})));
            invoice_calls::void_now(world, &invoice)
        }
    }
}

/// Ends a subscription that was told to, or begins its next period with an invoice.
///
/// The period moves whether the card pays or not, as at Stripe.
pub(super) fn renew(world: &mut World, id: &str, at: i64) -> Result<(), Refusal> {
    let before = world.copy("subscription", id)?;
    if before["cancel_at_period_end"] == true {
        return subscriptions::end(world, id, "cancellation_requested");
    }
    if before["status"] == "trialing" && !trials::ended(world, id)? {
        return Ok(());
    }
    if schedules::phase_end(world, &before).is_some_and(|end| end <= at) && !schedules::turn_with_period(world, id)? {
        return Ok(());
    }
    let anchor = before["billing_cycle_anchor"].as_i64().unwrap_or(0);
    let month_secs = world.month_secs_of(&before);
    let row = world.get_mut("subscription", id)?;
    if let Some(items) = row["items"]["data"].as_array_mut() {
        for item in items {
            let start = item["current_period_end"].as_i64().unwrap_or(anchor);
            item["current_period_start"] = json!(start);
            item["current_period_end"] = json!(cadence(&item["price"]).next_end(anchor, start, month_secs));
        }
    }
    let after = row.clone();
    let currency = after["currency"].as_str().unwrap_or_default();
    let items = after["items"]["data"].as_array().into_iter().flatten();
    let lines = items.map(|item| invoice_shape::line(world, item, currency, Part::Period)).collect();
    let invoice = invoices::draft(world, &after, "subscription_cycle", lines)?;
    let collected = leave_or_finalize(world, &after, &invoice)?;
    world.get_mut("subscription", id)?["latest_invoice"] = json!(invoice);
    let mut previous = json!({"items": before["items"], "latest_invoice": before["latest_invoice"]});
    if after["status"] != before["status"] {
        previous["status"] = before["status"].clone();
    }
    world.emit("subscription", id, "customer.subscription.updated", Some(previous));
    if collected {
        invoices::collect(world, &invoice, false)?;
    }
    Ok(())
}

/// What becomes of a renewal's draft: gives whether it is to be collected now.
fn leave_or_finalize(world: &mut World, subscription: &Value, invoice: &str) -> Result<bool, Refusal> {
    match subscription["pause_collection"]["behavior"].as_str() {
        Some("keep_as_draft") => {
            world.get_mut("invoice", invoice)?["auto_advance"] = json!(false);
            return Ok(false);
        }
        Some(other) => {
            let uncollectible = other == "mark_uncollectible";
            invoices::finalize(world, invoice)?;
            if uncollectible {
                invoice_calls::write_off(world, invoice)?;
            } else {
                invoice_calls::void_now(world, invoice)?;
            }
            return Ok(false);
        }
        None => {}
    }
    if world.draft_secs > 0 {
        let at = world.now() + world.draft_secs;
        world.get_mut("invoice", invoice)?["automatically_finalizes_at"] = json!(at);
        world.drafts.insert(invoice.to_owned(), at);
        return Ok(false);
    }
    invoices::finalize(world, invoice)?;
    Ok(true)
}

/// Lets the current period of a subscription end now, and bills what follows.
pub(super) fn renew_now(world: &mut World, id: &str) -> Result<(), Refusal> {
    let row = world.get("subscription", id, "id")?;
    if row["status"] == "canceled" {
        return Err(Refusal::state("A canceled subscription is not renewed."));
    }
    let now = world.clock_of(row);
    let phase = schedules::phase_end(world, row);
    let period = period_end(row);
    let schedule = row["schedule"].as_str().map(str::to_owned);
    let row = world.get_mut("subscription", id)?;
    row["billing_cycle_anchor"] = json!(now);
    if row["cancel_at_period_end"] == true {
        row["cancel_at"] = json!(now);
    }
    if row["status"] == "trialing" {
        row["trial_end"] = json!(now);
    }
    if let Some(items) = row["items"]["data"].as_array_mut() {
        for item in items {
            item["current_period_end"] = json!(now);
        }
    }
    // A phase that was to end with the period still does.
    if let Some(schedule) = schedule.filter(|_| phase == period) {
        schedules::end_phase_at(world, &schedule, now)?;
    }
    bill(world, vec![Subject::Subscription(id.to_owned())])
}
