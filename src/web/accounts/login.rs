//! Logging in and out.
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use store::{Factor, NewDevice};

use super::super::{
    Portal, Shared,
    caller::{self, DeviceToken},
    fields::{Field, Summary},
    limits::{self, Way},
    page::{self, Refusal, Shell},
    password::{self, Asker, PasswordError},
    posted::Posted,
    redirect,
    visitor::{LetIn, Visitor},
};

#[derive(Template)]
#[template(path = "page/login.html")]
struct Login {
    shell: Shell,
    email: Field,
    password: Field,
    next: String,
    remembered: bool,
    notice: &'static str,
}

impl Login {
    fn new(shell: Shell, email: &str, next: &str) -> Self {
        Self {
            shell,
            email: Field::new("email", "E-mail address", email),
            password: Field::new("password", "Password", ""),
            next: redirect::own_path(next).to_owned(),
            remembered: false,
            notice: "",
        }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.email, &self.password])
    }

    /// The way in with a passkey, which leads to the same page.
    fn passkey(&self) -> String {
        redirect::passkey_then(&self.next)
    }
}

/// Whether a form of a log-in asks that the browser keep the session.
pub(super) fn wants_to_stay(posted: &Posted) -> bool {
    posted.text("remember") == "yes"
}

/// Where to go afterwards.
#[derive(Deserialize)]
pub(crate) struct Wanted {
    #[serde(default)]
    next: String,
    #[serde(default)]
    confirm: Option<String>,
    #[serde(default)]
    renewed: Option<String>,
    #[serde(default)]
    opened: Option<String>,
}

/// The empty form.
pub(crate) async fn form(mut visitor: Visitor, Query(wanted): Query<Wanted>) -> Result<Response, Refusal> {
    if visitor.user.is_some() {
        return Ok(redirect::see_other(redirect::own_path(&wanted.next)));
    }
    let mut page = Login::new(visitor.form_shell("login").await?, "", &wanted.next);
    page.notice = match (wanted.confirm, wanted.renewed, wanted.opened) {
        (Some(_), ..) => {
            "Log in with the password you chose, and confirm your address with one press. If you do not know it, or did not sign \
             up yourself, choose “Forgot your password?” below: the letter you get then confirms your address, too."
        }
        (_, Some(_), _) => "Your password is changed, and every session has ended. Log in with the new one.",
        (.., Some(_)) => "Your log-in is open again.",
        _ => "",
    };
    Ok(page::ok(&page))
}

/// Takes the form. A try is counted before it is made. An unknown address costs the same work as a wrong password: the same
/// questions, the same hash, the same counts.
pub(crate) async fn submit(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let next = redirect::own_path(posted.text("next")).to_owned();
    let email = posted.text("email").to_lowercase();
    let (typed, remembered) = (posted.exact("password"), wants_to_stay(&posted));
    let caller = posted.visitor.caller.clone();
    let device = match &caller.device {
        Some(token) => portal.store.known_device(&token.hash(), &email).await?,
        None => None,
    };
    let network = portal.by_network(Way::LogIn, &caller)?;
    let own = match device {
        Some(device) => portal.for_device(Way::LogIn, device)?,
        None => portal.for_address(Way::LogIn, &email)?,
    };
    let holder = portal.for_address(Way::LogIn, &email)?.subject;
    let locks = portal.take(&[network, own]).await?;
    let known = portal.store.log_in(&email).await?;
    let hash = known.as_ref().map(|known| known.password_hash.clone());
    let named = known.as_ref().map(|known| known.user);
    let judged = match device {
        _ if typed.len() > password::LONGEST_BYTES => Ok(false),
        Some(_) => password::fits(Asker::Known, holder, typed, hash).await,
        None => password::fits(Asker::Stranger, holder, typed, hash).await,
    };
    if matches!(judged, Err(PasswordError::Busy | PasswordError::Crowded)) {
        if locks {
            limits::evenly(portal.store.tell_locked(&email)).await?;
        }
        portal.not_made(&[network, own]).await?;
    }
    let fits = judged?;
    if !fits {
        if let Some(known) = &known {
            tracing::info!(user = %known.user, "a log-in did not fit");
        } else {
            tracing::info!("a log-in did not fit anybody");
        }
    }
    let Some(known) = known.filter(|_| fits) else {
        portal.store.log_in_refused(named, locks).await?;
        if locks {
            limits::evenly(portal.store.tell_locked(&email)).await?;
        }
        let mut page = Login::new(posted.visitor.form_shell("login").await?, &email, &next);
        page.remembered = remembered;
        page.email.refuse("This address and password do not fit together.");
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    };
    portal.succeeded(&network, &own).await?;
    if portal.store.factors(known.user).await?.any() {
        posted.visitor.begin_half(known.user, known.epoch, &next, remembered).await?;
        tracing::info!(user = %known.user, "a password was right; the second factor is open");
        return Ok(redirect::see_other("/accounts/login/second/"));
    }
    let (user, is_staff, epoch) = (known.user, known.is_staff, known.epoch);
    let who = LetIn { user, is_staff, epoch, factor: None, proven: true, remembered };
    enter(&portal, &mut posted.visitor, &who, &email, &next).await
}

/// Lets somebody in who has shown all that is asked of them, remembers their browser, and sends them on.
pub(super) async fn enter(
    portal: &Portal,
    visitor: &mut Visitor,
    who: &LetIn,
    email: &str,
    next: &str,
) -> Result<Response, Refusal> {
    let caller = visitor.caller.clone();
    let device = match &caller.device {
        Some(token) => portal.store.known_device(&token.hash(), email).await?,
        None => None,
    };
    visitor.log_in(portal, who).await?;
    let factor = who.factor.map_or("none", Factor::as_str);
    tracing::info!(user = %who.user, factor, "logged in");
    let mut response = redirect::see_other(redirect::own_path(next));
    if let Some(device) = device {
        portal.store.device_seen(device).await?;
    } else {
        let token = DeviceToken::new();
        let new = NewDevice { token_hash: token.hash(), network: caller.network(), agent: caller.agent };
        portal.store.remember_device(who.user, who.epoch, &new).await?;
        caller::remember(&mut response, &portal.settings, &token);
    }
    Ok(response)
}

#[derive(Template)]
#[template(path = "page/logout.html")]
struct Logout {
    shell: Shell,
}

/// Asks whether to log out: a link may not do it by itself.
pub(crate) async fn ask_logout(mut visitor: Visitor) -> Result<Response, Refusal> {
    if visitor.user.is_none() {
        return Ok(redirect::see_other("/"));
    }
    Ok(page::ok(&Logout { shell: visitor.form_shell("logout").await? }))
}

/// Ends the session.
pub(crate) async fn logout(mut posted: Posted) -> Result<Response, Refusal> {
    posted.visitor.log_out().await?;
    Ok(redirect::see_other("/"))
}
