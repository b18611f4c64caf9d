//! SMTP: handing one letter to a mail server. Its words stop here.
use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{Error, PoolConfig},
};
use tokio::time::timeout;

use super::letter::Written;
use crate::{
    call::{Kind, timed},
    fault::{Fault, Vendor, redacted},
};

/// Each answer of the server takes at most this long.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// A whole letter takes less than the story allows the step.
const LETTER_LIMIT: Duration = Duration::from_secs(17);
const CONNECTIONS_MAX: u32 = 4;
/// Replies that complain about us, not about the receiver. Source: RFC 4954, section 6.
const OUR_OWN_FAULTS: [u16; 5] = [500, 530, 534, 535, 538];

/// Why the settings do not make a mail client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SmtpSettingsFault {
    /// The server's address.
    #[error("the mail server's address does not fit; write smtp://host:port or smtps://user:password@host")]
    Url,
    /// The sender.
    #[error("the sender is no mailbox; write Name <name@example.test>")]
    From,
}

/// Why a letter was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// The server will never take it for this receiver.
    #[error("the mail server refused the receiver: {0}")]
    Refused(String),
    /// The letter cannot be put into a form mail servers take.
    #[error("the letter cannot be written: {0}")]
    Unwritable(String),
    /// The server did not take it now.
    #[error("the mail server did not take the letter: {0}")]
    NotNow(String),
    /// The server was not heard any more, so it may have taken it.
    #[error("the mail server was not heard: {0}")]
    Unheard(String),
}

impl SmtpError {
    /// What it means to a workflow; `doing` is for staff.
    pub fn into_fault(self, doing: &str) -> Fault {
        match self {
            Self::Refused(_) | Self::Unwritable(_) => Vendor::Smtp.give_up(doing, self.to_string()),
            Self::NotNow(_) => Vendor::Smtp.try_again(doing, self),
            Self::Unheard(_) => Vendor::Smtp.outcome_unknown(doing, self),
        }
    }
}

/// A mail server.
#[derive(Clone)]
pub struct SmtpApi {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl SmtpApi {
    /// Prepares connections to `smtp://…` or `smtps://…` for letters `from` a mailbox; nothing is asked yet.
    pub fn new(url: &str, from: &str) -> Result<Self, SmtpSettingsFault> {
        let from = from.parse().map_err(|_| SmtpSettingsFault::From)?;
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|_| SmtpSettingsFault::Url)?
            .timeout(Some(ANSWER_LIMIT))
            .pool_config(PoolConfig::new().max_size(CONNECTIONS_MAX))
            .build();
        Ok(Self { transport, from })
    }

    /// The domain letters are from.
    pub fn domain(&self) -> &str {
        self.from.email.domain()
    }

    /// Hands one letter over, as text and as HTML.
    ///
    /// *Idempotence*: none here; the same letter is sent under the same Message-ID, by which mail programs see the double.
    pub(super) async fn send(&self, to: &Mailbox, id: &str, written: Written) -> Result<(), SmtpError> {
        let message = message(&self.from, to, id, written).map_err(|error| SmtpError::Unwritable(error.to_string()))?;
        timed(Vendor::Smtp, Kind::Write, async {
            match timeout(LETTER_LIMIT, self.transport.send(message)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(meaning(&error)),
                Err(late) => Err(SmtpError::Unheard(late.to_string())),
            }
        })
        .await
    }

    /// Asks whether the server greets us, and gives a line about it.
    pub async fn check(&self) -> Result<String, SmtpError> {
        match timeout(LETTER_LIMIT, self.transport.test_connection()).await {
            Ok(Ok(true)) => Ok(format!("the mail server greets us; letters are from {}", self.domain())),
            Ok(Ok(false)) => Err(SmtpError::NotNow("it closes the connection".to_owned())),
            Ok(Err(error)) => Err(meaning(&error)),
            Err(late) => Err(SmtpError::Unheard(late.to_string())),
        }
    }
}

fn message(from: &Mailbox, to: &Mailbox, id: &str, written: Written) -> Result<Message, lettre::error::Error> {
    let automatic = HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned());
    Message::builder()
        .from(from.clone())
        .to(to.clone())
        .subject(written.subject)
        .message_id(Some(id.to_owned()))
        .date_now()
        .raw_header(automatic)
        .multipart(MultiPart::alternative_plain_html(written.text, written.html))
}

fn meaning(error: &Error) -> SmtpError {
    // What the server says may repeat the receiver's address.
    let words = redacted(&error.to_string());
    if error.is_client() {
        return SmtpError::Unwritable(words);
    }
    let code = error.status().map(u16::from);
    match code {
        Some(code) if error.is_permanent() && !OUR_OWN_FAULTS.contains(&code) => SmtpError::Refused(words),
        Some(_) => SmtpError::NotNow(words),
        None => SmtpError::Unheard(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_has_two_parts_its_own_id_and_no_other_receiver() {
        let mailbox = |text: &str| text.parse::<Mailbox>().expect("a mailbox");
        let written =
            Written { subject: "Grüße".to_owned(), text: "plain".to_owned(), html: "<p>rich</p>".to_owned() };
        let (from, to) = (mailbox("EZ <no-reply@example.test>"), mailbox("ann@example.test"));
        let message = message(&from, &to, "<abc@example.test>", written).expect("a message");
        let wire = String::from_utf8(message.formatted()).expect("text");
        assert!(wire.contains("Message-ID: <abc@example.test>\r\n"), "{wire}");
        assert!(wire.contains("Auto-Submitted: auto-generated\r\n"), "{wire}");
        assert!(wire.contains("multipart/alternative"), "{wire}");
        assert_eq!(message.envelope().to().len(), 1);
    }

    #[test]
    fn only_a_refused_receiver_is_given_up() {
        let kind = |error: SmtpError| error.into_fault("writing").kind();
        assert_eq!(kind(SmtpError::Refused("550".to_owned())), "give_up");
        assert_eq!(kind(SmtpError::NotNow("451".to_owned())), "try_again");
        assert_eq!(kind(SmtpError::Unheard("timed out".to_owned())), "outcome_unknown");
    }
}
