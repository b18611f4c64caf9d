//! `docs/SECURITY_RULES.md` says what the code does, and the code keeps what is said there of all of it.
use std::{fs, path::PathBuf, process::Command};

use house::Customer;
use serde_json::Value;

use crate::{
    accounts::{is_in, log_in},
    attention::staff,
    shop::open,
};

const RULES: &str = "docs/SECURITY_RULES.md";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

/// A text in one line, to be searched for a sentence.
fn flat(path: &str) -> String {
    read(path).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The value of a constant of a file.
fn constant(path: &str, name: &str) -> String {
    let text = read(path);
    let value = text.split(&format!("const {name}")).nth(1).and_then(|rest| rest.split_once('='));
    let value = value.and_then(|(_, value)| value.split_once(';')).map(|(value, _)| value.trim().to_owned());
    value.unwrap_or_else(|| panic!("{path} has no {name}"))
}

/// The default of a setting.
fn default(name: &str) -> String {
    let page = read("docs/configuration.md");
    let line =
        page.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap_or_else(|| panic!("no {name}"));
    line.split('`').nth(3).unwrap_or_else(|| panic!("{name} has no default")).to_owned()
}

#[test]
fn the_rules_name_the_figures_of_the_code() {
    let rules = flat(RULES);
    let password = "src/web/password.rs";
    for (says, path, name, is) in [
        ("12 characters to 256 bytes", password, "SHORTEST: usize", "12"),
        ("12 characters to 256 bytes", password, "LONGEST_BYTES", "256"),
        ("Argon2id (19 MiB, 2 passes, 1 lane)", password, "MEMORY_KIB", "19_456"),
        ("Argon2id (19 MiB, 2 passes, 1 lane)", password, "PASSES", "2"),
        ("Argon2id (19 MiB, 2 passes, 1 lane)", password, "LANES", "1"),
        ("the first 64 characters", password, "WEIGHED", "64"),
        ("256 wait", password, "WAITING_MAX", "256"),
        ("at most four of them for one account", password, "PLACES_EACH", "4"),
        ("1 to 100 characters on one line", "src/web/accounts/signup.rs", "LONGEST_NAME", "100"),
        ("64 KiB, 1 MiB, 16 KiB", "src/web/shell.rs", "FORM_LIMIT_BYTES", "64 * 1024"),
        ("64 KiB, 1 MiB, 16 KiB", "src/web/shell.rs", "WEBHOOK_LIMIT_BYTES", "1024 * 1024"),
        ("64 KiB, 1 MiB, 16 KiB", "src/web/reports.rs", "LIMIT_BYTES", "16 * 1024"),
        ("an answer within 30 s", "src/web/shell.rs", "ANSWER_WITHIN", "Duration::from_secs(30)"),
        ("eight times as many sign-ups", "src/web/limits.rs", "RANGE_NETWORKS", "8"),
        ("300 streams in one process", "src/web/streams.rs", "LIMIT", "300"),
        ("at most 20 of them for one account", "src/web/streams.rs", "SHARE", "20"),
        ("five unpaid orders", "src/web/checkout.rs", "UNPAID_LIMIT", "5"),
        ("at most 500 characters", "src/web/staff.rs", "LONGEST_TEXT", "500"),
    ] {
        assert!(rules.contains(says), "{RULES} does not say “{says}”");
        assert_eq!(constant(path, name), is, "{path}: {name}, where {RULES} says “{says}”");
    }
    for (says, setting, is) in [
        ("Five guesses for an address cost nothing", "EZ_LIMIT_ADDRESS", "5"),
        ("the twelfth locks for an hour", "EZ_LIMIT_LOCK", "12"),
        ("the twelfth locks for an hour", "EZ_LIMIT_LOCK_SECS", "3600"),
        ("Thirty forms of a kind within an hour", "EZ_LIMIT_NETWORK", "30"),
        ("It ends 14 days after the log-in", "EZ_SESSION_LONGEST_SECS", "1209600"),
        ("for everybody else after 12 hours", "EZ_SESSION_BRIEF_SECS", "43200"),
        ("after three days of rest", "EZ_SESSION_IDLE_SECS", "259200"),
        ("(an hour for staff)", "EZ_SESSION_STAFF_IDLE_SECS", "3600"),
    ] {
        assert!(rules.contains(says), "{RULES} does not say “{says}”");
        assert_eq!(default(setting), is, "{setting}, where {RULES} says “{says}”");
    }
    let words = constant("src/web/password.rs", "OUR_WORDS");
    for word in words.split('"').skip(1).step_by(2) {
        assert!(rules.contains(&format!("`{word}`")), "{RULES} does not name the word {word}");
    }
}

#[test]
fn whoever_is_asked_by_us_is_named_in_the_rules() {
    let rules = read(RULES);
    let table =
        rules.split("## Whom we talk to").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the table");
    let page = read("docs/configuration.md");
    let names = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let addresses: Vec<&str> = names
        .filter(|name| ["_URL", "_ADDRESS", "_ENDPOINT", "_DSN"].iter().any(|end| name.ends_with(end)))
        // Our own address, one for people to press, databases for backups, and a number of tries.
        .filter(|name| {
            !["SITE_URL", "EZ_TEMPORAL_UI_URL", "EZ_TEMPORAL_DATABASE_URL", "EZ_LIMIT_ADDRESS"].contains(name)
        })
        .collect();
    assert!(addresses.len() > 7, "{addresses:?}");
    for name in addresses {
        assert!(table.contains(&format!("`{name}`")), "{RULES} does not say whom {name} names");
    }
}

#[test]
fn no_client_of_ours_follows_where_it_is_led() {
    let listed = Command::new("git").args(["ls-files", "src/*.rs", "activities/*.rs"]).current_dir(root()).output();
    let listed = String::from_utf8(listed.expect("git ls-files").stdout).expect("paths");
    let mut clients = 0;
    for path in listed.lines().filter(|path| root().join(path).exists()) {
        let text = read(path);
        assert!(
            !text.contains("reqwest::Client::new()") && !text.contains("reqwest::get("),
            "{path}: follows redirects"
        );
        for client in text.split("Client::builder()").skip(1) {
            let made = client.split(';').next().unwrap_or_default();
            assert!(made.contains("redirect::Policy::none()"), "{path}: follows redirects");
            clients += 1;
        }
    }
    assert!(clients >= 6, "{clients} clients");
}

#[test]
fn unsafe_code_is_forbidden_in_every_room() {
    assert!(read("Cargo.toml").contains("unsafe_code = \"forbid\""));
    let listed =
        Command::new("git").args(["ls-files", "*Cargo.toml"]).current_dir(root()).output().expect("git ls-files");
    let listed = String::from_utf8(listed.stdout).expect("paths");
    assert!(listed.lines().count() >= 8, "{listed}");
    for manifest in listed.lines().filter(|path| root().join(path).exists()) {
        assert!(read(manifest).contains("[lints]\nworkspace = true"), "{manifest} has rules of its own");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_hidden_filled_in_by_managers_and_taken_whole_as_it_was_typed() {
    let house = open("password-fields").await;
    let long = format!("  Ümlaut {} Ω  ", "kettle-lantern ".repeat(12));
    assert!(long.len() > 128 && long.len() <= 256);
    let known = Customer::stranger(&house).expect("a stranger");
    let customer = Customer::at(&house, "Ada", &known.email, &long).expect("somebody");
    customer.sign_up().await.expect("signing up");
    customer.verify().await.expect("confirmed");
    customer.log_in().await.expect("a long password works");
    for wrong in [long.trim(), &long.to_lowercase(), &long[..64], &format!("{long} ")] {
        let other = house.visitor().expect("a browser");
        assert_eq!(log_in(&other, &customer.email, wrong).await.status, 422, "{wrong:?} is as good");
    }
    let nobody = house.visitor().expect("a browser");
    let mut seen = 0;
    for (visitor, path) in [
        (&nobody, "/accounts/signup/"),
        (&nobody, "/accounts/login/"),
        (&customer.visitor, "/accounts/password/"),
        (&customer.visitor, "/accounts/data/"),
        (&customer.visitor, "/accounts/close/"),
    ] {
        let page = visitor.open(path).await.expect("the form").ok().expect("the form");
        for css in ["main input[name=password]", "main input[name=old]"] {
            for kind in page.attributes(css, "type") {
                assert_eq!(kind, "password", "{path} shows what is typed");
                seen += 1;
            }
            for word in page.attributes(css, "autocomplete") {
                assert!(
                    ["current-password", "new-password"].contains(&word.as_str()),
                    "{path}: {word} helps no manager"
                );
            }
        }
        assert!(
            !page.html.contains("onpaste") && page.attributes("main input[maxlength]", "name").is_empty(),
            "{path}"
        );
    }
    assert_eq!(seen, 6, "a field for a password is not looked at");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_ins_are_noted_whether_they_fit_or_not_and_so_is_what_was_refused() {
    let house = open("noted").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let other = house.visitor().expect("a browser");
    log_in(&other, &customer.email, "not the password").await;
    log_in(&other, "nobody@example.test", "not the password").await;
    let forged =
        other.http.post(house.url().join("/accounts/login/").expect("a path")).header("origin", "https://evil.example");
    assert_eq!(forged.send().await.expect("an answer").status(), 403);
    assert!(is_in(&staff(&house).await.visitor).await);
    assert_eq!(customer.visitor.open("/staff/").await.expect("an answer").status, 404);
    let log = fs::read_to_string(house.logs().join("ez-serve.log")).expect("a log");
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let noted = |words: &str| lines.iter().filter(|line| line["fields"]["message"] == words).count();
    assert_eq!(noted("logged in"), 2);
    assert_eq!((noted("a log-in did not fit"), noted("a log-in did not fit anybody")), (1, 1));
    assert_eq!(noted("a form from elsewhere was refused"), 1);
    assert_eq!(noted("what somebody may not do was refused"), 1);
    for line in &lines {
        let at = line["timestamp"].as_str().expect("a time");
        assert!(at.ends_with('Z') && line["level"].is_string() && line["target"].is_string(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_is_logged_in_as_often_as_the_rules_say() {
    const BROWSERS: usize = 12;
    assert!(flat(RULES).contains("There may be any number of sessions for one account: each is listed"));
    let house = open("many-sessions").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let mut browsers = vec![];
    for _ in 0..BROWSERS {
        let browser = house.visitor().expect("a browser");
        log_in(&browser, &customer.email, &customer.password).await.ok().expect("logged in");
        browsers.push(browser);
    }
    for browser in &browsers {
        assert!(is_in(browser).await, "a later log-in ended an earlier one");
    }
    let page = customer.visitor.open("/accounts/sessions/").await.expect("a page").ok().expect("the list");
    assert_eq!(page.texts("main tbody tr").len(), BROWSERS + 1, "{}", page.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_logs_in_here_alone_as_the_rules_say() {
    assert!(flat(RULES).contains("There is no single sign-on."));
    let pages = read("docs/PERMISSIONS.md").to_lowercase();
    for word in ["oauth", "openid", "oidc", "saml", "sso"] {
        assert!(!pages.contains(word), "{word} is a way in that the rules do not name");
    }
    let house = open("own-log-in").await;
    let page = house.visitor().expect("a browser").open("/accounts/login/").await.expect("a page").ok().expect("it");
    let forms = page.attributes("form", "action");
    assert!(!forms.is_empty(), "{}", page.text());
    for way in forms.into_iter().chain(page.attributes("main a", "href")) {
        let way = page.url.join(&way).expect("an address");
        assert_eq!(way.origin(), house.url().origin(), "a log-in elsewhere");
    }
}

#[test]
fn chance_comes_from_a_generator_for_keys() {
    for (path, makes) in
        [("src/web/totp.rs", "SEED_BYTES] = rand::random()"), ("src/web/recovery.rs", "&rand::random()")]
    {
        assert!(read(path).contains(makes), "{path} takes its chance from elsewhere");
    }
    let listed = Command::new("git").args(["ls-files", "src/*.rs", "activities/*.rs"]).current_dir(root()).output();
    let listed = String::from_utf8(listed.expect("git ls-files").stdout).expect("paths");
    for path in listed.lines().filter(|path| root().join(path).exists()) {
        let text = read(path);
        for bad in ["SmallRng", "StdRng", "seed_from_u64", "from_seed(", "fastrand"] {
            assert!(!text.contains(bad), "{path}: {bad} can be guessed or repeated");
        }
    }
}
