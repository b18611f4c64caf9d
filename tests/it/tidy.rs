//! The house stays tidy: rooms import only what they may, files stay small, and the documents tell the truth.
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const FILE_LIMIT_LINES: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn tracked(endings: &[&str]) -> Vec<PathBuf> {
    let listed = Command::new("git").args(["ls-files"]).current_dir(root()).output().expect("git ls-files");
    let listed = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let found: Vec<PathBuf> = listed
        .lines()
        .filter(|path| endings.iter().any(|ending| path.ends_with(ending)))
        .map(PathBuf::from)
        .filter(|path| root().join(path).exists())
        .collect();
    assert!(!found.is_empty(), "no file ends with {endings:?}");
    found
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(&path)).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = read(manifest);
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            found.insert(name.trim().to_owned());
        }
    }
    found.retain(|name| !name.is_empty() && !name.starts_with('#'));
    found
}

fn assert_only(manifest: &str, allowed: &[&str]) {
    let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
    let extra: Vec<_> = dependencies(manifest).difference(&allowed).cloned().collect();
    assert!(extra.is_empty(), "{manifest} may not depend on {extra:?}");
}

#[test]
fn the_story_depends_on_nothing_that_could_do_io() {
    assert_only("workflows/Cargo.toml", &["contract", "domain", "temporalio-workflow"]);
    assert_only(
        "workflows/contract/Cargo.toml",
        &["domain", "serde", "temporalio-common", "temporalio-macros", "temporalio-protos", "uuid"],
    );
    assert_only("workflows/domain/Cargo.toml", &["serde", "thiserror", "uuid"]);
    for path in tracked(&[".rs"]).iter().filter(|path| path.starts_with("workflows")) {
        for (number, line) in read(path).lines().enumerate() {
            for word in line.split(|c: char| !(c.is_alphanumeric() || c == ':' || c == '_')) {
                let allowed = ["std::error", "std::pin", "std::time", "std::fmt"];
                let fenced = word.starts_with("std::") && !allowed.iter().any(|a| word.starts_with(a));
                let listed = word == "std::" && !line.trim_start().starts_with("//");
                assert!(!fenced && !listed, "{}:{}: {word} is not for the story", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn the_walls_between_the_rooms_stand() {
    let store = dependencies("activities/store/Cargo.toml");
    for stranger in ["contract", "workflows", "activities", "axum", "reqwest", "temporalio-sdk"] {
        assert!(!store.contains(stranger), "the store may not depend on {stranger}");
    }
    let hands = dependencies("activities/Cargo.toml");
    for stranger in ["workflows", "sqlx", "axum", "house", "standins"] {
        assert!(!hands.contains(stranger), "the hands may not depend on {stranger}");
    }
    let product = dependencies("Cargo.toml");
    for stranger in ["sqlx", "house", "standins", "proxmox-api", "lettre", "async-stripe"] {
        assert!(!product.contains(stranger), "the door may not depend on {stranger}");
    }
}

#[test]
fn sql_stands_only_in_the_store_and_the_environment_is_read_only_in_config() {
    for path in tracked(&[".rs"]) {
        let text = read(&path);
        let in_tests = path.starts_with("tests");
        if !in_tests && !path.starts_with("activities/store") {
            assert!(!text.contains("sqlx::"), "{}: SQL belongs into the store", path.display());
        }
        if !in_tests && path != Path::new("src/config.rs") {
            assert!(!text.contains("env::var"), "{}: only src/config.rs reads the environment", path.display());
        }
    }
}

#[test]
fn vendor_words_stand_only_with_their_vendor() {
    let homes = [
        ("async_stripe", "activities/payment/stripe"),
        ("proxmox_api::", "activities/machine/proxmox"),
        ("lettre::", "activities/mail"),
    ];
    for path in tracked(&[".rs"]).iter().filter(|path| !path.starts_with("tests")) {
        let text = read(path);
        for (word, home) in homes {
            let at_home = path.to_string_lossy().starts_with(home);
            assert!(at_home || !text.contains(word), "{}: {word} belongs into {home}", path.display());
        }
    }
}

#[test]
fn no_file_grows_over_its_limit() {
    let mut long = vec![];
    for path in tracked(&[".rs", ".md", ".html", ".sql", ".sh"]) {
        let lines = read(&path).lines().count();
        if lines > FILE_LIMIT_LINES {
            long.push(format!("{} has {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "over {FILE_LIMIT_LINES} lines: {long:#?}");
}

#[test]
fn no_room_hides_behind_a_catch_all_name() {
    for path in tracked(&[".rs"]) {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        for bad in ["utils", "util", "common", "manager", "helper", "helpers", "mod", "misc"] {
            assert_ne!(name, bad, "{}", path.display());
        }
    }
}

#[test]
fn every_lint_exception_says_why() {
    for path in tracked(&[".rs"]) {
        let text = read(&path);
        let (allow, allow_inner) = (concat!("#[", "allow("), concat!("#![", "allow("));
        assert!(!text.contains(allow) && !text.contains(allow_inner), "{}: use expect with a reason", path.display());
    }
}

#[test]
fn every_path_the_documents_name_exists() {
    let rooms =
        ["src/", "workflows/", "activities/", "migrations/", "templates/", "static/", "tests/", "docs/", "deploy/"];
    let mut missing = vec![];
    let mut seen = 0;
    for page in tracked(&[".md"]) {
        for quoted in read(&page).split('`').skip(1).step_by(2) {
            let path = quoted.split([':', '#', ' ']).next().unwrap_or("");
            let exact = !path.contains(['*', '<', '{', '…', '$']);
            if exact && rooms.iter().any(|room| path.starts_with(room)) {
                seen += 1;
                if !root().join(path).exists() {
                    missing.push(format!("{}: {path}", page.display()));
                }
            }
        }
    }
    assert!(seen > 20, "the walk names only {seen} paths");
    assert!(missing.is_empty(), "named but not there: {missing:#?}");
}

#[test]
fn every_migration_has_a_version_of_its_own() {
    let paths = tracked(&[".sql"]);
    let names =
        paths.iter().filter(|path| path.starts_with("migrations")).filter_map(|path| path.file_name()?.to_str());
    let versions: Vec<&str> = names.filter_map(|name| name.split_once('_').map(|(version, _)| version)).collect();
    let different: BTreeSet<&str> = versions.iter().copied().collect();
    assert!(versions.len() > 12, "the walk sees only {} migrations", versions.len());
    assert_eq!(different.len(), versions.len(), "two migrations under one version: {versions:#?}");
}

#[test]
fn the_configuration_page_is_what_the_binary_prints() {
    let printed = Command::new(env!("CARGO_BIN_EXE_ez")).arg("configuration").output().expect("ez configuration");
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).expect("UTF-8");
    assert_eq!(printed, read("docs/configuration.md"), "run: cargo run --bin ez configuration > docs/configuration.md");
}

#[test]
fn the_vendored_assets_name_their_version_and_licence() {
    let listed = read("static/README.md");
    for asset in ["bootstrap", "htmx"] {
        assert!(listed.to_lowercase().contains(asset), "static/README.md must name {asset}, its version and licence");
    }
}

#[test]
fn the_pages_load_nothing_from_elsewhere_and_carry_no_inline_code() {
    for path in tracked(&[".html"])
        .iter()
        .filter(|path| path.starts_with("templates/page") || path.starts_with("templates/part"))
    {
        let text = read(path);
        for bad in ["<style", " style=", " onclick=", "src=\"http", "javascript:"] {
            assert!(!text.contains(bad), "{}: {bad}", path.display());
        }
        for script in text.split("<script").skip(1) {
            assert!(
                script.trim_start().starts_with("src=") || script.contains("src=\""),
                "{}: inline script",
                path.display()
            );
        }
    }
}

#[test]
fn the_words_in_the_repository_speak_of_the_product_alone() {
    for path in tracked(&[".rs", ".md", ".toml", ".sql", ".html", ".yml", ".yaml", "Makefile", "run", "install-tools"])
    {
        let text = read(&path);
        for bad in [concat!("/wo", "rk/"), concat!("index.cra", "tes.io"), concat!("/ro", "ot/")] {
            assert!(!text.contains(bad), "{}: names {bad}", path.display());
        }
    }
}

#[test]
fn nobody_but_stripe_says_when_a_month_is_over() {
    let banned = [
        "interval '1 month",
        "interval '1 year",
        "months =>",
        "years =>",
        "'month'",
        "'year'",
        "chrono",
        "checked_add_months",
        "add_months",
        "replace_month",
        "nth_next(",
        "days_in_month",
        "month().length",
        "month().next",
        "replace_year",
        "OffsetDateTime::now_local",
        "current_local_offset",
        "Duration::weeks",
    ];
    // How many years the law wants books kept is not Stripe's to say.
    let elsewhere = |path: &&PathBuf| path.starts_with("tests") || path.starts_with("activities/store/privacy");
    for path in tracked(&[".rs"]).iter().filter(|path| !elsewhere(path)) {
        let text = read(path);
        for bad in banned {
            assert!(!text.contains(bad), "{}: {bad}: the periods of a subscription are Stripe's", path.display());
        }
    }
}
