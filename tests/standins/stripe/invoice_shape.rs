//! What an invoice and its lines look like.

use serde_json::{Value, json};

use super::catalogue;
use super::world::{World, new_id, with_nulls};

/// What of a subscription item a line bills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Its current period.
    Period,
    /// The part of its period after a moment: given back when the amount is below zero.
    Proration {
        /// Minor units.
        amount: i64,
        /// Unix seconds.
        at: i64,
    },
    /// A free trial.
    Trial,
}

/// An empty draft for a subscription.
pub(super) fn blank(world: &World, id: &str, customer: &Value, subscription: &Value) -> Value {
    let item = &subscription["items"]["data"][0];
    with_nulls(
        json!({
        "id": id, "object": "invoice", "account_country": "US", "account_name": "EZ Solutions",
        "amount_due": 0, "amount_overpaid": 0, "amount_paid": 0,
        "amount_paid_off_stripe": 0, "amount_remaining": 0, "amount_shipping": 0,
        "attempt_count": 0, "attempted": false, "auto_advance": true,
        "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null, "provider": null, "status": null},
        "collection_method": "charge_automatically", "created": world.now(),
        "currency": subscription["currency"], "customer": customer["id"],
        "customer_email": customer["email"],
        "customer_name": customer["name"], "customer_tax_exempt": "none", "customer_tax_ids": [], "default_tax_rates": [], "discounts": [],
        "issuer": {"type": "self"}, "livemode": false, "metadata": {}, "parent": {
            "quote_details": null,
            "subscription_details": {"metadata": subscription["metadata"], "subscription": subscription["id"]},
            "type": "subscription_details",
        },
        "payment_settings": {"default_mandate": null, "payment_method_options": null, "payment_method_types": null},
        "period_end": item["current_period_end"], "period_start": item["current_period_start"],
        "post_payment_credit_notes_amount": 0, "pre_payment_credit_notes_amount": 0,
        "starting_balance": 0, "status": "draft",
        "status_transitions": {"finalized_at": null, "marked_uncollectible_at": null, "paid_at": null, "voided_at": null},
        "test_clock": subscription["test_clock"], "total_discount_amounts": [],
        "total_pretax_credit_amounts": [], "total_taxes": [], }),
        &[
            "account_tax_ids",
            "application",
            "automatically_finalizes_at",
            "billing_reason",
            "custom_fields",
            "customer_account",
            "customer_address",
            "customer_phone",
            "customer_shipping",
            "default_payment_method",
            "default_source",
            "description",
            "due_date",
            "effective_at",
            "ending_balance",
            "footer",
            "from_invoice",
            "hosted_invoice_url",
            "invoice_pdf",
            "last_finalization_error",
            "latest_revision",
            "next_payment_attempt",
            "number",
            "on_behalf_of",
            "receipt_number",
            "rendering",
            "shipping_cost",
            "shipping_details",
            "statement_descriptor",
            "webhooks_delivered_at",
        ],
    )
}

/// An invoice line for a subscription item, in the subscription's currency.
pub(super) fn line(world: &World, item: &Value, currency: &str, part: Part) -> Value {
    let price = &item["price"];
    let quantity = item["quantity"].as_i64().unwrap_or(1);
    let unit = catalogue::unit_amount(world, price, currency).unwrap_or(0);
    let product = price["product"]
        .as_str()
        .and_then(|product| world.find(product))
        .map_or("", |product| product["name"].as_str().unwrap_or_default());
    let (amount, start, description) = match part {
        Part::Period => (unit * quantity, item["current_period_start"].clone(), format!("{quantity} × {product}")),
        Part::Trial => (0, item["current_period_start"].clone(), format!("Trial period for {product}")),
        Part::Proration { amount, at } if amount < 0 => (amount, json!(at), format!("Unused time on {product}")),
        Part::Proration { amount, at } => (amount, json!(at), format!("Remaining time on {product}")),
    };
    let proration = matches!(part, Part::Proration { .. });
    json!({
        "id": new_id("il_"), "object": "line_item", "amount": amount, "currency": currency,
        "description": description, "discount_amounts": [], "discountable": !proration, "discounts": [],
        "invoice": null, "livemode": false, "metadata": {},
        "parent": {
            "invoice_item_details": null,
            "subscription_item_details": {
                "invoice_item": null, "proration": proration,
                "proration_details": {"credited_items": null},
                "subscription": item["subscription"], "subscription_item": item["id"],
            },
            "type": "subscription_item_details",
        },
        "period": {"start": start, "end": item["current_period_end"]}, "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details", "unit_amount_decimal": unit.to_string(),
        },
        "quantity": quantity, "quantity_decimal": quantity.to_string(), "subscription": item["subscription"],
        "subtotal": amount, "taxes": [],
    })
}
