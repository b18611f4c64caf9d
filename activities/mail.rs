//! The mail activities: letters handed to the mail server.
#![expect(missing_docs, reason = "the constants that the macro makes of each activity cannot carry a docstring")]
use std::sync::Arc;

use contract::letter::{LetterInput, LetterSubject, defs};
use lettre::{Address, message::Mailbox};
use sha2::{Digest, Sha256};
use store::{KeyRing, LetterState, NewLetter, Store};
use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};

use crate::{
    beat::beating,
    fault::{Fault, Vendor, redacted},
    name::of_store,
};
use facts::{Gathered, Receiver};
use smtp::{SmtpApi, SmtpError};
use turns::Turns;

mod access;
mod facts;
mod letter;
mod members;
mod privacy;
#[warn(missing_docs)]
pub mod smtp;
mod turns;

/// What the mail activities need.
pub struct MailDesk {
    store: Store,
    smtp: SmtpApi,
    keys: Arc<KeyRing>,
    /// The portal's address, without a final slash.
    site: String,
    staff_email: String,
    turns: Turns,
}

#[activities]
impl MailDesk {
    /// Hands one letter over. *Idempotence*: one that was handed over is not sent again; one whose answer was lost is sent
    /// under the same Message-ID.
    #[activity(definition = defs::Send)]
    pub async fn send(self: Arc<Self>, ctx: ActivityContext, letter: LetterInput) -> Result<(), ActivityError> {
        let delivered = beating(&ctx, self.deliver(&letter)).await;
        if let Err(Fault::GiveUp { reason, .. }) = &delivered {
            // Whatever the cause, a letter that will not be sent is one that staff see.
            let noted = self.store.letter_refused(&letter.occasion, letter.kind.as_str(), &redacted(reason)).await;
            if let Err(error) = noted {
                tracing::warn!(%error, occasion = letter.occasion, "what became of a letter could not be noted");
            }
        }
        delivered.map_err(Fault::into_activity)
    }
}

impl MailDesk {
    /// A desk over the letters, the mail server, the keys that sign links, the portal's address, and who is told when a
    /// step waits.
    pub fn new(store: Store, smtp: SmtpApi, keys: Arc<KeyRing>, site_url: &str, staff_email: &str) -> Self {
        let site = site_url.trim_end_matches('/').to_owned();
        Self { store, smtp, keys, site, staff_email: staff_email.to_owned(), turns: Turns::default() }
    }

    /// Writes one letter and hands it over, unless that was done. A second try waits until the first is over.
    pub async fn deliver(&self, input: &LetterInput) -> Result<(), Fault> {
        let _turn = self.turns.take(&input.occasion).await;
        // Occasions hold ids alone, so they may be read by anybody.
        let doing = format!("writing the letter {}", input.occasion);
        let gathered = self.gather(input, &doing).await?;
        let (receiver, told) = match gathered {
            Gathered::Letter(receiver, told) => (receiver, told),
            Gathered::Pointless(why) => return self.drop_letter(input, why, &doing).await,
        };
        let begun = self.store.begin_letter(&self.new_letter(input, &receiver)).await;
        let id = match begun.map_err(|error| of_store(&doing, error))? {
            LetterState::ToSend { message_id, .. } => message_id,
            LetterState::Sent => return Ok(()),
        };
        let written = letter::write(input.kind, &told)
            .map_err(|error| Vendor::Smtp.give_up_over(doing.as_str(), "its template does not fit", error))?;
        let sent = match mailbox(&receiver) {
            Some(to) => self.smtp.send(&to, &id, written).await,
            None => Err(SmtpError::Refused("the address is none".to_owned())),
        };
        match sent {
            Ok(()) => self.store.letter_sent(&input.occasion).await.map_err(|error| of_store(&doing, error)),
            Err(error) => {
                let why = error.to_string();
                if let Err(error) = self.store.letter_failed(&input.occasion, &why).await {
                    tracing::warn!(%error, occasion = input.occasion, "what became of a letter could not be noted");
                }
                Err(error.into_fault(&doing))
            }
        }
    }

    /// A letter that has nothing to say any more is noted and not sent.
    async fn drop_letter(&self, input: &LetterInput, why: &str, doing: &str) -> Result<(), Fault> {
        let nobody = Receiver::default();
        let begun = self.store.begin_letter(&self.new_letter(input, &nobody)).await;
        match begun.map_err(|error| of_store(doing, error))? {
            LetterState::Sent => Ok(()),
            LetterState::ToSend { .. } => {
                let noted = self.store.letter_refused(&input.occasion, input.kind.as_str(), why).await;
                noted.map_err(|error| of_store(doing, error))
            }
        }
    }

    fn new_letter(&self, input: &LetterInput, receiver: &Receiver) -> NewLetter {
        let (order, subscription) = match &input.subject {
            LetterSubject::User(_) => (None, None),
            LetterSubject::Order(order) => (Some(*order), None),
            LetterSubject::Subscription(id) => (receiver.order, Some(id.clone())),
        };
        NewLetter {
            occasion: input.occasion.clone(),
            kind: input.kind.as_str().to_owned(),
            user: receiver.user,
            order,
            subscription,
            service: input.service,
            message_id: message_id(&input.occasion, self.smtp.domain()),
        }
    }
}

/// The same occasion always has the same Message-ID. Source: RFC 5322, section 3.6.4.
fn message_id(occasion: &str, domain: &str) -> String {
    use std::fmt::Write as _;
    let digest = Sha256::digest(occasion.as_bytes());
    let text = digest.iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    format!("<{text}@{domain}>")
}

fn mailbox(receiver: &Receiver) -> Option<Mailbox> {
    let address = receiver.email.parse::<Address>().ok()?;
    let name = Some(receiver.name.clone()).filter(|name| !name.is_empty());
    Some(Mailbox::new(name, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_occasion_has_the_same_message_id() {
        let id = message_id("payment_received/in_123", "example.test");
        assert_eq!(id, message_id("payment_received/in_123", "example.test"));
        assert_ne!(id, message_id("payment_received/in_124", "example.test"));
        assert!(id.starts_with('<') && id.ends_with("@example.test>"), "{id}");
    }

    #[test]
    fn a_text_that_is_no_address_has_no_mailbox() {
        let receiver = |email: &str| Receiver { email: email.to_owned(), ..Receiver::default() };
        assert!(mailbox(&receiver("ann@example.test")).is_some());
        assert!(mailbox(&receiver("ann")).is_none());
        assert!(mailbox(&receiver("ann@example.test\r\nBcc: bob@example.test")).is_none());
    }
}
