//! Accounts. No answer here says whether an address is known: sign-up and a forgotten password always ask to look into the
//! inbox, and log-in has one sentence for everything that does not fit.
//!
//! | file | answers |
//! |---|---|
//! | `signup` `verify` `login` | how somebody gets in |
//! | `reset` `unlock` `link` | how they get in again: links from letters that work once |
//! | `second` `passkey_login` | a second factor, and a passkey for both |
//! | `mine` `sessions` `address` `close` | what whoever is logged in changes about it |
//! | `members` `invitation` | who else belongs to an account, and which of several is looked at |
//! | `factors` `passkeys` | what they log in with besides a password |
//! | `again` | who they are, before what cannot be taken back |
//! | `activity` `tokens` | what happened in the account, and the programs that may read it |
//! | `data` `erase` | a copy of everything, and the end of everything |
pub(crate) mod activity;
pub(crate) mod address;
pub(crate) mod again;
pub(crate) mod close;
pub(crate) mod data;
pub(crate) mod erase;
pub(crate) mod factors;
pub(crate) mod invitation;
mod link;
pub(crate) mod login;
pub(crate) mod members;
pub(crate) mod mine;
pub(crate) mod passkey_login;
pub(crate) mod passkeys;
pub(crate) mod reset;
pub(crate) mod second;
pub(crate) mod sessions;
pub(crate) mod signup;
pub(crate) mod tokens;
pub(crate) mod unlock;
pub(crate) mod verify;

use store::User;

use super::{
    Portal,
    limits::Way,
    page::Refusal,
    password::{self, Asker, PasswordError},
    posted::Posted,
};

/// How long somebody waits whose account asked for too much at once, in seconds.
const CROWDED_SECS: u64 = 2;

impl From<PasswordError> for Refusal {
    fn from(fault: PasswordError) -> Self {
        match fault {
            PasswordError::Busy => return Self::Busy,
            PasswordError::Crowded => return Self::Slower { secs: CROWDED_SECS, locked: false },
            _ => {}
        }
        tracing::error!(fault = super::page::whole(&fault), "a password could not be worked with");
        Self::Broken("passwords")
    }
}

/// Says whether somebody who is logged in typed their password into this field. A try is counted before it is made: a stolen
/// session is no way to guess a password. One that nobody had the time to check is taken back.
pub(super) async fn knows_password(
    portal: &Portal,
    posted: &Posted,
    user: &User,
    field: &str,
) -> Result<bool, Refusal> {
    let network = portal.by_network(Way::Password, &posted.visitor.caller)?;
    let own = portal.for_account(Way::Password, user.id.0)?;
    portal.take(&[network, own]).await?;
    let holder = portal.for_address(Way::Password, &user.email)?.subject;
    let typed = posted.exact(field);
    let hash = portal.store.log_in(&user.email).await?.map(|known| known.password_hash);
    let judged = if typed.len() <= password::LONGEST_BYTES {
        password::fits(Asker::Known, holder, typed, hash).await
    } else {
        Ok(false)
    };
    if matches!(judged, Err(PasswordError::Busy | PasswordError::Crowded)) {
        portal.not_made(&[network, own]).await?;
    }
    let fits = judged?;
    if fits {
        portal.succeeded(&network, &own).await?;
    } else {
        portal.store.password_refused(user).await?;
    }
    Ok(fits)
}

/// Says what is wrong with a new password, in words for the customer; also that one of our lists of stolen ones has it.
pub(super) async fn password_fault(
    portal: &Portal,
    typed: &str,
    email: &str,
    name: &str,
) -> Result<Option<&'static str>, PasswordError> {
    password::fault(Asker::Known, &portal.settings.door.refused_passwords, typed, (email, name)).await
}
