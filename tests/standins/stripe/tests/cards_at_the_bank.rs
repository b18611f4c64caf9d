//! Cards that have to be authenticated, and payments on their way.

use serde_json::json;

use super::super::{cards, cards::Card, checkout, checkout::Typed, invoices, payments, payments::Outcome};
use super::{GOOD, MONTH_SECS, events, latest_invoice, open_session, paid_charges, post, sold, text};

#[test]
fn a_renewal_waits_for_a_person_to_authenticate() {
    let mut sold = sold(Some(MONTH_SECS), cards::AUTHENTICATE);
    assert_eq!(paid_charges(&sold.world), 1);
    sold.pass(MONTH_SECS + 1);
    assert_eq!(sold.row()["status"], "past_due");
    let invoice = latest_invoice(&sold.world);
    assert_eq!(invoice["status"], "open");
    let id = text(&invoice["id"]);
    let (_, intent) = invoices::payment_of(&sold.world, &id).expect("intent");
    assert_eq!(sold.world.copy("payment_intent", &intent).expect("intent")["status"], "requires_action");
    for name in ["invoice.payment_action_required", "invoice.payment_failed", "payment_intent.requires_action"] {
        assert_eq!(events(&sold.world, name), 1, "{name}");
    }
    let refused = post(&mut sold.world, &format!("invoices/{id}/pay"), "").expect_err("nobody is there");
    assert_eq!(refused.body()["error"]["code"], "invoice_payment_intent_requires_action");
    let outcome = payments::authenticate(&mut sold.world, &intent, true).expect("authenticated");
    invoices::intent_moved(&mut sold.world, &intent, outcome).expect("paid");
    assert_eq!((sold.row()["status"].clone(), paid_charges(&sold.world)), (json!("active"), 2));
}

#[test]
fn authentication_that_fails_at_checkout_charges_nothing() {
    let (mut world, _, session) = open_session(None);
    let typed = Typed { authentication_fails: true, ..Typed::card(cards::AUTHENTICATE) };
    assert_eq!(checkout::pay(&mut world, &session, &typed).expect_err("failed").status, 402);
    assert_eq!(world.all("subscription").count(), 0);
    assert!(checkout::pay(&mut world, &session, &Typed::card(cards::INSUFFICIENT)).is_err());
    checkout::pay(&mut world, &session, &Typed::card(cards::AUTHENTICATE)).expect("paid");
    assert_eq!(paid_charges(&world), 1);
}

#[test]
fn a_first_payment_on_its_way_completes_the_session_unpaid() {
    for (arrives, status, event) in [
        (true, "active", "checkout.session.async_payment_succeeded"),
        (false, "past_due", "checkout.session.async_payment_failed"),
    ] {
        let (mut world, _, session) = open_session(None);
        checkout::pay(&mut world, &session, &Typed::card("AT611904300234573201")).expect("complete");
        let row = world.copy("checkout.session", &session).expect("session");
        assert_eq!((&row["status"], &row["payment_status"]), (&json!("complete"), &json!("unpaid")));
        let invoice = text(&latest_invoice(&world)["id"]);
        assert_eq!(invoices::collect(&mut world, &invoice, false).expect("left alone"), Outcome::Processing);
        assert!(post(&mut world, &format!("invoices/{invoice}/void"), "").is_err());
        assert_eq!(world.all("charge").count(), 1);
        let (_, intent) = invoices::payment_of(&world, &invoice).expect("intent");
        checkout::settle(&mut world, &intent, arrives).expect("settled");
        assert_eq!(world.all("subscription").next().expect("subscription")["status"], status);
        assert_eq!((events(&world, event), paid_charges(&world)), (1, usize::from(arrives)));
    }
}

#[test]
fn a_renewal_on_its_way_leaves_the_subscription_active() {
    let mut sold = sold(Some(MONTH_SECS), GOOD);
    payments::attach_card(&mut sold.world, &sold.customer, Card::Delayed).expect("account");
    sold.pass(MONTH_SECS + 1);
    assert_eq!(
        (sold.row()["status"].clone(), latest_invoice(&sold.world)["status"].clone()),
        (json!("active"), json!("open"))
    );
    assert_eq!(events(&sold.world, "payment_intent.processing"), 1);
    assert_eq!(events(&sold.world, "invoice.payment_failed"), 0);
}

#[test]
fn a_card_without_money_says_so() {
    let mut sold = sold(Some(MONTH_SECS), GOOD);
    payments::attach_card(&mut sold.world, &sold.customer, Card::Insufficient).expect("card");
    sold.pass(MONTH_SECS + 1);
    let charge = sold.world.all("charge").next_back().cloned().expect("charge");
    assert_eq!((&charge["status"], &charge["outcome"]["reason"]), (&json!("failed"), &json!("insufficient_funds")));
}
