//! Who may sign up: a person, where that is asked, with an address that is not for once.
use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
    routing::{self, post},
};
use house::{Customer, House, HouseOptions};

use super::secrets::{Planted, assert_nowhere, logs};
use crate::{
    accounts::send,
    forms::{careful, get},
    shop::{open, open_with},
    world::count,
};

const USERS: &str = "select count(*) from users where not is_staff";
const GOOD: &str = "a-person-was-here";
/// What its script does in a page: it puts the answer into the form.
const SCRIPT: &str = "const field = document.createElement('input'); field.type = 'hidden'; field.name = 'cf-turnstile-response'; \
     field.value = 'a-person-was-here'; document.querySelector('.cf-turnstile').append(field)";
const SECRET: &str = "turnstile-secret-5c1d";

/// Stands in for Turnstile's check: one answer is good, once, and only with our secret.
#[derive(Clone, Default)]
pub(crate) struct Judge {
    asked: Arc<Mutex<Vec<String>>>,
    away: Arc<Mutex<bool>>,
}

impl Judge {
    async fn start() -> (Self, String) {
        let judge = Self::default();
        let judged = |State(judge): State<Self>, body: Bytes| async move { judge.judged(&body) };
        let routes = Router::new()
            .route("/turnstile/v0/siteverify", post(judged))
            .route(
                "/turnstile/v0/api.js",
                routing::get(|| async { ([(header::CONTENT_TYPE, "text/javascript")], SCRIPT) }),
            )
            .with_state(judge.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (judge, address)
    }

    fn judged(&self, body: &Bytes) -> (StatusCode, String) {
        let text = String::from_utf8_lossy(body).into_owned();
        let mut asked = self.asked.lock().expect("a list");
        let good = format!("response={GOOD}");
        let used = asked.iter().any(|before| before.contains(&good));
        let is_person = text.contains(&good) && text.contains(&format!("secret={SECRET}")) && !used;
        asked.push(text);
        if *self.away.lock().expect("a word") {
            return (StatusCode::BAD_GATEWAY, String::new());
        }
        (StatusCode::OK, format!(r#"{{"success": {is_person}, "error-codes": []}}"#))
    }
}

pub(crate) async fn asking(name: &str) -> (Judge, String, House) {
    let (judge, address) = Judge::start().await;
    let options = HouseOptions::named(name)
        .with("EZ_TURNSTILE_SITE_KEY", "site-key-1")
        .with("EZ_TURNSTILE_SECRET", SECRET)
        .with("EZ_TURNSTILE_URL", &address);
    (judge, address, open_with(options).await)
}

/// Sends the sign-up form with what the script would have put into it.
async fn sign_up(house: &House, answer: &str) -> (u16, String) {
    let stranger = Customer::stranger(house).expect("a stranger");
    let page = stranger.visitor.open("/accounts/signup/").await.expect("the form");
    let csrf = page.attributes("main input[name=csrf]", "value").into_iter().next().expect("a token");
    let fields = [
        ("csrf", csrf.as_str()),
        ("name", "Ada"),
        ("email", &stranger.email),
        ("password", &stranger.password),
        ("cf-turnstile-response", answer),
    ];
    let url = house.url().join("/accounts/signup/").expect("a path");
    let answer = stranger.visitor.http.post(url).form(&fields).send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a page"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_asked_only_a_person_signs_up_and_each_answer_is_good_once() {
    let (judge, _, house) = asking("turnstile").await;
    for answer in ["", "made-up", &"x".repeat(3000)] {
        let (status, page) = sign_up(&house, answer).await;
        assert!(status == 422 && page.contains("Answer the question"), "{answer}: {status} {page}");
    }
    assert_eq!(judge.asked.lock().expect("a list").len(), 1, "what cannot be an answer was asked about");
    assert_eq!(count(house.db(), USERS).await, 0, "a program signed up");
    assert_eq!(sign_up(&house, GOOD).await.0, 200);
    assert_eq!(count(house.db(), USERS).await, 1, "a person could not sign up");
    assert_eq!(sign_up(&house, GOOD).await.0, 422, "an answer was good twice");
    *judge.away.lock().expect("a word") = true;
    let (status, page) = sign_up(&house, "another").await;
    assert!(status == 422 && page.contains("could not check"), "nobody asked, and somebody got in: {page}");
    assert_eq!(count(house.db(), USERS).await, 1);
    let asked = judge.asked.lock().expect("a list").clone();
    assert!(asked.iter().all(|text| text.contains("remoteip=127.0.0.1")), "{asked:?}");
    assert!(!asked.iter().any(|text| text.contains("example.test")), "somebody else was told an address: {asked:?}");
    house.run_ez(&["doctor"], "").await.expect("sound");
    house.stop_web().await.expect("the web ends");
    assert_nowhere(&Planted::from([("Turnstile's secret", SECRET.to_owned())]), &logs(&house));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_page_that_asks_may_load_anything_from_elsewhere_and_only_where_it_is_switched_on() {
    let (_, address, house) = asking("turnstile-page").await;
    for path in ["/", "/pricing/", "/accounts/login/", "/accounts/reset/", "/nowhere/"] {
        let answer = get(&careful(&house), path).await;
        let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
        assert!(!policy.contains(&address), "{path}: {policy}");
        assert!(!answer.text().await.expect("a page").contains(&address), "{path} loads something from elsewhere");
    }
    let answer = get(&careful(&house), "/accounts/signup/").await;
    let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
    for part in
        [format!("script-src 'self' {address};"), format!("frame-src {address};"), "style-src 'self';".to_owned()]
    {
        assert!(policy.contains(&part), "{part} is not in {policy}");
    }
    assert!(!answer.headers().contains_key("cross-origin-embedder-policy"), "its frame would not be shown");
    let html = answer.text().await.expect("a page");
    assert!(html.contains(&format!("{address}/turnstile/v0/api.js")) && html.contains("site-key-1"), "{html}");
    assert!(!html.contains(SECRET), "the secret is in the page");

    let quiet = open("no-turnstile").await;
    let answer = get(&careful(&quiet), "/accounts/signup/").await;
    assert_eq!(answer.headers()["cross-origin-embedder-policy"], "require-corp");
    let html = answer.text().await.expect("a page");
    assert!(!html.contains("turnstile") && !html.contains("<script"), "{html}");

    // The page of cookies tells of it where it is so, and nowhere else.
    for (house, is_asked) in [(&house, true), (&quiet, false)] {
        let page = house.visitor().expect("a browser").open("/cookies/").await.expect("a page").ok().expect("the page");
        let said = page.text();
        assert_eq!(said.contains("asks Cloudflare") && said.contains(&address), is_asked, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_for_once_are_refused_as_the_policy_says() {
    let house =
        open_with(HouseOptions::named("disposable").with("EZ_REFUSED_DOMAINS", "disposable,evil.example")).await;
    let sign_up = async |house: &House, email: &str| {
        let visitor = house.visitor().expect("a browser");
        let values = [("name", "Ada"), ("email", email), ("password", "purple lantern on ice")];
        send(&visitor, "/accounts/signup/", "/accounts/signup/", &values).await
    };
    for email in ["a@mailinator.com", "A@Sub.Mailinator.com", "a@evil.example"] {
        let answer = sign_up(&house, email).await;
        assert!(answer.status == 422 && answer.text().contains("of this provider"), "{email}: {}", answer.text());
    }
    assert_eq!(count(house.db(), USERS).await, 0);
    assert_eq!(sign_up(&house, "a@example.test").await.status, 200);
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let values = [("email", "a@yopmail.com")];
    let moved = send(&customer.visitor, "/accounts/address/", "/accounts/address/", &values).await;
    assert!(
        moved.status == 422 && moved.text().contains("of this provider"),
        "moved there afterwards: {}",
        moved.text()
    );
    let values = [("email", "a@yopmail.com"), ("role", "technical")];
    let invited = send(&customer.visitor, "/accounts/members/", "/accounts/members/invite/", &values).await;
    assert!(invited.status == 422 && invited.text().contains("of this provider"), "invited there: {}", invited.text());
    assert_eq!(count(house.db(), "select count(*) from invitations").await, 0);
    let open = open_with(HouseOptions::named("any-domain").with("EZ_REFUSED_DOMAINS", "off")).await;
    assert_eq!(sign_up(&open, "a@mailinator.com").await.status, 200, "the policy cannot be switched off");
}
