//! A form that was sent, after the proof that it is one of ours.
use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header},
};
use store::User;

use super::{
    Portal,
    csrf::Whence,
    page::Refusal,
    visitor::{Visitor, way_back},
};

/// The form's fields; of a field sent twice the first counts.
pub(crate) struct Posted {
    /// Who sent it.
    pub(crate) visitor: Visitor,
    fields: BTreeMap<String, String>,
    way_back: String,
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
}

impl FromRequest<Arc<Portal>> for Posted {
    type Rejection = Refusal;

    async fn from_request(request: Request, portal: &Arc<Portal>) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        if !whence(&parts.headers).is_ours(&portal.settings.site_url) {
            return Err(Refusal::StaleForm);
        }
        let visitor = Visitor::from_request_parts(&mut parts, portal).await?;
        let way_back = way_back(&parts);
        let body = Bytes::from_request(Request::from_parts(parts, body), portal).await.map_err(|fault| {
            if fault.status() == StatusCode::PAYLOAD_TOO_LARGE { Refusal::TooLarge } else { Refusal::Unreadable }
        })?;
        let mut fields = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(&body) {
            fields.entry(name.into_owned()).or_insert_with(|| value.into_owned());
        }
        let posted = Self { visitor, fields, way_back };
        if posted.visitor.sent(posted.exact("csrf")) { Ok(posted) } else { Err(Refusal::StaleForm) }
    }
}

fn whence(headers: &HeaderMap) -> Whence<'_> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Whence { fetch_site: text("sec-fetch-site"), origin: text(header::ORIGIN.as_str()) }
}
