//! A forgotten password: ask for a link, open it, choose another password. Nobody learns here whether an address is known.
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use store::{ChangeKind, Pressed};

use super::{
    super::{
        Shared,
        fields::{self, Field, Summary},
        limits::{self, Way},
        page::{self, Refusal, Shell},
        password::{self, Asker},
        posted::Posted,
        redirect,
        visitor::Visitor,
    },
    link::{Link, stale},
    password_fault,
};

const KIND: ChangeKind = ChangeKind::ResetPassword;

#[derive(Template)]
#[template(path = "page/reset.html")]
struct Ask {
    shell: Shell,
    email: Field,
    sent: bool,
}

impl Ask {
    fn new(shell: Shell, email: &str) -> Self {
        Self { shell, email: Field::new("email", "E-mail address", email), sent: false }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.email])
    }
}

#[derive(Template)]
#[template(path = "page/reset_new.html")]
struct Choose {
    shell: Shell,
    id: String,
    tag: String,
    password: Field,
}

impl Choose {
    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.password])
    }
}

/// Without a link: the form that asks for one. With a link: the form for the new password.
pub(crate) async fn look(
    State(portal): Shared,
    mut visitor: Visitor,
    Query(link): Query<Link>,
) -> Result<Response, Refusal> {
    let email = visitor.user.as_ref().map(|user| user.email.clone()).unwrap_or_default();
    let shell = visitor.form_shell("login").await?;
    if link.is_empty() {
        return Ok(page::ok(&Ask::new(shell, &email)));
    }
    Ok(match link.read(&portal, KIND).await? {
        Ok((id, _)) => {
            let password = Field::new("password", "New password", "");
            page::ok(&Choose { shell, id: id.to_string(), tag: link.tag, password })
        }
        Err(how) => stale(shell, KIND, how),
    })
}

/// Asks for a link. The answer, the questions and the counts are the same whether anybody has the address.
pub(crate) async fn ask(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let shell = posted.visitor.form_shell("login").await?;
    let mut page = Ask::new(shell, posted.text("email"));
    let email = match fields::email(&page.email.value) {
        Ok(email) => email,
        Err(help) => {
            page.email.refuse(help);
            return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
        }
    };
    let network = portal.by_network(Way::Reset, &posted.visitor.caller)?;
    portal.take(&[network, portal.for_address(Way::Reset, &email)?]).await?;
    limits::evenly(portal.store.ask_reset(&email)).await?;
    page.sent = true;
    Ok(page::ok(&page))
}

/// Takes the new password. Whoever is logged in in this browser is logged out.
pub(crate) async fn choose(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let shell = posted.visitor.form_shell("login").await?;
    let link = Link::of(&posted);
    let network = portal.by_network(Way::Reset, &posted.visitor.caller)?;
    portal.take(&[network]).await?;
    let (id, change) = match link.read(&portal, KIND).await? {
        Ok(found) => found,
        Err(how) => return Ok(stale(shell, KIND, how)),
    };
    let typed = posted.exact("password");
    if let Some(fault) = password_fault(&portal, typed, &change.email, "").await? {
        let mut password = Field::new("password", "New password", "");
        password.refuse(fault);
        let page = Choose { shell, id: id.to_string(), tag: link.tag, password };
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    let password_hash = password::hash(Asker::Known, typed).await?;
    let forgiven = [
        (Way::LogIn.route(), portal.for_address(Way::LogIn, &change.email)?.subject),
        (Way::Password.route(), portal.for_account(Way::Password, change.user.0)?.subject),
        (Way::Second.route(), portal.for_account(Way::Second, change.user.0)?.subject),
    ];
    match portal.store.reset_password(id, &password_hash, &forgiven).await? {
        Pressed::Done => {
            posted.visitor.log_out().await?;
            tracing::info!(user = %change.user, "a forgotten password was replaced");
            Ok(redirect::see_other("/accounts/login/?renewed=1"))
        }
        how => Ok(stale(shell, KIND, how)),
    }
}
