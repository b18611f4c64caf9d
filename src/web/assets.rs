//! The files in `static/`, carried in the binary and served under the hash of their content, so that they never grow stale.
use std::{collections::BTreeMap, fmt::Write as _, sync::LazyLock};

use axum::{
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rust_embed::Embed;

#[derive(Embed)]
#[folder = "static/"]
struct Files;

static ADDRESSES: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    Files::iter()
        .filter(|path| !path.ends_with(".md"))
        .filter_map(|path| {
            let file = Files::get(&path)?;
            let address = format!("/static/{}/{path}", short_hash(&file.metadata.sha256_hash()));
            Some((path.into_owned(), address))
        })
        .collect()
});

fn short_hash(whole: &[u8; 32]) -> String {
    whole.iter().take(8).fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Gives the address of a file; the address of the front page when there is no such file.
pub(crate) fn url(path: &str) -> &'static str {
    ADDRESSES.get(path).map_or("/", String::as_str)
}

/// Serves a file under its hash, to be kept for ever. Another hash is not found: it was another content.
pub(crate) async fn serve(Path((hash, path)): Path<(String, String)>) -> Response {
    let wanted = format!("/static/{hash}/{path}");
    let Some(file) = Files::get(&path).filter(|_| url(&path) == wanted) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let kind = mime_guess::from_path(&path).first_or_octet_stream();
    let text = if kind.type_() == mime_guess::mime::TEXT || kind.suffix() == Some(mime_guess::mime::XML) {
        format!("{kind}; charset=utf-8")
    } else {
        kind.to_string()
    };
    let kind = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let keep = HeaderValue::from_static("public, max-age=31536000, immutable");
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, keep)], file.data).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_a_page_names_is_carried() {
        for path in [
            "site.css",
            "vendor/bootstrap/bootstrap.min.css",
            "vendor/htmx/htmx.min.js",
            "vendor/htmx-ext-sse/sse.min.js",
            "mark.svg",
            "passkey.js",
        ] {
            assert!(url(path).ends_with(path), "{path} is missing");
        }
    }
}
