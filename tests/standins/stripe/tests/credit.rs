//! Credit, refunds and what they leave behind.

use serde_json::json;

use super::super::{cards::Card, payments, refunds};
use super::{GOOD, MONTH_SECS, call, events, get, latest_invoice, post, sold, text};

#[test]
fn credit_is_used_on_the_next_invoice_and_every_movement_is_listed() {
    let mut sold = sold(Some(MONTH_SECS), GOOD);
    let path = format!("customers/{}/balance_transactions", sold.customer);
    let form = "amount=-1500&currency=eur&description=Sorry&metadata[grant]=g1";
    let given = post(&mut sold.world, &path, form).expect("credit");
    assert_eq!((&given["ending_balance"], &given["type"]), (&json!(-1500), &json!("adjustment")));
    sold.pass(MONTH_SECS + 1);
    let first = latest_invoice(&sold.world);
    assert_eq!((&first["starting_balance"], &first["ending_balance"]), (&json!(-1500), &json!(-500)));
    assert_eq!((&first["amount_due"], &first["total"], &first["status"]), (&json!(0), &json!(1000), &json!("paid")));
    sold.pass(MONTH_SECS);
    assert_eq!(latest_invoice(&sold.world)["amount_due"], 500);
    let listed = get(&mut sold.world, &path);
    let amounts: Vec<_> = listed["data"].as_array().expect("rows").iter().map(|row| row["amount"].as_i64()).collect();
    assert_eq!(amounts, [Some(500), Some(1000), Some(-1500)]);
    assert_eq!(listed["data"][1]["type"], "applied_to_invoice");
    assert_eq!(listed["data"][1]["invoice"], first["id"]);
    assert_eq!(get(&mut sold.world, &format!("customers/{}", sold.customer))["balance"], 0);
}

#[test]
fn voiding_an_invoice_gives_the_credit_back() {
    let mut sold = sold(Some(MONTH_SECS), GOOD);
    let path = format!("customers/{}/balance_transactions", sold.customer);
    post(&mut sold.world, &path, "amount=-300&currency=eur").expect("credit");
    payments::attach_card(&mut sold.world, &sold.customer, Card::FailsLater).expect("card");
    sold.pass(MONTH_SECS + 1);
    let invoice = latest_invoice(&sold.world);
    assert_eq!((&invoice["amount_due"], &invoice["status"]), (&json!(700), &json!("open")));
    post(&mut sold.world, &format!("invoices/{}/void", text(&invoice["id"])), "").expect("void");
    let newest = &get(&mut sold.world, &path)["data"][0];
    assert_eq!((&newest["type"], &newest["ending_balance"]), (&json!("unapplied_from_invoice"), &json!(-300)));
}

#[test]
fn credit_in_another_currency_is_refused() {
    let mut sold = sold(None, GOOD);
    let path = format!("customers/{}/balance_transactions", sold.customer);
    assert_eq!(post(&mut sold.world, &path, "amount=-300&currency=usd").expect_err("usd").status, 400);
    assert_eq!(
        post(&mut sold.world, "customers/cus_none/balance_transactions", "amount=1&currency=eur")
            .expect_err("none")
            .status,
        404
    );
}

#[test]
fn a_refund_by_intent_keeps_reason_and_metadata_and_may_still_fail() {
    let mut sold = sold(None, GOOD);
    let charge = sold.world.all("charge").next().cloned().expect("charge");
    sold.world.refund_status = "pending";
    let form = format!(
        "payment_intent={}&amount=400&reason=requested_by_customer&metadata[grant]=g1",
        text(&charge["payment_intent"])
    );
    let refund = post(&mut sold.world, "refunds", &form).expect("refund");
    assert_eq!((&refund["status"], &refund["metadata"]["grant"]), (&json!("pending"), &json!("g1")));
    let id = text(&refund["id"]);
    refunds::conclude(&mut sold.world, &id, true).expect("arrived");
    assert_eq!(sold.world.copy("refund", &id).expect("refund")["status"], "succeeded");
    refunds::conclude(&mut sold.world, &id, false).expect("came back");
    let charge = sold.world.copy("charge", &text(&charge["id"])).expect("charge");
    assert_eq!((&charge["amount_refunded"], &charge["refunded"]), (&json!(0), &json!(false)));
    for (name, times) in [("refund.created", 1), ("charge.refunded", 1), ("refund.updated", 2), ("refund.failed", 1)] {
        assert_eq!(events(&sold.world, name), times, "{name}");
    }
    assert_eq!(
        call(&mut sold.world, "GET", "refunds", &format!("charge={}", text(&charge["id"]))).expect("list")["data"][0]["id"],
        id
    );
}
