//! Questions asked at the same moment become one. What a short question costs is mostly the asking: the way there and back, and
//! the start of its plan. So whoever asks while others are being answered waits for them, and is then asked for together with
//! everybody else who came meanwhile; whoever comes alone is asked for at once.
//!
//! ```text
//! ask(key) --> waiting --> one question for all that wait --> everybody gets what stands under their own key
//! ```
//!
//! Nothing is kept: every answer was read after it was asked for. It is for reading only, because a question may be asked twice.
use crate::StoreError;
use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::oneshot, time::timeout};

/// How many questions of one kind are under way at once: with a second one nobody waits for a slow one alone.
const UNDER_WAY_LIMIT: usize = 2;
/// For how many keys one question asks at most.
const KEYS_LIMIT: usize = 64;
/// How long an answer may take before the database counts as away.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// What was found under each key; nothing for a key under which nothing stands.
pub(crate) type Found<K, V> = Result<HashMap<K, V>, StoreError>;
/// The answer, when it is there.
pub(crate) type Asking<K, V> = Pin<Box<dyn Future<Output = Found<K, V>> + Send>>;
type Question<K, V> = dyn Fn(Vec<K>) -> Asking<K, V> + Send + Sync;
type Answer<V> = oneshot::Sender<Result<Option<V>, StoreError>>;
type Waiting<K, V> = (K, Answer<V>);

/// Asks one kind of question, for all who ask at once. Clones ask together.
pub(crate) struct Together<K, V> {
    doing: &'static str,
    within: Duration,
    question: Arc<Question<K, V>>,
    desk: Arc<Mutex<Desk<K, V>>>,
}

struct Desk<K, V> {
    waiting: Vec<Waiting<K, V>>,
    under_way: usize,
}

impl<K, V> Clone for Together<K, V> {
    fn clone(&self) -> Self {
        Self {
            doing: self.doing,
            within: self.within,
            question: Arc::clone(&self.question),
            desk: Arc::clone(&self.desk),
        }
    }
}

impl<K, V> Together<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Remembers how to ask; `doing` says in a fault what was asked for.
    pub(crate) fn new(doing: &'static str, question: impl Fn(Vec<K>) -> Asking<K, V> + Send + Sync + 'static) -> Self {
        let desk = Desk { waiting: Vec::new(), under_way: 0 };
        Self { doing, within: ANSWERED_WITHIN, question: Arc::new(question), desk: Arc::new(Mutex::new(desk)) }
    }

    /// What stands under `key` now; nothing when nothing does.
    ///
    /// *Errors*: those of the question. Asking again is safe.
    pub(crate) async fn ask(&self, key: K) -> Result<Option<V>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let goes_alone = {
            let mut desk = self.desk();
            desk.waiting.push((key, answer));
            let is_free = desk.under_way < UNDER_WAY_LIMIT;
            desk.under_way += usize::from(is_free);
            is_free
        };
        if goes_alone {
            // On a task of its own: whoever began it may go away, and the others wait for it.
            tokio::spawn(Turn { of: self.clone(), is_over: false }.work());
        }
        answered.await.unwrap_or_else(|_| Err(self.away("nobody asked")))
    }

    async fn found(&self, keys: Vec<K>) -> Found<K, V> {
        timeout(self.within, (self.question)(keys))
            .await
            .unwrap_or_else(|_| Err(self.away("the database does not answer")))
    }

    fn away(&self, why: &'static str) -> StoreError {
        StoreError::Unavailable { doing: self.doing, source: io::Error::other(why).into() }
    }
}

impl<K, V> Together<K, V> {
    fn desk(&self) -> MutexGuard<'_, Desk<K, V>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the questions that may be under way. It asks until nobody waits.
struct Turn<K, V> {
    of: Together<K, V>,
    is_over: bool,
}

impl<K, V> Turn<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    async fn work(mut self) {
        while let Some(batch) = self.next() {
            let mut asked: HashMap<K, Vec<_>> = HashMap::with_capacity(batch.len());
            for (key, answer) in batch {
                asked.entry(key).or_default().push(answer);
            }
            match self.of.found(asked.keys().cloned().collect()).await {
                Ok(mut found) => {
                    for (key, answers) in asked {
                        hand_out(answers, found.remove(&key));
                    }
                }
                Err(fault) => {
                    let mut all: Vec<_> = asked.into_values().flatten().collect();
                    if !fault.is_refusal() {
                        // Who came meanwhile would wait as long for the same.
                        all.extend(self.of.desk().waiting.drain(..).map(|(_, answer)| answer));
                    }
                    for answer in all {
                        let _ = answer.send(Err(fault.shared()));
                    }
                }
            }
        }
    }

    /// Who waits, the longest first. With nobody the turn is over: that is decided under the same lock as to wait is.
    fn next(&mut self) -> Option<Vec<Waiting<K, V>>> {
        let mut desk = self.of.desk();
        let many = desk.waiting.len().min(KEYS_LIMIT);
        if many == 0 {
            desk.under_way -= 1;
            drop(desk);
            self.is_over = true;
            return None;
        }
        Some(desk.waiting.drain(..many).collect())
    }
}

/// Gives what was found to all who asked for it. Whoever does not wait any more needs no answer.
fn hand_out<V: Clone>(mut answers: Vec<Answer<V>>, value: Option<V>) {
    let last = answers.pop();
    for answer in answers {
        let _ = answer.send(Ok(value.clone()));
    }
    if let Some(last) = last {
        let _ = last.send(Ok(value));
    }
}

impl<K, V> Drop for Turn<K, V> {
    fn drop(&mut self) {
        if !self.is_over {
            // It panicked, or the process ends. Whoever waits is told, and the next one begins anew.
            let mut desk = self.of.desk();
            desk.under_way -= 1;
            desk.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::task::JoinSet;

    const A_WHILE: Duration = Duration::from_millis(20);

    /// Finds half of each even number, and counts how often it was asked.
    fn halves(asked: &Arc<AtomicUsize>) -> Together<u32, u32> {
        let asked = Arc::clone(asked);
        Together::new("halving", move |keys| {
            asked.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                tokio::time::sleep(A_WHILE).await;
                Ok(keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key / 2)).collect())
            })
        })
    }

    #[tokio::test]
    async fn everybody_gets_their_own_answer_and_few_questions_are_asked() {
        let asked = Arc::default();
        let halves = halves(&asked);
        let mut all = JoinSet::new();
        for key in (0..100).chain(0..100) {
            let halves = halves.clone();
            all.spawn(async move { (key, halves.ask(key).await) });
        }
        while let Some(answer) = all.join_next().await {
            let (key, found) = answer.expect("nobody panics");
            assert_eq!(found.expect("an answer"), (key % 2 == 0).then_some(key / 2));
        }
        assert!(asked.load(Ordering::SeqCst) <= 6, "asked {asked:?} times");
        assert_eq!(halves.desk().under_way, 0, "a turn was not given back");
    }

    #[tokio::test]
    async fn whoever_goes_away_takes_nobody_along() {
        let halves = halves(&Arc::default());
        let first = tokio::spawn({
            let halves = halves.clone();
            async move { halves.ask(2).await }
        });
        tokio::task::yield_now().await;
        first.abort();
        let others = tokio::join!(halves.ask(4), halves.ask(6), halves.ask(8));
        assert!(matches!(others, (Ok(Some(2)), Ok(Some(3)), Ok(Some(4)))), "{others:?}");
    }

    #[tokio::test]
    async fn a_database_that_does_not_answer_is_away_for_all_who_wait_and_asked_again_afterwards() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let mut slow: Together<u32, u32> = Together::new("waiting", move |keys| {
            let hangs = count.fetch_add(1, Ordering::SeqCst) == 0;
            Box::pin(async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok(keys.into_iter().map(|key| (key, key)).collect())
            })
        });
        slow.within = A_WHILE;
        let faults = tokio::join!(slow.ask(1), slow.ask(2), slow.ask(3));
        let is_away = |fault: &Result<Option<u32>, StoreError>| matches!(fault, Err(StoreError::Unavailable { .. }));
        assert!(is_away(&faults.0) && is_away(&faults.1) && is_away(&faults.2), "{faults:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 1, "somebody waited for one more question");
        assert_eq!(slow.ask(4).await.expect("it is back"), Some(4));
    }

    #[tokio::test]
    async fn a_question_that_panics_leaves_nobody_waiting() {
        let asked = AtomicUsize::new(0);
        let brittle: Together<u32, u32> = Together::new("breaking", move |keys| {
            let breaks = asked.fetch_add(1, Ordering::SeqCst) == 0;
            Box::pin(async move {
                assert!(!breaks, "as it shall");
                Ok(keys.into_iter().map(|key| (key, key)).collect())
            })
        });
        assert!(matches!(brittle.ask(1).await, Err(StoreError::Unavailable { .. })));
        assert_eq!(brittle.ask(2).await.expect("the next one is asked"), Some(2));
    }
}
