//! Events: listed, forgotten, stated again, in the older shape.

use serde_json::json;

use super::super::{events as all_events, legacy};
use super::{GOOD, MONTH_SECS, call, get, sold, text};

#[test]
fn events_are_listed_by_time_and_type_and_forgotten_after_30_days() {
    let mut sold = sold(Some(MONTH_SECS), GOOD);
    let begun = sold.world.clock();
    sold.pass(MONTH_SECS + 1);
    let since = format!("events?created[gt]={}&types[]=invoice.paid&types[]=customer.subscription.updated", begun + 50);
    let listed = get(&mut sold.world, &since);
    let kinds: Vec<_> = listed["data"].as_array().expect("rows").iter().map(|row| text(&row["type"])).collect();
    assert_eq!(kinds, ["invoice.paid", "customer.subscription.updated"]);
    let until = format!("events?created[lte]={}&type=invoice.paid", begun + 50);
    let first = text(&get(&mut sold.world, &until)["data"][0]["id"]);
    assert!(call(&mut sold.world, "GET", "events", "type=invoice.paid&types[]=invoice.paid").is_err());
    sold.world.advance(30 * 86_400);
    assert!(get(&mut sold.world, "events")["data"].as_array().is_some_and(Vec::is_empty));
    assert_eq!(call(&mut sold.world, "GET", &format!("events/{first}"), "").expect_err("gone").status, 404);
}

#[test]
fn a_fact_is_stated_again_under_another_id() {
    let mut sold = sold(None, GOOD);
    let first = sold.world.all("event").find(|row| row["type"] == "invoice.paid").cloned().expect("event");
    let again = all_events::restate(&mut sold.world, &text(&first["id"])).expect("again");
    assert_ne!(again["id"], first["id"]);
    assert_eq!(
        (&again["data"], &again["created"], &again["type"]),
        (&first["data"], &first["created"], &first["type"])
    );
}

#[test]
fn older_endpoints_get_older_shapes() {
    let sold = sold(None, GOOD);
    let older = |kind: &str| {
        let found = sold.world.all("event").find(|row| row["type"] == kind).expect("event");
        (found.clone(), legacy::event(&sold.world, found))
    };
    let (current, old) = older("customer.subscription.created");
    let period = &current["data"]["object"]["items"]["data"][0]["current_period_end"];
    assert!(period.is_i64());
    assert_eq!(&old["data"]["object"]["current_period_end"], period);
    assert!(old["data"]["object"]["items"]["data"][0].get("current_period_end").is_none());
    let (current, old) = older("invoice.paid");
    let invoice = &old["data"]["object"];
    assert_eq!(invoice["subscription"], sold.subscription);
    assert_eq!(current["data"]["object"]["parent"]["subscription_details"]["subscription"], sold.subscription);
    assert!(invoice.get("parent").is_none());
    let charge = sold.world.all("charge").next().expect("charge");
    assert_eq!((&invoice["charge"], &invoice["payment_intent"]), (&charge["id"], &charge["payment_intent"]));
    assert_eq!((&invoice["paid"], &invoice["lines"]["data"][0]["type"]), (&json!(true), &json!("subscription")));
    assert_eq!((&old["api_version"], &old["id"]), (&json!("2025-02-24.acacia"), &current["id"]));
}
