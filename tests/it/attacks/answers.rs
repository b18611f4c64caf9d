//! What every answer says and does not say, and what is not there at all.
use std::{collections::BTreeSet, fs, path::PathBuf};

use futures::future::join_all;
use house::{Customer, HouseOptions};
use reqwest::header;

use super::{say, status};
use crate::{
    attention::staff,
    forms::{careful, careful_customer, filled, get, location, post, routes},
    shop::{open, open_with},
};

fn read(path: &str) -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&file).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_names_its_kind_and_its_alphabet_and_nothing_of_the_inside() {
    let house = open("answers").await;
    let (_, customer) = careful_customer(&house).await;
    let colleague = staff(&house).await.visitor;
    let sheet = customer.open("/").await.expect("the front page").attributes("link[href], script[src]", "href");
    assert!(sheet.len() > 2, "{sheet:?}");
    let inside = ["sqlx", "panicked", "src/web", "postgres://", "backtrace", "rustc", "axum::", "hyper::"];
    for visitor in [&careful(&house), &customer, &colleague] {
        for path in routes().iter().map(|(route, _)| filled(route)).chain(sheet.iter().cloned()) {
            let answer = get(visitor, &path).await;
            for header in ["server", "x-powered-by", "x-aspnet-version", "via"] {
                assert!(!answer.headers().contains_key(header), "{path} tells {header}");
            }
            let kind =
                answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            let kind = kind.to_owned();
            if kind == "text/event-stream" {
                continue;
            }
            let leads = answer.status().is_redirection();
            let body = answer.text().await.expect("a body");
            assert!(!kind.is_empty() || (leads && body.is_empty()), "{path} does not say what it is");
            let named = kind.contains("charset=utf-8") || kind.starts_with("image/png");
            assert!(kind.is_empty() || named, "{path} is {kind}");
            if !path.starts_with("/static/") {
                for word in inside {
                    assert!(!body.to_lowercase().contains(word), "{path} speaks of {word}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_sources_and_other_methods_are_not_served() {
    let house = open("not-served").await;
    let visitor = careful(&house);
    for path in [
        "/.git/config",
        "/.git/HEAD",
        "/.svn/entries",
        "/.env",
        "/Cargo.toml",
        "/static/",
        "/static/0/",
        "/static/0/../../Cargo.toml",
        "/static/%2e%2e/%2e%2e/etc/passwd",
        "/metrics",
        "/debug/",
        "/docs/",
        "/api/",
        "/swagger.json",
        "/actuator/health",
    ] {
        assert_eq!(get(&visitor, path).await.status(), 404, "{path}");
    }
    let own = house.url().authority();
    for method in ["TRACE", "TRACK", "PUT", "DELETE", "PATCH", "PROPFIND", "DEBUG"] {
        let answer =
            say(&house, &format!("{method} /accounts/login/ HTTP/1.1\r\nHost: {own}\r\nX-Secret: 1\r\n")).await;
        assert!(status(&answer) == 405 && !answer.contains("X-Secret"), "{method}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_one_message_ends_is_never_in_doubt() {
    let house = open_with(HouseOptions::named("smuggling").with("EZ_WEB_PATIENCE_SECS", "3")).await;
    let own = house.url().authority();
    let second = format!("GET /smuggled/ HTTP/1.1\r\nHost: {own}\r\n\r\n");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let odd = [
        format!("Content-Length: 4\r\nContent-Length: {}\r\n", second.len()),
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Content-Length: +4\r\n".to_owned(),
        "Content-Length: 4, 4\r\nTransfer-Encoding : chunked\r\n".to_owned(),
        "Content-Length: 0x4\r\n".to_owned(),
    ];
    let answers = join_all(odd.iter().map(|lines| {
        let house = &house;
        async move { say(house, &format!("POST /accounts/login/ HTTP/1.1\r\nHost: {own}\r\n{form}{lines}")).await }
    }));
    for (lines, answer) in odd.iter().zip(answers.await) {
        assert!([400, 403, 408].contains(&status(&answer)), "{lines:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lines:?} was two messages: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_or_a_word_said_twice_is_read_once_and_a_field_nobody_asked_for_not_at_all() {
    let house = open("pollution").await;
    let customer = Customer::stranger(&house).expect("a stranger");
    let page = customer.visitor.open("/accounts/signup/").await.expect("the form");
    let csrf = page.attributes("main input[name=csrf]", "value").into_iter().next().expect("a token");
    let fields = [
        ("csrf", csrf.as_str()),
        ("csrf", "forged"),
        ("name", "Ada"),
        ("name", "Eve"),
        ("email", &customer.email),
        ("email", "eve@example.test"),
        ("password", &customer.password),
        ("password", "another password 77"),
        ("is_staff", "true"),
        ("email_verified_at", "2020-01-01"),
        ("account_id", "00000000-0000-0000-0000-000000000000"),
        ("role", "admin"),
    ];
    let answer = post(&customer.visitor, "/accounts/signup/?is_staff=true&email=eve@example.test", &fields, &[]).await;
    assert_eq!(answer.status(), 200);
    let made: Vec<(String, String, bool, bool)> = sqlx::query_as(
        "select name, email, is_staff, email_verified_at is null from users where not is_staff or name = 'Ada'",
    )
    .fetch_all(house.db())
    .await
    .expect("the users");
    assert_eq!(made, [("Ada".to_owned(), customer.email.clone(), false, true)]);
    customer.verify().await.expect("confirmed");
    customer.log_in().await.expect("the first password counts");
    let nobody = careful(&house);
    assert!(location(&get(&nobody, "/dashboard/?is_staff=true&user=1").await).starts_with("/accounts/login/"));
    assert_eq!(get(&customer.visitor, "/staff/?is_staff=true").await.status(), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_there_but_whoever_was_made_by_hand() {
    let house = open("no-accounts").await;
    let there: Vec<String> =
        sqlx::query_scalar("select email from users").fetch_all(house.db()).await.expect("the users");
    assert_eq!(there, [house.staff_email()], "somebody comes with the tables");
}

/// The names of all dependencies of a manifest's own code.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = read(manifest);
    let own = text
        .split("\n[dependencies]\n")
        .nth(1)
        .expect("dependencies")
        .split("\n[")
        .next()
        .unwrap_or_default()
        .to_owned();
    let own = own.lines().filter(|line| !line.starts_with('#'));
    own.filter_map(|line| Some(line.split(['.', ' ', '=']).next()?.to_owned()))
        .filter(|name| !name.is_empty())
        .collect()
}

/// Every one of them stands in the list of what we build on. A family stands on one line: `temporalio-sdk, -client`.
fn assert_listed(all: &BTreeSet<String>) {
    let listed = read("docs/OSS_STACK.md");
    let own = ["activities", "contract", "domain", "store", "workflows"];
    let family = |name: &str| {
        let stem = name.rfind(['-', '_']).and_then(|at| name.split_at_checked(at));
        stem.is_some_and(|(stem, rest)| listed.contains(stem) && listed.contains(rest))
    };
    let is_listed = |name: &str| own.contains(&name) || listed.contains(name) || family(name);
    let missing: Vec<&String> = all.iter().filter(|name| !is_listed(name)).collect();
    assert!(missing.is_empty(), "not listed in docs/OSS_STACK.md: {missing:?}");
}

#[test]
fn what_is_not_there_cannot_be_attacked_and_what_is_there_is_listed() {
    let manifests = [
        "Cargo.toml",
        "activities/Cargo.toml",
        "activities/store/Cargo.toml",
        "workflows/Cargo.toml",
        "workflows/contract/Cargo.toml",
        "workflows/domain/Cargo.toml",
    ];
    let all: BTreeSet<String> = manifests.iter().flat_map(|manifest| dependencies(manifest)).collect();
    assert!(all.len() > 40, "{all:?}");
    // No parser of XML, no directory, no template or expression that is read while it runs, no cache, no single sign-on, no
    // second protocol beside HTTP, no library of others for TLS or for old ciphers.
    for absent in [
        "quick-xml",
        "serde-xml-rs",
        "roxmltree",
        "xml-rs",
        "libxml",
        "ldap3",
        "sxd-xpath",
        "tera",
        "handlebars",
        "minijinja",
        "rhai",
        "mlua",
        "boa_engine",
        "evalexpr",
        "memcache",
        "redis",
        "samael",
        "openidconnect",
        "oauth2",
        "jsonwebtoken",
        "async-graphql",
        "juniper",
        "tokio-tungstenite",
        "webrtc",
        "multer",
        "native-tls",
        "md-5",
        "md5",
        "des",
        "rc4",
        "bincode",
        "regex",
    ] {
        assert!(!all.contains(absent), "{absent} is there: say in docs/SECURITY_CHECKLIST.md what keeps it safe");
    }
    let lock = read("Cargo.lock");
    for absent in ["native-tls", "multer", "redis"] {
        assert!(!lock.contains(&format!("name = \"{absent}\"\n")), "{absent} came with something");
    }
    assert_listed(&all);
    // Every package comes from the one registry, with a checksum.
    let sources: BTreeSet<&str> = lock.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    assert_eq!(sources.len(), 1, "{sources:?}");
}

#[test]
fn no_command_of_a_shell_is_made_of_words_from_outside() {
    let mut found = vec![];
    let mut folders = vec!["src".to_owned(), "activities".to_owned(), "workflows".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().expect("a kind").is_dir() {
                folders.push(path);
            } else if path.rsplit('.').next() == Some("rs") && read(&path).contains("Command::new(") {
                found.push(path);
            }
        }
    }
    assert_eq!(found, ["src/backup.rs"], "programs are started elsewhere, too");
    let backup = read("src/backup.rs");
    for shell in ["\"sh\"", "\"bash\"", "\"-c\""] {
        assert!(!backup.contains(shell), "a shell is started");
    }
}
