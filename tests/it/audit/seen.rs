//! What stands in the trail, and who reads it.
use domain::ids::{AccountId, UserId};
use house::{Customer, House, OrderForm, Page};
use serde_json::Value;

use super::{all_is_linked, right, store};
use crate::{
    attention::staff,
    money::staff::Held,
    shop::{SOON, open},
    world::count,
};

/// The entries with one action, oldest first: who, from where, before and after.
async fn entries(house: &House, action: &str) -> Vec<(String, Option<String>, Option<Value>, Option<Value>)> {
    sqlx::query_as(
        "select a.actor_kind, p.network, coalesce(a.before, p.before), coalesce(a.after, p.after)
         from audit a left join audit_particulars p on p.audit_id = a.id where a.action = $1 order by a.id",
    )
    .bind(action)
    .fetch_all(house.db())
    .await
    .expect("entries")
}

async fn look(customer: &Customer, path: &str) -> Page {
    customer.visitor.open(path).await.expect("a page").ok().expect("the page")
}

async fn ids(house: &House, customer: &Customer) -> (UserId, AccountId) {
    let (user, account): (uuid::Uuid, uuid::Uuid) = sqlx::query_as("select id, account_id from users where email = $1")
        .bind(&customer.email)
        .fetch_one(house.db())
        .await
        .expect("a user");
    (UserId(user), AccountId(account))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_state_is_in_the_trail_once_for_staff_and_for_whoever_owns_it() {
    let house = open("trail-states").await;
    let (ada, eve) =
        (Customer::signed_in(&house).await.expect("one"), Customer::signed_in(&house).await.expect("other"));
    let order = ada.buy(&OrderForm::small("trail-1")).await.expect("buying");
    ada.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    for (action, before) in [
        ("order.awaiting_payment", None),
        ("order.provisioning", Some("awaiting_payment")),
        ("order.delivered", Some("provisioning")),
        ("service.provisioning", None),
        ("service.running", Some("provisioning")),
    ] {
        let found = entries(&house, action).await;
        assert_eq!(found.len(), 1, "{action}: {found:?}");
        let (actor, network, was, now) = &found[0];
        assert_eq!((actor.as_str(), network), ("system", &None), "{action}");
        assert_eq!(was.as_ref().and_then(|was| was["status"].as_str()), before, "{action}");
        let status = action.split_once('.').map(|(_, status)| status);
        assert_eq!(now.as_ref().and_then(|now| now["status"].as_str()), status, "{action}");
    }
    assert_eq!(entries(&house, "subscription.active").await.first().map(|found| found.2.clone()), Some(None));
    // In the transaction that changes the state: what is rolled back was never written.
    let mut tx = house.db().begin().await.expect("a transaction");
    sqlx::query("update orders set status = 'abandoned'").execute(&mut *tx).await.expect("changed");
    tx.rollback().await.expect("taken back");
    assert_eq!(entries(&house, "order.abandoned").await.len(), 0);
    // A change past the portal is one by hand, and one that changes nothing is none.
    for status in ["suspended", "suspended", "running"] {
        sqlx::query("update services set status = $1").bind(status).execute(house.db()).await.expect("changed");
    }
    let found = entries(&house, "service.suspended").await;
    assert_eq!(found.iter().map(|found| found.0.as_str()).collect::<Vec<_>>(), ["hand"], "{found:?}");

    let page = look(&ada, "/accounts/activity/").await.text();
    for words in ["Order: delivered", "Service: running", "Logged in", "You", "The portal", "127.0.0.1"] {
        assert!(page.contains(words), "not “{words}”: {page}");
    }
    assert!(look(&ada, "/accounts/").await.link("/accounts/activity/").is_ok());
    let theirs = look(&eve, "/accounts/activity/").await.text();
    assert!(theirs.contains("Logged in") && !theirs.contains("Order"), "somebody else's is shown: {theirs}");
    all_is_linked(&house).await;
    right(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_search_the_trail_page_by_page_and_nobody_else_knows_of_it() {
    let house = open("trail-search").await;
    let (ada, staff) = (Customer::signed_in(&house).await.expect("a customer"), staff(&house).await);
    let (user, account) = ids(&house, &ada).await;
    sqlx::query(
        "select audit_write('user', $1, $2, 'test.made', 'test/' || n, null, null, null, null, null)
         from generate_series(1, 120) n",
    )
    .bind(user.0)
    .bind(account.0)
    .execute(house.db())
    .await
    .expect("entries");
    let stranger = house.visitor().expect("a browser");
    for visitor in [&stranger, &ada.visitor] {
        assert_eq!(visitor.open("/staff/audit/").await.expect("an answer").status, 404);
    }
    assert!(look(&staff, "/staff/").await.link("/staff/audit/").is_ok());

    let mut seen = vec![];
    let mut page = look(&staff, &format!("/staff/audit/?person={}&action=test.made", ada.email)).await;
    for expected in [50, 50, 20] {
        let rows = page.texts("main tbody td[data-label=About]");
        assert_eq!(rows.len(), expected, "{}", page.text());
        seen.extend(rows);
        match page.link("before=") {
            Ok(older) => page = look(&staff, older.as_str()).await,
            Err(_) => break,
        }
    }
    let expected: Vec<String> = (1..=120).rev().map(|n| format!("test/{n}")).collect();
    assert_eq!(seen, expected, "a page repeats or leaves something out");
    assert!(page.link("before=").is_err(), "more than all");

    let found = async |query: &str| {
        look(&staff, &format!("/staff/audit/?{query}")).await.texts("main tbody td[data-label=What]").len()
    };
    let today = time::OffsetDateTime::now_utc().date();
    assert_eq!(found("subject=test/7").await, 1);
    assert_eq!(found(&format!("account={account}&action=session.begun")).await, 1);
    assert_eq!(found(&format!("subject=test/7&until={today}")).await, 1);
    assert_eq!(found("subject=test/7&from=2100-01-01").await, 0);
    assert_eq!(found("subject=test/7&until=2001-01-01").await, 0);
    assert_eq!(found(&format!("person={}&subject=test/7", uuid::Uuid::nil())).await, 0);
    for bad in ["person=nobody@example.test", "person=x", "account=1", "from=today", "until=2026-02-30"] {
        let page = staff.visitor.open(&format!("/staff/audit/?{bad}")).await.expect("an answer");
        assert_eq!((page.status, page.texts("main tbody tr").len()), (422, 0), "{bad}: {}", page.text());
    }
    let odd = staff.visitor.open("/staff/audit/?subject=%27%20or%201%3D1--&action=%25").await.expect("an answer");
    assert_eq!((odd.status, odd.texts("main tbody tr").len()), (200, 0), "{}", odd.text());
    assert_eq!(staff.visitor.open("/staff/audit/?before=x").await.expect("an answer").status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_staff_do_is_in_the_trail_with_before_after_reason_and_from_where() {
    let house = open("trail-staff").await;
    let held = Held::new(&house, "trail-staff").await;
    assert_eq!(held.tell("credit", &[("amount", "3"), ("reason", "a slow day")]).await, "done");
    let forms = entries(&house, "staff.form").await;
    assert_eq!(forms.len(), 1, "{forms:?}");
    assert_eq!((forms[0].0.as_str(), forms[0].1.as_deref()), ("staff", Some("127.0.0.1")));
    for (action, was, now) in [("instruction.given", None, "accepted"), ("instruction.done", Some("accepted"), "done")]
    {
        let found = entries(&house, action).await;
        assert_eq!(found.len(), 1, "{action}: {found:?}");
        let (actor, _, before, after) = &found[0];
        assert_eq!(actor, "staff", "{action}");
        assert_eq!(before.as_ref().and_then(|before| before["state"].as_str()), was, "{action}");
        let after = after.as_ref().expect("how it is");
        assert_eq!(after["state"], now, "{action}");
        assert_eq!(
            (after["kind"].as_str(), after["reason"].as_str()),
            (Some("credit"), Some("a slow day")),
            "{action}"
        );
        assert_eq!(after["amount_minor"], 300, "{action}");
    }
    // The customer reads that it was done and by whom, and not what staff wrote for themselves.
    let page = look(&held.customer, "/accounts/activity/").await.text();
    assert!(page.contains("Our staff") && !page.contains("a slow day"), "{page}");
    let page = look(&held.staff, "/staff/audit/?action=instruction.done").await.text();
    assert!(page.contains("a slow day") && page.contains("(staff)"), "{page}");

    // Whoever did it takes none of it with them.
    let (user, account) = ids(&house, &held.staff).await;
    store(&house).forget_in_audit(user, Some(account)).await.expect("forgotten");
    assert_eq!(entries(&house, "staff.form").await[0].1.as_deref(), Some("127.0.0.1"));
    let after = entries(&house, "instruction.done").await[0].3.clone().expect("how it is");
    assert_eq!(after["reason"], "a slow day", "the reason went with whoever wrote it");

    // Who makes somebody staff, and who replaces a password past the pages, is an operator.
    let made = entries(&house, "user.made").await;
    assert_eq!(made.iter().filter(|made| made.0 == "hand").count(), 1, "{made:?}");
    house
        .run_ez(&["user", "password", "--email", house.staff_email()], "another staff password")
        .await
        .expect("replaced");
    assert_eq!(entries(&house, "user.password").await.iter().filter(|entry| entry.0 == "hand").count(), 1);
    let ended = entries(&house, "session.ended").await;
    assert!(ended.iter().any(|ended| ended.0 == "hand"), "{ended:?}");
    // Nobody gets a right to work here past the trail.
    sqlx::query("update users set is_staff = true where email = $1")
        .bind(&held.customer.email)
        .execute(house.db())
        .await
        .expect("changed");
    let found = entries(&house, "user.staff").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].3.as_ref().map(|after| after["staff"].clone()), Some(Value::Bool(true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_staff_read_is_in_the_trail_of_whoever_owns_it() {
    let house = open("trail-reads").await;
    let (ada, staff) = (Customer::signed_in(&house).await.expect("a customer"), staff(&house).await);
    ada.order(&OrderForm::small("read-1")).await.expect("the payment page");
    let order: String =
        sqlx::query_scalar("select id::text from orders").fetch_one(house.db()).await.expect("the table");
    let path = format!("/dashboard/orders/{order}/");
    assert!(look(&ada, &path).await.text().contains("read-1"));
    let nobodys = format!("/dashboard/orders/{}/", uuid::Uuid::new_v4());
    assert_eq!(staff.visitor.open(&nobodys).await.expect("an answer").status, 404);
    assert_eq!(entries(&house, "order.read").await.len(), 0, "nobody but the owner has read it");

    assert!(look(&staff, &path).await.text().contains("read-1"));
    let found = entries(&house, "order.read").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].0.as_str(), found[0].1.as_deref()), ("staff", Some("127.0.0.1")));
    let live = house.url().join(&format!("{path}events")).expect("a path");
    let live = staff.visitor.http.get(live).send().await.expect("an answer");
    assert_eq!(live.status(), 200);
    assert_eq!(entries(&house, "order.read").await.len(), 2, "what follows an order is a way around");
    let page = look(&ada, "/accounts/activity/").await.text();
    assert!(page.contains("Staff read the order") && page.contains("Our staff"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_says_something_of_a_person_is_forgotten_and_the_chain_stays_right() {
    let house = open("trail-forgets").await;
    let (ada, eve) =
        (Customer::signed_in(&house).await.expect("one"), Customer::signed_in(&house).await.expect("other"));
    all_is_linked(&house).await;
    let (user, account) = ids(&house, &ada).await;
    let particulars = "select count(*) from audit_particulars";
    let before = count(house.db(), particulars).await;
    let gone = store(&house).forget_in_audit(user, Some(account)).await.expect("forgotten");
    assert!(gone >= 2, "an address and a network were kept: {gone}");
    let left = count(house.db(), particulars).await;
    assert_eq!(left, before - i64::try_from(gone).expect("a number") + 1, "more or less than theirs went");
    let kept: Vec<String> = sqlx::query_scalar(
        "select to_jsonb(p)::text from audit_particulars p union all select to_jsonb(a)::text from audit a",
    )
    .fetch_all(house.db())
    .await
    .expect("the trail");
    assert!(kept.iter().all(|row| !row.contains(&ada.email)), "the address is left");
    assert!(kept.iter().any(|row| row.contains(&eve.email)), "somebody else was forgotten");
    assert!(look(&ada, "/accounts/activity/").await.text().contains("forgotten"));
    let refused = sqlx::query("delete from audit_particulars").execute(house.db()).await;
    assert!(refused.is_err(), "whoever likes may forget");
    all_is_linked(&house).await;
    right(&house).await;

    let all = store(&house).forget_audit_before(time::OffsetDateTime::now_utc(), 10_000).await.expect("forgotten");
    assert!(all > 0);
    assert_eq!(count(house.db(), particulars).await, 0);
    right(&house).await;
}
