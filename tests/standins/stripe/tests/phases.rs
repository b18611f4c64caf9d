//! Subscription schedules.

use serde_json::json;

use super::{GOOD, Sold, another_price, events, get, latest_invoice, post, sold, text};

const LONG: i64 = 1_000_000;

/// A downgrade at the period's end, as a schedule of two phases; gives the schedule's id and the lower price.
fn downgraded(sold: &mut Sold) -> (String, String) {
    let lower = another_price(&mut sold.world, 400);
    let form = format!("from_subscription={}", sold.subscription);
    let schedule = post(&mut sold.world, "subscription_schedules", &form).expect("schedule");
    let id = text(&schedule["id"]);
    let phase = &schedule["phases"][0];
    let form = format!(
        "end_behavior=release&phases[0][items][0][price]={}&phases[0][start_date]={}&phases[0][end_date]={}\
         &phases[0][proration_behavior]=none&phases[1][items][0][price]={lower}&phases[1][proration_behavior]=none",
        text(&phase["items"][0]["price"]),
        phase["start_date"],
        phase["end_date"]
    );
    post(&mut sold.world, &format!("subscription_schedules/{id}"), &form).expect("two phases");
    (id, lower)
}

#[test]
fn a_downgrade_holds_from_the_next_period_on() {
    let mut sold = sold(Some(LONG), GOOD);
    let (id, lower) = downgraded(&mut sold);
    assert_eq!(sold.row()["schedule"], id);
    assert_eq!(sold.row()["items"]["data"][0]["price"]["unit_amount"], 1000);
    sold.pass(LONG + 10);
    assert_eq!(sold.row()["items"]["data"][0]["price"]["id"], lower);
    assert_eq!(latest_invoice(&sold.world)["total"], 400);
    sold.pass(LONG);
    let schedule = get(&mut sold.world, &format!("subscription_schedules/{id}"));
    assert_eq!(
        (&schedule["status"], &schedule["released_subscription"]),
        (&json!("released"), &json!(sold.subscription))
    );
    assert!(sold.row()["schedule"].is_null());
    assert_eq!((latest_invoice(&sold.world)["total"].clone(), sold.world.all("invoice").count()), (json!(400), 3));
    assert_eq!(events(&sold.world, "subscription_schedule.released"), 1);
}

#[test]
fn a_released_downgrade_never_happens() {
    let mut sold = sold(Some(LONG), GOOD);
    let (id, _) = downgraded(&mut sold);
    assert_eq!(sold.update("cancel_at_period_end=true").expect_err("scheduled").status, 400);
    let form = format!("from_subscription={}", sold.subscription);
    assert!(post(&mut sold.world, "subscription_schedules", &form).is_err());
    let released = post(&mut sold.world, &format!("subscription_schedules/{id}/release"), "").expect("released");
    assert!(released["subscription"].is_null());
    assert!(post(&mut sold.world, &format!("subscription_schedules/{id}/release"), "").is_err());
    sold.pass(LONG + 10);
    assert_eq!(latest_invoice(&sold.world)["total"], 1000);
}

#[test]
fn a_subscription_that_ends_takes_its_schedule_along() {
    let mut sold = sold(Some(LONG), GOOD);
    let (id, _) = downgraded(&mut sold);
    let path = format!("subscriptions/{}", sold.subscription);
    super::call(&mut sold.world, "DELETE", &path, "").expect("ended");
    let listed = get(&mut sold.world, &format!("subscription_schedules?customer={}", sold.customer));
    assert_eq!((&listed["data"][0]["id"], &listed["data"][0]["status"]), (&json!(id), &json!("canceled")));
}

#[test]
fn the_end_of_the_period_by_hand_is_the_end_of_the_phase() {
    let mut sold = sold(None, GOOD);
    let (_, lower) = downgraded(&mut sold);
    super::billing::renew_now(&mut sold.world, &sold.subscription).expect("renewed");
    assert_eq!(sold.row()["items"]["data"][0]["price"]["id"], lower);
    assert_eq!(latest_invoice(&sold.world)["total"], 400);
}
