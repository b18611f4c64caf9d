//! What a subscription schedule and its phases look like.

use serde_json::{Value, json};

use super::schedules::KIND;
use super::world::{World, new_id, with_nulls};

/// A schedule whose one phase is the current period of a subscription.
pub(super) fn from_subscription(world: &World, subscription: &Value) -> Value {
    let item = &subscription["items"]["data"][0];
    let secs = |field: &str| item[field].as_i64().unwrap_or(0);
    let period = (secs("current_period_start"), secs("current_period_end"));
    let currency = subscription["currency"].as_str().unwrap_or_default();
    let mut phase = phase_of(currency, &items_of(subscription), period, "create_prorations");
    phase["metadata"] = subscription["metadata"].clone();
    with_nulls(
        json!({
            "id": new_id("sub_sched_"), "object": KIND, "billing_mode": {"flexible": null, "type": "classic"},
            "created": world.now(), "current_phase": {"start_date": period.0, "end_date": period.1},
            "customer": subscription["customer"],
            "default_settings": {
                "application_fee_percent": null, "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null},
                "billing_cycle_anchor": "automatic", "billing_thresholds": null, "collection_method": "charge_automatically",
                "default_payment_method": null, "description": null,
                "invoice_settings": {"account_tax_ids": null, "custom_fields": null, "days_until_due": null, "description": null, "footer": null, "issuer": {"type": "self"}},
                "on_behalf_of": null, "transfer_data": null,
            },
            "end_behavior": "release", "livemode": false, "metadata": {}, "phases": [phase], "status": "active",
            "subscription": subscription["id"], "test_clock": subscription["test_clock"],
        }),
        &["application", "canceled_at", "completed_at", "customer_account", "released_at", "released_subscription"],
    )
}

/// The items of a phase that is like a subscription now.
pub(super) fn items_of(subscription: &Value) -> Value {
    let items = subscription["items"]["data"].as_array();
    items
        .into_iter()
        .flatten()
        .map(|item| {
            phase_item(item["price"]["id"].as_str().unwrap_or_default(), item["quantity"].as_i64().unwrap_or(1))
        })
        .collect()
}

/// One item of a phase.
pub(super) fn phase_item(price: &str, quantity: i64) -> Value {
    json!({
        "billing_thresholds": null, "discounts": [], "metadata": {}, "plan": price, "price": price, "quantity": quantity,
        "tax_rates": [],
    })
}

/// A phase from one moment to another.
pub(super) fn phase_of(currency: &str, items: &Value, (start, end): (i64, i64), proration: &str) -> Value {
    with_nulls(
        json!({
            "add_invoice_items": [], "currency": currency, "default_tax_rates": [], "discounts": [], "end_date": end,
            "items": items, "metadata": {}, "proration_behavior": proration, "start_date": start,
        }),
        &[
            "application_fee_percent",
            "billing_cycle_anchor",
            "billing_thresholds",
            "collection_method",
            "default_payment_method",
            "description",
            "invoice_settings",
            "on_behalf_of",
            "transfer_data",
            "trial_end",
        ],
    )
}
