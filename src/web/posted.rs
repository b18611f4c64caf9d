//! A form that was sent, after the proof that it is one of ours.
use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
};
use store::User;
use tower_http::timeout::TimeoutError;

use super::{
    Portal,
    csrf::Whence,
    page::Refusal,
    redirect, trail,
    visitor::{Visitor, way_back},
};

/// The form's fields; of a field sent twice the first counts.
pub(crate) struct Posted {
    /// Who sent it.
    pub(crate) visitor: Visitor,
    fields: BTreeMap<String, String>,
    way_back: String,
    came_from: String,
}

impl Posted {
    /// Gives a field's text without blanks around it; a field that was not sent is empty.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.exact(name).trim()
    }

    /// Gives a field's text as it was typed, for passwords.
    pub(crate) fn exact(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Gives the user who sent it.
    pub(crate) fn user(&self) -> Result<User, Refusal> {
        self.visitor.user.clone().ok_or_else(|| Refusal::LoginFirst(self.way_back.clone()))
    }

    /// Gives the user who sent it, when they said who they are not long ago. Everybody else is asked again, comes back to the page
    /// of the form, and sends it once more: for what cannot be taken back.
    pub(crate) fn proven_user(&self, portal: &Portal) -> Result<User, Refusal> {
        let user = self.user()?;
        if self.visitor.is_proven(portal) { Ok(user) } else { Err(Refusal::ProveFirst(self.came_from.clone())) }
    }
}

impl FromRequest<Arc<Portal>> for Posted {
    type Rejection = Refusal;

    async fn from_request(request: Request, portal: &Arc<Portal>) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        if !whence(&parts.headers).is_ours(&portal.settings.site_url) {
            tracing::info!("a form from elsewhere was refused");
            return Err(Refusal::StaleForm);
        }
        let visitor = Visitor::from_request_parts(&mut parts, portal).await?;
        let (way_back, path) = (way_back(&parts), parts.uri.path().to_owned());
        let came_from = came_from(&parts.headers, &portal.settings.site_url);
        let body =
            Bytes::from_request(Request::from_parts(parts, body), portal).await.map_err(|fault| unread(&fault))?;
        let mut fields = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(&body) {
            fields.entry(name.into_owned()).or_insert_with(|| value.into_owned());
        }
        // The database takes no zero byte, and no browser sends one.
        if fields.values().any(|text: &String| text.contains('\0')) {
            return Err(Refusal::Unreadable);
        }
        let posted = Self { visitor, fields, way_back, came_from };
        if !posted.visitor.sent(posted.exact("csrf")) {
            return Err(Refusal::StaleForm);
        }
        trail::note_staff(portal, &posted.visitor, &path).await?;
        Ok(posted)
    }
}

/// The page of ours that a form was sent from; the dashboard where the browser does not say.
pub(super) fn came_from(headers: &HeaderMap, site_url: &str) -> String {
    let page = headers.get(header::REFERER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = page.strip_prefix(site_url).filter(|path| path.starts_with('/')).unwrap_or("/dashboard/");
    redirect::own_path(path).to_owned()
}

/// Why a body was not read to its end.
fn unread(fault: &BytesRejection) -> Refusal {
    if fault.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Refusal::TooLarge;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(fault);
    while let Some(inner) = cause {
        if inner.is::<TimeoutError>() {
            return Refusal::TooSlow;
        }
        cause = inner.source();
    }
    Refusal::Unreadable
}

fn whence(headers: &HeaderMap) -> Whence<'_> {
    // What is said twice, or cannot be read, is not ours.
    let text = |name: &str| {
        let mut lines = headers.get_all(name).iter();
        let line = lines.next()?;
        Some(if lines.next().is_some() { "?" } else { line.to_str().unwrap_or("?") })
    };
    Whence { fetch_site: text("sec-fetch-site"), origin: text(header::ORIGIN.as_str()) }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn whoever_has_to_say_who_they_are_comes_back_to_a_page_of_ours_alone() {
        let site = "https://portal.example";
        let from = |page: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::REFERER, HeaderValue::from_static(page));
            came_from(&headers, site)
        };
        assert_eq!(from("https://portal.example/staff/subscriptions/sub_1/"), "/staff/subscriptions/sub_1/");
        for page in [
            "https://portal.example.evil.example/x/",
            "https://evil.example/",
            "https://portal.example//evil.example/",
            "",
        ] {
            assert_eq!(from(page), "/dashboard/", "{page}");
        }
        assert_eq!(came_from(&HeaderMap::new(), site), "/dashboard/");
    }
}
