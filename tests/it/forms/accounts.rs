//! Signing up, confirming an address, logging in and out.
use house::{Customer, House, Page};
use reqwest::{Response, header};

use super::{careful, careful_customer, get, hidden, location, post};
use crate::{
    shop::{SOON, open, until},
    world::count,
};

/// The session's cookie as a header, from an answer that sets it.
fn cookie(answer: &Response) -> String {
    super::assert_cookies(answer.url().path(), answer);
    let mut set = answer.headers().get_all(header::SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
    let set = set.find(|line| line.starts_with("ez=")).unwrap_or_else(|| panic!("{} sets no cookie", answer.url()));
    set.split(';').next().expect("a pair").to_owned()
}

async fn get_with(house: &House, path: &str, cookie: &str) -> Response {
    let http = careful(house).http;
    http.get(house.url().join(path).expect("a path")).header(header::COOKIE, cookie).send().await.expect("an answer")
}

async fn token_with(house: &House, path: &str, cookie: &str) -> String {
    let answer = get_with(house, path, cookie).await;
    let (url, status) = (answer.url().clone(), answer.status().as_u16());
    hidden(&Page { url, status, html: answer.text().await.expect("a page") }, "csrf")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logging_in_changes_the_session_and_logging_out_makes_its_cookie_worthless() {
    let house = open("sessions").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let before = cookie(&get(&careful(&house), "/accounts/login/").await);
    let csrf = token_with(&house, "/accounts/login/", &before).await;
    let fields = [
        ("csrf", csrf.as_str()),
        ("email", &customer.email),
        ("password", &customer.password),
        ("next", "/dashboard/"),
    ];
    let answer = post(&careful(&house), "/accounts/login/", &fields, &[("cookie", &before)]).await;
    assert_eq!((answer.status().as_u16(), location(&answer)), (303, "/dashboard/"));
    let after = cookie(&answer);
    assert_ne!(before, after, "a session planted before the log-in is logged in");
    assert_eq!(get_with(&house, "/dashboard/", &before).await.status(), 303, "the old id is logged in");
    assert_eq!(get_with(&house, "/dashboard/", &after).await.status(), 200);
    let stale = post(&careful(&house), "/accounts/logout/", &[("csrf", csrf.as_str())], &[("cookie", &after)]).await;
    assert_eq!(stale.status(), 403, "a token from before the log-in still works");
    assert_eq!(get_with(&house, "/accounts/logout/", &after).await.status(), 200, "a link logged somebody out");
    assert_eq!(get_with(&house, "/dashboard/", &after).await.status(), 200, "a link logged somebody out");

    let csrf = token_with(&house, "/accounts/logout/", &after).await;
    let out = post(&careful(&house), "/accounts/logout/", &[("csrf", csrf.as_str())], &[("cookie", &after)]).await;
    assert_eq!(out.status(), 303);
    let again = get_with(&house, "/dashboard/", &after).await;
    assert!(location(&again).starts_with("/accounts/login/"), "a logged-out cookie still opens the dashboard");
    for forged in ["ez=", "ez=AAAAAAAAAAAAAAAAAAAAAA", "ez=../../etc/passwd", "ez=%00"] {
        assert_eq!(get_with(&house, "/dashboard/", forged).await.status(), 303, "{forged}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_up_with_a_known_address_looks_the_same_and_makes_nobody() {
    let house = open("known-address").await;
    let known = Customer::stranger(&house).expect("a stranger");
    let first = known.sign_up().await.expect("signing up");
    let users = "select count(*) from users";
    let before = count(house.db(), users).await;
    let spelled = known.email.to_uppercase();
    for email in [known.email.as_str(), spelled.as_str()] {
        let thief = Customer::at(&house, "Mallory", email, "another password 77").expect("somebody");
        let second = thief.sign_up().await.expect("the same answer");
        assert_eq!((second.status, second.url.path(), second.text()), (first.status, first.url.path(), first.text()));
    }
    assert_eq!(count(house.db(), users).await, before, "a second user");
    assert_eq!(count(house.db(), "select count(*) from users where name = 'Mallory'").await, 0, "the name was changed");
    house.mail().wait_for(&known.email, "account", 1, SOON).await.expect("the owner is told");
    let told = "select count(*) from letters where kind = 'account_exists'";
    assert_eq!(count(house.db(), told).await, 1, "somebody's mailbox can be filled from our form");
    known.verify().await.expect("the owner's link still works");
    known.log_in().await.expect("the owner's password still works");
    let thief = Customer::at(&house, "Mallory", &known.email, "another password 77").expect("somebody");
    assert!(thief.log_in().await.is_err(), "the password was replaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logging_in_leads_only_to_our_own_pages() {
    let house = open("next").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let cases = [
        ("/pricing/?term=annual", "/pricing/?term=annual"),
        ("https://evil.example/", "/dashboard/"),
        ("//evil.example/", "/dashboard/"),
        ("/\\evil.example/", "/dashboard/"),
        ("/%09/evil.example", "/%09/evil.example"),
        ("\t//evil.example", "/dashboard/"),
        ("javascript:alert(1)", "/dashboard/"),
        ("/accounts/logout/", "/dashboard/"),
        ("", "/dashboard/"),
    ];
    for (next, leads) in cases {
        let browser = careful(&house);
        let asked: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let page = browser.open(&format!("/accounts/login/?next={asked}")).await.expect("the form");
        assert_eq!(hidden(&page, "next"), leads, "{next:?}");
        // What the page was asked to carry does not matter: the form itself may be forged.
        let csrf = hidden(&page, "csrf");
        let fields =
            [("csrf", csrf.as_str()), ("email", &customer.email), ("password", &customer.password), ("next", next)];
        let answer = post(&browser, "/accounts/login/", &fields, &[]).await;
        assert_eq!((answer.status().as_u16(), location(&answer)), (303, leads), "{next:?}");
        let known = get(&browser, &format!("/accounts/login/?next={asked}")).await;
        assert_eq!(location(&known), leads, "{next:?}, logged in already");
    }
    let (_, browser) = careful_customer(&house).await;
    assert_eq!(location(&get(&browser, "/billing/return/").await), "/dashboard/");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_to_confirm_that_is_garbled_expired_or_used_says_what_to_do() {
    let house = open("links").await;
    let customer = Customer::stranger(&house).expect("a stranger");
    customer.sign_up().await.expect("signing up");
    let link = customer.verification_link().await.expect("the link");
    let visitor = &customer.visitor;
    let whole = link.as_str();
    let cut = &whole[..whole.len() - 5];
    let other = uuid::Uuid::new_v4();
    for garbled in [cut, &format!("{whole}x"), &format!("/accounts/verify/?id={other}&tag=x"), "/accounts/verify/?id=x"]
    {
        let page = visitor.open(garbled).await.expect("a page");
        assert_asks_for_another(&page, garbled);
    }
    let unconfirmed = "select count(*) from users where email_verified_at is null";
    assert_eq!(count(house.db(), unconfirmed).await, 1, "opening a link confirmed an address");

    customer.log_in().await.expect("logged in");
    let page = visitor.open(whole).await.expect("the page").ok().expect("the page");
    let later = "update email_verifications set expires_at = now() - interval '1 second', created_at = now() - interval '2 days'";
    sqlx::query(later).execute(house.db()).await.expect("time passes");
    let expired = visitor.submit(&page, "/accounts/verify/", &[]).await.expect("an answer");
    assert_asks_for_another(&expired, "expired");
    assert_eq!(count(house.db(), unconfirmed).await, 1, "an expired link confirmed an address");

    let stranger = house.visitor().expect("a browser");
    let unknown = stranger.open("/accounts/verify/").await.expect("the page");
    let sent = stranger.submit(&unknown, "/resend/", &[("email", &customer.email)]).await.expect("an answer");
    assert!(sent.status == 200 && sent.text().contains("on its way"), "{}", sent.text());
    let fresh = until("another link", SOON, || async {
        customer.verification_link().await.ok().filter(|fresh| *fresh != link)
    })
    .await;
    for time in 1..=2 {
        let page = visitor.open(fresh.as_str()).await.expect("the page").ok().expect("the page");
        let done = visitor.submit(&page, "/accounts/verify/", &[]).await.expect("an answer");
        assert!(done.status == 200 && done.text().contains("confirmed"), "press {time}: {}", done.text());
    }
    assert_eq!(count(house.db(), unconfirmed).await, 0);
    let told = stranger.submit(&unknown, "/resend/", &[("email", "nobody@example.test")]).await.expect("an answer");
    assert_eq!((told.status, told.text()), (sent.status, sent.text()), "resending tells who is known");
    let bad = stranger.submit(&unknown, "/resend/", &[("email", "nobody")]).await.expect("an answer");
    assert_eq!(bad.status, 422, "{}", bad.text());
}

fn assert_asks_for_another(page: &Page, what: &str) {
    assert_eq!(page.status, 400, "{what}: {}", page.text());
    assert!(page.text().contains("does not work any more"), "{what}: {}", page.text());
    assert!(page.has_form("/accounts/verify/resend/"), "{what}: no way to get another link");
}
