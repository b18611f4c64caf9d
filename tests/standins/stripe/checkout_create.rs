//! `POST /v1/checkout/sessions`.

use serde_json::{Value, json};

use super::discounts::{self, Purchase};
use super::forms::{self, boolean, integer, merge_metadata, only, required, text};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id, with_nulls};
use super::{catalogue, checkout, tax, trials};

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

const KNOWN: &[&str] = &[
    "allow_promotion_codes",
    "automatic_tax",
    "billing_address_collection",
    "cancel_url",
    "client_reference_id",
    "consent_collection",
    "currency",
    "custom_text",
    "customer",
    "customer_email",
    "customer_update",
    "discounts",
    "expires_at",
    "line_items",
    "locale",
    "metadata",
    "mode",
    "payment_method_collection",
    "payment_method_types",
    "phone_number_collection",
    "saved_payment_method_options",
    "submit_type",
    "subscription_data",
    "success_url",
    "tax_id_collection",
    "ui_mode",
];
const SUBSCRIPTION_DATA: &[&str] = &[
    "description",
    "invoice_settings",
    "metadata",
    "proration_behavior",
    "trial_end",
    "trial_period_days",
    "trial_settings",
];

/// `POST /v1/checkout/sessions`.
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, KNOWN)?;
    if required(params, "mode")? != "subscription" {
        return Err(Refusal::invalid("Only mode `subscription` is sold here.", "mode"));
    }
    required(params, "success_url")?;
    refuse_what_does_not_go_together(world, params)?;
    let email = match text(params, "customer") {
        Some(customer) => world.get("customer", customer, "customer")?["email"].clone(),
        None => Value::Null,
    };
    let expires_at = expiry(world, params)?;
    let asked_currency = text(params, "currency").map(str::to_lowercase);
    let lines = line_items(world, params, asked_currency.as_deref())?;
    let currency = lines[0]["currency"].as_str().unwrap_or_default().to_owned();
    refuse_another_currency(world, text(params, "customer"), &currency)?;
    let amount: i64 = lines.iter().filter_map(|line| line["amount_total"].as_i64()).sum();
    let wanted = Purchase { customer: text(params, "customer"), currency: &currency, amount: Some(amount) };
    let sources = discounts::read(world, params, &wanted)?;
    let plan = plan(world, params, &sources)?;
    let id = new_id("cs_test_");
    let mut session = blank(params, &id);
    session["created"] = json!(world.now());
    session["expires_at"] = json!(expires_at);
    session["currency"] = json!(currency);
    session["discounts"] = discounts::to_json(&sources);
    session["url"] = json!(format!("{}/c/pay/{id}", world.public_url));
    if let Some(email) = email.as_str().or(text(params, "customer_email")) {
        session["customer_details"] = checkout::customer_details(&json!({"email": email}), &[]);
    }
    if boolean(params, "automatic_tax.enabled")? == Some(true) {
        session["automatic_tax"] = tax::automatic("requires_location_inputs");
    }
    merge_metadata(&mut session, params.get("metadata"));
    let off = discounts::preview(world, &sources, &currency, amount);
    let free = !plan["trial_end"].is_null() || !plan["trial_period_days"].is_null();
    let (subtotal, off) = if free { (0, 0) } else { (amount, off) };
    session["amount_subtotal"] = json!(subtotal);
    session["amount_total"] = json!(subtotal - off);
    session["total_details"]["amount_discount"] = json!(off);
    world.session_plans.insert(id.clone(), plan);
    for mut line in lines {
        line["session"] = json!(id);
        world.insert(line);
    }
    world.insert(session);
    world.copy(KIND, &id)
}

fn refuse_what_does_not_go_together(world: &World, params: &Value) -> Result<(), Refusal> {
    let customer = text(params, "customer");
    if customer.is_some() && text(params, "customer_email").is_some() {
        return Err(Refusal::state("You may only specify one of these parameters: customer, customer_email."));
    }
    if boolean(params, "allow_promotion_codes")?.is_some() && params.get("discounts").is_some() {
        return Err(Refusal::state("You may only specify one of these parameters: allow_promotion_codes, discounts."));
    }
    if params.get("customer_update").is_some() && customer.is_none() {
        return Err(Refusal::state("`customer_update` can only be used with `customer`."));
    }
    let Some(customer) = customer else {
        return Ok(());
    };
    let found = world.get("customer", customer, "customer")?;
    let updates = |field: &str| text(params, &format!("customer_update.{field}")) == Some("auto");
    let taxed = boolean(params, "automatic_tax.enabled")? == Some(true);
    if taxed && found["address"]["country"].is_null() && !updates("address") {
        return Err(Refusal::state(
            "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid address to the Customer or set either `customer_update[address]` to 'auto' or `customer_update[shipping]` to 'auto' to save the address entered in Checkout to the Customer.",
        )
        .with_code("customer_tax_location_invalid"));
    }
    if boolean(params, "tax_id_collection.enabled")? == Some(true) && !updates("name") {
        return Err(Refusal::state(
            "Tax ID collection requires updating business name on the customer. To enable tax ID collection for an existing customer, please set `customer_update[name]` to `auto`.",
        ));
    }
    Ok(())
}

fn refuse_another_currency(world: &World, customer: Option<&str>, currency: &str) -> Result<(), Refusal> {
    let other = world.all("subscription").find(|row| {
        customer.is_some_and(|customer| row["customer"] == customer)
            && row["status"] != "canceled"
            && row["currency"] != currency
    });
    match other.and_then(|row| row["currency"].as_str()) {
        Some(held) => Err(Refusal::state(format!(
            "You cannot combine currencies on a single customer. This customer has an active subscription, subscription schedule, discount, quote, or invoice item with currency {held}."
        ))),
        None => Ok(()),
    }
}

/// What the subscription will begin with.
fn plan(world: &World, params: &Value, sources: &[discounts::Source]) -> Answer {
    let data = params.get("subscription_data").cloned().unwrap_or_else(|| json!({}));
    only(&data, SUBSCRIPTION_DATA).map_err(|_| Refusal::unknown_parameter("subscription_data"))?;
    let days = integer(&data, "trial_period_days")?;
    let trial_end = integer(&data, "trial_end")?;
    if days.is_some() && trial_end.is_some() {
        return Err(Refusal::state("You may only specify one of these parameters: trial_end, trial_period_days."));
    }
    if days.is_some_and(|days| days < 1) {
        return Err(Refusal::invalid(
            "The minimum number of trial period days is 1.",
            "subscription_data.trial_period_days",
        ));
    }
    if trial_end.is_some_and(|at| at <= trials::end_after(world.now(), 2, world.month_secs)) {
        return Err(Refusal::invalid(
            "The `trial_end` date has to be at least 2 days in the future.",
            "subscription_data.trial_end",
        ));
    }
    let mut held = json!({"metadata": {}});
    merge_metadata(&mut held, forms::at(&data, "metadata"));
    let missing = text(&data, "trial_settings.end_behavior.missing_payment_method").unwrap_or("create_invoice");
    Ok(json!({
        "metadata": held["metadata"], "trial_period_days": days, "trial_end": trial_end,
        "discounts": discounts::to_json(sources),
        "extra": {
            "automatic_tax": {
                "disabled_reason": null, "enabled": boolean(params, "automatic_tax.enabled")?.unwrap_or(false),
                "liability": null,
            },
            "description": text(&data, "description"),
            "trial_settings": {"end_behavior": {"missing_payment_method": missing}},
        },
        "customer_update": params.get("customer_update").cloned(),
    }))
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

fn line_items(world: &mut World, params: &Value, currency: Option<&str>) -> Result<Vec<Value>, Refusal> {
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
        let currency = currency.or(price["currency"].as_str()).unwrap_or_default();
        let amount = catalogue::unit_amount(world, &price, currency)? * quantity;
        lines.push(json!({
            "id": new_id("li_"), "object": "item", "adjustable_quantity": null, "amount_discount": 0,
            "amount_subtotal": amount, "amount_tax": 0, "amount_total": amount,
            "currency": currency, "description": description, "metadata": {}, "price": price,
            "quantity": quantity,
        }));
    }
    if lines.is_empty() {
        return Err(Refusal::missing_parameter("line_items"));
    }
    Ok(lines)
}

fn blank(params: &Value, id: &str) -> Value {
    let opt = |path: &str| text(params, path).map_or(Value::Null, |found| json!(found));
    let flag = |path: &str| text(params, path).map_or(Value::Null, |word| json!(word == "true"));
    let session = json!({
        "id": id, "object": KIND, "amount_subtotal": 0, "amount_total": 0,
        "automatic_tax": {"enabled": false, "liability": null, "provider": null, "status": null},
        "cancel_url": opt("cancel_url"), "client_reference_id": opt("client_reference_id"), "created": 0,
        "custom_fields": [],
        "custom_text": {"after_submit": null, "shipping_address": null, "submit": null, "terms_of_service_acceptance": null},
        "customer": opt("customer"), "customer_email": opt("customer_email"), "discounts": [], "expires_at": 0,
        "livemode": false, "locale": opt("locale"), "metadata": {}, "mode": "subscription",
        "payment_method_collection": text(params, "payment_method_collection").unwrap_or("always"), "payment_method_options": {}, "payment_method_types": ["card"],
        "payment_status": "unpaid", "phone_number_collection": {"enabled": false}, "shipping_options": [],
        "status": "open", "success_url": opt("success_url"),
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
    });
    let mut session = with_nulls(session, NULL_FIELDS);
    session["allow_promotion_codes"] = flag("allow_promotion_codes");
    session["billing_address_collection"] = opt("billing_address_collection");
    if params.get("tax_id_collection").is_some() {
        let enabled = text(params, "tax_id_collection.enabled") == Some("true");
        session["tax_id_collection"] = json!({"enabled": enabled, "required": "never"});
    }
    session
}
