//! Value added tax: a small table of rates, reverse charge for businesses in the EU, calculations before paying.

use serde_json::{Value, json};

use super::forms::{self, integer, only, required, text};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id, with_nulls};

/// Country and rate in hundredths of a percent; nothing is charged anywhere else.
const RATES: &[(&str, i64)] = &[
    ("AT", 2000),
    ("BE", 2100),
    ("CH", 810),
    ("DE", 1900),
    ("DK", 2500),
    ("ES", 2100),
    ("FR", 2000),
    ("GB", 2000),
    ("IE", 2300),
    ("IT", 2200),
    ("NL", 2100),
    ("PL", 2300),
    ("SE", 2500),
];
const WHOLE: i64 = 10_000;
const CALCULATION_LIFE_SECS: i64 = 90 * 86_400;
const TAX_CODE: &str = "txcd_10103001";

/// The tax of an invoice, in minor units.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    /// Added to the prices.
    pub(super) exclusive: i64,
    /// Contained in them.
    pub(super) inclusive: i64,
}

/// How a buyer is taxed.
#[derive(Debug, Clone)]
struct Treatment {
    country: String,
    rate: i64,
    reason: &'static str,
}

fn treatment(country: &str, tax_ids: &[String], exempt: &str) -> Treatment {
    let known = RATES.iter().find(|(code, _)| *code == country).map_or(0, |(_, rate)| *rate);
    let business = tax_ids.iter().any(|kind| kind == "eu_vat");
    let (rate, reason) = match exempt {
        "exempt" | "customer_exempt" => (0, "customer_exempt"),
        "reverse" | "reverse_charge" => (0, "reverse_charge"),
        _ if known == 0 => (0, "not_collecting"),
        _ if business && !["CH", "GB"].contains(&country) => (0, "reverse_charge"),
        _ => (known, "standard_rated"),
    };
    Treatment { country: country.to_owned(), rate, reason }
}

fn treatment_of(world: &World, customer: &Value) -> Option<Treatment> {
    let country = customer["address"]["country"].as_str()?;
    let ids: Vec<String> = world
        .tied("tax_id", "customer", customer["id"].as_str().unwrap_or_default())
        .into_iter()
        .filter(|row| row["customer"] == customer["id"])
        .filter_map(|row| row["type"].as_str().map(str::to_owned))
        .collect();
    Some(treatment(country, &ids, customer["tax_exempt"].as_str().unwrap_or_default()))
}

/// Halves are rounded away from zero.
fn part(amount: i64, of: i64, whole: i64) -> i64 {
    (amount * of * 2 + amount.signum() * whole) / (whole * 2)
}

impl Treatment {
    fn tax(&self, amount: i64, inclusive: bool) -> i64 {
        if inclusive { part(amount, self.rate, WHOLE + self.rate) } else { part(amount, self.rate, WHOLE) }
    }

    fn percentage(&self) -> String {
        let (whole, rest) = (self.rate / 100, self.rate % 100);
        if rest == 0 { format!("{whole}.0") } else { format!("{whole}.{rest:02}").trim_end_matches('0').to_owned() }
    }

    /// A row of an invoice's or a line's taxes.
    fn row(&self, amount: i64, taxable: i64, inclusive: bool) -> Value {
        json!({
            "amount": amount, "tax_behavior": if inclusive { "inclusive" } else { "exclusive" },
            "tax_rate_details": {"tax_rate": format!("txr_{}_{}", self.country.to_lowercase(), self.rate)},
            "taxability_reason": self.reason, "taxable_amount": taxable, "type": "tax_rate_details",
        })
    }
}

/// Taxes the lines of an invoice after their discounts, by the customer's address.
///
/// *Errors*: 400 when the customer has no address.
pub(super) fn charge(
    world: &World,
    customer: &Value,
    lines: &mut [Value],
    invoice: &mut Value,
) -> Result<Sums, Refusal> {
    let treatment = treatment_of(world, customer).ok_or_else(|| {
        Refusal::state(
            "The customer's location isn't recognized. Set a valid customer address in order to automatically calculate tax.",
        )
        .with_code("customer_tax_location_invalid")
    })?;
    let mut sums = Sums::default();
    let mut taxable_sums = [0_i64; 2];
    for line in lines {
        let price = &line["pricing"]["price_details"]["price"];
        let inclusive = price
            .as_str()
            .and_then(|price| world.find(price))
            .is_some_and(|price| price["tax_behavior"] == "inclusive");
        let base = line["amount"].as_i64().unwrap_or(0) - super::discounts::taken_off(line);
        let tax = treatment.tax(base, inclusive);
        let taxable = if inclusive { base - tax } else { base };
        if inclusive {
            sums.inclusive += tax;
        } else {
            sums.exclusive += tax;
        }
        taxable_sums[usize::from(inclusive)] += taxable;
        line["taxes"] = json!([treatment.row(tax, taxable, inclusive)]);
    }
    let mut totals = vec![treatment.row(sums.exclusive, taxable_sums[0], false)];
    if taxable_sums[1] != 0 {
        totals.push(treatment.row(sums.inclusive, taxable_sums[1], true));
    }
    invoice["total_taxes"] = json!(totals);
    invoice["automatic_tax"] = automatic("complete");
    invoice["automatic_tax"]["disabled_reason"] = Value::Null;
    Ok(sums)
}

/// `automatic_tax` of a session that is taxed.
pub(super) fn automatic(status: &str) -> Value {
    json!({"enabled": true, "liability": {"type": "self"}, "provider": "stripe", "status": status})
}

/// `POST /v1/tax/calculations`.
pub(super) fn calculate(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    let known =
        ["currency", "customer", "customer_details", "line_items", "shipping_cost", "ship_from_details", "tax_date"];
    only(params, &known)?;
    let currency = required(params, "currency")?.to_lowercase();
    let (treatment, details) = match text(params, "customer") {
        Some(customer) => {
            let found =
                world.copy("customer", customer).map_err(|_| Refusal::no_such("customer", customer, "customer"))?;
            let details = json!({
                "address": found["address"], "address_source": "billing", "ip_address": null,
                "tax_ids": tax_ids(world, customer), "taxability_override": "none",
            });
            (treatment_of(world, &found), details)
        }
        None => given_details(params)?,
    };
    let treatment = treatment.ok_or_else(|| {
        Refusal::invalid("We could not determine the customer's tax location.", "customer_details.address")
            .with_code("customer_tax_location_invalid")
    })?;
    let id = new_id("taxcalc_");
    let (lines, sums, taxable) = calculated_lines(params, &treatment, &id)?;
    let total: i64 = lines.iter().filter_map(|line| line["amount"].as_i64()).sum();
    let now = world.now();
    let breakdown = json!([{
        "amount": sums.exclusive + sums.inclusive, "inclusive": sums.inclusive != 0,
        "tax_rate_details": {
            "country": treatment.country, "flat_amount": null, "percentage_decimal": treatment.percentage(),
            "rate_type": "percentage", "state": null, "tax_type": if treatment.rate == 0 { Value::Null } else { json!("vat") },
        },
        "taxability_reason": treatment.reason, "taxable_amount": taxable,
    }]);
    let calculation = with_nulls(
        json!({
            "id": id, "object": "tax.calculation", "amount_total": total + sums.exclusive, "currency": currency,
            "customer": text(params, "customer"), "customer_details": details, "expires_at": now + CALCULATION_LIFE_SECS,
            "line_items": {"object": "list", "data": lines, "has_more": false, "url": format!("/v1/tax/calculations/{id}/line_items")},
            "livemode": false, "tax_amount_exclusive": sums.exclusive, "tax_amount_inclusive": sums.inclusive,
            "tax_breakdown": breakdown, "tax_date": integer(params, "tax_date")?.unwrap_or(now),
        }),
        &["ship_from_details", "shipping_cost"],
    );
    world.insert(calculation);
    world.copy("tax.calculation", &id)
}

fn tax_ids(world: &World, customer: &str) -> Vec<Value> {
    world
        .tied("tax_id", "customer", customer)
        .into_iter()
        .filter(|row| row["customer"] == customer)
        .map(|row| json!({"type": row["type"], "value": row["value"]}))
        .collect()
}

fn given_details(params: &Value) -> Result<(Option<Treatment>, Value), Refusal> {
    let country = required(params, "customer_details.address.country")?.to_uppercase();
    let given = params["customer_details"]["tax_ids"].as_array().cloned().unwrap_or_default();
    let kinds: Vec<String> = given.iter().filter_map(|row| row["type"].as_str().map(str::to_owned)).collect();
    let over = text(params, "customer_details.taxability_override").unwrap_or("none");
    let mut address =
        json!({"city": null, "country": null, "line1": null, "line2": null, "postal_code": null, "state": null});
    for (key, value) in params["customer_details"]["address"].as_object().into_iter().flatten() {
        address[key.as_str()] = value.clone();
    }
    let details = json!({
        "address": address, "address_source": text(params, "customer_details.address_source").unwrap_or("billing"),
        "ip_address": null, "tax_ids": given, "taxability_override": over,
    });
    Ok((Some(treatment(&country, &kinds, over)), details))
}

fn calculated_lines(params: &Value, treatment: &Treatment, id: &str) -> Result<(Vec<Value>, Sums, i64), Refusal> {
    let Some(Value::Array(given)) = forms::at(params, "line_items") else {
        return Err(Refusal::missing_parameter("line_items"));
    };
    let (mut lines, mut sums, mut taxable) = (Vec::new(), Sums::default(), 0);
    for (index, line) in given.iter().enumerate() {
        let path = format!("line_items.{index}.amount");
        let amount = integer(line, "amount")?.ok_or_else(|| Refusal::missing_parameter(&path))?;
        let inclusive = text(line, "tax_behavior") == Some("inclusive");
        let tax = treatment.tax(amount, inclusive);
        taxable += if inclusive { amount - tax } else { amount };
        if inclusive {
            sums.inclusive += tax;
        } else {
            sums.exclusive += tax;
        }
        lines.push(json!({
            "id": new_id("tax_li_"), "object": "tax.calculation_line_item", "amount": amount, "amount_tax": tax,
            "livemode": false, "metadata": {}, "product": text(line, "product"),
            "quantity": integer(line, "quantity")?.unwrap_or(1),
            "reference": text(line, "reference").map_or_else(|| format!("{id}_L{}", index + 1), str::to_owned),
            "tax_behavior": if inclusive { "inclusive" } else { "exclusive" }, "tax_breakdown": null,
            "tax_code": text(line, "tax_code").unwrap_or(TAX_CODE),
        }));
    }
    Ok((lines, sums, taxable))
}

#[cfg(test)]
mod tests {
    use super::treatment;

    #[test]
    fn rates_follow_country_business_and_exemption() {
        assert_eq!(treatment("DE", &[], "none").tax(1000, false), 190);
        assert_eq!(treatment("DE", &[], "none").tax(1190, true), 190);
        assert_eq!(treatment("FR", &[], "none").percentage(), "20.0");
        assert_eq!(treatment("CH", &[], "none").percentage(), "8.1");
        let business = treatment("FR", &["eu_vat".to_owned()], "none");
        assert_eq!((business.tax(1000, false), business.reason), (0, "reverse_charge"));
        assert_eq!(treatment("US", &[], "none").reason, "not_collecting");
        assert_eq!(treatment("DE", &[], "none").tax(-1050, false), -200);
    }
}
