//! Products and prices.

use serde_json::{Value, json};

use super::calendar::Interval;
use super::forms::{boolean, integer, merge_metadata, only, required, text, texts};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id};

const INTERVAL_COUNT_MAX_MONTHS: i64 = 36;

fn opt(params: &Value, path: &str) -> Value {
    text(params, path).map_or(Value::Null, |found| json!(found))
}

/// `POST /v1/products`.
pub(super) fn create_product(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    only(
        params,
        &[
            "id",
            "name",
            "description",
            "metadata",
            "active",
            "statement_descriptor",
            "tax_code",
            "unit_label",
            "url",
            "images",
            "shippable",
            "marketing_features",
            "default_price_data",
        ],
    )?;
    required(params, "name")?;
    let id = text(params, "id").map_or_else(|| new_id("prod_"), str::to_owned);
    if world.get("product", &id, "id").is_ok() {
        return Err(Refusal::invalid("Product already exists.", "id").with_code("resource_already_exists"));
    }
    new_product(world, params, &id)?;
    if let Some(data) = params.get("default_price_data") {
        let mut data = data.clone();
        data["product"] = json!(id);
        let price = new_price(world, &data, true)?;
        world.get_mut("product", &id)?["default_price"] = json!(price);
    }
    world.copy("product", &id)
}

fn new_product(world: &mut World, params: &Value, id: &str) -> Result<(), Refusal> {
    let mut product = json!({
        "id": id, "object": "product", "active": boolean(params, "active")?.unwrap_or(true),
        "created": world.now(), "default_price": null, "description": opt(params, "description"),
        "images": texts(params, "images"), "livemode": false,
        "marketing_features": params.get("marketing_features").cloned().unwrap_or(json!([])),
        "metadata": {}, "name": required(params, "name")?, "package_dimensions": null,
        "shippable": boolean(params, "shippable")?,
        "statement_descriptor": opt(params, "statement_descriptor"),
        "tax_code": opt(params, "tax_code"), "type": "service", "unit_label": opt(params, "unit_label"),
        "updated": world.now(), "url": opt(params, "url"),
    });
    merge_metadata(&mut product, params.get("metadata"));
    world.insert(product);
    world.emit("product", id, "product.created", None);
    Ok(())
}

/// `POST /v1/products/{id}`.
pub(super) fn update_product(world: &mut World, call: &Call, id: &str) -> Answer {
    let params = &call.params;
    only(
        params,
        &[
            "name",
            "description",
            "metadata",
            "active",
            "default_price",
            "url",
            "unit_label",
            "tax_code",
            "statement_descriptor",
        ],
    )?;
    if let Some(price) = text(params, "default_price") {
        world.get("price", price, "default_price")?;
    }
    let active = boolean(params, "active")?;
    let now = world.now();
    let product = world.get_mut("product", id)?;
    for field in ["name", "description", "default_price", "url", "unit_label", "tax_code", "statement_descriptor"] {
        if let Some(value) = params.get(field) {
            product[field] = if value == "" { Value::Null } else { value.clone() };
        }
    }
    if let Some(active) = active {
        product["active"] = json!(active);
    }
    product["updated"] = json!(now);
    merge_metadata(product, params.get("metadata"));
    world.emit("product", id, "product.updated", Some(json!({})));
    world.copy("product", id)
}

/// `GET /v1/products`.
pub(super) fn list_products(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, &["active", "created", "ids", "limit", "starting_after", "ending_before", "url"])?;
    let active = boolean(params, "active")?;
    let ids = texts(params, "ids");
    world.list("product", call, |row| {
        active.is_none_or(|active| row["active"] == active)
            && (ids.is_empty() || ids.iter().any(|id| row["id"] == id.as_str()))
    })
}

/// `POST /v1/prices`.
pub(super) fn create_price(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    only(
        params,
        &[
            "currency",
            "product",
            "product_data",
            "unit_amount",
            "unit_amount_decimal",
            "recurring",
            "lookup_key",
            "transfer_lookup_key",
            "metadata",
            "nickname",
            "active",
            "tax_behavior",
            "billing_scheme",
            "currency_options",
        ],
    )?;
    let id = new_price(world, params, boolean(params, "active")?.unwrap_or(true))?;
    offer_currencies(world, &id, params)?;
    world.copy("price", &id)
}

/// A price from `params` (also a line item's `price_data`); makes its product when only
/// `product_data` is given.
pub(super) fn new_price(world: &mut World, params: &Value, active: bool) -> Result<String, Refusal> {
    let currency = required(params, "currency")?.to_lowercase();
    if currency.len() != 3 {
        return Err(Refusal::invalid(format!("Invalid currency: {currency}."), "currency"));
    }
    let amount = match integer(params, "unit_amount")? {
        Some(amount) => amount,
        None => integer(params, "unit_amount_decimal")?.ok_or_else(|| Refusal::missing_parameter("unit_amount"))?,
    };
    if amount < 0 {
        return Err(Refusal::invalid("This value must be greater than or equal to 0.", "unit_amount"));
    }
    let recurring = recurring(params)?;
    let lookup_key = text(params, "lookup_key").map(str::to_owned);
    if let Some(lookup_key) = &lookup_key {
        free_lookup_key(world, lookup_key, boolean(params, "transfer_lookup_key")? == Some(true))?;
    }
    let product = match (text(params, "product"), params.get("product_data")) {
        (Some(product), None) => {
            world.get("product", product, "product")?;
            product.to_owned()
        }
        (None, Some(data)) => {
            let product = new_id("prod_");
            new_product(world, data, &product)?;
            product
        }
        _ => return Err(Refusal::missing_parameter("product")),
    };
    let id = new_id("price_");
    let kind = if recurring.is_null() { "one_time" } else { "recurring" };
    let mut price = json!({
        "id": id, "object": "price", "active": active, "billing_scheme": "per_unit",
        "created": world.now(), "currency": currency, "custom_unit_amount": null, "livemode": false,
        "lookup_key": lookup_key, "metadata": {}, "nickname": opt(params, "nickname"),
        "product": product, "recurring": recurring,
        "tax_behavior": text(params, "tax_behavior").unwrap_or("unspecified"), "tiers_mode": null,
        "transform_quantity": null, "type": kind, "unit_amount": amount,
        "unit_amount_decimal": amount.to_string(),
    });
    merge_metadata(&mut price, params.get("metadata"));
    world.insert(price);
    world.emit("price", &id, "price.created", None);
    Ok(id)
}

/// Keeps `currency_options`; prices show them only when that is expanded, with the price's own currency among them.
fn offer_currencies(world: &mut World, id: &str, params: &Value) -> Result<(), Refusal> {
    let Some(Value::Object(given)) = params.get("currency_options") else {
        return Ok(());
    };
    let mut options = world.currency_options.remove(id).unwrap_or_else(|| json!({}));
    for (currency, option) in given {
        let path = format!("currency_options.{currency}");
        only(option, &["unit_amount", "unit_amount_decimal", "tax_behavior"])?;
        let amount = integer(option, "unit_amount")?.ok_or_else(|| Refusal::missing_parameter(&path))?;
        options[currency.to_lowercase()] = json!({
            "custom_unit_amount": null, "tax_behavior": text(option, "tax_behavior").unwrap_or("unspecified"),
            "unit_amount": amount, "unit_amount_decimal": amount.to_string(),
        });
    }
    world.currency_options.insert(id.to_owned(), options);
    Ok(())
}

/// What one of a price costs in a currency, in minor units.
///
/// *Errors*: 400 when it is not sold in that currency.
pub(super) fn unit_amount(world: &World, price: &Value, currency: &str) -> Result<i64, Refusal> {
    let amount = if price["currency"] == currency {
        &price["unit_amount"]
    } else {
        let options = world.currency_options.get(price["id"].as_str().unwrap_or_default());
        options.map_or(&Value::Null, |options| &options[currency]["unit_amount"])
    };
    amount.as_i64().ok_or_else(|| {
        Refusal::state(format!(
            "The price specified supports currencies of `{}`. This doesn't match the expected currency: `{currency}`.",
            price["currency"].as_str().unwrap_or_default()
        ))
    })
}

fn recurring(params: &Value) -> Result<Value, Refusal> {
    if params.get("recurring").is_none() {
        return Ok(Value::Null);
    }
    let word = required(params, "recurring.interval")?;
    let interval = Interval::parse(word).ok_or_else(|| {
        Refusal::invalid(
            format!("Invalid recurring[interval]: must be one of day, month, week, or year, got {word}"),
            "recurring.interval",
        )
    })?;
    let count = integer(params, "recurring.interval_count")?.unwrap_or(1);
    let most = match interval {
        Interval::Day => 1095,
        Interval::Week => 156,
        Interval::Month => INTERVAL_COUNT_MAX_MONTHS,
        Interval::Year => INTERVAL_COUNT_MAX_MONTHS / 12,
    };
    if !(1..=most).contains(&count) {
        return Err(Refusal::invalid("Invalid interval count.", "recurring.interval_count"));
    }
    Ok(json!({
        "interval": word, "interval_count": count, "meter": null, "trial_period_days": null,
        "usage_type": text(params, "recurring.usage_type").unwrap_or("licensed"),
    }))
}

fn free_lookup_key(world: &mut World, lookup_key: &str, transfer: bool) -> Result<(), Refusal> {
    let holder = world
        .all("price")
        .find(|price| price["lookup_key"] == lookup_key)
        .and_then(|price| price["id"].as_str())
        .map(str::to_owned);
    match holder {
        Some(holder) if transfer => {
            world.get_mut("price", &holder)?["lookup_key"] = Value::Null;
            Ok(())
        }
        Some(holder) => {
            Err(Refusal::invalid(format!("A price (`{holder}`) already uses that lookup key."), "lookup_key"))
        }
        None => Ok(()),
    }
}

/// `POST /v1/prices/{id}`.
pub(super) fn update_price(world: &mut World, call: &Call, id: &str) -> Answer {
    let params = &call.params;
    let known =
        ["active", "lookup_key", "transfer_lookup_key", "metadata", "nickname", "tax_behavior", "currency_options"];
    only(params, &known)?;
    world.get("price", id, "id")?;
    offer_currencies(world, id, params)?;
    let active = boolean(params, "active")?;
    let lookup_key = text(params, "lookup_key").map(str::to_owned);
    if let Some(lookup_key) = &lookup_key
        && world.get("price", id, "id")?["lookup_key"] != lookup_key.as_str()
    {
        free_lookup_key(world, lookup_key, boolean(params, "transfer_lookup_key")? == Some(true))?;
    }
    let price = world.get_mut("price", id)?;
    if let Some(active) = active {
        price["active"] = json!(active);
    }
    if lookup_key.is_some() {
        price["lookup_key"] = json!(lookup_key);
    }
    for field in ["nickname", "tax_behavior"] {
        if let Some(value) = params.get(field) {
            price[field] = value.clone();
        }
    }
    merge_metadata(price, params.get("metadata"));
    world.emit("price", id, "price.updated", Some(json!({})));
    world.copy("price", id)
}

/// `GET /v1/prices`.
pub(super) fn list_prices(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(
        params,
        &[
            "active",
            "created",
            "currency",
            "lookup_keys",
            "product",
            "recurring",
            "type",
            "limit",
            "starting_after",
            "ending_before",
        ],
    )?;
    let active = boolean(params, "active")?;
    let keys = texts(params, "lookup_keys");
    let product = text(params, "product");
    let kind = text(params, "type");
    let currency = text(params, "currency");
    world.list("price", call, |row| {
        active.is_none_or(|active| row["active"] == active)
            && (keys.is_empty() || keys.iter().any(|key| row["lookup_key"] == key.as_str()))
            && product.is_none_or(|product| row["product"] == product)
            && kind.is_none_or(|kind| row["type"] == kind)
            && currency.is_none_or(|currency| row["currency"] == currency)
    })
}
