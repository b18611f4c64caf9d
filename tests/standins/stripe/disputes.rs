//! Disputes: a bank takes a payment back until it is decided who is right.

use serde_json::{Value, json};

use super::forms::{merge_metadata, only, text};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World, new_id};

const KIND: &str = "dispute";
const FEE_MINOR: i64 = 1500;
const EVIDENCE_WITHIN_SECS: i64 = 9 * 86_400;
const EVIDENCE: &[&str] = &[
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
];

/// How a dispute goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The bank looks at the evidence.
    UnderReview,
    /// The money comes back.
    Won,
    /// The money is gone.
    Lost,
}

/// A customer's bank disputes a charge, or a part of it; gives the dispute.
///
/// Events: `charge.dispute.created`, `charge.dispute.funds_withdrawn`.
pub(super) fn open(world: &mut World, charge: &str, reason: &str, amount: Option<i64>) -> Answer {
    let found = world.copy("charge", charge)?;
    if found["paid"] != true || found["disputed"] == true {
        return Err(Refusal::state("Only a paid charge that is not disputed yet can be disputed."));
    }
    let left = found["amount"].as_i64().unwrap_or(0) - found["amount_refunded"].as_i64().unwrap_or(0);
    let amount = amount.unwrap_or(left);
    if !(1..=left).contains(&amount) {
        return Err(Refusal::invalid("That is more than is left of the charge.", "amount"));
    }
    let id = new_id("du_");
    let now = world.now();
    let mut evidence = json!({"enhanced_evidence": {}});
    for field in EVIDENCE {
        evidence[*field] = Value::Null;
    }
    world.insert(json!({
        "id": id, "object": KIND, "amount": amount,
        "balance_transactions": [movement(&found, &id, -amount, FEE_MINOR, now)],
        "charge": charge, "created": now, "currency": found["currency"], "enhanced_eligibility_types": [],
        "evidence": evidence,
        "evidence_details": {
            "due_by": now + EVIDENCE_WITHIN_SECS, "enhanced_eligibility": {}, "has_evidence": false,
            "past_due": false, "submission_count": 0,
        },
        "is_charge_refundable": false, "livemode": false, "metadata": {}, "payment_intent": found["payment_intent"],
        "payment_method_details": {
            "card": {"brand": "visa", "case_type": "chargeback", "network": "visa", "network_reason_code": "10.4"}, "type": "card",
        },
        "reason": reason, "status": "needs_response",
    }));
    world.get_mut("charge", charge)?["disputed"] = json!(true);
    world.emit(KIND, &id, "charge.dispute.created", None);
    world.emit(KIND, &id, "charge.dispute.funds_withdrawn", None);
    world.copy(KIND, &id)
}

fn movement(charge: &Value, dispute: &str, amount: i64, fee: i64, now: i64) -> Value {
    json!({
        "id": new_id("txn_"), "object": "balance_transaction", "amount": amount, "available_on": now,
        "balance_type": "payments", "created": now, "currency": charge["currency"],
        "description": format!("Chargeback of {}", charge["id"].as_str().unwrap_or_default()), "exchange_rate": null,
        "fee": fee, "fee_details": [], "net": amount - fee,
        "reporting_category": if amount < 0 { "dispute" } else { "dispute_reversal" }, "source": dispute,
        "status": "available", "type": "adjustment",
    })
}

/// Moves a dispute on.
///
/// Events: `charge.dispute.updated`; when decided `charge.dispute.closed`, and `charge.dispute.funds_reinstated` when won.
pub(super) fn decide(world: &mut World, id: &str, verdict: Verdict) -> Answer {
    let before = world.copy(KIND, id)?;
    if ["won", "lost"].iter().any(|status| before["status"] == *status) {
        return Err(Refusal::state("This dispute is closed."));
    }
    let now = world.now();
    let charge = world.copy("charge", before["charge"].as_str().unwrap_or_default())?;
    let previous = json!({"status": before["status"]});
    let row = world.get_mut(KIND, id)?;
    match verdict {
        Verdict::UnderReview => {
            row["status"] = json!("under_review");
            world.emit(KIND, id, "charge.dispute.updated", Some(previous));
        }
        Verdict::Lost => {
            row["status"] = json!("lost");
            world.emit(KIND, id, "charge.dispute.closed", Some(previous));
        }
        Verdict::Won => {
            row["status"] = json!("won");
            let back = movement(&charge, id, before["amount"].as_i64().unwrap_or(0), -FEE_MINOR, now);
            if let Some(list) = row["balance_transactions"].as_array_mut() {
                list.push(back);
            }
            world.emit(KIND, id, "charge.dispute.closed", Some(previous));
            world.emit(KIND, id, "charge.dispute.funds_reinstated", None);
        }
    }
    world.copy(KIND, id)
}

/// `POST /v1/disputes/{id}`. Event: `charge.dispute.updated`.
pub(super) fn update(world: &mut World, call: &Call, id: &str) -> Answer {
    only(&call.params, &["evidence", "metadata", "submit"])?;
    let row = world.get_mut(KIND, id)?;
    for (field, value) in call.params["evidence"].as_object().into_iter().flatten() {
        row["evidence"][field.as_str()] = value.clone();
        row["evidence_details"]["has_evidence"] = json!(true);
    }
    if call.params.get("evidence").is_some() && text(&call.params, "submit") != Some("false") {
        row["status"] = json!("under_review");
        row["evidence_details"]["submission_count"] =
            json!(row["evidence_details"]["submission_count"].as_i64().unwrap_or(0) + 1);
    }
    merge_metadata(row, call.params.get("metadata"));
    world.emit(KIND, id, "charge.dispute.updated", Some(json!({})));
    world.copy(KIND, id)
}

/// Whether a bank holds a charge, or has taken it.
pub(super) fn holds(world: &World, charge: &str) -> bool {
    world.all(KIND).any(|row| row["charge"] == charge && row["status"] != "won")
}

/// `GET /v1/disputes`.
pub(super) fn list(world: &World, call: &Call) -> Answer {
    let params = &call.params;
    only(params, &["charge", "payment_intent", "created", "limit", "starting_after", "ending_before"])?;
    let charge = text(params, "charge");
    let intent = text(params, "payment_intent");
    world.list(KIND, call, |row| {
        charge.is_none_or(|charge| row["charge"] == charge)
            && intent.is_none_or(|intent| row["payment_intent"] == intent)
    })
}
