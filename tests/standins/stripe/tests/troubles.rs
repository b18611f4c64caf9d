//! Disputes, deleted customers, drafts, people at their bank's page.

use serde_json::json;

use super::super::disputes::{self, Verdict};
use super::super::{cards, checkout, checkout::Typed};
use super::{GOOD, MONTH_SECS, call, events, get, latest_invoice, open_session, paid_charges, post, sold, text};

#[test]
fn a_dispute_is_opened_answered_and_decided() {
    for (verdict, status, back) in [(Verdict::Won, "won", 1), (Verdict::Lost, "lost", 0)] {
        let mut sold = sold(None, GOOD);
        let charge = text(&sold.world.all("charge").next().expect("charge")["id"]);
        let id = text(&disputes::open(&mut sold.world, &charge, "fraudulent", None).expect("dispute")["id"]);
        let refused = post(&mut sold.world, "refunds", &format!("charge={charge}")).expect_err("disputed");
        assert_eq!(refused.body()["error"]["code"], "charge_disputed");
        let form = "evidence[uncategorized_text]=They used it";
        assert_eq!(post(&mut sold.world, &format!("disputes/{id}"), form).expect("answered")["status"], "under_review");
        disputes::decide(&mut sold.world, &id, verdict).expect("decided");
        assert_eq!(get(&mut sold.world, &format!("disputes?charge={charge}"))["data"][0]["status"], status);
        for name in [
            "charge.dispute.created",
            "charge.dispute.funds_withdrawn",
            "charge.dispute.updated",
            "charge.dispute.closed",
        ] {
            assert_eq!(events(&sold.world, name), 1, "{name}");
        }
        assert_eq!(events(&sold.world, "charge.dispute.funds_reinstated"), back);
        assert_eq!(post(&mut sold.world, "refunds", &format!("charge={charge}")).is_ok(), verdict == Verdict::Won);
    }
}

#[test]
fn a_deleted_customer_says_so_and_pays_no_more() {
    let mut sold = sold(Some(MONTH_SECS), GOOD);
    let path = format!("customers/{}", sold.customer);
    let gone = json!({"id": sold.customer, "object": "customer", "deleted": true});
    assert_eq!(call(&mut sold.world, "DELETE", &path, "").expect("deleted"), gone);
    assert_eq!(get(&mut sold.world, &path), gone);
    assert_eq!(sold.row()["status"], "canceled");
    assert_eq!((events(&sold.world, "customer.subscription.deleted"), events(&sold.world, "customer.deleted")), (1, 1));
    assert_eq!(post(&mut sold.world, &path, "name=Nobody").expect_err("gone").status, 404);
    sold.pass(MONTH_SECS * 3);
    assert_eq!(paid_charges(&sold.world), 1);
}

#[test]
fn a_renewal_may_stay_a_draft_for_a_while() {
    let mut sold = sold(Some(MONTH_SECS), GOOD);
    sold.world.draft_secs = 20;
    sold.pass(MONTH_SECS + 1);
    let draft = latest_invoice(&sold.world);
    assert_eq!((&draft["status"], &draft["number"]), (&json!("draft"), &json!(null)));
    assert_eq!((sold.row()["status"].clone(), paid_charges(&sold.world)), (json!("active"), 1));
    assert_eq!(sold.row()["latest_invoice"], draft["id"]);
    sold.pass(20);
    assert_eq!((latest_invoice(&sold.world)["status"].clone(), paid_charges(&sold.world)), (json!("paid"), 2));
}

#[test]
fn a_session_that_expires_while_somebody_pays_charges_nothing() {
    let (mut world, _, session) = open_session(None);
    checkout::begin(&mut world, &session, Typed::card(cards::AUTHENTICATE)).expect("at the bank");
    checkout::expire(&mut world, &session).expect("expired");
    assert_eq!(checkout::finish(&mut world, &session).expect_err("too late").status, 400);
    assert_eq!((world.all("subscription").count(), paid_charges(&world)), (0, 0));
}

#[test]
fn the_same_order_may_be_paid_in_two_tabs() {
    let (mut world, customer, first) = open_session(None);
    let price = text(&world.all("price").next().expect("price")["id"]);
    let form = format!(
        "mode=subscription&customer={customer}&success_url=http://shop.test/&line_items[0][price]={price}&line_items[0][quantity]=1"
    );
    let second = text(&post(&mut world, "checkout/sessions", &form).expect("session")["id"]);
    for session in [&first, &second] {
        checkout::pay(&mut world, session, &Typed::card(GOOD)).expect("paid");
    }
    assert_eq!((world.all("subscription").count(), paid_charges(&world)), (2, 2));
}
