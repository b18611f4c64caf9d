//! A renewal that the customer's bank wants confirmed: one letter for each occasion, which leads to the page where it is done.
use domain::instruction::Ask;
use house::{HouseOptions, PolicySecs};
use serde_json::json;

use super::staff::Held;
use crate::{
    histories,
    shop::{SOON, open_with},
    world::assert_stripe_contract,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_the_bank_wants_confirmed_leads_to_its_page_once() {
    let policy = PolicySecs {
        reminders: vec![3],
        suspend_after: 60,
        subscription_poll: 1,
        retention: 3,
        retention_warning: 1,
        ..PolicySecs::default()
    };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("confirm") }).await;
    let held = Held::new(&house, "confirm-1").await;
    held.card_is("authenticate").await;
    held.stripe(&format!("/_control/subscriptions/{}/renew", held.subscription), json!({})).await;
    let mailbox = held.customer.mailbox();
    let letter = mailbox.wait_for(&held.customer.email, "confirm your payment", 1, SOON).await.expect("a letter");
    let address: String = sqlx::query_scalar("select hosted_url from invoices where status = 'open'")
        .fetch_one(house.db())
        .await
        .expect("an open invoice");
    assert!(letter.text.contains(&address), "the letter does not lead to the invoice's page: {}", letter.text);
    held.customer.wait_until_page_says("/dashboard/", "Payment missing", SOON).await.expect("the dashboard says so");
    let board = held.customer.dashboard().await.expect("the dashboard");
    assert_eq!(board.link("/i/").expect("the dashboard leads there").as_str(), address);
    // Looked at often meanwhile.
    mailbox.wait_for(&held.customer.email, "is missing", 1, SOON).await.expect("a reminder");
    let page = held.customer.visitor.open(&address).await.expect("the invoice's page").ok().expect("the page");
    let paid = held.customer.visitor.submit(&page, "/i/", &[("action", "authenticate")]).await.expect("confirming");
    assert!(paid.status == 200, "{}", paid.text());
    held.customer.wait_until_page_says("/dashboard/", "Paid", SOON).await.expect("the dashboard says so");
    let letters = mailbox.letters(&held.customer.email, "confirm your payment").await.expect("letters");
    assert_eq!(letters.len(), 1, "asked more than once");
    held.service_is("running").await;
    assert_eq!(held.told(Ask::CancelNow).await.0, "done");
    held.service_is("expired").await;
    assert_stripe_contract(&house).await;
    histories::keep(&house, &format!("subscription-{}", held.subscription), "subscription-payment-confirmed").await;
}
