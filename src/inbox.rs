//! Payment events become signals, and queued letters become letter workflows.
//!
//! A row is read, then the workflow is signalled, then the row is marked. A crash between any two of these only means that
//! the signal is given once more, and a signal only ever says "look at Stripe". Several workers may do this side by side:
//! a row that one of them has in hand is hidden from the others for a few seconds.
use std::time::Duration;

use contract::{
    letter::{LetterInput, LetterKind, LetterSubject},
    order::PaymentReported,
    subscription::StripeChanged,
};
use domain::{
    billing::Phase,
    ids::{OrderId, SubscriptionId},
    order::OrderStatus,
};
use store::{PaymentEvent, QueuedLetter, Store, StoreError};
use temporalio_client::{Client, WorkflowIdReusePolicy, WorkflowSignalOptions, WorkflowStartOptions, errors};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use workflows::{letter::Letter, order::Order, subscription::Subscription};

/// The longest a stored row waits for a look when no notification arrives.
const POLL: Duration = Duration::from_secs(1);
/// How many rows are taken at once.
const BATCH_ROWS: i64 = 100;
/// How often a row that no workflow claims is tried before staff see it. With the store's back-off this is about a minute.
const CLAIM_ATTEMPTS: u32 = 6;

/// What became of one row.
#[derive(Debug, PartialEq, Eq)]
enum Driven {
    Handled,
    Ignored,
    NobodyYet(&'static str),
    TemporalAway,
}

/// Drives rows on until told to stop.
pub(crate) struct Inbox {
    /// Where the rows stand.
    pub(crate) store: Store,
    /// Where the workflows live.
    pub(crate) temporal: Client,
    /// The task queue new letter workflows are put on.
    pub(crate) task_queue: String,
}

impl Inbox {
    /// Runs until `stop`. A database or a Temporal that is away is waited for.
    pub(crate) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let mut listener = self.store.payment_event_listener().await.ok();
            loop {
                let worked = self.turn().await;
                if let Err(fault) = &worked {
                    tracing::warn!(error = %chain(fault), "the inbox could not be read; trying again");
                }
                if worked.as_ref().is_ok_and(|rows| *rows > 0) && !stop.is_cancelled() {
                    continue;
                }
                let heard = async {
                    match listener.as_mut() {
                        Some(listener) => listener.heard().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = stop.cancelled() => return,
                    heard = heard => if heard.is_err() { break },
                    () = tokio::time::sleep(POLL) => if listener.is_none() { break },
                }
            }
        }
    }

    /// Takes what is due once. Gives how many rows were driven on.
    async fn turn(&self) -> Result<usize, StoreError> {
        let events = self.store.due_payment_events(BATCH_ROWS).await?;
        let mut driven = 0;
        for event in &events {
            driven += usize::from(self.drive(event).await?);
        }
        for letter in self.store.queued_letters(BATCH_ROWS).await? {
            driven += usize::from(self.begin(&letter).await?);
        }
        Ok(driven)
    }

    async fn drive(&self, event: &PaymentEvent) -> Result<bool, StoreError> {
        metrics::counter!("ez_payment_events_total", "type" => event.event_type.clone()).increment(1);
        let order = event.order.map(|order| order.to_string());
        let workflow = event.subscription.as_ref().map(SubscriptionId::workflow_id);
        let span = tracing::info_span!("payment event", event = event.id, kind = event.event_type, order, workflow);
        let outcome = self.claim(event).instrument(span.clone()).await?;
        span.in_scope(|| tracing::info!(?outcome, "payment event"));
        match outcome {
            Driven::Handled => self.store.payment_event_handled(&event.id).await?,
            Driven::Ignored => self.store.payment_event_ignored(&event.id).await?,
            Driven::NobodyYet(why) if event.attempts >= CLAIM_ATTEMPTS => {
                self.store.payment_event_unclaimed(&event.id, why).await?;
            }
            Driven::NobodyYet(why) => {
                self.store.payment_event_failed(&event.id, why).await?;
                return Ok(false);
            }
            // Not the event's fault: it is due again in a few seconds, as often as it takes.
            Driven::TemporalAway => return Ok(false),
        }
        Ok(true)
    }

    /// Finds the workflow an event is for and signals it.
    async fn claim(&self, event: &PaymentEvent) -> Result<Driven, StoreError> {
        if event.object_kind == "checkout.session" {
            let by_session = self.store.order_of_session(&event.object_id).await?;
            return match by_session.or(event.order) {
                Some(order) => self.tell_order(order, event).await,
                None => Ok(Driven::NobodyYet("no order knows this Checkout Session")),
            };
        }
        match (&event.subscription, event.order) {
            (Some(subscription), order) => self.tell_subscription(subscription, order, event).await,
            (None, Some(order)) => self.tell_order(order, event).await,
            (None, None) => Ok(Driven::Ignored),
        }
    }

    async fn tell_order(&self, order: OrderId, event: &PaymentEvent) -> Result<Driven, StoreError> {
        let report = PaymentReported { event: event.id.clone() };
        let handle = self.temporal.get_workflow_handle::<Order>(order.workflow_id());
        match handle.signal(Order::payment_reported, report, WorkflowSignalOptions::default()).await {
            Ok(()) => Ok(Driven::Handled),
            Err(errors::WorkflowInteractionError::NotFound(_)) => {
                // An order that is over looked at Stripe itself before it ended.
                let Some(brief) = self.store.brief(order).await? else {
                    return Ok(Driven::NobodyYet("no workflow lives with this order"));
                };
                let pays = ["checkout.session.completed", "checkout.session.async_payment_succeeded"];
                let over = !matches!(brief.status, OrderStatus::AwaitingPayment | OrderStatus::Provisioning);
                Ok(match (over, brief.subscription) {
                    (true, None) if pays.contains(&event.event_type.as_str()) => {
                        Driven::NobodyYet("it pays for an order that is over; look at Stripe and give it back")
                    }
                    (true, _) => Driven::Handled,
                    (false, _) => Driven::NobodyYet("no workflow lives with this order"),
                })
            }
            Err(other) => Ok(away(&other)),
        }
    }

    async fn tell_subscription(
        &self,
        subscription: &SubscriptionId,
        order: Option<OrderId>,
        event: &PaymentEvent,
    ) -> Result<Driven, StoreError> {
        let change = StripeChanged { event: event.id.clone() };
        let handle = self.temporal.get_workflow_handle::<Subscription>(subscription.workflow_id());
        match handle.signal(Subscription::stripe_changed, change, WorkflowSignalOptions::default()).await {
            Ok(()) => return Ok(Driven::Handled),
            Err(errors::WorkflowInteractionError::NotFound(_)) => {}
            Err(other) => return Ok(away(&other)),
        }
        match self.store.subscription(subscription).await? {
            Some(known) if known.phase == Phase::Expired => Ok(Driven::Handled),
            Some(_) => Ok(Driven::NobodyYet("no workflow lives with this subscription")),
            // The order has not heard of its payment yet. Told now, it starts the subscription's workflow, whose first act
            // is a look at Stripe.
            None => match order {
                Some(order) => self.tell_order(order, event).await,
                None => Ok(Driven::NobodyYet("no order of ours made this subscription")),
            },
        }
    }

    /// Starts the workflow of a letter that a page asked for. One that exists already is success.
    async fn begin(&self, queued: &QueuedLetter) -> Result<bool, StoreError> {
        let Some(letter) = letter_of(queued) else {
            self.store.letter_refused(&queued.occasion, &queued.kind, "the letter is about nothing we know").await?;
            return Ok(true);
        };
        let options = WorkflowStartOptions::new(self.task_queue.clone(), letter.workflow_id())
            .id_reuse_policy(WorkflowIdReusePolicy::RejectDuplicate)
            .build();
        match self.temporal.start_workflow(Letter::run, letter, options).await {
            Ok(_) | Err(errors::WorkflowStartError::AlreadyStarted { .. }) => {
                self.store.letter_started(&queued.occasion).await?;
                Ok(true)
            }
            Err(fault) => {
                tracing::warn!(error = %chain(&fault), "a letter could not be started; trying again");
                Ok(false)
            }
        }
    }
}

fn away(fault: &errors::WorkflowInteractionError) -> Driven {
    tracing::warn!(error = %chain(fault), "Temporal did not take a signal; trying again");
    Driven::TemporalAway
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

/// An error with everything beneath it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        line.push_str(": ");
        line.push_str(&next.to_string());
        cause = next.source();
    }
    line
}
