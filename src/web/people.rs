//! Who works here, and as what. Only admins see it, and every change asks for the password once more.
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use domain::{ids::UserId, member::StaffRole};
use store::{StaffChange, StaffLine, User};

use super::{
    Portal, Shared,
    accounts::knows_password,
    fields::{self, Field, Summary},
    page::{self, Refusal, Shell},
    posted::Posted,
    redirect,
    visitor::Staff,
};

const PAGE: &str = "/staff/people/";

#[derive(Template)]
#[template(path = "page/people.html")]
struct PeoplePage {
    shell: Shell,
    me: UserId,
    people: Vec<StaffLine>,
    email: Field,
    password: Field,
}

impl PeoplePage {
    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.email, &self.password])
    }

    /// Whether this is whoever looks.
    fn is_me(&self, person: &UserId) -> bool {
        *person == self.me
    }

    /// What somebody may do here.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn roles(&self) -> Vec<StaffRole> {
        StaffRole::ALL.to_vec()
    }
}

async fn page_of(portal: &Portal, shell: Shell, user: &User) -> Result<PeoplePage, Refusal> {
    Ok(PeoplePage {
        shell,
        me: user.id,
        people: portal.store.staff_people().await?,
        email: Field::new("email", "E-mail address", ""),
        password: Field::new("password", "Your password", ""),
    })
}

/// The page.
pub(crate) async fn list(State(portal): Shared, mut staff: Staff) -> Result<Response, Refusal> {
    let shell = staff.visitor.form_shell("staff").await?;
    Ok(page::ok(&page_of(&portal, shell, &staff.user).await?))
}

/// Says what somebody does here, or that they do not work here any more. Every session of theirs ends.
pub(crate) async fn change(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let role: Option<StaffRole> = match posted.text("role") {
        "none" => None,
        role => Some(role.parse().map_err(|_| Refusal::Unreadable)?),
    };
    let shell = posted.visitor.form_shell("staff").await?;
    let mut page = page_of(&portal, shell, &user).await?;
    posted.text("email").clone_into(&mut page.email.value);
    let address = fields::email(&page.email.value);
    if let Err(help) = &address {
        page.email.refuse(*help);
    }
    if page.summary().is_empty() && !knows_password(&portal, &posted, &user, "password").await? {
        page.password.refuse("This is not your password.");
    }
    let (Ok(email), true) = (address, page.summary().is_empty()) else {
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    };
    let changed = portal.store.set_staff_role(&user, &email, role).await?;
    let role = role.map_or("none", StaffRole::as_str);
    tracing::info!(user = %user.id, role, ?changed, "what somebody does here was to be changed");
    page.email.refuse(match changed {
        StaffChange::Done(_) => return Ok(redirect::see_other(PAGE)),
        StaffChange::NotAllowed => return Err(Refusal::NotFound),
        StaffChange::Unknown => "Nobody logs in with this address. Ask them to sign up first.",
        StaffChange::Unconfirmed => "This address was not confirmed yet. Ask them to open the link in our letter.",
        StaffChange::LastAdmin => "Somebody has to say who works here. Make somebody else an admin first.",
    });
    Ok(page::render(StatusCode::CONFLICT, &page))
}
