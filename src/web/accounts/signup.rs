//! Signing up.
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use store::NewUser;

use super::super::{
    Portal, Shared,
    fields::{self, Field, Summary},
    headers::AsksElsewhere,
    limits::{self, Way},
    page::{self, Refusal, Shell},
    password::{self, Asker},
    posted::Posted,
    redirect,
    turnstile::{self, Turnstile, Verdict},
    visitor::Visitor,
};

/// The longest name, in characters.
const LONGEST_NAME: usize = 100;

#[derive(Template)]
#[template(path = "page/signup.html")]
struct SignUp {
    shell: Shell,
    name: Field,
    email: Field,
    password: Field,
    person: Field,
    turnstile: Option<Turnstile>,
}

impl SignUp {
    fn new(portal: &Portal, shell: Shell, name: &str, email: &str) -> Self {
        Self {
            shell,
            name: Field::new("name", "Your name", name),
            email: Field::new("email", "E-mail address", email),
            password: Field::new("password", "Password", ""),
            person: Field::new("person", "Are you a person?", ""),
            turnstile: portal.settings.turnstile.clone(),
        }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.name, &self.email, &self.password, &self.person])
    }

    /// The page, which loads something from elsewhere only where that is switched on.
    fn shown(&self, status: StatusCode) -> Response {
        let mut response = page::render(status, self);
        if self.turnstile.is_some() {
            response.extensions_mut().insert(AsksElsewhere);
        }
        response
    }
}

/// What is wrong with a name.
pub(super) fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("Tell us how to address you.")
    } else if name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        Some("Use at most 100 characters on one line.")
    } else {
        None
    }
}

/// The empty form.
pub(crate) async fn form(State(portal): Shared, mut visitor: Visitor) -> Result<Response, Refusal> {
    if visitor.user.is_some() {
        return Ok(redirect::see_other("/dashboard/"));
    }
    Ok(SignUp::new(&portal, visitor.form_shell("signup").await?, "", "").shown(StatusCode::OK))
}

/// Takes the form. Known and unknown addresses get the same answer after the same work.
pub(crate) async fn submit(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let shell = posted.visitor.form_shell("signup").await?;
    let mut page = SignUp::new(&portal, shell, posted.text("name"), posted.text("email"));
    if let Some(fault) = name_fault(&page.name.value) {
        page.name.refuse(fault);
    }
    let address = fields::email(&page.email.value);
    match &address {
        Err(help) => page.email.refuse(*help),
        Ok(email) if portal.settings.door.refused_domains.refuses(email) => {
            page.email.refuse("We do not take addresses of this provider. Use one you will still have next month.");
        }
        Ok(_) => {}
    }
    // Nobody sees this field; what fills it in is a program, and learns nothing.
    if !posted.text("leave_empty").is_empty() {
        tracing::info!("a program signed up");
        return Ok(redirect::see_other("/accounts/verify/"));
    }
    // Counted before the password is weighed, which is work that anybody could ask for.
    portal.take_sign_up(&posted.visitor.caller).await?;
    let (refused, typed) = (&portal.settings.door.refused_passwords, posted.exact("password"));
    let weak = password::fault(Asker::Stranger, refused, typed, (&page.email.value, &page.name.value)).await?;
    if let Some(fault) = weak {
        page.password.refuse(fault);
    }
    // Asked last: the answer that came with the form is good once, and a form with faults is sent again.
    if page.summary().is_empty()
        && let Some(turnstile) = &portal.settings.turnstile
    {
        match turnstile.judge(posted.exact(turnstile::FIELD), &posted.visitor.caller).await {
            Verdict::Person => {}
            Verdict::Nobody => page.person.refuse("Answer the question above the button, then send the form again."),
            Verdict::Away => page.person.refuse("We could not check that you are a person. Try again in a minute."),
        }
    }
    let (Ok(email), true) = (address, page.summary().is_empty()) else {
        return Ok(page.shown(StatusCode::UNPROCESSABLE_ENTITY));
    };
    portal.take(&[portal.for_address(Way::SignUp, &email)?]).await?;
    let password_hash = password::hash(Asker::Stranger, posted.exact("password")).await?;
    limits::evenly(portal.store.sign_up(NewUser { name: page.name.value.clone(), email, password_hash })).await?;
    Ok(redirect::see_other("/accounts/verify/"))
}
