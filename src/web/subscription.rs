//! One subscription for staff: every cent, who moved it, and what they may tell it. For everybody else it does not exist.
use askama::Template;
use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use domain::{
    ids::{InstructionId, SubscriptionId},
    instruction::{Ask, AskKind},
    money::Money,
    service::ServiceStatus,
};
use store::{InvoiceStory, PaidService, SubscriptionPage};
use time::{Duration, OffsetDateTime};

use super::{
    Portal, Shared,
    page::{self, Refusal, Shell},
    posted::Posted,
    proof::StaffForm,
    redirect, staff,
    tell::{self, Untold},
    visitor::Staff,
};

#[derive(Template)]
#[template(path = "page/subscription.html")]
struct Whole {
    shell: Shell,
    page: SubscriptionPage,
    workflow: String,
    fault: String,
    typed: Typed,
}

/// The form that starts again what is stopped.
const RESTORE: &str = "restore";
/// For how many days what is started again is not stopped, if nobody says otherwise.
const SOON_DAYS: i64 = 7;
/// What the customer reads then, if nobody says otherwise.
pub(super) const STARTED_AGAIN: &str = "We give you a few more days.";

/// The day until which something is started again, as a form takes it.
pub(super) fn soon() -> String {
    (OffsetDateTime::now_utc() + Duration::days(SOON_DAYS)).date().to_string()
}

/// What was typed into the form that was refused.
#[derive(Default)]
struct Typed {
    what: String,
    reason: String,
    amount: String,
    until: String,
    invoice: String,
}

impl Whole {
    /// A fresh name for each form.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn next(&self) -> InstructionId {
        tell::next_id()
    }

    /// Invoices of which something can be given back, and how much.
    fn refundable(&self) -> Vec<(&InvoiceStory, Money)> {
        let left = |story: &InvoiceStory| Money {
            amount_minor: story.line.amount_paid.amount_minor - story.given_back_minor,
            currency: story.line.amount_paid.currency.clone(),
        };
        let stories = self.page.invoices.iter().filter(|story| story.line.status == "paid");
        stories.map(|story| (story, left(story))).filter(|(_, money)| money.amount_minor > 0).collect()
    }

    fn is_held(&self) -> bool {
        self.page.hold_until.is_some_and(|until| until > OffsetDateTime::now_utc())
    }

    fn is_stopped(&self) -> bool {
        let stopped = |status| matches!(status, ServiceStatus::Suspended | ServiceStatus::Retained);
        self.page.services.iter().any(|service| stopped(service.status) && service.destroy_at.is_none())
    }

    /// Servers that their customer takes away and that are still there.
    fn set_aside(&self) -> Vec<&PaidService> {
        let kept = |service: &&PaidService| service.status == ServiceStatus::Retained && service.destroy_at.is_some();
        self.page.services.iter().filter(kept).collect()
    }

    /// What was typed into this form.
    fn typed<'a>(&'a self, what: &str, text: &'a str) -> &'a str {
        if self.typed.what == what { text } else { "" }
    }

    /// The same of the form that starts it again, which is filled in already.
    fn started_until(&self) -> String {
        if self.typed.what == RESTORE { self.typed.until.clone() } else { soon() }
    }

    /// Why, in the same form.
    fn started_because(&self) -> &str {
        if self.typed.what == RESTORE { &self.typed.reason } else { STARTED_AGAIN }
    }
}

async fn whole(
    portal: &Portal,
    shell: Shell,
    id: &SubscriptionId,
    (fault, typed): (String, Typed),
) -> Result<Whole, Refusal> {
    let page = portal.store.subscription_page(id).await?.ok_or(Refusal::NotFound)?;
    let workflow = staff::workflow_address(&portal.settings, &id.workflow_id());
    Ok(Whole { shell, page, workflow, fault, typed })
}

/// The page.
pub(crate) async fn look(State(portal): Shared, mut staff: Staff, Path(id): Path<String>) -> Result<Response, Refusal> {
    let shell = staff.visitor.form_shell("staff").await?;
    tracing::debug!(user = %staff.user.id, "a subscription's page");
    Ok(page::ok(&whole(&portal, shell, &SubscriptionId(id), Default::default()).await?))
}

/// Tells the subscription what staff want done; the workflow does it and writes down who and why.
pub(crate) async fn tell(
    State(portal): Shared,
    Path((id, what)): Path<(String, String)>,
    form: StaffForm,
) -> Result<Response, Refusal> {
    let StaffForm { mut posted, user } = form;
    let id = SubscriptionId(id);
    let shell = posted.visitor.form_shell("staff").await?;
    let known = portal.store.subscription_page(&id).await?.ok_or(Refusal::NotFound)?;
    let kind: AskKind = what.parse().map_err(|_| Refusal::NotFound)?;
    let told =
        match asked(kind, &posted, &known).and_then(|what| tell::instruction(&posted, &user.id.to_string(), what)) {
            Ok(instruction) => tell::tell(&portal, &id, instruction).await,
            Err(untold) => Err(untold),
        };
    let Err(Untold { status, text }) = told else {
        return Ok(redirect::see_other(&format!("/staff/subscriptions/{id}/#told")));
    };
    let field = |name: &str| posted.text(name).to_owned();
    let typed = Typed {
        what,
        reason: field("reason"),
        amount: field("amount"),
        until: field("until"),
        invoice: field("invoice"),
    };
    Ok(page::render(status, &whole(&portal, shell, &id, (text, typed)).await?).into_response())
}

/// What the form asks for; what the mirror already says cannot be is refused here, everything else by Stripe.
fn asked(kind: AskKind, posted: &Posted, known: &SubscriptionPage) -> Result<Ask, Untold> {
    Ok(match kind {
        AskKind::Hold => Ask::Hold { until: tell::day(posted.text("until"))? },
        AskKind::Release => Ask::Release,
        AskKind::Restore => Ask::Restore { until: tell::day(posted.text("until"))? },
        AskKind::Extend => Ask::Extend { until: tell::day(posted.text("until"))? },
        AskKind::Credit => Ask::Credit { money: amount(posted, &known.subscription.money)? },
        AskKind::Refund => refund(posted, known)?,
        // The customer has to see the price first.
        AskKind::ChangePlan | AskKind::ChangePlanAtEnd | AskKind::KeepPlan => {
            return Err(Untold::form("The customer changes the plan."));
        }
        AskKind::RemoveServer => return Err(Untold::form("The customer removes a server.")),
        AskKind::KeepServer => Ask::KeepServer {
            service: posted.text("service").parse().map_err(|_| Untold::form("Choose one of the servers."))?,
        },
        AskKind::CancelAtEnd => Ask::CancelAtEnd,
        AskKind::GoOn => Ask::GoOn,
        AskKind::CancelNow => Ask::CancelNow,
    })
}

fn refund(posted: &Posted, known: &SubscriptionPage) -> Result<Ask, Untold> {
    let invoice = posted.text("invoice");
    let Some(story) = known.invoices.iter().find(|story| story.line.id == invoice) else {
        return Err(Untold::form("Choose an invoice of this subscription."));
    };
    let money = amount(posted, &story.line.amount_paid)?;
    if money.amount_minor > story.line.amount_paid.amount_minor {
        return Err(Untold::form(format!("Only {} were paid for this invoice.", story.line.amount_paid)));
    }
    Ok(Ask::Refund { invoice: invoice.to_owned(), money })
}

/// The amount in the form, in the currency of what it is about; a form that names another one is refused.
fn amount(posted: &Posted, like: &Money) -> Result<Money, Untold> {
    let named = posted.text("currency");
    if !named.is_empty() && !named.eq_ignore_ascii_case(like.currency.as_str()) {
        return Err(Untold::form(format!("This is in {}.", like.currency.as_str().to_uppercase())));
    }
    Money::read(posted.text("amount"), &like.currency).map_err(|fault| Untold::form(format!("Please {fault}.")))
}
