//! `ez doctor --production`: each setting that would be unsafe with customers and money is named, one test for each. What
//! production refuses to start with is refused there, too.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

/// Settings that are safe, of an installation whose servers are all away: nothing here waits for them.
fn sound() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("EZ_ENVIRONMENT", "production"),
        ("SITE_URL", "https://portal.example.test"),
        ("EZ_SECRET_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ("DATABASE_URL", "postgres:///none?host=/nowhere"),
        ("EZ_TRUSTED_PROXIES", "10.0.0.0/8"),
        ("EZ_STAFF_NETWORKS", "198.51.100.0/24"),
        ("STRIPE_SECRET_KEY", "sk_live_0123456789abcdef"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_0123456789abcdef0123456789"),
        ("EZ_STRIPE_API_URL", "https://127.0.0.1:9"),
        ("PROXMOX_URL", "https://127.0.0.1:9"),
        ("PROXMOX_TOKEN_ID", "ez@pve!portal"),
        ("PROXMOX_TOKEN_SECRET", "0f8fad5b-d9cb-469f-a165-70867728950e"),
        ("EZ_DNS_URL", "http://127.0.0.1:9"),
        ("EZ_DNS_API_KEY", "0123456789abcdef"),
        ("EZ_DNS_ZONE", "example.test."),
        ("EZ_MAIL_FROM", "a@example.test"),
        ("EZ_STAFF_EMAIL", "b@example.test"),
        ("TEMPORAL_ADDRESS", "http://127.0.0.1:9"),
        ("EZ_SMTP_URL", "smtp://127.0.0.1:9"),
        // Any file of lines.
        ("EZ_REFUSED_PASSWORDS", concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE")),
    ])
}

fn doctor(settings: &BTreeMap<&str, &str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ez"));
    command.args(["doctor", "--production"]).env_clear().envs(settings);
    command
}

/// What it says about production, which it says before it asks anybody.
fn said(settings: &BTreeMap<&str, &str>) -> Vec<String> {
    let mut running = doctor(settings).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("ez doctor");
    let lines = BufReader::new(running.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let said: Vec<String> = lines
        .take_while(|line| !line.contains(" database "))
        .filter(|line| line.split_whitespace().nth(1) == Some("production"))
        .collect();
    let _ = running.kill();
    running.wait().expect("its end");
    said
}

/// One setting is named, alone, and says what is wrong with it.
fn assert_named(setting: &'static str, value: &'static str, environment: &'static str) {
    let mut settings = sound();
    settings.extend([(setting, value), ("EZ_ENVIRONMENT", environment)]);
    let faults: Vec<String> = said(&settings).into_iter().filter(|line| line.starts_with("FAULT")).collect();
    let about: Vec<&String> = faults.iter().filter(|line| line.contains(&format!(" {setting}: "))).collect();
    assert_eq!(about.len(), 1, "{setting}={value}: {faults:#?}");
    let others = faults.iter().filter(|line| !line.contains("EZ_ENVIRONMENT")).count();
    assert_eq!(others, 1, "{setting}={value} makes more unsafe than itself: {faults:#?}");
}

/// Production does not start with it, and development is told that it would not.
fn assert_refused(setting: &'static str, value: &'static str) {
    let mut settings = sound();
    settings.insert(setting, value);
    for command in ["serve", "work", "doctor"] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_ez")).arg(command).env_clear().envs(&settings).output().expect("ez");
        assert_eq!(output.status.code(), Some(1), "ez {command} started with {setting}={value}");
        let report = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(report.contains(&format!("- {setting}: ")), "ez {command} does not name {setting}: {report}");
        assert!(report.contains("1 fault(s)"), "{setting}={value}: {report}");
    }
    assert_named(setting, value, "development");
}

/// Production starts with it, and the doctor names it.
fn assert_told(setting: &'static str, value: &'static str) {
    assert_named(setting, value, "production");
}

macro_rules! each {
    ($check:ident: $($test:ident: $setting:literal, $value:literal;)*) => {
        $(#[test]
        fn $test() {
            $check($setting, $value);
        })*
    };
}

each! { assert_refused:
    a_site_without_tls: "SITE_URL", "http://portal.example.test";
    a_key_that_is_an_example: "EZ_SECRET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    a_further_key_that_is_an_example: "EZ_SECRET_KEYS_OTHER", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    a_cluster_whose_certificate_is_not_checked: "PROXMOX_VERIFY_SSL", "false";
    a_cluster_without_tls: "PROXMOX_URL", "http://127.0.0.1:9";
    a_test_key_of_stripe: "STRIPE_SECRET_KEY", "sk_test_0123456789abcdef";
    a_restricted_test_key_of_stripe: "STRIPE_SECRET_KEY", "rk_test_0123456789abcdef";
    stripe_without_tls: "EZ_STRIPE_API_URL", "http://127.0.0.1:9";
    payment_pages_without_tls: "EZ_STRIPE_PAGE_ORIGINS", "http://checkout.example.test";
    a_short_secret_of_the_webhook: "STRIPE_WEBHOOK_SECRET", "whsec_1";
    nobody_named_as_proxy: "EZ_TRUSTED_PROXIES", "";
    everybody_named_as_proxy: "EZ_TRUSTED_PROXIES", "0.0.0.0/0";
    too_many_guesses_without_a_wait: "EZ_LIMIT_ADDRESS", "21";
    too_many_guesses_before_a_lock: "EZ_LIMIT_LOCK", "101";
    a_lock_that_is_over_at_once: "EZ_LIMIT_LOCK_SECS", "899";
    a_session_that_lasts_for_months: "EZ_SESSION_LONGEST_SECS", "2592001";
    a_session_nobody_wanted_that_lasts_for_days: "EZ_SESSION_BRIEF_SECS", "43201";
    a_suspension_within_the_day: "EZ_POLICY_SUSPEND_AFTER_SECS", "86399";
    a_destruction_within_the_day: "EZ_POLICY_RETENTION_SECS", "86399";
    nobody_reminded: "EZ_POLICY_REMINDERS_SECS", ",";
    nobody_reminded_before_the_suspension: "EZ_POLICY_REMINDERS_SECS", "604800,691200";
    too_much_patience_with_slow_clients: "EZ_WEB_PATIENCE_SECS", "301";
    a_network_of_staff_in_which_everybody_stands: "EZ_STAFF_NETWORKS", "0.0.0.0/0";
    a_password_alone_for_staff_pages: "EZ_STAFF_SECOND_FACTOR", "false";
    an_hour_and_more_in_which_nobody_is_asked_again: "EZ_STEP_UP_SECS", "3601";
    too_little_time_to_object_before_factors_go: "EZ_FACTOR_RESET_SECS", "3599";
    a_copy_of_everything_that_lies_about_for_months: "EZ_POLICY_EXPORT_SECS", "2592001";
    an_erasure_within_the_day: "EZ_POLICY_ERASURE_SECS", "86399";
    an_erasure_that_takes_months: "EZ_POLICY_ERASURE_SECS", "2592001";
}

each! { assert_told:
    a_policy_that_is_only_reported: "EZ_CSP_REPORT_ONLY", "true";
    https_alone_for_less_than_a_year: "EZ_HSTS_SECS", "300";
    names_beneath_ours_without_tls: "EZ_HSTS_SUBDOMAINS", "false";
    too_many_forms_of_one_network: "EZ_LIMIT_NETWORK", "1001";
    staff_pages_that_are_there_from_everywhere: "EZ_STAFF_NETWORKS", "";
    no_list_of_stolen_passwords: "EZ_REFUSED_PASSWORDS", "";
    staff_who_rest_for_days: "EZ_SESSION_STAFF_IDLE_SECS", "86401";
    a_short_key_of_powerdns: "EZ_DNS_API_KEY", "short";
    powerdns_without_tls_beyond_our_network: "EZ_DNS_URL", "http://dns.example.test:8081";
    temporal_without_tls_beyond_our_network: "TEMPORAL_ADDRESS", "http://temporal.example.test:7233";
    letters_without_tls_beyond_our_network: "EZ_SMTP_URL", "smtp://mail.example.test";
    a_database_without_tls_beyond_our_network: "DATABASE_URL", "postgres://ez@db.example.test/ez";
    a_database_whose_certificate_is_not_checked: "DATABASE_URL", "postgres://ez@db.example.test/ez?sslmode=require";
    a_database_whose_name_is_not_checked: "DATABASE_URL", "postgres://ez@db.example.test/ez?sslmode=verify-ca";
    temporals_database_without_tls_beyond_our_network: "EZ_TEMPORAL_DATABASE_URL", "postgres://ez@db.example.test/temporal";
    traces_without_tls_beyond_our_network: "OTEL_EXPORTER_OTLP_ENDPOINT", "http://traces.example.test:4318";
    errors_without_tls_beyond_our_network: "SENTRY_DSN", "http://public@errors.example.test/7";
}

#[test]
fn every_setting_that_can_be_unsafe_has_a_test() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path);
    let tests = read("tests/it/doctor_production.rs");
    let mut settings = BTreeSet::new();
    for path in ["src/config/production.rs", "src/config/access.rs", "src/config/door.rs", "src/config/privacy.rs"] {
        let text = read(path);
        let rules = text.split("fn unsafe_").skip(1).filter_map(|rest| rest.split("\n    }\n").next());
        let words = rules.flat_map(|rules| rules.split('"'));
        let names = words.filter_map(|words| words.split_once(": ")).map(|(name, _)| name);
        let is_name =
            |name: &&str| name.len() > 3 && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        settings.extend(names.filter(is_name).map(str::to_owned));
    }
    assert!(settings.len() > 35, "{settings:?}");
    let missing: Vec<&String> = settings.iter().filter(|name| !tests.contains(&format!("\"{name}\""))).collect();
    assert!(missing.is_empty(), "no test makes these unsafe: {missing:?}");
}

#[test]
fn an_environment_that_is_not_production() {
    let mut settings = sound();
    settings.insert("EZ_ENVIRONMENT", "development");
    let faults = said(&settings);
    assert!(faults.len() == 1 && faults[0].contains("EZ_ENVIRONMENT: "), "{faults:?}");
}

#[test]
fn a_person_is_asked_without_tls() {
    let mut settings = sound();
    settings.extend([
        ("EZ_TURNSTILE_SITE_KEY", "a"),
        ("EZ_TURNSTILE_SECRET", "b"),
        ("EZ_TURNSTILE_URL", "http://127.0.0.1:9"),
    ]);
    let output = doctor(&settings).output().expect("ez doctor");
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && report.contains("- EZ_TURNSTILE_URL: "), "{report}");
}

#[test]
fn half_a_turnstile_and_a_hasty_preload_are_refused_everywhere() {
    for (settings_changed, named) in [
        ([("EZ_TURNSTILE_SITE_KEY", "a"), ("EZ_ENVIRONMENT", "development")], "EZ_TURNSTILE_SITE_KEY"),
        ([("EZ_TURNSTILE_SECRET", "a"), ("EZ_ENVIRONMENT", "development")], "EZ_TURNSTILE_SITE_KEY"),
        ([("EZ_HSTS_PRELOAD", "true"), ("EZ_HSTS_SECS", "300")], "EZ_HSTS_PRELOAD"),
        ([("EZ_HSTS_PRELOAD", "true"), ("EZ_HSTS_SUBDOMAINS", "false")], "EZ_HSTS_PRELOAD"),
        ([("EZ_REFUSED_DOMAINS", "nonsense"), ("EZ_ENVIRONMENT", "development")], "EZ_REFUSED_DOMAINS"),
    ] {
        let mut settings = sound();
        settings.extend(settings_changed);
        let output = doctor(&settings).output().expect("ez doctor");
        let report = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && report.contains(named), "{settings_changed:?}: {report}");
    }
}

#[test]
fn nothing_is_said_of_settings_that_are_safe() {
    let said = said(&sound());
    assert!(said.len() == 1 && said[0].starts_with("ok") && said[0].contains("nothing is unsafe"), "{said:?}");
}
