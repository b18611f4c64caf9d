//! Free ports below the range the kernel hands to outgoing connections, so that a port found free stays free until its server binds it.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Mutex;

use anyhow::{Context, Result};

const LOWEST: u16 = 20_000;
const HIGHEST: u16 = 31_999;
const TRIES: u16 = 500;

static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A TCP port on 127.0.0.1 that nobody listens on and that this process has not handed out before.
///
/// *Errors*: no port was free after 500 tries.
pub fn free_port() -> Result<u16> {
    (0..TRIES).find_map(|_| try_port()).context("no free TCP port between 20000 and 31999 on 127.0.0.1")
}

fn try_port() -> Option<u16> {
    let port = rand::random_range(LOWEST..=HIGHEST);
    let mut handed_out = HANDED_OUT.lock().ok()?;
    if handed_out.contains(&port) || TcpListener::bind(("127.0.0.1", port)).is_err() {
        return None;
    }
    handed_out.insert(port);
    Some(port)
}

#[cfg(test)]
mod tests {
    use super::free_port;

    #[test]
    fn two_ports_are_never_the_same() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50 {
            assert!(seen.insert(free_port().expect("a port")));
        }
    }
}
