//! Staff who look at a customer's pages: with a reason, for half an hour, and changing nothing. What they see says so on every page,
//! and each time stays written down.
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use store::ViewingLine;

use super::{
    Portal, Shared,
    fields::{Field, Summary},
    page::{self, Refusal, Shell},
    posted::Posted,
    redirect,
    visitor::Staff,
};

/// How long somebody looks before they say again why.
const LOOK_SECS: u32 = 1_800;
/// The longest reason, in characters.
const LONGEST_REASON: usize = 500;

#[derive(Template)]
#[template(path = "page/viewing.html")]
struct Whole {
    shell: Shell,
    whom: Field,
    reason: Field,
    lines: Vec<ViewingLine>,
}

impl Whole {
    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.whom, &self.reason])
    }
}

async fn page_of(portal: &Portal, shell: Shell) -> Result<Whole, Refusal> {
    Ok(Whole {
        shell,
        whom: Field::new("whom", "The customer's e-mail address, or the account's number", ""),
        reason: Field::new("reason", "Reason", ""),
        lines: portal.store.viewings().await?,
    })
}

/// The page.
pub(crate) async fn list(State(portal): Shared, mut staff: Staff) -> Result<Response, Refusal> {
    let shell = staff.visitor.form_shell("staff").await?;
    Ok(page::ok(&page_of(&portal, shell).await?))
}

/// Begins to look.
pub(crate) async fn begin(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let session = posted.visitor.session_id().ok_or(Refusal::StaleForm)?;
    let shell = posted.visitor.form_shell("staff").await?;
    let mut page = page_of(&portal, shell).await?;
    posted.text("whom").clone_into(&mut page.whom.value);
    posted.text("reason").clone_into(&mut page.reason.value);
    match page.reason.value.chars().count() {
        0 => page.reason.refuse("Write down why."),
        number if number > LONGEST_REASON => page.reason.refuse("Use at most 500 characters."),
        _ => {}
    }
    let account = portal.store.account_named(&page.whom.value).await?;
    if account.is_none() {
        page.whom.refuse("Nobody has this address, and no account this number.");
    }
    let (Some(account), true) = (account, page.summary().is_empty()) else {
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    };
    if !portal.store.begin_viewing(&user, session, account, (page.reason.value.as_str(), LOOK_SECS)).await? {
        return Err(Refusal::NotFound);
    }
    tracing::info!(user = %user.id, %account, "one of the staff looks at a customer's pages");
    Ok(redirect::see_other("/dashboard/"))
}

/// Ends it.
pub(crate) async fn end(State(portal): Shared, posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let session = posted.visitor.session_id().ok_or(Refusal::StaleForm)?;
    portal.store.end_viewing(user.id, session).await?;
    tracing::info!(user = %user.id, "one of the staff looks no more at a customer's pages");
    Ok(redirect::see_other("/staff/viewing/"))
}
