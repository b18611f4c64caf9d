//! A log-in with a passkey alone: no address and no password. The device checks its owner, so it counts for both factors.
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use domain::ids::UserId;
use serde::Deserialize;
use store::{CLOSED_DOMAIN, Factor};

use super::{
    super::{
        Portal, Shared,
        ceremony::{Asked, SignedBy},
        limits::Way,
        page::{self, Refusal, Shell},
        posted::Posted,
        redirect,
        visitor::{LetIn, Visitor},
    },
    login,
};

#[derive(Template)]
#[template(path = "page/login_passkey.html")]
struct LogIn {
    shell: Shell,
    passkey: Option<Asked>,
    next: String,
    remembered: bool,
    fault: &'static str,
}

/// Where to go afterwards.
#[derive(Deserialize)]
pub(crate) struct Wanted {
    #[serde(default)]
    next: String,
}

async fn whole(portal: &Portal, shell: Shell, next: &str) -> Result<LogIn, Refusal> {
    let passkey = portal.ask_anybody().await?;
    Ok(LogIn { shell, passkey, next: redirect::own_path(next).to_owned(), remembered: false, fault: "" })
}

/// The page with the button.
pub(crate) async fn form(
    State(portal): Shared,
    mut visitor: Visitor,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    if visitor.user.is_some() {
        return Ok(redirect::see_other(redirect::own_path(&wanted.next)));
    }
    let shell = visitor.form_shell("login").await?;
    Ok(page::ok(&whole(&portal, shell, &wanted.next).await?))
}

/// Takes what the browser signed. One sentence for everything that does not fit.
pub(crate) async fn submit(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let next = redirect::own_path(posted.text("next")).to_owned();
    let remembered = login::wants_to_stay(&posted);
    let network = portal.by_network(Way::Second, &posted.visitor.caller)?;
    portal.take(&[network]).await?;
    let user = match portal.signed_by(&posted).await? {
        // Whoever waits for an erasure keeps their passkeys, and gets in with none.
        SignedBy::User(user) if user.email.ends_with(CLOSED_DOMAIN) => {
            return refused(&portal, &mut posted, Some(user.id), &next).await;
        }
        SignedBy::User(user) => user,
        SignedBy::Nobody(named) => return refused(&portal, &mut posted, named, &next).await,
    };
    portal.store.give_back(network.route, &network.subject).await?;
    portal.store.factor_shown(user.id).await?;
    let factor = Some(Factor::Passkey);
    let who = LetIn { user: user.id, is_staff: user.is_staff, epoch: user.epoch, factor, proven: true, remembered };
    login::enter(&portal, &mut posted.visitor, &who, &user.email, &next).await
}

/// Notes a log-in that did not fit, and shows the page once more.
async fn refused(portal: &Portal, posted: &mut Posted, named: Option<UserId>, next: &str) -> Result<Response, Refusal> {
    if let Some(user) = named {
        tracing::info!(%user, passkey = true, "a log-in did not fit");
    } else {
        tracing::info!(passkey = true, "a log-in did not fit anybody");
    }
    portal.store.log_in_refused(named, false).await?;
    let shell = posted.visitor.form_shell("login").await?;
    let mut page = whole(portal, shell, next).await?;
    page.remembered = login::wants_to_stay(posted);
    page.fault = "This passkey did not fit, or it took too long. Try again.";
    Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page))
}
