//! Cancelling: at the end of the paid period or now, and taking it back until then. The page says what will happen first.
use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use domain::{
    DAY_SECS,
    billing::Phase,
    ids::{AccountId, InstructionId, ServiceId},
    instruction::{Ask, AskKind},
};
use store::ServicePage;

use super::{
    Portal, Shared,
    page::{self, Refusal, Shell},
    posted::Posted,
    redirect,
    tell::{self, Untold},
    visitor::Customer,
};

#[derive(Template)]
#[template(path = "page/cancel.html")]
struct Whole {
    shell: Shell,
    service: ServicePage,
    kept_days: i64,
    fault: String,
}

impl Whole {
    /// A fresh name for each form.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn next(&self) -> InstructionId {
        tell::next_id()
    }

    /// Whether it can still be cancelled or go on.
    fn lives(&self) -> bool {
        !self.service.subscription_status.has_ended() && self.service.phase != Phase::Expired
    }
}

fn whole(portal: &Portal, shell: Shell, service: ServicePage, fault: String) -> Whole {
    let kept_days = portal.settings.policy.subscription.retention_secs / DAY_SECS;
    Whole { shell, service, kept_days, fault }
}

/// The server whose subscription may be cancelled: the one it was begun for, not one that it covers beside it.
async fn paid_for(portal: &Portal, id: ServiceId, account: AccountId) -> Result<ServicePage, Refusal> {
    let service = portal.store.service_page(id, account).await?;
    service.filter(|service| !service.covered).ok_or(Refusal::NotFound)
}

/// The page.
pub(crate) async fn look(
    State(portal): Shared,
    mut customer: Customer,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let id: ServiceId = id.parse().map_err(|_| Refusal::NotFound)?;
    let service = paid_for(&portal, id, customer.user.account).await?;
    let shell = customer.visitor.form_shell("dashboard").await?;
    Ok(page::ok(&whole(&portal, shell, service, String::new())))
}

/// Tells the subscription; the server's page shows what became of it.
pub(crate) async fn tell(
    State(portal): Shared,
    Path((id, what)): Path<(String, String)>,
    mut posted: Posted,
) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let id: ServiceId = id.parse().map_err(|_| Refusal::NotFound)?;
    let service = paid_for(&portal, id, user.account).await?;
    let shell = posted.visitor.form_shell("dashboard").await?;
    let what = match what.parse() {
        Ok(AskKind::CancelAtEnd) => Ask::CancelAtEnd,
        Ok(AskKind::GoOn) => Ask::GoOn,
        Ok(AskKind::CancelNow) => Ask::CancelNow,
        _ => return Err(Refusal::NotFound),
    };
    // What cannot be taken back; the form is sent again afterwards.
    if what == Ask::CancelNow {
        posted.proven_user(&portal)?;
    }
    let sure = what != Ask::CancelNow || posted.text("sure") == "yes";
    let told = match tell::instruction(&posted, &user.id.to_string(), what) {
        Err(untold) => Err(untold),
        Ok(_) if !sure => Err(Untold::form("Tick the box to say that you are sure. Nothing was changed.")),
        Ok(instruction) => tell::tell(&portal, &service.subscription, instruction).await,
    };
    match told {
        Ok(()) => Ok(redirect::see_other(&format!("/dashboard/vps/{id}/"))),
        Err(Untold { status, text }) => Ok(page::render(status, &whole(&portal, shell, service, text))),
    }
}
