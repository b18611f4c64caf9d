//! Whoever worked here and leaves: what they did stays for its time, and what they are goes.
use house::{Customer, House};

use super::{ask_and_confirm, copy_page, erasure_is, files, house_of, ids, press, rows};
use crate::{
    accounts::{
        send,
        staff::{make, person},
    },
    attention::staff,
    shop::{SOON, open, open_with, until},
    world::{count, table},
};

const REASON: &str = "ticket 4711 of the customer";

/// One of the staff who looked at the customer's pages, and then left.
async fn leaver(house: &House, admin: &Customer, customer: &Customer) -> Customer {
    let eve = person(house, admin, "support").await;
    let values = [("whom", customer.email.as_str()), ("reason", REASON)];
    let page = send(&eve.visitor, "/staff/viewing/", "/staff/viewing/", &values).await;
    assert_eq!(page.status, 200, "{}", page.text());
    make(admin, &eve.email, "none").await.ok().expect("no staff any more");
    eve.log_in().await.expect("a customer as everybody");
    eve
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_staff_did_stays_when_they_are_erased_and_their_books_still_go() {
    let house = open_with(house_of("leaver", 1)).await;
    let (admin, customer) = (staff(&house).await, Customer::signed_in(&house).await.expect("a customer"));
    let eve = leaver(&house, &admin, &customer).await;
    let (_, user) = ids(&house, &eve.email).await;
    ask_and_confirm(&house, &eve).await;
    erasure_is(&house, user, "done").await;
    // Nothing was bought, so nothing has to be kept.
    house.kill_worker().await.expect("kill -9");
    house.start_worker().await.expect("a new worker");
    until("the rest is gone", SOON, || async {
        let gone = "select count(*) from erasures where rest_erased_at is not null";
        (count(house.db(), gone).await == 1).then_some(())
    })
    .await;
    let left: i64 = sqlx::query_scalar("select count(*) from users where id = $1")
        .bind(user)
        .fetch_one(house.db())
        .await
        .expect("the table");
    assert_eq!(left, 0, "who looked holds their own row");

    let seen = admin.visitor.open("/staff/viewing/").await.expect("a page").ok().expect("the page").text();
    assert!(seen.contains(REASON) && seen.contains("somebody who left"), "{seen}");
    let told: Vec<(Option<String>, Option<String>)> = sqlx::query_as(
        "select p.network, p.after ->> 'reason' from audit a join audit_particulars p on p.audit_id = a.id
         where a.actor_id = $1 and a.action = 'viewing.begun'",
    )
    .bind(user)
    .fetch_all(house.db())
    .await
    .expect("the trail");
    assert_eq!(told.len(), 1, "the evidence went with whoever left it");
    assert_eq!(told[0].1.as_deref(), Some(REASON));
    for name in ["audit", "audit_particulars", "viewings", "users"] {
        let rows = table(house.db(), name).await;
        assert!(rows.iter().all(|row| !row.to_string().contains(&eve.email)), "{name} names who was erased");
    }
    let verified = house.run_ez(&["audit", "verify"], "").await.expect("the chain is right");
    assert!(verified.contains("right:"), "{verified}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_who_worked_here_holds_nothing_they_wrote_about_customers() {
    let house = open("leaver-copy").await;
    let (admin, customer) = (staff(&house).await, Customer::signed_in(&house).await.expect("a customer"));
    let eve = leaver(&house, &admin, &customer).await;
    let (account, _) = ids(&house, &customer.email).await;
    let (_, user) = ids(&house, &eve.email).await;
    let written = "select count(*) from audit where action = 'viewing.begun' and actor_kind = 'staff'";
    assert_eq!(count(house.db(), written).await, 1, "nothing to leave out");
    let page = copy_page(&house, &eve, 1).await;
    let (status, _, archive) = press(&eve, &page).await;
    assert_eq!(status, 200);
    let files = files(archive);
    let whole: String = files.values().map(String::as_str).collect();
    for word in [REASON, customer.email.as_str(), account.to_string().as_str()] {
        assert!(!whole.contains(word), "{word} of a customer is in the copy");
    }
    let own = rows(&files, "audit");
    let is_own = |row: &serde_json::Value| row["actor_id"] == user.to_string() && row["action"] == "session.begun";
    assert!(own.iter().any(is_own), "what they did themselves is left out: {own:?}");
}
