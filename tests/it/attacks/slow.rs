//! Clients that take for ever: they lose their connection, and everybody else is answered meanwhile.
use std::time::{Duration, Instant};

use house::{House, HouseOptions};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use super::{LIMIT, rest, status, wire};
use crate::shop::{SOON, open_with, until};

/// How long a slow client is waited for, in seconds.
const PATIENCE: &str = "2";
/// Between two bytes of a client that never stops.
const DRIP: Duration = Duration::from_millis(200);

async fn impatient(name: &str) -> House {
    open_with(HouseOptions::named(name).with("EZ_WEB_PATIENCE_SECS", PATIENCE)).await
}

fn head(house: &House, path: &str, more: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\n{more}\r\n", house.url().authority())
}

/// Sends one byte after the other until nobody listens any more.
async fn drip(mut socket: tokio::net::TcpStream, byte: &'static [u8]) -> String {
    let began = Instant::now();
    let (mut reader, mut writer) = socket.split();
    let mut read = vec![];
    let dripping = async {
        while writer.write_all(byte).await.is_ok() {
            assert!(began.elapsed() < LIMIT, "a client that drips is served for ever");
            sleep(DRIP).await;
        }
    };
    tokio::select! {
        () = dripping => {}
        ended = reader.read_to_end(&mut read) => drop(ended),
    }
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_the_head_of_a_request_too_slowly_is_hung_up_on() {
    let house = impatient("slow-heads").await;
    let mut silent = wire(&house).await;
    let mut half = wire(&house).await;
    half.write_all(b"GET /pricing/ HTTP/1.1\r\nHost: ").await.expect("half a head");
    let mut dripping = wire(&house).await;
    dripping.write_all(b"GET /pricing/ HTTP/1.1\r\nX-Slow: ").await.expect("a part of a head");
    let (silent, half, dripped) = tokio::join!(rest(&mut silent), rest(&mut half), drip(dripping, b"a"));
    for said in [silent, half, dripped] {
        assert!(said.is_empty() || [400, 408].contains(&status(&said)), "it was answered: {said}");
    }
    // A connection that has been answered is not kept for ever either.
    let mut used = wire(&house).await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", house.url().authority());
    used.write_all(request.as_bytes()).await.expect("a request");
    let said = rest(&mut used).await;
    assert_eq!(status(&said), 200, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_a_form_too_slowly_is_told_so_and_nothing_is_done() {
    let house = impatient("slow-bodies").await;
    for path in ["/accounts/login/", "/webhooks/stripe/", "/csp-reports/"] {
        let mut socket = wire(&house).await;
        let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n";
        socket.write_all(head(&house, path, form).as_bytes()).await.expect("a head");
        let said = drip(socket, b"a").await;
        assert!(said.is_empty() || [400, 408].contains(&status(&said)), "{path}: {said}");
        if path == "/accounts/login/" {
            assert!(said.contains("That took too long"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_take_what_was_asked_for_loses_the_connection() {
    let house = impatient("slow-readers").await;
    let page = house.visitor().expect("a browser").open("/").await.expect("the front page");
    let sheet = page.attributes("link[rel=stylesheet]", "href");
    let largest = sheet.iter().find(|path| path.contains("bootstrap")).expect("the style sheet");
    let mut socket = wire(&house).await;
    let request = format!("GET {largest} HTTP/1.1\r\nHost: {}\r\n\r\n", house.url().authority());
    // More than all buffers between us hold; nothing of it is read.
    let asked = timeout(LIMIT, async { while socket.write_all(request.as_bytes()).await.is_ok() {} }).await;
    assert!(asked.is_ok(), "a client that reads nothing is served for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_that_take_every_place_do_not_keep_others_out_for_long() {
    let options =
        HouseOptions::named("slow-crowd").with("EZ_WEB_PATIENCE_SECS", PATIENCE).with("EZ_WEB_CONNECTIONS", "20");
    let house = open_with(options).await;
    let mut crowd = vec![];
    for _ in 0..60 {
        let mut socket = wire(&house).await;
        socket.write_all(b"GET / HTTP/1.1\r\n").await.expect("a part of a head");
        crowd.push(socket);
    }
    let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client");
    let path = house.url().join("/pricing/").expect("a path");
    until("somebody in a hurry is answered", SOON, || async {
        let answer = http.get(path.clone()).send().await.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
    drop(crowd);
}
