//! What browsers are told: by which setting it changes, and what becomes of what they report.
use std::fs;

use house::{House, HouseOptions};
use reqwest::Response;
use serde_json::{Value, json};

use super::metric;
use crate::{
    accounts::stolen_cookie,
    forms::{careful, get},
    shop::{open, open_with},
};

/// A site behind TLS, as the proxy before it sees it.
const SITE: &str = "https://portal.example.test";

fn header(answer: &Response, name: &str) -> String {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_alone_is_asked_for_as_the_settings_say_and_never_over_http() {
    let default = open_with(HouseOptions::named("hsts").with("SITE_URL", SITE)).await;
    let told = header(&get(&careful(&default), "/").await, "strict-transport-security");
    assert_eq!(told, "max-age=31536000; includeSubDomains");
    let policy = header(&get(&careful(&default), "/").await, "content-security-policy");
    assert!(policy.contains("upgrade-insecure-requests"), "{policy}");
    let ramp = HouseOptions::named("hsts-ramp")
        .with("SITE_URL", SITE)
        .with("EZ_HSTS_SECS", "300")
        .with("EZ_HSTS_SUBDOMAINS", "false");
    let ramp = open_with(ramp).await;
    assert_eq!(header(&get(&careful(&ramp), "/").await, "strict-transport-security"), "max-age=300");
    let plain = open("hsts-plain").await;
    assert_eq!(header(&get(&careful(&plain), "/").await, "strict-transport-security"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_is_only_reported_still_forbids_frames_and_foreign_forms() {
    let house = open_with(HouseOptions::named("report-only").with("EZ_CSP_REPORT_ONLY", "true")).await;
    for path in ["/", "/accounts/login/", "/nowhere/", "/healthz", "/robots.txt"] {
        let answer = get(&careful(&house), path).await;
        let (holds, told) =
            (header(&answer, "content-security-policy"), header(&answer, "content-security-policy-report-only"));
        for part in ["object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'"] {
            assert!(holds.contains(part), "{path}: {part} is not in {holds}");
        }
        assert!(!holds.contains("script-src"), "{path}: {holds}");
        for part in ["default-src 'none'", "script-src 'self'", "report-uri /csp-reports/"] {
            assert!(told.contains(part), "{path}: {part} is not in {told}");
        }
    }
    let usual = open("enforced").await;
    let answer = get(&careful(&usual), "/").await;
    assert_eq!(header(&answer, "content-security-policy-report-only"), "", "the policy is not enforced by default");
    assert!(header(&answer, "content-security-policy").contains("script-src 'self'"));
}

async fn report(house: &House, kind: &str, body: String) -> u16 {
    let url = house.url().join("/csp-reports/").expect("a path");
    let sent = reqwest::Client::new().post(url).header("content-type", kind).body(body).send().await;
    sent.expect("an answer").status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_browsers_report_is_counted_and_noted_without_anything_of_a_person() {
    let house = open("csp-reports").await;
    let (noted, dropped) = (r#"ez_csp_reports_total{outcome="noted"}"#, r#"ez_csp_reports_total{outcome="dropped"}"#);
    let unreadable = r#"ez_csp_reports_total{outcome="unreadable"}"#;
    assert!(metric(&house, noted).await < 1.0, "something was reported already");
    let secret = "tag-of-a-reset-link-7f3a";
    let old = json!({"csp-report": {"document-uri": format!("{}accounts/reset/?tag={secret}", house.url()),
        "referrer": secret, "effective-directive": "script-src-elem", "blocked-uri": format!("https://evil.example/{secret}"),
        "script-sample": secret, "source-file": secret}});
    let new = json!([{"type": "csp-violation", "user_agent": secret, "body": {"documentURL": format!("{}dashboard/", house.url()),
        "effectiveDirective": secret, "blockedURL": "inline", "sample": secret}}]);
    assert_eq!(report(&house, "application/csp-report", old.to_string()).await, 204);
    assert_eq!(report(&house, "application/reports+json", new.to_string()).await, 204);
    for (kind, body, status) in [
        ("application/csp-report", "x".repeat(17 * 1024), 413),
        ("application/csp-report", "{".to_owned(), 400),
        ("text/html", old.to_string(), 415),
    ] {
        assert_eq!(report(&house, kind, body).await, status);
    }
    assert!((metric(&house, noted).await - 2.0).abs() < 0.1 && metric(&house, unreadable).await > 2.0);
    let mut statuses = vec![];
    for _ in 0..80 {
        statuses.push(report(&house, "application/csp-report", old.to_string()).await);
    }
    assert!(statuses.contains(&204) && statuses.contains(&429), "{statuses:?}");
    assert!(metric(&house, dropped).await > 1.0);

    let log = fs::read_to_string(house.logs().join("ez-serve.log")).expect("a log");
    assert!(!log.contains(secret), "a part of somebody's address is in the log");
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let told: Vec<&Value> = lines.iter().filter(|line| line["fields"]["directive"] == "script-src-elem").collect();
    assert!(!told.is_empty() && told.len() < 80, "{} lines", told.len());
    assert_eq!(told[0]["fields"]["blocked"], "https://evil.example");
    assert_eq!(told[0]["fields"]["part"], "accounts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cookie_is_bound_to_this_host_and_to_tls() {
    let house = open_with(HouseOptions::named("cookies").with("SITE_URL", SITE)).await;
    let path = house.url().join("/accounts/login/").expect("a path");
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let form = http.get(path.clone()).send().await.expect("the form");
    let first = set(&form);
    let session = first[0].split(';').next().expect("a pair").to_owned();
    let html = form.text().await.expect("a page");
    let page = house::Page { url: path.clone(), status: 200, html };
    let csrf = page.attributes("main input[name=csrf]", "value").into_iter().next().expect("a token");
    let fields = [("csrf", csrf.as_str()), ("email", house.staff_email()), ("password", house.staff_password())];
    let answer = http.post(path).header("cookie", session).form(&fields).send().await.expect("an answer");
    assert_eq!(answer.status(), 303);
    let second = set(&answer);
    assert_eq!(second.len(), 2, "a session and a known browser: {second:?}");
    for cookie in first.iter().chain(&second) {
        assert!(cookie.starts_with("__Host-ez"), "{cookie}");
        for part in ["; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/"] {
            assert!(cookie.contains(part), "{part} is not in {cookie}");
        }
        assert!(!cookie.to_lowercase().contains("domain="), "{cookie}");
    }
    // Without TLS there is no such name, and nothing else changes.
    let plain = open("plain-cookies").await;
    assert!(stolen_cookie(&plain, plain.staff_email(), plain.staff_password()).await.starts_with("ez="));
}

fn set(answer: &Response) -> Vec<String> {
    let lines = answer.headers().get_all("set-cookie").iter();
    let lines: Vec<String> = lines.map(|line| line.to_str().expect("text").to_owned()).collect();
    assert!(!lines.is_empty(), "no cookie is set");
    lines
}
