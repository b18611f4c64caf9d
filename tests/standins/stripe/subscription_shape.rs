//! What a subscription and its items look like.

use serde_json::{Value, json};

use super::calendar::{Cadence, Interval};
use super::world::{new_id, with_nulls};

/// How often a price is charged.
pub(super) fn cadence(price: &Value) -> Cadence {
    let interval = price["recurring"]["interval"].as_str().and_then(Interval::parse).unwrap_or(Interval::Month);
    let count = price["recurring"]["interval_count"].as_i64().unwrap_or(1);
    Cadence { interval, count }
}

/// A subscription item with its period.
pub(super) fn item(subscription: &str, price: &Value, quantity: i64, period: (i64, i64)) -> Value {
    json!({
        "id": new_id("si_"), "object": "subscription_item", "billing_thresholds": null,
        "created": period.0, "current_period_start": period.0, "current_period_end": period.1,
        "discounts": [], "metadata": {}, "plan": plan(price), "price": price, "quantity": quantity,
        "subscription": subscription, "tax_rates": [],
    })
}

/// The older form of a recurring price, which items still carry.
pub(super) fn plan(price: &Value) -> Value {
    let recurring = &price["recurring"];
    json!({
        "id": price["id"], "object": "plan", "active": price["active"], "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"], "billing_scheme": "per_unit", "created": price["created"],
        "currency": price["currency"], "interval": recurring["interval"],
        "interval_count": recurring["interval_count"], "livemode": false, "metadata": price["metadata"],
        "meter": null, "nickname": price["nickname"], "product": price["product"], "tiers_mode": null,
        "transform_usage": null, "trial_period_days": null, "usage_type": "licensed",
    })
}

/// An active subscription without items.
pub(super) fn blank(id: &str, now: i64) -> Value {
    with_nulls(
        json!({
        "id": id, "object": "subscription", "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null},
        "billing_cycle_anchor": now, "billing_mode": {"flexible": null, "type": "classic"}, "billing_schedules": [],
        "cancel_at_period_end": false,
        "cancellation_details": {"comment": null, "feedback": null, "feedback_option": null, "reason": null},
        "collection_method": "charge_automatically", "created": now, "default_tax_rates": [],
        "discounts": [], "invoice_settings": {"account_tax_ids": null, "custom_fields": null, "description": null, "footer": null, "issuer": {"type": "self"}},
        "items": {"object": "list", "data": [], "has_more": false, "url": format!("/v1/subscription_items?subscription={id}")},
        "livemode": false, "metadata": {},
        "payment_settings": {"payment_method_options": null, "payment_method_types": null, "save_default_payment_method": "off"},
        "start_date": now, "status": "active", "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        }),
        &[
            "application",
            "application_fee_percent",
            "billing_cycle_anchor_config",
            "billing_thresholds",
            "cancel_at",
            "canceled_at",
            "currency",
            "customer",
            "customer_account",
            "days_until_due",
            "default_payment_method",
            "default_source",
            "description",
            "ended_at",
            "latest_invoice",
            "managed_payments",
            "next_pending_invoice_item_invoice",
            "on_behalf_of",
            "pause_collection",
            "pending_invoice_item_interval",
            "pending_setup_intent",
            "pending_update",
            "schedule",
            "test_clock",
            "transfer_data",
            "trial_end",
            "trial_start",
        ],
    )
}
