//! Strings that are code to a database, a header, a log, a shell or a path: they stay what they are.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use house::{Customer, House, HouseOptions};
use serde_json::Value;

use crate::{
    accounts::{log_in, send},
    attention::staff,
    forms::{careful, careful_customer, filled, get, hidden, location, post, routes},
    shop::{SOON, open, open_with},
    world::tables,
};

/// What ends a statement, asks for more, or waits, in SQL; and what speaks to a shell, a path or a template.
const CODE: [&str; 12] = [
    "' or '1'='1",
    "'; drop table users; --",
    "\" or 1=1 --",
    "1; select pg_sleep(30)",
    "' union select password_hash from users --",
    "$$; select pg_sleep(30); $$",
    "\\'; select 1; --",
    "%' and 1=cast((select version()) as int) --",
    "$(sleep 30)`sleep 30`|sleep 30;",
    "../../../../etc/passwd",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "%s%s%n%x",
];
/// What ends a line in a header, a log or a letter.
const LINES: [&str; 4] =
    ["a\r\nSet-Cookie: owned=1", "a\nX-Owned: 1", "a\r\n\r\n<html>owned", "a@example.test\r\nBcc: owned@example.test"];

/// Every field that any form is read for, and those of a question in an address. Two are left out: one that nobody sees, because
/// whatever fills it in is turned away at once, and the token, without which no form is read.
const FIELDS: [&str; 61] = [
    "name",
    "email",
    "old",
    "password",
    "which",
    "id",
    "tag",
    "order",
    "hostname",
    "image",
    "ssh_key",
    "term",
    "currency",
    "reason",
    "until",
    "amount",
    "invoice",
    "refund",
    "instruction",
    "step",
    "verdict",
    "code",
    "role",
    "member",
    "invitation",
    "whom",
    "seed",
    "service",
    "credential",
    "ceremony",
    "passkey",
    "token",
    "days",
    "then",
    "account",
    "occasion",
    "next",
    "sure",
    "result",
    "restart",
    "due",
    "occurrence",
    "proration_date",
    "trial_days",
    "account:read",
    "services:read",
    "remember",
    "cf-turnstile-response",
    "person",
    "action",
    "subject",
    "from",
    "before",
    "session_id",
    "cancelled",
    "confirm",
    "confirmed",
    "renewed",
    "opened",
    "changed",
    "staff",
];

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Who there is, what was bought, and what was told: nothing of what every visit leaves behind.
const KEPT: [&str; 19] = [
    "accounts",
    "users",
    "orders",
    "reservations",
    "services",
    "subscriptions",
    "instructions",
    "removals",
    "plans",
    "members",
    "invitations",
    "viewings",
    "api_tokens",
    "totp",
    "passkeys",
    "recovery_codes",
    "factor_resets",
    "data_exports",
    "erasures",
];

async fn all(house: &House) -> BTreeMap<String, Vec<Value>> {
    let mut all = tables(house.db()).await;
    all.retain(|name, _| KEPT.contains(&name.as_str()));
    assert_eq!(all.len(), KEPT.len(), "a table has another name: {:?}", all.keys());
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strings_that_are_code_elsewhere_are_only_strings_here() {
    // Guesses cost nothing, so that every form is read every time.
    let options = HouseOptions::named("injection").with("EZ_LIMIT_ADDRESS", "100000").with("EZ_LIMIT_LOCK", "100000");
    let house = open_with(options).await;
    let (customer, browser) = careful_customer(&house).await;
    let colleague = staff(&house).await.visitor;
    let before = all(&house).await;
    let csrf = hidden(&browser.open("/accounts/password/").await.expect("a form"), "csrf");
    let of_staff = colleague.open("/accounts/password/").await.expect("a form");
    let of_staff = of_staff.attributes("main input[name=csrf]", "value").into_iter().next().expect("a token");
    for (number, code) in CODE.into_iter().enumerate() {
        for (route, takes_forms) in routes() {
            // The last part of an address, every word of a query, and every field that any form has.
            let path = filled(&route);
            let inside = route.replace("{id}", &encoded(code)).replace("{slug}", &encoded(code));
            let asking = FIELDS.map(|name| format!("{name}={}", encoded(code))).join("&");
            let visitor = if route.starts_with("/staff/") { &colleague } else { &browser };
            for asked in [filled(&inside), format!("{path}?{asking}")] {
                let status = get(visitor, &asked).await.status().as_u16();
                assert!(status < 500, "{asked}: {status}");
            }
            // Ending everything, or leaving, is not what is asked about here.
            if !takes_forms || route.contains("logout") || number > 3 {
                continue;
            }
            let mut fields: Vec<(&str, &str)> = FIELDS.into_iter().map(|name| (name, code)).collect();
            for (visitor, token) in [(&browser, csrf.as_str()), (&colleague, of_staff.as_str())] {
                fields.push(("csrf", token));
                let status = post(visitor, &path, &fields, &[]).await.status().as_u16();
                fields.pop();
                assert!(status < 500, "{path} with {code}: {status}");
            }
        }
    }
    assert_eq!(all(&house).await, before, "a string changed something");
    assert!(crate::accounts::is_in(&customer.visitor).await, "somebody was logged out by a string");
}

/// Every file under a folder.
fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a file").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(fs::read_to_string(&path).expect("a file in UTF-8"));
        }
    }
}

#[test]
fn every_field_that_a_form_is_read_for_is_tried() {
    let mut read = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (folder, marks) in
        [("src/web", &[".text(\"", ".exact(\"", "Field::new(\""][..]), ("templates", &[" name=\""][..])]
    {
        let mut texts = Vec::new();
        files(&root.join(folder), &mut texts);
        for (text, mark) in texts.iter().flat_map(|text| marks.iter().map(move |mark| (text, mark))) {
            read.extend(text.split(mark).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
    // Left out above; a list of faults, and what pages say to browsers; and names that a template is given.
    let others = ["leave_empty", "csrf", "scopes", "viewport", "htmx-config", "color-scheme"];
    let missing: Vec<&String> = read
        .iter()
        .filter(|name| !name.contains('{') && !others.contains(&name.as_str()) && !FIELDS.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "no string is tried in {missing:?}");
    assert!(read.len() > 40, "only {read:?} were found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_string_that_is_code_is_kept_and_looked_for_as_it_was_written() {
    let house = open("injected-names").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let colleague = staff(&house).await.visitor;
    for code in CODE {
        let tokens = "/accounts/tokens/";
        let values = [("name", code), ("password", customer.password.as_str()), ("days", "7"), ("account:read", "yes")];
        send(&customer.visitor, tokens, tokens, &values).await.ok().unwrap_or_else(|fault| panic!("{code}: {fault}"));
        let viewing = "/staff/viewing/";
        let begun = send(&colleague, viewing, viewing, &[("whom", &customer.email), ("reason", code)]).await;
        assert_eq!(begun.url.path(), "/dashboard/", "{code}: {}", begun.text());
        send(&colleague, viewing, "/staff/viewing/end/", &[]).await.ok().expect("ended");
        for name in ["action", "subject"] {
            let found = colleague.open(&format!("/staff/audit/?{name}={}", encoded(code))).await.expect("a page");
            let found = found.ok().unwrap_or_else(|fault| panic!("{code}: {fault}")).text();
            assert!(found.contains("Nothing was found"), "{code} as {name}: {found}");
        }
        for name in ["person", "account", "from"] {
            let refused = colleague.open(&format!("/staff/audit/?{name}={}", encoded(code))).await.expect("a page");
            assert_eq!(refused.status, 422, "{code} as {name}: {}", refused.text());
        }
    }
    let listed = customer.visitor.open("/accounts/tokens/").await.expect("a page").ok().expect("the tokens").text();
    let looked = colleague.open("/staff/viewing/").await.expect("a page").ok().expect("the list").text();
    for code in CODE {
        assert!(listed.contains(code), "{code} became something else: {listed}");
        assert!(looked.contains(code), "{code} became something else: {looked}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_string_logs_in_and_no_string_finds_somebody_else() {
    let house = open("injected-log-in").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    for code in CODE {
        for (email, password) in [
            (format!("{}{code}", customer.email), "x".to_owned()),
            (code.to_owned(), code.to_owned()),
            (format!("{}' --", customer.email), "x".to_owned()),
        ] {
            let browser = house.visitor().expect("a browser");
            let answer = log_in(&browser, &email, &password).await;
            assert!([422, 429].contains(&answer.status), "{email}: {} {}", answer.status, answer.text());
            assert!(!crate::accounts::is_in(&browser).await, "{email} got in");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_ends_a_line_gets_into_a_header_a_letter_or_a_log() {
    let house = open("line-ends").await;
    let (_, browser) = careful_customer(&house).await;
    for code in LINES {
        for path in [
            format!("/accounts/login/?next=/{}", encoded(code)),
            format!("/pricing/?term={}", encoded(code)),
            format!("/dashboard/orders/{}/", encoded(code)),
            format!("/billing/return/?order={0}&session_id={0}", encoded(code)),
            format!("/{}", encoded(code)),
        ] {
            for visitor in [&browser, &careful(&house)] {
                let answer = get(visitor, &path).await;
                let names: Vec<String> = answer.headers().keys().map(ToString::to_string).collect();
                assert!(!names.contains(&"x-owned".to_owned()), "{path}: {names:?}");
                assert!(!location(&answer).contains(['\r', '\n']), "{path}");
                let cookies = answer.headers().get_all("set-cookie").iter();
                let owned =
                    cookies.filter(|line| String::from_utf8_lossy(line.as_bytes()).starts_with("owned")).count();
                assert_eq!(owned, 0, "{path}");
            }
        }
    }
    let stranger = Customer::stranger(&house).expect("a stranger");
    for code in LINES {
        let visitor = house.visitor().expect("a browser");
        for (name, email) in [(code, stranger.email.as_str()), ("Ada", code)] {
            let values = [("name", name), ("email", email), ("password", stranger.password.as_str())];
            let answer = send(&visitor, "/accounts/signup/", "/accounts/signup/", &values).await;
            assert_eq!(answer.status, 422, "{name:?} {email:?}: {}", answer.text());
        }
        let answer = send(&visitor, "/accounts/reset/", "/accounts/reset/", &[("email", code)]).await;
        assert_eq!(answer.status, 422, "{code:?}: {}", answer.text());
        let values = [("email", code), ("role", "billing")];
        let answer = send(&browser, "/accounts/members/", "/accounts/members/invite/", &values).await;
        assert_eq!(answer.status, 422, "{code:?}: {}", answer.text());
        log_in(&visitor, code, code).await;
    }
    // A letter goes to whom it is for, and to nobody else; a name that is a sentence of a protocol is no name to a stranger.
    let odd = Customer::at(&house, "Ada. RCPT TO:<owned@example.test>", &stranger.email, &stranger.password)
        .expect("somebody");
    odd.sign_up().await.expect("signing up");
    let letter = house.mail().wait_for(&stranger.email, "confirm", 1, SOON).await.expect("the letter");
    assert!(letter.text.contains("Hello,") && !letter.text.contains("RCPT"), "{}", letter.text);
    assert!(!letter.html.contains("RCPT"), "{}", letter.html);
    assert!(
        house.mail().letters("owned@example.test", "").await.expect("a mailbox").is_empty(),
        "somebody else was written to"
    );
    let log = fs::read_to_string(house.logs().join("ez-serve.log")).expect("a log");
    assert!(log.lines().count() > 1, "nothing was written down");
    for line in log.lines().filter(|line| !line.is_empty()) {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "a line that nobody of ours wrote: {line}");
    }
}
