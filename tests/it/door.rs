//! The webhook door under a crowd: events told at the same moment are stored together, and whoever was told *stored* is.
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{StreamExt, stream};
use house::{House, HouseOptions};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    shop::{SOON, open_with, until},
    webhook::{event, header, now},
};

/// A house in which nobody works, so that events stay as they were stored.
async fn door(options: HouseOptions) -> House {
    let house = open_with(HouseOptions { with_portal: false, ..options }).await;
    house.start_web().await.expect("a web");
    house
}

/// The ids of our own events that are in the table; the catalogue's were told by the stand-in.
async fn ids(house: &House) -> BTreeSet<String> {
    let ids: Vec<String> = sqlx::query_scalar("select id from payment_events where type = 'some.type'")
        .fetch_all(house.db())
        .await
        .expect("the inbox");
    ids.into_iter().collect()
}

/// The difference is what a failure shows.
fn assert_same(found: &BTreeSet<String>, wanted: &BTreeSet<String>) {
    let (missing, more): (Vec<_>, Vec<_>) = (wanted.difference(found).collect(), found.difference(wanted).collect());
    assert!(missing.is_empty() && more.is_empty(), "not in the table: {missing:?}; too much in it: {more:?}");
}

/// Tells an event, and gives the status of the answer; nothing when there was none.
async fn tell(house: &House, browser: &reqwest::Client, body: String) -> Option<u16> {
    let signature = header(house.stripe_webhook_secret(), now(), &body);
    let url = house.url().join("/webhooks/stripe/").expect("a path");
    let sent = browser.post(url).header("Stripe-Signature", signature).body(body).send().await;
    sent.ok().map(|answer| answer.status().as_u16())
}

/// A whole request over a connection of its own, sent but not answered yet.
async fn sent(house: &House, body: &str) -> TcpStream {
    let authority = house.url().authority();
    let mut socket = TcpStream::connect(authority).await.expect("a connection");
    let request = format!(
        "POST /webhooks/stripe/ HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\nstripe-signature: {}\r\n\
         content-length: {}\r\n\r\n{body}",
        header(house.stripe_webhook_secret(), now(), body),
        body.len()
    );
    socket.write_all(request.as_bytes()).await.expect("sent");
    socket
}

async fn status(mut socket: TcpStream) -> u16 {
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no status: {answer}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_events_told_at_once_and_each_twice_are_stored_once_by_few_commits() {
    let house = door(HouseOptions::named("door-crowd")).await;
    let bodies: Vec<String> = (0..200).map(|number| event(&format!("evt_crowd_{number}"), "some.type")).collect();
    // Nothing can be stored while all of them arrive.
    let mut shut = house.db().begin().await.expect("a transaction");
    sqlx::query("lock table payment_events in share mode").execute(&mut *shut).await.expect("a lock");
    let mut waiting = Vec::new();
    for body in bodies.iter().chain(&bodies) {
        waiting.push(sent(&house, body).await);
    }
    until("the first of them waits at the table", SOON, || async {
        let blocked = "select count(*) from pg_locks where not granted and relation = 'payment_events'::regclass";
        let blocked: i64 = sqlx::query_scalar(blocked).fetch_one(house.db()).await.expect("the locks");
        (blocked > 0).then_some(())
    })
    .await;
    assert_eq!(ids(&house).await.len(), 0, "something was stored behind a lock");
    shut.rollback().await.expect("opened");
    for answer in waiting {
        assert_eq!(status(answer).await, 200);
    }
    assert_same(&ids(&house).await, &(0..200).map(|number| format!("evt_crowd_{number}")).collect());
    let commits = "select count(distinct xmin::text) from payment_events where type = 'some.type'";
    let commits: i64 = sqlx::query_scalar(commits).fetch_one(house.db()).await.expect("the rows");
    assert!(commits < 200, "each event had a commit of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_database_refuses_does_not_take_its_neighbours_along() {
    let house = door(HouseOptions::named("door-neighbours")).await;
    // Signed and well formed, and made before the first day a table can hold.
    let impossible = json!({
        "id": "evt_impossible", "object": "event", "type": "some.type", "created": -300_000_000_000_i64, "livemode": false,
        "data": {"object": {"id": "obj_1", "object": "thing"}}
    })
    .to_string();
    let mut shut = house.db().begin().await.expect("a transaction");
    sqlx::query("lock table payment_events in share mode").execute(&mut *shut).await.expect("a lock");
    let refused = sent(&house, &impossible).await;
    let mut taken = Vec::new();
    for number in 0..40 {
        taken.push(sent(&house, &event(&format!("evt_fine_{number}"), "some.type")).await);
    }
    shut.rollback().await.expect("opened");
    for answer in taken {
        assert_eq!(status(answer).await, 200);
    }
    assert_eq!(status(refused).await, 503);
    assert_same(&ids(&house).await, &(0..40).map(|number| format!("evt_fine_{number}")).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_while_the_database_was_cut_away_is_in_the_table_and_the_rest_was_refused() {
    const EVENTS: usize = 300;
    const AT_ONCE: usize = 100;
    let house = door(HouseOptions::named("door-cut").with_links()).await;
    let browser = reqwest::Client::new();
    let id = |number: usize| format!("evt_burst_{number}");
    let taken = Arc::new(AtomicUsize::new(0));
    let burst = stream::iter(0..EVENTS).map(|number| {
        let (house, browser, taken) = (&house, &browser, Arc::clone(&taken));
        async move {
            let status = tell(house, browser, event(&id(number), "some.type")).await.expect("an answer");
            taken.fetch_add(usize::from(status == 200), Ordering::SeqCst);
            (number, status)
        }
    });
    let burst = burst.buffer_unordered(AT_ONCE).collect::<Vec<(usize, u16)>>();
    let cut = async {
        until("a part of the burst is taken", SOON, || async {
            (taken.load(Ordering::SeqCst) >= EVENTS / 6).then_some(())
        })
        .await;
        house.database_link().expect("links").cut().await.expect("cut");
    };
    let (answers, ()) = tokio::join!(burst, cut);
    for (number, status) in &answers {
        assert!([200, 503].contains(status), "{} was answered with {status}", id(*number));
    }
    let there = ids(&house).await;
    let lost: Vec<String> = answers
        .iter()
        .filter(|(number, status)| *status == 200 && !there.contains(&id(*number)))
        .map(|(number, _)| id(*number))
        .collect();
    assert_eq!(lost, Vec::<String>::new(), "acknowledged and not in the table");
    let refused: Vec<usize> = answers.iter().filter(|(_, status)| *status == 503).map(|(number, _)| *number).collect();
    assert!(!refused.is_empty(), "the cut came too late");

    house.database_link().expect("links").heal().await.expect("healed");
    for number in refused {
        until("Stripe's next try is taken", SOON, || async {
            let status = tell(&house, &browser, event(&id(number), "some.type")).await.expect("an answer");
            (status == 200).then_some(())
        })
        .await;
    }
    assert_same(&ids(&house).await, &(0..EVENTS).map(id).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_the_web_was_killed_is_in_the_table() {
    const EVENTS: usize = 400;
    let house = door(HouseOptions::named("door-killed")).await;
    let browser = reqwest::Client::new();
    let id = |number: usize| format!("evt_last_{number}");
    let taken = Arc::new(AtomicUsize::new(0));
    let burst = stream::iter(0..EVENTS).map(|number| {
        let (house, browser, taken) = (&house, &browser, Arc::clone(&taken));
        async move {
            let status = tell(house, browser, event(&id(number), "some.type")).await;
            taken.fetch_add(usize::from(status == Some(200)), Ordering::SeqCst);
            (number, status)
        }
    });
    let burst = burst.buffer_unordered(40).collect::<Vec<(usize, Option<u16>)>>();
    let kill = async {
        until("a part of the burst is taken", SOON, || async {
            (taken.load(Ordering::SeqCst) >= EVENTS / 4).then_some(())
        })
        .await;
        house.kill_web().await.expect("kill -9");
    };
    let (answers, ()) = tokio::join!(burst, kill);
    let there = ids(&house).await;
    for (number, status) in answers {
        assert!(status != Some(200) || there.contains(&id(number)), "{} was acknowledged and is lost", id(number));
    }
}
