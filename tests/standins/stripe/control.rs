//! The control API; the module above lists its calls.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::refusal::{Answer, Refusal};
use super::webhooks::ConductChange;
use super::world::{Card, World};
use super::{App, billing, checkout, invoices, payments, subscriptions};

const GOOD_CARD: &str = "4242424242424242";

/// Routes under `/_control`.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/_control/state", get(state))
        .route("/_control/mock_refusals", get(mock_refusals).delete(forget_refusals))
        .route("/_control/webhooks", post(set_webhooks))
        .route("/_control/webhooks/resend", post(resend))
        .route("/_control/webhooks/pending", get(pending))
        .route("/_control/clock", get(clock).post(set_clock))
        .route("/_control/sessions/{id}/{act}", post(act_on_session))
        .route("/_control/customers/{id}/card", post(set_card))
        .route("/_control/subscriptions/{id}/{act}", post(act_on_subscription))
        .route("/_control/invoices/{id}/pay", post(pay_invoice))
        .with_state(app)
}

fn respond(answer: Answer) -> Response {
    match answer {
        Ok(body) => Json(body).into_response(),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
            (status, Json(refusal.body())).into_response()
        }
    }
}

fn given(body: &[u8]) -> Result<Value, Refusal> {
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

async fn mock_refusals(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!(*app.mock_refusals()))
}

async fn forget_refusals(State(app): State<Arc<App>>) -> StatusCode {
    app.mock_refusals().clear();
    StatusCode::NO_CONTENT
}

async fn set_webhooks(State(app): State<Arc<App>>, Json(change): Json<ConductChange>) -> Json<Value> {
    Json(app.world().outbox.change(&change))
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

async fn clock(State(app): State<Arc<App>>) -> Json<Value> {
    let world = app.world();
    Json(json!({"now": world.clock(), "month_secs": world.month_secs}))
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
        billing::bill_due(&mut world)?;
        Ok(json!({"now": world.clock(), "month_secs": world.month_secs}))
    })();
    respond(result)
}

async fn act_on_session(
    State(app): State<Arc<App>>,
    Path((id, act)): Path<(String, String)>,
    body: axum::body::Bytes,
) -> Response {
    let mut world = app.world();
    let result = given(&body).and_then(|asked| match act.as_str() {
        "pay" => {
            checkout::pay(&mut world, &id, asked["card"].as_str().unwrap_or(GOOD_CARD))?;
            world.copy("checkout.session", &id)
        }
        "decline" => match checkout::pay(&mut world, &id, checkout::DECLINED_CARD) {
            Err(refusal) if refusal.status != 402 => Err(refusal),
            _ => world.copy("checkout.session", &id),
        },
        "expire" => checkout::expire(&mut world, &id),
        other => Err(Refusal::no_such("act", other, "id")),
    });
    respond(result)
}

async fn set_card(State(app): State<Arc<App>>, Path(id): Path<String>, Json(asked): Json<Value>) -> Response {
    let Some(fails) = asked["fails"].as_bool() else {
        return respond(Err(Refusal::missing_parameter("fails")));
    };
    let card = if fails { Card::FailsLater } else { Card::Good };
    let mut world = app.world();
    let attached = payments::attach_card(&mut world, &id, card);
    respond(attached.and_then(|method| world.copy("payment_method", &method)))
}

async fn act_on_subscription(State(app): State<Arc<App>>, Path((id, act)): Path<(String, String)>) -> Response {
    let mut world = app.world();
    let done = match act.as_str() {
        "renew" => billing::renew_now(&mut world, &id),
        "cancel" => world.copy("subscription", &id).and_then(|found| {
            if found["status"] == "canceled" {
                return Ok(());
            }
            subscriptions::end(&mut world, &id, "cancellation_requested")
        }),
        other => Err(Refusal::no_such("act", other, "id")),
    };
    respond(done.and_then(|()| world.copy("subscription", &id)))
}

async fn pay_invoice(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    let mut world = app.world();
    let collected = invoices::collect(&mut world, &id, false);
    respond(collected.and_then(|_| world.copy("invoice", &id)))
}
