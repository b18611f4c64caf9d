//! What waits for a person, and everything else that goes on. For everybody else these pages do not exist.
use std::time::{Duration, Instant};

use askama::Template;
use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use contract::attention::{Decision, Verdict};
use domain::{
    ids::{OrderId, SubscriptionId},
    order::Step,
};
use serde::Deserialize;
use store::{StaffEvent, StaffOverview};

use super::{
    Portal, Shared, WebSettings,
    engine::EngineRefusal,
    page::{self, Refusal, Shell},
    proof::StaffForm,
    redirect,
    removals::HeldBack,
    visitor::Staff,
};

/// The longest reason or result, in characters.
const LONGEST_TEXT: usize = 500;
/// How long the answer to a decision waits for the workflow to write it down, and how often it looks.
const NOTED_WITHIN: Duration = Duration::from_secs(4);
const NOTED_LOOK: Duration = Duration::from_millis(100);

/// Why a decision was not handed over.
enum StaffRefusal {
    /// As everywhere.
    Page(Refusal),
    /// The form says too little; what is missing stands beside its field.
    Faulted(Box<Shell>, Fault),
    /// The workflow refused or is away.
    Engine(Box<Shell>, EngineRefusal),
}

impl<T: Into<Refusal>> From<T> for StaffRefusal {
    fn from(fault: T) -> Self {
        Self::Page(fault.into())
    }
}

impl StaffRefusal {
    async fn answer(self, portal: &Portal) -> Response {
        let (status, shell, fault) = match self {
            Self::Page(refusal) => return refusal.into_response(),
            Self::Faulted(shell, fault) => (StatusCode::UNPROCESSABLE_ENTITY, shell, fault),
            Self::Engine(shell, fault) => {
                tracing::warn!(fault = page::whole(&fault), "a decision was not taken");
                let (status, text) = match fault {
                    EngineRefusal::Gone => (StatusCode::CONFLICT, "This workflow is not running any more.".to_owned()),
                    EngineRefusal::Refused(why) => (StatusCode::CONFLICT, format!("The workflow refused: {why}")),
                    EngineRefusal::Away { .. } => (
                        StatusCode::SERVICE_UNAVAILABLE,
                        "Temporal did not answer. Look whether the step still waits, then try again.".to_owned(),
                    ),
                };
                (status, shell, Fault { text, ..Fault::default() })
            }
        };
        match overview_page(portal, *shell, fault).await {
            Ok(whole) => page::render(status, &whole),
            Err(refusal) => refusal.into_response(),
        }
    }
}

/// What is wrong with one of the forms, and what was typed into it.
#[derive(Default)]
struct Fault {
    workflow_id: String,
    field: &'static str,
    text: String,
    reason: String,
    result: String,
}

impl Fault {
    /// Whether it is about this field of this workflow's form.
    fn is_at(&self, workflow_id: &str, field: &str) -> bool {
        !self.text.is_empty() && self.workflow_id == workflow_id && self.field == field
    }

    /// What was typed into this workflow's form.
    fn typed<'a>(&'a self, workflow_id: &str, text: &'a str) -> &'a str {
        if self.workflow_id == workflow_id { text } else { "" }
    }
}

#[derive(Template)]
#[template(path = "page/staff.html")]
struct Overview<'a> {
    shell: Shell,
    board: StaffOverview,
    settings: &'a WebSettings,
    fault: Fault,
    /// Whether a decision was just handed over that its workflow had not written down yet.
    is_taken: bool,
}

impl Overview<'_> {
    /// What is held back.
    fn back(&self) -> HeldBack {
        HeldBack { lines: self.board.held.clone() }
    }

    /// Where an operator sees a workflow.
    fn workflow(&self, id: &str) -> String {
        workflow_address(self.settings, id)
    }

    /// Where an operator sees an order's workflow.
    fn of_order(&self, order: &OrderId) -> String {
        self.workflow(&order.workflow_id())
    }

    /// Where an operator sees a subscription's workflow.
    fn of_subscription(&self, subscription: &SubscriptionId) -> String {
        self.workflow(&subscription.workflow_id())
    }

    /// Where an operator sees the workflow that sends a letter.
    fn letter(&self, occasion: &str) -> String {
        workflow_address(self.settings, &format!("letter-{occasion}"))
    }
}

/// The refund that an event shows because it came back.
fn lost_refund(event: &StaffEvent) -> Option<&str> {
    event.id.strip_prefix("difference/refund/").filter(|_| event.state == "unclaimed")
}

/// Where an operator sees a workflow.
pub(super) fn workflow_address(settings: &WebSettings, id: &str) -> String {
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    format!("{}/namespaces/{}/workflows/{id}", settings.temporal_ui_url, settings.temporal_namespace)
}

async fn overview_page(portal: &Portal, shell: Shell, fault: Fault) -> Result<Overview<'_>, Refusal> {
    let board = portal.store.staff_overview().await?;
    Ok(Overview { shell, board, settings: &portal.settings, fault, is_taken: false })
}

/// What stands behind the question mark.
#[derive(Deserialize)]
pub(crate) struct AfterDecision {
    taken: Option<String>,
}

/// The page.
pub(crate) async fn overview(
    State(portal): Shared,
    Query(after): Query<AfterDecision>,
    mut staff: Staff,
) -> Result<Response, Refusal> {
    let shell = staff.visitor.form_shell("staff").await?;
    tracing::debug!(user = %staff.user.id, "staff page");
    let mut whole = overview_page(&portal, shell, Fault::default()).await?;
    whole.is_taken = after.taken.is_some();
    Ok(page::ok(&whole))
}

/// Takes a refund that came back from the page, because it was settled otherwise than by giving it back again; with who and why.
pub(crate) async fn settle_refund(State(portal): Shared, form: StaffForm) -> Result<Response, Refusal> {
    let StaffForm { mut posted, user } = form;
    let (refund, reason) = (posted.text("refund").to_owned(), posted.text("reason").to_owned());
    let fault = match reason.chars().count() {
        0 => "Write down why.",
        number if number > LONGEST_TEXT => "Use at most 500 characters.",
        _ => "",
    };
    if !fault.is_empty() {
        let shell = posted.visitor.form_shell("staff").await?;
        let fault = Fault { text: fault.to_owned(), ..Fault::default() };
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &overview_page(&portal, shell, fault).await?));
    }
    let is_settled = portal.store.settle_lost_refund(&refund, &user.id.to_string(), &reason).await?;
    tracing::info!(user = %user.id, is_settled, "a refund that came back is settled otherwise");
    Ok(redirect::see_other("/staff/"))
}

/// Waits until a workflow wrote down the decision it took, so that the page that is shown next does not offer it again.
/// False when it did not in time: it was taken all the same.
async fn is_noted(portal: &Portal, workflow_id: &str, occurrence: Option<u32>) -> bool {
    let Some(occurrence) = occurrence else { return false };
    let began = Instant::now();
    while began.elapsed() < NOTED_WITHIN {
        if portal.store.attention_is_settled(workflow_id, occurrence).await.unwrap_or(false) {
            return true;
        }
        tokio::time::sleep(NOTED_LOOK).await;
    }
    false
}

/// Hands a decision to the workflow that waits for it; the workflow records who and why.
pub(crate) async fn decide(State(portal): Shared, Path(workflow_id): Path<String>, form: StaffForm) -> Response {
    match decided(&portal, &workflow_id, form).await {
        Ok(response) => response,
        Err(refusal) => refusal.answer(&portal).await,
    }
}

async fn decided(portal: &Portal, workflow_id: &str, form: StaffForm) -> Result<Response, StaffRefusal> {
    let StaffForm { mut posted, user } = form;
    let shell = Box::new(posted.visitor.form_shell("staff").await?);
    let step: Step = posted.text("step").parse().map_err(|_| Refusal::Unreadable)?;
    let fault = |field, text: &str| Fault {
        workflow_id: workflow_id.to_owned(),
        field,
        text: text.to_owned(),
        reason: posted.text("reason").to_owned(),
        result: posted.text("result").to_owned(),
    };
    let verdict = match posted.text("verdict") {
        "retry" => Verdict::Retry,
        "skip" => Verdict::Skip { result: Some(posted.text("result").to_owned()).filter(|text| !text.is_empty()) },
        "abandon" => Verdict::Abandon,
        _ => return Err(StaffRefusal::Faulted(shell, fault("verdict", "Choose what to do."))),
    };
    let reason = posted.text("reason").to_owned();
    if reason.is_empty() && verdict != Verdict::Retry {
        return Err(StaffRefusal::Faulted(shell, fault("reason", "Write down why.")));
    }
    if [posted.text("reason"), posted.text("result")].iter().any(|text| text.chars().count() > LONGEST_TEXT) {
        return Err(StaffRefusal::Faulted(shell, fault("reason", "Use at most 500 characters.")));
    }
    let occurrence = posted.text("occurrence").parse().ok();
    let decision = Decision { step, occurrence, verdict, by: user.id.to_string(), reason };
    match portal.temporal.decide(workflow_id, decision).await {
        Ok(()) if is_noted(portal, workflow_id, occurrence).await => Ok(redirect::see_other("/staff/")),
        Ok(()) => Ok(redirect::see_other("/staff/?taken=1")),
        Err(fault) => Err(StaffRefusal::Engine(shell, fault)),
    }
}
