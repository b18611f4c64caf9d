//! Every cookie of ours, and the page that says so. Whoever sets one takes its name and its time from where this page does; a
//! test compares what a browser really gets.
use askama::Template;
use axum::{extract::State, response::Response};

use super::{
    Shared, WebSettings, caller,
    home::shell as frame,
    page::{self, Shell},
    shell,
    visitor::Visitor,
};

/// One cookie.
struct Cookie {
    name: &'static str,
    what_for: &'static str,
    when: &'static str,
    lasts: &'static str,
    /// How long it may last, in seconds, separated by blanks.
    secs: String,
    /// Whether it may be without an end, and so go with the browser.
    may_go_with_the_browser: bool,
}

fn all(settings: &WebSettings) -> [Cookie; 2] {
    let (anonymous, longest) = (shell::ANONYMOUS_SESSION.whole_seconds(), settings.access.stay.longest_secs);
    [
        Cookie {
            name: shell::session_cookie(settings.secure_cookies),
            what_for: "Holds a random number that names your visit, so that forms are known to be yours and you stay logged in.",
            when: "When you open a page with a form, such as the log-in.",
            lasts: "Hours before you log in. After that until you close the browser or, if you wanted to stay logged in, at most \
                    as long as that lasts; logging out ends it.",
            secs: format!("{anonymous} {longest}"),
            may_go_with_the_browser: true,
        },
        Cookie {
            name: caller::cookie_name(settings),
            what_for: "Holds a random number by which we know this browser again, so that a log-in from elsewhere is told to \
                       you and strangers who guess your password do not lock you out.",
            when: "When you log in.",
            lasts: "400 days after the last log-in.",
            secs: caller::REMEMBERED_SECS.to_string(),
            may_go_with_the_browser: false,
        },
    ]
}

#[derive(Template)]
#[template(path = "page/cookies.html")]
struct Whole {
    shell: Shell,
    cookies: [Cookie; 2],
    /// Who is asked whether somebody who signs up is a person, where that is asked.
    asked_elsewhere: Option<String>,
}

/// The page.
pub(crate) async fn look(State(portal): Shared, visitor: Option<Visitor>) -> Response {
    let settings = &portal.settings;
    let asked_elsewhere = settings.turnstile.as_ref().map(|turnstile| turnstile.origin.clone());
    page::ok(&Whole { shell: frame(visitor.as_ref(), "cookies"), cookies: all(settings), asked_elsewhere })
}
