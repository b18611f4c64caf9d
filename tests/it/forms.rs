//! Every kind of bad form, and who may see what.
mod accounts;
mod once;

use std::collections::BTreeSet;

use house::{Customer, House, HouseOptions, OrderForm, Page, Visitor};
use reqwest::{Response, header, redirect::Policy};

use crate::{
    attention::staff,
    shop::{SOON, open, open_with},
    world::{count, tables, vendors},
};

const FORM_LIMIT_BYTES: usize = 64 * 1024;
const ED25519: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

/// A browser that shows where a redirect leads instead of following it.
pub(crate) fn careful(house: &House) -> Visitor {
    let http = reqwest::Client::builder().cookie_store(true).redirect(Policy::none()).build().expect("a client");
    Visitor { home: house.url().clone(), http }
}

/// A careful browser of somebody who is logged in.
pub(crate) async fn careful_customer(house: &House) -> (Customer, Visitor) {
    let mut customer = Customer::signed_in(house).await.expect("a customer");
    let browser = careful(house);
    let page = browser.open("/accounts/login/").await.expect("the form");
    let values = [("email", customer.email.as_str()), ("password", &customer.password)];
    let answer = browser.submit(&page, "/accounts/login/", &values).await.expect("an answer");
    assert_eq!(answer.status, 303, "{}", answer.text());
    customer.visitor = browser.clone();
    (customer, browser)
}

pub(crate) async fn get(visitor: &Visitor, path: &str) -> Response {
    visitor.http.get(visitor.home.join(path).expect("a path")).send().await.expect("an answer")
}

pub(crate) async fn post(visitor: &Visitor, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Response {
    let mut request = visitor.http.post(visitor.home.join(path).expect("a path")).form(fields);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("an answer")
}

pub(crate) fn location(answer: &Response) -> &str {
    answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("")
}

pub(crate) fn hidden(page: &Page, name: &str) -> String {
    let found = page.attributes(&format!("main input[name={name}]"), "value");
    found.first().cloned().unwrap_or_else(|| panic!("no field {name} on {}: {}", page.url, page.text()))
}

/// The words beside a field.
fn fault(page: &Page, field: &str) -> String {
    page.texts(&format!("#{field}-fault")).concat()
}

/// Exactly this field is faulted, in words, for the eye and for a screen reader, and the list above links to it.
fn assert_only_fault(page: &Page, field: &str, others: &[&str], what: &str) {
    assert_eq!(page.status, 422, "{what}: {}", page.text());
    assert!(fault(page, field).len() > 10, "{what}: nothing beside {field}: {}", page.text());
    assert_eq!(page.attributes("#faults a", "href"), [format!("#{field}")], "{what}: the list of faults");
    let marked = page.attributes("[aria-invalid=true]", "aria-describedby");
    assert!(field == "term" || marked.len() == 1, "{what}: not marked for readers: {marked:?}");
    for other in others.iter().filter(|other| **other != field) {
        assert_eq!(fault(page, other), "", "{what}: {other} is faulted too");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_a_sign_up_stands_beside_its_field_and_keeps_what_was_typed() {
    let house = open("sign-up-faults").await;
    let (good, long) = ("blue kettle sings", "x".repeat(101));
    let cases = [
        ("name", "", "ann@example.test", good),
        ("name", long.as_str(), "ann@example.test", good),
        ("email", "Ann", "", good),
        ("email", "Ann", "ann", good),
        ("email", "Ann", "ann@host", good),
        ("email", "Ann", "a b@example.test", good),
        ("email", "Ann \"<b>\"", "<script>@example.test", good),
        ("password", "Ann", "ann@example.test", ""),
        ("password", "Ann", "ann@example.test", "short1!"),
        ("password", "Ann", "ann@example.test", "password1234"),
        ("password", "Ann", "ann@example.test", "aaaaaaaaaaaa"),
        ("password", "Ann", "ann@example.test", "ann@example.test"),
    ];
    let visitor = house.visitor().expect("a visitor");
    for (field, name, email, password) in cases {
        let what = format!("{name:?} {email:?} {password:?}");
        let page = visitor.open("/accounts/signup/").await.expect("the form");
        let values = [("name", name), ("email", email), ("password", password)];
        let answer = visitor.submit(&page, "/accounts/signup/", &values).await.expect("an answer");
        assert_only_fault(&answer, field, &["name", "email", "password"], &what);
        assert_eq!(answer.attributes("#name", "value"), [name], "{what}: the name is lost");
        assert_eq!(answer.attributes("#email", "value"), [email], "{what}: the address is lost");
        assert_eq!(answer.attributes("#password", "value"), [""], "{what}: a password is written into the page");
        assert!(!answer.html.contains("<script>@") && !answer.html.contains("<b>"), "{what}: written unescaped");
    }
    assert_eq!(count(house.db(), "select count(*) from users where not is_staff").await, 0, "somebody was made");
    let page = visitor.open("/accounts/signup/").await.expect("the form");
    let all = visitor.submit(&page, "/accounts/signup/", &[("name", ""), ("email", ""), ("password", "")]).await;
    assert_eq!(all.expect("an answer").texts("#faults a").len(), 3, "not every fault is told at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_that_does_not_fit_says_one_thing_whatever_was_wrong() {
    let house = open("log-in-faults").await;
    let customer = Customer::stranger(&house).expect("a stranger");
    customer.sign_up().await.expect("signing up");
    let long = "x".repeat(5000);
    let mut told = BTreeSet::new();
    for (email, password) in [
        (customer.email.as_str(), "not the password"),
        (&customer.email, ""),
        (&customer.email, long.as_str()),
        ("nobody@example.test", customer.password.as_str()),
        ("not an address", "x"),
        ("", ""),
    ] {
        let page = customer.visitor.open("/accounts/login/?next=/pricing/").await.expect("the form");
        let values = [("email", email), ("password", password)];
        let answer = customer.visitor.submit(&page, "/accounts/login/", &values).await.expect("an answer");
        assert_only_fault(&answer, "email", &["email", "password"], email);
        assert_eq!(answer.attributes("#email", "value"), [email], "the address is lost");
        assert_eq!(answer.attributes("#password", "value"), [""], "a password is written into the page");
        assert_eq!(hidden(&answer, "next"), "/pricing/", "the way back is lost");
        told.insert(answer.text());
    }
    assert_eq!(told.len(), 1, "the answer tells what was wrong: {told:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_a_checkout_stands_beside_its_field_and_nothing_is_ordered() {
    let house = open("checkout-faults").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (long, ed) = ("a".repeat(64), format!("ssh-ed25519 {ED25519}"));
    let (two, cut, mixed) = (format!("{ed}\n{ed}"), &ed[..40], format!("ssh-rsa {ED25519}"));
    let options = format!("command=\"reboot\" {ed}");
    let huge = format!("ssh-rsa {}", "A".repeat(5000));
    let mut cases: Vec<(&str, &str)> = Vec::new();
    for name in ["", "-a", "a-", "a.b", "a_b", "a b", "ü", long.as_str(), "a;reboot", "<b>"] {
        cases.push(("hostname", name));
    }
    for image in ["", "windows-3", "9000"] {
        cases.push(("image", image));
    }
    for key in ["hello", "ssh-dss AAAAB3NzaC1kc3MAAACB", "ssh-ed25519", cut, &two, &mixed, &options, &huge] {
        cases.push(("ssh_key", key));
    }
    cases.push(("ssh_key", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA"));
    for term in ["", "weekly", "forever"] {
        cases.push(("term", term));
    }
    let form = customer.visitor.open("/billing/checkout/small/").await.expect("the form");
    let (csrf, order) = (hidden(&form, "csrf"), hidden(&form, "order"));
    for (field, value) in cases {
        let mut fields = vec![("hostname", "web-1"), ("image", "debian-13"), ("ssh_key", ""), ("term", "annual")];
        fields.iter_mut().filter(|(name, _)| *name == field).for_each(|(_, old)| *old = value);
        fields.extend([("csrf", csrf.as_str()), ("order", &order)]);
        let sent = post(&customer.visitor, "/billing/checkout/small/", &fields, &[]).await;
        let (status, url) = (sent.status().as_u16(), sent.url().clone());
        let page = Page { url, status, html: sent.text().await.expect("a page") };
        let what = format!("{field} {value:?}");
        assert_only_fault(&page, field, &["hostname", "image", "ssh_key", "term"], &what);
        assert_eq!(hidden(&page, "order"), order, "{what}: it became another order");
        if field != "hostname" {
            assert_eq!(page.attributes("#hostname", "value"), ["web-1"], "{what}: the name is lost");
        }
        if field == "hostname" || field == "ssh_key" {
            assert_eq!(hidden(&page, "term"), "annual", "{what}: the chosen term is lost");
            assert_eq!(
                page.attributes("#image-debian-13[checked]", "value"),
                ["debian-13"],
                "{what}: the image is lost"
            );
        }
        let kept = page.texts("#ssh_key").concat();
        if value.contains("PRIVATE") {
            assert!(!page.html.contains("b3BlbnNzaC1r"), "a private key is written into the page");
        } else if field == "ssh_key" {
            assert_eq!(kept, value.replace('\n', " "), "{what}: the key is lost");
        }
    }
    assert_nothing_ordered(&house, 0).await;
}

async fn assert_nothing_ordered(house: &House, before: i64) {
    assert_eq!(count(house.db(), "select count(*) from orders").await, before, "an order was written down");
    assert_eq!(count(house.db(), "select count(*) from reservations").await, before, "a place was taken");
    let sessions = vendors(house).await.money["sessions"].len();
    assert_eq!(i64::try_from(sessions), Ok(before), "a payment page was opened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_or_belongs_to_somebody_else_is_not_found() {
    let house = open("not-found").await;
    let owner = Customer::signed_in(&house).await.expect("the owner");
    let order = owner.buy(&OrderForm::small("mine-alone")).await.expect("buying");
    owner.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let order = order.path().trim_end_matches('/').to_owned();
    let service = owner.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link");
    let id = order.rsplit('/').next().expect("an id").to_owned();
    let (_, stranger) = careful_customer(&house).await;
    let nobody = careful(&house);
    let unknown = uuid::Uuid::new_v4();
    let own = [format!("{order}/"), format!("{order}/events"), service.path().to_owned()];
    let mut missing: Vec<String> = own.to_vec();
    missing.push(format!("/billing/return/?order={id}"));
    for id in ["garbage", "1", "00000000-0000-0000-0000-000000000000", "..%2F..", "%ff", "%00", &unknown.to_string()] {
        missing.extend(["orders", "vps"].map(|kind| format!("/dashboard/{kind}/{id}/")));
        missing.push(format!("/dashboard/orders/{id}/events"));
    }
    missing.extend(
        ["/pricing/none/", "/billing/checkout/none/", "/nothing/here/", "/staff/", "/static/0/site.css"]
            .map(str::to_owned),
    );
    for path in &missing {
        let answer = get(&stranger, path).await;
        let status = answer.status();
        let text = answer.text().await.expect("a page");
        assert!(status == 404 || (path.contains("%ff") && status == 400), "{path}: {status} {text}");
        assert!(!text.contains("mine-alone"), "{path} tells the name of somebody else's server");
    }
    for path in own {
        let answer = get(&nobody, &path).await;
        assert_eq!(answer.status(), 303, "{path}");
        assert!(location(&answer).starts_with("/accounts/login/?next="), "{path}: {}", location(&answer));
    }
    let page = nobody.open("/nothing/here/").await.expect("a page");
    assert!(page.text().contains("not here") && page.link("/").is_ok(), "not friendly: {}", page.text());
    assert_eq!(get(&nobody, "/staff/").await.status(), 404, "strangers see that there is a staff page");

    let csrf = hidden(&stranger.open("/billing/checkout/small/").await.expect("a form"), "csrf");
    let theirs = [("csrf", csrf.as_str()), ("verdict", "abandon"), ("step", "clone"), ("reason", "mine now")];
    for path in [format!("{}password/", service.path()), format!("/staff/attention/order-{id}/")] {
        let answer = post(&stranger, &path, &theirs, &[]).await;
        assert_eq!(answer.status(), 404, "{path}: {:?}", answer.text().await);
    }
    let mine = owner.visitor.open(service.as_str()).await.expect("the server's page");
    assert!(mine.has_form("/password/"), "somebody else took the password away");
}

/// What is wrong with a form, the token it brings, and the headers it comes with.
type Forgery<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_without_its_token_or_from_elsewhere_is_refused_and_changes_nothing() {
    let house = open("forged").await;
    let (customer, browser) = careful_customer(&house).await;
    let staff = staff(&house).await;
    let token = hidden(&browser.open("/billing/checkout/small/").await.expect("a form"), "csrf");
    let other = hidden(&careful(&house).open("/accounts/login/").await.expect("a form"), "csrf");
    let site = house.url().origin().ascii_serialization();
    let zeroes = "A".repeat(86);
    let cases: [Forgery<'_>; 9] = [
        ("no token", "", vec![]),
        ("nonsense", "nonsense", vec![]),
        ("zeroes", &zeroes, vec![]),
        ("another session's token", &other, vec![("origin", site.as_str())]),
        ("another site", &token, vec![("origin", "https://evil.example")]),
        ("another port", &token, vec![("origin", "http://127.0.0.1:1")]),
        ("a sandboxed page", &token, vec![("origin", "null")]),
        ("a cross-site form", &token, vec![("sec-fetch-site", "cross-site"), ("origin", site.as_str())]),
        ("a neighbour's form", &token, vec![("sec-fetch-site", "same-site")]),
    ];
    let order = uuid::Uuid::new_v4().to_string();
    let before = tables(house.db()).await;
    for route in routes().into_iter().filter(|(_, takes_forms)| *takes_forms).map(|(path, _)| path) {
        let path = filled(&route);
        for (what, csrf, headers) in &cases {
            let mut fields = vec![("csrf", *csrf), ("order", &order), ("hostname", "forged"), ("image", "debian-13")];
            fields.extend([("term", "monthly"), ("ssh_key", ""), ("name", "Eve"), ("email", customer.email.as_str())]);
            fields.extend([("password", customer.password.as_str()), ("step", "clone"), ("verdict", "retry")]);
            let answer = post(&browser, &path, &fields, headers).await;
            // For a customer these are not there at all.
            let refused = if path.starts_with("/staff/") { 404 } else { 403 };
            assert_eq!(answer.status(), refused, "{path}, {what}: {:?}", answer.text().await);
            let answer = post(&staff.visitor, &path, &fields, headers).await;
            assert_eq!(answer.status(), 403, "{path} as staff, {what}: {:?}", answer.text().await);
        }
    }
    assert_eq!(tables(house.db()).await, before, "a refused form changed something");
    assert_nothing_ordered(&house, 0).await;
    assert_eq!(get(&browser, "/dashboard/").await.status(), 200, "a forged form logged somebody out");
}

/// Every route of the table, and whether it takes forms.
pub(crate) fn routes() -> Vec<(String, bool)> {
    let table = include_str!("../../src/web.rs");
    let found: Vec<(String, bool)> = table
        .lines()
        .filter_map(|line| line.trim().strip_prefix(".route(\""))
        .filter_map(|line| line.split_once('"'))
        .map(|(path, rest)| (path.to_owned(), rest.contains("post(")))
        .filter(|(path, _)| !path.starts_with("/webhooks/"))
        .collect();
    assert!(found.len() >= 20 && found.iter().filter(|(_, forms)| *forms).count() >= 9, "{found:?}");
    found
}

pub(crate) fn filled(route: &str) -> String {
    let nil = uuid::Uuid::nil().to_string();
    let words = [
        ("cancel/{what}", "cancel/go_on"),
        ("subscriptions/{id}/{what}", "subscriptions/{id}/hold"),
        ("invoices/{id}/{what}", "invoices/{id}/page"),
        ("{slug}", "small"),
        ("{id}", nil.as_str()),
        ("{workflow_id}", "order-x"),
        ("{hash}", "0"),
        ("{*path}", "x.css"),
    ];
    words.iter().fold(route.to_owned(), |path, (name, value)| path.replace(name, value))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_carries_the_security_headers_and_nothing_inline() {
    let house = open("headers").await;
    let (_, customer) = careful_customer(&house).await;
    let staff = staff(&house).await.visitor;
    let mut seen = BTreeSet::new();
    for visitor in [careful(&house), customer, staff] {
        for (route, _) in routes() {
            let path = filled(&route);
            let answer = get(&visitor, &path).await;
            seen.insert(answer.status().as_u16());
            assert_headers(&path, &answer);
            let html = answer.text().await.expect("a page").to_lowercase();
            for inline in ["<style", " style=", " onclick=", " onload=", "javascript:", "<script>"] {
                assert!(!html.contains(inline), "{path} has {inline}, which its own policy forbids");
            }
        }
    }
    for status in [200, 303, 404, 405] {
        assert!(seen.contains(&status), "no answer was {status}: {seen:?}");
    }
    let robots = get(&careful(&house), "/robots.txt").await;
    assert_eq!(robots.status(), 200);
    assert!(robots.headers()[header::CONTENT_TYPE].as_bytes().starts_with(b"text/plain"));
    let robots = robots.text().await.expect("text");
    for private in ["/accounts/", "/billing/", "/dashboard/", "/staff/"] {
        assert!(robots.contains(&format!("Disallow: {private}")), "{private} is not kept from robots: {robots}");
    }
}

fn assert_headers(path: &str, answer: &Response) {
    let text = |name: &str| {
        let found = answer.headers().get(name).unwrap_or_else(|| panic!("{path} ({}) has no {name}", answer.status()));
        found.to_str().expect("text").to_owned()
    };
    let policy = text("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "object-src 'none'",
        "form-action 'self'",
    ] {
        assert!(policy.contains(part), "{path}: {part} is missing in {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}: {policy}");
    assert_eq!(text("x-content-type-options"), "nosniff", "{path}");
    assert_eq!(text("x-frame-options"), "DENY", "{path}");
    assert!(["same-origin", "no-referrer"].contains(&text("referrer-policy").as_str()), "{path}");
    assert!(text("permissions-policy").contains("camera=()"), "{path}");
    if ["/accounts/", "/billing/", "/dashboard/", "/staff/"].iter().any(|start| path.starts_with(start)) {
        assert_eq!(text("cache-control"), "no-store", "{path}");
    }
    assert_cookies(path, answer);
}

fn assert_cookies(path: &str, answer: &Response) {
    for cookie in answer.headers().get_all(header::SET_COOKIE) {
        let cookie = cookie.to_str().expect("text");
        for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
            assert!(cookie.contains(part), "{path} sets a cookie without {part}: {cookie}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_tls_cookies_and_pages_never_travel_without_it() {
    let house = open_with(HouseOptions::named("tls").with("SITE_URL", "https://portal.example.test")).await;
    let answer = get(&careful(&house), "/accounts/login/").await;
    let cookie = answer.headers()[header::SET_COOKIE].to_str().expect("text");
    assert!(cookie.starts_with("__Host-") && cookie.contains("Secure") && cookie.contains("HttpOnly"), "{cookie}");
    assert!(answer.headers().contains_key("strict-transport-security"));
}
