//! Sessions that were planted or stolen: worth nothing after a log-in, a log-out, another password or the end of an account.
use house::{Customer, House, Page, Visitor};
use reqwest::header;

use crate::{
    accounts::{is_in, log_in, send, stolen_cookie},
    forms::{careful, get},
    shop::{SOON, open},
    world::count,
};

/// The thief's browser, with what was stolen.
fn thief(house: &House, cookie: &str) -> Visitor {
    Visitor::with_cookie(house.url(), cookie).expect("a browser")
}

async fn token(visitor: &Visitor, path: &str) -> String {
    let page = visitor.open(path).await.expect("a page");
    page.attributes("main input[name=csrf]", "value")
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("no token: {}", page.text()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_was_planted_is_never_logged_in() {
    let house = open("planted").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    // Ids that nobody of ours gave, and one that the thief was given for a session of its own.
    let own = careful(&house);
    let given = get(&own, "/accounts/login/").await;
    let given =
        given.headers()[header::SET_COOKIE].to_str().expect("text").split(';').next().expect("a pair").to_owned();
    for planted in [given.as_str(), "ez=AAAAAAAAAAAAAAAAAAAAAA", "ez=1", "ez=00000000-0000-0000-0000-000000000000"] {
        let jar = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
        let path = house.url().join("/accounts/login/").expect("a path");
        let form = jar.get(path.clone()).header(header::COOKIE, planted).send().await.expect("the form");
        let anew = form.headers().get(header::SET_COOKIE).and_then(|line| line.to_str().ok()).map(str::to_owned);
        let cookie = anew.as_deref().and_then(|line| line.split(';').next()).unwrap_or(planted).to_owned();
        if planted != given {
            assert_ne!(cookie, planted, "an id from outside was taken over");
        }
        let (url, status) = (form.url().clone(), form.status().as_u16());
        let page = Page { url, status, html: form.text().await.expect("a page") };
        let csrf = page.attributes("main input[name=csrf]", "value").into_iter().next().expect("a token");
        let fields = [("csrf", csrf.as_str()), ("email", &customer.email), ("password", &customer.password)];
        let answer = jar.post(path).header(header::COOKIE, &cookie).form(&fields).send().await.expect("an answer");
        assert_eq!(answer.status(), 303, "{planted}");
        for known_before in [planted, &cookie] {
            assert!(!is_in(&thief(&house, known_before)).await, "{known_before} was planted and is logged in");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stolen_is_worth_nothing_after_a_log_out_another_password_or_a_reset() {
    let house = open("stolen").await;
    let mut customer = Customer::signed_in(&house).await.expect("a customer");

    let cookie = stolen_cookie(&house, &customer.email, &customer.password).await;
    let (owner, with_it) = (thief(&house, &cookie), thief(&house, &cookie));
    assert!(is_in(&with_it).await, "a stolen cookie is as good as the owner's until then");
    let kept = token(&with_it, "/accounts/password/").await;
    send(&owner, "/accounts/logout/", "/accounts/logout/", &[]).await;
    assert!(!is_in(&with_it).await, "a log-out leaves the thief in");
    assert_useless(&house, &cookie, &kept).await;

    let cookie = stolen_cookie(&house, &customer.email, &customer.password).await;
    let kept = token(&thief(&house, &cookie), "/accounts/password/").await;
    customer.visitor = house.visitor().expect("a browser");
    customer.log_in().await.expect("the owner");
    let other = "velvet anchor 88 lantern";
    let values = [("old", customer.password.as_str()), ("password", other)];
    send(&customer.visitor, "/accounts/password/", "/accounts/password/", &values)
        .await
        .ok()
        .expect("another password");
    other.clone_into(&mut customer.password);
    assert!(!is_in(&thief(&house, &cookie)).await, "another password leaves the thief in");
    assert_useless(&house, &cookie, &kept).await;
    assert!(is_in(&customer.visitor).await, "whoever chose it was logged out");

    let cookie = stolen_cookie(&house, &customer.email, &customer.password).await;
    let kept = token(&thief(&house, &cookie), "/accounts/password/").await;
    let elsewhere = house.visitor().expect("a browser");
    send(&elsewhere, "/accounts/reset/", "/accounts/reset/", &[("email", &customer.email)]).await;
    let letter = house.mail().wait_for(&customer.email, "choose a new password", 1, SOON).await.expect("the letter");
    let page = elsewhere.open(letter.link("/accounts/reset/").expect("a link").as_str()).await.expect("a page");
    let third = "quiet copper 17 harbour";
    let answer = elsewhere.submit(&page, "/accounts/reset/new/", &[("password", third)]).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!is_in(&thief(&house, &cookie)).await, "a reset leaves the thief in");
    assert_useless(&house, &cookie, &kept).await;
    assert!(!is_in(&customer.visitor).await, "a reset leaves another session in");
    assert_eq!(
        log_in(&elsewhere, &customer.email, &customer.password).await.status,
        422,
        "the former password still works"
    );
    assert_eq!(
        count(house.db(), "select count(*) from sessions where user_id is not null").await,
        0,
        "a session is left"
    );
}

/// Neither the cookie nor the token that was read with it does anything any more.
async fn assert_useless(house: &House, cookie: &str, kept: &str) {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    for (path, field) in
        [("/accounts/sessions/end/", "which"), ("/accounts/close/", "password"), ("/billing/portal/", "x")]
    {
        let url = house.url().join(path).expect("a path");
        let fields = [("csrf", kept), (field, "others")];
        let answer = http.post(url).header(header::COOKIE, cookie).form(&fields).send().await.expect("an answer");
        let leads = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
        let led_to_log_in = answer.status() == 303 && leads.starts_with("/accounts/login/");
        assert!(answer.status() == 403 || led_to_log_in, "{path} was done with what was stolen: {leads}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stolen_cannot_be_made_to_last() {
    let house = open("outstayed").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let cookie = stolen_cookie(&house, &customer.email, &customer.password).await;
    let with_it = thief(&house, &cookie);
    // Neither password nor address can be changed without the password, and the end of the session does not move.
    let long_ago = "update sessions set proven_at = now() - interval '2 days'";
    sqlx::query(long_ago).execute(house.db()).await.expect("time passes");
    let ends = "select extract(epoch from max(expires_at))::bigint from sessions where user_id is not null";
    let before = count(house.db(), ends).await;
    for (path, form, field) in [
        ("/accounts/password/", "/accounts/password/", "old"),
        ("/accounts/address/", "/accounts/again/", "password"),
        ("/accounts/close/", "/accounts/close/", "password"),
    ] {
        let page = with_it.open(path).await.expect("the form");
        assert_eq!(page.url.path(), form, "{path}");
        let values: Vec<(&str, &str)> = match path {
            "/accounts/password/" => vec![(field, "a guess that is wrong"), ("password", "velvet anchor 88 lantern")],
            _ => vec![(field, "a guess that is wrong")],
        };
        let answer = with_it.submit(&page, form, &values).await.expect("an answer");
        assert_eq!(answer.status, 422, "{path}: {}", answer.text());
    }
    assert!(is_in(&with_it).await);
    assert_eq!(count(house.db(), ends).await, before, "use makes a session last");
    assert_eq!(
        count(house.db(), "select count(*) from access_changes").await,
        0,
        "somebody else's address was asked for"
    );
    assert!(is_in(&customer.visitor).await);
}
