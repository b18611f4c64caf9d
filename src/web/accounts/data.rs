//! A copy of everything about whoever is logged in: asked for with the password, fetched once by a link from a letter.
use activities::privacy::{ARCHIVE_PURPOSE, purpose};
use askama::Template;
use axum::{
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::ids::ExportId;
use serde::Deserialize;
use store::{DataExport, ExportAsked, ExportState};
use uuid::Uuid;

use super::{
    super::{
        Portal, Shared,
        fields::{Field, Summary},
        page::{self, Refusal, Shell},
        posted::Posted,
        redirect,
        visitor::Customer,
    },
    knows_password,
    link::{Link, dead},
};

/// The name the browser keeps it under.
const FILE: &str = "attachment; filename=\"my-data.zip\"";
const BACK: (&str, &str) = ("/accounts/data/", "To your data");

/// What was done just now.
#[derive(Deserialize)]
pub(crate) struct Done {
    #[serde(default)]
    asked: String,
}

#[derive(Template)]
#[template(path = "page/data.html")]
struct Overview {
    shell: Shell,
    last: Option<DataExport>,
    notice: &'static str,
    password: Field,
}

impl Overview {
    fn new(shell: Shell, last: Option<DataExport>) -> Self {
        Self { shell, last, notice: "", password: Field::new("password", "Your password", "") }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.password])
    }

    /// Whether a copy is being made.
    fn is_being_made(&self) -> bool {
        self.last.is_some_and(|last| last.state == ExportState::Asked)
    }

    /// Until when a copy waits to be fetched.
    fn waits_until(&self) -> Option<time::OffsetDateTime> {
        self.last.filter(|last| last.state == ExportState::Ready).and_then(|last| last.expires_at)
    }
}

/// What there is to ask for.
pub(crate) async fn look(
    State(portal): Shared,
    mut customer: Customer,
    Query(done): Query<Done>,
) -> Result<Response, Refusal> {
    let last = portal.store.last_export(customer.user.id).await?;
    let mut page = Overview::new(customer.visitor.form_shell("account").await?, last);
    page.notice = match done.asked.as_str() {
        "copy" => "Your copy is being made. A letter with the link to it comes in some minutes.",
        "already" => "You asked for a copy less than an hour ago. Look into your inbox, or ask again later.",
        "erasure" => "We wrote to you. Nothing is erased before you press the link in that letter.",
        _ => "",
    };
    Ok(page::ok(&page))
}

/// Takes the wish for a copy. It is everything about a person, so a stolen session alone does not get it.
pub(crate) async fn ask(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let last = portal.store.last_export(user.id).await?;
    let mut page = Overview::new(posted.visitor.form_shell("account").await?, last);
    if !knows_password(&portal, &posted, &user, "password").await? {
        page.password.refuse("This is not your password.");
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    Ok(match portal.store.ask_export(&user).await? {
        ExportAsked::Begun => {
            tracing::info!(user = %user.id, "a copy of somebody's data was asked for");
            redirect::see_other("/accounts/data/?asked=copy")
        }
        ExportAsked::Already => redirect::see_other("/accounts/data/?asked=already"),
    })
}

#[derive(Template)]
#[template(path = "page/data_file.html")]
struct Offer {
    shell: Shell,
    id: Uuid,
    tag: String,
    size_kib: i64,
    until: Option<time::OffsetDateTime>,
}

/// The page with the button, because mail scanners follow links. A link that is somebody else's does not work.
pub(crate) async fn offer(
    State(portal): Shared,
    mut customer: Customer,
    Query(link): Query<Link>,
) -> Result<Response, Refusal> {
    let shell = customer.visitor.form_shell("account").await?;
    Ok(match own(&portal, &link, &customer.user).await? {
        Some(export) if export.state == ExportState::Ready => {
            let size_kib = (export.size_bytes.unwrap_or(0) + 1023) / 1024;
            page::ok(&Offer { shell, id: export.id.0, tag: link.tag, size_kib, until: export.expires_at })
        }
        found => stale(shell, found.map(|export| export.state)),
    })
}

/// The button was pressed: the archive, once.
pub(crate) async fn fetch(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let shell = posted.visitor.form_shell("account").await?;
    let Some(export) = own(&portal, &Link::of(&posted), &user).await? else { return Ok(stale(shell, None)) };
    let Some(sealed) = portal.store.sealed_export(export.id, user.id).await? else {
        return Ok(stale(shell, Some(export.state)));
    };
    // Opened before the link is used up: one that cannot be opened stays.
    let Ok(archive) = portal.keys.open(ARCHIVE_PURPOSE, &sealed) else {
        return Err(Refusal::Broken("opening a copy"));
    };
    if !portal.store.use_export(export.id, &user).await? {
        return Ok(stale(shell, Some(ExportState::Used)));
    }
    tracing::info!(user = %user.id, "a copy of somebody's data was fetched");
    let headers = [
        (header::CONTENT_TYPE, "application/zip"),
        (header::CONTENT_DISPOSITION, FILE),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, archive).into_response())
}

/// The copy a link is about, when we signed the link and the copy is this user's.
async fn own(portal: &Portal, link: &Link, user: &store::User) -> Result<Option<DataExport>, Refusal> {
    let Some(id) = link.signed(portal, purpose::EXPORT) else { return Ok(None) };
    Ok(portal.store.export(ExportId(id)).await?.filter(|export| export.user == user.id))
}

fn stale(shell: Shell, state: Option<ExportState>) -> Response {
    let words = match state {
        Some(ExportState::Used | ExportState::Ready) => (
            "This copy was fetched already",
            "Its link works once. If it was not you, change your password at once. You can ask for another copy.",
        ),
        Some(ExportState::Gone) => (
            "This copy is gone",
            "It was not fetched in time, or you asked for a newer one. You can ask for another copy.",
        ),
        Some(ExportState::Asked) => {
            ("This copy is still being made", "A letter comes as soon as it is ready. Try the link in it.")
        }
        None => (
            "This link does not work",
            "A part of it was lost on the way, or it is for another account than the one you are logged in with. \
             Copy the whole link from the letter, or ask for another copy.",
        ),
    };
    dead(shell, words, BACK)
}
