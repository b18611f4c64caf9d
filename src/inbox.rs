//! Payment events become signals, and queued letters become letter workflows.
//!
//! Rows are read, then workflows are signalled, then the rows are marked. A crash between any two of these only means that
//! a signal is given once more, and a signal only ever says "look at Stripe". So several events about one workflow are one
//! signal, too. Several workers may do this side by side: a row that one of them has in hand is hidden from the others for
//! a few seconds.
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use contract::{
    WORKFLOW_TASK_LIMIT,
    letter::{LetterInput, LetterKind, LetterSubject},
    order::PaymentReported,
    subscription::StripeChanged,
};
use domain::{
    billing::Phase,
    ids::{InstructionId, OrderId, SubscriptionId},
    order::OrderStatus,
};
use futures::{StreamExt, stream};
use store::{DueEvent, QueuedLetter, Store, StoreError};
use temporalio_client::{
    Client, WorkflowDescribeOptions, WorkflowExecutionStatus, WorkflowIdReusePolicy, WorkflowSignalOptions,
    WorkflowStartOptions, errors,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use workflows::{letter::Letter, order::Order, subscription::Subscription};

use crate::attributes::found_by;

mod again;

/// The longest a stored row waits for a look when no notification arrives.
const POLL: Duration = Duration::from_secs(1);
/// How long after a look the refused letters are looked at again.
const REFUSED_AGAIN: Duration = Duration::from_secs(10);
/// What a release before this one says of a letter whose kind it does not know, while both share the work.
const UNKNOWN_THEN: &str = "the letter is about nothing we know";
/// What is said of a letter that names nobody and nothing.
const ABOUT_NOTHING: &str = "the letter names nobody and nothing that it is about";
/// How many rows are taken at once.
const BATCH_ROWS: i64 = 200;
/// How many workflows are told at the same time.
const TOLD_AT_ONCE: usize = 16;
/// How often a row that no workflow claims is tried before staff see it. With the store's back-off this is about a minute.
const CLAIM_ATTEMPTS: u32 = 6;
/// What tells of a payment.
const PAYS: [&str; 2] = ["checkout.session.completed", "checkout.session.async_payment_succeeded"];

/// What tells of money by itself, besides its order or its subscription.
const MONEY: [&str; 8] = [
    "charge",
    "credit_note",
    "customer",
    "customer_balance_transaction",
    "dispute",
    "invoice",
    "payment_intent",
    "refund",
];

/// Whom events are for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Aim {
    Order(OrderId),
    Subscription(SubscriptionId),
    /// A subscription was told something, and nobody said what became of it.
    Told(InstructionId),
    /// The order is paid and known to be: there is nothing to look at.
    Settled,
    /// Of money alone: the mirror looks at it.
    Mirror,
    /// Of a type we do nothing about.
    Nobody,
    /// It should be for somebody, and nobody knows for whom.
    Unknown(&'static str),
}

impl Aim {
    fn workflow_id(&self) -> Option<String> {
        match self {
            Self::Order(order) => Some(order.workflow_id()),
            Self::Subscription(id) => Some(id.workflow_id()),
            Self::Told(_) | Self::Settled | Self::Mirror | Self::Nobody | Self::Unknown(_) => None,
        }
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driven {
    Handled,
    Ignored,
    NobodyYet(&'static str),
    TemporalAway,
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Heard,
    NotThere,
    Away,
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
        let kinds: Vec<String> = LetterKind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
        let mut looked_at_refused = None;
        while !stop.is_cancelled() {
            let mut listener = self.store.payment_event_listener().await.ok();
            loop {
                let worked = self.turn(&kinds, &mut looked_at_refused).await;
                if let Err(fault) = &worked {
                    tracing::warn!(error = %chain(fault), "the inbox could not be read; trying again");
                }
                if stop.is_cancelled() {
                    return;
                }
                if worked.as_ref().is_ok_and(|rows| *rows > 0) {
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
    async fn turn(&self, kinds: &[String], looked_at_refused: &mut Option<Instant>) -> Result<usize, StoreError> {
        let letters = async {
            self.queue_again(kinds, looked_at_refused).await?;
            self.start_letters(kinds).await
        };
        let (events, letters) = tokio::try_join!(self.drive_events(), letters)?;
        Ok(events + letters)
    }

    /// A release before this one that shares the work refuses what it does not know yet. This one knows it: at its start, and
    /// every few seconds after that, such letters are queued again.
    async fn queue_again(&self, kinds: &[String], looked: &mut Option<Instant>) -> Result<(), StoreError> {
        if looked.is_some_and(|at| at.elapsed() < REFUSED_AGAIN) {
            return Ok(());
        }
        let letters = self.store.queue_letters_again(UNKNOWN_THEN, kinds).await?;
        *looked = Some(Instant::now());
        if letters > 0 {
            tracing::info!(letters, "letters that an older release did not know are queued again");
        }
        Ok(())
    }

    async fn drive_events(&self) -> Result<usize, StoreError> {
        let mut by_aim: BTreeMap<Aim, Vec<DueEvent>> = BTreeMap::new();
        let due = self.store.due_events(BATCH_ROWS).await?;
        // Asked for before anything is marked: a death in between asks once more.
        let looks: Vec<String> = due.iter().filter_map(look_of).collect();
        if !looks.is_empty() {
            self.store.ask_for_looks(&looks).await?;
        }
        for event in due {
            by_aim.entry(aim(&event)).or_default().push(event);
        }
        let driven: Vec<_> = stream::iter(by_aim)
            .map(|(aim, events)| async move {
                let span = tracing::info_span!("payment events", workflow = aim.workflow_id());
                self.drive(&aim, &events).instrument(span).await.map(|how| (events, how))
            })
            .buffer_unordered(TOLD_AT_ONCE)
            .collect()
            .await;
        let (mut handled, mut ignored, mut failed) = (vec![], vec![], Ok(()));
        for about_one in driven {
            match about_one {
                Ok((events, how)) => {
                    for (event, how) in events.into_iter().zip(how) {
                        self.note(event, how, &mut handled, &mut ignored).await?;
                    }
                }
                Err(fault) => failed = Err(fault),
            }
        }
        if !handled.is_empty() || !ignored.is_empty() {
            self.store.end_events(&handled, &ignored).await?;
        }
        failed?;
        Ok(handled.len() + ignored.len())
    }

    async fn note(
        &self,
        event: DueEvent,
        how: Driven,
        handled: &mut Vec<String>,
        ignored: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let order = event.order.map(|order| order.to_string());
        let workflow = aim(&event).workflow_id();
        tracing::info!(event = event.id, kind = event.event_type, order, workflow, outcome = ?how, "payment event");
        metrics::counter!("ez_payment_events_total", "type" => event.event_type).increment(1);
        match how {
            Driven::Handled => handled.push(event.id),
            Driven::Ignored => ignored.push(event.id),
            Driven::NobodyYet(why) if event.attempts >= CLAIM_ATTEMPTS => {
                self.store.payment_event_unclaimed(&event.id, why).await?;
            }
            Driven::NobodyYet(why) => self.store.payment_event_failed(&event.id, why).await?,
            // Not the event's fault: it is due again in a few seconds, as often as it takes.
            Driven::TemporalAway => {}
        }
        Ok(())
    }

    /// Tells one workflow of all these events, and says for each what that made of it.
    async fn drive(&self, aim: &Aim, events: &[DueEvent]) -> Result<Vec<Driven>, StoreError> {
        let all = |driven: Driven| Ok(vec![driven; events.len()]);
        let Some(first) = events.first() else { return Ok(vec![]) };
        match aim {
            Aim::Settled | Aim::Mirror => all(Driven::Handled),
            Aim::Nobody => all(Driven::Ignored),
            Aim::Unknown(why) => all(Driven::NobodyYet(why)),
            Aim::Told(id) => all(self.tell_again(*id, first).await?),
            Aim::Order(order) => match self.tell_order(*order, &first.id).await {
                Told::Heard => all(Driven::Handled),
                Told::Away => all(Driven::TemporalAway),
                Told::NotThere => self.without_order(*order, events).await,
            },
            Aim::Subscription(id) => match self.tell_subscription(id, &first.id).await {
                Told::Heard => all(Driven::Handled),
                Told::Away => all(Driven::TemporalAway),
                Told::NotThere if first.phase == Some(Phase::Expired) => all(Driven::Handled),
                Told::NotThere => all(Driven::NobodyYet("no workflow lives with this subscription")),
            },
        }
    }

    /// What becomes of events whose order has no workflow: it is over, or it is not there yet.
    async fn without_order(&self, order: OrderId, events: &[DueEvent]) -> Result<Vec<Driven>, StoreError> {
        let brief = self.store.brief(order).await?;
        let paid_by = brief.as_ref().and_then(|brief| brief.subscription.clone());
        // An order that is over looked at Stripe itself before it ended.
        let over = brief
            .is_some_and(|brief| !matches!(brief.status, OrderStatus::AwaitingPayment | OrderStatus::Provisioning));
        let mut driven = Vec::with_capacity(events.len());
        for event in events {
            let subscription = event.subscription.as_ref().filter(|_| event.object_kind != "checkout.session");
            driven.push(match subscription {
                // Its workflow may live although our tables do not know it.
                Some(id) if event.phase.is_none() => match self.tell_subscription(id, &event.id).await {
                    Told::Heard => Driven::Handled,
                    Told::Away => Driven::TemporalAway,
                    Told::NotThere if over && paid_by.as_ref().is_some_and(|paid_by| paid_by != id) => {
                        Driven::NobodyYet(
                            "another subscription pays for its order already; look at Stripe and end this one",
                        )
                    }
                    Told::NotThere if over => Driven::Handled,
                    Told::NotThere => Driven::NobodyYet("no workflow lives with this order"),
                },
                _ if over && paid_by.is_none() && PAYS.contains(&event.event_type.as_str()) => {
                    Driven::NobodyYet("it pays for an order that is over; look at Stripe and give it back")
                }
                _ if over => Driven::Handled,
                _ => Driven::NobodyYet("no workflow lives with this order"),
            });
        }
        Ok(driven)
    }

    async fn tell_order(&self, order: OrderId, event: &str) -> Told {
        let report = PaymentReported { event: event.to_owned() };
        let handle = self.temporal.get_workflow_handle::<Order>(order.workflow_id());
        told(handle.signal(Order::payment_reported, report, WorkflowSignalOptions::default()).await)
    }

    async fn tell_subscription(&self, subscription: &SubscriptionId, event: &str) -> Told {
        let change = StripeChanged { event: event.to_owned() };
        let handle = self.temporal.get_workflow_handle::<Subscription>(subscription.workflow_id());
        told(handle.signal(Subscription::stripe_changed, change, WorkflowSignalOptions::default()).await)
    }

    async fn start_letters(&self, kinds: &[String]) -> Result<usize, StoreError> {
        let queued = self.store.queued_letters(kinds, BATCH_ROWS).await?;
        if queued.is_empty() {
            return Ok(0);
        }
        let started: Vec<_> =
            stream::iter(&queued).map(|letter| self.begin(letter)).buffer_unordered(TOLD_AT_ONCE).collect().await;
        let started = started.into_iter().collect::<Result<Vec<_>, StoreError>>()?;
        let started: Vec<String> = started.into_iter().flatten().collect();
        self.store.letters_started(&started).await?;
        Ok(started.len())
    }

    /// Starts the workflow of a letter, and gives its occasion. One that runs already is success. A worker of a release that
    /// does not know the kind cannot read the workflow's input: the task is tried again until one that can has it.
    async fn begin(&self, queued: &QueuedLetter) -> Result<Option<String>, StoreError> {
        let Ok(kind) = queued.kind.parse() else { return Ok(None) };
        let Some(letter) = letter_of(queued, kind) else {
            self.store.letter_refused(&queued.occasion, &queued.kind, ABOUT_NOTHING).await?;
            return Ok(None);
        };
        let workflow = letter.workflow_id();
        let options = WorkflowStartOptions::new(self.task_queue.clone(), workflow.clone())
            .id_reuse_policy(WorkflowIdReusePolicy::RejectDuplicate)
            .task_timeout(WORKFLOW_TASK_LIMIT)
            .search_attributes(found_by("letter", letter.kind.as_str(), None))
            .build();
        match self.temporal.start_workflow(Letter::run, letter, options).await {
            Ok(_) => Ok(Some(queued.occasion.clone())),
            Err(errors::WorkflowStartError::AlreadyStarted { .. }) => self.catch_up(queued, &workflow).await,
            Err(fault) => {
                tracing::warn!(error = %chain(&fault), "a letter could not be started; trying again");
                Ok(None)
            }
        }
    }

    /// What became of a letter whose workflow Temporal knows: a database that was restored may not have heard of its end.
    async fn catch_up(&self, queued: &QueuedLetter, workflow: &str) -> Result<Option<String>, StoreError> {
        let handle = self.temporal.get_workflow_handle::<Letter>(workflow);
        match handle.describe(WorkflowDescribeOptions::default()).await.map(|described| described.status()) {
            Ok(WorkflowExecutionStatus::Completed) => self.store.letter_sent(&queued.occasion).await.map(|()| None),
            Ok(WorkflowExecutionStatus::Failed | WorkflowExecutionStatus::Terminated) => {
                let why = "its workflow ended without handing it over";
                self.store.letter_refused(&queued.occasion, &queued.kind, why).await.map(|()| None)
            }
            Ok(_) => Ok(Some(queued.occasion.clone())),
            Err(fault) => {
                tracing::warn!(error = %chain(&fault), "a letter could not be looked for; trying again");
                Ok(None)
            }
        }
    }
}

/// Whom an event is for, as far as our tables know.
fn aim(event: &DueEvent) -> Aim {
    let settled = matches!(event.order_status, Some(OrderStatus::Provisioning | OrderStatus::Delivered));
    let of_session = event.object_kind == "checkout.session";
    if let Some(told) = again::instruction_of(event) {
        return Aim::Told(told);
    }
    match (&event.subscription, event.order) {
        (Some(subscription), _) if !of_session && event.phase.is_some() => Aim::Subscription(subscription.clone()),
        (_, Some(_)) if settled && (of_session || event.subscription.is_none()) => Aim::Settled,
        // The order may not have heard of its payment yet. Told now, it starts the subscription's workflow, whose first
        // act is a look at Stripe.
        (_, Some(order)) => Aim::Order(order),
        (_, None) if of_session => Aim::Unknown("no order knows this Checkout Session"),
        // Its workflow may live although our tables do not know it.
        (Some(subscription), None) => Aim::Subscription(subscription.clone()),
        (None, None) if look_of(event).is_some() => Aim::Mirror,
        (None, None) => Aim::Nobody,
    }
}

/// What the mirror has to look at because of an event: its customer, or else the payment it is about.
fn look_of(event: &DueEvent) -> Option<String> {
    let of_money = MONEY.contains(&event.object_kind.as_str());
    of_money.then(|| event.customer.clone().or_else(|| event.payment.clone())).flatten()
}

fn told(answer: Result<(), errors::WorkflowInteractionError>) -> Told {
    match answer {
        Ok(()) => Told::Heard,
        Err(errors::WorkflowInteractionError::NotFound(_)) => Told::NotThere,
        Err(fault) => {
            tracing::warn!(error = %chain(&fault), "Temporal did not take a signal; trying again");
            Told::Away
        }
    }
}

fn letter_of(queued: &QueuedLetter, kind: LetterKind) -> Option<LetterInput> {
    // Once it was begun, the row also holds the order of its subscription and the user it goes to.
    let subject = match (&queued.subscription, queued.order, queued.user) {
        (Some(subscription), _, _) => LetterSubject::Subscription(subscription.clone()),
        (None, Some(order), _) => LetterSubject::Order(order),
        (None, None, Some(user)) => LetterSubject::User(user),
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

#[cfg(test)]
mod tests {
    use super::MONEY;

    /// What Stripe's events about this kind begin with.
    fn events_of(kind: &str) -> String {
        match kind {
            "dispute" => "charge.dispute.*".to_owned(),
            // Stripe has no event of its own for it: the customer's balance has changed.
            "customer_balance_transaction" => "customer.*".to_owned(),
            kind => format!("{kind}.*"),
        }
    }

    #[test]
    fn the_readme_names_every_event_that_is_acted_on() {
        let readme = include_str!("../README.md");
        let told = readme.split("/webhooks/stripe/` for ").nth(1).and_then(|rest| rest.split("On Proxmox VE").next());
        let told = told.expect("the list of events");
        let of_workflows = ["checkout.session.*", "customer.subscription.*"].map(str::to_owned);
        for events in MONEY.map(events_of).into_iter().chain(of_workflows) {
            assert!(told.contains(&format!("`{events}`")), "{events} is not in the list: {told}");
        }
    }
}
