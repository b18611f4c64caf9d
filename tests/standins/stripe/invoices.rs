//! Invoices: issued for a subscription, paid, voided.
//!
//! Stripe keeps a renewal's invoice in `draft` for about an hour; here it is finalized at once.

use serde_json::{Value, json};

use super::forms::{boolean, merge_metadata, only, text};
use super::payments;
use super::refusal::{Answer, Refusal};
use super::subscriptions;
use super::world::{Call, World, new_id, with_nulls};

/// Issues an open invoice with `lines` (see [`line`]) and the subscription's waiting lines.
///
/// A credit on the customer's balance is used up first; an invoice below zero becomes credit.
/// Gives the invoice's id. Events: `invoice.created`, `invoice.finalized`.
pub(super) fn issue(
    world: &mut World,
    subscription: &Value,
    reason: &str,
    mut lines: Vec<Value>,
) -> Result<String, Refusal> {
    let id = new_id("in_");
    let subscription_id = subscription["id"].as_str().unwrap_or_default();
    let customer_id = subscription["customer"].as_str().unwrap_or_default();
    lines.extend(world.pending_lines.remove(subscription_id).unwrap_or_default());
    for line in &mut lines {
        line["invoice"] = json!(id);
    }
    let total: i64 = lines.iter().filter_map(|line| line["amount"].as_i64()).sum();
    let customer = world.copy("customer", customer_id)?;
    let balance = customer["balance"].as_i64().unwrap_or(0);
    let due = (total + balance).max(0);
    let balance_after = balance + total - due;
    world.get_mut("customer", customer_id)?["balance"] = json!(balance_after);
    let number = world.next_invoice_number();
    let mut invoice = blank(world, &id, &customer, subscription);
    for (field, value) in [
        ("billing_reason", json!(reason)),
        ("number", json!(number)),
        ("amount_due", json!(due)),
        ("amount_remaining", json!(due)),
        ("starting_balance", json!(balance)),
        ("ending_balance", json!(balance_after)),
        ("subtotal", json!(total)),
        ("subtotal_excluding_tax", json!(total)),
        ("total", json!(total)),
        ("total_excluding_tax", json!(total)),
        (
            "lines",
            json!({"object": "list", "data": lines, "has_more": false, "url": format!("/v1/invoices/{id}/lines")}),
        ),
    ] {
        invoice[field] = value;
    }
    world.insert(invoice);
    world.emit("invoice", &id, "invoice.created", None);
    finalize(world, &id)?;
    Ok(id)
}

fn finalize(world: &mut World, id: &str) -> Result<(), Refusal> {
    let now = world.now();
    let url = format!("{}/i/{id}", world.public_url);
    let invoice = world.get_mut("invoice", id)?;
    invoice["status"] = json!("open");
    invoice["effective_at"] = json!(now);
    invoice["hosted_invoice_url"] = json!(url);
    invoice["status_transitions"]["finalized_at"] = json!(now);
    let invoice = invoice.clone();
    if invoice["amount_due"].as_i64().unwrap_or(0) > 0 {
        let intent = payments::new_intent(world, &invoice);
        world.insert(json!({
            "id": new_id("inpay_"), "object": "invoice_payment", "amount_paid": null,
            "amount_requested": invoice["amount_due"], "created": now, "currency": invoice["currency"],
            "invoice": id, "is_default": true, "livemode": false,
            "payment": {"payment_intent": intent, "type": "payment_intent"}, "status": "open",
            "status_transitions": {"canceled_at": null, "paid_at": null},
        }));
    }
    world.emit("invoice", id, "invoice.finalized", None);
    Ok(())
}

fn blank(world: &World, id: &str, customer: &Value, subscription: &Value) -> Value {
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

/// An invoice line for a subscription item: its price for the item's current period, or
/// `amount` as a proration.
pub(super) fn line(world: &World, item: &Value, proration_amount: Option<i64>) -> Value {
    let price = &item["price"];
    let quantity = item["quantity"].as_i64().unwrap_or(1);
    let amount = proration_amount.unwrap_or_else(|| price["unit_amount"].as_i64().unwrap_or(0) * quantity);
    let product = price["product"]
        .as_str()
        .and_then(|product| world.find(product))
        .map_or("", |product| product["name"].as_str().unwrap_or_default());
    let description = match proration_amount {
        None => format!("{quantity} × {product}"),
        Some(credit) if credit < 0 => format!("Unused time on {product}"),
        Some(_) => format!("Remaining time on {product}"),
    };
    let start = if proration_amount.is_some() { json!(world.now()) } else { item["current_period_start"].clone() };
    json!({
        "id": new_id("il_"), "object": "line_item", "amount": amount, "currency": price["currency"],
        "description": description, "discount_amounts": [], "discountable": true, "discounts": [],
        "invoice": null, "livemode": false, "metadata": {},
        "parent": {
            "invoice_item_details": null,
            "subscription_item_details": {
                "invoice_item": null, "proration": proration_amount.is_some(),
                "proration_details": {"credited_items": null},
                "subscription": item["subscription"], "subscription_item": item["id"],
            },
            "type": "subscription_item_details",
        },
        "period": {"start": start, "end": item["current_period_end"]}, "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details", "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": quantity, "quantity_decimal": quantity.to_string(), "subscription": item["subscription"],
        "subtotal": amount, "taxes": [],
    })
}

/// Tries to collect an open invoice; gives whether it is paid now.
///
/// Paid: `invoice.paid`, `invoice.payment_succeeded`, `invoice_payment.paid`, and the
/// subscription of a latest invoice is active again. Declined: `invoice.payment_failed`, and the
/// subscription is past due. A paid invoice is not charged again.
pub(super) fn collect(world: &mut World, id: &str, at_checkout: bool) -> Result<bool, Refusal> {
    let invoice = world.copy("invoice", id)?;
    if invoice["status"] != "open" {
        return Ok(invoice["status"] == "paid");
    }
    let payment = payment_of(world, id);
    let paid = match &payment {
        Some((_, intent)) => payments::charge_intent(world, intent, at_checkout)?,
        None => true,
    };
    let row = world.get_mut("invoice", id)?;
    row["attempted"] = json!(true);
    row["attempt_count"] = json!(row["attempt_count"].as_i64().unwrap_or(0) + 1);
    if paid {
        mark_paid(world, id, false)?;
    } else {
        world.emit("invoice", id, "invoice.payment_failed", None);
        subscriptions::payment_failed(world, &invoice)?;
    }
    Ok(paid)
}

fn mark_paid(world: &mut World, id: &str, out_of_band: bool) -> Result<(), Refusal> {
    let now = world.now();
    let row = world.get_mut("invoice", id)?;
    row["status"] = json!("paid");
    row["amount_paid"] = row["amount_due"].clone();
    row["amount_remaining"] = json!(0);
    row["auto_advance"] = json!(false);
    row["status_transitions"]["paid_at"] = json!(now);
    if out_of_band {
        row["amount_paid_off_stripe"] = row["amount_due"].clone();
    }
    let invoice = row.clone();
    if let Some((payment, intent)) = payment_of(world, id) {
        let row = world.get_mut("invoice_payment", &payment)?;
        if out_of_band {
            row["status"] = json!("canceled");
            row["status_transitions"]["canceled_at"] = json!(now);
            cancel_intent(world, &intent)?;
        } else {
            row["status"] = json!("paid");
            row["amount_paid"] = row["amount_requested"].clone();
            row["status_transitions"]["paid_at"] = json!(now);
            world.emit("invoice_payment", &payment, "invoice_payment.paid", None);
        }
    }
    world.emit("invoice", id, "invoice.paid", None);
    if !out_of_band {
        world.emit("invoice", id, "invoice.payment_succeeded", None);
    }
    subscriptions::payment_settled(world, &invoice)
}

fn cancel_intent(world: &mut World, intent: &str) -> Result<(), Refusal> {
    let now = world.now();
    let row = world.get_mut("payment_intent", intent)?;
    row["status"] = json!("canceled");
    row["canceled_at"] = json!(now);
    row["cancellation_reason"] = json!("void_invoice");
    world.emit("payment_intent", intent, "payment_intent.canceled", None);
    Ok(())
}

/// The invoice's default payment and its payment intent.
fn payment_of(world: &World, invoice: &str) -> Option<(String, String)> {
    let payment = world.all("invoice_payment").rfind(|payment| payment["invoice"] == invoice)?;
    let intent = payment["payment"]["payment_intent"].as_str()?;
    Some((payment["id"].as_str()?.to_owned(), intent.to_owned()))
}

/// `POST /v1/invoices/{id}/pay`.
pub(super) fn pay(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["paid_out_of_band", "payment_method", "off_session", "forgive"])?;
    let status = world.get("invoice", id, "id")?["status"].clone();
    match status.as_str() {
        Some("paid") => return Err(Refusal::state("Invoice is already paid")),
        Some("open") => {}
        _ => return Err(Refusal::state("This invoice can't be paid, because it is not open.")),
    }
    if boolean(&call.params, "paid_out_of_band")? == Some(true) {
        mark_paid(world, id, true)?;
    } else if !collect(world, id, false)? {
        return Err(Refusal::card_declined());
    }
    world.copy("invoice", id)
}

/// `POST /v1/invoices/{id}/void`: only an open invoice.
pub(super) fn void(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &[])?;
    let now = world.now();
    let row = world.get_mut("invoice", id)?;
    if row["status"] != "open" {
        let message = format!(
            "You can only pass in open invoices. This invoice isn't open: it is {}.",
            row["status"].as_str().unwrap_or_default()
        );
        return Err(Refusal::state(message));
    }
    row["status"] = json!("void");
    row["auto_advance"] = json!(false);
    row["status_transitions"]["voided_at"] = json!(now);
    let invoice = row.clone();
    if let Some((payment, intent)) = payment_of(world, id) {
        let row = world.get_mut("invoice_payment", &payment)?;
        row["status"] = json!("canceled");
        row["status_transitions"]["canceled_at"] = json!(now);
        cancel_intent(world, &intent)?;
    }
    world.emit("invoice", id, "invoice.voided", None);
    subscriptions::payment_settled(world, &invoice)?;
    world.copy("invoice", id)
}

/// `POST /v1/invoices/{id}`.
pub(super) fn update(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["metadata", "auto_advance", "description"])?;
    let auto_advance = boolean(&call.params, "auto_advance")?;
    let row = world.get_mut("invoice", id)?;
    if let Some(auto_advance) = auto_advance {
        row["auto_advance"] = json!(auto_advance);
    }
    if let Some(description) = call.params.get("description") {
        row["description"] = description.clone();
    }
    merge_metadata(row, call.params.get("metadata"));
    world.emit("invoice", id, "invoice.updated", Some(json!({})));
    world.copy("invoice", id)
}

/// `GET /v1/invoices`.
pub(super) fn list(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(
        params,
        &[
            "customer",
            "status",
            "subscription",
            "collection_method",
            "created",
            "due_date",
            "limit",
            "starting_after",
            "ending_before",
        ],
    )?;
    let customer = text(params, "customer");
    let status = text(params, "status");
    let subscription = text(params, "subscription");
    world.list("invoice", call, |row| {
        customer.is_none_or(|customer| row["customer"] == customer)
            && status.is_none_or(|status| row["status"] == status)
            && subscription
                .is_none_or(|subscription| row["parent"]["subscription_details"]["subscription"] == subscription)
    })
}

/// `GET /v1/invoice_payments`.
pub(super) fn list_payments(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, &["invoice", "status", "payment", "created", "limit", "starting_after", "ending_before"])?;
    let invoice = text(params, "invoice");
    let status = text(params, "status");
    let intent = text(params, "payment.payment_intent");
    world.list("invoice_payment", call, |row| {
        invoice.is_none_or(|invoice| row["invoice"] == invoice)
            && status.is_none_or(|status| row["status"] == status)
            && intent.is_none_or(|intent| row["payment"]["payment_intent"] == intent)
    })
}
