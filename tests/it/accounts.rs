//! Who gets in, how often it may be tried, and what whoever is logged in changes about it.
mod address;
mod close;
mod confirm;
mod crowded;
pub(crate) mod hand_over;
pub(crate) mod invitations;
pub(crate) mod limits;
mod members;
mod permissions;
mod reset;
mod sessions;
mod signup;
pub(crate) mod staff;
mod stolen;
mod timing;
mod tokens;
mod trail;
mod viewing;

mod ended;
mod foreign;
mod links;

use house::{House, HouseOptions, Page, Visitor};
use reqwest::{
    Response,
    header::{self, HeaderMap, HeaderValue},
};

pub(crate) const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
const SAFARI: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Safari/604.1";

/// A house that believes what its proxy says about who asks; the tests are the proxy.
pub(crate) fn behind_a_proxy(name: &str) -> HouseOptions {
    HouseOptions::named(name).with("EZ_TRUSTED_PROXIES", "127.0.0.0/8")
}

/// A browser of some kind that our proxy says is at some address.
pub(crate) fn browser_at(house: &House, address: &str, agent: &'static str) -> Visitor {
    let mut headers = HeaderMap::new();
    headers.insert("x-forwarded-for", address.parse().expect("a header"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    let http = reqwest::Client::builder().cookie_store(true).default_headers(headers).build().expect("a client");
    Visitor { home: house.url().clone(), http }
}

/// Opens a page and sends its form.
pub(crate) async fn send(visitor: &Visitor, path: &str, action: &str, values: &[(&str, &str)]) -> Page {
    let page = visitor.open(path).await.expect("the form");
    visitor.submit(&page, action, values).await.expect("an answer")
}

pub(crate) async fn log_in(visitor: &Visitor, email: &str, password: &str) -> Page {
    send(visitor, "/accounts/login/", "/accounts/login/", &[("email", email), ("password", password)]).await
}

/// Whether the dashboard is shown, and not the log-in.
pub(crate) async fn is_in(visitor: &Visitor) -> bool {
    let page = visitor.open("/dashboard/").await.expect("a page");
    assert_eq!(page.status, 200, "{}", page.text());
    page.url.path() == "/dashboard/"
}

/// The session's cookie from an answer that sets it.
pub(crate) fn session_cookie(answer: &Response) -> String {
    let mut set = answer.headers().get_all(header::SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
    let line = set.find(|line| line.starts_with("ez=")).unwrap_or_else(|| panic!("{} sets no session", answer.url()));
    line.split(';').next().expect("a pair").to_owned()
}

/// Logs in as a browser would, and gives the session's cookie, as a thief would have it.
pub(crate) async fn stolen_cookie(house: &House, email: &str, password: &str) -> String {
    let careful = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let path = house.url().join("/accounts/login/").expect("a path");
    let answer = careful.get(path.clone()).send().await.expect("the form");
    let (cookie, url, status) = (session_cookie(&answer), answer.url().clone(), answer.status().as_u16());
    let page = Page { url, status, html: answer.text().await.expect("a page") };
    let csrf = page.attributes("input[name=csrf]", "value").into_iter().next().expect("a token");
    let fields = [("csrf", csrf.as_str()), ("email", email), ("password", password)];
    let answer = careful.post(path).header(header::COOKIE, cookie).form(&fields).send().await.expect("an answer");
    assert_eq!(answer.status(), 303, "not logged in");
    session_cookie(&answer)
}

/// A page of an address that does not work, with words in it and a way on.
pub(crate) fn assert_stale(page: &Page, words: &str, way_on: &str) {
    assert_eq!(page.status, 400, "{}", page.text());
    assert!(page.text().contains(words), "not “{words}”: {}", page.text());
    assert!(page.link(way_on).is_ok(), "no way to {way_on}: {}", page.text());
}
