//! Prices seen before a change, and changes that wait for their money.

use serde_json::json;

use super::super::{cards::Card, invoices, payments};
use super::{GOOD, another_price, events, latest_invoice, paid_charges, post, sold, text};

const LONG: i64 = 1_000_000;

#[test]
fn the_previewed_amount_is_the_one_that_is_invoiced() {
    let mut sold = sold(Some(LONG), GOOD);
    let price = another_price(&mut sold.world, 3700);
    sold.world.advance(LONG / 3);
    let at = sold.world.clock();
    let change = format!("items][0][id]={}&subscription_details[items][0][price]={price}", sold.item());
    let form = format!(
        "subscription={}&subscription_details[{change}&subscription_details[proration_behavior]=always_invoice&subscription_details[proration_date]={at}",
        sold.subscription
    );
    let before = sold.world.all("event").count();
    let shown = post(&mut sold.world, "invoices/create_preview", &form).expect("preview");
    assert_eq!(sold.world.all("event").count(), before);
    assert_eq!(sold.world.all("invoice").count(), 1);
    sold.world.advance(1000);
    let form = format!(
        "items[0][id]={}&items[0][price]={price}&proration_behavior=always_invoice&proration_date={at}",
        sold.item()
    );
    sold.update(&form).expect("changed");
    let invoice = latest_invoice(&sold.world);
    assert_eq!(invoice["amount_due"], shown["amount_due"]);
    assert_eq!((&invoice["status"], &shown["status"]), (&json!("paid"), &json!("draft")));
    assert_eq!(shown["lines"]["data"][0]["period"]["start"], at);
    let due = shown["amount_due"].as_i64().expect("due");
    assert!((1799..=1801).contains(&due), "{due}");
}

#[test]
fn the_next_renewal_is_previewed_with_credit_and_refused_when_there_is_none() {
    let mut sold = sold(Some(LONG), GOOD);
    let path = format!("customers/{}/balance_transactions", sold.customer);
    post(&mut sold.world, &path, "amount=-250&currency=eur").expect("credit");
    let form = format!("subscription={}", sold.subscription);
    let shown = post(&mut sold.world, "invoices/create_preview", &form).expect("preview");
    assert_eq!((&shown["total"], &shown["amount_due"]), (&json!(1000), &json!(750)));
    assert_eq!(shown["billing_reason"], "upcoming");
    sold.update("cancel_at_period_end=true").expect("cancelled");
    let none = post(&mut sold.world, "invoices/create_preview", &form).expect_err("none");
    assert_eq!((none.status, &none.body()["error"]["code"]), (404, &json!("invoice_upcoming_none")));
}

#[test]
fn a_first_invoice_is_previewed_for_nobody_in_particular() {
    let mut sold = sold(None, GOOD);
    let price = another_price(&mut sold.world, 5000);
    let form = format!(
        "customer_details[address][country]=DE&automatic_tax[enabled]=true&subscription_details[items][0][price]={price}"
    );
    let shown = post(&mut sold.world, "invoices/create_preview", &form).expect("preview");
    assert_eq!((&shown["subtotal"], &shown["total"]), (&json!(5000), &json!(5950)));
    assert_eq!(sold.world.all("customer").count(), 1);
}

#[test]
fn a_change_waits_until_its_invoice_is_paid() {
    let mut sold = sold(Some(LONG), GOOD);
    let price = another_price(&mut sold.world, 3000);
    payments::attach_card(&mut sold.world, &sold.customer, Card::FailsLater).expect("card");
    let form = format!(
        "items[0][id]={}&items[0][price]={price}&proration_behavior=always_invoice&payment_behavior=pending_if_incomplete",
        sold.item()
    );
    let row = sold.update(&form).expect("held");
    assert_eq!((&row["status"], &row["items"]["data"][0]["price"]["unit_amount"]), (&json!("active"), &json!(1000)));
    assert_eq!(row["pending_update"]["subscription_items"][0]["price"]["id"], price);
    let invoice = text(&row["latest_invoice"]);
    payments::attach_card(&mut sold.world, &sold.customer, Card::Good).expect("card");
    invoices::collect(&mut sold.world, &invoice, false).expect("paid");
    let row = sold.row();
    assert!(row["pending_update"].is_null());
    assert_eq!(row["items"]["data"][0]["price"]["id"], price);
    assert_eq!(events(&sold.world, "customer.subscription.pending_update_applied"), 1);
    assert!(sold.update(&format!("{form}&metadata[a]=b")).is_err());
}

#[test]
fn a_change_that_is_paid_at_once_waits_for_nothing() {
    let mut sold = sold(Some(LONG), GOOD);
    let price = another_price(&mut sold.world, 3000);
    let form = format!(
        "items[0][id]={}&items[0][price]={price}&proration_behavior=always_invoice&payment_behavior=pending_if_incomplete",
        sold.item()
    );
    let row = sold.update(&form).expect("changed");
    assert_eq!((&row["items"]["data"][0]["price"]["id"], &row["pending_update"]), (&json!(price), &json!(null)));
    assert_eq!(events(&sold.world, "customer.subscription.updated"), 1);
    assert_eq!(events(&sold.world, "customer.subscription.pending_update_applied"), 0);
}

#[test]
fn a_change_nobody_pays_for_expires_and_its_invoice_is_void() {
    let mut sold = sold(None, GOOD);
    let price = another_price(&mut sold.world, 3000);
    payments::attach_card(&mut sold.world, &sold.customer, Card::FailsLater).expect("card");
    let form = format!(
        "items[0][id]={}&items[0][price]={price}&proration_behavior=always_invoice&payment_behavior=pending_if_incomplete",
        sold.item()
    );
    sold.update(&form).expect("held");
    sold.pass(23 * 3600 + 1);
    let row = sold.row();
    assert!(row["pending_update"].is_null());
    assert_eq!((&row["status"], &row["items"]["data"][0]["price"]["unit_amount"]), (&json!("active"), &json!(1000)));
    assert_eq!(latest_invoice(&sold.world)["status"], "void");
    assert_eq!(events(&sold.world, "customer.subscription.pending_update_expired"), 1);
}

#[test]
fn a_change_that_must_be_paid_is_refused_before_anything_happens() {
    let mut sold = sold(Some(LONG), GOOD);
    let price = another_price(&mut sold.world, 3000);
    payments::attach_card(&mut sold.world, &sold.customer, Card::Insufficient).expect("card");
    let form = format!(
        "items[0][id]={}&items[0][price]={price}&proration_behavior=always_invoice&payment_behavior=error_if_incomplete",
        sold.item()
    );
    assert_eq!(sold.update(&form).expect_err("declined").status, 402);
    assert_eq!(sold.row()["items"]["data"][0]["price"]["unit_amount"], 1000);
    assert_eq!((sold.world.all("invoice").count(), paid_charges(&sold.world)), (1, 1));
}

#[test]
fn a_later_trial_end_moves_the_next_renewal() {
    let mut sold = sold(Some(LONG), GOOD);
    let end = sold.world.clock() + LONG * 2;
    let row = sold.update(&format!("trial_end={end}&proration_behavior=none")).expect("extended");
    assert_eq!((&row["status"], &row["items"]["data"][0]["current_period_end"]), (&json!("trialing"), &json!(end)));
    sold.pass(LONG + 10);
    assert_eq!(paid_charges(&sold.world), 1);
    sold.pass(LONG);
    assert_eq!((paid_charges(&sold.world), &sold.row()["status"]), (2, &json!("active")));
    assert_eq!(latest_invoice(&sold.world)["period_start"], end);
}

#[test]
fn a_subscription_ends_at_the_moment_it_was_told_to() {
    let mut sold = sold(Some(LONG), GOOD);
    let at = sold.world.clock() + 5000;
    let row = sold.update(&format!("cancel_at={at}")).expect("told");
    assert_eq!((&row["cancel_at"], &row["cancel_at_period_end"]), (&json!(at), &json!(false)));
    sold.update("cancel_at=").expect("taken back");
    sold.pass(6000);
    assert_eq!(sold.row()["status"], "active");
    let at = sold.world.clock() + 5000;
    sold.update(&format!("cancel_at={at}")).expect("told");
    sold.pass(6000);
    assert_eq!((&sold.row()["status"], &sold.row()["ended_at"]), (&json!("canceled"), &json!(at)));
}

#[test]
fn an_end_by_date_gives_way_to_the_end_of_the_period_and_not_to_none() {
    let mut sold = sold(Some(LONG), GOOD);
    let at = sold.world.clock() + 5000;
    sold.update(&format!("cancel_at={at}")).expect("told");
    let row = sold.update("cancel_at_period_end=false").expect("nothing new");
    assert_eq!((&row["cancel_at"], &row["cancel_at_period_end"]), (&json!(at), &json!(false)));
    let row = sold.update("cancel_at_period_end=true").expect("told");
    let period_end = &row["items"]["data"][0]["current_period_end"];
    assert_eq!((&row["cancel_at"], &row["cancel_at_period_end"]), (period_end, &json!(true)));
    let row = sold.update("cancel_at_period_end=false").expect("taken back");
    assert_eq!((&row["cancel_at"], &row["cancel_at_period_end"]), (&json!(null), &json!(false)));
}

#[test]
fn collection_that_is_paused_leaves_drafts_and_begins_again() {
    let mut sold = sold(Some(LONG), GOOD);
    let resumes = sold.world.clock() + LONG + LONG / 2;
    sold.update(&format!("pause_collection[behavior]=keep_as_draft&pause_collection[resumes_at]={resumes}"))
        .expect("paused");
    sold.pass(LONG + 10);
    let invoice = latest_invoice(&sold.world);
    assert_eq!((&invoice["status"], &sold.row()["status"]), (&json!("draft"), &json!("active")));
    sold.pass(LONG);
    assert!(sold.row()["pause_collection"].is_null());
    assert_eq!((latest_invoice(&sold.world)["status"].clone(), paid_charges(&sold.world)), (json!("paid"), 2));
    post(&mut sold.world, &format!("invoices/{}/pay", text(&invoice["id"])), "").expect("paid");
    assert_eq!(paid_charges(&sold.world), 3);
}

#[test]
fn the_unused_time_of_a_cancelled_subscription_becomes_credit() {
    let mut sold = sold(Some(LONG), GOOD);
    sold.world.advance(LONG / 2);
    let path = format!("subscriptions/{}", sold.subscription);
    super::call(&mut sold.world, "DELETE", &path, "invoice_now=true&prorate=true").expect("cancelled");
    let invoice = latest_invoice(&sold.world);
    let total = invoice["total"].as_i64().expect("total");
    assert!((-500..=-499).contains(&total), "{total}");
    assert_eq!((&invoice["status"], &invoice["ending_balance"]), (&json!("paid"), &json!(total)));
    assert_eq!(sold.world.copy("customer", &sold.customer).expect("customer")["balance"], total);
}
