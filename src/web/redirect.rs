//! Where a form may send somebody afterwards.
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// Gives a 303 to an address. Only for addresses we made ourselves or that went through [`own_path`].
pub(crate) fn see_other(address: &str) -> Response {
    match HeaderValue::from_str(address) {
        Ok(value) => (StatusCode::SEE_OTHER, [(header::LOCATION, value)]).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
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
    let next: String = url::form_urlencoded::byte_serialize(own_path(path).as_bytes()).collect();
    format!("/accounts/login/?next={next}")
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
    fn the_way_back_survives_the_login_page() {
        assert_eq!(login_then("/a/?b=c&d=e"), "/accounts/login/?next=%2Fa%2F%3Fb%3Dc%26d%3De");
    }
}
