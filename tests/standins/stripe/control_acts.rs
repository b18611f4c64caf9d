//! The control API's acts of people and banks: paying, authenticating, disputing; the module above lists its calls.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};

use super::cards::{self, Card};
use super::checkout::Typed;
use super::control::{given, respond};
use super::disputes::Verdict;
use super::refusal::{Answer, Refusal};
use super::subscriptions::Beginning;
use super::world::World;
use super::{App, billing, checkout, customers, disputes, invoices, payments, refunds, subscriptions};

const GOOD_CARD: &str = "4242424242424242";

/// Routes of acts under `/_control`.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/_control/refunds", post(set_refunds))
        .route("/_control/{kind}/{id}/{act}", post(act))
        .with_state(app)
}

async fn act(
    State(app): State<Arc<App>>,
    Path((kind, id, act)): Path<(String, String, String)>,
    body: Bytes,
) -> Response {
    let mut world = app.world();
    let result = given(&body).and_then(|asked| match kind.as_str() {
        "sessions" => on_session(&mut world, &id, &act, &asked),
        "customers" => on_customer(&mut world, &id, &act, &asked),
        "subscriptions" => on_subscription(&mut world, &id, &act),
        "invoices" => on_invoice(&mut world, &id, &act),
        "payment_intents" => on_intent(&mut world, &id, &act),
        "charges" => on_charge(&mut world, &id, &act, &asked),
        "disputes" => on_dispute(&mut world, &id, &act),
        "refunds" => on_refund(&mut world, &id, &act),
        other => Err(Refusal::no_such("kind", other, "id")),
    });
    respond(result)
}

fn no_such_act(act: &str) -> Refusal {
    Refusal::no_such("act", act, "id")
}

/// What a person types on the Checkout page.
fn typed(asked: &Value) -> Typed {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let card = if asked["card"] == false { None } else { text(&asked["card"]).or_else(|| Some(GOOD_CARD.to_owned())) };
    Typed {
        card,
        address: asked.get("address").filter(|address| address.is_object()).cloned(),
        tax_id: text(&asked["tax_id"]["type"]).zip(text(&asked["tax_id"]["value"])),
        promotion_code: text(&asked["promotion_code"]),
        authentication_fails: asked["authenticate"] == false,
    }
}

fn on_session(world: &mut World, id: &str, act: &str, asked: &Value) -> Answer {
    match act {
        "pay" => checkout::pay(world, id, &typed(asked))?,
        "decline" => match checkout::pay(world, id, &Typed::card(cards::DECLINED)) {
            Err(refusal) if refusal.status != 402 => return Err(refusal),
            _ => {}
        },
        "begin" => checkout::begin(world, id, typed(asked))?,
        "finish" => checkout::finish(world, id)?,
        "expire" => return checkout::expire(world, id),
        other => return Err(no_such_act(other)),
    }
    world.copy("checkout.session", id)
}

fn on_customer(world: &mut World, id: &str, act: &str, asked: &Value) -> Answer {
    match act {
        "card" => {
            let card = match (asked["fails"].as_bool(), asked["kind"].as_str()) {
                (Some(fails), None) => Some(if fails { Card::FailsLater } else { Card::Good }),
                (None, Some(kind)) => Card::named(kind),
                _ => None,
            };
            let card = card.ok_or_else(|| {
                Refusal::invalid("give fails, or kind: good, fails, insufficient, authenticate or delayed", "kind")
            })?;
            let method = payments::attach_card(world, id, card)?;
            world.copy("payment_method", &method)
        }
        "no_card" => {
            world.cards.remove(id);
            world.get_mut("customer", id)?["invoice_settings"]["default_payment_method"] = Value::Null;
            world.copy("customer", id)
        }
        "subscriptions" if id == "new" => {
            let customer = customers::new(world, &asked["customer"]);
            begin_by_hand(world, &customer, asked)
        }
        "subscriptions" => begin_by_hand(world, id, asked),
        other => Err(no_such_act(other)),
    }
}

/// A subscription that somebody makes in Stripe's dashboard.
fn begin_by_hand(world: &mut World, customer: &str, asked: &Value) -> Answer {
    let price = asked["price"].as_str().ok_or_else(|| Refusal::missing_parameter("price"))?;
    world.get("price", price, "price")?;
    let known = world.get("customer", customer, "id")?["invoice_settings"]["default_payment_method"].clone();
    let payment_method = match known.as_str() {
        Some(method) => method.to_owned(),
        None => payments::attach_card(world, customer, Card::Good)?,
    };
    let begin = Beginning {
        id: asked["id"].as_str().map(str::to_owned),
        customer: customer.to_owned(),
        items: vec![(price.to_owned(), asked["quantity"].as_i64().unwrap_or(1))],
        metadata: asked.get("metadata").filter(|given| given.is_object()).cloned().unwrap_or_else(|| json!({})),
        payment_method: Some(payment_method),
        extra: json!({}),
        ..Beginning::default()
    };
    let (subscription, _) = subscriptions::begin(world, begin)?;
    world.copy("subscription", &subscription)
}

fn on_subscription(world: &mut World, id: &str, act: &str) -> Answer {
    match act {
        "renew" => billing::renew_now(world, id)?,
        "cancel" => {
            if world.get("subscription", id, "id")?["status"] != "canceled" {
                subscriptions::end(world, id, "cancellation_requested")?;
            }
        }
        other => return Err(no_such_act(other)),
    }
    world.copy("subscription", id)
}

fn on_invoice(world: &mut World, id: &str, act: &str) -> Answer {
    match act {
        "pay" => {
            invoices::collect(world, id, false)?;
        }
        "finalize" => {
            invoices::finalize(world, id)?;
            invoices::collect(world, id, false)?;
        }
        "authenticate" | "fail_authentication" => {
            let (_, intent) = invoices::payment_of(world, id)
                .ok_or_else(|| Refusal::state("There is nothing to pay on this invoice."))?;
            let outcome = payments::authenticate(world, &intent, act == "authenticate")?;
            invoices::intent_moved(world, &intent, outcome)?;
        }
        other => return Err(no_such_act(other)),
    }
    world.copy("invoice", id)
}

fn on_intent(world: &mut World, id: &str, act: &str) -> Answer {
    match act {
        "succeed" => checkout::settle(world, id, true)?,
        "fail" => checkout::settle(world, id, false)?,
        other => return Err(no_such_act(other)),
    }
    world.copy("payment_intent", id)
}

fn on_charge(world: &mut World, id: &str, act: &str, asked: &Value) -> Answer {
    match act {
        "dispute" => {
            disputes::open(world, id, asked["reason"].as_str().unwrap_or("fraudulent"), asked["amount"].as_i64())
        }
        other => Err(no_such_act(other)),
    }
}

fn on_dispute(world: &mut World, id: &str, act: &str) -> Answer {
    match act {
        "review" => disputes::decide(world, id, Verdict::UnderReview),
        "win" => disputes::decide(world, id, Verdict::Won),
        "lose" => disputes::decide(world, id, Verdict::Lost),
        other => Err(no_such_act(other)),
    }
}

fn on_refund(world: &mut World, id: &str, act: &str) -> Answer {
    match act {
        "succeed" => refunds::conclude(world, id, true)?,
        "fail" => refunds::conclude(world, id, false)?,
        other => return Err(no_such_act(other)),
    }
    world.copy("refund", id)
}

async fn set_refunds(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let result = given(&body).and_then(|asked| {
        let word = ["succeeded", "pending", "failed"].into_iter().find(|word| asked["status"] == *word);
        let word = word.ok_or_else(|| Refusal::invalid("status is succeeded, pending or failed", "status"))?;
        app.world().refund_status = word;
        Ok(json!({"status": word}))
    });
    respond(result)
}
