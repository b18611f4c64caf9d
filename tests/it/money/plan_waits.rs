//! A change of plan that the customer's bank wants confirmed waits, and is applied or given up; a plan paid by the year
//! instead of the month, and back; a price that changed while nobody lived with the subscription.
use domain::{instruction::Ask, money::Money};
use house::{HouseOptions, Page, PolicySecs};
use serde_json::{Value, json};
use temporalio_client::WorkflowTerminateOptions;
use workflows::subscription::Subscription;

use super::{
    plan::{at_stripe, charged, has_size, item, memory_held, priced, stripe_price},
    staff::Held,
};
use crate::{
    histories,
    matrix::change_price,
    shop::{SOON, open, open_with, until},
    world::{assert_stripe_contract, list, vendors},
};

const ASKED: &str = "confirm the payment for your new plan";
const UNCHANGED: &str = "Your plan stays Small";

async fn server(held: &Held<'_>) -> String {
    held.customer.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link").to_string()
}

/// The changes of plan that wait, as staff read them.
async fn waiting(held: &Held<'_>) -> Vec<String> {
    let page = held.staff.visitor.open("/staff/coming/").await.expect("the page").ok().expect("the page");
    page.texts("#plans tbody tr")
}

async fn choose_medium(held: &Held<'_>) -> Page {
    let page = priced(held, "medium").await;
    let answer = held.customer.visitor.submit(&page, "/plan/medium/", &[("restart", "yes")]).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    page
}

async fn letters(held: &Held<'_>, about: &str) -> usize {
    held.customer.mailbox().letters(&held.customer.email, about).await.expect("letters").len()
}

async fn open_invoices(held: &Held<'_>) -> usize {
    let state = held.house.stripe().state().await.expect("Stripe");
    list(&state["invoices"]).iter().filter(|invoice| invoice["status"] == "open").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_the_bank_wants_confirmed_leads_to_its_page_and_is_applied_when_it_is() {
    let policy = PolicySecs { retention: 3, retention_warning: 1, subscription_poll: 2, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("bank") }).await;
    let held = Held::new(&house, "bank-1").await;
    held.card_is("authenticate").await;
    let shown = choose_medium(&held).await.texts(".total").first().cloned().expect("an amount");
    let mailbox = held.customer.mailbox();
    let letter = mailbox.wait_for(&held.customer.email, ASKED, 1, SOON).await.expect("a letter");
    let address: String = sqlx::query_scalar("select hosted_url from invoices where status = 'open'")
        .fetch_one(house.db())
        .await
        .expect("an open invoice");
    assert!(letter.text.contains(&address) && letter.text.contains(&shown), "{}", letter.text);
    let server = server(&held).await;
    let told = held.customer.wait_until_page_says(&server, "waits for its payment", SOON).await.expect("the page");
    assert!(told.link(&address).is_ok(), "the server's page does not lead there: {}", told.text());
    let board = held.customer.dashboard().await.expect("the dashboard");
    assert_eq!(board.link("/i/").expect("the dashboard leads there").as_str(), address);
    let listed = waiting(&held).await;
    assert!(listed.len() == 1 && listed[0].contains("Given up") && listed[0].contains("Medium"), "{listed:?}");
    // Nothing is charged or changed, and the room for it is kept.
    assert_eq!((charged(&held).await, memory_held(&held).await), (vec![500], 4_096));
    assert!(has_size(&held, "1", "2048", 20).await, "the machine changed although nothing was paid");
    let other = Ask::ChangePlanAtEnd { price: stripe_price(&held, "large").await };
    let (state, words) = held.told(other).await;
    assert_eq!(state, "refused", "two changes at once");
    assert!(words.expect("why").contains("waits for its payment"));

    // Whoever lives with it dies meanwhile.
    house.kill_worker().await.expect("kill -9");
    let page = held.customer.visitor.open(&address).await.expect("the invoice's page").ok().expect("the page");
    let paid = held.customer.visitor.submit(&page, "/i/", &[("action", "authenticate")]).await.expect("confirming");
    assert_eq!(paid.status, 200, "{}", paid.text());
    house.start_worker().await.expect("a worker");
    mailbox.wait_for(&held.customer.email, "new size", 1, SOON).await.expect("a letter");
    assert_eq!(held.settled("change_plan").await, "done");
    assert!(has_size(&held, "2", "4096", 40).await, "the machine has not grown");
    let charges = charged(&held).await;
    let extra = charges.iter().sum::<i64>() - 500;
    assert_eq!(format!("EUR {}.{:02}", extra / 100, extra % 100), shown, "charged otherwise than shown");
    assert_eq!((charges.len(), memory_held(&held).await, letters(&held, ASKED).await), (2, 4_096, 1));
    until("nothing waits any more", SOON, || async { waiting(&held).await.is_empty().then_some(()) }).await;
    assert_eq!(letters(&held, UNCHANGED).await, 0);
    assert_eq!(held.told(Ask::CancelNow).await.0, "done");
    held.service_is("expired").await;
    assert_stripe_contract(&house).await;
    histories::keep(&house, &format!("subscription-{}", held.subscription), "subscription-change-confirmed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_not_confirmed_or_taken_back_is_given_up_and_nothing_is_charged() {
    let policy = PolicySecs { retention: 3, retention_warning: 1, subscription_poll: 2, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("unconfirmed") }).await;
    let held = Held::new(&house, "unconfirmed-1").await;
    held.card_is("authenticate").await;
    choose_medium(&held).await;
    let mailbox = held.customer.mailbox();
    mailbox.wait_for(&held.customer.email, ASKED, 1, SOON).await.expect("a letter");
    held.stripe("/_control/clock", json!({"advance_secs": 23 * 3_600 + 60})).await;
    let letter = mailbox.wait_for(&held.customer.email, UNCHANGED, 1, SOON).await.expect("a letter");
    assert!(letter.text.contains("Nothing was charged"), "{}", letter.text);
    assert_eq!(held.settled("change_plan").await, "refused");
    assert_eq!((charged(&held).await, memory_held(&held).await), (vec![500], 2_048));

    // The customer thinks better of the next one.
    choose_medium(&held).await;
    mailbox.wait_for(&held.customer.email, ASKED, 2, SOON).await.expect("another letter");
    let server = server(&held).await;
    held.customer.wait_until_page_says(&server, "waits for its payment", SOON).await.expect("the page");
    let plans = held.customer.visitor.open(&format!("{server}plan/")).await.expect("the plans");
    let kept = held.customer.visitor.submit(&plans, "/plan/", &[]).await.expect("an answer");
    assert_eq!((kept.status, held.settled("keep_plan").await.as_str()), (200, "done"));
    assert_eq!(held.settled("change_plan").await, "refused");
    until("nothing waits any more", SOON, || async { waiting(&held).await.is_empty().then_some(()) }).await;
    assert_eq!((open_invoices(&held).await, letters(&held, UNCHANGED).await), (0, 1));
    assert_eq!((charged(&held).await, memory_held(&held).await), (vec![500], 2_048));
    assert!(has_size(&held, "1", "2048", 20).await, "the machine changed although nothing was paid");
    assert_eq!(at_stripe(&held).await["pending_update"], Value::Null);
    held.service_is("running").await;
    assert_eq!(held.told(Ask::CancelNow).await.0, "done");
    held.service_is("expired").await;
    assert_stripe_contract(&house).await;
    histories::keep(&house, &format!("subscription-{}", held.subscription), "subscription-change-given-up").await;
}

/// Leads to what a plan costs paid in this way.
async fn priced_by(held: &Held<'_>, server: &str, address: &str) -> Page {
    let plans = held.customer.visitor.open(&format!("{server}plan/")).await.expect("the plans").ok().expect("it");
    let link = plans.link(address).expect("a way to pay");
    held.customer.visitor.open(link.as_str()).await.expect("the price").ok().expect("the price")
}

/// Another tab asks for the plan that was paid already: it is there, and nothing is said to be paid for it.
async fn asked_for_again(held: &Held<'_>, amount_minor: i64) {
    let price = at_stripe(held).await["items"]["data"][0]["price"]["id"].as_str().expect("a price").to_owned();
    let proration_date = time::OffsetDateTime::now_utc().unix_timestamp() - 600;
    let shown = Money { amount_minor, currency: "eur".parse().expect("a currency") };
    assert_eq!(held.told(Ask::ChangePlan { price, proration_date, shown }).await.0, "done");
    let told: Vec<String> =
        sqlx::query_scalar("select line from timeline where line like 'Another plan was chosen%' order by id")
            .fetch_all(held.house.db())
            .await
            .expect("the history");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("paid for it") && !told[1].contains("paid"), "paid once, and said otherwise: {told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_year_begins_for_the_price_shown_and_the_month_comes_back_at_its_end() {
    let house = open("yearly").await;
    let held = Held::new(&house, "yearly-1").await;
    let server = server(&held).await;
    let page = priced_by(&held, &server, "/plan/small/?term=annual").await;
    let shown = page.texts(".total").first().cloned().expect("an amount");
    let send = || held.customer.visitor.submit(&page, "/plan/small/", &[]);
    let answers = tokio::join!(send(), send());
    assert_eq!((answers.0.expect("an answer").status, answers.1.expect("an answer").status), (200, 200));
    let mailbox = held.customer.mailbox();
    mailbox.wait_for(&held.customer.email, "paid each year now", 1, SOON).await.expect("a letter");
    assert_eq!(held.settled("change_plan").await, "done");
    let charges = charged(&held).await;
    let extra = charges.iter().sum::<i64>() - 500;
    assert_eq!(format!("EUR {}.{:02}", extra / 100, extra % 100), shown, "charged otherwise than shown");
    assert!(charges.len() == 2 && (4_500..=5_000).contains(&extra), "{charges:?}");
    let told = held.customer.wait_until_page_says(&server, "EUR 50.00 a year", SOON).await.expect("the price").text();
    assert!(told.contains("Small"), "{told}");
    let subscription = at_stripe(&held).await;
    let period = &subscription["items"]["data"][0];
    let length =
        |end: &str, start: &str| period[end].as_i64().expect("a time") - period[start].as_i64().expect("a time");
    assert!(length("current_period_end", "current_period_start") >= 365 * 86_400, "{period}");

    asked_for_again(&held, extra).await;

    let back = priced_by(&held, &server, "/plan/small/?term=monthly").await;
    let answer = held.customer.visitor.submit(&back, "/plan/small/", &[]).await.expect("an answer");
    assert_eq!((answer.status, held.settled("change_plan_at_end").await.as_str()), (200, "done"));
    let listed =
        until("staff read of it", SOON, || async { Some(waiting(&held).await).filter(|lines| !lines.is_empty()) })
            .await;
    assert!(listed.len() == 1 && listed[0].contains("Changes") && listed[0].contains("EUR 5.00 a month"), "{listed:?}");
    assert_eq!(charged(&held).await.len(), 2, "charged before the year is over");
    held.stripe(&format!("/_control/subscriptions/{}/renew", held.subscription), json!({})).await;
    mailbox.wait_for(&held.customer.email, "paid each month now", 1, SOON).await.expect("a letter");
    held.customer.wait_until_page_says(&server, "EUR 5.00 a month", SOON).await.expect("the price");
    assert_eq!(charged(&held).await.iter().sum::<i64>(), 500 + extra + 500);
    until("nothing waits any more", SOON, || async { waiting(&held).await.is_empty().then_some(()) }).await;
    assert_eq!(letters(&held, "new size").await, 0, "the server was changed");
    assert!(has_size(&held, "1", "2048", 20).await, "the server was changed");
    held.service_is("running").await;
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_that_changed_while_nobody_lived_with_the_subscription_is_fitted_afterwards() {
    let house = open("revived").await;
    let held = Held::new(&house, "revived-1").await;
    let workflow_id = format!("subscription-{}", held.subscription);
    let client = house.temporal().await.expect("Temporal");
    let handle = client.get_workflow_handle::<Subscription>(workflow_id);
    handle.terminate(WorkflowTerminateOptions::default()).await.expect("terminated");
    change_price(&house, &held.subscription, &item(&held).await, &stripe_price(&held, "medium").await).await;
    let told = house.run_ez(&["reconcile"], "").await.expect("reconciled");
    assert!(told.contains("subscriptions given a workflow: 1"), "{told}");
    held.customer.mailbox().wait_for(&held.customer.email, "new size", 1, SOON).await.expect("a letter");
    assert!(has_size(&held, "2", "4096", 40).await, "the first price that was seen was taken as fitted");
    assert_eq!(vendors(&house).await.money["charges"].len(), 1);
}
