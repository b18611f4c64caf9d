//! A message, parsed: who, what, when, as text and as HTML.

use std::collections::BTreeMap;

use mailparse::{DispositionType, MailAddr, MailHeaderMap, ParsedMail, addrparse, parse_mail};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::spool::Envelope;

const SNIPPET_CHARS: usize = 250;

/// An address with the name it goes by.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Address {
    pub(super) name: String,
    pub(super) address: String,
}

/// One message.
pub(super) struct Letter {
    pub(super) id: String,
    pub(super) message_id: String,
    pub(super) from: Address,
    /// From the header, or who it was delivered to if that names nobody.
    pub(super) to: Vec<Address>,
    /// Who it was delivered to.
    pub(super) recipients: Vec<String>,
    pub(super) subject: String,
    pub(super) created: OffsetDateTime,
    pub(super) text: String,
    pub(super) html: String,
    pub(super) headers: BTreeMap<String, Vec<String>>,
    pub(super) source: String,
    pub(super) size_bytes: usize,
}

impl Letter {
    /// Reads a message; what cannot be parsed is shown as plain text.
    pub(super) fn read(id: &str, envelope: Envelope, message: &[u8]) -> Self {
        let mut letter = Self {
            id: id.to_owned(),
            message_id: String::new(),
            from: Address { name: String::new(), address: envelope.from },
            to: Vec::new(),
            recipients: envelope.to,
            subject: String::new(),
            created: OffsetDateTime::from_unix_timestamp_nanos(i128::from(envelope.at_unix_ms) * 1_000_000)
                .unwrap_or(OffsetDateTime::UNIX_EPOCH),
            text: String::new(),
            html: String::new(),
            headers: BTreeMap::new(),
            source: String::from_utf8_lossy(message).into_owned(),
            size_bytes: message.len(),
        };
        match parse_mail(message) {
            Ok(parsed) => letter.fill(&parsed),
            Err(_) => letter.text.clone_from(&letter.source),
        }
        if letter.to.is_empty() {
            let bare = |address: &String| Address { name: String::new(), address: address.clone() };
            letter.to = letter.recipients.iter().map(bare).collect();
        }
        letter
    }

    fn fill(&mut self, parsed: &ParsedMail<'_>) {
        for header in &parsed.headers {
            self.headers.entry(header.get_key()).or_default().push(header.get_value());
        }
        let first = |name: &str| parsed.headers.get_first_value(name);
        self.subject = first("Subject").unwrap_or_default();
        let message_id = first("Message-ID").unwrap_or_default();
        message_id.trim_matches(['<', '>', ' ']).clone_into(&mut self.message_id);
        self.to = addresses(&first("To").unwrap_or_default());
        if let Some(from) = addresses(&first("From").unwrap_or_default()).into_iter().next() {
            self.from = from;
        }
        self.read_part(parsed);
    }

    fn read_part(&mut self, part: &ParsedMail<'_>) {
        for inner in &part.subparts {
            self.read_part(inner);
        }
        let attached = part.get_content_disposition().disposition == DispositionType::Attachment;
        if !part.subparts.is_empty() || attached {
            return;
        }
        let body = || part.get_body().unwrap_or_default();
        match part.ctype.mimetype.as_str() {
            "text/html" if self.html.is_empty() => self.html = body(),
            "text/plain" if self.text.is_empty() => self.text = body(),
            _ => {}
        }
    }

    /// Whether it went to, or names, this address.
    pub(super) fn is_to(&self, address: &str) -> bool {
        let address = address.to_lowercase();
        let named = self.to.iter().map(|to| &to.address).chain(&self.recipients);
        named.into_iter().any(|to| to.to_lowercase().contains(&address))
    }

    /// Its line in a list of messages.
    pub(super) fn summary(&self) -> Value {
        let words: Vec<&str> = self.text.split_whitespace().collect();
        let snippet: String = words.join(" ").chars().take(SNIPPET_CHARS).collect();
        json!({
            "ID": self.id, "MessageID": self.message_id, "From": self.from, "To": self.to, "Cc": [], "Bcc": [],
            "Subject": self.subject, "Created": self.created_text(), "Snippet": snippet,
            "Size": self.size_bytes, "Read": false, "Attachments": 0, "Tags": [],
        })
    }

    /// All of it.
    pub(super) fn whole(&self) -> Value {
        let mut shown = self.summary();
        shown["Date"] = json!(self.created_text());
        shown["Text"] = json!(self.text);
        shown["HTML"] = json!(self.html);
        shown["Headers"] = json!(self.headers);
        shown["ReturnPath"] = json!(self.headers.get("Return-Path").and_then(|values| values.first()));
        shown
    }

    /// When it was accepted, in RFC 3339, UTC.
    pub(super) fn created_text(&self) -> String {
        self.created.format(&Rfc3339).unwrap_or_default()
    }
}

fn addresses(header: &str) -> Vec<Address> {
    let single = |name: Option<String>, address: String| Address { name: name.unwrap_or_default(), address };
    let Ok(parsed) = addrparse(header) else {
        return Vec::new();
    };
    let listed = parsed.iter().cloned().flat_map(|address| match address {
        MailAddr::Single(info) => vec![single(info.display_name, info.addr)],
        MailAddr::Group(group) => group.addrs.into_iter().map(|info| single(info.display_name, info.addr)).collect(),
    });
    listed.collect()
}

#[cfg(test)]
mod tests {
    use super::{Envelope, Letter};

    #[test]
    fn both_parts_of_an_alternative_are_read_and_decoded() {
        let message = "From: EZ <no-reply@example.test>\r\nTo: \"B, A\" <b@example.test>\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n\
            Message-ID: <1@x>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=q\r\n\r\n\
            --q\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nverify=3D1=\r\n23\r\n\
            --q\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>hi</p>\r\n--q--\r\n";
        let envelope = Envelope { to: vec!["hidden@example.test".to_owned()], ..Envelope::default() };
        let letter = Letter::read("1", envelope, message.as_bytes());
        assert_eq!(letter.subject, "Grüße");
        assert_eq!(letter.text.trim_end(), "verify=123");
        assert_eq!(letter.html.trim_end(), "<p>hi</p>");
        assert_eq!((letter.to[0].name.as_str(), letter.from.name.as_str()), ("B, A", "EZ"));
        assert!(
            letter.is_to("B@example.test") && letter.is_to("hidden@example.test") && !letter.is_to("c@example.test")
        );
        assert_eq!(letter.whole()["MessageID"], "1@x");
    }

    #[test]
    fn a_message_without_headers_is_still_a_letter() {
        let letter =
            Letter::read("1", Envelope { to: vec!["a@b".to_owned()], ..Envelope::default() }, b"\r\njust text");
        assert_eq!((letter.text.as_str(), letter.to[0].address.as_str()), ("just text", "a@b"));
    }
}
