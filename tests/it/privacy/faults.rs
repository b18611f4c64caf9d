//! The activities of copies and erasures under every fault: done once, or done again, and never half.
use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use house::{Customer, House};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ask_and_confirm, erasure_is, house_of, ids, somebody_with_a_past};
use crate::{
    attention::waiting_step,
    matrix::{TRIGGERS, decide_firmly},
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, count, list},
};

/// How long whatever comes after several deaths may take.
const LATER: Duration = Duration::from_mins(2);

/// A house whose erasures and copies can be spoilt at the database.
async fn spoilt_house(name: &str) -> House {
    spoilt_at(name, &["insert or update on erasures", "insert or update on data_exports"]).await
}

/// A house that can be spoilt after each of these changes.
async fn spoilt_at(name: &str, changes: &[&str]) -> House {
    let options = house_of(name, 1).with_links().with("EZ_DATABASE_POOL_SIZE", "30");
    let house = open_with(options).await;
    sqlx::raw_sql(TRIGGERS).execute(house.db()).await.expect("the triggers");
    for change in changes {
        let trigger = format!("create trigger matrix after {change} for each row execute function matrix_strike()");
        sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(house.db()).await.expect("a trigger");
    }
    house
}

/// Lays a fault on one change of what one user asked.
async fn lay(house: &House, user: Uuid, (table, state): (&str, &str), kind: &str, times: i32) {
    let id: i32 = sqlx::query_scalar("select nextval('matrix_faults_id_seq')::integer")
        .fetch_one(house.db())
        .await
        .expect("an id");
    let counter = format!("create sequence matrix_struck_{id}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(counter)).execute(house.db()).await.expect("a counter");
    sqlx::query("insert into matrix_faults (id, tbl, op, pattern, kind, times) values ($1, $2, 'UPDATE', $3, $4, $5)")
        .bind(id)
        .bind(table)
        .bind(json!({"user_id": user, "state": state}))
        .bind(kind)
        .bind(times)
        .execute(house.db())
        .await
        .expect("a fault");
}

/// How many faults have struck as often as they should, or at all when that is without end.
async fn struck(house: &House) -> i64 {
    count(
        house.db(),
        "select count(*) from matrix_faults f where coalesce(pg_sequence_last_value(('matrix_struck_' || f.id)::regclass), 0)
         >= case when f.times = 2147483647 then 1 else f.times end",
    )
    .await
}

/// So many customers, each logged in.
async fn crowd(house: &House, number: usize) -> Vec<Customer> {
    let come = (0..number).map(|_| Customer::signed_in(house));
    join_all(come).await.into_iter().map(|come| come.expect("a customer")).collect()
}

/// Asks for a copy, and does not wait for it.
async fn ask_copy(customer: &Customer) {
    let form = customer.visitor.open("/accounts/data/").await.expect("a page").ok().expect("the form");
    let values = [("password", customer.password.as_str())];
    customer.visitor.submit(&form, "/accounts/data/", &values).await.expect("an answer").ok().expect("asked");
}

async fn copies_come_once(house: &House, customers: &[&Customer]) {
    for customer in customers {
        house.mail().wait_for(&customer.email, "data is ready", 1, LATER).await.expect("a letter");
        let letters = house.mail().letters(&customer.email, "data is ready").await.expect("the mailbox");
        // A worker that dies while the mail server takes a letter gives it again under the same id.
        let ids: BTreeSet<&String> = letters.iter().map(|letter| &letter.message_id).collect();
        assert_eq!(ids.len(), 1, "told more than once: {ids:?}");
    }
}

async fn customer_of(house: &House, email: &str) -> String {
    let (account, _) = ids(house, email).await;
    sqlx::query_scalar("select stripe_customer_id from accounts where id = $1")
        .bind(account)
        .fetch_one(house.db())
        .await
        .expect("a customer at Stripe")
}

async fn is_gone(house: &House, customer: &str) -> bool {
    let customers = list(&house.stripe().state().await.expect("Stripe")["customers"]);
    customers.iter().all(|row| row["id"] != json!(customer) || row["deleted"] == true)
}

/// Each asks for a copy while what Stripe holds of them cannot be read in one way, the last one until somebody mends it:
/// every copy comes, once.
async fn copies_come_although(house: &House, people: &[Customer], faults: &[(&str, Value)]) {
    let mut last = 0;
    for ((_, fault), person) in faults.iter().zip(people) {
        let (mut fault, customer) = (fault.clone(), customer_of(house, &person.email).await);
        fault["method"] = json!("GET");
        fault["path"] = json!(format!("/v1/customers/{customer}"));
        last = house.stripe().add_fault(fault).await.expect("a fault");
    }
    join_all(people.iter().map(ask_copy)).await;
    let (_, user) = ids(house, &people.last().expect("somebody").email).await;
    let id: Uuid = sqlx::query_scalar("select id from data_exports where user_id = $1")
        .bind(user)
        .fetch_one(house.db())
        .await
        .expect("a copy");
    let workflow = format!("export-{id}");
    assert_eq!(waiting_step(house, &workflow).await, "gather_data");
    house.stripe().remove_fault(last).await.expect("mended");
    decide_firmly(house, &workflow, &[("verdict", "retry")]).await;
    copies_come_once(house, &people.iter().collect::<Vec<_>>()).await;
    let left = house.stripe().get("/_control/faults").await.expect("the faults");
    assert_eq!(left, json!([]), "a fault never struck a copy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_who_is_read_and_deleted_under_any_fault_has_a_copy_and_is_erased() {
    let house = open_with(house_of("erase-wire", 1)).await;
    let refusal = json!({"error": {"type": "invalid_request_error", "message": "not today"}});
    let busy = |status: u16| json!({"kind": "status", "status": status, "body": "slow down", "times": 2});
    let malformed = |shape: &str| json!({"kind": "malformed", "shape": shape, "times": 1});
    let faults: [(&str, Value); 7] = [
        ("lost", json!({"kind": "drop", "times": 1})),
        ("too many", busy(429)),
        ("busy", busy(503)),
        ("malformed", malformed("short")),
        ("half", malformed("half")),
        ("hang", json!({"kind": "hang", "times": 1})),
        ("for good", json!({"kind": "status", "status": 400, "body": refusal})),
    ];
    let people = join_all((0..faults.len()).map(|index| {
        let house = &house;
        async move { somebody_with_a_past(house, &format!("wire-{index}")).await }
    }))
    .await;
    copies_come_although(&house, &people, &faults).await;
    let (mut all, mut last) = (vec![], 0);
    for ((column, mut fault), person) in faults.into_iter().zip(&people) {
        let customer = customer_of(&house, &person.email).await;
        fault["method"] = json!("DELETE");
        fault["path"] = json!(format!("/v1/customers/{customer}"));
        last = house.stripe().add_fault(fault).await.expect("a fault");
        all.push((column, customer, ids(&house, &person.email).await.1));
    }
    join_all(people.iter().map(|person| ask_and_confirm(&house, person))).await;
    for (column, customer, user) in &all {
        if *column == "for good" {
            let id = erasure_is(&house, *user, "erasing").await;
            let workflow = format!("erasure-{id}");
            assert_eq!(waiting_step(&house, &workflow).await, "forget_customer");
            assert!(!is_gone(&house, customer).await);
            house.stripe().remove_fault(last).await.expect("mended");
            decide_firmly(&house, &workflow, &[("verdict", "retry")]).await;
        }
        erasure_is(&house, *user, "done").await;
        assert!(is_gone(&house, customer).await, "{column}: the customer is still there");
    }
    let left = house.stripe().get("/_control/faults").await.expect("the faults");
    assert_eq!(left, json!([]), "a fault never struck");
    assert_eq!(count(house.db(), "select count(*) from attention where settled_at is null").await, 0);
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_whose_worker_dies_in_the_middle_is_finished_by_the_next() {
    let house = open_with(house_of("erase-killed", 1)).await;
    let ann = somebody_with_a_past(&house, "killed-1").await;
    let (_, user) = ids(&house, &ann.email).await;
    let customer = customer_of(&house, &ann.email).await;
    let path = format!("/v1/customers/{customer}");
    let held = json!({"kind": "hang", "after_work": true, "method": "DELETE", "path": path, "times": 1});
    house.stripe().add_fault(held).await.expect("a fault");
    ask_and_confirm(&house, &ann).await;
    until("the customer is deleted and nobody has heard of it", SOON, || async {
        is_gone(&house, &customer).await.then_some(())
    })
    .await;
    house.kill_worker().await.expect("kill -9");
    let spoilt = json!({"kind": "hang", "after_work": true, "subject": ann.email, "times": 1});
    house.mail().control.add_fault(spoilt).await.expect("a fault");
    house.start_worker().await.expect("a new worker");
    until("the last letter is there and nobody has heard of it", SOON, || async {
        let came = house.mail().letters(&ann.email, "is erased").await.expect("the mailbox");
        (!came.is_empty()).then_some(())
    })
    .await;
    house.kill_worker().await.expect("kill -9");
    assert_eq!(count(house.db(), "select count(*) from erasures where state = 'erased'").await, 1);
    house.start_worker().await.expect("a new worker");
    erasure_is(&house, user, "done").await;
    assert_eq!(count(house.db(), "select count(*) from erasures where email is not null").await, 0);
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_busy_slow_or_lose_their_answer_are_changed_once() {
    let house = spoilt_house("erase-tables").await;
    let kinds = [("busy", 3), ("hang", 1), ("lose", 1), ("garble", 1)];
    let changes = [("data_exports", "ready"), ("erasures", "erasing"), ("erasures", "erased"), ("erasures", "done")];
    let mut people = crowd(&house, kinds.len() * changes.len()).await.into_iter();
    let (mut copies, mut erasures) = (vec![], vec![]);
    for (kind, times) in kinds {
        for what in changes {
            let somebody = people.next().expect("somebody");
            let (_, user) = ids(&house, &somebody.email).await;
            lay(&house, user, what, kind, times).await;
            if what.0 == "data_exports" {
                copies.push(somebody);
            } else {
                erasures.push((somebody, user));
            }
        }
    }
    join_all(copies.iter().map(ask_copy)).await;
    join_all(erasures.iter().map(|(somebody, _)| ask_and_confirm(&house, somebody))).await;
    for (_, user) in &erasures {
        erasure_is(&house, *user, "done").await;
    }
    copies_come_once(&house, &copies.iter().collect::<Vec<_>>()).await;
    assert_eq!(struck(&house).await, 16, "a fault never struck");
    assert_eq!(
        count(house.db(), "select count(*) from attention").await,
        0,
        "staff were asked although nothing was for them"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_after_a_commit_is_followed_by_one_that_goes_on() {
    let house = spoilt_house("erase-commits").await;
    let copy = Customer::signed_in(&house).await.expect("a customer");
    lay(&house, ids(&house, &copy.email).await.1, ("data_exports", "ready"), "hold", 1).await;
    let mut erasures = vec![];
    for state in ["erasing", "erased", "done"] {
        let somebody = Customer::signed_in(&house).await.expect("a customer");
        let (_, user) = ids(&house, &somebody.email).await;
        lay(&house, user, ("erasures", state), "hold", 1).await;
        erasures.push((somebody, user));
    }
    ask_copy(&copy).await;
    join_all(erasures.iter().map(|(somebody, _)| ask_and_confirm(&house, somebody))).await;
    let mut seen = 0;
    while seen < 4 {
        until("one more change is committed", LATER, || async { (struck(&house).await > seen).then_some(()) }).await;
        // Those that are committed at about the same time share one death.
        tokio::time::sleep(Duration::from_millis(500)).await;
        seen = struck(&house).await;
        house.kill_worker().await.expect("kill -9");
        house.start_worker().await.expect("a new worker");
    }
    for (_, user) in &erasures {
        erasure_is(&house, *user, "done").await;
    }
    copies_come_once(&house, &[&copy]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_tables_refuse_for_good_waits_for_staff_who_can_only_retry_it() {
    let house = spoilt_house("erase-refused-rows").await;
    let mut waiting = vec![];
    for (table, state, before, step) in [
        ("erasures", "erasing", "waiting", "record"),
        ("erasures", "erased", "erasing", "record"),
        ("erasures", "done", "erased", "record"),
        ("data_exports", "ready", "", "gather_data"),
    ] {
        let somebody = Customer::signed_in(&house).await.expect("a customer");
        let (_, user) = ids(&house, &somebody.email).await;
        lay(&house, user, (table, state), "refuse", i32::MAX).await;
        let workflow = if before.is_empty() {
            ask_copy(&somebody).await;
            let id: Uuid = sqlx::query_scalar("select id from data_exports where user_id = $1")
                .bind(user)
                .fetch_one(house.db())
                .await
                .expect("a copy");
            format!("export-{id}")
        } else {
            ask_and_confirm(&house, &somebody).await;
            format!("erasure-{}", erasure_is(&house, user, before).await)
        };
        assert_eq!(waiting_step(&house, &workflow).await, step, "{table} {state}");
        waiting.push((somebody, user, workflow));
    }
    sqlx::query("delete from matrix_faults").execute(house.db()).await.expect("mended");
    for (somebody, user, workflow) in &waiting {
        decide_firmly(&house, workflow, &[("verdict", "retry")]).await;
        if workflow.starts_with("erasure-") {
            erasure_is(&house, *user, "done").await;
        } else {
            copies_come_once(&house, &[somebody]).await;
        }
    }
}

/// A look notes when it was made, which nothing else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_an_erasure_is_made_again_under_any_fault() {
    let house = spoilt_at("erase-looks", &["update of read_at on erasures"]).await;
    let kinds = [("busy", 3), ("hang", 1), ("lose", 1), ("garble", 1), ("hold", 1), ("refuse", i32::MAX)];
    let (people, mut users) = (crowd(&house, kinds.len()).await, vec![]);
    for (somebody, (kind, times)) in people.iter().zip(kinds) {
        let (_, user) = ids(&house, &somebody.email).await;
        lay(&house, user, ("erasures", "waiting"), kind, times).await;
        users.push(user);
    }
    join_all(people.iter().map(|somebody| ask_and_confirm(&house, somebody))).await;
    let all = i64::try_from(kinds.len()).expect("few");
    until("every look is spoilt", LATER, || async { (struck(&house).await == all).then_some(()) }).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    house.kill_worker().await.expect("kill -9");
    house.start_worker().await.expect("a new worker");
    let refused = users.last().copied().expect("somebody");
    let workflow = format!("erasure-{}", erasure_is(&house, refused, "waiting").await);
    assert_eq!(waiting_step(&house, &workflow).await, "record");
    sqlx::query("delete from matrix_faults").execute(house.db()).await.expect("mended");
    decide_firmly(&house, &workflow, &[("verdict", "retry")]).await;
    for user in users {
        erasure_is(&house, user, "done").await;
    }
    assert_eq!(count(house.db(), "select count(*) from attention").await, 1, "staff were asked for more than one look");
}
