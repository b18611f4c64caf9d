//! Another address: asked for by whoever said again who they are, told to the old one, confirmed at the new one by whoever is logged in.
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use store::{ChangeKind, Pressed};
use uuid::Uuid;

use super::{
    super::{
        Shared,
        fields::{self, Field, Summary},
        limits::{self, Way},
        page::{self, Refusal, Shell},
        posted::Posted,
        proof::{ProvenForm, ProvenPage},
        redirect,
        visitor::{Customer, LetIn},
    },
    link::{Link, stale},
};

const KIND: ChangeKind = ChangeKind::ChangeAddress;

#[derive(Template)]
#[template(path = "page/address.html")]
struct Ask {
    shell: Shell,
    present: String,
    email: Field,
    sent: bool,
}

impl Ask {
    fn new(shell: Shell, present: &str, email: &str) -> Self {
        Self {
            shell,
            present: present.to_owned(),
            email: Field::new("email", "New e-mail address", email),
            sent: false,
        }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.email])
    }
}

/// The empty form.
pub(crate) async fn form(mut asks: ProvenPage) -> Result<Response, Refusal> {
    let shell = asks.visitor.form_shell("account").await?;
    Ok(page::ok(&Ask::new(shell, &asks.user.email, "")))
}

/// Takes the form. The answer is the same whether anybody else has the address.
pub(crate) async fn ask(
    State(portal): Shared,
    ProvenForm { mut posted, user }: ProvenForm,
) -> Result<Response, Refusal> {
    let shell = posted.visitor.form_shell("account").await?;
    let mut page = Ask::new(shell, &user.email, posted.text("email"));
    let address = fields::email(&page.email.value);
    match &address {
        Err(help) => page.email.refuse(*help),
        Ok(email) if *email == user.email => page.email.refuse("This is your address already."),
        Ok(email) if portal.settings.door.refused_domains.refuses(email) => {
            page.email.refuse("We do not take addresses of this provider. Use one you will still have next month.");
        }
        Ok(_) => {}
    }
    let (Ok(email), true) = (address, page.summary().is_empty()) else {
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    };
    let network = portal.by_network(Way::Address, &posted.visitor.caller)?;
    let (own, theirs) = (portal.for_account(Way::Address, user.id.0)?, portal.for_address(Way::Address, &email)?);
    portal.take(&[network, own, theirs]).await?;
    limits::evenly(portal.store.ask_address(&user, &email)).await?;
    page.sent = true;
    Ok(page::ok(&page))
}

#[derive(Template)]
#[template(path = "page/address_confirm.html")]
struct Confirm {
    shell: Shell,
    email: String,
    id: Uuid,
    tag: String,
}

/// The page with the button. A link that is somebody else's does not work.
pub(crate) async fn look(
    State(portal): Shared,
    mut customer: Customer,
    Query(link): Query<Link>,
) -> Result<Response, Refusal> {
    let shell = customer.visitor.form_shell("account").await?;
    Ok(match link.read(&portal, KIND).await? {
        Ok((id, change)) if change.user == customer.user.id => {
            page::ok(&Confirm { shell, email: change.new_email.unwrap_or_default(), id, tag: link.tag })
        }
        Ok(_) => stale(shell, KIND, Pressed::Unknown),
        Err(how) => stale(shell, KIND, how),
    })
}

/// The button was pressed. Every session ends; this one goes on under another id.
pub(crate) async fn confirm(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let shell = posted.visitor.form_shell("account").await?;
    let id = match Link::of(&posted).read(&portal, KIND).await? {
        Ok((id, _)) => id,
        Err(how) => return Ok(stale(shell, KIND, how)),
    };
    match portal.store.change_address(id, &user).await? {
        Ok(epoch) => {
            // A link was pressed, and nobody said who they are.
            let (factor, remembered, proven) = (posted.visitor.factor(), posted.visitor.is_remembered(), false);
            let who = LetIn { user: user.id, is_staff: user.is_staff, epoch, factor, proven, remembered };
            posted.visitor.log_in(&portal, &who).await?;
            tracing::info!(user = %user.id, "an address was changed");
            Ok(redirect::see_other("/accounts/?changed=address"))
        }
        Err(how) => Ok(stale(shell, KIND, how)),
    }
}
