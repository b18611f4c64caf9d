//! Somebody lost everything they log in with besides their password. Staff write down who and why; the owner is told and may object
//! for as long as the waiting takes; then the worker takes the factors away. Nobody gets in faster by talking to staff.
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use domain::instruction::REASON_MAX;
use serde::Deserialize;
use store::{FactorResetLine, KEEP_PURPOSE, ResetAsked};
use uuid::Uuid;

use super::{
    Portal, Shared,
    fields::{Field, Summary},
    page::{self, Refusal, Shell},
    posted::Posted,
    proof::StaffForm,
    visitor::{Staff, Visitor},
};

#[derive(Template)]
#[template(path = "page/lost_factor.html")]
struct Lost {
    shell: Shell,
    waiting: Vec<FactorResetLine>,
    email: Field,
    reason: Field,
    hours: u32,
    notice: &'static str,
}

impl Lost {
    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.email, &self.reason])
    }
}

async fn lost(portal: &Portal, shell: Shell, email: &str, reason: &str) -> Result<Lost, Refusal> {
    Ok(Lost {
        shell,
        waiting: portal.store.open_factor_resets().await?,
        email: Field::new("email", "Address of the customer or colleague", email),
        reason: Field::new("reason", "How you know that it is them, and what they lost", reason),
        hours: portal.settings.access.factors.reset_secs.div_ceil(3_600),
        notice: "",
    })
}

/// The form, and what waits.
pub(crate) async fn look(State(portal): Shared, mut staff: Staff) -> Result<Response, Refusal> {
    tracing::debug!(user = %staff.user.id, "the page of lost factors");
    let shell = staff.visitor.form_shell("staff").await?;
    Ok(page::ok(&lost(&portal, shell, "", "").await?))
}

/// Takes the form. Nobody asks it for themselves.
pub(crate) async fn ask(State(portal): Shared, form: StaffForm) -> Result<Response, Refusal> {
    let StaffForm { mut posted, user } = form;
    let (email, reason) = (posted.text("email").to_owned(), posted.text("reason").to_owned());
    let shell = posted.visitor.form_shell("staff").await?;
    let fault = match reason.chars().count() {
        0 => "Write down why.",
        number if number > REASON_MAX => "Use at most 500 characters.",
        _ => "",
    };
    if !fault.is_empty() {
        let mut page = lost(&portal, shell, &email, &reason).await?;
        page.reason.refuse(fault);
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    let wait_secs = portal.settings.access.factors.reset_secs;
    let refusal = match portal.store.ask_factor_reset(&email, &user, &reason, wait_secs).await? {
        ResetAsked::Asked(at) => {
            tracing::info!(user = %user.id, %at, "second factors are to be taken away");
            let mut page = lost(&portal, shell, "", "").await?;
            page.notice = "It is written down, and the owner was written to.";
            return Ok(page::ok(&page));
        }
        ResetAsked::Nobody => "Nobody has this address.",
        ResetAsked::Nothing => "They log in with a password alone; there is nothing to take away.",
        ResetAsked::Already => "It was asked already, and waits.",
        ResetAsked::Oneself => "This is you. A colleague has to ask.",
        ResetAsked::Colleague => "They work here. An admin has to ask.",
    };
    let mut page = lost(&portal, shell, &email, &reason).await?;
    page.email.refuse(refusal);
    Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

#[derive(Template)]
#[template(path = "page/factor_keep.html")]
struct Keep {
    shell: Shell,
    id: String,
    tag: String,
    state: KeepState,
}

/// How the link in the letter stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeepState {
    Open,
    Kept,
    Over,
    Unknown,
}

/// What the link carries.
#[derive(Deserialize)]
pub(crate) struct Link {
    #[serde(default)]
    id: String,
    #[serde(default)]
    tag: String,
}

impl Link {
    /// The wish it is about, when we signed it.
    fn read(&self, portal: &Portal) -> Option<Uuid> {
        let id = Uuid::parse_str(&self.id).ok()?;
        portal.keys.tag_matches(KEEP_PURPOSE, id, &self.tag).then_some(id)
    }
}

fn keep(shell: Shell, link: Link, state: KeepState) -> Response {
    let status = match state {
        KeepState::Open | KeepState::Kept => StatusCode::OK,
        KeepState::Over | KeepState::Unknown => StatusCode::BAD_REQUEST,
    };
    page::render(status, &Keep { shell, id: link.id, tag: link.tag, state })
}

/// The page with the button that objects: a link is followed by programs, too.
pub(crate) async fn ask_keep(
    State(portal): Shared,
    mut visitor: Visitor,
    Query(link): Query<Link>,
) -> Result<Response, Refusal> {
    let shell = visitor.form_shell("login").await?;
    let found = match link.read(&portal) {
        Some(id) => portal.store.factor_reset(id).await?,
        None => None,
    };
    let state = found.map_or(KeepState::Unknown, |reset| if reset.ended { KeepState::Over } else { KeepState::Open });
    Ok(keep(shell, link, state))
}

/// The button was pressed.
pub(crate) async fn keep_them(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let shell = posted.visitor.form_shell("login").await?;
    let link = Link { id: posted.text("id").to_owned(), tag: posted.text("tag").to_owned() };
    let state = match link.read(&portal) {
        None => KeepState::Unknown,
        Some(id) => {
            let kept = portal.store.keep_factors(id).await?;
            tracing::info!(reset = %id, kept, "the owner objected: second factors stay");
            if kept { KeepState::Kept } else { KeepState::Over }
        }
    };
    Ok(keep(shell, link, state))
}
