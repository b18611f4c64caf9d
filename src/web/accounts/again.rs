//! Who somebody is, asked again before what cannot be taken back: their password or a passkey. It counts for some minutes, in this
//! session alone, which goes on under another id.
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use store::{CeremonyKind, User};

use super::{
    super::{
        Portal, Shared,
        ceremony::Asked,
        fields::{Field, Summary},
        limits::Way,
        page::{self, Refusal, Shell},
        posted::Posted,
        redirect,
        visitor::Customer,
    },
    knows_password,
};

#[derive(Template)]
#[template(path = "page/again.html")]
struct Again {
    shell: Shell,
    email: String,
    password: Field,
    passkey: Option<Asked>,
    next: String,
    passkey_fault: &'static str,
}

impl Again {
    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.password])
    }
}

/// Where to go afterwards.
#[derive(Deserialize)]
pub(crate) struct Wanted {
    #[serde(default)]
    next: String,
}

async fn again(portal: &Portal, shell: Shell, user: &User, next: &str) -> Result<Again, Refusal> {
    let passkey = portal.ask_to_sign(CeremonyKind::Again, user.id).await?;
    let (email, next) = (user.email.clone(), redirect::own_path(next).to_owned());
    let password = Field::new("password", "Your password", "");
    Ok(Again { shell, email, password, passkey, next, passkey_fault: "" })
}

/// The form.
pub(crate) async fn form(
    State(portal): Shared,
    mut customer: Customer,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    if customer.visitor.is_proven(&portal) {
        return Ok(redirect::see_other(redirect::own_path(&wanted.next)));
    }
    let shell = customer.visitor.form_shell("account").await?;
    Ok(page::ok(&again(&portal, shell, &customer.user, &wanted.next).await?))
}

/// Takes the form.
pub(crate) async fn submit(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let next = redirect::own_path(posted.text("next")).to_owned();
    let with_passkey = !posted.text("credential").is_empty();
    let is_them = if with_passkey {
        let network = portal.by_network(Way::Password, &posted.visitor.caller)?;
        portal.take(&[network]).await?;
        let signed = portal.signed(CeremonyKind::Again, user.id, &posted).await?;
        if signed {
            portal.store.give_back(network.route, &network.subject).await?;
        } else {
            portal.store.factor_refused(user.id, false).await?;
        }
        signed
    } else {
        knows_password(&portal, &posted, &user, "password").await?
    };
    if is_them {
        posted.visitor.prove(&portal, &user).await?;
        tracing::info!(user = %user.id, with_passkey, "said again who they are");
        return Ok(redirect::see_other(&next));
    }
    let shell = posted.visitor.form_shell("account").await?;
    let mut page = again(&portal, shell, &user, &next).await?;
    if with_passkey {
        page.passkey_fault = "This passkey did not fit, or it took too long. Try again.";
    } else {
        page.password.refuse("This is not your password.");
    }
    Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page))
}
