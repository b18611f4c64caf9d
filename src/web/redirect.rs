//! Where a form may send somebody afterwards.
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use url::Url;

/// Gives a 303 to an address. Only for addresses we made ourselves or that went through [`own_path`].
pub(crate) fn see_other(address: &str) -> Response {
    match HeaderValue::from_str(address) {
        Ok(value) => (StatusCode::SEE_OTHER, [(header::LOCATION, value)]).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Gives a 303 to a page of Stripe's, and refuses every other address: what a vendor answers is not ours either.
pub(crate) fn to_stripe(address: &str, page_origins: &[String]) -> Response {
    if is_stripes(address, page_origins) {
        return see_other(address);
    }
    tracing::error!("an address that is not Stripe's was not followed");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

/// Whether an address leads to a page of Stripe's: by https beneath stripe.com, or at an origin that the settings name.
fn is_stripes(address: &str, page_origins: &[String]) -> bool {
    let Ok(url) = address.parse::<Url>() else { return false };
    let origin = url.origin().ascii_serialization();
    let beneath = url.scheme() == "https" && url.host_str().is_some_and(|host| host.ends_with(".stripe.com"));
    let plain = url.username().is_empty() && url.password().is_none();
    plain && (beneath || page_origins.iter().any(|known| known.trim_end_matches('/') == origin))
}

/// Gives the path back when it is one of ours, and `/dashboard/` for everything else. `//host`, `/\host` and control
/// characters are how a path would lead elsewhere.
pub(crate) fn own_path(wanted: &str) -> &str {
    let printable = wanted.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let inside = wanted.starts_with('/') && !wanted.starts_with("//");
    let known = !wanted.starts_with("/accounts/logout");
    if printable && inside && known && wanted.len() <= 512 { wanted } else { "/dashboard/" }
}

/// Gives the address of the log-in page that leads back to a path afterwards.
pub(crate) fn login_then(path: &str) -> String {
    then("/accounts/login/", path)
}

/// The same with a passkey.
pub(crate) fn passkey_then(path: &str) -> String {
    then("/accounts/login/passkey/", path)
}

/// Gives the address of the page that asks again who somebody is and leads back to a path afterwards.
pub(crate) fn prove_then(path: &str) -> String {
    then("/accounts/again/", path)
}

fn then(page: &str, path: &str) -> String {
    let next: String = url::form_urlencoded::byte_serialize(own_path(path).as_bytes()).collect();
    format!("{page}?next={next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_paths_are_followed() {
        for good in ["/", "/pricing/?term=annual", "/dashboard/orders/1/"] {
            assert_eq!(own_path(good), good);
        }
        for bad in [
            "",
            "//evil.example/",
            "/\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/a\r\nSet-Cookie: x",
            "/ö",
            "/accounts/logout/",
        ] {
            assert_eq!(own_path(bad), "/dashboard/", "{bad:?}");
        }
        assert_eq!(own_path(&format!("/{}", "a".repeat(600))), "/dashboard/");
    }

    #[test]
    fn only_stripes_own_pages_are_led_to() {
        let origins = ["http://127.0.0.1:4242".to_owned(), "https://pay.example/".to_owned()];
        for good in ["https://checkout.stripe.com/c/pay/x", "http://127.0.0.1:4242/c/pay/x", "https://pay.example/x"] {
            assert!(is_stripes(good, &origins), "{good}");
        }
        for bad in [
            "",
            "/dashboard/",
            "http://checkout.stripe.com/",
            "https://stripe.com.evil.example/",
            "https://evilstripe.com/",
            "https://checkout.stripe.com@evil.example/",
            "https://ann@checkout.stripe.com/",
            "http://127.0.0.1:4243/",
            "javascript:alert(1)",
            "data:text/html,x",
        ] {
            assert!(!is_stripes(bad, &origins), "{bad}");
        }
    }

    #[test]
    fn the_way_back_survives_the_login_page() {
        assert_eq!(login_then("/a/?b=c&d=e"), "/accounts/login/?next=%2Fa%2F%3Fb%3Dc%26d%3De");
    }
}
