//! The names the portal answers to. A request for another name is somebody else's, or a trick: it is refused before anything
//! looks at it, so that no page, link or cache can be made to speak of another host.
use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::WebSettings;

/// What was refused because of its host.
const REFUSED_METRIC: &str = "ez_foreign_hosts_total";
/// Whether this process is well is asked by its address.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// A name, and whether it stands for every port.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    host: String,
    any_port: bool,
}

/// The names of this installation.
#[derive(Clone)]
pub(crate) struct Hosts(Arc<[Name]>);

impl Hosts {
    /// Reads them from the settings.
    pub(crate) fn of(settings: &WebSettings) -> Self {
        metrics::counter!(REFUSED_METRIC).increment(0);
        let site = Name { host: plain(bare(&settings.site_url)), any_port: false };
        let further =
            settings.door.hosts.iter().map(|host| Name { host: plain(host), any_port: without_port(host) == host });
        Self(std::iter::once(site).chain(further).collect())
    }

    fn knows(&self, host: &str) -> bool {
        let host = plain(host);
        self.0.iter().any(|name| name.host == host || (name.any_port && name.host == without_port(&host)))
    }
}

/// A site's address without its scheme.
fn bare(site_url: &str) -> &str {
    site_url.split_once("://").map_or(site_url, |(_, rest)| rest).trim_end_matches('/')
}

/// A host in lower case, without the port that need not be written and without a final dot.
fn plain(host: &str) -> String {
    let host = host.trim().to_ascii_lowercase();
    let host = host.strip_suffix(":443").or_else(|| host.strip_suffix(":80")).unwrap_or(&host);
    host.trim_end_matches('.').to_owned()
}

/// A host without its port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') =>
        {
            name
        }
        _ => host,
    }
}

/// The one host a request is for; nothing when it names none, several, or two that differ.
fn wanted(request: &Request) -> Option<&str> {
    let mut lines = request.headers().get_all(header::HOST).iter();
    let host = lines.next()?.to_str().ok()?;
    let whole = request.uri().authority().map(axum::http::uri::Authority::as_str);
    let agrees = whole.is_none_or(|whole| whole.eq_ignore_ascii_case(host));
    (agrees && lines.next().is_none()).then_some(host)
}

/// Refuses what is for another host.
pub(crate) async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    if PROBES.contains(&request.uri().path()) || wanted(&request).is_some_and(|host| hosts.knows(host)) {
        return next.run(request).await;
    }
    metrics::counter!(REFUSED_METRIC).increment(1);
    let mut response = Response::new("This is not the address of this portal.\n".into());
    *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[(&str, bool)]) -> Hosts {
        Hosts(names.iter().map(|(host, any_port)| Name { host: plain(host), any_port: *any_port }).collect())
    }

    #[test]
    fn our_own_names_are_known_however_they_are_written() {
        let ours =
            hosts(&[("portal.example", false), ("127.0.0.1", true), ("[::1]", true), ("other.example:8443", false)]);
        for known in ["portal.example", "PORTAL.example", "portal.example:443", "portal.example.", "127.0.0.1:4711"] {
            assert!(ours.knows(known), "{known}");
        }
        for known in ["[::1]:8000", "[::1]", "other.example:8443"] {
            assert!(ours.knows(known), "{known}");
        }
        for foreign in [
            "",
            "evil.example",
            "portal.example.evil.example",
            "portal.example:8000",
            "portal.example@evil.example",
            "evil.example:443",
            "other.example",
            "127.0.0.1:x",
            "127.0.0.1:",
        ] {
            assert!(!ours.knows(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_request_is_for_one_host_or_for_none() {
        let request = |uri: &str, lines: &[&str]| {
            let mut request = axum::http::Request::builder().uri(uri);
            for line in lines {
                request = request.header(header::HOST, *line);
            }
            wanted(&request.body(axum::body::Body::empty()).unwrap()).map(str::to_owned)
        };
        assert_eq!(request("/", &["portal.example"]).as_deref(), Some("portal.example"));
        assert_eq!(request("http://portal.example/", &["portal.example"]).as_deref(), Some("portal.example"));
        assert_eq!(request("http://evil.example/", &["portal.example"]), None);
        assert_eq!(request("/", &["portal.example", "evil.example"]), None);
        assert_eq!(request("/", &[]), None);
    }

    #[test]
    fn the_site_is_known_by_the_host_in_its_address() {
        assert_eq!(bare("https://portal.example"), "portal.example");
        assert_eq!(bare("http://127.0.0.1:8000/"), "127.0.0.1:8000");
        assert_eq!((without_port("[::1]:80"), without_port("[::1]"), without_port("a:b")), ("[::1]", "[::1]", "a:b"));
    }
}
