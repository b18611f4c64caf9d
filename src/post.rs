//! Queued letters leave: each is handed to the mail server at once. One that is not taken gets a workflow, which is patient
//! for days and then asks staff.
//!
//! A letter is taken out of the queue before it is handed over. Where the process dies in between, it is found again by
//! the time it was taken, and given a workflow: it looks whether the letter was sent, and sends it under the same
//! Message-ID.
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use activities::{fault::Fault, mail::MailDesk};
use contract::{
    WORKFLOW_TASK_LIMIT,
    letter::{LetterInput, LetterKind, LetterSubject},
};
use futures::future::join_all;
use store::{QueuedLetter, Store, StoreError};
use temporalio_client::{Client, WorkflowIdReusePolicy, WorkflowStartOptions, errors};
use workflows::letter::Letter;

use crate::{attributes::found_by, inbox::chain};

/// How many letters are taken, and handed over at the same time: no more, so that each is settled before it counts as left
/// behind.
const AT_ONCE: u32 = 8;
/// For so long after the mail server did not take a letter, letters get their workflow without a try.
const REST: Duration = Duration::from_secs(10);

/// Sends what is queued.
pub(crate) struct Post {
    /// Where the letters stand.
    store: Store,
    /// What hands them over.
    mail: MailDesk,
    /// Where the workflows live.
    temporal: Client,
    /// The task queue workflows are put on.
    task_queue: String,
    began: Instant,
    /// Until when nothing is tried, in milliseconds since then.
    rests_until: AtomicU64,
}

impl Post {
    /// A post office over the letters, the mail server, and the workflows for what it does not take.
    pub(crate) fn new(store: Store, mail: MailDesk, temporal: Client, task_queue: String) -> Self {
        Self { store, mail, temporal, task_queue, began: Instant::now(), rests_until: AtomicU64::new(0) }
    }

    /// Takes what is queued once. Gives how many letters were sent or given a workflow.
    pub(crate) async fn turn(&self) -> Result<usize, StoreError> {
        let taken = self.store.take_letters(AT_ONCE.into()).await?;
        if taken.is_empty() {
            return Ok(0);
        }
        let settled = join_all(taken.iter().map(|letter| self.settle(letter))).await;
        let settled = settled.into_iter().collect::<Result<Vec<_>, StoreError>>()?;
        let settled: Vec<String> = settled.into_iter().flatten().collect();
        self.store.letters_settled(&settled).await?;
        Ok(settled.len())
    }

    /// Sends a letter or gives it a workflow; gives its occasion unless neither could be done.
    async fn settle(&self, queued: &QueuedLetter) -> Result<Option<String>, StoreError> {
        let Some(letter) = letter_of(queued) else {
            self.store.letter_refused(&queued.occasion, &queued.kind, "the letter is about nothing we know").await?;
            return Ok(Some(queued.occasion.clone()));
        };
        if !queued.left_behind && !self.rests() && self.hand_over(&letter).await {
            return Ok(Some(letter.occasion));
        }
        Ok(self.begin(letter).await)
    }

    async fn hand_over(&self, letter: &LetterInput) -> bool {
        let Err(fault) = self.mail.deliver(letter).await else { return true };
        tracing::warn!(error = fault.words(), occasion = letter.occasion, "a letter was not taken; it gets a workflow");
        // A receiver that is refused says nothing about the next one.
        if !matches!(fault, Fault::GiveUp { .. }) {
            let until = self.began.elapsed() + REST;
            self.rests_until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        false
    }

    fn rests(&self) -> bool {
        self.began.elapsed() < Duration::from_millis(self.rests_until.load(Ordering::Relaxed))
    }

    /// Starts the workflow of a letter, and gives its occasion. One that exists already is success.
    async fn begin(&self, letter: LetterInput) -> Option<String> {
        let occasion = letter.occasion.clone();
        let options = WorkflowStartOptions::new(self.task_queue.clone(), letter.workflow_id())
            .id_reuse_policy(WorkflowIdReusePolicy::RejectDuplicate)
            .task_timeout(WORKFLOW_TASK_LIMIT)
            .search_attributes(found_by("letter", letter.kind.as_str(), None))
            .build();
        match self.temporal.start_workflow(Letter::run, letter, options).await {
            Ok(_) | Err(errors::WorkflowStartError::AlreadyStarted { .. }) => Some(occasion),
            Err(fault) => {
                tracing::warn!(error = %chain(&fault), occasion, "a letter could not be given a workflow; trying again");
                None
            }
        }
    }
}

fn letter_of(queued: &QueuedLetter) -> Option<LetterInput> {
    let kind: LetterKind = queued.kind.parse().ok()?;
    let subject = match (queued.user, queued.order, &queued.subscription) {
        (Some(user), _, _) => LetterSubject::User(user),
        (_, Some(order), _) => LetterSubject::Order(order),
        (_, _, Some(subscription)) => LetterSubject::Subscription(subscription.clone()),
        (None, None, None) => return None,
    };
    let occasion = queued.occasion.clone();
    Some(LetterInput { kind, subject, service: queued.service, occasion, patience_secs: None })
}
