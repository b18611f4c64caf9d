//! A subscription that goes on: receipts, reminders and the warning that it will not renew.
use contract::letter::{LetterInput, LetterKind, LetterSubject};
use domain::{UnixSecs, ids::SubscriptionId};
use temporalio_workflow::WorkflowContext;

use crate::{attention::Halt, notify, subscription::Subscription, suspend::since_restored};

/// Mails a receipt, once for each invoice.
pub(crate) async fn receipt(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    invoice: &str,
) -> Result<bool, Halt> {
    write(ctx, LetterKind::PaymentReceived, id, invoice).await
}

/// Asks the customer to confirm a payment with their bank, once for each invoice.
pub(crate) async fn ask_to_confirm(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    invoice: &str,
) -> Result<bool, Halt> {
    write(ctx, LetterKind::PaymentConfirmation, id, invoice).await
}

/// Mails a reminder, once for each invoice and number, and anew after staff had what was stopped started again.
pub(crate) async fn remind(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    invoice: &str,
    number: u32,
) -> Result<bool, Halt> {
    let fact = since_restored(ctx, invoice);
    write(ctx, LetterKind::PaymentReminder, id, &format!("{fact}/{number}")).await
}

/// Says when the trial ends, and what is charged then, once for each end.
pub(crate) async fn warn_of_trial_end(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    until: UnixSecs,
) -> Result<bool, Halt> {
    write(ctx, LetterKind::TrialEnding, id, &format!("{id}/{until}")).await
}

/// Warns that the subscription ends instead of renewing, once for each end.
pub(crate) async fn warn_of_end(
    ctx: &WorkflowContext<Subscription>,
    id: &SubscriptionId,
    period_end: UnixSecs,
) -> Result<bool, Halt> {
    write(ctx, LetterKind::SubscriptionEnding, id, &format!("{id}/{period_end}")).await
}

/// Queues a letter about a subscription, once for each fact.
pub(crate) async fn write(
    ctx: &WorkflowContext<Subscription>,
    kind: LetterKind,
    id: &SubscriptionId,
    fact: &str,
) -> Result<bool, Halt> {
    let subject = LetterSubject::Subscription(id.clone());
    let occasion = format!("{kind}/{fact}");
    let letter = LetterInput { kind, subject, service: None, occasion, patience_secs: None };
    notify::queue(ctx, letter).await?;
    Ok(true)
}
