//! Who may ask for what. Every route there is has a line in the table (`table`), and one layer (`enforce`) around all of them asks it
//! before any handler: what has no line is not answered. Nothing is asked of the database for it but the session, which a handler
//! would read anyway.
use std::{fmt::Write as _, sync::Arc};

use askama::Template;
use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use domain::member::{MemberRole, StaffRole};
use store::{Factor, Seat, Shown, User, sessions};
use tower_sessions::Session;

use super::{
    Portal, Shared, WebSettings,
    caller::Caller,
    page::{self, Refusal, Shell},
    posted::came_from,
    visitor::way_back,
};

mod table;

use table::TABLE;

/// What stands for the last word of a path, which decides what is done.
const WORD: &str = "{what}/";

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Anybody.
    Anybody,
    /// Whoever is logged in, about themselves: it does not matter what they are in an account.
    Person,
    /// Who is one of these in the account they look at.
    Member(&'static [MemberRole]),
    /// Staff who are one of these, from a network of staff.
    Staff(&'static [StaffRole]),
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permit {
    method: &'static str,
    route: &'static str,
    who: Who,
    /// Whether they have to have said just now who they are.
    again: bool,
    /// Whether it ends that staff look at an account; everything else that changes something waits until then.
    ends_viewing: bool,
}

const fn get(route: &'static str, who: Who) -> Permit {
    Permit { method: "GET", route, who, again: false, ends_viewing: false }
}

const fn post(route: &'static str, who: Who) -> Permit {
    Permit { method: "POST", route, who, again: false, ends_viewing: false }
}

impl Permit {
    const fn again(self) -> Self {
        Self { again: true, ..self }
    }

    const fn ends_viewing(self) -> Self {
        Self { ends_viewing: true, ..self }
    }

    fn is_read(&self) -> bool {
        self.method == "GET"
    }

    /// What is answered to somebody.
    fn verdict(&self, seat: Option<&Seat>) -> Verdict {
        if seat.is_some_and(|seat| seat.viewing.is_some()) {
            let may_look = match self.who {
                Who::Anybody | Who::Staff(_) => true,
                Who::Member(roles) => roles.contains(&MemberRole::ReadOnly),
                Who::Person => false,
            };
            if !(self.ends_viewing || self.is_read() && may_look) {
                return Verdict::OnlyLooking;
            }
        }
        match (self.who, seat) {
            (Who::Anybody, _) | (Who::Person, Some(_)) => Verdict::Go,
            (Who::Person | Who::Member(_), None) => Verdict::LogIn,
            (Who::Member(roles), Some(seat)) if roles.contains(&seat.role) => Verdict::Go,
            (Who::Member(_), Some(_)) => Verdict::NotAllowed,
            (Who::Staff(roles), seat) => match seat.and_then(|seat| seat.staff) {
                Some(role) if roles.contains(&role) => Verdict::Go,
                Some(_) => Verdict::NotAllowed,
                None => Verdict::Hidden,
            },
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// What was asked for.
    Go,
    /// They log in first.
    LogIn,
    /// It is there, and not for them.
    NotAllowed,
    /// For them it is not there.
    Hidden,
    /// Staff who look at an account change nothing, and do not see what is its owner's alone.
    OnlyLooking,
}

/// What the table says of a request, by its route and, where the path's last word decides, by that. A word that is written in
/// another way than ours is none.
enum Found {
    Line(&'static Permit),
    /// The route is there for other methods; whether it is for staff alone.
    Methods {
        methods: Vec<&'static str>,
        are_staffs: bool,
    },
    Nothing,
}

fn find(method: &Method, route: &str, path: &str) -> Found {
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let literal = route.strip_suffix(WORD).map(|start| {
        let word = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        format!("{start}{word}/")
    });
    let route = literal.as_deref().unwrap_or(route);
    let lines = || TABLE.iter().filter(move |line| line.route == route);
    match lines().find(|line| line.method == method) {
        Some(line) => Found::Line(line),
        None if lines().next().is_some() => Found::Methods {
            methods: lines().map(|line| line.method).collect(),
            are_staffs: lines().all(|line| matches!(line.who, Who::Staff(_))),
        },
        None => Found::Nothing,
    }
}

/// Whether somebody may ask for this, so that a page offers nothing that would be refused.
pub(crate) fn may(seat: Option<&Seat>, method: &str, route: &str) -> bool {
    let line = TABLE.iter().find(|line| line.method == method && line.route == route);
    line.is_some_and(|line| line.verdict(seat) == Verdict::Go)
}

/// Whoever asks, with no more than may be had from where they are: what staff may, they may from their networks alone. While they
/// look at a customer's account, that is the account, and looking is all.
pub(super) fn from_here(mut user: User, caller: &Caller, settings: &WebSettings) -> User {
    if !settings.access.lets_staff_in(caller.address) {
        user.seat.staff = None;
    }
    if !matches!(user.seat.staff, Some(StaffRole::Support | StaffRole::Admin)) {
        user.seat.viewing = None;
    }
    if let Some(viewing) = &user.seat.viewing {
        user.account = viewing.account;
        user.seat.account_name.clone_from(&viewing.name);
        user.seat.role = MemberRole::ReadOnly;
    }
    user
}

/// Asks the table before any handler.
pub(crate) async fn enforce(State(portal): Shared, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match judged(&portal, &parts).await {
        Ok(None) => next.run(Request::from_parts(parts, body)).await,
        Ok(Some(refused)) => refused,
        Err(refusal) => refusal.into_response(),
    }
}

/// The answer in place of the handler's, or nothing when that may be had.
async fn judged(portal: &Portal, parts: &Parts) -> Result<Option<Response>, Refusal> {
    let Some(route) = parts.extensions.get::<MatchedPath>() else { return Err(Refusal::NotFound) };
    let line = match find(&parts.method, route.as_str(), parts.uri.path()) {
        Found::Line(line) => line,
        Found::Methods { methods, are_staffs } => {
            let user = if are_staffs { asker(portal, parts).await?.0 } else { None };
            let is_hidden = are_staffs && user.is_none_or(|user| user.seat.staff.is_none());
            return if is_hidden { Err(Refusal::NotFound) } else { Ok(Some(other_methods(&methods))) };
        }
        Found::Nothing => {
            if !route.as_str().ends_with(WORD) {
                tracing::error!(route = route.as_str(), "a route without a line in the table of permissions");
            }
            return Err(Refusal::NotFound);
        }
    };
    // These are as good while the database is away.
    if line.who == Who::Anybody && (line.is_read() || parts.extensions.get::<Session>().is_none()) {
        return Ok(None);
    }
    let (user, shown) = asker(portal, parts).await?;
    let verdict = line.verdict(user.as_ref().map(|user| &user.seat));
    if let (Verdict::Hidden | Verdict::NotAllowed | Verdict::OnlyLooking, Some(user)) = (&verdict, &user) {
        tracing::info!(user = %user.id, method = %line.method, route = line.route, "what somebody may not do was refused");
    }
    match verdict {
        Verdict::Go => shown_enough(portal, line, &shown, parts).map(|()| None),
        Verdict::LogIn => Err(Refusal::LoginFirst(way_back(parts))),
        Verdict::Hidden => Err(Refusal::NotFound),
        Verdict::NotAllowed => Ok(Some(refused(line.who))),
        Verdict::OnlyLooking => Ok(Some(only_looking())),
    }
}

/// Who asks, with what they may from where they are, and what they have shown.
async fn asker(portal: &Portal, parts: &Parts) -> Result<(Option<User>, Shown), Refusal> {
    let Some(session) = parts.extensions.get::<Session>() else {
        return Err(Refusal::Broken("a page without sessions"));
    };
    let user = session.get::<User>(sessions::WHO_KEY).await?;
    let caller = Caller::of(parts, &portal.settings);
    let shown = session.get::<Shown>(sessions::SHOWN_KEY).await?.unwrap_or_default();
    Ok((user.map(|user| from_here(user, &caller, &portal.settings)), shown))
}

/// Whether enough was shown in this session: a second factor for what staff do, where one is required, and within the last minutes
/// who one is, for what cannot be taken back.
fn shown_enough(portal: &Portal, line: &Permit, shown: &Shown, parts: &Parts) -> Result<(), Refusal> {
    let factors = &portal.settings.access.factors;
    let factor = shown.factor.as_deref().and_then(Factor::from_word);
    if factors.staff && matches!(line.who, Who::Staff(_)) && factor.is_none() {
        return Err(Refusal::FactorFirst);
    }
    if line.again && shown.proven_secs.is_none_or(|secs| secs >= i64::from(factors.step_up_secs)) {
        let site = &portal.settings.site_url;
        let back = if line.is_read() { way_back(parts) } else { page_of(came_from(&parts.headers, site)) };
        return Err(Refusal::ProveFirst(back));
    }
    Ok(())
}

/// The page a form stood on, to come back to. One that was itself the answer to a form has that form's address, where no page can be
/// asked for: it is the page above.
fn page_of(from: String) -> String {
    let path = from.split('?').next().unwrap_or_default();
    let is_there = |method: &str| TABLE.iter().any(|line| line.method == method && line.route == path);
    if is_there("GET") || !is_there("POST") {
        return from;
    }
    path.trim_end_matches('/')
        .rsplit_once('/')
        .map_or_else(|| "/dashboard/".to_owned(), |(above, _)| format!("{above}/"))
}

fn other_methods(methods: &[&str]) -> Response {
    let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
    if let Ok(value) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

#[derive(Template)]
#[template(path = "page/refused.html")]
struct Refused {
    shell: Shell,
    title: &'static str,
    text: &'static str,
    path: &'static str,
    label: &'static str,
}

fn refused(who: Who) -> Response {
    let (text, path, label) = if matches!(who, Who::Staff(_)) {
        ("What you do here does not include this. Ask a colleague who is an admin.", "/staff/", "To the staff page")
    } else {
        (
            "Your role in this account does not include this. Ask one of its owners to do it, or to change your role.",
            "/accounts/members/",
            "See who owns it",
        )
    };
    let shell = Shell { here: "error", ..Shell::default() };
    page::render(StatusCode::FORBIDDEN, &Refused { shell, title: "You may not do this", text, path, label })
}

fn only_looking() -> Response {
    let page = Refused {
        shell: Shell { here: "error", ..Shell::default() },
        title: "You only look",
        text: "While you look at a customer's account nothing can be changed, and what is theirs alone stays closed.",
        path: "/staff/viewing/",
        label: "Go on, or end it",
    };
    page::render(StatusCode::FORBIDDEN, &page)
}

/// Routes that remember what they are, so that each is compared with the table.
pub(crate) struct Routes {
    router: Router<Arc<Portal>>,
    known: Vec<&'static str>,
}

impl Routes {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { router: Router::new(), known: Vec::new() }
    }

    /// One more.
    pub(crate) fn route(mut self, route: &'static str, handlers: MethodRouter<Arc<Portal>>) -> Self {
        self.known.push(route);
        Self { router: self.router.route(route, handlers), known: self.known }
    }

    /// These and others.
    pub(crate) fn and(mut self, others: Self) -> Self {
        self.known.extend(others.known);
        Self { router: self.router.merge(others.router), known: self.known }
    }

    /// What they are, in order.
    pub(crate) fn known(&self) -> &[&'static str] {
        &self.known
    }

    /// The routes themselves.
    pub(crate) fn router(self) -> Router<Arc<Portal>> {
        self.router
    }
}

/// The lines of a route; none when the table does not know it.
fn lines_of(route: &str) -> Vec<&'static Permit> {
    let is_of = |line: &&Permit| match route.strip_suffix(WORD) {
        Some(start) => {
            let word = line.route.strip_prefix(start).and_then(|rest| rest.strip_suffix('/'));
            word.is_some_and(|word| !word.is_empty() && !word.contains('/'))
        }
        None => line.route == route,
    };
    TABLE.iter().filter(is_of).collect()
}

/// The page docs/PERMISSIONS.md: every route there is, and who may ask.
pub(crate) fn printed(routes: &Routes) -> String {
    let mut page = String::from(
        "# Permissions\n\n\
         Printed by `ez permissions`; a test compares, and another one asks every route as everybody. Whoever asks for what says\n\
         *again* has to have said who they are within the last minutes. Staff see their pages from their networks alone, and own an\n\
         account as everybody does; while they look at a customer's account they are read-only in it.\n\n\
         | method | route | anybody | owner | billing | technical | read-only | support | operator | finance | admin | again |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mark = |yes: bool| if yes { " yes |" } else { " |" };
    for route in routes.known() {
        let lines = lines_of(route);
        if lines.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(page, "| none | `{route}` | | | | | | | | | | |");
        }
        for line in lines {
            let _ = write!(page, "| {} | `{}` |", line.method, line.route);
            page.push_str(mark(line.who == Who::Anybody));
            for role in MemberRole::ALL {
                page.push_str(mark(line.lets_member(*role)));
            }
            for role in StaffRole::ALL {
                page.push_str(mark(line.lets_staff(*role)));
            }
            page.push_str(mark(line.again));
            page.push('\n');
        }
    }
    page
}

impl Permit {
    fn lets_member(&self, role: MemberRole) -> bool {
        match self.who {
            Who::Anybody | Who::Person => true,
            Who::Member(roles) => roles.contains(&role),
            Who::Staff(_) => false,
        }
    }

    /// Staff own an account, too, as everybody.
    fn lets_staff(&self, role: StaffRole) -> bool {
        match self.who {
            Who::Staff(roles) => roles.contains(&role),
            _ => self.lets_member(MemberRole::Owner),
        }
    }
}

#[cfg(test)]
mod tests;
