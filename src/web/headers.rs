//! The headers every answer carries.
use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

use super::{WebSettings, reports};
use crate::config::HstsConfig;

const PERMISSIONS: &str = "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), \
     magnetometer=(), microphone=(), midi=(), payment=(), screen-wake-lock=(), serial=(), usb=(), xr-spatial-tracking=()";
const REPORT_ONLY: HeaderName = HeaderName::from_static("content-security-policy-report-only");
const EMBEDDER: HeaderName = HeaderName::from_static("cross-origin-embedder-policy");

/// The headers that are the same for every answer of this installation.
#[derive(Clone)]
pub(crate) struct Fixed {
    usual: Arc<HeaderMap>,
    /// For the one page that asks elsewhere whether somebody is a person.
    asking: Arc<HeaderMap>,
}

/// Marks an answer whose page asks elsewhere whether somebody is a person.
#[derive(Clone, Copy)]
pub(crate) struct AsksElsewhere;

impl Fixed {
    /// Makes them from the settings.
    pub(crate) fn of(settings: &WebSettings) -> Self {
        let usual = usual(settings, None);
        let asking = settings.turnstile.as_ref().map_or_else(
            || usual.clone(),
            |turnstile| {
                let mut map = self::usual(settings, Some(&turnstile.origin));
                // A frame of somebody else does not say that it may be embedded here.
                map.remove(EMBEDDER);
                map
            },
        );
        Self { usual: Arc::new(usual), asking: Arc::new(asking) }
    }
}

fn usual(settings: &WebSettings, elsewhere: Option<&str>) -> HeaderMap {
    let mut map = HeaderMap::new();
    let is_https = settings.site_url.starts_with("https://");
    let whole = content_policy(&settings.checkout_origins, elsewhere, is_https);
    if settings.door.csp_report_only {
        put(&mut map, header::CONTENT_SECURITY_POLICY, &least_policy(&settings.checkout_origins));
        put(&mut map, REPORT_ONLY, &whole);
    } else {
        put(&mut map, header::CONTENT_SECURITY_POLICY, &whole);
    }
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("x-permitted-cross-domain-policies", "none"),
        ("referrer-policy", "same-origin"),
        ("permissions-policy", PERMISSIONS),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map.insert(EMBEDDER, HeaderValue::from_static("require-corp"));
    if is_https {
        put(&mut map, header::STRICT_TRANSPORT_SECURITY, &transport_policy(settings.door.hsts));
    }
    map
}

/// A setting may hold what no header can: then the strictest policy stands there, and the pages show that something is wrong.
fn put(map: &mut HeaderMap, name: HeaderName, text: &str) {
    let value = HeaderValue::from_str(text)
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'"));
    map.insert(name, value);
}

/// Only what our own host serves, nothing inline, and nothing that is not named here. Browsers check `form-action` again at
/// every redirect of a form, so the payment pages have to be named. Pictures in the style sheet are `data:`.
fn content_policy(checkout_origins: &[String], elsewhere: Option<&str>, is_https: bool) -> String {
    let also = elsewhere.map(|origin| format!(" {origin}")).unwrap_or_default();
    let frames = elsewhere.unwrap_or("'none'");
    let upgrade = if is_https { "; upgrade-insecure-requests" } else { "" };
    format!(
        "default-src 'none'; script-src 'self'{also}; style-src 'self'; img-src 'self' data:; font-src 'self'; \
         connect-src 'self'{also}; frame-src {frames}; {}; report-uri {}{upgrade}",
        least_policy(checkout_origins),
        reports::PATH,
    )
}

/// What holds even while the rest is only reported.
fn least_policy(checkout_origins: &[String]) -> String {
    let mut policy = String::from("object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'");
    for origin in checkout_origins {
        policy.push(' ');
        policy.push_str(origin);
    }
    policy
}

fn transport_policy(hsts: HstsConfig) -> String {
    let subdomains = if hsts.subdomains { "; includeSubDomains" } else { "" };
    let preload = if hsts.preload { "; preload" } else { "" };
    format!("max-age={}{subdomains}{preload}", hsts.secs)
}

/// Adds the fixed headers, and says what may be kept in a cache.
pub(crate) async fn add(State(fixed): State<Fixed>, request: Request, next: Next) -> Response {
    let private = ["/accounts/", "/billing/", "/dashboard/", "/staff/"];
    let is_private = private.iter().any(|start| request.uri().path().starts_with(start));
    let mut response = next.run(request).await;
    let asks = response.extensions().get::<AsksElsewhere>().is_some();
    let fixed = if asks { fixed.asking } else { fixed.usual };
    let headers = response.headers_mut();
    for (name, value) in &*fixed {
        headers.insert(name.clone(), value.clone());
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static(if is_private {
        "no-store"
    } else {
        "private, no-cache"
    }));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_may_lead_to_the_payment_page_and_nothing_may_be_inline() {
        let policy = content_policy(&["https://checkout.stripe.com".to_owned()], None, false);
        assert!(
            policy.contains("form-action 'self' https://checkout.stripe.com; report-uri /csp-reports/"),
            "{policy}"
        );
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; "), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert!(content_policy(&[], None, true).ends_with("; upgrade-insecure-requests"));
    }

    #[test]
    fn only_the_page_that_asks_elsewhere_may_load_from_there() {
        let policy = content_policy(&[], Some("https://person.example"), true);
        for part in
            ["script-src 'self' https://person.example;", "frame-src https://person.example;", "style-src 'self';"]
        {
            assert!(policy.contains(part), "{part} is not in {policy}");
        }
        assert!(content_policy(&[], None, true).contains("frame-src 'none';"));
    }

    #[test]
    fn https_alone_is_asked_for_in_steps() {
        let said = |secs, subdomains, preload| transport_policy(HstsConfig { secs, subdomains, preload });
        assert_eq!(said(300, false, false), "max-age=300");
        assert_eq!(said(31_536_000, true, false), "max-age=31536000; includeSubDomains");
        assert_eq!(said(63_072_000, true, true), "max-age=63072000; includeSubDomains; preload");
    }
}
