//! `POST /v1/invoices/create_preview`: the change is made in a sandbox, and its invoice is shown.

use serde_json::{Value, json};

use super::discounts::{self, Purchase};
use super::forms::{self, boolean, integer, only, text};
use super::plan_change::{self, Manner};
use super::refusal::{Answer, Refusal};
use super::subscription_update::change_of;
use super::subscriptions::{self, Beginning};
use super::world::{Call, World, new_id};
use super::{billing, customers, tax_ids};

const DETAILS: &[&str] = &[
    "billing_cycle_anchor",
    "cancel_at",
    "cancel_at_period_end",
    "items",
    "metadata",
    "proration_behavior",
    "proration_date",
    "trial_end",
];
const NOBODY: &str = "cus_nobody";

/// `POST /v1/invoices/create_preview`. Nothing is kept, and no event is made.
///
/// A change that is invoiced at once shows that invoice, any other the next renewal's.
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    only(
        params,
        &[
            "automatic_tax",
            "currency",
            "customer",
            "customer_details",
            "discounts",
            "preview_mode",
            "schedule",
            "subscription",
            "subscription_details",
        ],
    )?;
    let details = params.get("subscription_details").cloned().unwrap_or_else(|| json!({}));
    only(&details, DETAILS)?;
    let subscription = subscription_of(world, params)?;
    let customer = match (&subscription, text(params, "customer")) {
        (Some(row), None) => row["customer"].as_str().unwrap_or_default().to_owned(),
        (None, Some(customer)) => {
            world.get("customer", customer, "customer")?;
            customer.to_owned()
        }
        (Some(row), Some(customer)) if row["customer"] == customer => customer.to_owned(),
        (Some(_), Some(customer)) => return Err(Refusal::no_such("customer", customer, "customer")),
        (None, None) if params.get("customer_details").is_some() => NOBODY.to_owned(),
        (None, None) => {
            return Err(Refusal::state("You must provide one of: customer, customer_details, subscription, schedule."));
        }
    };
    let mut trial = world.sandbox(&customer);
    let customer = detailed_customer(&mut trial, params, customer)?;
    let invoice = match subscription {
        Some(row) => of_subscription(&mut trial, params, &details, &row)?,
        None => of_new(&mut trial, params, &details, &customer)?,
    };
    Ok(as_upcoming(invoice))
}

fn subscription_of(world: &World, params: &Value) -> Result<Option<Value>, Refusal> {
    let id = match text(params, "schedule") {
        Some(schedule) => world.get("subscription_schedule", schedule, "schedule")?["subscription"].as_str(),
        None => text(params, "subscription"),
    };
    match id {
        Some(id) => Ok(Some(world.get("subscription", id, "subscription")?.clone())),
        None => Ok(None),
    }
}

/// The customer of the sandbox, with what `customer_details` says about them.
fn detailed_customer(trial: &mut World, params: &Value, customer: String) -> Result<String, Refusal> {
    let given = params.get("customer_details").cloned().unwrap_or_else(|| json!({}));
    let customer = if customer == NOBODY { customers::new(trial, &json!({})) } else { customer };
    let row = trial.get_mut("customer", &customer)?;
    if let Some(address) = given.get("address") {
        row["address"] = address.clone();
    }
    if let Some(exempt) = text(&given, "tax_exempt") {
        row["tax_exempt"] = json!(exempt);
    }
    for id in given["tax_ids"].as_array().into_iter().flatten() {
        tax_ids::add(trial, &customer, forms::required(id, "type")?, forms::required(id, "value")?)?;
    }
    Ok(customer)
}

fn of_subscription(trial: &mut World, params: &Value, details: &Value, before: &Value) -> Answer {
    let id = before["id"].as_str().unwrap_or_default();
    if ["canceled", "incomplete_expired"].iter().any(|status| before["status"] == *status) {
        return Err(none_upcoming(before));
    }
    set_options(trial, params, id, before)?;
    let change = change_of(trial, id, details)?;
    if !change.is_empty() {
        plan_change::apply(trial, id, &change, Manner::read(details)?)?;
        let row = trial.copy("subscription", id)?;
        if row["latest_invoice"] != before["latest_invoice"] {
            return trial.copy("invoice", row["latest_invoice"].as_str().unwrap_or_default());
        }
    }
    let row = trial.copy("subscription", id)?;
    let end = row["items"]["data"][0]["current_period_end"].as_i64().unwrap_or(0);
    let leaves = boolean(details, "cancel_at_period_end")?.unwrap_or(row["cancel_at_period_end"] == true);
    let cancel_at = integer(details, "cancel_at")?.or_else(|| row["cancel_at"].as_i64());
    if leaves || cancel_at.is_some_and(|at| at <= end) {
        return Err(none_upcoming(&row));
    }
    trial.acting_at(end, |trial| billing::renew(trial, id, end))?;
    let renewed = trial.copy("subscription", id)?;
    if renewed["latest_invoice"] == row["latest_invoice"] {
        return Err(none_upcoming(&row));
    }
    trial.copy("invoice", renewed["latest_invoice"].as_str().unwrap_or_default())
}

fn set_options(trial: &mut World, params: &Value, id: &str, before: &Value) -> Result<(), Refusal> {
    if params.get("discounts").is_some() {
        let wanted = Purchase {
            customer: before["customer"].as_str(),
            currency: before["currency"].as_str().unwrap_or_default(),
            amount: None,
        };
        let sources = discounts::read(trial, params, &wanted)?;
        discounts::clear(trial, id)?;
        for source in &sources {
            discounts::attach(trial, source, id, None)?;
        }
    }
    if let Some(enabled) = boolean(params, "automatic_tax.enabled")? {
        trial.get_mut("subscription", id)?["automatic_tax"]["enabled"] = json!(enabled);
    }
    Ok(())
}

fn of_new(trial: &mut World, params: &Value, details: &Value, customer: &str) -> Answer {
    let Some(Value::Array(given)) = details.get("items") else {
        return Err(Refusal::missing_parameter("subscription_details.items"));
    };
    let mut items = Vec::new();
    for item in given {
        items.push((forms::required(item, "price")?.to_owned(), integer(item, "quantity")?.unwrap_or(1)));
    }
    let first = items.first().ok_or_else(|| Refusal::missing_parameter("subscription_details.items"))?;
    let price = trial.get("price", &first.0, "subscription_details.items.0.price")?;
    let currency = text(params, "currency").or(price["currency"].as_str()).unwrap_or_default().to_lowercase();
    let wanted = Purchase { customer: Some(customer), currency: &currency, amount: None };
    let begin = Beginning {
        customer: customer.to_owned(),
        metadata: json!({}),
        trial_end: integer(details, "trial_end")?,
        extra: json!({"automatic_tax": {
            "disabled_reason": null, "enabled": boolean(params, "automatic_tax.enabled")?.unwrap_or(false),
            "liability": null,
        }}),
        discounts: discounts::read(trial, params, &wanted)?,
        items,
        currency: Some(currency),
        ..Beginning::default()
    };
    let (_, invoice) = subscriptions::begin(trial, begin)?;
    trial.copy("invoice", &invoice)
}

fn none_upcoming(subscription: &Value) -> Refusal {
    let customer = subscription["customer"].as_str().unwrap_or_default();
    Refusal::not_found(format!("No upcoming invoices for customer: {customer}")).with_code("invoice_upcoming_none")
}

/// An invoice that was tried becomes one that is to come.
fn as_upcoming(mut invoice: Value) -> Value {
    invoice["id"] = json!(new_id("upcoming_in_"));
    invoice["status"] = json!("draft");
    invoice["billing_reason"] = json!("upcoming");
    invoice["amount_paid"] = json!(0);
    invoice["amount_remaining"] = invoice["amount_due"].clone();
    invoice["attempted"] = json!(false);
    invoice["attempt_count"] = json!(0);
    for field in ["number", "hosted_invoice_url", "invoice_pdf", "effective_at"] {
        invoice[field] = Value::Null;
    }
    for field in ["finalized_at", "paid_at", "voided_at", "marked_uncollectible_at"] {
        invoice["status_transitions"][field] = Value::Null;
    }
    for line in invoice["lines"]["data"].as_array_mut().into_iter().flatten() {
        line["invoice"] = json!(null);
    }
    invoice
}
