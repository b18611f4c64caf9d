//! The endpoints of invoices.

use serde_json::{Value, json};

use super::forms::{boolean, merge_metadata, only, text};
use super::invoices::{self, payment_of};
use super::payments::Outcome;
use super::refusal::{Answer, Refusal};
use super::world::{Call, World};
use super::{balance, payments, pending_update, subscriptions};

/// `POST /v1/invoices/{id}/pay`.
pub(super) fn pay(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["paid_out_of_band", "payment_method", "off_session", "forgive"])?;
    let invoice = world.copy("invoice", id)?;
    match invoice["status"].as_str() {
        Some("paid") => return Err(Refusal::state("Invoice is already paid")),
        Some("draft") => invoices::finalize(world, id)?,
        Some("open" | "uncollectible") => {}
        _ => return Err(Refusal::state("This invoice can't be paid, because it is not open.")),
    }
    if is_processing(world, id) {
        return Err(Refusal::state("This invoice can't be paid, because a payment for it is processing."));
    }
    if boolean(&call.params, "paid_out_of_band")? == Some(true) {
        invoices::mark_paid(world, id, true)?;
        return world.copy("invoice", id);
    }
    match invoices::collect(world, id, false)? {
        Outcome::Paid | Outcome::Processing => world.copy("invoice", id),
        Outcome::NeedsAction => Err(Refusal::needs_action()),
        Outcome::Declined => {
            let customer = invoice["customer"].as_str().unwrap_or_default();
            Err(Refusal::card_declined(world.cards.get(customer).map_or("generic_decline", |card| card.decline_code())))
        }
    }
}

fn is_processing(world: &World, id: &str) -> bool {
    payment_of(world, id)
        .and_then(|(_, intent)| world.find(&intent).cloned())
        .is_some_and(|intent| intent["status"] == "processing")
}

/// `POST /v1/invoices/{id}/finalize`: only a draft.
pub(super) fn finalize(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["auto_advance"])?;
    if world.get("invoice", id, "id")?["status"] != "draft" {
        return Err(Refusal::state("This invoice is already finalized, you can't re-finalize a non-draft invoice."));
    }
    invoices::finalize(world, id)?;
    world.copy("invoice", id)
}

/// `POST /v1/invoices/{id}/void`: only an open or uncollectible invoice.
pub(super) fn void(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &[])?;
    let invoice = world.copy("invoice", id)?;
    if !["open", "uncollectible"].iter().any(|status| invoice["status"] == *status) {
        let message = format!(
            "You can only pass in open invoices. This invoice isn't open: it is {}.",
            invoice["status"].as_str().unwrap_or_default()
        );
        return Err(Refusal::state(message));
    }
    if is_processing(world, id) {
        return Err(Refusal::state("You cannot void an invoice while a payment for it is processing."));
    }
    void_now(world, id)?;
    pending_update::discard_of_invoice(world, id)?;
    world.copy("invoice", id)
}

/// Voids an invoice: its payment is cancelled, credit that was used on it is given back.
pub(super) fn void_now(world: &mut World, id: &str) -> Result<(), Refusal> {
    let now = world.now();
    let row = world.get_mut("invoice", id)?;
    row["status"] = json!("void");
    row["auto_advance"] = json!(false);
    row["status_transitions"]["voided_at"] = json!(now);
    let invoice = row.clone();
    if let Some((payment, intent)) = payment_of(world, id) {
        let row = world.get_mut("invoice_payment", &payment)?;
        row["status"] = json!("canceled");
        row["status_transitions"]["canceled_at"] = json!(now);
        payments::cancel(world, &intent)?;
    }
    balance::unapply(world, &invoice)?;
    world.emit("invoice", id, "invoice.voided", None);
    subscriptions::payment_settled(world, &invoice);
    Ok(())
}

/// `POST /v1/invoices/{id}/mark_uncollectible`: only an open invoice.
pub(super) fn mark_uncollectible(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &[])?;
    if world.get("invoice", id, "id")?["status"] != "open" {
        return Err(Refusal::state("You can only mark open invoices as uncollectible."));
    }
    write_off(world, id)?;
    world.copy("invoice", id)
}

/// Gives an invoice up as uncollectible; it may still be paid.
pub(super) fn write_off(world: &mut World, id: &str) -> Result<(), Refusal> {
    let now = world.now();
    let row = world.get_mut("invoice", id)?;
    row["status"] = json!("uncollectible");
    row["auto_advance"] = json!(false);
    row["status_transitions"]["marked_uncollectible_at"] = json!(now);
    world.emit("invoice", id, "invoice.marked_uncollectible", None);
    Ok(())
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

/// `GET /v1/invoices/{id}/lines`, in one page.
pub(super) fn lines(world: &World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["limit", "starting_after", "ending_before"])?;
    let found = world.copy("invoice", id)?["lines"].take();
    if text(&call.params, "starting_after").is_some() {
        return Ok(json!({"object": "list", "data": [], "has_more": false, "url": found["url"]}));
    }
    Ok(found)
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
    let wanted = |row: &Value| {
        customer.is_none_or(|customer| row["customer"] == customer)
            && status.is_none_or(|status| row["status"] == status)
    };
    match subscription {
        Some(subscription) => world.list_invoices_of(subscription, call, wanted),
        None => world.list("invoice", call, wanted),
    }
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
