//! Many events told at the same time become one commit, because a commit is what costs: the disk has to be waited for.
//!
//! ```text
//! told --> queue --> batch --> one insert, one commit --> everybody is answered
//! ```
//!
//! Nobody is answered before the commit. Whoever is told *stored* finds the row in the table, whatever dies; whoever hears of
//! a fault, or nothing at all, has to tell it again, and then it is stored once.
use super::{NewPaymentEvent, PutEvent};
use crate::{Store, StoreError};
use std::{io, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

/// How many events may wait; whoever comes then is refused at once.
const QUEUE_LIMIT: usize = 4_096;
/// How many events are stored by one commit at most.
const BATCH_LIMIT: usize = 256;
/// How long a batch waits for as many as came last time. One that comes alone waits for nobody.
const GATHER_WITHIN: Duration = Duration::from_millis(2);
/// How long storing may take before the database counts as away.
const STORE_WITHIN: Duration = Duration::from_secs(10);

struct Told {
    event: NewPaymentEvent,
    answer: oneshot::Sender<Result<PutEvent, StoreError>>,
}

/// Stores payment events, those told at the same time together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventGatherer {
    queue: mpsc::Sender<Told>,
}

impl EventGatherer {
    /// Starts gathering, until the last clone is gone. To be called inside a Tokio runtime.
    pub fn start(store: Store) -> Self {
        let (queue, told) = mpsc::channel(QUEUE_LIMIT);
        tokio::spawn(gather(store, told));
        Self { queue }
    }

    /// Stores an event, once. One that was told before and not driven to its end is due again now.
    ///
    /// *Errors*: it is not stored, or it is unknown whether it is; telling it again is safe.
    pub async fn put(&self, event: NewPaymentEvent) -> Result<PutEvent, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Told { event, answer }).map_err(|_| away("too many payment events wait"))?;
        answered.await.unwrap_or_else(|_| Err(away("the batch was given up")))
    }
}

fn away(why: &'static str) -> StoreError {
    StoreError::Unavailable { doing: "storing payment events", source: io::Error::other(why).into() }
}

async fn gather(store: Store, mut told: mpsc::Receiver<Told>) {
    let mut came_last_time = 1;
    loop {
        let mut batch = Vec::with_capacity(BATCH_LIMIT);
        if told.recv_many(&mut batch, BATCH_LIMIT).await == 0 {
            return;
        }
        let until = Instant::now() + GATHER_WITHIN;
        while batch.len() < came_last_time {
            let room = BATCH_LIMIT - batch.len();
            match timeout_at(until, told.recv_many(&mut batch, room)).await {
                Ok(came) if came > 0 => {}
                _ => break,
            }
        }
        came_last_time = batch.len();
        // On a task of its own: should it panic, its events are told again, and the next ones are stored.
        if let Err(fault) = tokio::spawn(put_batch(store.clone(), batch)).await {
            tracing::error!(%fault, "a batch of payment events was given up");
        }
    }
}

/// Stores a batch and answers everybody in it.
async fn put_batch(store: Store, batch: Vec<Told>) {
    let (events, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|told| (told.event, told.answer)).unzip();
    let outcomes = match put_within(&store, &events).await {
        Ok(put) => put.into_iter().map(Ok).collect(),
        // One of them is not to be stored; the others shall not suffer for it.
        Err(fault) if events.len() > 1 && fault.is_refusal() => put_alone(&store, &events).await,
        Err(fault) => events.iter().map(|_| Err(fault.shared())).collect(),
    };
    for (answer, outcome) in answers.into_iter().zip(outcomes) {
        // Whoever does not wait any more will tell it again.
        let _ = answer.send(outcome);
    }
}

/// Stores each event by itself, until the database is away.
async fn put_alone(store: &Store, events: &[NewPaymentEvent]) -> Vec<Result<PutEvent, StoreError>> {
    let mut outcomes: Vec<Result<PutEvent, StoreError>> = Vec::with_capacity(events.len());
    for event in events {
        let outcome = match outcomes.last() {
            Some(Err(fault)) if !fault.is_refusal() => Err(fault.shared()),
            _ => put_within(store, std::slice::from_ref(event))
                .await
                .and_then(|put| put.first().copied().ok_or(StoreError::Corrupt { what: "a stored payment event" })),
        };
        outcomes.push(outcome);
    }
    outcomes
}

async fn put_within(store: &Store, events: &[NewPaymentEvent]) -> Result<Vec<PutEvent>, StoreError> {
    timeout(STORE_WITHIN, store.put_payment_events(events))
        .await
        .unwrap_or_else(|_| Err(away("the database does not answer")))
}
