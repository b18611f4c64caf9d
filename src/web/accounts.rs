//! Accounts. No answer here says whether an address is known: sign-up always asks to look into the inbox, and log-in has
//! one sentence for everything that does not fit.
pub(crate) mod login;
pub(crate) mod signup;
pub(crate) mod verify;

use super::{page::Refusal, password::PasswordError};

impl From<PasswordError> for Refusal {
    fn from(fault: PasswordError) -> Self {
        tracing::error!(fault = super::page::whole(&fault), "a password could not be worked with");
        Self::Broken("passwords")
    }
}
