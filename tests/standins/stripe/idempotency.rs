//! `Idempotency-Key` as Stripe treats it.
//!
//! The first answer to a key is kept, a stored 500 included, and given again for the same
//! request; other parameters are refused with 400, a second request while the first still runs
//! with 409. An answer that came before the endpoint began (unknown parameter, wrong key) is not
//! kept. Only POST requests carry keys.

use std::collections::HashMap;

use serde_json::Value;

use super::refusal::Refusal;

/// A finished answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finished {
    /// HTTP status.
    pub(super) status: u16,
    /// JSON body.
    pub(super) body: Value,
}

/// What to do with a keyed request.
#[derive(Debug)]
pub(super) enum Turn {
    /// Nobody ran it: run it, then call [`Keys::finish`].
    Run,
    /// It was run: give this answer.
    Replay(Finished),
}

struct Entry {
    request: String,
    answer: Option<Finished>,
}

/// The keys seen so far.
#[derive(Default)]
pub(super) struct Keys {
    entries: HashMap<String, Entry>,
}

impl Keys {
    /// Takes a key for `request` (method, path and parameters in one text).
    pub(super) fn begin(&mut self, key: &str, request: &str) -> Result<Turn, Refusal> {
        if let Some(entry) = self.entries.get(key) {
            return match &entry.answer {
                _ if entry.request != request => Err(Refusal::key_reused(key)),
                Some(answer) => Ok(Turn::Replay(answer.clone())),
                None => Err(Refusal::key_in_use(key)),
            };
        }
        self.entries.insert(key.to_owned(), Entry { request: request.to_owned(), answer: None });
        Ok(Turn::Run)
    }

    /// Forgets every key whose request is over; gives how many those were.
    pub(super) fn forget(&mut self) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.answer.is_none());
        before - self.entries.len()
    }

    /// Keeps the answer to a key, or frees the key when there is none to keep.
    pub(super) fn finish(&mut self, key: &str, answer: Option<Finished>) {
        if answer.is_none() {
            self.entries.remove(key);
        } else if let Some(entry) = self.entries.get_mut(key) {
            entry.answer = answer;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Finished, Keys, Turn};

    fn answer(status: u16) -> Finished {
        Finished { status, body: json!({"n": status}) }
    }

    #[test]
    fn the_first_answer_is_given_again_even_a_500() {
        let mut keys = Keys::default();
        assert!(matches!(keys.begin("k", "POST /a x=1"), Ok(Turn::Run)));
        keys.finish("k", Some(answer(500)));
        match keys.begin("k", "POST /a x=1") {
            Ok(Turn::Replay(found)) => assert_eq!(found, answer(500)),
            other => panic!("expected a replay, got {other:?}"),
        }
    }

    #[test]
    fn a_forgotten_key_runs_again_unless_it_still_runs() {
        let mut keys = Keys::default();
        assert!(keys.begin("done", "POST /a x=1").is_ok());
        keys.finish("done", Some(answer(200)));
        assert!(keys.begin("running", "POST /a x=1").is_ok());
        assert_eq!(keys.forget(), 1);
        assert!(matches!(keys.begin("done", "POST /a x=1"), Ok(Turn::Run)));
        assert_eq!(keys.begin("running", "POST /a x=1").expect_err("still running").status, 409);
    }

    #[test]
    fn other_parameters_are_refused() {
        let mut keys = Keys::default();
        assert!(keys.begin("k", "POST /a x=1").is_ok());
        keys.finish("k", Some(answer(200)));
        let refusal = keys.begin("k", "POST /a x=2").expect_err("other parameters");
        assert_eq!(refusal.status, 400);
        assert_eq!(refusal.body()["error"]["type"], "idempotency_error");
    }

    #[test]
    fn a_second_request_meanwhile_is_a_conflict() {
        let mut keys = Keys::default();
        assert!(keys.begin("k", "POST /a x=1").is_ok());
        let refusal = keys.begin("k", "POST /a x=1").expect_err("still running");
        assert_eq!(refusal.status, 409);
    }

    #[test]
    fn a_key_whose_request_never_began_is_free_again() {
        let mut keys = Keys::default();
        assert!(keys.begin("k", "POST /a bad=1").is_ok());
        keys.finish("k", None);
        assert!(matches!(keys.begin("k", "POST /a x=1"), Ok(Turn::Run)));
    }
}
