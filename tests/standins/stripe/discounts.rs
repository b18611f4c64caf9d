//! Discounts on subscriptions: read from parameters, attached, taken off invoices, over.

use serde_json::{Value, json};

use super::calendar::{Cadence, Interval};
use super::coupons;
use super::forms::{self, only, text};
use super::refusal::Refusal;
use super::world::{World, new_id};

const KIND: &str = "discount";
/// `percent_off` is counted in hundredths of a percent.
const WHOLE: i64 = 10_000;

/// What a discount comes from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The coupon's id.
    pub(super) coupon: String,
    /// The promotion code's id, when a code was used.
    pub(super) promotion_code: Option<String>,
}

/// What a discount is wanted for.
pub(super) struct Purchase<'a> {
    /// `cus_…`, when it is known.
    pub(super) customer: Option<&'a str>,
    /// The currency to pay in.
    pub(super) currency: &'a str,
    /// What is to be paid, in minor units; none: no least amount is looked at.
    pub(super) amount: Option<i64>,
}

/// Reads `discounts[…]`; an id of a discount the subscription has already stays as it is.
///
/// *Errors*: 400 when one of them cannot be redeemed.
pub(super) fn read(world: &World, params: &Value, wanted: &Purchase<'_>) -> Result<Vec<Source>, Refusal> {
    let Some(Value::Array(given)) = params.get("discounts") else {
        return Ok(Vec::new());
    };
    let mut sources = Vec::new();
    for (index, row) in given.iter().enumerate() {
        only(row, &["coupon", "promotion_code", "discount"])?;
        let path = |name: &str| format!("discounts.{index}.{name}");
        sources.push(match (text(row, "coupon"), text(row, "promotion_code"), text(row, "discount")) {
            (Some(coupon), None, None) => {
                coupons::redeemable(world, coupon, wanted, &path("coupon"))?;
                Source { coupon: coupon.to_owned(), promotion_code: None }
            }
            (None, Some(code), None) => coupons::redeemable_code(world, code, wanted, &path("promotion_code"))?,
            (None, None, Some(discount)) => {
                let found = world.get(KIND, discount, &path("discount"))?;
                Source {
                    coupon: found["source"]["coupon"].as_str().unwrap_or_default().to_owned(),
                    promotion_code: found["promotion_code"].as_str().map(str::to_owned),
                }
            }
            _ => return Err(Refusal::missing_parameter(&path("coupon"))),
        });
    }
    Ok(sources)
}

/// Gives a subscription a discount and counts the redemption. Event: `customer.discount.created`.
pub(super) fn attach(
    world: &mut World,
    source: &Source,
    subscription: &str,
    session: Option<&str>,
) -> Result<String, Refusal> {
    let id = new_id("di_");
    let holder = world.copy("subscription", subscription)?;
    let start = world.now_of(&holder);
    let coupon = world.get("coupon", &source.coupon, "coupon")?;
    let end = coupon["duration_in_months"]
        .as_i64()
        .filter(|_| coupon["duration"] == "repeating")
        .map(|count| Cadence { interval: Interval::Month, count }.next_end(start, start, world.month_secs_of(&holder)));
    world.insert(json!({
        "id": id, "object": KIND, "checkout_session": session, "customer": holder["customer"],
        "customer_account": null, "end": end, "invoice": null, "invoice_item": null,
        "promotion_code": source.promotion_code, "source": {"coupon": source.coupon, "type": "coupon"},
        "start": start, "subscription": subscription, "subscription_item": null,
    }));
    coupons::redeemed(world, source)?;
    if let Some(list) = world.get_mut("subscription", subscription)?["discounts"].as_array_mut() {
        list.push(json!(id));
    }
    world.emit(KIND, &id, "customer.discount.created", None);
    Ok(id)
}

/// Takes every discount from a subscription. Event: `customer.discount.deleted`.
pub(super) fn clear(world: &mut World, subscription: &str) -> Result<(), Refusal> {
    for id in ids(world.get("subscription", subscription, "id")?) {
        drop_one(world, subscription, &id)?;
    }
    Ok(())
}

fn drop_one(world: &mut World, subscription: &str, id: &str) -> Result<(), Refusal> {
    if let Some(list) = world.get_mut("subscription", subscription)?["discounts"].as_array_mut() {
        list.retain(|known| known != id);
    }
    world.emit(KIND, id, "customer.discount.deleted", None);
    Ok(())
}

fn ids(subscription: &Value) -> Vec<String> {
    let list = subscription["discounts"].as_array();
    list.into_iter().flatten().filter_map(|id| id.as_str().map(str::to_owned)).collect()
}

/// The discounts of a subscription that still hold, with their coupons.
fn holding(world: &World, subscription: &Value) -> Vec<(String, Value)> {
    let now = world.now_of(subscription);
    ids(subscription)
        .into_iter()
        .filter_map(|id| {
            let row = world.get(KIND, &id, "id").ok()?;
            let coupon = world.get("coupon", row["source"]["coupon"].as_str()?, "id").ok()?;
            row["end"].as_i64().is_none_or(|end| now < end).then(|| (id, coupon.clone()))
        })
        .collect()
}

/// The part of an amount that a percentage of a coupon is; halves go to the customer.
fn share(amount: i64, coupon: &Value) -> i64 {
    let hundredths = hundredths(&coupon["percent_off"]);
    (amount * hundredths + WHOLE / 2) / WHOLE
}

fn hundredths(percent: &Value) -> i64 {
    let text = percent.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((text.as_str(), ""));
    let part: String = part.chars().chain("00".chars()).take(2).collect();
    whole.parse::<i64>().unwrap_or(0) * 100 + part.parse::<i64>().unwrap_or(0)
}

/// An amount after the percentages that hold; fixed amounts are not part of a proration.
pub(super) fn reduced(world: &World, subscription: &Value, amount: i64) -> i64 {
    holding(world, subscription).iter().fold(amount, |left, (_, coupon)| left - share(left, coupon))
}

/// Takes the discounts that hold off the lines of an invoice; gives what each took.
pub(super) fn take_off(world: &World, subscription: &Value, lines: &mut [Value]) -> Vec<(String, i64)> {
    let mut taken = Vec::new();
    for (id, coupon) in holding(world, subscription) {
        let currency = subscription["currency"].as_str().unwrap_or_default();
        let mut fixed = coupons::amount_off(&coupon, currency).unwrap_or(0);
        let mut total = 0;
        for line in lines.iter_mut().filter(|line| line["discountable"] == true) {
            if !coupons::applies_to(&coupon, &line["pricing"]["price_details"]["product"]) {
                continue;
            }
            let left = line["amount"].as_i64().unwrap_or(0) - taken_off(line);
            let off = (share(left, &coupon) + fixed).min(left).max(0);
            fixed = (fixed - off).max(0);
            total += off;
            if let Some(amounts) = line["discount_amounts"].as_array_mut() {
                amounts.push(json!({"amount": off, "discount": id}));
            }
            if let Some(list) = line["discounts"].as_array_mut() {
                list.push(json!(id));
            }
        }
        taken.push((id, total));
    }
    taken
}

/// What discounts took off a line.
pub(super) fn taken_off(line: &Value) -> i64 {
    let amounts = line["discount_amounts"].as_array();
    amounts.into_iter().flatten().filter_map(|row| row["amount"].as_i64()).sum()
}

/// An invoice was made: discounts for once, and those whose time is over, are gone.
pub(super) fn used(world: &mut World, subscription: &Value) -> Result<(), Refusal> {
    let Some(id) = subscription["id"].as_str() else {
        return Ok(());
    };
    let Ok(row) = world.copy("subscription", id) else {
        return Ok(());
    };
    let holding = holding(world, &row);
    for discount in ids(&row) {
        let stays = holding.iter().any(|(known, coupon)| *known == discount && coupon["duration"] != "once");
        if !stays {
            drop_one(world, id, &discount)?;
        }
    }
    Ok(())
}

/// What a purchase of `lines` (amounts in minor units) costs less by these coupons.
pub(super) fn preview(world: &World, sources: &[Source], currency: &str, amount: i64) -> i64 {
    let mut left = amount;
    for source in sources {
        if let Ok(coupon) = world.get("coupon", &source.coupon, "id") {
            left -= (share(left, coupon) + coupons::amount_off(coupon, currency).unwrap_or(0)).min(left);
        }
    }
    amount - left
}

/// The sources as they are kept with a Checkout Session.
pub(super) fn to_json(sources: &[Source]) -> Value {
    sources.iter().map(|source| json!({"coupon": source.coupon, "promotion_code": source.promotion_code})).collect()
}

/// The sources that [`to_json`] kept.
pub(super) fn from_json(kept: &Value) -> Vec<Source> {
    kept.as_array()
        .into_iter()
        .flatten()
        .map(|row| Source {
            coupon: forms::text(row, "coupon").unwrap_or_default().to_owned(),
            promotion_code: forms::text(row, "promotion_code").map(str::to_owned),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::share;

    #[test]
    fn percentages_have_two_places() {
        assert_eq!(share(1000, &json!({"percent_off": 12.5})), 125);
        assert_eq!(share(999, &json!({"percent_off": 100.0})), 999);
        assert_eq!(share(1000, &json!({"percent_off": 33})), 330);
        assert_eq!(share(1000, &json!({"percent_off": null})), 0);
    }
}
