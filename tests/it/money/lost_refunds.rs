//! Money that was given back and did not arrive: staff are shown it once, until it was given back again.
use house::{HouseOptions, PolicySecs};
use serde_json::json;

use super::{
    fewer::compared,
    staff::Held,
    story::{act, becomes, newest, told, word},
};
use crate::{
    shop::open_with,
    world::{assert_stripe_contract, count},
};

const SHOWN: &str = "select count(*) from payment_events
    where type = 'difference' and object_kind = 'refund' and state = 'unclaimed'";
const UNANSWERED: &str = "select (select count(*) from payment_events where state = 'received')
    + (select count(*) from mirror_looks)";
const WORDS: &str = "the refund of EUR 2.00 is failed at Stripe";

/// How often the staff page says it.
async fn said(held: &Held<'_>) -> usize {
    let board = held.staff.visitor.open("/staff/").await.expect("an answer").ok().expect("the staff page");
    board.text().matches(WORDS).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refund_that_fails_later_is_shown_to_staff_once_until_the_money_was_given_back_again() {
    let policy = PolicySecs { comparison: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("lost-refund") }).await;
    let held = Held::new(&house, "lost-refund-1").await;
    let values = [("amount", "2.00"), ("reason", "it was slow in May")];
    assert_eq!(held.tell("refund", &values).await, "done");
    becomes(&house, "the refund is known", "select count(*) from refunds where status = 'succeeded'", 1).await;
    compared(&held).await;
    assert_eq!(count(house.db(), SHOWN).await, 0, "a refund that stands is shown");

    let refund = word(&newest(&house, "refunds", |refund| refund["amount"] == 200).await["id"]);
    act(&house, &format!("refunds/{refund}/fail"), json!({})).await;
    becomes(&house, "staff are shown it", SHOWN, 1).await;
    assert_eq!(said(&held).await, 1);

    // Compared again, and every event told and looked at again.
    compared(&held).await;
    told(&house).await;
    house.run_ez(&["reconcile"], "").await.expect("reconciled");
    becomes(&house, "everything is looked at", UNANSWERED, 0).await;
    compared(&held).await;
    assert_eq!(said(&held).await, 1, "shown otherwise than once");
    let ever = "select count(*) from payment_events where type = 'difference' and object_kind = 'refund'";
    assert_eq!((count(house.db(), SHOWN).await, count(house.db(), ever).await), (1, 1));

    assert_eq!(held.tell("refund", &values).await, "done");
    becomes(&house, "nothing is shown any more", SHOWN, 0).await;
    assert_eq!((said(&held).await, held.refunds().await), (0, vec![200, 200]));
    compared(&held).await;
    assert_eq!(count(house.db(), SHOWN).await, 0, "shown once more");
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "something waits for staff");
    held.service_is("running").await;
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_again_takes_only_as_much_from_staff() {
    let policy = PolicySecs { comparison: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("lost-refunds") }).await;
    let held = Held::new(&house, "lost-refunds-1").await;
    for (amount, known) in [("2.00", 1), ("1.00", 2)] {
        assert_eq!(held.tell("refund", &[("amount", amount), ("reason", "it was slow in May")]).await, "done");
        becomes(&house, "the refund is known", "select count(*) from refunds where status = 'succeeded'", known).await;
    }
    for amount in [200, 100] {
        let refund = word(&newest(&house, "refunds", |refund| refund["amount"] == amount).await["id"]);
        act(&house, &format!("refunds/{refund}/fail"), json!({})).await;
    }
    becomes(&house, "staff are shown both", SHOWN, 2).await;
    // Stripe counts whole seconds: what is given back now is given back later.
    compared(&held).await;
    compared(&held).await;

    assert_eq!(held.tell("refund", &[("amount", "2.00"), ("reason", "by another way")]).await, "done");
    becomes(&house, "one of them is made up for", SHOWN, 1).await;
    compared(&held).await;
    assert_eq!(count(house.db(), SHOWN).await, 1, "counted two times");
    let smaller = "select count(*) from payment_events e join refunds r on r.id = e.object_id
        where e.type = 'difference' and e.object_kind = 'refund' and e.state = 'unclaimed' and r.amount_minor = 100";
    assert_eq!((said(&held).await, count(house.db(), smaller).await), (0, 1), "the wrong one is shown");

    assert_eq!(held.tell("refund", &[("amount", "1.00"), ("reason", "by another way")]).await, "done");
    becomes(&house, "nothing is shown any more", SHOWN, 0).await;
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "something waits for staff");
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_take_a_lost_refund_that_they_settled_otherwise_from_the_page_with_a_reason() {
    let policy = PolicySecs { comparison: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("settled-refund") }).await;
    let held = Held::new(&house, "settled-refund-1").await;
    assert_eq!(held.tell("refund", &[("amount", "2.00"), ("reason", "it was slow in May")]).await, "done");
    becomes(&house, "the refund is known", "select count(*) from refunds where status = 'succeeded'", 1).await;
    let refund = word(&newest(&house, "refunds", |refund| refund["amount"] == 200).await["id"]);
    act(&house, &format!("refunds/{refund}/fail"), json!({})).await;
    becomes(&house, "staff are shown it", SHOWN, 1).await;

    let page = held.staff.visitor.open("/staff/").await.expect("an answer").ok().expect("the staff page");
    let settle = async |reason: &str| {
        held.staff.visitor.submit(&page, "/staff/refunds/", &[("reason", reason)]).await.expect("an answer")
    };
    let refused = settle("").await;
    assert!(refused.status == 422 && refused.text().contains("Write down why."), "{}", refused.text());
    assert_eq!(count(house.db(), SHOWN).await, 1, "settled without a reason");
    let settled = settle("paid by bank transfer").await;
    assert_eq!((settled.status, count(house.db(), SHOWN).await), (200, 0), "{}", settled.text());
    let noted = "select count(*) from audit a join audit_particulars p on p.audit_id = a.id
        where a.action = 'refund.settled' and a.actor_kind = 'staff' and p.after->>'because' = 'paid by bank transfer'";
    assert_eq!(count(house.db(), noted).await, 1);

    settle("sent once more").await.ok().expect("the staff page");
    told(&house).await;
    house.run_ez(&["reconcile"], "").await.expect("reconciled");
    becomes(&house, "everything is looked at", UNANSWERED, 0).await;
    compared(&held).await;
    assert_eq!((said(&held).await, count(house.db(), SHOWN).await), (0, 0), "shown once more");
    let all = "select count(*) from audit where action = 'refund.settled'";
    assert_eq!(count(house.db(), all).await, 1, "settled two times");
    assert_stripe_contract(&house).await;
}
