//! Letters leave through a workflow of their own, so that a mail server that is down holds up nothing else.
//!
//! Those to customers are written down with the fact they tell of, and the inbox starts their workflow; the one to staff is
//! started from here, because the database may be what they are needed for.
use contract::{
    WORKFLOW_TASK_LIMIT,
    ledger::Ledger,
    letter::{LetterInput, LetterKind, LetterSubject},
};
use domain::ids::OrderId;
use temporalio_workflow::{
    ChildWorkflowOptions, ParentClosePolicy, WorkflowCancellationToken, WorkflowContext, WorkflowIdReusePolicy,
};

use crate::{
    attention::{Attended, Halt, record},
    letter::Letter,
    search,
};

/// Writes a letter down to be sent. The same occasion twice is one letter.
pub(crate) async fn queue<W: Attended>(ctx: &WorkflowContext<W>, letter: LetterInput) -> Result<(), Halt> {
    record(ctx, Ledger::queue_letter, letter).await
}

/// Writes a letter down that says that an order could not be delivered. One that was written to already is not written to
/// again.
pub(crate) async fn abandoned<W: Attended>(ctx: &WorkflowContext<W>, order: OrderId) -> Result<(), Halt> {
    let letter = LetterInput {
        kind: LetterKind::OrderAbandoned,
        subject: LetterSubject::Order(order),
        service: None,
        occasion: format!("order_abandoned/{order}"),
        patience_secs: None,
    };
    queue(ctx, letter).await
}

/// Sees to it that a letter is written. The workflow's id is the occasion, so the same occasion twice is one letter; one
/// that exists already is success.
pub(crate) async fn write_to<W>(ctx: &WorkflowContext<W>, letter: LetterInput) {
    let options = ChildWorkflowOptions::builder()
        .workflow_id(letter.workflow_id())
        .task_timeout(WORKFLOW_TASK_LIMIT)
        .id_reuse_policy(WorkflowIdReusePolicy::RejectDuplicate)
        .parent_close_policy(ParentClosePolicy::Abandon)
        // A letter leaves although what it tells of was cancelled.
        .cancellation_token(WorkflowCancellationToken::new())
        .search_attributes(search::at_start("letter", letter.kind.as_str(), ""))
        .build();
    let _ = ctx.start_child_workflow(Letter::run, letter, options).await;
}
