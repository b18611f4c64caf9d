//! Passwords: hashed with Argon2id, off the request threads, a few at a time.
use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock, OnceLock},
};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// The shortest password taken, in characters.
pub(crate) const SHORTEST: usize = 10;
/// The longest password taken, in bytes; more would be work for nothing.
pub(crate) const LONGEST_BYTES: usize = 256;
/// How many hashes are made at the same time: each takes 19 MiB and some 30 ms of a core.
const AT_ONCE: usize = 4;

// Source: OWASP Password Storage Cheat Sheet, Argon2id: m = 19456 (19 MiB), t = 2, p = 1.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(AT_ONCE)));
static DUMMY: OnceLock<String> = OnceLock::new();

/// Long enough, and among the first that anybody would try.
const COMMON: &[&str] = &[
    "1234567890",
    "12345678910",
    "123456789a",
    "0123456789",
    "9876543210",
    "0987654321",
    "1111111111",
    "0000000000",
    "1q2w3e4r5t",
    "1qaz2wsx3edc",
    "q1w2e3r4t5",
    "qwertyuiop",
    "qwerty1234",
    "qwerty12345",
    "qwerty123456",
    "qwertyuiop123",
    "asdfghjkl1",
    "abcdefghij",
    "abcd123456",
    "abc1234567",
    "aa12345678",
    "a123456789",
    "password12",
    "password123",
    "password1234",
    "password12345",
    "passw0rd123",
    "mypassword",
    "mypassword1",
    "letmein123",
    "letmein1234",
    "welcome123",
    "welcome1234",
    "iloveyou12",
    "iloveyou123",
    "iloveyou1234",
    "sunshine123",
    "princess123",
    "football123",
    "baseball123",
    "superman123",
    "administrator",
    "administrator1",
    "changeme123",
    "changemenow",
    "secret1234",
    "default123",
    "qazwsxedcr",
    "zaq12wsxcde3",
    "trustno1trustno1",
    "correcthorsebatterystaple",
    "passwordpassword",
    "testtest123",
    "test123456",
];

/// Why hashing or checking did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// The hash could not be made or read.
    #[error("working with a password hash")]
    Hash(#[source] argon2::password_hash::Error),
    /// The parameters are not accepted.
    #[error("setting Argon2 up")]
    Parameters(#[source] argon2::Error),
    /// The process is being stopped.
    #[error("waiting for a turn to hash")]
    Stopping,
}

fn hasher() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(PasswordError::Parameters)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_now(password: &str) -> Result<String, PasswordError> {
    Ok(hasher()?.hash_password(password.as_bytes()).map_err(PasswordError::Hash)?.to_string())
}

async fn in_turn<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
) -> Result<T, PasswordError> {
    let turn = Arc::clone(&TURNS).acquire_owned().await.map_err(|_| PasswordError::Stopping)?;
    let job = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(turn);
        result
    });
    job.await.map_err(|_| PasswordError::Stopping)?
}

/// Says what is wrong with a new password, in words for the customer.
pub(crate) fn fault(password: &str, email: &str, name: &str) -> Option<&'static str> {
    let lower = password.to_lowercase();
    let different: BTreeSet<char> = lower.chars().collect();
    if password.chars().count() < SHORTEST {
        Some("Use at least 10 characters.")
    } else if password.len() > LONGEST_BYTES {
        Some("Use a shorter password.")
    } else if COMMON.contains(&lower.as_str()) || different.len() < 4 {
        Some("This password is among the first that others would try. Choose another.")
    } else if lower == email.to_lowercase() || lower == name.to_lowercase() {
        Some("Do not use your name or address as the password.")
    } else {
        None
    }
}

/// Gives the PHC string of a password's hash.
///
/// *Errors*: only when the process is out of memory or stopping; trying again is fine.
pub(crate) async fn hash(password: impl Into<String>) -> Result<String, PasswordError> {
    let password = Zeroizing::new(password.into());
    in_turn(move || hash_now(&password)).await
}

/// Says whether a password fits a hash. Without a hash (no such user) it does the same work and says no.
pub(crate) async fn fits(password: &str, hash: Option<String>) -> Result<bool, PasswordError> {
    let password = Zeroizing::new(password.to_owned());
    in_turn(move || {
        let known = hash.is_some();
        let hash = match hash {
            Some(hash) => hash,
            None => dummy()?,
        };
        let fits = match hasher()?.verify_password(password.as_bytes(), hash.as_str()) {
            Ok(()) => true,
            Err(argon2::password_hash::Error::PasswordInvalid) => false,
            Err(fault) => return Err(PasswordError::Hash(fault)),
        };
        Ok(fits && known)
    })
    .await
}

fn dummy() -> Result<String, PasswordError> {
    if let Some(hash) = DUMMY.get() {
        return Ok(hash.clone());
    }
    let hash = hash_now("nobody has this password")?;
    Ok(DUMMY.get_or_init(|| hash).clone())
}

/// Does the work that only the first of its kind would do, so that no later answer takes longer than another.
pub(crate) fn warm_up() {
    if let Err(fault) = dummy() {
        tracing::error!(%fault, "Argon2 does not work here");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let kept = hash("a long enough one").await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(fits("a long enough one", Some(kept.clone())).await.unwrap());
        assert!(!fits("a long enough two", Some(kept)).await.unwrap());
        assert!(!fits("nobody has this password", None).await.unwrap());
    }

    #[test]
    fn weak_passwords_are_refused() {
        for weak in ["short", "Password123", "aaaaaaaaaaaa", "ann@example.com", "Ann Example"] {
            assert!(fault(weak, "ann@example.com", "Ann Example").is_some(), "{weak}");
        }
        assert!(fault(&"x".repeat(300), "", "").is_some());
        assert_eq!(fault("blue kettle on fire", "ann@example.com", "Ann"), None);
    }
}
