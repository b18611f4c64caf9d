//! Cancelling on our own pages: at the end, taken back, and now; by nobody but the customer. An end that was set at Stripe
//! is taken back, too.
use std::collections::BTreeSet;

use activities::payment::stripe::Attempt;
use contract::payment::CarriedOut;
use domain::{billing::SubscriptionStatus, ids::SubscriptionId, instruction::Ask};
use house::{Customer, House, HouseOptions, Page, PolicySecs};
use serde_json::{Value, json};

use super::{
    forgotten_keys::{errand, hands},
    staff::Held,
    story::{at_dashboard, newest, word},
};
use crate::{
    histories,
    shop::{SOON, open, open_with, until},
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

/// Stripe's own pages may end a subscription by a date, without the flag that ours set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_by_date_is_taken_back_although_the_answer_is_lost_and_the_next_month_is_paid() {
    let policy = PolicySecs { subscription_poll: 2, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("end-by-date") }).await;
    let held = Held::new(&house, "end-by-date-1").await;
    let page = cancel_page(&held).await;
    let own = format!("/v1/subscriptions/{}", held.subscription);
    let period_end = async || {
        let end = at_stripe(&house).await["items"]["data"][0]["current_period_end"].as_i64();
        end.expect("the end of its period")
    };
    for lost in [false, true] {
        let at = period_end().await - 1;
        at_dashboard(&house, &own, &[("cancel_at", at.to_string().as_str())]).await;
        let ending = at_stripe(&house).await;
        assert_eq!((&ending["cancel_at"], &ending["cancel_at_period_end"]), (&json!(at), &json!(false)));
        held.customer.wait_until_page_says(page.url.as_str(), "is cancelled", SOON).await.expect("the page says so");
        if lost {
            let fault = json!({"kind": "drop", "times": 1, "method": "POST", "path": own, "contains": "cancel_at"});
            house.stripe().add_fault(fault).await.expect("an answer that is lost");
        }
        let taken = send(&held, "go_on", &[]).await;
        assert_eq!(taken.status, 200, "{}", taken.text());
        assert_eq!(held.settled("go_on").await, "done");
        let after = at_stripe(&house).await;
        assert_eq!(
            (&after["cancel_at"], &after["cancel_at_period_end"]),
            (&Value::Null, &json!(false)),
            "it still ends"
        );
        let faults = list(&house.stripe().get("/_control/faults").await.expect("the faults"));
        assert_eq!(faults, Vec::<Value>::new(), "no answer was lost");
        until("the page offers it again", SOON, || async {
            cancel_page(&held).await.has_form("/cancel/cancel_at_end/").then_some(())
        })
        .await;
    }
    let before = period_end().await;
    held.stripe(&format!("/_control/subscriptions/{}/renew", held.subscription), json!({})).await;
    assert_eq!(at_stripe(&house).await["status"], "active");
    assert!(period_end().await > before, "it did not go on");
    held.service_is("running").await;
    assert_stripe_contract(&house).await;
}

/// It is to be ended, and Stripe does not do it; then its customer pays after all.
async fn paid_while_it_should_end(held: &Held<'_>, id: &SubscriptionId) {
    held.stripe("/_control/clock", json!({"advance_secs": 60})).await;
    held.stops_paying().await;
    let away = json!({"kind": "status", "status": 500, "method": "DELETE", "path": "/v1/subscriptions/"});
    held.house.stripe().add_fault(away).await.expect("a fault");
    let stripe = hands(held.house);
    let ended = Box::pin(stripe.end_subscription(id, Attempt(1))).await;
    assert!(ended.is_err(), "ended although Stripe does not do it");
    held.house.stripe().clear_faults().await.expect("mended");
    let open = word(&newest(held.house, "invoices", |invoice| invoice["status"] == "open").await["id"]);
    let noted = word(&at_stripe(held.house).await["metadata"]["open_at_end"]);
    assert!(noted.ends_with(&format!(",{open}")), "{noted} is of another end, and does not name {open}");
    held.card_fails(false).await;
    held.stripe(&format!("/_control/invoices/{open}/pay"), json!({})).await;
    assert_eq!(at_stripe(held.house).await["status"], "active");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_paid_before_an_end_that_did_not_come_does_not_go_back_with_a_later_one() {
    let house = open("paid-between").await;
    let held = Held::new(&house, "paid-between-1").await;
    house.stop_worker().await.expect("nobody else ends it");
    let (stripe, id) = (hands(&house), SubscriptionId(held.subscription.clone()));
    let renew = format!("/_control/subscriptions/{id}/renew");
    paid_while_it_should_end(&held, &id).await;
    let seen = Box::pin(stripe.end_subscription(&id, Attempt(2))).await.expect("a look");
    assert_eq!(seen.view.status, SubscriptionStatus::Active, "ended although it is paid");
    assert_eq!(at_stripe(&house).await["metadata"]["open_at_end"], Value::Null, "noted for ever");
    held.stripe(&renew, json!({})).await;

    // Nobody tries again, twice.
    for _ in 0..2 {
        paid_while_it_should_end(&held, &id).await;
    }
    held.stripe(&renew, json!({})).await;
    let told = errand(&id, Ask::CancelNow);
    let ended = Box::pin(stripe.carry_out(&told, Attempt(1))).await.expect("an answer");
    assert_eq!(ended, CarriedOut::Done { object: None });
    assert_eq!(at_stripe(&house).await["status"], "canceled");
    assert_eq!(held.refunds().await, Vec::<i64>::new(), "months that were used were paid back");
    assert_stripe_contract(&house).await;
}
