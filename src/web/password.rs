//! Passwords: hashed with Argon2id, off the request threads, a few at a time, and those of strangers apart: a flood of log-ins
//! or sign-ups keeps neither pages waiting nor whoever was here before.
use std::{
    collections::{HashMap, hash_map::Entry},
    num::NonZeroUsize,
    sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::available_parallelism,
};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;
use zxcvbn::zxcvbn;

use crate::config::RefusedPasswords;

/// The shortest password taken, in characters.
pub(crate) const SHORTEST: usize = 12;
/// The longest password taken, in bytes; more would be work for nothing.
pub(crate) const LONGEST_BYTES: usize = 256;
/// How many hashes are made at the same time for strangers, and as many for others, at most: each takes 19 MiB and some 30 ms
/// of a core. With fewer cores it is half of them, so that the other half answers pages.
const AT_ONCE_MAX: usize = 4;
/// How many may wait for their turn. Whoever comes after them is told to come back.
const WAITING_MAX: usize = 256;
/// How many of those who wait, or whose turn it is, may be there for one account.
const PLACES_EACH: usize = 4;
const TURNED_AWAY_METRIC: &str = "ez_passwords_turned_away_total";

// Source: OWASP Password Storage Cheat Sheet, Argon2id: m = 19456 (19 MiB), t = 2, p = 1.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

static OF_STRANGERS: LazyLock<Queue> = LazyLock::new(Queue::new);
static OF_OTHERS: LazyLock<Queue> = LazyLock::new(Queue::new);
static DUMMY: OnceLock<String> = OnceLock::new();

/// How much of a password is weighed, in characters; the work grows faster than the length.
const WEIGHED: usize = 64;
/// How many guesses a password has to hold out. Source: zxcvbn, "score", 3: safely unguessable.
const GUESSES: u64 = 100_000_000;
/// What somebody who guesses here would try first.
const OUR_WORDS: [&str; 4] = ["ez solutions", "ezsolutions", "hosting", "server"];

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
    /// Too many wait already.
    #[error("too many wait for a turn to hash")]
    Busy,
    /// Too many wait already for the same account.
    #[error("too many wait for a turn to hash for the same account")]
    Crowded,
}

/// Who asks for a hash, which says with whom they wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Somebody who was never here, or may not have been: waits with other strangers only.
    Stranger,
    /// Somebody who is logged in, or comes with a browser or a letter of ours.
    Known,
}

impl Asker {
    fn queue(self) -> &'static Queue {
        match self {
            Self::Stranger => &OF_STRANGERS,
            Self::Known => &OF_OTHERS,
        }
    }
}

/// Whose account a place is held for: a keyed digest of its address, whether or not anybody has it.
pub(crate) type Holder = [u8; 32];

/// Those who wait for a turn, and those whose turn it is.
struct Queue {
    turns: Arc<Semaphore>,
    places: Semaphore,
    held: Mutex<HashMap<Holder, usize>>,
}

impl Queue {
    fn new() -> Self {
        let at_once = (available_parallelism().map_or(1, NonZeroUsize::get) / 2).clamp(1, AT_ONCE_MAX);
        Self {
            turns: Arc::new(Semaphore::new(at_once)),
            places: Semaphore::new(at_once + WAITING_MAX),
            held: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Holder, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more place for an account; nothing when it has as many as one may have.
    fn hold(&self, holder: Holder) -> Option<Held<'_>> {
        let mut held = self.held();
        let places = held.entry(holder).or_default();
        if *places >= PLACES_EACH {
            return None;
        }
        *places += 1;
        Some(Held { queue: self, holder })
    }
}

/// A place that is held for an account until this is dropped.
struct Held<'a> {
    queue: &'a Queue,
    holder: Holder,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut places) = self.queue.held().entry(self.holder) {
            *places.get_mut() -= 1;
            if *places.get() == 0 {
                places.remove();
            }
        }
    }
}

/// Begins to count who is turned away, so that operators see nought before the first.
pub(crate) fn count_from_nought() {
    metrics::counter!(TURNED_AWAY_METRIC).increment(0);
}

fn hasher() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(PasswordError::Parameters)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_now(password: &str) -> Result<String, PasswordError> {
    Ok(hasher()?.hash_password(password.as_bytes()).map_err(PasswordError::Hash)?.to_string())
}

async fn in_turn<T: Send + 'static>(
    queue: &Queue,
    work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
) -> Result<T, PasswordError> {
    let Ok(_place) = queue.places.try_acquire() else {
        metrics::counter!(TURNED_AWAY_METRIC).increment(1);
        return Err(PasswordError::Busy);
    };
    let turn = Arc::clone(&queue.turns).acquire_owned().await.map_err(|_| PasswordError::Stopping)?;
    let job = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(turn);
        result
    });
    job.await.map_err(|_| PasswordError::Stopping)?
}

/// The same for an account, which gets only so many places at once: nobody fills a queue with what they know.
async fn in_turn_for<T: Send + 'static>(
    queue: &Queue,
    holder: Holder,
    work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
) -> Result<T, PasswordError> {
    let Some(_held) = queue.hold(holder) else {
        metrics::counter!(TURNED_AWAY_METRIC).increment(1);
        return Err(PasswordError::Crowded);
    };
    in_turn(queue, work).await
}

/// Says what is wrong with a new password, in words for the customer. Weighed like a hash is made: off the request threads,
/// a few at a time.
///
/// *Errors*: the process is stopping, or too many ask at once.
pub(crate) async fn fault(
    asker: Asker,
    refused: &RefusedPasswords,
    password: &str,
    (email, name): (&str, &str),
) -> Result<Option<&'static str>, PasswordError> {
    if password.chars().count() < SHORTEST {
        return Ok(Some("Use at least 12 characters."));
    }
    if password.len() > LONGEST_BYTES {
        return Ok(Some("Use a shorter password."));
    }
    let lower = password.to_lowercase();
    if lower == email.to_lowercase() || lower == name.to_lowercase() {
        return Ok(Some("Do not use your name or address as the password."));
    }
    if refused.refuses(&lower) {
        return Ok(Some("This password was stolen elsewhere, from somebody who had it, too. Choose another."));
    }
    let password = Zeroizing::new(password.chars().take(WEIGHED).collect::<String>());
    let (email, name) = (email.to_owned(), name.to_owned());
    let weak = in_turn(asker.queue(), move || Ok(is_weak(&password, &email, &name))).await?;
    Ok(weak.then_some("This password is among the first that others would try. Choose another."))
}

/// Whether somebody who knows the usual tricks, and this person, guesses it too soon.
fn is_weak(password: &str, email: &str, name: &str) -> bool {
    let own = email.split(['@', '.']).chain(name.split_whitespace()).chain([email, name]);
    let known: Vec<&str> = own.filter(|word| word.len() > 2).chain(OUR_WORDS).collect();
    zxcvbn(password, &known).guesses() < GUESSES
}

/// Gives the PHC string of a password's hash.
///
/// *Errors*: the process is out of memory or stopping, or too many ask at once; trying again is fine.
pub(crate) async fn hash(asker: Asker, password: impl Into<String>) -> Result<String, PasswordError> {
    let password = Zeroizing::new(password.into());
    in_turn(asker.queue(), move || hash_now(&password)).await
}

/// Says whether a password fits a hash. Without a hash (no such user) it does the same work and says no.
///
/// *Errors*: the process is stopping, or too many ask at once, or too many for this account.
pub(crate) async fn fits(
    asker: Asker,
    holder: Holder,
    password: &str,
    hash: Option<String>,
) -> Result<bool, PasswordError> {
    let password = Zeroizing::new(password.to_owned());
    in_turn_for(asker.queue(), holder, move || {
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
        let kept = hash(Asker::Known, "a long enough one").await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(fits(Asker::Known, [1; 32], "a long enough one", Some(kept.clone())).await.unwrap());
        assert!(!fits(Asker::Known, [1; 32], "a long enough two", Some(kept)).await.unwrap());
        assert!(!fits(Asker::Known, [1; 32], "nobody has this password", None).await.unwrap());
    }

    #[tokio::test]
    async fn one_account_holds_a_few_places_and_leaves_the_others_to_others() {
        let queue = Queue::new();
        let held: Vec<_> = (0..PLACES_EACH).map(|_| queue.hold([1; 32]).unwrap()).collect();
        assert!(matches!(in_turn_for(&queue, [1; 32], || Ok(())).await, Err(PasswordError::Crowded)), "it holds more");
        in_turn_for(&queue, [2; 32], || Ok(())).await.unwrap();
        drop(held);
        in_turn_for(&queue, [1; 32], || Ok(())).await.unwrap();
        assert!(queue.held().is_empty(), "whoever is gone is still counted");
    }

    #[tokio::test]
    async fn strangers_wait_with_strangers_only_and_not_too_many() {
        let queue = Queue::new();
        let turns = u32::try_from(queue.turns.available_permits()).unwrap();
        let flood = Arc::clone(&queue.turns).acquire_many_owned(turns).await.unwrap();
        let places = u32::try_from(queue.places.available_permits()).unwrap();
        let waiting = queue.places.acquire_many(places).await.unwrap();
        assert!(matches!(in_turn(&queue, || Ok(())).await, Err(PasswordError::Busy)), "it may wait for ever");
        in_turn(&Queue::new(), || Ok(())).await.unwrap();
        drop((flood, waiting));
        in_turn(&queue, || Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn whoever_signs_up_waits_with_strangers_only() {
        let (none, good, ann) = (RefusedPasswords::default(), "blue kettle on fire", ("ann@example.com", "Ann"));
        let places = u32::try_from(OF_STRANGERS.places.available_permits()).unwrap();
        let flood = OF_STRANGERS.places.acquire_many(places).await.unwrap();
        let weighed = fault(Asker::Stranger, &none, good, ann).await;
        assert!(matches!(weighed, Err(PasswordError::Busy)), "weighed beside those who were here before");
        let hashed = hash(Asker::Stranger, good).await;
        assert!(matches!(hashed, Err(PasswordError::Busy)), "hashed beside those who were here before");
        assert_eq!(fault(Asker::Known, &none, good, ann).await.unwrap(), None);
        hash(Asker::Known, good).await.unwrap();
        drop(flood);
        assert_eq!(fault(Asker::Stranger, &none, good, ann).await.unwrap(), None);
        hash(Asker::Stranger, good).await.unwrap();
    }

    #[tokio::test]
    async fn weak_passwords_are_refused() {
        let none = RefusedPasswords::default();
        let weak = [
            "short",
            "elevenchars",
            "Password1234",
            "password123456",
            "passwordpassword",
            "qwertyuiop12",
            "aaaaaaaaaaaa",
            "123456789012",
            "abcdefghijkl",
            "ann@example.com",
            "annannannann",
            "Annabelle Example",
        ];
        for weak in weak {
            let fault = fault(Asker::Known, &none, weak, ("ann@example.com", "Annabelle Example")).await.unwrap();
            assert!(fault.is_some(), "{weak}");
        }
        assert!(fault(Asker::Known, &none, &"x".repeat(300), ("", "")).await.unwrap().is_some());
        for good in ["blue kettle on fire", "correct-horse-0f3a9c", "tr0mbone-vapour-lintel"] {
            assert_eq!(fault(Asker::Known, &none, good, ("ann@example.com", "Ann")).await.unwrap(), None, "{good}");
        }
    }
}
