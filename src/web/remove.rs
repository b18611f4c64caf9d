//! Taking a further server away that the plan covers: the page says which, and that everything on it goes. The one that the plan
//! was begun for ends with the plan alone.
use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use domain::{
    DAY_SECS,
    ids::{InstructionId, ServiceId},
    instruction::{Ask, AskKind, InstructionState},
    service::ServiceStatus,
};
use store::ServicePage;

use super::{
    Portal, Shared,
    page::{self, Refusal, Shell},
    proof::ProvenForm,
    redirect,
    tell::{self, Untold},
    visitor::Customer,
};

const PAID_FOR: &str = "Your plan was begun for this server and ends with it. Cancel the plan instead.";
const UNSURE: &str = "Tick the box to say that you are sure. Nothing was changed.";

#[derive(Template)]
#[template(path = "page/remove.html")]
struct Whole {
    shell: Shell,
    service: ServicePage,
    kept_days: i64,
    fault: String,
}

impl Whole {
    /// A fresh name for the form.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn next(&self) -> InstructionId {
        tell::next_id()
    }

    /// Why it cannot be removed now, if it cannot.
    fn why_not(&self) -> Option<&'static str> {
        let asked = self.service.asked.as_ref();
        let asked = asked.filter(|asked| asked.kind == AskKind::RemoveServer).map(|asked| asked.state);
        match self.service.status {
            _ if !self.service.covered => Some(PAID_FOR),
            ServiceStatus::Provisioning => Some("It is still being set up. Remove it when it is ready."),
            ServiceStatus::Retained if self.service.removed => {
                Some("It is removed already: it is stopped, and destroyed on the day its page says.")
            }
            ServiceStatus::Retained => Some("The subscription has ended, and this server ends with it."),
            ServiceStatus::Expired | ServiceStatus::Undone => Some("It is gone already."),
            _ if asked == Some(InstructionState::Accepted) => Some("You asked for that, and it is being done."),
            ServiceStatus::Running | ServiceStatus::Suspended => None,
        }
    }
}

fn whole(portal: &Portal, shell: Shell, service: ServicePage, fault: String) -> Whole {
    let kept_days = portal.settings.policy.subscription.retention_secs / DAY_SECS;
    Whole { shell, service, kept_days, fault }
}

/// The page.
pub(crate) async fn look(
    State(portal): Shared,
    mut customer: Customer,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let id: ServiceId = id.parse().map_err(|_| Refusal::NotFound)?;
    let service = portal.store.service_page(id, customer.user.account).await?.ok_or(Refusal::NotFound)?;
    let shell = customer.visitor.form_shell("dashboard").await?;
    let page = whole(&portal, shell, service, String::new());
    let status = if page.why_not().is_some() { StatusCode::CONFLICT } else { StatusCode::OK };
    Ok(page::render(status, &page))
}

/// Tells the subscription; the server's page shows what became of it.
pub(crate) async fn tell(State(portal): Shared, Path(id): Path<String>, form: ProvenForm) -> Result<Response, Refusal> {
    let ProvenForm { mut posted, user } = form;
    let id: ServiceId = id.parse().map_err(|_| Refusal::NotFound)?;
    let service = portal.store.service_page(id, user.account).await?.ok_or(Refusal::NotFound)?;
    let shell = posted.visitor.form_shell("dashboard").await?;
    let told = match tell::instruction(&posted, &user.id.to_string(), Ask::RemoveServer { service: id }) {
        Err(untold) => Err(untold),
        Ok(_) if !service.covered => Err(Untold { status: StatusCode::CONFLICT, text: PAID_FOR.to_owned() }),
        Ok(_) if posted.text("sure") != "yes" => Err(Untold::form(UNSURE)),
        // Sent twice it is one wish, whatever became of it meanwhile.
        Ok(instruction) => tell::tell(&portal, &service.subscription, instruction).await,
    };
    match told {
        Ok(()) => Ok(redirect::see_other(&format!("/dashboard/vps/{id}/"))),
        Err(Untold { status, text }) => Ok(page::render(status, &whole(&portal, shell, service, text))),
    }
}
