//! Networks, and who really asks when proxies stand in between.
use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// How many hops of a forwarded address are followed.
const HOPS_LIMIT: usize = 16;

/// Addresses that begin alike, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    first: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether it holds so much of all there is that a stranger may stand in it.
    pub(crate) fn is_everybody(self) -> bool {
        self.prefix < 8
    }

    /// Whether an address belongs to it.
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && masked(address, self.prefix) == self.first
    }
}

impl FromStr for Network {
    type Err = &'static str;

    /// Reads `10.0.0.0/8`, `fd00::/8`, or one address alone.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const HELP: &str = "must be addresses or networks such as 10.0.0.0/8, separated by commas";
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.trim().parse().map_err(|_| HELP)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u8 = prefix.map_or(Ok(longest), |prefix| prefix.trim().parse()).map_err(|_| HELP)?;
        if prefix > longest || masked(address, prefix) != address {
            return Err(HELP);
        }
        Ok(Self { first: address, prefix })
    }
}

/// The first address of the network with so many bits that an address belongs to.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

/// What counts as one place: an IPv4 address, or the /64 that one customer of a provider has of IPv6.
pub(crate) fn place_of(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { address } else { masked(address, 64) }
}

/// The /48 of IPv6 that one customer of a provider may have, with 65,536 places in it.
pub(crate) fn range_of(address: IpAddr) -> Option<IpAddr> {
    address.is_ipv6().then(|| masked(address, 48))
}

/// Whether an address is one that no customer comes from, such as that of a proxy beside us.
pub(crate) fn is_inside(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    }
}

/// Who asks: the peer, or, when the peer is one of our proxies, whom the headers `X-Forwarded-For` name. They are read from
/// the end, and only as far as trusted proxies wrote them: what stands before that, anybody may have made up.
pub(crate) fn caller(peer: IpAddr, forwarded: &[impl AsRef<str>], proxies: &[Network]) -> IpAddr {
    let mut caller = peer.to_canonical();
    for hop in forwarded.iter().rev().flat_map(|line| line.as_ref().rsplit(',')).take(HOPS_LIMIT) {
        if !proxies.iter().any(|proxy| proxy.contains(caller)) {
            break;
        }
        match hop_address(hop.trim()) {
            Some(address) => caller = address,
            None => break,
        }
    }
    caller
}

/// An address with or without a port or brackets.
fn hop_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Vec<Network> {
        text.split(',').map(|part| part.parse().unwrap()).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_what_begins_alike() {
        let [ten, one, six] = networks("10.0.0.0/8,192.0.2.7,2001:db8::/32")[..] else { panic!("three") };
        assert!(ten.contains(ip("10.255.0.1")) && !ten.contains(ip("11.0.0.1")) && !ten.contains(ip("::1")));
        assert!(one.contains(ip("192.0.2.7")) && !one.contains(ip("192.0.2.8")));
        assert!(six.contains(ip("2001:db8:ffff::1")) && !six.contains(ip("2001:db9::1")));
        assert!(networks("0.0.0.0/0")[0].contains(ip("203.0.113.9")));
        assert!(networks("0.0.0.0/0,::/0,128.0.0.0/1").into_iter().all(Network::is_everybody));
        assert!(!ten.is_everybody() && !networks("fd00::/8")[0].is_everybody());
        for bad in ["", "ten", "10.0.0.1/8", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn without_a_trusted_proxy_a_forwarded_address_is_not_believed() {
        assert_eq!(caller(ip("203.0.113.9"), &["198.51.100.1"], &[]), ip("203.0.113.9"));
        assert_eq!(caller(ip("203.0.113.9"), &["198.51.100.1"], &networks("10.0.0.0/8")), ip("203.0.113.9"));
    }

    #[test]
    fn through_proxies_the_last_address_they_did_not_write_themselves_counts() {
        let ours = networks("10.0.0.0/8");
        assert_eq!(caller(ip("10.0.0.1"), &["198.51.100.1"], &ours), ip("198.51.100.1"));
        assert_eq!(caller(ip("10.0.0.1"), &["1.1.1.1, 198.51.100.1, 10.0.0.2"], &ours), ip("198.51.100.1"));
        assert_eq!(caller(ip("10.0.0.1"), &["1.1.1.1", "198.51.100.1"], &ours), ip("198.51.100.1"));
        assert_eq!(caller(ip("::ffff:10.0.0.1"), &["198.51.100.1:4711"], &ours), ip("198.51.100.1"));
        assert_eq!(caller(ip("10.0.0.1"), &["[2001:db8::1]:443"], &ours), ip("2001:db8::1"));
        assert_eq!(caller(ip("10.0.0.1"), &["[2001:db8::1]"], &ours), ip("2001:db8::1"));
        assert_eq!(caller(ip("10.0.0.1"), &["198.51.100.1, rubbish"], &ours), ip("10.0.0.1"));
        assert_eq!(caller(ip("10.0.0.1"), &["198.51.100.1", "\u{fffd}"], &ours), ip("10.0.0.1"));
        assert_eq!(caller(ip("10.0.0.1"), &[""; 0], &ours), ip("10.0.0.1"));
    }

    #[test]
    fn one_place_is_an_address_or_the_first_half_of_a_long_one() {
        assert_eq!(place_of(ip("198.51.100.1")), ip("198.51.100.1"));
        assert_eq!(place_of(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
    }

    #[test]
    fn places_that_one_customer_may_have_are_one_range() {
        assert_eq!(range_of(ip("2001:db8:1:2:3:4:5:6")), Some(ip("2001:db8:1::")));
        assert_eq!(range_of(ip("2001:db8:1:ffff::1")), Some(ip("2001:db8:1::")));
        assert_ne!(range_of(ip("2001:db8:2:2::1")), range_of(ip("2001:db8:1:2::1")));
        assert_eq!(range_of(ip("198.51.100.1")), None);
    }
}
