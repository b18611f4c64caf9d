//! Adding and removing passkeys.
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use store::{Factor, PASSKEY_TAKEN_RULE, PASSKEYS_LIMIT_RULE, StoreError, User};

use super::{
    super::{
        Portal, Shared,
        ceremony::Asked,
        fields::{Field, Summary},
        limits::Way,
        page::{self, Refusal, Shell},
        posted::Posted,
        proof::{ProvenForm, ProvenPage},
        recovery::NewCodes,
        redirect,
    },
    factors::{confirm_first, go_on, left, show_codes},
};

/// The longest name of a passkey, in characters.
const LONGEST_NAME: usize = 60;

#[derive(Template)]
#[template(path = "page/factor_passkey.html")]
struct Add {
    shell: Shell,
    passkey: Option<Asked>,
    name: Field,
    passkey_fault: &'static str,
}

impl Add {
    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.name])
    }
}

async fn add(portal: &Portal, shell: Shell, user: &User, name: &str) -> Result<Add, Refusal> {
    let passkey = portal.ask_to_add(user).await?;
    let name = Field::new("name", "A name for it", name);
    Ok(Add { shell, passkey, name, passkey_fault: "" })
}

/// The page with the button.
pub(crate) async fn form(State(portal): Shared, mut page: ProvenPage) -> Result<Response, Refusal> {
    if let Some(elsewhere) = confirm_first(&page.user) {
        return Ok(elsewhere);
    }
    let shell = page.visitor.form_shell("account").await?;
    Ok(page::ok(&add(&portal, shell, &page.user, "").await?))
}

/// Takes what the browser made.
pub(crate) async fn submit(State(portal): Shared, form: ProvenForm) -> Result<Response, Refusal> {
    let ProvenForm { mut posted, user } = form;
    if let Some(elsewhere) = confirm_first(&user) {
        return Ok(elsewhere);
    }
    let network = portal.by_network(Way::Second, &posted.visitor.caller)?;
    portal.take(&[network]).await?;
    let name = posted.text("name").to_owned();
    let fits = !name.is_empty() && name.chars().count() <= LONGEST_NAME && !name.chars().any(char::is_control);
    if !fits {
        let shell = posted.visitor.form_shell("account").await?;
        let mut page = add(&portal, shell, &user, &name).await?;
        page.name.refuse("Give it a name of at most 60 characters, so that you know it again.");
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    let Some(new) = portal.added(&user, &posted).await? else {
        let fault = "The browser's answer did not fit, or it took too long. Try again.";
        return refused(&portal, &mut posted, &user, fault).await;
    };
    let codes = NewCodes::new();
    let added = match portal.store.add_passkey(&user, &new, &codes.hashes).await {
        Ok(added) => added,
        Err(StoreError::Conflict { constraint }) if constraint == PASSKEYS_LIMIT_RULE => {
            return refused(&portal, &mut posted, &user, "You have twenty passkeys. Remove one first.").await;
        }
        Err(StoreError::Conflict { constraint }) if constraint == PASSKEY_TAKEN_RULE => {
            return refused(&portal, &mut posted, &user, "This passkey is in use already.").await;
        }
        Err(fault) => return Err(fault.into()),
    };
    portal.store.give_back(network.route, &network.subject).await?;
    tracing::info!(user = %user.id, "a passkey was added");
    go_on(&portal, &mut posted, &user, added.epoch, Some(Factor::Passkey)).await?;
    show_codes(&mut posted, "Your passkey is added", added.with_codes.then_some(codes)).await
}

async fn refused(portal: &Portal, posted: &mut Posted, user: &User, fault: &'static str) -> Result<Response, Refusal> {
    let shell = posted.visitor.form_shell("account").await?;
    let mut page = add(portal, shell, user, posted.text("name")).await?;
    page.passkey_fault = fault;
    Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

/// Takes a passkey away. One that is somebody else's, or gone, stays as it is.
pub(crate) async fn remove(State(portal): Shared, form: ProvenForm) -> Result<Response, Refusal> {
    let ProvenForm { mut posted, user } = form;
    let id = posted.text("passkey").parse().map_err(|_| Refusal::Unreadable)?;
    if let Some(epoch) = portal.store.remove_passkey(&user, id).await? {
        tracing::info!(user = %user.id, "a passkey was removed");
        let factor = left(&portal, &posted, &user).await?;
        go_on(&portal, &mut posted, &user, epoch, factor).await?;
    }
    Ok(redirect::see_other("/accounts/factors/?changed=passkey"))
}
