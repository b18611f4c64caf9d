//! What happens next: everything the system will do to each service in the coming days, if nobody does anything.
use std::time::Duration;

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use contract::subscription::Outlook;
use domain::{
    DAY_SECS,
    billing::{
        Act, Phase,
        forecast::{Coming, ComingAct, forecast},
    },
    ids::{InstructionId, SubscriptionId},
};
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use store::{MovingSubscription, WaitingPlan};
use time::OffsetDateTime;

use super::{
    Portal, Shared,
    page::{self, Refusal, Shell},
    removals::HeldBack,
    subscription, tell,
    visitor::Staff,
};

/// How far the page looks ahead.
const DAYS_AHEAD: i64 = 14;
/// How many workflows are asked at a time, and how long each may take.
const ASKED_AT_ONCE: usize = 16;
const ASKED_FOR: Duration = Duration::from_secs(3);

/// One thing that will happen.
struct Line {
    at: OffsetDateTime,
    what: &'static str,
    detail: String,
    can_be_held: bool,
    /// Whether it can be prevented by starting again what is stopped now.
    can_be_started: bool,
    of: MovingSubscription,
}

/// Where the page begins.
#[derive(Deserialize)]
pub(crate) struct From {
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "page/coming.html")]
pub(crate) struct Whole {
    shell: Shell,
    days: i64,
    /// How many subscriptions were asked.
    asked: usize,
    /// Whether others come before them.
    is_first: bool,
    /// Behind which others follow.
    next: Option<SubscriptionId>,
    lines: Vec<Line>,
    held: Vec<MovingSubscription>,
    unknown: Vec<MovingSubscription>,
    waiting: Vec<WaitingPlan>,
    back: HeldBack,
    fault: &'static str,
}

/// The page.
pub(crate) async fn look(
    State(portal): Shared,
    mut staff: Staff,
    Query(from): Query<From>,
) -> Result<Response, Refusal> {
    let shell = staff.visitor.form_shell("staff").await?;
    Ok(page::ok(&whole(&portal, shell, from.after.as_deref(), "").await?))
}

/// The page with what was wrong with one of its forms.
pub(crate) async fn whole(
    portal: &Portal,
    shell: Shell,
    after: Option<&str>,
    fault: &'static str,
) -> Result<Whole, Refusal> {
    let back = HeldBack { lines: portal.store.held_removals().await? };
    let now = OffsetDateTime::now_utc();
    let moving = portal.store.moving_subscriptions(now + time::Duration::days(DAYS_AHEAD), after).await?;
    let asking = stream::iter(moving.subscriptions).map(|of| ask(portal, of));
    let told = asking.buffered(ASKED_AT_ONCE).collect::<Vec<_>>().await;
    let asked = told.len();
    let (mut lines, mut held, mut unknown) = (vec![], vec![], vec![]);
    for (of, outlook) in told {
        if of.hold_until.is_some_and(|until| until > now) {
            held.push(of.clone());
        }
        let known = outlook.and_then(|outlook| Some((outlook.seen?, outlook.standing, outlook.policy)));
        let Some((seen, standing, policy)) = known else {
            unknown.push(of);
            continue;
        };
        let (from, until) = (now.unix_timestamp(), now.unix_timestamp() + DAYS_AHEAD * DAY_SECS);
        for coming in forecast(&standing, &seen, &policy, from, until) {
            lines.push(line(coming, standing.phase, of.clone()));
        }
    }
    lines.sort_by_key(|line| line.at);
    let waiting = portal.store.waiting_plans().await?;
    let (is_first, next) = (after.is_none(), moving.next);
    Ok(Whole { shell, days: DAYS_AHEAD, asked, is_first, next, lines, held, unknown, waiting, back, fault })
}

async fn ask(portal: &Portal, of: MovingSubscription) -> (MovingSubscription, Option<Outlook>) {
    let outlook = portal.temporal.outlook(&of.id, ASKED_FOR).await;
    let outlook = outlook.inspect_err(|fault| {
        tracing::warn!(subscription = %of.id, fault = page::whole(fault), "a subscription did not say what comes");
    });
    (of, outlook.ok())
}

fn line(coming: Coming, phase: Phase, of: MovingSubscription) -> Line {
    let can_be_held = coming.what.can_be_held();
    let ends = matches!(coming.what, ComingAct::We(Act::Retain | Act::Expire));
    let can_be_started = ends && matches!(phase, Phase::Suspended | Phase::Retained);
    let at = OffsetDateTime::from_unix_timestamp(coming.at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (what, detail) = match coming.what {
        ComingAct::Renews => ("Renews", format!("Stripe charges {}", of.money)),
        ComingAct::Ends => ("Ends", "it was cancelled".to_owned()),
        ComingAct::We(act) => words(act),
    };
    Line { at, what, detail, can_be_held, can_be_started, of }
}

fn words(act: Act) -> (&'static str, String) {
    match act {
        Act::Receipt { invoice } => ("Receipt", invoice),
        Act::AskToConfirmChange => ("Letter", "the bank wants the payment for another plan confirmed".to_owned()),
        Act::AskToConfirm { invoice } => ("Letter", format!("the bank wants {invoice} confirmed")),
        Act::Remind { invoice, number } => ("Reminder", format!("number {number} about {invoice}")),
        Act::Suspend { invoice } => ("Suspend", format!("{invoice} is unpaid")),
        Act::Resume => ("Resume", String::new()),
        Act::WarnOfTrialEnd { .. } => ("Letter", "its trial ends".to_owned()),
        Act::WarnOfEnd { .. } => ("Letter", "it will end".to_owned()),
        Act::Retain => ("Stop", "and keep it for the retention days".to_owned()),
        Act::WarnOfDestruction { .. } => ("Letter", "last call before it is destroyed".to_owned()),
        Act::SetServerAside { .. } => ("Stop", "a server that its customer takes away, and keep it".to_owned()),
        Act::DestroyServer { .. } => ("Destroy", "a server that its customer took away".to_owned()),
        Act::Expire => ("Destroy", "with everything on it".to_owned()),
        Act::NoteOverdue { .. }
        | Act::NotePaid
        | Act::EndSubscription
        | Act::Reprice { .. }
        | Act::SettleChange
        | Act::GiveChangeUp => ("Note", String::new()),
    }
}

impl Whole {
    /// A fresh name for each form.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn next_instruction(&self) -> InstructionId {
        tell::next_id()
    }

    /// Until when what is started again is not stopped, if nobody says otherwise.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn soon(&self) -> String {
        subscription::soon()
    }
}

impl Line {
    /// The subscription it happens to.
    fn id(&self) -> &SubscriptionId {
        &self.of.id
    }
}
