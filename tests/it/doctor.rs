//! `ez doctor`: one line for each setting and connection, and exit code 1 on any fault.
use std::{collections::BTreeMap, process::Command};

use house::{Customer, House, HouseOptions};
use serde_json::json;

use crate::{
    shop::{open, open_with},
    world::assert_stripe_contract,
};

async fn examine(house: &House) -> Result<String, String> {
    house.run_ez(&["doctor"], "").await.map_err(|fault| format!("{fault:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_a_sound_house_sound() {
    let house = open("doctor-sound").await;
    let report = examine(&house).await.expect("exit code 0");
    for topic in [
        "settings", "database", "temporal", "stripe", "billing", "webhooks", "proxmox", "machines", "dns", "mail",
        "proxies", "legal", "clock",
    ] {
        assert!(report.lines().any(|line| line.starts_with("ok") && line.contains(topic)), "{topic}: {report}");
    }
    assert!(report.contains("the token may do what it must, and nothing else"), "{report}");
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_says_what_the_token_may_do_that_nothing_needs() {
    let house = open("doctor-rights-many").await;
    let names = [
        "Datastore.AllocateSpace",
        "Permissions.Modify",
        "SDN.Use",
        "Sys.Audit",
        "VM.Allocate",
        "VM.Audit",
        "VM.Clone",
        "VM.Config.CPU",
        "VM.Config.Cloudinit",
        "VM.Config.Disk",
        "VM.Config.HWType",
        "VM.Config.Memory",
        "VM.Config.Network",
        "VM.Config.Options",
        "VM.Console",
        "VM.Monitor",
        "VM.PowerMgmt",
    ];
    let granted: BTreeMap<_, _> = names.into_iter().map(|name| (name, 1)).collect();
    let many = json!({"data": {"/": granted}});
    let fault = json!({"kind": "status", "path": "/access/permissions", "status": 200, "body": many});
    house.proxmox().expect("a stand-in").add_fault(fault).await.expect("a fault");
    let report = examine(&house).await.expect("more than enough");
    assert!(report.contains("nothing here needs Permissions.Modify, VM.Console: give it a role without"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_every_connection_that_fails() {
    let mut options = HouseOptions::named("doctor-ill");
    options.with_portal = false;
    let house = open_with(options).await;
    let wrong = [
        ("PROXMOX_TOKEN_SECRET", "wrong", "proxmox"),
        ("EZ_DNS_API_KEY", "wrong", "dns"),
        ("EZ_SMTP_URL", "smtp://127.0.0.1:9", "mail"),
        ("TEMPORAL_ADDRESS", "http://127.0.0.1:9", "temporal"),
        ("STRIPE_SECRET_KEY", "sk_test_wrong", "stripe"),
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:9/none", "database"),
        ("SITE_URL", "https://portal.example.test", "proxies"),
    ];
    for (name, value, topic) in wrong {
        let report = house.run_ez_with(&[(name, value)], &["doctor"]).await.map_err(|fault| format!("{fault:?}"));
        let report = report.expect_err("exit code 1");
        assert!(report.lines().any(|line| line.starts_with("FAULT") && line.contains(topic)), "{topic}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_a_proxy_that_does_not_say_who_asks() {
    let house = open("doctor-proxies").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    examine(&house).await.expect("no proxy is named, so nobody is taken for one");
    let named = [("EZ_TRUSTED_PROXIES", "127.0.0.0/8")];
    let examine = async || house.run_ez_with(&named, &["doctor"]).await.map_err(|fault| format!("{fault:?}"));
    let report = examine().await.expect_err("exit code 1");
    assert!(report.lines().any(|line| line.starts_with("FAULT") && line.contains("proxies")), "{report}");
    sqlx::query("update sessions set network = '198.51.100.1'").execute(house.db()).await.expect("another place");
    assert!(customer.visitor.open("/dashboard/").await.is_ok());
    examine().await.expect("the proxy says who asks");
}

#[test]
fn every_missing_setting_is_reported_at_once() {
    let output = Command::new(env!("CARGO_BIN_EXE_ez")).arg("doctor").env_clear().output().expect("ez doctor");
    assert_eq!(output.status.code(), Some(1));
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    for name in ["SITE_URL", "DATABASE_URL", "STRIPE_SECRET_KEY", "PROXMOX_URL", "EZ_DNS_URL", "EZ_SECRET_KEY"] {
        assert!(report.contains(name), "{name} is not in the report: {report}");
    }
}

#[test]
fn a_production_start_with_unsafe_settings_is_refused() {
    let settings = BTreeMap::from([
        ("EZ_ENVIRONMENT", "production"),
        ("SITE_URL", "http://portal.example.test"),
        ("EZ_SECRET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:9/none"),
        ("STRIPE_SECRET_KEY", "sk_test_1"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_1"),
        ("PROXMOX_URL", "https://127.0.0.1:9"),
        ("PROXMOX_TOKEN_ID", "ez@pve!portal"),
        ("PROXMOX_TOKEN_SECRET", "s"),
        ("PROXMOX_VERIFY_SSL", "false"),
        ("EZ_DNS_URL", "http://127.0.0.1:9"),
        ("EZ_DNS_API_KEY", "k"),
        ("EZ_DNS_ZONE", "example.test."),
        ("EZ_MAIL_FROM", "a@example.test"),
        ("EZ_STAFF_EMAIL", "b@example.test"),
    ]);
    for command in ["serve", "work", "doctor"] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_ez")).arg(command).env_clear().envs(&settings).output().expect("ez");
        assert_eq!(output.status.code(), Some(1), "ez {command} started");
        let report = String::from_utf8_lossy(&output.stderr).into_owned();
        let unsafe_ones =
            ["SITE_URL", "PROXMOX_VERIFY_SSL", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "EZ_TRUSTED_PROXIES"];
        for name in unsafe_ones {
            assert!(report.contains(name), "ez {command} does not name {name}: {report}");
        }
    }
}
