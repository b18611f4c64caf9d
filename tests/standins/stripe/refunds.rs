//! Refunds of charges.

use serde_json::{Value, json};

use super::disputes;
use super::forms::{integer, merge_metadata, only, text};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id};

/// `POST /v1/refunds`: never more than what was charged and not yet given back.
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, &["amount", "charge", "payment_intent", "metadata", "reason"])?;
    let charge = charge_to_refund(world, params)?;
    let charge_id = charge["id"].as_str().unwrap_or_default().to_owned();
    let refunded = charge["amount_refunded"].as_i64().unwrap_or(0);
    let left = charge["amount_captured"].as_i64().unwrap_or(0) - refunded;
    if charge["paid"] != true {
        return Err(Refusal::state("This charge has not been paid and cannot be refunded."));
    }
    if disputes::holds(world, &charge_id) {
        return Err(Refusal::state(format!("Charge {charge_id} has been charged back; cannot issue a refund."))
            .with_code("charge_disputed"));
    }
    if left == 0 {
        return Err(Refusal::state(format!("Charge {charge_id} has already been refunded."))
            .with_code("charge_already_refunded"));
    }
    let amount = integer(params, "amount")?.unwrap_or(left);
    if amount < 1 {
        return Err(Refusal::invalid("This value must be greater than or equal to 1.", "amount")
            .with_code("parameter_invalid_integer"));
    }
    if amount > left {
        return Err(Refusal::invalid(
            format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"),
            "amount",
        ));
    }
    let reason = text(params, "reason");
    if let Some(reason) = reason
        && !["duplicate", "fraudulent", "requested_by_customer"].contains(&reason)
    {
        return Err(Refusal::invalid(
            "Invalid reason: must be one of duplicate, fraudulent, or requested_by_customer",
            "reason",
        ));
    }
    let id = new_id("re_");
    let mut refund = json!({
        "id": id, "object": "refund", "amount": amount, "balance_transaction": new_id("txn_"),
        "charge": charge_id, "created": world.now(), "currency": charge["currency"],
        "customer": charge["customer"], "customer_account": null,
        "destination_details": {"card": {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"}, "type": "card"},
        "metadata": {}, "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"], "reason": reason, "receipt_number": null,
        "source_transfer_reversal": null, "status": world.refund_status, "transfer_reversal": null,
    });
    if refund["status"] == "pending" {
        refund["pending_reason"] = json!("processing");
    }
    merge_metadata(&mut refund, params.get("metadata"));
    world.insert(refund);
    let row = world.get_mut("charge", &charge_id)?;
    row["amount_refunded"] = json!(refunded + amount);
    row["refunded"] = json!(amount == left);
    world.emit("refund", &id, "refund.created", None);
    world.emit("charge", &charge_id, "charge.refunded", Some(json!({"amount_refunded": refunded})));
    if world.refund_status == "failed" {
        conclude(world, &id, false)?;
    }
    world.copy("refund", &id)
}

/// A refund on its way arrives, or comes back, even after it arrived; then the charge is refunded by that much less.
///
/// Events: `refund.updated` and `charge.refund.updated`, and `refund.failed`.
pub(super) fn conclude(world: &mut World, id: &str, arrived: bool) -> Result<(), Refusal> {
    let row = world.get_mut("refund", id)?;
    let previous = json!({"status": row["status"]});
    row["status"] = json!(if arrived { "succeeded" } else { "failed" });
    if let Some(row) = row.as_object_mut() {
        row.remove("pending_reason");
    }
    let refund = row.clone();
    if !arrived {
        let row = world.get_mut("refund", id)?;
        row["failure_reason"] = json!("expired_or_canceled_card");
        row["failure_balance_transaction"] = json!(new_id("txn_"));
        let charge = world.get_mut("charge", refund["charge"].as_str().unwrap_or_default())?;
        let left = charge["amount_refunded"].as_i64().unwrap_or(0) - refund["amount"].as_i64().unwrap_or(0);
        charge["amount_refunded"] = json!(left);
        charge["refunded"] = json!(false);
    }
    world.emit("refund", id, "refund.updated", Some(previous.clone()));
    world.emit("refund", id, "charge.refund.updated", Some(previous));
    if !arrived {
        world.emit("refund", id, "refund.failed", None);
    }
    Ok(())
}

fn charge_to_refund(world: &World, params: &Value) -> Answer {
    match (text(params, "charge"), text(params, "payment_intent")) {
        (Some(charge), None) => world.get("charge", charge, "charge").cloned(),
        (None, Some(intent)) => {
            let found = world.get("payment_intent", intent, "payment_intent")?;
            match found["latest_charge"].as_str() {
                Some(charge) if found["status"] == "succeeded" => world.copy("charge", charge),
                _ => Err(Refusal::state(format!(
                    "This PaymentIntent ({intent}) does not have a successful charge to refund."
                ))),
            }
        }
        _ => Err(Refusal::state(
            "One of the following params should be provided for this request: payment_intent or charge.",
        )
        .with_code("parameter_missing")),
    }
}

/// `POST /v1/refunds/{id}`.
pub(super) fn update(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["metadata"])?;
    merge_metadata(world.get_mut("refund", id)?, call.params.get("metadata"));
    world.emit("refund", id, "refund.updated", Some(json!({})));
    world.copy("refund", id)
}

/// `GET /v1/refunds`.
pub(super) fn list(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, &["charge", "payment_intent", "created", "limit", "starting_after", "ending_before"])?;
    let charge = text(params, "charge");
    let intent = text(params, "payment_intent");
    world.list("refund", call, |row| {
        charge.is_none_or(|charge| row["charge"] == charge)
            && intent.is_none_or(|intent| row["payment_intent"] == intent)
    })
}
