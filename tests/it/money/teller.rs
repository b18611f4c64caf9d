//! Tells the portal of events in the order a test wants, as Stripe's webhooks would: signed, over the wire, until a 200.
use std::collections::BTreeMap;

use house::House;
use serde_json::{Value, json};

use crate::{
    shop::{SOON, until},
    webhook::{header, now},
    world::list,
};

/// Somebody who stands in for Stripe's webhooks, which are held back.
pub(super) struct Teller<'a> {
    pub(super) house: &'a House,
    http: reqwest::Client,
}

impl<'a> Teller<'a> {
    /// Holds the webhooks of a house back and tells in their place.
    pub(super) async fn of(house: &'a House) -> Self {
        house.stripe().post("/_control/webhooks", json!({"paused": true})).await.expect("webhooks wait");
        Self { house, http: reqwest::Client::new() }
    }

    /// Every event Stripe has made so far, oldest first, by the customer it is about.
    pub(super) async fn events(&self) -> BTreeMap<String, Vec<Value>> {
        let state = self.house.stripe().state().await.expect("Stripe");
        let word = |value: &Value| value.as_str().map(str::to_owned);
        let charges = list(&state["charges"]);
        let customers: BTreeMap<String, String> =
            charges.iter().filter_map(|charge| Some((word(&charge["id"])?, word(&charge["customer"])?))).collect();
        let mut by_customer: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for event in list(&state["events"]) {
            let object = &event["data"]["object"];
            let named = if object["object"] == "customer" { &object["id"] } else { &object["customer"] };
            let of_charge = || customers.get(object["charge"].as_str()?).cloned();
            if let Some(customer) = named.as_str().map(str::to_owned).or_else(of_charge) {
                by_customer.entry(customer).or_default().push(event);
            }
        }
        by_customer
    }

    /// Tells of one event and is answered that it is stored.
    pub(super) async fn tell(&self, event: &Value) {
        let body = event.to_string();
        let url = self.house.url().join("/webhooks/stripe/").expect("a path");
        until("the event is taken", SOON, || async {
            let signed = header(self.house.stripe_webhook_secret(), now(), &body);
            let told = self.http.post(url.clone()).header("Stripe-Signature", signed).body(body.clone()).send().await;
            told.is_ok_and(|answer| answer.status().is_success()).then_some(())
        })
        .await;
    }

    /// Tells of one event and waits until somebody was told, or nobody wanted it.
    pub(super) async fn tell_to_the_end(&self, event: &Value) {
        self.tell(event).await;
        let id = event["id"].as_str().expect("an id");
        until("the event is driven on", SOON, || async {
            sqlx::query_scalar::<_, bool>(
                "select state <> 'received' or attempts > 0 from payment_events where id = $1",
            )
            .bind(id)
            .fetch_one(self.house.db())
            .await
            .expect("the event")
            .then_some(())
        })
        .await;
    }
}

/// The same fact under another id.
pub(super) fn restated(event: &Value) -> Value {
    let mut again = event.clone();
    again["id"] = json!(format!("{}again", event["id"].as_str().expect("an id")));
    again
}

/// The payload as it was before the API of 2025-03-31: periods on the subscription, the subscription on the invoice.
pub(super) fn legacy(event: &Value) -> Value {
    let mut old = event.clone();
    old["api_version"] = json!("2025-02-24.acacia");
    let Some(object) = old["data"]["object"].as_object_mut() else { return old };
    if object.get("object") == Some(&json!("subscription")) {
        let period = |field: &str| event["data"]["object"]["items"]["data"][0][field].clone();
        for field in ["current_period_start", "current_period_end"] {
            object.insert(field.to_owned(), period(field));
        }
        for item in object["items"]["data"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            item.retain(|field, _| !field.starts_with("current_period"));
        }
    }
    if let Some(parent) = object.remove("parent") {
        let details = &parent["subscription_details"];
        object.insert("subscription".to_owned(), details["subscription"].clone());
        object.insert("subscription_details".to_owned(), json!({"metadata": details["metadata"]}));
    }
    old
}
