//! One try at a time for each letter: a workflow task that took too long is begun again while the first try still talks to
//! the mail server, and must see what became of it before it tries once more.
use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

/// Who is handing over which letter in this process.
#[derive(Default)]
pub(super) struct Turns {
    taken: Mutex<HashSet<String>>,
    freed: Notify,
}

/// The turn of one try; over when it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    occasion: String,
}

impl Turns {
    /// Waits until nobody else hands over this letter, and keeps others from it.
    pub(super) async fn take(&self, occasion: &str) -> Turn<'_> {
        loop {
            // Asked for before looking, so that a turn that ends in between is not missed.
            let freed = self.freed.notified();
            if self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(occasion.to_owned()) {
                return Turn { turns: self, occasion: occasion.to_owned() };
            }
            freed.await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.occasion);
        self.turns.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_second_try_of_a_letter_waits_for_the_first_and_other_letters_do_not() {
        let turns = Turns::default();
        let first = turns.take("payment_received/in_1").await;
        assert!(timeout(SOON, turns.take("payment_received/in_1")).await.is_err());
        assert!(timeout(SOON, turns.take("payment_received/in_2")).await.is_ok());
        let (_second, ()) = tokio::join!(turns.take("payment_received/in_1"), async {
            tokio::task::yield_now().await;
            drop(first);
        });
    }
}
