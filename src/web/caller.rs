//! Where a request comes from: the network, what the browser seems to be, and whether it was here before.
use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::Once,
};

use axum::{
    extract::ConnectInfo,
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::WebSettings;
use crate::network;

/// How long a browser is remembered, in seconds: 400 days, the longest a browser keeps a cookie.
pub(crate) const REMEMBERED_SECS: u32 = 34_560_000;
const FORWARDED: &str = "x-forwarded-for";
/// It is told once for each process that a proxy is not named.
static UNNAMED: Once = Once::new();

/// The random token of one browser. Has no `Debug`: it is a secret.
#[derive(Clone, Copy)]
pub(crate) struct DeviceToken([u8; 32]);

impl DeviceToken {
    /// Makes a new one of 256 random bits.
    pub(crate) fn new() -> Self {
        Self(rand::random())
    }

    fn read(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// What is kept of it.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

/// Where a request comes from. Has no `Debug`: it says where a person is.
#[derive(Clone)]
pub(crate) struct Caller {
    /// The address, as far as it can be believed.
    pub(crate) address: Option<IpAddr>,
    /// What the browser seems to be, in our own words.
    pub(crate) agent: String,
    /// The token the browser got when somebody logged in with it.
    pub(crate) device: Option<DeviceToken>,
}

impl Caller {
    /// Reads it from the connection and the headers.
    pub(crate) fn of(parts: &Parts, settings: &WebSettings) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(socket)| socket.ip());
        let forwarded = forwarded(&parts.headers);
        let proxies = &settings.access.trusted_proxies;
        if let Some(peer) = peer.filter(|peer| !forwarded.is_empty() && proxies.is_empty() && network::is_inside(*peer))
        {
            UNNAMED.call_once(|| {
                tracing::warn!(%peer, "a proxy forwards requests that EZ_TRUSTED_PROXIES does not name: its customers count as one");
            });
        }
        let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self {
            address: peer.map(|peer| network::caller(peer, &forwarded, proxies)),
            agent: agent_words(agent),
            device: cookie(&parts.headers, cookie_name(settings)).and_then(DeviceToken::read),
        }
    }

    /// The address in words.
    pub(crate) fn network(&self) -> String {
        self.address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
    }

    /// What counts as one place for limits.
    pub(crate) fn place(&self) -> String {
        self.address.map_or_else(|| "unknown".to_owned(), |address| network::place_of(address).to_string())
    }

    /// What counts as one range for limits, where one customer may have many places.
    pub(crate) fn range(&self) -> Option<String> {
        self.address.and_then(network::range_of).map(|range| range.to_string())
    }
}

/// Gives the browser its token to keep.
pub(crate) fn remember(response: &mut Response, settings: &WebSettings, token: &DeviceToken) {
    let (name, text) = (cookie_name(settings), URL_SAFE_NO_PAD.encode(token.0));
    let secure = if settings.secure_cookies { "; Secure" } else { "" };
    let cookie = format!("{name}={text}; Path=/; Max-Age={REMEMBERED_SECS}; HttpOnly; SameSite=Lax{secure}");
    if let Ok(mut value) = HeaderValue::from_str(&cookie) {
        value.set_sensitive(true);
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// What proxies wrote, in order. A line that is no text is kept as one that names nobody: were it left out, the line before it
/// would be believed.
fn forwarded(headers: &HeaderMap) -> Vec<Cow<'_, str>> {
    headers.get_all(FORWARDED).iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect()
}

/// The name of the cookie that holds a browser's token.
pub(crate) fn cookie_name(settings: &WebSettings) -> &'static str {
    if settings.secure_cookies { "__Host-ez-device" } else { "ez-device" }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// What a browser says of itself, in words of ours: what it really wrote is kept nowhere.
fn agent_words(agent: &str) -> String {
    const BROWSERS: [(&str, &str); 7] = [
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("FxiOS/", "Firefox"),
        ("CriOS/", "Chrome"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ];
    const SYSTEMS: [(&str, &str); 7] = [
        ("Windows", "Windows"),
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Mac OS X", "macOS"),
        ("CrOS", "ChromeOS"),
        ("Linux", "Linux"),
    ];
    let first =
        |list: &[(&str, &'static str)]| list.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, word)| *word);
    match (first(&BROWSERS), first(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, Some(system)) => format!("a program on {system}"),
        (None, None) => "an unknown browser".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_described_in_our_own_words() {
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
        let edge = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/128.0 Safari/537.36 Edg/128.0";
        let safari =
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1 Version/17.5 Safari/604.1";
        assert_eq!(agent_words(firefox), "Firefox on Linux");
        assert_eq!(agent_words(edge), "Edge on Windows");
        assert_eq!(agent_words(safari), "Safari on iPhone");
        assert_eq!(agent_words("<script>alert(1)</script>"), "an unknown browser");
        assert_eq!(agent_words(""), "an unknown browser");
    }

    #[test]
    fn a_forwarded_line_that_is_no_text_hides_what_stands_before_it() {
        let ours = ["10.0.0.0/8".parse().unwrap()];
        let caller = |lines: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED, HeaderValue::from_bytes(line).unwrap());
            }
            network::caller("10.0.0.1".parse().unwrap(), &forwarded(&headers), &ours).to_string()
        };
        assert_eq!(caller(&[b"198.51.100.1", b"203.0.113.9"]), "203.0.113.9");
        assert_eq!(caller(&[b"198.51.100.1", b"\xff, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(caller(&[b"198.51.100.1", b"\xff"]), "10.0.0.1");
    }

    #[test]
    fn a_token_is_read_from_its_own_cookie_alone() {
        let token = DeviceToken::new();
        let text = URL_SAFE_NO_PAD.encode(token.0);
        let mut headers = HeaderMap::new();
        let line = format!("ez=abc; ez-device-x=no; ez-device={text}; other=1");
        headers.insert(header::COOKIE, HeaderValue::from_str(&line).unwrap());
        let read = cookie(&headers, "ez-device").and_then(DeviceToken::read).unwrap();
        assert_eq!(read.hash(), token.hash());
        assert!(cookie(&headers, "ez-devic").is_none());
        assert!(DeviceToken::read("short").is_none());
    }
}
