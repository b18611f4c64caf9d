//! A browser that only counts: some connections kept alive, one request after the other on each, every answer read to its
//! end and checked. It parses as little as it can, because it shares the machine with what it measures.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::figures::{as_f64, percentile_ms};

/// How many browsers there are at once.
pub(crate) const CONNECTIONS: usize = 32;
/// The largest answer that is read.
const ANSWER_LIMIT_BYTES: usize = 1024 * 1024;

/// What is sent, and what has to come back.
#[derive(Clone)]
pub(crate) struct Load {
    /// Where to.
    pub(crate) address: SocketAddr,
    /// What is asked for, taken in turn by whichever connection is free.
    pub(crate) requests: Arc<Vec<Request>>,
    /// Whether to begin again after the last one; else the measurement ends there.
    pub(crate) again: bool,
}

/// One request and what is expected of its answer.
pub(crate) struct Request {
    /// All of it, as it goes over the wire.
    pub(crate) bytes: Vec<u8>,
    /// The length of the right answer's body.
    pub(crate) body_length: usize,
}

/// What one run gave.
pub(crate) struct Measured {
    /// How long each answer took, from the first byte sent to the last one read.
    pub(crate) times: Vec<Duration>,
    /// How long all of them took together.
    pub(crate) took: Duration,
}

impl Measured {
    /// Answers in a second.
    pub(crate) fn rate(&self) -> f64 {
        as_f64(self.times.len()) / self.took.as_secs_f64()
    }

    /// The time this part of all answers took at most, in milliseconds.
    pub(crate) fn percentile_ms(&self, part: f64) -> f64 {
        percentile_ms(&self.times, part)
    }
}

impl Load {
    /// Sends for this long, or until everything was sent.
    ///
    /// *Errors*: a connection broke, or an answer was not 200 or not of the right length.
    pub(crate) async fn run(&self, lasting: Duration) -> Result<Measured> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut sockets = Vec::new();
        for _ in 0..CONNECTIONS {
            let socket = TcpStream::connect(self.address).await.context("connecting to the portal")?;
            socket.set_nodelay(true)?;
            sockets.push(socket);
        }
        let began = Instant::now();
        let mut browsers = JoinSet::new();
        for socket in sockets {
            browsers.spawn(self.clone().browse(socket, Arc::clone(&next), began + lasting));
        }
        let mut times = Vec::new();
        while let Some(browser) = browsers.join_next().await {
            times.append(&mut browser??);
        }
        let took = began.elapsed();
        ensure!(!times.is_empty(), "nothing was answered");
        Ok(Measured { times, took })
    }

    async fn browse(self, mut socket: TcpStream, next: Arc<AtomicUsize>, until: Instant) -> Result<Vec<Duration>> {
        let (mut times, mut buffer) = (Vec::new(), Vec::with_capacity(64 * 1024));
        while Instant::now() < until {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let turn = if self.again { turn % self.requests.len() } else { turn };
            let Some(request) = self.requests.get(turn) else { break };
            let began = Instant::now();
            socket.write_all(&request.bytes).await.context("sending a request")?;
            let answer = read_answer(&mut socket, &mut buffer).await?;
            times.push(began.elapsed());
            ensure!(answer.status == 200, "an answer had the status {}", answer.status);
            let length = buffer.len() - answer.body_from;
            ensure!(length == request.body_length, "an answer had {length} bytes instead of {}", request.body_length);
        }
        Ok(times)
    }
}

/// Sends one request and gives the answer's body, to see that it is the one that shall be measured.
///
/// *Errors*: the status is not 200, or the body does not contain `words`.
pub(crate) async fn look(address: SocketAddr, request: &[u8], words: &str) -> Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(request).await?;
    let mut buffer = Vec::new();
    let answer = read_answer(&mut socket, &mut buffer).await?;
    let body = String::from_utf8_lossy(buffer.get(answer.body_from..).unwrap_or_default()).into_owned();
    ensure!(answer.status == 200 && body.contains(words), "status {} and not “{words}” in: {body}", answer.status);
    Ok(body)
}

struct Answer {
    status: u16,
    body_from: usize,
}

/// Reads one whole answer into `buffer`. Only answers that say their length are understood.
async fn read_answer(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Answer> {
    buffer.clear();
    let mut head: Option<(Answer, usize)> = None;
    loop {
        if head.is_none() {
            head = read_head(buffer)?;
        }
        if let Some((answer, end)) = head.take() {
            match buffer.len() {
                length if length == end => return Ok(answer),
                length if length > end => bail!("more came than was asked for"),
                _ => head = Some((answer, end)),
            }
        }
        ensure!(buffer.len() < ANSWER_LIMIT_BYTES, "an answer has no end");
        ensure!(socket.read_buf(buffer).await.context("reading an answer")? > 0, "the portal hung up");
    }
}

/// Reads status and length once the whole head is there, and gives where the body begins and where it ends.
fn read_head(buffer: &[u8]) -> Result<Option<(Answer, usize)>> {
    let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(buffer.get(..end).unwrap_or_default()).context("a head that is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value.trim())
    });
    let length: usize = length.with_context(|| format!("an answer without a length: {head}"))?.parse()?;
    let body_from = end + 4;
    Ok(Some((Answer { status, body_from }, body_from + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_only_when_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert!(read_head(&whole[..20]).expect("so far so good").is_none());
        let (answer, end) = read_head(whole).expect("a head").expect("a whole head");
        assert_eq!((answer.status, answer.body_from, end), (200, whole.len() - 3, whole.len()));
        assert!(read_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "no length");
    }
}
