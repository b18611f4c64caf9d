//! Coupons and promotion codes.

use serde_json::{Value, json};

use super::discounts::{Purchase, Source};
use super::forms::{boolean, integer, merge_metadata, only, required, text, texts};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id};

const COUPON: &str = "coupon";
const CODE: &str = "promotion_code";
const GENERATED_LENGTH: usize = 8;

/// `POST /v1/coupons`.
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    only(
        params,
        &[
            "id",
            "amount_off",
            "percent_off",
            "currency",
            "currency_options",
            "duration",
            "duration_in_months",
            "applies_to",
            "max_redemptions",
            "redeem_by",
            "metadata",
            "name",
        ],
    )?;
    let id = text(params, "id").map_or_else(|| new_id("")[..GENERATED_LENGTH].to_owned(), str::to_owned);
    if world.get(COUPON, &id, "id").is_ok() {
        return Err(Refusal::invalid("Coupon already exists.", "id").with_code("resource_already_exists"));
    }
    let amount_off = integer(params, "amount_off")?;
    let percent_off = text(params, "percent_off").map(serde_json::from_str::<Value>).transpose();
    let percent_off = percent_off.map_err(|_| Refusal::invalid("Invalid decimal", "percent_off"))?;
    if amount_off.is_some() == percent_off.is_some() {
        return Err(Refusal::state("Must provide exactly one of percent_off or amount_off."));
    }
    if percent_off.as_ref().and_then(Value::as_f64).is_some_and(|percent| !(percent > 0.0 && percent <= 100.0)) {
        return Err(Refusal::invalid("percent_off must be above 0 and at most 100.", "percent_off"));
    }
    if amount_off.is_some() {
        required(params, "currency")?;
    }
    let duration = text(params, "duration").unwrap_or("once");
    let months = integer(params, "duration_in_months")?;
    if (duration == "repeating") != months.is_some() {
        return Err(Refusal::invalid("duration_in_months goes with duration `repeating`.", "duration_in_months"));
    }
    let mut coupon = json!({
        "id": id, "object": COUPON, "amount_off": amount_off, "created": world.now(),
        "currency": text(params, "currency").map(str::to_lowercase), "duration": duration,
        "duration_in_months": months, "livemode": false, "max_redemptions": integer(params, "max_redemptions")?,
        "metadata": {}, "name": text(params, "name"), "percent_off": percent_off,
        "redeem_by": integer(params, "redeem_by")?, "times_redeemed": 0, "valid": true,
    });
    let products = texts(params, "applies_to.products");
    if !products.is_empty() {
        coupon["applies_to"] = json!({"products": products});
    }
    if let Some(Value::Object(options)) = params.get("currency_options") {
        for (currency, option) in options {
            coupon["currency_options"][currency.as_str()] = json!({"amount_off": integer(option, "amount_off")?});
        }
    }
    merge_metadata(&mut coupon, params.get("metadata"));
    world.insert(coupon);
    world.emit(COUPON, &id, "coupon.created", None);
    world.copy(COUPON, &id)
}

/// `POST /v1/coupons/{id}`.
pub(super) fn update(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["metadata", "name"])?;
    let row = world.get_mut(COUPON, id)?;
    if let Some(name) = call.params.get("name") {
        row["name"] = name.clone();
    }
    merge_metadata(row, call.params.get("metadata"));
    world.emit(COUPON, id, "coupon.updated", Some(json!({})));
    world.copy(COUPON, id)
}

/// `DELETE /v1/coupons/{id}`: nobody redeems it any more; what was given stays.
pub(super) fn delete(world: &mut World, id: &str) -> Answer {
    let row = world.get_mut(COUPON, id)?;
    row["valid"] = json!(false);
    row["redeem_by"] = json!(0);
    world.emit(COUPON, id, "coupon.deleted", None);
    Ok(json!({"id": id, "object": COUPON, "deleted": true}))
}

/// `GET /v1/coupons` and `GET /v1/coupons/{id}`.
pub(super) fn read(world: &mut World, call: &Call, id: Option<&str>) -> Answer {
    refresh(world);
    if let Some(id) = id {
        only(&call.params, &[])?;
        return world.copy(COUPON, id);
    }
    only(&call.params, &["created", "limit", "starting_after", "ending_before"])?;
    world.list(COUPON, call, |_| true)
}

/// Lets coupons and codes whose time is over say so.
fn refresh(world: &mut World) {
    let now = world.clock();
    for (kind, field, until) in [(COUPON, "valid", "redeem_by"), (CODE, "active", "expires_at")] {
        let over: Vec<String> = world
            .all(kind)
            .filter(|row| row[field] == true && (used_up(row) || row[until].as_i64().is_some_and(|at| at <= now)))
            .filter_map(|row| row["id"].as_str().map(str::to_owned))
            .collect();
        for id in over {
            if let Ok(row) = world.get_mut(kind, &id) {
                row[field] = json!(false);
            }
        }
    }
}

fn used_up(row: &Value) -> bool {
    row["max_redemptions"].as_i64().is_some_and(|most| row["times_redeemed"].as_i64().unwrap_or(0) >= most)
}

/// Counts a redemption of a coupon and its code.
pub(super) fn redeemed(world: &mut World, source: &Source) -> Result<(), Refusal> {
    let mut rows = vec![(COUPON, source.coupon.as_str())];
    rows.extend(source.promotion_code.as_deref().map(|code| (CODE, code)));
    for (kind, id) in rows {
        let row = world.get_mut(kind, id)?;
        row["times_redeemed"] = json!(row["times_redeemed"].as_i64().unwrap_or(0) + 1);
    }
    refresh(world);
    Ok(())
}

/// What a coupon takes off in a currency, in minor units; none when it is a percentage or not for that currency.
pub(super) fn amount_off(coupon: &Value, currency: &str) -> Option<i64> {
    if coupon["currency"] == currency {
        return coupon["amount_off"].as_i64();
    }
    coupon["currency_options"][currency]["amount_off"].as_i64()
}

/// Whether a coupon is for a product.
pub(super) fn applies_to(coupon: &Value, product: &Value) -> bool {
    coupon["applies_to"]["products"].as_array().is_none_or(|products| products.contains(product))
}

/// Whether a coupon can be redeemed for a purchase.
pub(super) fn redeemable(world: &World, id: &str, wanted: &Purchase<'_>, path: &str) -> Result<(), Refusal> {
    let coupon = world.get(COUPON, id, path)?;
    if coupon["redeem_by"].as_i64().is_some_and(|at| at <= world.clock()) {
        return Err(Refusal::invalid(format!("Coupon expired: {id}"), path).with_code("coupon_expired"));
    }
    if used_up(coupon) || coupon["valid"] != true {
        return Err(Refusal::invalid(format!("Coupon {id} is used up and cannot be applied."), path)
            .with_code("coupon_expired"));
    }
    if coupon["percent_off"].is_null() && amount_off(coupon, wanted.currency).is_none() {
        return Err(Refusal::invalid(
            format!(
                "The currency of the coupon ({}) does not match the currency of the purchase ({}).",
                coupon["currency"].as_str().unwrap_or_default(),
                wanted.currency
            ),
            path,
        ));
    }
    Ok(())
}

/// Whether a promotion code can be redeemed for a purchase; gives what the discount comes from.
pub(super) fn redeemable_code(world: &World, id: &str, wanted: &Purchase<'_>, path: &str) -> Result<Source, Refusal> {
    let code = world.get(CODE, id, path)?;
    let refuse =
        |why: &str| Err(Refusal::invalid(format!("This promotion code cannot be redeemed because {why}."), path));
    if code["expires_at"].as_i64().is_some_and(|at| at <= world.clock()) {
        return refuse("it has expired");
    }
    if used_up(code) {
        return refuse("it has been redeemed as often as it may be");
    }
    if code["active"] != true {
        return refuse("it is not active");
    }
    if code["customer"].as_str().is_some_and(|holder| wanted.customer != Some(holder)) {
        return refuse("it is for another customer");
    }
    let restrictions = &code["restrictions"];
    let first_only = restrictions["first_time_transaction"] == true;
    if first_only && wanted.customer.is_some_and(|customer| has_paid(world, customer)) {
        return refuse("the associated customer has prior transactions");
    }
    if let Some(least) = restrictions["minimum_amount"].as_i64() {
        if restrictions["minimum_amount_currency"] != wanted.currency {
            return refuse("its minimum amount is in another currency");
        }
        if wanted.amount.is_some_and(|amount| amount < least) {
            return refuse("the purchase is below its minimum amount");
        }
    }
    let coupon = code["promotion"]["coupon"].as_str().unwrap_or_default().to_owned();
    redeemable(world, &coupon, wanted, path)?;
    Ok(Source { coupon, promotion_code: Some(id.to_owned()) })
}

fn has_paid(world: &World, customer: &str) -> bool {
    world.all("charge").any(|row| row["customer"] == customer && row["paid"] == true)
}

/// The id of the active promotion code that customers type as `code`.
pub(super) fn typed(world: &World, code: &str) -> Result<String, Refusal> {
    world
        .all(CODE)
        .rfind(|row| row["code"].as_str().is_some_and(|known| known.eq_ignore_ascii_case(code)))
        .and_then(|row| row["id"].as_str())
        .map(str::to_owned)
        .ok_or_else(|| Refusal::invalid("This code is invalid.", "promotion_code"))
}

/// `POST /v1/promotion_codes`.
pub(super) fn create_code(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    only(
        params,
        &["promotion", "code", "active", "customer", "expires_at", "max_redemptions", "metadata", "restrictions"],
    )?;
    required(params, "promotion.type")?;
    let coupon = required(params, "promotion.coupon")?;
    if world.get(COUPON, coupon, "promotion.coupon")?["valid"] != true {
        return Err(Refusal::invalid(format!("Coupon expired: {coupon}"), "promotion.coupon"));
    }
    let code = text(params, "code").map_or_else(|| new_id("")[..GENERATED_LENGTH].to_uppercase(), str::to_owned);
    let taken = world.all(CODE).any(|row| {
        row["active"] == true && row["code"].as_str().is_some_and(|known| known.eq_ignore_ascii_case(&code))
    });
    if taken {
        return Err(Refusal::invalid(format!("An active promotion code with `code: {code}` already exists."), "code"));
    }
    let customer = text(params, "customer");
    if let Some(customer) = customer {
        world.get("customer", customer, "customer")?;
    }
    let id = new_id("promo_");
    let mut row = json!({
        "id": id, "object": CODE, "active": boolean(params, "active")?.unwrap_or(true), "code": code,
        "created": world.now(), "customer": customer, "customer_account": null,
        "expires_at": integer(params, "expires_at")?, "livemode": false,
        "max_redemptions": integer(params, "max_redemptions")?, "metadata": {},
        "promotion": {"coupon": coupon, "type": "coupon"},
        "restrictions": {
            "first_time_transaction": boolean(params, "restrictions.first_time_transaction")?.unwrap_or(false),
            "minimum_amount": integer(params, "restrictions.minimum_amount")?,
            "minimum_amount_currency": text(params, "restrictions.minimum_amount_currency"),
        },
        "times_redeemed": 0,
    });
    merge_metadata(&mut row, params.get("metadata"));
    world.insert(row);
    world.emit(CODE, &id, "promotion_code.created", None);
    world.copy(CODE, &id)
}

/// `POST /v1/promotion_codes/{id}`.
pub(super) fn update_code(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["active", "metadata", "restrictions"])?;
    let active = boolean(&call.params, "active")?;
    let row = world.get_mut(CODE, id)?;
    if let Some(active) = active {
        row["active"] = json!(active);
    }
    merge_metadata(row, call.params.get("metadata"));
    world.emit(CODE, id, "promotion_code.updated", Some(json!({})));
    world.copy(CODE, id)
}

/// `GET /v1/promotion_codes` and `GET /v1/promotion_codes/{id}`.
pub(super) fn read_codes(world: &mut World, call: &Call, id: Option<&str>) -> Answer {
    refresh(world);
    let params = &call.params;
    if let Some(id) = id {
        only(params, &[])?;
        return world.copy(CODE, id);
    }
    only(params, &["active", "code", "coupon", "created", "customer", "limit", "starting_after", "ending_before"])?;
    let active = boolean(params, "active")?;
    let code = text(params, "code");
    let coupon = text(params, "coupon");
    let customer = text(params, "customer");
    world.list(CODE, call, |row| {
        active.is_none_or(|active| row["active"] == active)
            && code.is_none_or(|code| row["code"].as_str().is_some_and(|known| known.eq_ignore_ascii_case(code)))
            && coupon.is_none_or(|coupon| row["promotion"]["coupon"] == coupon)
            && customer.is_none_or(|customer| row["customer"] == customer)
    })
}
