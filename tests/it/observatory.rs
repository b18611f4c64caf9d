//! Every route as the HTTP Observatory would score it, by its published rules.
mod score;

use house::{House, HouseOptions, Page};
use reqwest::{Client, Response, header, redirect::Policy};
use score::Look;

use crate::{
    forms::{filled, routes},
    shop::open_with,
};

/// The site as the world sees it: TLS ends at the proxy before it.
const SITE: &str = "https://portal.example.test";
const LEAST: i32 = 130;

/// A house as production sets it up: the site and Stripe's pages behind TLS.
fn behind_tls(name: &str) -> HouseOptions {
    let stripes = "https://checkout.stripe.com,https://billing.stripe.com";
    HouseOptions::named(name).with("SITE_URL", SITE).with("EZ_STRIPE_PAGE_ORIGINS", stripes)
}

fn client() -> Client {
    Client::builder().redirect(Policy::none()).build().expect("a client")
}

async fn ask(house: &House, method: reqwest::Method, path: &str, cookie: Option<&str>) -> Response {
    let mut request =
        client().request(method, house.url().join(path).expect("a path")).header(header::ACCEPT, "text/html");
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, cookie);
    }
    request.send().await.expect("an answer")
}

/// Logs in behind TLS, where a browser would not send the cookie to us without it.
async fn logged_in(house: &House, email: &str, password: &str) -> String {
    let form = ask(house, reqwest::Method::GET, "/accounts/login/", None).await;
    let (cookie, url) = (pair(&form), form.url().clone());
    let page = Page { url: url.clone(), status: 200, html: form.text().await.expect("a page") };
    let csrf = page.attributes("main input[name=csrf]", "value").into_iter().next().expect("a token");
    let fields = [("csrf", csrf.as_str()), ("email", email), ("password", password)];
    let answer = client().post(url).header(header::COOKIE, cookie).form(&fields).send().await.expect("an answer");
    assert_eq!(answer.status(), 303, "not logged in");
    pair(&answer)
}

/// The session's cookie of an answer, as a browser sends it back.
fn pair(answer: &Response) -> String {
    let mut lines = answer.headers().get_all(header::SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
    let line = lines.find(|line| line.starts_with("__Host-ez=")).expect("a session");
    line.split(';').next().expect("a pair").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_scores_at_least_130_by_the_rules_of_the_http_observatory() {
    let house = open_with(behind_tls("observatory")).await;
    let of_staff = logged_in(&house, house.staff_email(), house.staff_password()).await;
    let mut lowest = i32::MAX;
    let mut scored = 0;
    for (route, takes_forms) in routes() {
        let path = filled(&route);
        for cookie in [None, Some(of_staff.as_str())] {
            let mut methods = vec![reqwest::Method::GET];
            methods.extend(takes_forms.then_some(reqwest::Method::POST));
            for method in methods {
                let answer = ask(&house, method.clone(), &path, cookie).await;
                let what = format!("{method} {path} ({}, {})", answer.status(), cookie.map_or("nobody", |_| "staff"));
                let headers = answer.headers().clone();
                // A stream of events has no end to wait for.
                let html = if path.ends_with("/events") { String::new() } else { answer.text().await.expect("a page") };
                let (total, parts) = Look { headers: &headers, html: &html, site: SITE }.score();
                assert!(total >= LEAST, "{what} scores {total}: {parts:#?}");
                lowest = lowest.min(total);
                scored += 1;
            }
        }
    }
    assert!(scored > 100, "only {scored} answers were scored");
    println!("{scored} answers of {} routes score {lowest} or more", routes().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_that_asks_elsewhere_who_is_a_person_scores_at_least_130_too() {
    let options = behind_tls("observatory-asking")
        .with("EZ_TURNSTILE_SITE_KEY", "site-key-1")
        .with("EZ_TURNSTILE_SECRET", "turnstile-secret-1");
    let house = open_with(options).await;
    let answer = ask(&house, reqwest::Method::GET, "/accounts/signup/", None).await;
    let headers = answer.headers().clone();
    let html = answer.text().await.expect("a page");
    assert!(html.contains("https://challenges.cloudflare.com/turnstile/v0/api.js"), "{html}");
    let (total, parts) = Look { headers: &headers, html: &html, site: SITE }.score();
    assert!(total >= LEAST, "{total}: {parts:#?}");
}
