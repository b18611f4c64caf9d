//! Wapiti, a scanner for weak places in web programs, against a running house: as nobody, as a customer with a server, as a member
//! of their account, and as staff. Part of `make test-long` alone: it sends some ten thousand requests. What it finds is read from its report, whole.
use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use house::{Customer, House, HouseOptions, OrderForm, Visitor, tool};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::{
    accounts::{invitations::member, is_in, session_cookie, stolen_cookie},
    shop::{SOON, open_with},
};

const GET_IT: &str = "tests/house/install-tools long";
/// How long one scan may take.
const SCAN_LIMIT: Duration = Duration::from_mins(40);
/// Every module that attacks what is there; those that only list, or that ask servers elsewhere, are left out.
const MODULES: &str = "backup,cookieflags,crlf,csp,csrf,exec,file,htaccess,http_headers,methods,permanentxss,redirect,\
     shellshock,sql,timesql,upload,xss";
/// The levels of its report. Source: `wapitiCore/language/vulnerability.py`.
const MEDIUM: u64 = 2;

/// How long one module may attack, in seconds: the forms of a log-in take a hash each.
const ATTACK_SECS: &str = "120";

/// How many links and forms lead from the first page to the last: each page gives its forms another token, so to the scanner
/// every form that is shown again is a new one.
const DEPTH: &str = "2";

/// What leads away, or ends what the scan goes on with: the session, the account it looks at, everything there is; and the
/// log-in once more for each page it may lead to.
const LEFT_OUT: [&str; 7] = [
    "/accounts/login/?next=*",
    "/accounts/logout/",
    "/accounts/close/",
    "/accounts/sessions/end/",
    "/accounts/current/",
    "/accounts/members/leave/",
    "/billing/portal/",
];
/// Where strangers begin.
const OPEN: [&str; 12] = [
    "/pricing/",
    "/accounts/signup/",
    "/accounts/login/",
    "/accounts/login/passkey/",
    "/accounts/reset/",
    "/accounts/verify/",
    "/accounts/unlock/",
    "/accounts/invitation/",
    "/accounts/erase/undo/",
    "/accounts/factors/keep/",
    "/privacy/",
    "/cookies/",
];
/// Where whoever is logged in begins.
const OWN: [&str; 16] = [
    "/dashboard/",
    "/accounts/",
    "/accounts/password/",
    "/accounts/address/",
    "/accounts/sessions/",
    "/accounts/again/",
    "/accounts/factors/",
    "/accounts/factors/app/",
    "/accounts/factors/passkey/",
    "/accounts/members/",
    "/accounts/activity/",
    "/accounts/tokens/",
    "/accounts/data/",
    "/accounts/erase/",
    "/billing/checkout/small/",
    "/billing/invoices/",
];
/// Where staff begin.
const STAFF: [&str; 7] = [
    "/staff/",
    "/staff/coming/",
    "/staff/factors/",
    "/staff/audit/?subject=x",
    "/staff/people/",
    "/staff/viewing/",
    "/staff/erasures/",
];

/// Where the scanner writes.
fn folder_of(house: &House, name: &str) -> PathBuf {
    house.logs().join(format!("wapiti-{}", name.replace(' ', "-")))
}

/// Scans from the front door and from these pages, with the session of somebody or of nobody, and gives the report.
async fn scan(house: &House, name: &str, seeds: &[&str], cookie: &str) -> Value {
    let folder = folder_of(house, name);
    fs::create_dir_all(&folder).expect("a folder");
    let report = folder.join("report.json");
    let mut command = Command::new(tool("wapiti", GET_IT).expect("wapiti"));
    command
        .args(["-u", house.url().as_str(), "--scope", "folder", "-m", MODULES, "-l", "2", "-f", "json", "-o"])
        .arg(&report)
        .args(["--flush-session", "--no-bugreport", "-v", "1", "--max-scan-time", "1800"])
        .args(["--max-attack-time", ATTACK_SECS, "-d", DEPTH, "--store-session"])
        .arg(folder.join("session"))
        .arg("--store-config")
        .arg(folder.join("config"));
    for (flag, path) in LEFT_OUT.iter().map(|path| ("-x", path)).chain(seeds.iter().map(|path| ("-s", path))) {
        command.args([flag, house.url().join(path).expect("a path").as_str()]);
    }
    // A cookie that is given stands before every other one: it stays in this session.
    command.args(["-C", cookie]);
    let log = fs::File::create(folder.join("wapiti.log")).expect("a log");
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log).kill_on_drop(true);
    let ended = timeout(SCAN_LIMIT, command.status()).await.expect("it ends in time").expect("wapiti runs");
    assert!(ended.success(), "{name}: wapiti ended with {ended}; see {}", folder.display());
    serde_json::from_str(&fs::read_to_string(&report).expect("a report")).expect("its report is JSON")
}

/// How many pages it saw, and what it found that is medium or worse: each class of what it looks for is gone through.
fn assert_clean(name: &str, report: &Value) {
    let looked_for = report["classifications"].as_object().map_or(0, serde_json::Map::len);
    let crawled = report["infos"]["crawled_pages_nbr"].as_u64().unwrap_or_default();
    assert!(looked_for > 10, "{name}: it looked for {looked_for} classes only: {}", report["infos"]);
    assert!(crawled > 8, "{name}: it saw {crawled} pages only: {}", report["infos"]);
    let mut bad = vec![];
    for kind in ["vulnerabilities", "anomalies"] {
        let classes = report[kind].as_object().unwrap_or_else(|| panic!("{name}: no {kind} in the report"));
        for (class, found) in classes {
            for one in found.as_array().unwrap_or_else(|| panic!("{name}: {class} is no list")) {
                let level = one["level"].as_u64().unwrap_or_else(|| panic!("{name}: {class} has no level: {one}"));
                // A page that says “wait” in time is no weakness; one that breaks is.
                let waits = kind == "anomalies" && class.contains("Resource consumption");
                if (level >= MEDIUM && !waits) || class.contains("Internal Server Error") {
                    bad.push(format!("{class} ({level}): {} {} {}", one["method"], one["path"], one["info"]));
                }
            }
        }
    }
    eprintln!(
        "wapiti, {name}: {crawled} pages, {looked_for} classes of weak places, {} found that are medium or worse",
        bad.len()
    );
    assert!(bad.is_empty(), "{name}: {bad:#?}");
}

fn patient(name: &str) -> HouseOptions {
    // It sends more forms than any limit lets pass, and every one shall be answered.
    HouseOptions::named(name).with("EZ_LIMIT_ADDRESS", "1000000").with("EZ_LIMIT_LOCK", "1000000")
}

#[ignore = "half an hour, and a machine for itself"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scanner_for_weak_places_finds_nothing_medium_or_worse() {
    let house = open_with(patient("scanner")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let order = customer.buy(&OrderForm::small("scanned-1")).await.expect("buying");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    // One session for all it asks: the tokens of its forms are good, and what refuses a wrong one can be told from the rest.
    let visit = reqwest::get(house.url().join("/accounts/login/").expect("a path")).await.expect("the form");
    assert_clean("as nobody", &scan(&house, "nobody", &OPEN, &session_cookie(&visit)).await);
    scan_as(&house, "customer", &OWN, (&customer.email, &customer.password), "/accounts/tokens/").await;
}

/// Scans as somebody who is logged in to the end, and asserts that a form was seen that only they have, and nothing was found.
async fn scan_as(house: &House, name: &str, seeds: &[&str], (email, password): (&str, &str), form: &str) {
    let cookie = stolen_cookie(house, email, password).await;
    let report = scan(house, name, seeds, &cookie).await;
    let log = fs::read_to_string(folder_of(house, name).join("wapiti.log")).expect("a log");
    let sent = format!("POST {}", house.url().join(form).expect("a path"));
    assert!(log.contains(&sent), "the scan as a {name} never saw the form of {form}");
    assert_clean(&format!("as a {name}"), &report);
    let browser = Visitor::with_cookie(house.url(), &cookie).expect("a browser");
    assert!(is_in(&browser).await, "the scan was logged out on its way: it saw nothing behind the log-in");
}

#[ignore = "half an hour, and a machine for itself"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scanner_that_is_a_member_of_an_account_finds_nothing_medium_or_worse() {
    let house = open_with(patient("scanner-member")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let order = customer.buy(&OrderForm::small("scanned-2")).await.expect("buying");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let member = member(&house, &customer, "billing").await;
    scan_as(&house, "member", &OWN, (&member.email, &member.password), "/accounts/password/").await;
    let kept = customer.visitor.open("/accounts/members/").await.expect("a page").ok().expect("the members");
    assert!(kept.text().contains(&customer.email), "the scan took the account's owner out: {}", kept.text());
}

#[ignore = "half an hour, and a machine for itself"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scanner_that_is_staff_finds_nothing_medium_or_worse() {
    let house = open_with(patient("scanner-staff")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let order = customer.buy(&OrderForm::small("scanned-3")).await.expect("buying");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let staff = (house.staff_email(), house.staff_password());
    scan_as(&house, "member of staff", &STAFF, staff, "/staff/viewing/").await;
}
