//! What is held back and waits for staff: approved one by one or all at once, with who and why. For everybody else it does not
//! exist.
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::instruction::REASON_MAX;
use store::{Approved, HeldRemoval};
use time::OffsetDateTime;

use super::{
    Shared, coming,
    page::{self, Refusal},
    proof::StaffForm,
    redirect,
};

/// What is held back, as a page lists it.
pub(crate) struct HeldBack {
    /// What waits for staff first.
    pub(crate) lines: Vec<HeldRemoval>,
}

impl HeldBack {
    /// How many wait for staff.
    pub(crate) fn asking(&self) -> usize {
        self.lines.iter().filter(|line| line.by.asks_staff()).count()
    }

    /// The time of the newest that is shown: whoever approves all approves no more than these.
    pub(crate) fn shown_until(&self) -> i128 {
        self.lines.iter().map(|line| line.asked_at.unix_timestamp_nanos()).max().unwrap_or_default()
    }
}

/// Approves what waits for staff.
pub(crate) async fn approve(State(portal): Shared, form: StaffForm) -> Result<Response, Refusal> {
    let StaffForm { mut posted, user } = form;
    let reason = posted.text("reason").to_owned();
    let fault = match reason.chars().count() {
        0 => "Write down why.",
        number if number > REASON_MAX => "Use at most 500 characters for the reason.",
        _ => "",
    };
    if !fault.is_empty() {
        let shell = posted.visitor.form_shell("staff").await?;
        let whole = coming::whole(&portal, shell, None, fault).await?;
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &whole).into_response());
    }
    let which = match posted.text("occasion") {
        "" => {
            let until = posted.text("until").parse().map_err(|_| Refusal::Unreadable)?;
            Approved::AllUntil(OffsetDateTime::from_unix_timestamp_nanos(until).map_err(|_| Refusal::Unreadable)?)
        }
        occasion => Approved::One(occasion.to_owned()),
    };
    let approved = portal.store.approve_removals(&which, &user.id.to_string(), &reason).await?;
    tracing::info!(user = %user.id, approved, "what was held back is approved");
    Ok(redirect::see_other("/staff/coming/#held-back"))
}
