//! The headers every answer carries.
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

use super::WebSettings;

const PERMISSIONS: &str = "camera=(), geolocation=(), microphone=(), payment=(), usb=()";

/// The headers that are the same for every answer of this installation.
#[derive(Clone)]
pub(crate) struct Fixed(HeaderMap);

impl Fixed {
    /// Makes them from the settings.
    pub(crate) fn of(settings: &WebSettings) -> Self {
        let mut map = HeaderMap::new();
        let policy = content_policy(&settings.checkout_origins);
        let policy = HeaderValue::from_str(&policy)
            .unwrap_or_else(|_| HeaderValue::from_static("default-src 'self'; frame-ancestors 'none'"));
        map.insert(header::CONTENT_SECURITY_POLICY, policy);
        let mut put = |name: &'static str, value: &'static str| {
            map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        };
        put("x-content-type-options", "nosniff");
        put("x-frame-options", "DENY");
        put("referrer-policy", "same-origin");
        put("permissions-policy", PERMISSIONS);
        put("cross-origin-opener-policy", "same-origin");
        put("cross-origin-resource-policy", "same-origin");
        if settings.site_url.starts_with("https://") {
            put("strict-transport-security", "max-age=31536000; includeSubDomains");
        }
        Self(map)
    }
}

/// Browsers check `form-action` again at every redirect of a form, so the payment pages have to be named.
fn content_policy(checkout_origins: &[String]) -> String {
    let mut form_action = String::from("'self'");
    for origin in checkout_origins {
        form_action.push(' ');
        form_action.push_str(origin);
    }
    format!(
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; \
         form-action {form_action}"
    )
}

/// Adds the fixed headers, and says what may be kept in a cache.
pub(crate) async fn add(State(Fixed(fixed)): State<Fixed>, request: Request, next: Next) -> Response {
    let private = ["/accounts/", "/billing/", "/dashboard/", "/staff/"];
    let is_private = private.iter().any(|start| request.uri().path().starts_with(start));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in &fixed {
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
        let policy = content_policy(&["https://checkout.stripe.com".to_owned()]);
        assert!(policy.ends_with("form-action 'self' https://checkout.stripe.com"));
        assert!(!policy.contains("unsafe"));
    }
}
