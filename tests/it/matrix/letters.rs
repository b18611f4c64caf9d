//! The row `mail.send`: the mail server spoils each letter in one way, and every letter comes once. One that it does not take
//! for as long as our patience lasts waits for staff, like any other step.
use contract::letter::LetterInput;
use futures::future::join_all;
use house::{Customer, House};
use serde_json::{Value, json};
use temporalio_client::{Client, WorkflowStartOptions};
use workflows::letter::Letter;

use super::{
    checks::{Repeats, World},
    order::{Bought, LIMIT, Story},
    story::decide_firmly,
};
use crate::{
    attention::{needing_attention, staff, waiting_step},
    shop::{open, until},
    world::count,
};

/// Each column, its faults, and whether the letter may stand in the mailbox more than once, under one Message-ID.
fn columns() -> [(&'static str, Vec<Value>, Repeats); 5] {
    [
        ("lost", vec![json!({"kind": "drop", "times": 1})], Repeats::UnderOneId),
        ("busy", vec![json!({"kind": "tempfail", "times": 4})], Repeats::Never),
        ("hang", vec![json!({"kind": "hang", "times": 1})], Repeats::Never),
        ("malformed", vec![json!({"kind": "garble", "times": 1})], Repeats::UnderOneId),
        ("killed", vec![json!({"kind": "hang", "after_work": true, "times": 1})], Repeats::UnderOneId),
    ]
}

async fn delivered(order: &mut Bought<'_>, client: &Client) {
    order.begin(client).await;
    order.page_opens().await;
    order.pay().await;
    order.reaches("delivered").await;
}

async fn mailed(house: &House, to: &str) -> usize {
    house.mail().letters(to, "ready").await.expect("the mailbox").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_whose_mail_server_fails_in_any_way_comes_once() {
    let house = open("matrix-mail").await;
    let client = house.temporal().await.expect("Temporal");
    let mut orders = vec![];
    for (column, faults, repeats) in columns() {
        let order = Bought::new(&house, Story::Delivered, &format!("mail-{column}")).await;
        for mut fault in faults {
            fault["subject"] = json!(order.email);
            house.mail().control.add_fault(fault).await.expect("a fault");
        }
        orders.push((column, order, repeats));
    }
    // The last one dies when nothing else is under way: whatever its worker was just sending then might come twice.
    let [living @ .., (_, killed, _)] = orders.as_mut_slice() else { panic!("no columns") };
    join_all(living.iter_mut().map(|(_, order, _)| delivered(order, &client))).await;
    for kind in ["service_delivered", "payment_received"] {
        join_all(living.iter().map(|(_, order, _)| order.is_told(kind))).await;
    }
    delivered(killed, &client).await;
    until("the held letter is in the mailbox", LIMIT, || async {
        (mailed(&house, &killed.email).await > 0).then_some(())
    })
    .await;
    house.kill_worker().await.expect("kill -9");
    house.start_worker().await.expect("a new worker");
    killed.is_told("service_delivered").await;
    let left = house.mail().control.get("/_control/faults").await.expect("the faults");
    assert_eq!(left, json!([]), "a fault never struck");
    let world = World::ask(&house).await;
    for (column, order, repeats) in &orders {
        world.assert_ended_well(&format!("mail.send × {column}"), order, *repeats).await;
    }
}

async fn begin(house: &House, client: &Client, order: &Bought<'_>, word: &str) -> String {
    let letter = json!({
        "kind": "service_delivered", "subject": {"Order": order.order}, "service": order.service,
        "occasion": format!("service_delivered/{}/{word}", order.service), "patience_secs": 3
    });
    let letter: LetterInput = serde_json::from_value(letter).expect("a letter");
    let id = letter.workflow_id();
    let options = WorkflowStartOptions::new(house.task_queue().to_owned(), id.clone()).build();
    client.start_workflow(Letter::run, letter, options).await.expect("a letter begins");
    id
}

async fn state(house: &House, id: &str) -> (String, Option<String>) {
    sqlx::query_as("select state, last_error from letters where occasion = $1")
        .bind(id.trim_start_matches("letter-"))
        .fetch_one(house.db())
        .await
        .expect("the letter")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_nobody_takes_waits_for_staff_on_both_sides_and_retry_and_abandon_end_it() {
    let house = open("matrix-mail-stuck").await;
    let client = house.temporal().await.expect("Temporal");
    let mut order = Bought::new(&house, Story::Delivered, "mail-stuck").await;
    delivered(&mut order, &client).await;
    order.is_told("service_delivered").await;
    let never = json!({"kind": "tempfail", "subject": order.email});
    let never = house.mail().control.add_fault(never).await.expect("a fault");
    let wanted = begin(&house, &client, &order, "wanted").await;
    let unwanted = begin(&house, &client, &order, "unwanted").await;
    for id in [&wanted, &unwanted] {
        assert_eq!(waiting_step(&house, id).await, "notify");
    }
    until("Temporal shows both", LIMIT, || async {
        let mut found = needing_attention(&house).await;
        found.sort();
        (found == [unwanted.clone(), wanted.clone()]).then_some(())
    })
    .await;
    let staff = staff(&house).await;
    let page = staff.visitor.open("/staff/").await.expect("the staff page").text();
    assert!(page.contains("Waiting for a person (2)"), "{page}");
    assert!(page.contains("did not take the letter"), "the mail server's words are not shown: {page}");
    house.mail().control.remove_fault(never).await.expect("mended");
    decide_firmly(&house, &wanted, &[("verdict", "retry")]).await;
    until("the letter is sent", LIMIT, || async { (state(&house, &wanted).await.0 == "sent").then_some(()) }).await;
    decide_firmly(&house, &unwanted, &[("verdict", "abandon"), ("reason", "told by telephone")]).await;
    until("the other is given up", LIMIT, || async { (state(&house, &unwanted).await.0 == "refused").then_some(()) })
        .await;
    assert!(state(&house, &unwanted).await.1.is_some_and(|why| why.contains("told by telephone")));
    until("Temporal shows nothing any more", LIMIT, || async {
        needing_attention(&house).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(mailed(&house, &order.email).await, 2, "the one of the order and the one tried again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_a_release_before_did_not_know_are_sent_and_those_of_one_to_come_wait_in_nobodys_way() {
    let house = open("matrix-mail-kinds").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let queue = async |query: &'static str| {
        sqlx::query(query).bind(&customer.email).execute(house.db()).await.expect("letters are written down")
    };
    // More than are taken at once, and older than everything else.
    queue(
        "insert into letters (occasion, kind, user_id, state, created_at)
         select 'to_come/' || n, 'of_a_release_to_come', users.id, 'queued', now() - interval '1 day'
         from users, generate_series(1, 250) n where email = $1",
    )
    .await;
    queue(
        "insert into letters (occasion, kind, user_id, state, last_error)
         select 'membership_changed/of-before', 'membership_changed', id, 'refused',
            'the letter is about nothing we know' from users where email = $1",
    )
    .await;
    queue(
        "insert into letters (occasion, kind, state)
         select 'password_changed/of-nobody', 'password_changed', 'queued' from users where email = $1",
    )
    .await;
    until("the letter that was refused is sent", LIMIT, || async {
        (state(&house, "membership_changed/of-before").await == ("sent".to_owned(), None)).then_some(())
    })
    .await;
    until("the letter to nobody is refused", LIMIT, || async {
        (state(&house, "password_changed/of-nobody").await.0 == "refused").then_some(())
    })
    .await;
    let waiting =
        "select count(*) from letters where kind = 'of_a_release_to_come' and state = 'queued' and last_error is null";
    assert_eq!(count(house.db(), waiting).await, 250, "a letter that a later release knows was given up");
    let came = house.mail().letters(&customer.email, "What you may do in an account").await.expect("the mailbox");
    assert_eq!(came.len(), 1);
}
