//! What somebody tries who means harm: other hosts, other origins, other people's sessions, strings that are code somewhere,
//! clients that take for ever or take every place, and a look at everything that was written down. What is tried in a browser is in
//! `browser/hostile.rs`.
mod answers;
mod cards;
mod documents;
mod hosts;
mod injection;
pub(crate) mod people;
mod policy;
mod rules;
mod secrets;
mod slow;
mod streams;
mod theft;

use std::time::Duration;

use house::House;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long anything may take that should be over soon.
const LIMIT: Duration = Duration::from_mins(1);

/// A connection to the house's web, without anything in between.
async fn wire(house: &House) -> TcpStream {
    let url = house.url();
    let address = (url.host_str().expect("a host"), url.port().expect("a port"));
    TcpStream::connect(address).await.expect("a connection")
}

/// Everything that comes until the other side hangs up.
async fn rest(socket: &mut TcpStream) -> String {
    let mut read = vec![];
    let ended = timeout(LIMIT, socket.read_to_end(&mut read)).await.expect("the other side hangs up");
    // A connection that is torn down has said what it had to say.
    drop(ended);
    String::from_utf8_lossy(&read).into_owned()
}

/// Sends this head of a request as it is, and gives the whole answer.
async fn say(house: &House, head: &str) -> String {
    let mut socket = wire(house).await;
    socket.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await.expect("a request");
    rest(&mut socket).await
}

/// The status of an answer.
fn status(answer: &str) -> u16 {
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|digits| digits.parse().ok());
    status.unwrap_or_else(|| panic!("no status: {answer:?}"))
}

/// The value of a metric of the house's web without labels, or with exactly these.
async fn metric(house: &House, name: &str) -> f64 {
    let told = house.metrics().await.expect("metrics");
    let line = told.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("{name} is not told"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}
