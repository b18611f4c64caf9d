//! How a page tells a subscription what a person wants done: one form, one instruction, however often it is sent.
use axum::http::StatusCode;
use domain::{
    UnixSecs,
    ids::{InstructionId, SubscriptionId},
    instruction::{Ask, Instruction},
};
use time::{Date, OffsetDateTime, macros::format_description};
use uuid::Uuid;

use super::{Portal, engine::EngineRefusal, page, posted::Posted};

/// Why it was not told, in words for the page that asked.
pub(crate) struct Untold {
    /// What the page is answered with.
    pub(crate) status: StatusCode,
    /// Why.
    pub(crate) text: String,
}

impl Untold {
    /// The form says too little or too much.
    pub(crate) fn form(text: impl Into<String>) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, text: text.into() }
    }
}

/// The name of the next instruction a form may give.
pub(crate) fn next_id() -> InstructionId {
    InstructionId(Uuid::new_v4())
}

/// Makes an instruction of a form: its name stands in the form, so that the form sent twice is one instruction.
pub(crate) fn instruction(posted: &Posted, by: &str, what: Ask) -> Result<Instruction, Untold> {
    let id =
        posted.text("instruction").parse().map_err(|_| Untold::form("Reload the page and send the form again."))?;
    let made = Instruction { id, by: by.to_owned(), reason: posted.text("reason").to_owned(), what };
    match made.fault(Some(OffsetDateTime::now_utc().unix_timestamp())) {
        Some(fault) => Err(Untold::form(fault)),
        None => Ok(made),
    }
}

/// Reads a day from a form; its beginning in UTC counts.
pub(crate) fn day(text: &str) -> Result<UnixSecs, Untold> {
    Date::parse(text, format_description!("[year]-[month]-[day]"))
        .map(|day| day.midnight().assume_utc().unix_timestamp())
        .map_err(|_| Untold::form("Write a day such as 2026-12-31."))
}

/// Tells the subscription.
pub(crate) async fn tell(
    portal: &Portal,
    subscription: &SubscriptionId,
    instruction: Instruction,
) -> Result<(), Untold> {
    portal.temporal.instruct(subscription, instruction).await.map_err(|fault| {
        tracing::warn!(fault = page::whole(&fault), "an instruction was not taken");
        match fault {
            EngineRefusal::Gone => {
                Untold { status: StatusCode::CONFLICT, text: "This subscription is over.".to_owned() }
            }
            EngineRefusal::Refused(why) => Untold { status: StatusCode::CONFLICT, text: why },
            EngineRefusal::Away { .. } => Untold {
                status: StatusCode::SERVICE_UNAVAILABLE,
                text: "We could not reach the engine that does this. Send the form again; it is done once.".to_owned(),
            },
        }
    })
}
