//! Cancelling on our own pages: at the end, taken back, and now; by nobody but the customer.
use std::collections::BTreeSet;

use house::{Customer, House, HouseOptions, Page, PolicySecs};
use serde_json::{Value, json};

use super::staff::Held;
use crate::{
    histories,
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, list},
};

async fn at_stripe(house: &House) -> Value {
    list(&house.stripe().state().await.expect("Stripe")["subscriptions"])[0].clone()
}

async fn cancel_page(held: &Held<'_>) -> Page {
    let server = held.customer.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link");
    let server = held.customer.visitor.open(server.as_str()).await.expect("the server's page");
    let link = server.link("/cancel/").expect("a link to its end");
    held.customer.visitor.open(link.as_str()).await.expect("an answer").ok().expect("the page")
}

async fn send(held: &Held<'_>, what: &str, values: &[(&str, &str)]) -> Page {
    let action = format!("/cancel/{what}/");
    held.customer.visitor.submit(&cancel_page(held).await, &action, values).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_cancels_takes_it_back_and_ends_it_now() {
    let policy = PolicySecs { retention: 3, retention_warning: 1, subscription_poll: 2, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("ending") }).await;
    let held = Held::new(&house, "ending-1").await;
    let page = cancel_page(&held).await;
    assert!(page.text().contains("EUR 5.00") && page.text().contains("destroyed"), "{}", page.text());
    let stranger = Customer::signed_in(&house).await.expect("somebody else");
    let seen = stranger.visitor.open(page.url.as_str()).await.expect("an answer");
    assert_eq!(seen.status, 404, "somebody else sees how a server ends");

    assert_eq!(send(&held, "cancel_at_end", &[]).await.status, 200);
    assert_eq!(held.settled("cancel_at_end").await, "done");
    assert_eq!(at_stripe(&house).await["cancel_at_period_end"], json!(true));
    held.customer.wait_until_page_says(page.url.as_str(), "is cancelled", SOON).await.expect("the page says so");
    assert_eq!(send(&held, "go_on", &[]).await.status, 200);
    assert_eq!(held.settled("go_on").await, "done");
    assert_eq!(at_stripe(&house).await["cancel_at_period_end"], json!(false));
    until("the page offers it again", SOON, || async {
        cancel_page(&held).await.has_form("/cancel/cancel_at_end/").then_some(())
    })
    .await;
    let unsure = send(&held, "cancel_now", &[]).await;
    assert_eq!(unsure.status, 422, "ended without a confirmation: {}", unsure.text());
    held.service_is("running").await;

    assert_eq!(send(&held, "cancel_now", &[("sure", "yes")]).await.status, 200);
    assert_eq!(held.settled("cancel_now").await, "done");
    assert_eq!(at_stripe(&house).await["status"], "canceled");
    held.service_is("expired").await;
    assert_eq!(held.refunds().await, Vec::<i64>::new());
    let told: Vec<String> = sqlx::query_scalar("select line from timeline where kind = 'instruction' order by id")
        .fetch_all(house.db())
        .await
        .expect("the history");
    assert_eq!(told.len(), 3, "{told:?}");
    let kinds: Vec<String> = sqlx::query_scalar("select kind from letters where subscription_id is not null")
        .fetch_all(house.db())
        .await
        .expect("letters");
    assert_eq!(kinds.iter().collect::<BTreeSet<_>>().len(), kinds.len(), "a letter was written twice: {kinds:?}");
    let late = held.customer.visitor.open(page.url.as_str()).await.expect("an answer");
    assert!(late.text().contains("has ended already"), "{}", late.text());
    assert_stripe_contract(&house).await;
    histories::keep(&house, &format!("subscription-{}", held.subscription), "subscription-cancelled-by-hand").await;
}
