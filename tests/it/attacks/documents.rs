//! What the documents list is what there is: keys, ways in, paths, words of the log, crates that occur twice or are known to be weak, and
//! a proxy that keeps its safe defaults.
use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use crate::forms::routes;

const RULES: &str = "docs/SECURITY_RULES.md";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

/// One chapter of the rules.
fn chapter(name: &str) -> String {
    let rules = read(RULES);
    let found = rules.split(&format!("\n## {name}\n")).nth(1).and_then(|rest| rest.split("\n## ").next());
    found.unwrap_or_else(|| panic!("{RULES} has no chapter {name}")).to_owned()
}

/// Every word in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The files of ours that hold a text.
fn holding(words: &str) -> BTreeSet<String> {
    let found =
        Command::new("git").args(["grep", "-lF", words, "--", "src"]).current_dir(root()).output().expect("git grep");
    String::from_utf8(found.stdout).expect("paths").lines().map(str::to_owned).collect()
}

#[test]
fn every_secret_stands_among_the_keys() {
    let keys = chapter("Keys and algorithms");
    let page = read("docs/configuration.md");
    let secrets: Vec<&str> =
        page.lines().filter(|line| line.ends_with("(secret) |")).filter_map(|line| line.split('`').nth(1)).collect();
    assert!(secrets.len() > 8, "{secrets:?}");
    for secret in secrets {
        assert!(quoted(&keys).contains(&secret), "{RULES} does not say what becomes of {secret}");
    }
}

#[test]
fn every_way_in_is_one_that_is_listed() {
    let ways = chapter("Ways in");
    let listed: BTreeSet<String> =
        quoted(&ways).into_iter().filter(|word| word.starts_with("src/web/")).map(str::to_owned).collect();
    let log_in = holding("visitor.log_in(");
    assert!(
        !log_in.is_empty() && log_in.is_subset(&listed),
        "sessions are logged in by {log_in:?}, listed are {listed:?}"
    );
    let paths: BTreeSet<String> = routes().into_iter().map(|(path, _)| path).collect();
    for path in quoted(&ways).into_iter().filter(|word| word.starts_with('/')) {
        assert!(paths.contains(path), "{RULES} names the way in {path}, which is not there");
    }
}

#[test]
fn every_page_is_for_somebody_the_rules_name() {
    let who = chapter("Who may do what");
    let named = quoted(&who);
    for (path, _) in routes() {
        let first = path.split('/').nth(1).unwrap_or_default();
        let whole = format!("/{first}");
        let folder = if first.is_empty() { "/".to_owned() } else { format!("/{first}/") };
        assert!(
            named.contains(&whole.as_str()) || named.contains(&folder.as_str()),
            "{RULES} does not say who may open {path}"
        );
    }
}

#[test]
fn what_is_noted_is_noted_in_the_words_the_rules_name() {
    let logs = chapter("Logs");
    let words: Vec<&str> =
        quoted(&logs).into_iter().filter(|word| word.contains(' ') && !word.starts_with("ez ")).collect();
    assert!(words.len() > 10, "{words:?}");
    for word in words {
        assert!(!holding(&format!("\"{word}\"")).is_empty(), "nothing notes “{word}”");
    }
}

#[test]
fn every_crate_that_occurs_twice_is_listed_with_the_reason() {
    let lock = read("Cargo.lock");
    let names: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(names.len() > 400, "only {} packages", names.len());
    let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for name in names {
        if !once.insert(name) {
            twice.insert(name);
        }
    }
    let stack = read("docs/OSS_STACK.md");
    let section = stack.split("\n## Versions that occur twice\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = section.expect("the section").lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: Vec<&str> = rows.flat_map(|row| row.split('|').next().unwrap_or_default().split("`, `")).collect();
    let listed: BTreeSet<&str> = listed.into_iter().map(|name| name.trim().trim_end_matches('`')).collect();
    assert_eq!(listed, twice, "left: docs/OSS_STACK.md, right: Cargo.lock");
}

#[test]
fn a_known_weakness_that_is_left_out_stands_in_the_rules_with_the_crates_that_bring_it() {
    let (components, left_out, lock) = (chapter("Components"), read(".cargo/audit.toml"), read("Cargo.lock"));
    let rows: Vec<Vec<&str>> = components.lines().filter(|line| line.starts_with("| `")).map(quoted).collect();
    let told: BTreeSet<&str> = rows.iter().map(|row| row[1]).collect();
    let ignored: BTreeSet<&str> = left_out.split('"').filter(|word| word.starts_with("RUSTSEC-")).collect();
    assert_eq!(told, ignored, "left: {RULES}, right: .cargo/audit.toml");
    for row in rows {
        let name = row[0];
        let bringers: BTreeSet<&str> = row[2..].iter().copied().collect();
        assert!(lock.contains(&format!("name = \"{name}\"\n")), "{name} is gone, and so is the reason to speak of it");
        let packages = lock.split("[[package]]").filter(|package| package.contains(&format!("\n \"{name}\",\n")));
        let brings = packages.filter_map(|package| package.split("name = \"").nth(1)?.split('"').next());
        assert_eq!(
            brings.collect::<BTreeSet<_>>(),
            bringers,
            "{name} comes with something else: is it used otherwise?"
        );
    }
}

#[test]
fn there_are_no_uploads_and_the_rules_say_so() {
    assert!(
        chapter("Input").split_whitespace().collect::<Vec<_>>().join(" ").contains("There are no uploads of files.")
    );
    let listed =
        Command::new("git").args(["ls-files", "templates/page", "templates/part"]).current_dir(root()).output();
    let listed = String::from_utf8(listed.expect("git ls-files").stdout).expect("paths");
    assert!(listed.lines().count() > 30, "{listed}");
    for path in listed.lines().filter(|path| root().join(path).exists()) {
        let text = read(path);
        assert!(!text.contains("type=\"file\"") && !text.contains("multipart/form-data"), "{path} takes a file");
    }
}

#[test]
fn what_every_process_says_goes_into_the_journal() {
    let (composed, logs) = (read("docker-compose.temporal.yml"), read("deploy/logs.yaml"));
    assert!(logs.contains("x-journal: &journal\n  logging: { driver: journald,"), "{logs}");
    let services =
        composed.split("\nservices:\n").nth(1).and_then(|rest| rest.split("\nvolumes:\n").next()).expect("services");
    let named = |line: &str| {
        line.strip_prefix("  ").filter(|name| !name.starts_with([' ', '#']))?.split(':').next().map(str::to_owned)
    };
    let services: BTreeSet<String> = services.lines().filter_map(named).collect();
    assert!(services.contains("serve") && services.contains("work"), "{services:?}");
    // What runs once for Temporal, and a mail catcher to try it with.
    let others = ["search-attributes", "mailpit"];
    for service in services.iter().filter(|name| !others.contains(&name.as_str())) {
        assert!(logs.contains(&format!("\n  {service}: *journal\n")), "what {service} says stays in its container");
    }
}

#[test]
fn the_proxy_keeps_its_safe_defaults() {
    let proxy = read("deploy/Caddyfile");
    assert!(proxy.lines().any(|line| line == "{$EZ_SITE_HOST} {"), "Caddy serves another site: {proxy}");
    // Without any of these Caddy gets a certificate that the world trusts, speaks TLS 1.2 and 1.3 with the ciphers of Go,
    // asks for no certificate of clients, and leads from HTTP to HTTPS.
    for weakened in
        ["http://", "tls ", "auto_https", "protocols", "ciphers", "curves", "client_auth", "insecure", "internal"]
    {
        let lines = proxy.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        assert!(!lines.clone().any(|line| line.contains(weakened)), "Caddy is told {weakened}");
    }
    let product = read("Cargo.toml");
    let rustls = product.lines().find(|line| line.starts_with("rustls = ")).expect("rustls");
    assert!(rustls.contains("\"ring\"") && !rustls.contains("tls10"), "{rustls}");
    assert!(!product.contains("dangerous"), "TLS without a check of certificates is built in");
}
