//! Stripe's published contract is asked about every request: a house in which one breaks it fails its test.
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use crate::{shop::open, world::list};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_stripe_does_not_know_is_refused_and_fails_the_house_it_was_made_in_unless_it_is_forgotten() {
    let house = open("refused-by-mock").await;
    let url = house.stripe().base().join("/v1/customers").expect("an address");
    let key = house.setting("STRIPE_SECRET_KEY").expect("a key").to_owned();
    let http = house.visitor().expect("a browser").http;
    let wrong = async || {
        let form = [("nobody_knows_this", "1")];
        let answer = http.post(url.clone()).bearer_auth(&key).form(&form).send().await.expect("an answer");
        assert!(answer.status().is_client_error(), "{}", answer.status());
    };
    wrong().await;
    let told = list(&house.stripe().get("/_control/mock_refusals").await.expect("the list"));
    assert_eq!(told.len(), 1, "{told:?}");
    house.stripe().delete("/_control/mock_refusals").await.expect("forgotten");
    let told = list(&house.stripe().get("/_control/mock_refusals").await.expect("the list"));
    assert_eq!(told, Vec::<Value>::new());
    let file = house.logs().join("stripe-mock-refusals.log");
    assert!(!file.exists(), "what is forgotten is still written down");
    wrong().await;
    let closed = catch_unwind(AssertUnwindSafe(move || drop(house)));
    let why = closed.expect_err("the house closes as if nothing were wrong");
    let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(why.contains("stripe-mock refused") && why.contains("nobody_knows_this"), "{why}");
}
