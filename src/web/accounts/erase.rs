//! The end of everything about somebody: asked for with the password, asked again by letter, pressed by whoever is logged in,
//! and taken back by whoever reads the letters of the address that was closed.
use activities::privacy::purpose;
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use domain::ids::ErasureId;
use store::{Erasure, ErasureConfirmed, KeptLine, LinkState, Obstacle, Pressed, kept_after_erasure};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::{
        Portal, Shared,
        fields::{Field, Summary},
        limits::Way,
        page::{self, Refusal, Shell},
        password::{self, Asker},
        posted::Posted,
        redirect,
        visitor::{Customer, Visitor},
    },
    close::reason,
    knows_password,
    link::{Link, dead},
    password_fault,
};

const BACK: (&str, &str) = ("/accounts/data/", "To your data");
const FRONT: (&str, &str) = ("/accounts/login/", "To the log-in");

/// What is in the way, and what to do about it.
fn obstacle(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Living(living) => reason(living),
        Obstacle::Payment => "A payment is on its way. Come back when it has arrived or failed.".to_owned(),
        Obstacle::Refund => "Money is on its way back to you. Come back when it has arrived.".to_owned(),
        Obstacle::Dispute => "Your bank asks a payment back, and that is not decided. Come back when it is.".to_owned(),
        Obstacle::Debt(money) => format!("{money} is owed to us. Pay it first, or write to us about it."),
        Obstacle::Credit(money) => {
            format!("You have a credit of {money}. Use it, or write to us so that we pay it out.")
        }
        Obstacle::AnotherAccount(name) => {
            format!("The account {name} is yours alone, too. Hand it over to somebody first, or write to us about it.")
        }
        Obstacle::Colleagues => "Others use this account, too. Remove them first, or hand it over to them.".to_owned(),
    }
}

#[derive(Template)]
#[template(path = "page/erase.html")]
struct Ask {
    shell: Shell,
    reasons: Vec<String>,
    days: u32,
    kept: Vec<KeptLine>,
    password: Field,
}

impl Ask {
    fn new(portal: &Portal, shell: Shell, found: &[Obstacle]) -> Self {
        let years = i32::from(portal.settings.privacy.books_years);
        let last_year = OffsetDateTime::now_utc().year() + years;
        // Until the end of that year: what is true of somebody whose last invoice is of this year.
        let until = time::Date::from_calendar_date(last_year, time::Month::December, 31).ok();
        Self {
            shell,
            reasons: found.iter().map(obstacle).collect(),
            days: portal.settings.privacy.erasure_secs.div_ceil(86_400),
            kept: kept_after_erasure(until),
            password: Field::new("password", "Your password", ""),
        }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.password])
    }
}

/// The form with what goes and what stays, or what is in the way.
pub(crate) async fn look(State(portal): Shared, mut customer: Customer) -> Result<Response, Refusal> {
    let found = portal.store.obstacles(&customer.user).await?;
    Ok(page::ok(&Ask::new(&portal, customer.visitor.form_shell("account").await?, &found)))
}

/// Takes the wish; a letter asks again.
pub(crate) async fn ask(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let shell = posted.visitor.form_shell("account").await?;
    if !knows_password(&portal, &posted, &user, "password").await? {
        let mut page = Ask::new(&portal, shell, &[]);
        page.password.refuse("This is not your password.");
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    let found = portal.store.ask_erasure(&user).await?;
    if !found.is_empty() {
        return Ok(page::render(StatusCode::CONFLICT, &Ask::new(&portal, shell, &found)));
    }
    tracing::info!(user = %user.id, "somebody asked to be erased");
    Ok(redirect::see_other("/accounts/data/?asked=erasure"))
}

#[derive(Template)]
#[template(path = "page/erase_confirm.html")]
struct Confirm {
    shell: Shell,
    reasons: Vec<String>,
    days: u32,
    id: Uuid,
    tag: String,
}

impl Confirm {
    fn new(portal: &Portal, shell: Shell, id: Uuid, tag: &str, found: &[Obstacle]) -> Self {
        Self {
            shell,
            reasons: found.iter().map(obstacle).collect(),
            days: portal.settings.privacy.erasure_secs.div_ceil(86_400),
            id,
            tag: tag.to_owned(),
        }
    }
}

/// The page with the button. A link that is somebody else's does not work.
pub(crate) async fn ask_again(
    State(portal): Shared,
    mut customer: Customer,
    Query(link): Query<Link>,
) -> Result<Response, Refusal> {
    let shell = customer.visitor.form_shell("account").await?;
    let wish = signed(&portal, &link, purpose::CONFIRM).await?.filter(|wish| wish.user == customer.user.id);
    let Some(wish) = wish else { return Ok(stale(shell, Pressed::Unknown)) };
    match wish.confirm_link() {
        LinkState::Good => {
            let found = portal.store.obstacles(&customer.user).await?;
            Ok(page::ok(&Confirm::new(&portal, shell, wish.id.0, &link.tag, &found)))
        }
        how => Ok(stale(shell, how.into())),
    }
}

#[derive(Template)]
#[template(path = "page/erase_begun.html")]
struct Begun {
    shell: Shell,
    days: u32,
}

/// The button was pressed: the account is closed, and the days begin. What is in the way is asked again while nothing new can
/// begin.
pub(crate) async fn confirm(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let user = posted.user()?;
    let shell = posted.visitor.form_shell("account").await?;
    let link = Link::of(&posted);
    let Some(id) = link.signed(&portal, purpose::CONFIRM) else { return Ok(stale(shell, Pressed::Unknown)) };
    let wait_secs = portal.settings.privacy.erasure_secs;
    match portal.store.confirm_erasure(ErasureId(id), &user, wait_secs).await? {
        ErasureConfirmed::InTheWay(found) => {
            Ok(page::render(StatusCode::CONFLICT, &Confirm::new(&portal, shell, id, &link.tag, &found)))
        }
        ErasureConfirmed::Link(how) => Ok(stale(shell, how)),
        ErasureConfirmed::Done => {
            posted.visitor.log_out().await?;
            tracing::info!(user = %user.id, "an account was closed to be erased");
            let shell = Shell { here: "closed", ..Shell::default() };
            Ok(page::ok(&Begun { shell, days: wait_secs.div_ceil(86_400) }))
        }
    }
}

#[derive(Template)]
#[template(path = "page/erase_undo.html")]
struct Undo {
    shell: Shell,
    id: Uuid,
    tag: String,
    password: Field,
}

impl Undo {
    fn new(shell: Shell, id: Uuid, tag: &str) -> Self {
        Self { shell, id, tag: tag.to_owned(), password: Field::new("password", "New password", "") }
    }

    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.password])
    }
}

/// The form that takes it back. Nobody can be logged in: the link alone, sent to the address that was closed, says who it is.
pub(crate) async fn offer_back(
    State(portal): Shared,
    mut visitor: Visitor,
    Query(link): Query<Link>,
) -> Result<Response, Refusal> {
    let shell = visitor.form_shell("login").await?;
    let Some(wish) = signed(&portal, &link, purpose::UNDO).await? else {
        return Ok(too_late(shell, Pressed::Unknown));
    };
    Ok(match wish.undo_link() {
        LinkState::Good => page::ok(&Undo::new(shell, wish.id.0, &link.tag)),
        how => too_late(shell, how.into()),
    })
}

/// Takes the new password, and the erasure back.
pub(crate) async fn take_back(State(portal): Shared, mut posted: Posted) -> Result<Response, Refusal> {
    let shell = posted.visitor.form_shell("login").await?;
    portal.take(&[portal.by_network(Way::Undo, &posted.visitor.caller)?]).await?;
    let link = Link::of(&posted);
    let Some(wish) = signed(&portal, &link, purpose::UNDO).await? else {
        return Ok(too_late(shell, Pressed::Unknown));
    };
    if wish.undo_link() != LinkState::Good {
        return Ok(too_late(shell, wish.undo_link().into()));
    }
    let typed = posted.exact("password");
    if let Some(fault) = password_fault(&portal, typed, wish.email.as_deref().unwrap_or_default(), "").await? {
        let mut page = Undo::new(shell, wish.id.0, &link.tag);
        page.password.refuse(fault);
        return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    let password_hash = password::hash(Asker::Known, typed).await?;
    match portal.store.take_erasure_back(wish.id, &password_hash).await? {
        Pressed::Done => {
            posted.visitor.log_out().await?;
            tracing::info!(user = %wish.user, "an erasure was taken back");
            Ok(redirect::see_other("/accounts/login/?renewed=1"))
        }
        how => Ok(too_late(shell, how)),
    }
}

/// The erasure a link is about, when we signed the link for this.
async fn signed(portal: &Portal, link: &Link, purpose: &str) -> Result<Option<Erasure>, Refusal> {
    let Some(id) = link.signed(portal, purpose) else { return Ok(None) };
    Ok(portal.store.erasure(ErasureId(id)).await?)
}

/// Why a link that confirms does not work.
fn stale(shell: Shell, how: Pressed) -> Response {
    let words = match how {
        Pressed::Used => {
            ("This link was used already", "Your account was closed with it. A letter says how to have it back.")
        }
        Pressed::Expired => (
            "This link is too old",
            "It works for a day, and only the newest one counts. Nothing was erased; ask again if you still want it.",
        ),
        _ => (
            "This link does not work",
            "A part of it was lost on the way, or it is for another account than the one you are logged in with. \
             Copy the whole link from the letter, or ask for another one.",
        ),
    };
    dead(shell, words, BACK)
}

/// Why a link that takes back does not work.
fn too_late(shell: Shell, how: Pressed) -> Response {
    let words = match how {
        Pressed::Used => {
            ("This link was used already", "Your account is open again. Log in with the password you chose.")
        }
        Pressed::Expired => (
            "This link is too old",
            "The days in which it could be taken back are over, and nobody can bring back what was erased.",
        ),
        Pressed::Taken => (
            "This address is in use",
            "Somebody signed up with your address and confirmed it meanwhile. Nothing was changed; write to us before the days are over.",
        ),
        _ => (
            "This link does not work",
            "A part of it was lost on the way. Copy the whole link from the letter, or write to us before the days are over.",
        ),
    };
    dead(shell, words, FRONT)
}
