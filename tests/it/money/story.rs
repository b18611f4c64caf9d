//! What happens to money at Stripe, done there as a customer, a bank or a person at the dashboard would do it.
use house::{Customer, House};
use serde_json::{Value, json};

use crate::{
    buyers::{self, Answer},
    shop::{SOON, until},
    world::count,
};

/// Something bought: the order, and what Stripe made for it.
#[derive(Clone, Debug)]
pub(crate) struct Bought {
    pub(crate) order: uuid::Uuid,
    pub(crate) customer: String,
    pub(crate) subscription: String,
}

/// Orders and pays; gives what Stripe made of it.
pub(crate) async fn buy(house: &House, customer: &Customer, hostname: &str) -> Bought {
    let session = open_page(customer, hostname).await;
    pay(house, &session).await
}

/// Orders, and gives the payment page's session.
pub(super) async fn open_page(customer: &Customer, hostname: &str) -> String {
    let form = buyers::form(customer).await;
    match buyers::order(customer, form, hostname).await {
        Answer::Pay(page) => buyers::session(&page),
        other => panic!("{hostname}: no payment page, but {other:?}"),
    }
}

/// Pays a session with a good card.
pub(super) async fn pay(house: &House, session: &str) -> Bought {
    let paid = act(house, &format!("sessions/{session}/pay"), json!({})).await;
    Bought {
        order: word(&paid["client_reference_id"]).parse().expect("our order"),
        customer: word(&paid["customer"]),
        subscription: word(&paid["subscription"]),
    }
}

/// A call of the stand-in's control API.
pub(crate) async fn act(house: &House, path: &str, body: Value) -> Value {
    house.stripe().post(&format!("/_control/{path}"), body).await.unwrap_or_else(|fault| panic!("{path}: {fault:?}"))
}

/// A write at Stripe by somebody who is not us: staff at the dashboard.
pub(crate) async fn at_dashboard(house: &House, path: &str, form: &[(&str, &str)]) -> Value {
    tried_at_dashboard(house, path, form).await.unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// The same, which Stripe may refuse. An answer that is lost is asked for once more, under the same key.
pub(super) async fn tried_at_dashboard(house: &House, path: &str, form: &[(&str, &str)]) -> Result<Value, String> {
    let key = house.setting("STRIPE_SECRET_KEY").expect("a key");
    let url = house.stripe().base().join(path).expect("a path");
    let http = reqwest::Client::new();
    let once = uuid::Uuid::new_v4().to_string();
    let send = || http.post(url.clone()).bearer_auth(key).header("Idempotency-Key", &once).form(form).send();
    let answer = match send().await {
        Ok(answer) => answer,
        Err(_) => send().await.expect("an answer"),
    };
    let (status, text) = (answer.status(), answer.text().await.expect("a body"));
    if !status.is_success() {
        return Err(format!("{path}: {status} {text}"));
    }
    Ok(serde_json::from_str(&text).expect("JSON"))
}

/// A deletion at Stripe by somebody who is not us.
pub(super) async fn deleted_at_dashboard(house: &House, path: &str) {
    let key = house.setting("STRIPE_SECRET_KEY").expect("a key");
    let url = house.stripe().base().join(path).expect("a path");
    let send = || reqwest::Client::new().delete(url.clone()).bearer_auth(key).send();
    let answer = match send().await {
        Ok(answer) => answer,
        // Its answer was lost; what is gone already is gone.
        Err(_) => send().await.expect("an answer"),
    };
    let (status, text) = (answer.status(), answer.text().await.expect("a body"));
    assert!(status.is_success() || status == reqwest::StatusCode::NOT_FOUND, "{path}: {status} {text}");
}

/// The newest object of a kind for which `wanted` holds, as Stripe has it.
pub(super) async fn newest(house: &House, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let state = house.stripe().state().await.expect("Stripe");
    let found = crate::world::list(&state[kind]).into_iter().rev().find(|row| wanted(row));
    found.unwrap_or_else(|| panic!("none of {kind} is wanted"))
}

pub(super) fn word(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no word: {value}")).to_owned()
}

/// Waits until Stripe has delivered every webhook.
pub(crate) async fn told(house: &House) {
    until("every webhook is taken", SOON, || async {
        let outbox = house.stripe().get("/_control/webhooks/pending").await.expect("the outbox");
        crate::world::list(&outbox["pending"]).is_empty().then_some(())
    })
    .await;
}

/// Waits until a query that counts gives this number.
pub(crate) async fn becomes(house: &House, what: &str, query: &'static str, number: i64) {
    until(what, SOON * 2, || async { (count(house.db(), query).await == number).then_some(()) }).await;
}

/// Waits until the one subscription of a house is in this phase.
pub(super) async fn phase(house: &House, phase: &str) {
    until(&format!("the subscription is {phase}"), SOON * 2, || async {
        let now: Option<String> = sqlx::query_scalar("select phase from subscriptions")
            .fetch_optional(house.db())
            .await
            .expect("the subscription");
        (now.as_deref() == Some(phase)).then_some(())
    })
    .await;
}
