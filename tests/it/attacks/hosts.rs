//! Forged hosts, origins and forwarded addresses.
use house::{Customer, HouseOptions};

use super::{metric, say, status};
use crate::{
    accounts::{FIREFOX, browser_at, send},
    forms::{careful, careful_customer, get, hidden, location, post},
    shop::{open, open_with},
    world::count,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_another_host_is_refused_before_anything_looks_at_it() {
    // Only the name in the site's own address is known.
    let house = open_with(HouseOptions::named("foreign-hosts").with("EZ_WEB_HOSTS", "")).await;
    let own = house.url().authority().to_owned();
    let port = house.url().port().expect("a port");
    let before = metric(&house, "ez_foreign_hosts_total").await;
    let foreign = [
        "Host: evil.example\r\n".to_owned(),
        format!("Host: evil.example:{port}\r\n"),
        format!("Host: {own}.evil.example\r\n"),
        format!("Host: {own}@evil.example\r\n"),
        format!("Host: evil.example\r\nX-Forwarded-Host: {own}\r\n"),
        format!("Host: {own}\r\nHost: evil.example\r\n"),
        "Host: 127.0.0.1\r\n".to_owned(),
        "Host: \r\n".to_owned(),
        String::new(),
    ];
    for lines in &foreign {
        let answer = say(&house, &format!("GET /accounts/login/ HTTP/1.1\r\n{lines}")).await;
        assert!([400, 421].contains(&status(&answer)), "{lines:?}: {answer}");
        assert!(
            !answer.contains("evil.example") && !answer.to_lowercase().contains("set-cookie"),
            "{lines:?}: {answer}"
        );
    }
    let other = say(&house, &format!("GET http://evil.example/pricing/ HTTP/1.1\r\nHost: {own}\r\n")).await;
    assert_eq!(status(&other), 421, "{other}");
    let counted = metric(&house, "ez_foreign_hosts_total").await - before;
    assert!(counted > 6.0, "only {counted} were counted");

    let known = say(&house, &format!("GET /pricing/ HTTP/1.1\r\nHost: {}\r\n", own.to_uppercase())).await;
    assert_eq!(status(&known), 200, "{known}");
    let probe = say(&house, "GET /healthz HTTP/1.1\r\nHost: 10.0.0.1:8000\r\n").await;
    assert_eq!(status(&probe), 200, "whoever watches over processes knows no name: {probe}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_forged_header_gets_into_a_page_a_redirect_or_a_letter() {
    let house = open("forged-headers").await;
    let forged = [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-port", "6666"),
        ("x-original-url", "/staff/"),
        ("x-rewrite-url", "/staff/"),
        ("x-http-method-override", "DELETE"),
        ("forwarded", "for=evil.example;host=evil.example;proto=gopher"),
        ("referer", "https://evil.example/"),
        ("x-request-id", "evil.example"),
    ];
    let mut headers = reqwest::header::HeaderMap::new();
    for (name, value) in forged {
        headers.insert(name, value.parse().expect("a header"));
    }
    let stranger = Customer::stranger(&house).expect("a stranger");
    let mut browser = careful(&house);
    browser.http = reqwest::Client::builder().cookie_store(true).default_headers(headers).build().expect("a client");
    let values = [("name", "Ada"), ("email", stranger.email.as_str()), ("password", &stranger.password)];
    send(&browser, "/accounts/signup/", "/accounts/signup/", &values).await;
    let link = stranger.verification_link().await.expect("the letter");
    assert_eq!(link.origin(), house.url().origin(), "a letter leads elsewhere: {link}");
    for path in ["/", "/pricing/", "/accounts/login/", "/dashboard/", "/nowhere/", "/accounts/reset/"] {
        let answer = browser.http.get(house.url().join(path).expect("a path")).send().await.expect("an answer");
        assert_eq!(answer.url().origin(), house.url().origin(), "{path} led elsewhere");
        for (name, value) in answer.headers() {
            let text = String::from_utf8_lossy(value.as_bytes());
            assert!(!text.contains("evil") && !text.contains("gopher"), "{path}: {name}: {text}");
        }
        let html = answer.text().await.expect("a page");
        assert!(!html.contains("evil.example") && !html.contains("gopher"), "{path} repeats what was forged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_with_our_token_and_any_word_of_another_origin_is_refused() {
    let house = open("forged-origins").await;
    let (_, browser) = careful_customer(&house).await;
    let token = hidden(&browser.open("/accounts/password/").await.expect("a form"), "csrf");
    let site = house.url().origin().ascii_serialization();
    let fields = [("csrf", token.as_str()), ("which", "others")];
    let path = "/accounts/sessions/end/";
    let (long, near) = (format!("{site}.evil.example"), format!("{site}/"));
    let cases: [&[(&str, &str)]; 10] = [
        &[("origin", "https://evil.example")],
        &[("origin", &long)],
        &[("origin", &near)],
        &[("origin", "null")],
        &[("origin", "")],
        &[("origin", &site), ("origin", "https://evil.example")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", &site)],
        &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")],
        &[("sec-fetch-site", "Same-Origin")],
    ];
    let sessions = "select count(*) from sessions where user_id is not null";
    let before = count(house.db(), sessions).await;
    for headers in cases {
        let answer = post(&browser, path, &fields, headers).await;
        assert_eq!(answer.status(), 403, "{headers:?}");
    }
    assert_eq!(count(house.db(), sessions).await, before, "a refused form ended a session");
    for headers in
        [&[("origin", site.as_str()), ("sec-fetch-site", "same-origin")][..], &[("sec-fetch-site", "none")], &[]]
    {
        let answer = post(&browser, path, &fields, headers).await;
        assert_eq!((answer.status().as_u16(), location(&answer)), (303, path.trim_end_matches("end/")), "{headers:?}");
    }
    let preflight = browser
        .http
        .request(reqwest::Method::OPTIONS, house.url().join(path).expect("a path"))
        .header("origin", "https://evil.example")
        .header("access-control-request-method", "POST")
        .send()
        .await
        .expect("an answer");
    let shared: Vec<&str> = preflight
        .headers()
        .keys()
        .map(reqwest::header::HeaderName::as_str)
        .filter(|name| name.contains("allow-"))
        .collect();
    assert!(shared.is_empty(), "another origin is let in: {shared:?}");
    let trace = say(&house, &format!("TRACE / HTTP/1.1\r\nHost: {}\r\nX-Secret: 1\r\n", house.url().authority())).await;
    assert!(status(&trace) == 405 && !trace.contains("X-Secret"), "{trace}");
    assert_eq!(get(&browser, "/dashboard/").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forwarded_address_that_nobody_of_ours_wrote_is_kept_nowhere() {
    let house = open("forged-addresses").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    for forged in ["198.51.100.66", "127.0.0.1, 198.51.100.66", "198.51.100.66, 10.0.0.1", "'; drop table users; --"] {
        let browser = browser_at(&house, forged, FIREFOX);
        let values = [("email", customer.email.as_str()), ("password", &customer.password)];
        send(&browser, "/accounts/login/", "/accounts/login/", &values).await;
        let page = browser.open("/accounts/sessions/").await.expect("a page").ok().expect("the list");
        assert!(!page.text().contains("198.51.100.66"), "{forged} was believed: {}", page.text());
    }
    let kept = "select count(*) from sessions where user_id is not null and network <> '127.0.0.1'";
    assert_eq!(count(house.db(), kept).await, 0, "somebody else's address is kept");
}
