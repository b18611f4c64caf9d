//! Opening a log-in that was tried too often, at either step. The link in the letter opens a page with one button, because mail scanners follow
//! links.
use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use store::{ChangeKind, Pressed};
use uuid::Uuid;

use super::{
    super::{
        Shared,
        limits::Way,
        page::{self, Refusal, Shell},
        posted::Posted,
        redirect,
        visitor::Visitor,
    },
    link::{Link, stale},
};

const KIND: ChangeKind = ChangeKind::Unlock;

#[derive(Template)]
#[template(path = "page/unlock.html")]
struct Ask {
    shell: Shell,
    id: Uuid,
    tag: String,
}

/// The page with the button.
pub(crate) async fn look(
    State(portal): Shared,
    mut visitor: Visitor,
    Query(link): Query<Link>,
) -> Result<Response, Refusal> {
    let shell = visitor.form_shell("login").await?;
    Ok(match link.read(&portal, KIND).await? {
        Ok((id, _)) => page::ok(&Ask { shell, id, tag: link.tag }),
        Err(how) => stale(shell, KIND, how),
    })
}

/// The button was pressed: the tries for the address, for its known browsers and for codes are forgotten.
pub(crate) async fn open(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let shell = posted.visitor.form_shell("login").await?;
    let (id, change) = match Link::of(&posted).read(&portal, KIND).await? {
        Ok(found) => found,
        Err(how) => return Ok(stale(shell, KIND, how)),
    };
    let mut forgiven = vec![
        (Way::LogIn.route(), portal.for_address(Way::LogIn, &change.email)?.subject),
        (Way::Second.route(), portal.for_account(Way::Second, change.user.0)?.subject),
    ];
    for device in portal.store.devices_of(change.user).await? {
        forgiven.push((Way::LogIn.route(), portal.for_device(Way::LogIn, device)?.subject));
    }
    match portal.store.unlock(id, &forgiven).await? {
        Pressed::Done => Ok(redirect::see_other("/accounts/login/?opened=1")),
        how => Ok(stale(shell, KIND, how)),
    }
}
