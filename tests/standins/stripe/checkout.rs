//! Checkout Sessions for subscriptions: paid, declined, expired.

use serde_json::{Value, json};

use super::cards::Card;
use super::coupons;
use super::discounts::{self, Purchase, Source};
use super::forms::{only, text};
use super::payments::Outcome;
use super::refusal::{Answer, Refusal};
use super::subscriptions::{self, Beginning};
use super::world::{Call, World};
use super::{customers, invoices, payments, tax, tax_ids, trials};

const KIND: &str = "checkout.session";

/// What a person types on the page.
#[derive(Debug, Clone, Default)]
pub(super) struct Typed {
    /// A card number; none when a trial needs none.
    pub(super) card: Option<String>,
    /// A billing address with at least `country`.
    pub(super) address: Option<Value>,
    /// Type and value of a tax id.
    pub(super) tax_id: Option<(String, String)>,
    /// A promotion code as customers know it.
    pub(super) promotion_code: Option<String>,
    /// Whether authentication fails, for a card that needs it.
    pub(super) authentication_fails: bool,
}

impl Typed {
    /// Nothing but a card number.
    pub(super) fn card(number: &str) -> Self {
        Self { card: Some(number.to_owned()), ..Self::default() }
    }
}

/// Pays an open session: the subscription begins, the session completes.
///
/// A session that is not open is left alone with a 400, a declined card with a 402.
pub(super) fn pay(world: &mut World, id: &str, typed: &Typed) -> Result<(), Refusal> {
    expire_due(world)?;
    let session = world.copy(KIND, id)?;
    if session["status"] != "open" {
        return Err(not_open(&session));
    }
    let plan = world.session_plans.get(id).cloned().unwrap_or_else(|| json!({}));
    let sources = discounts_of(world, &session, &plan, typed)?;
    let card = match &typed.card {
        Some(number) => Some(Card::typed(number)?),
        None if session["payment_method_collection"] == "if_required" && session["amount_total"] == 0 => None,
        None => return Err(Refusal::card_declined("generic_decline")),
    };
    if card == Some(Card::Authenticate) && typed.authentication_fails {
        return Err(Refusal::authentication_failed());
    }
    if typed.tax_id.is_some() && session["tax_id_collection"]["enabled"] != true {
        return Err(Refusal::state("This session does not collect tax ids."));
    }
    let taxed = plan["extra"]["automatic_tax"]["enabled"] == true;
    if taxed && !has_location(world, &session, typed) {
        return Err(Refusal::state("A billing address is needed.").with_code("customer_tax_location_invalid"));
    }
    let customer = buyer(world, &session, &plan, typed)?;
    let payment_method = card.map(|card| payments::attach_card(world, &customer, card)).transpose()?;
    let now = world.clock_of(world.get("customer", &customer, "customer")?);
    let month_secs = world.month_secs_of(world.get("customer", &customer, "customer")?);
    let days = plan["trial_period_days"].as_i64().map(|days| trials::end_after(now, days, month_secs));
    let begin = Beginning {
        id: None,
        customer: customer.clone(),
        items: items(world, id),
        metadata: plan["metadata"].clone(),
        payment_method,
        currency: session["currency"].as_str().map(str::to_owned),
        trial_end: plan["trial_end"].as_i64().or(days),
        extra: plan["extra"].clone(),
        discounts: sources.clone(),
        session: Some(id.to_owned()),
    };
    let (subscription, invoice) = subscriptions::begin(world, begin)?;
    complete(world, id, (&customer, &subscription, &invoice), &sources)
}

/// A person has typed everything and is at their bank's page.
pub(super) fn begin(world: &mut World, id: &str, typed: Typed) -> Result<(), Refusal> {
    let session = world.copy(KIND, id)?;
    if session["status"] != "open" {
        return Err(not_open(&session));
    }
    world.paying.insert(id.to_owned(), typed);
    Ok(())
}

/// The person comes back from their bank's page; a session that expired meanwhile charges nothing.
pub(super) fn finish(world: &mut World, id: &str) -> Result<(), Refusal> {
    let typed = world.paying.remove(id).ok_or_else(|| Refusal::state("Nobody is paying this session."))?;
    pay(world, id, &typed)
}

fn items(world: &World, session: &str) -> Vec<(String, i64)> {
    let lines = world.all("item").filter(|line| line["session"] == session);
    lines
        .filter_map(|line| Some((line["price"]["id"].as_str()?.to_owned(), line["quantity"].as_i64().unwrap_or(1))))
        .collect()
}

fn discounts_of(world: &World, session: &Value, plan: &Value, typed: &Typed) -> Result<Vec<Source>, Refusal> {
    let Some(code) = &typed.promotion_code else {
        return Ok(discounts::from_json(&plan["discounts"]));
    };
    if session["allow_promotion_codes"] != true {
        return Err(Refusal::state("This session takes no promotion codes."));
    }
    let wanted = Purchase {
        customer: session["customer"].as_str(),
        currency: session["currency"].as_str().unwrap_or_default(),
        amount: session["amount_subtotal"].as_i64(),
    };
    let id = coupons::typed(world, code)?;
    coupons::redeemable_code(world, &id, &wanted, "promotion_code").map(|source| vec![source])
}

fn has_location(world: &World, session: &Value, typed: &Typed) -> bool {
    let known = session["customer"].as_str().and_then(|id| world.find(id));
    typed.address.is_some() || known.is_some_and(|customer| customer["address"]["country"].is_string())
}

/// The customer, with what was typed as far as the session lets it be kept.
fn buyer(world: &mut World, session: &Value, plan: &Value, typed: &Typed) -> Result<String, Refusal> {
    let known = session["customer"].as_str().map(str::to_owned);
    let fresh = known.is_none();
    let id = known.unwrap_or_else(|| customers::new(world, &json!({"email": session["customer_email"]})));
    let row = world.get_mut("customer", &id)?;
    if let Some(address) = &typed.address
        && (fresh || plan["customer_update"]["address"] == "auto" || row["address"].is_null())
    {
        row["address"] = customers::address(address);
        let previous = json!({"address": null});
        world.emit("customer", &id, "customer.updated", Some(previous));
    }
    if let Some((kind, value)) = &typed.tax_id {
        tax_ids::add(world, &id, kind, value)?;
    }
    Ok(id)
}

fn complete(
    world: &mut World,
    id: &str,
    (customer, subscription, invoice): (&str, &str, &str),
    sources: &[Source],
) -> Result<(), Refusal> {
    let paid = world.copy("invoice", invoice)?;
    let buyer = world.copy("customer", customer)?;
    let ids: Vec<Value> = world
        .all("tax_id")
        .filter(|row| row["customer"] == customer)
        .map(|row| json!({"type": row["type"], "value": row["value"]}))
        .collect();
    let sum = |field: &str| -> i64 {
        paid[field].as_array().into_iter().flatten().filter_map(|row| row["amount"].as_i64()).sum()
    };
    let row = world.get_mut(KIND, id)?;
    row["status"] = json!("complete");
    row["payment_status"] = match (paid["amount_due"].as_i64(), paid["status"].as_str()) {
        (Some(0), _) => json!("no_payment_required"),
        (_, Some("paid")) => json!("paid"),
        _ => json!("unpaid"),
    };
    row["amount_subtotal"] = paid["subtotal"].clone();
    row["amount_total"] = paid["total"].clone();
    row["total_details"] = json!({"amount_discount": sum("total_discount_amounts"), "amount_shipping": 0, "amount_tax": sum("total_taxes")});
    row["discounts"] = discounts::to_json(sources);
    if paid["automatic_tax"]["enabled"] == true {
        row["automatic_tax"] = tax::automatic("complete");
    }
    row["customer"] = json!(customer);
    row["customer_details"] = customer_details(&buyer, &ids);
    row["subscription"] = json!(subscription);
    row["invoice"] = json!(invoice);
    row["url"] = Value::Null;
    world.emit(KIND, id, "checkout.session.completed", None);
    Ok(())
}

/// A session's `customer_details`.
pub(super) fn customer_details(customer: &Value, tax_ids: &[Value]) -> Value {
    json!({
        "address": customer["address"], "business_name": null, "email": customer["email"], "individual_name": null,
        "name": customer["name"], "phone": null, "tax_exempt": "none", "tax_ids": tax_ids,
    })
}

/// A payment that was on its way came to an end: its invoice follows, and the session it began at.
///
/// Events: `checkout.session.async_payment_succeeded` or `…_failed`.
pub(super) fn settle(world: &mut World, intent: &str, arrived: bool) -> Result<(), Refusal> {
    let outcome = payments::settle(world, intent, arrived)?;
    let invoice = invoices::intent_moved(world, intent, outcome)?;
    let session = world
        .all(KIND)
        .find(|row| invoice.as_deref().is_some_and(|invoice| row["invoice"] == invoice))
        .and_then(|row| row["id"].as_str())
        .map(str::to_owned);
    let Some(session) = session else {
        return Ok(());
    };
    if outcome == Outcome::Paid {
        world.get_mut(KIND, &session)?["payment_status"] = json!("paid");
        world.emit(KIND, &session, "checkout.session.async_payment_succeeded", None);
    } else {
        world.emit(KIND, &session, "checkout.session.async_payment_failed", None);
    }
    Ok(())
}

fn not_open(session: &Value) -> Refusal {
    let status = session["status"].as_str().unwrap_or_default();
    Refusal::state(format!(
        "Only Checkout Sessions with a status in [\"open\"] can be expired or paid. This Checkout Session has a status of `{status}`."
    ))
}

/// Expires an open session.
pub(super) fn expire(world: &mut World, id: &str) -> Answer {
    let row = world.get_mut(KIND, id)?;
    if row["status"] != "open" {
        return Err(not_open(row));
    }
    row["status"] = json!("expired");
    row["url"] = Value::Null;
    world.emit(KIND, id, "checkout.session.expired", None);
    world.copy(KIND, id)
}

/// Expires every open session whose time has come.
pub(super) fn expire_due(world: &mut World) -> Result<(), Refusal> {
    let now = world.clock();
    let due: Vec<String> = world
        .all(KIND)
        .filter(|row| row["status"] == "open" && row["expires_at"].as_i64().is_some_and(|at| at <= now))
        .filter_map(|row| row["id"].as_str().map(str::to_owned))
        .collect();
    for id in due {
        expire(world, &id)?;
    }
    Ok(())
}

/// `GET /v1/checkout/sessions`.
pub(super) fn list(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(
        params,
        &[
            "customer",
            "subscription",
            "payment_intent",
            "status",
            "created",
            "customer_details",
            "limit",
            "starting_after",
            "ending_before",
        ],
    )?;
    let filters: Vec<(&str, &str)> = ["customer", "subscription", "payment_intent", "status"]
        .into_iter()
        .filter_map(|field| Some((field, text(params, field)?)))
        .collect();
    world.list(KIND, call, |row| filters.iter().all(|(field, wanted)| row[*field] == *wanted))
}

/// The address to go to after paying.
pub(super) fn success_url(session: &Value) -> String {
    let id = session["id"].as_str().unwrap_or_default();
    session["success_url"].as_str().unwrap_or_default().replace("{CHECKOUT_SESSION_ID}", id)
}
