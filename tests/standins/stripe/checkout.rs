//! Checkout Sessions for subscriptions: created, paid, declined, expired.

use serde_json::{Value, json};

use super::forms::{self, integer, merge_metadata, only, required, text};
use super::refusal::{Answer, Refusal};
use super::subscriptions::{self, Beginning};
use super::world::{Call, Card, World, new_id, with_nulls};
use super::{catalogue, customers, payments};

/// A card that is declined at once.
pub(super) const DECLINED_CARD: &str = "4000000000000002";
/// A card that attaches, pays at checkout and is declined afterwards.
pub(super) const FAILS_LATER_CARD: &str = "4000000000000341";
const LIFE_MAX_SECS: i64 = 86_400;
const KIND: &str = "checkout.session";
/// What a session has and this stand-in leaves empty, or fills later.
const NULL_FIELDS: &[&str] = &[
    "adaptive_pricing",
    "after_expiration",
    "allow_promotion_codes",
    "billing_address_collection",
    "client_secret",
    "collected_information",
    "consent",
    "consent_collection",
    "currency",
    "currency_conversion",
    "customer_account",
    "customer_creation",
    "customer_details",
    "integration_identifier",
    "invoice",
    "invoice_creation",
    "managed_payments",
    "origin_context",
    "payment_intent",
    "payment_link",
    "payment_method_configuration_details",
    "permissions",
    "recovered_from",
    "saved_payment_method_options",
    "setup_intent",
    "shipping_address_collection",
    "shipping_cost",
    "submit_type",
    "subscription",
    "url",
    "wallet_options",
];

/// `POST /v1/checkout/sessions`.
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    only(
        params,
        &[
            "mode",
            "customer",
            "customer_email",
            "line_items",
            "client_reference_id",
            "success_url",
            "cancel_url",
            "metadata",
            "subscription_data",
            "expires_at",
            "payment_method_types",
            "allow_promotion_codes",
            "locale",
            "billing_address_collection",
            "payment_method_collection",
            "automatic_tax",
            "ui_mode",
            "submit_type",
        ],
    )?;
    if required(params, "mode")? != "subscription" {
        return Err(Refusal::invalid("Only mode `subscription` is sold here.", "mode"));
    }
    required(params, "success_url")?;
    if let Some(data) = params.get("subscription_data") {
        only(data, &["metadata", "description"]).map_err(|_| Refusal::unknown_parameter("subscription_data"))?;
    }
    let email = match text(params, "customer") {
        Some(customer) => world.get("customer", customer, "customer")?["email"].clone(),
        None => Value::Null,
    };
    if text(params, "customer").is_some() && text(params, "customer_email").is_some() {
        return Err(Refusal::state("You may only specify one of these parameters: customer, customer_email."));
    }
    let expires_at = expiry(world, params)?;
    let lines = line_items(world, params)?;
    let id = new_id("cs_test_");
    let amount: i64 = lines.iter().filter_map(|line| line["amount_total"].as_i64()).sum();
    let mut session = blank(params, &id);
    session["created"] = json!(world.now());
    session["expires_at"] = json!(expires_at);
    session["amount_subtotal"] = json!(amount);
    session["amount_total"] = json!(amount);
    session["currency"] = lines[0]["currency"].clone();
    session["url"] = json!(format!("{}/c/pay/{id}", world.public_url));
    if let Some(email) = email.as_str().or(text(params, "customer_email")) {
        session["customer_details"] = customer_details(&json!(email));
    }
    merge_metadata(&mut session, params.get("metadata"));
    let mut held = json!({"metadata": {}});
    merge_metadata(&mut held, forms::at(params, "subscription_data.metadata"));
    world.session_metadata.insert(id.clone(), held["metadata"].take());
    for mut line in lines {
        line["session"] = json!(id);
        world.insert(line);
    }
    world.insert(session);
    world.copy(KIND, &id)
}

fn expiry(world: &World, params: &Value) -> Result<i64, Refusal> {
    let now = world.now();
    let expires_at = integer(params, "expires_at")?.unwrap_or(now + LIFE_MAX_SECS);
    if expires_at < now + world.min_session_secs {
        return Err(Refusal::invalid(
            format!(
                "The `expires_at` timestamp must be at least {} minutes from Checkout Session creation.",
                world.min_session_secs / 60
            ),
            "expires_at",
        ));
    }
    if expires_at > now + LIFE_MAX_SECS {
        return Err(Refusal::invalid(
            "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.",
            "expires_at",
        ));
    }
    Ok(expires_at)
}

fn line_items(world: &mut World, params: &Value) -> Result<Vec<Value>, Refusal> {
    let Some(Value::Array(given)) = params.get("line_items") else {
        return Err(Refusal::missing_parameter("line_items"));
    };
    let mut lines = Vec::new();
    for (index, line) in given.iter().enumerate() {
        only(line, &["price", "price_data", "quantity"])?;
        let quantity = integer(line, "quantity")?
            .ok_or_else(|| Refusal::missing_parameter(&format!("line_items.{index}.quantity")))?;
        let price_id = match (text(line, "price"), line.get("price_data")) {
            (Some(price), None) => price.to_owned(),
            (None, Some(data)) => catalogue::new_price(world, data, false)?,
            _ => return Err(Refusal::missing_parameter(&format!("line_items.{index}.price"))),
        };
        let param = format!("line_items.{index}.price");
        let price = world.get("price", &price_id, &param)?.clone();
        if line.get("price").is_some() && price["active"] != true {
            return Err(Refusal::invalid(
                "The price specified is inactive. This field only accepts active prices.",
                &param,
            ));
        }
        if price["type"] != "recurring" {
            return Err(Refusal::state(
                "You must provide at least one recurring price in `subscription` mode when using prices.",
            ));
        }
        let product = price["product"].as_str().and_then(|product| world.find(product));
        let description = product.map_or(Value::Null, |product| product["name"].clone());
        let amount = price["unit_amount"].as_i64().unwrap_or(0) * quantity;
        lines.push(json!({
            "id": new_id("li_"), "object": "item", "adjustable_quantity": null, "amount_discount": 0,
            "amount_subtotal": amount, "amount_tax": 0, "amount_total": amount,
            "currency": price["currency"], "description": description, "metadata": {}, "price": price,
            "quantity": quantity,
        }));
    }
    if lines.is_empty() {
        return Err(Refusal::missing_parameter("line_items"));
    }
    Ok(lines)
}

fn customer_details(email: &Value) -> Value {
    json!({
        "address": null, "business_name": null, "email": email, "individual_name": null,
        "name": null, "phone": null, "tax_exempt": "none", "tax_ids": [],
    })
}

fn blank(params: &Value, id: &str) -> Value {
    let opt = |path: &str| text(params, path).map_or(Value::Null, |found| json!(found));
    let session = json!({
        "id": id, "object": KIND, "amount_subtotal": 0, "amount_total": 0,
        "automatic_tax": {"enabled": false, "liability": null, "provider": null, "status": null},
        "cancel_url": opt("cancel_url"), "client_reference_id": opt("client_reference_id"), "created": 0,
        "custom_fields": [],
        "custom_text": {"after_submit": null, "shipping_address": null, "submit": null, "terms_of_service_acceptance": null},
        "customer": opt("customer"), "customer_email": opt("customer_email"), "discounts": [], "expires_at": 0,
        "livemode": false, "locale": opt("locale"), "metadata": {}, "mode": "subscription",
        "payment_method_collection": "always", "payment_method_options": {}, "payment_method_types": ["card"],
        "payment_status": "unpaid", "phone_number_collection": {"enabled": false}, "shipping_options": [],
        "status": "open", "success_url": opt("success_url"),
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
    });
    with_nulls(session, NULL_FIELDS)
}

/// Pays an open session with a card number: the subscription begins, the session completes.
///
/// A session that is not open is left alone with a 400, a declined card with a 402.
pub(super) fn pay(world: &mut World, id: &str, card_number: &str) -> Result<(), Refusal> {
    expire_due(world)?;
    let session = world.copy(KIND, id)?;
    if session["status"] != "open" {
        return Err(not_open(&session));
    }
    let digits: String = card_number.chars().filter(char::is_ascii_digit).collect();
    if digits == DECLINED_CARD || !(12..=19).contains(&digits.len()) {
        return Err(Refusal::card_declined());
    }
    let card = if digits == FAILS_LATER_CARD { Card::FailsLater } else { Card::Good };
    let customer = session["customer"]
        .as_str()
        .map_or_else(|| customers::new(world, &json!({"email": session["customer_email"]})), str::to_owned);
    let payment_method = payments::attach_card(world, &customer, card)?;
    let items = world
        .all("item")
        .filter(|line| line["session"] == id)
        .filter_map(|line| {
            let price = line["price"]["id"].as_str()?.to_owned();
            Some((price, line["quantity"].as_i64().unwrap_or(1)))
        })
        .collect();
    let metadata = world.session_metadata.get(id).cloned().unwrap_or(json!({}));
    let begin = Beginning { customer: customer.clone(), items, metadata, payment_method };
    let (subscription, invoice) = subscriptions::begin(world, begin)?;
    let email = world.get("customer", &customer, "customer")?["email"].clone();
    let row = world.get_mut(KIND, id)?;
    row["status"] = json!("complete");
    row["payment_status"] = json!("paid");
    row["customer"] = json!(customer);
    row["customer_details"] = customer_details(&email);
    row["subscription"] = json!(subscription);
    row["invoice"] = json!(invoice);
    row["url"] = Value::Null;
    world.emit(KIND, id, "checkout.session.completed", None);
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
