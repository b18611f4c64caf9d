//! The webhook door: what is signed comes in once, everything else stays out and leaves nothing behind.
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use house::{Customer, House, HouseOptions, OrderForm};
use serde_json::json;
use sha2::Sha256;

use crate::{
    shop::{SOON, open, open_with, until},
    world::vendors,
};

pub(crate) fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()).expect("fits")
}

fn sign(secret: &str, at: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length");
    mac.update(format!("{at}.{body}").as_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |hex, byte| hex + format!("{byte:02x}").as_str())
}

pub(crate) fn header(secret: &str, at: i64, body: &str) -> String {
    format!("t={at},v1={}", sign(secret, at, body))
}

pub(crate) fn event(id: &str, kind: &str) -> String {
    json!({
        "id": id, "object": "event", "type": kind, "created": 1_790_000_000, "livemode": false,
        "data": {"object": {"id": "obj_1", "object": "thing", "metadata": {}}}
    })
    .to_string()
}

async fn post(house: &House, signature: Option<&str>, body: impl Into<reqwest::Body>) -> u16 {
    let mut request = reqwest::Client::new().post(house.url().join("/webhooks/stripe/").expect("a path")).body(body);
    if let Some(signature) = signature {
        request = request.header("Stripe-Signature", signature);
    }
    request.send().await.expect("an answer").status().as_u16()
}

async fn stored(house: &House, id: &str) -> Option<String> {
    sqlx::query_scalar("select state from payment_events where id = $1")
        .bind(id)
        .fetch_optional(house.db())
        .await
        .expect("the inbox")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_is_not_signed_by_stripe_is_refused_and_leaves_nothing() {
    let house = open("webhook-refused").await;
    let secret = house.stripe_webhook_secret();
    let (body, other) = (event("evt_bad", "invoice.paid"), event("evt_other", "invoice.paid"));
    let at = now();
    let good = sign(secret, at, &body);
    let cases: Vec<(&str, Option<String>)> = vec![
        ("no header", None),
        ("empty header", Some(String::new())),
        ("nonsense", Some("nonsense".into())),
        ("only a time", Some(format!("t={at}"))),
        ("only a signature", Some(format!("v1={good}"))),
        ("empty signature", Some(format!("t={at},v1="))),
        ("half a signature", Some(format!("t={at},v1={}", &good[..32]))),
        ("not hex", Some(format!("t={at},v1={}", "zz".repeat(32)))),
        ("v0 only", Some(format!("t={at},v0={good}"))),
        ("another secret", Some(header("whsec_somebody_else", at, &body))),
        ("another body", Some(header(secret, at, &other))),
        ("301 s old", Some(header(secret, at - 301, &body))),
        ("six minutes ahead", Some(header(secret, at + 360, &body))),
        ("an hour old", Some(header(secret, at - 3600, &body))),
        ("a day ahead", Some(header(secret, at + 86_400, &body))),
        ("time moved after signing", Some(format!("t={},v1={good}", at - 1))),
        ("negative time", Some(header(secret, -1, &body))),
        ("time not a number", Some(format!("t=now,v1={good}"))),
        ("time too large", Some(format!("t=99999999999999999999,v1={good}"))),
        ("two times, the second right", Some(format!("t=1,t={at},v1={}", sign(secret, 1, &other)))),
        ("several wrong signatures", Some(format!("t={at},v1={0},v1={0}", "00".repeat(32)))),
        ("upper-case scheme", Some(format!("T={at},V1={good}"))),
    ];
    assert!(cases.len() >= 20);
    for (case, signature) in cases {
        assert_eq!(post(&house, signature.as_deref(), body.clone()).await, 400, "{case}");
    }
    for (case, body) in [("empty body", String::new()), ("not JSON", "{".into()), ("no id", "{\"type\":\"x\"}".into())]
    {
        assert_eq!(post(&house, Some(&header(secret, at, &body)), body).await, 400, "{case}");
    }
    let rows: i64 = sqlx::query_scalar(
        "select count(*) from payment_events where id in ('evt_bad', 'evt_other') or type in ('invoice.paid', 'x')",
    )
    .fetch_one(house.db())
    .await
    .expect("rows");
    assert_eq!(rows, 0, "a refused webhook was stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_webhook_is_stored_once_within_the_tolerance_and_during_a_rotation() {
    let house = open_with(
        HouseOptions::named("webhook-taken")
            .with("STRIPE_WEBHOOK_SECRET", "whsec_the_old_secret_000,whsec_the_new_secret_111"),
    )
    .await;
    let at = now();
    let body = |id: &str| event(id, "some.unknown_type");
    let sent = |id: &str, skew: i64, secret: &str| (id.to_owned(), header(secret, at + skew, &body(id)));
    let (old, new) = ("whsec_the_old_secret_000", "whsec_the_new_secret_111");
    let mut cases =
        vec![sent("evt_1", 0, old), sent("evt_2", 0, new), sent("evt_3", -290, new), sent("evt_4", 299, new)];
    let both = body("evt_5");
    cases
        .push(("evt_5".into(), format!("t={at},v1={},v1={},v0=abc", sign("whsec_x", at, &both), sign(new, at, &both))));
    for (id, signature) in cases {
        for time in 1..=2 {
            assert_eq!(post(&house, Some(&signature), body(&id)).await, 200, "{id}, time {time}");
        }
        let state = until("an unknown type is ignored", SOON, || async {
            stored(&house, &id).await.filter(|state| state != "received")
        })
        .await;
        assert_eq!(state, "ignored", "{id}");
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from payment_events where type = 'some.unknown_type'")
        .fetch_one(house.db())
        .await
        .expect("rows");
    assert_eq!(rows, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_one_mebibyte_is_refused() {
    let house = open("webhook-large").await;
    let body = "x".repeat(1024 * 1024 + 1);
    let signature = header(house.stripe_webhook_secret(), now(), &body);
    assert_eq!(post(&house, Some(&signature), body).await, 413);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_fact_under_two_event_ids_told_many_times_has_one_effect() {
    let house = open("webhook-one-fact").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    house.stripe().post("/_control/webhooks", json!({"duplicate": 3, "shuffle": true})).await.expect("a rough post");
    let page = customer.buy(&OrderForm::small("one-fact")).await.expect("buying");
    customer.wait_until_page_says(page.as_str(), "delivered", SOON).await.expect("delivery");
    let (order, session): (uuid::Uuid, String) =
        sqlx::query_as("select id, stripe_session_id from orders").fetch_one(house.db()).await.expect("the order");
    for id in ["evt_same_fact_1", "evt_same_fact_2"] {
        let body = json!({
            "id": id, "object": "event", "type": "checkout.session.completed", "created": 1_790_000_000, "livemode": false,
            "data": {"object": {"id": session, "object": "checkout.session", "metadata": {"order": order}}}
        })
        .to_string();
        for _ in 0..2 {
            assert_eq!(
                post(&house, Some(&header(house.stripe_webhook_secret(), now(), &body)), body.clone()).await,
                200
            );
        }
        until("it is handled", SOON, || async { stored(&house, id).await.filter(|state| state == "handled") }).await;
    }
    let world = vendors(&house).await;
    assert_eq!(world.machines.len(), 1);
    assert_eq!(world.money["charges"].len(), 1);
    assert_eq!(world.money["subscriptions"].len(), 1);
    assert_eq!(customer.mailbox().letters(&customer.email, "ready").await.expect("letters").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_nobody_claims_is_shown_to_staff_and_driven_on_when_told_again() {
    let house = open("webhook-unclaimed").await;
    let body = json!({
        "id": "evt_lost", "object": "event", "type": "customer.subscription.updated", "created": now(), "livemode": false,
        "data": {"object": {"id": "sub_nobody", "object": "subscription", "metadata": {}}}
    })
    .to_string();
    let secret = house.stripe_webhook_secret().to_owned();
    assert_eq!(post(&house, Some(&header(&secret, now(), &body)), body.clone()).await, 200);
    let tried = until("the inbox tries the event", SOON, || async {
        let tried: i32 = sqlx::query_scalar("select attempts from payment_events where id = 'evt_lost'")
            .fetch_one(house.db())
            .await
            .expect("the row");
        (tried > 0).then_some(tried)
    })
    .await;
    assert!(tried > 0);
    sqlx::query("update payment_events set attempts = 100, next_attempt_at = now() where id = 'evt_lost'")
        .execute(house.db())
        .await
        .expect("time passes");
    until("staff's turn", SOON, || async { stored(&house, "evt_lost").await.filter(|s| s == "unclaimed") }).await;
    assert_eq!(post(&house, Some(&header(&secret, now(), &body)), body).await, 200);
    let state = stored(&house, "evt_lost").await.expect("still there");
    assert!(state == "received" || state == "unclaimed", "{state}");
}
