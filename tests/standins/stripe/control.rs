//! The control API: what there is, the clock, how events are delivered; the module above lists its calls.

use std::io::ErrorKind;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::refusal::{Answer, Refusal};
use super::webhooks::{self, ConductChange, Shape};
use super::world::World;
use super::{App, billing, events};

const DELIVERIES_MAX: usize = 5_000;

/// Routes under `/_control`.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/_control/state", get(state))
        .route("/_control/mock_refusals", get(mock_refusals).delete(forget_refusals))
        .route("/_control/webhooks", post(set_webhooks))
        .route("/_control/webhooks/resend", post(resend))
        .route("/_control/webhooks/deliver", post(deliver))
        .route("/_control/webhooks/pending", get(pending))
        .route("/_control/webhooks/pending", delete(forget_pending))
        .route("/_control/quiet", post(set_quiet))
        .route("/_control/events/{id}/restate", post(restate))
        .route("/_control/idempotency_keys", delete(forget_keys))
        .route("/_control/clock", get(clock).post(set_clock))
        .with_state(app)
}

/// An answer of the control API.
pub(super) fn respond(answer: Answer) -> Response {
    match answer {
        Ok(body) => Json(body).into_response(),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
            (status, Json(refusal.body())).into_response()
        }
    }
}

/// The JSON of a body that may be empty.
pub(super) fn given(body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(body).map_err(|error| Refusal::state(error.to_string()))
}

async fn state(State(app): State<Arc<App>>) -> Json<Value> {
    let world = app.world();
    let rows = |kind: &str| world.all(kind).cloned().collect::<Vec<Value>>();
    Json(json!({
        "now": world.clock(),
        "month_secs": world.month_secs,
        "customers": rows("customer"),
        "products": rows("product"),
        "prices": rows("price"),
        "sessions": rows("checkout.session"),
        "subscriptions": rows("subscription"),
        "invoices": rows("invoice"),
        "payment_intents": rows("payment_intent"),
        "charges": rows("charge"),
        "refunds": rows("refund"),
        "events": rows("event"),
        "balance_transactions": rows("customer_balance_transaction"),
        "schedules": rows("subscription_schedule"),
        "coupons": rows("coupon"),
        "promotion_codes": rows("promotion_code"),
        "discounts": rows("discount"),
        "disputes": rows("dispute"),
        "tax_ids": rows("tax_id"),
        "deleted_customers": rows("deleted_customer"),
        "payments": payments_by_invoice(&world),
    }))
}

/// One row for each invoice: its period and the charges that took money for it.
fn payments_by_invoice(world: &World) -> Vec<Value> {
    let paid_charges = |intents: &[&str]| -> Vec<&Value> {
        world
            .all("charge")
            .filter(|charge| charge["paid"] == true)
            .filter(|charge| charge["payment_intent"].as_str().is_some_and(|id| intents.contains(&id)))
            .collect()
    };
    world
        .all("invoice")
        .map(|invoice| {
            let intents: Vec<&str> = world
                .all("invoice_payment")
                .filter(|payment| payment["invoice"] == invoice["id"])
                .filter_map(|payment| payment["payment"]["payment_intent"].as_str())
                .collect();
            let charges = paid_charges(&intents);
            let sum = |field: &str| -> i64 { charges.iter().filter_map(|row| row[field].as_i64()).sum() };
            json!({
                "invoice": invoice["id"], "status": invoice["status"],
                "customer": invoice["customer"],
                "subscription": invoice["parent"]["subscription_details"]["subscription"],
                "billing_reason": invoice["billing_reason"],
                "period_start": invoice["period_start"], "period_end": invoice["period_end"],
                "amount_due": invoice["amount_due"], "paid_charges": charges.len(),
                "charged": sum("amount"), "refunded": sum("amount_refunded"),
            })
        })
        .collect()
}

async fn mock_refusals(State(app): State<Arc<App>>) -> Response {
    if app.mock_url.is_none() {
        return (StatusCode::CONFLICT, "nothing is shown to stripe-mock: there is no --mock-url").into_response();
    }
    Json(json!(*app.mock_refusals())).into_response()
}

async fn forget_refusals(State(app): State<Arc<App>>) -> Response {
    app.mock_refusals().clear();
    match app.mock_refusals_file.as_ref().map(std::fs::remove_file) {
        Some(Err(error)) if error.kind() != ErrorKind::NotFound => {
            (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn set_webhooks(State(app): State<Arc<App>>, Json(change): Json<ConductChange>) -> Json<Value> {
    Json(app.world().outbox.change(&change))
}

async fn set_quiet(State(app): State<Arc<App>>, Json(asked): Json<Value>) -> Response {
    respond(match asked["quiet"].as_bool() {
        Some(quiet) => {
            let still = asked["still"].as_bool().unwrap_or(quiet);
            let mut world = app.world();
            (world.quiet, world.still) = (quiet, still);
            Ok(json!({"quiet": quiet, "still": still}))
        }
        None => Err(Refusal::missing_parameter("quiet")),
    })
}

async fn pending(State(app): State<Arc<App>>) -> Json<Value> {
    Json(app.world().outbox.describe())
}

async fn resend(State(app): State<Arc<App>>, Json(asked): Json<Value>) -> Response {
    let mut world = app.world();
    let id = asked["event_id"].as_str().unwrap_or_default();
    let found = world.copy("event", id);
    if found.is_ok() {
        world.outbox.push(id.to_owned());
    }
    respond(found)
}

async fn forget_pending(State(app): State<Arc<App>>) -> Json<Value> {
    Json(app.world().outbox.forget())
}

async fn forget_keys(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({"forgotten": app.keys().forget()}))
}

async fn restate(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    respond(events::restate(&mut app.world(), &id))
}

/// Posts events one after the other, each once, and says what was answered.
async fn deliver(State(app): State<Arc<App>>, Json(asked): Json<Value>) -> Response {
    let Some(ids) = asked["events"].as_array().filter(|ids| ids.len() <= DELIVERIES_MAX) else {
        return respond(Err(Refusal::missing_parameter("events")));
    };
    let shape = match asked.get("shape").map(|word| serde_json::from_value::<Shape>(word.clone())) {
        None => app.world().outbox.shape(),
        Some(Ok(shape)) => shape,
        Some(Err(_)) => return respond(Err(Refusal::invalid("shape is legacy or current", "shape"))),
    };
    let mut delivered = Vec::new();
    for id in ids.iter().filter_map(Value::as_str) {
        if let Err(refusal) = app.world().copy("event", id) {
            return respond(Err(refusal));
        }
        let outcome = webhooks::post(&app, id, shape).await;
        delivered.push(json!({"event_id": id, "acknowledged": outcome.is_ok(), "why_not": outcome.err()}));
    }
    respond(Ok(json!({"delivered": delivered})))
}

async fn clock(State(app): State<Arc<App>>) -> Json<Value> {
    let world = app.world();
    Json(json!({"now": world.clock(), "month_secs": world.month_secs, "draft_secs": world.draft_secs}))
}

async fn set_clock(State(app): State<Arc<App>>, Json(asked): Json<Value>) -> Response {
    let mut world = app.world();
    let result = (|| {
        match asked.get("month_secs") {
            None => {}
            Some(Value::Null) => world.month_secs = None,
            Some(given) => match given.as_i64() {
                Some(secs) if secs > 0 => world.month_secs = Some(secs),
                _ => return Err(Refusal::invalid("month_secs is a number above 0, or null", "month_secs")),
            },
        }
        if let Some(given) = asked.get("advance_secs") {
            let secs = given
                .as_i64()
                .filter(|secs| *secs >= 0)
                .ok_or_else(|| Refusal::invalid("advance_secs is a number of at least 0", "advance_secs"))?;
            world.advance(secs);
        }
        if let Some(given) = asked.get("draft_secs") {
            let secs = given.as_i64().filter(|secs| *secs >= 0);
            world.draft_secs =
                secs.ok_or_else(|| Refusal::invalid("draft_secs is a number of at least 0", "draft_secs"))?;
        }
        billing::bill_due(&mut world)?;
        Ok(json!({"now": world.clock(), "month_secs": world.month_secs, "draft_secs": world.draft_secs}))
    })();
    respond(result)
}
