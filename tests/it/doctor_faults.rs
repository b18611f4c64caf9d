//! `ez doctor` in houses where everything answers and one thing is wrong: it says which, and what to do.
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use axum::{Router, http::HeaderMap, routing::any};
use hmac::{Hmac, KeyInit, Mac};
use house::{House, HouseOptions};
use serde_json::{Value, json};
use sha2::Sha256;
use temporalio_client::tonic::Request;
use temporalio_common::protos::temporal::api::workflowservice::v1::RegisterNamespaceRequest;

use crate::{
    money::story::at_dashboard,
    shop::{SOON, open_with, until},
    traces::hex,
    world::assert_stripe_contract,
};

/// The settings of Stripe's customer portal as our pages want them.
const PORTAL: [(&str, &str); 6] = [
    ("features[payment_method_update][enabled]", "true"),
    ("features[customer_update][enabled]", "true"),
    ("features[customer_update][allowed_updates][0]", "address"),
    ("features[customer_update][allowed_updates][1]", "tax_id"),
    ("features[subscription_cancel][enabled]", "false"),
    ("features[subscription_update][enabled]", "false"),
];
/// One of them otherwise, and what is said of it.
const PORTAL_FAULTS: [(&str, &str, &str); 5] = [
    ("features[payment_method_update][enabled]", "false", "switch on payment methods"),
    ("features[customer_update][enabled]", "false", "switch on billing address, tax id"),
    ("features[customer_update][allowed_updates][0]", "address", "switch on tax id"),
    ("features[subscription_cancel][enabled]", "true", "switch off cancelling subscriptions"),
    ("features[subscription_update][enabled]", "true", "switch off changing plans"),
];

/// A house whose web and workers are not needed.
async fn quiet(name: &str) -> House {
    let mut options = HouseOptions::named(name);
    options.with_portal = false;
    open_with(options).await
}

/// What the doctor says, which is not well, with some settings replaced.
async fn ill(house: &House, settings: &[(&str, &str)]) -> String {
    let report = house.run_ez_with(settings, &["doctor"]).await;
    format!("{:?}", report.expect_err("exit code 1")).replace("\\n", "\n")
}

/// Some line about this topic is a fault, says all of this, and the next line says what to do.
fn assert_named(report: &str, topic: &str, words: &[&str]) {
    let lines: Vec<&str> = report.lines().map(str::trim).collect();
    let found = lines.windows(2).any(|pair| {
        let named = pair[0].contains("FAULT") && pair[0].contains(topic);
        named && words.iter().all(|word| pair[0].contains(word)) && pair[1].contains("what to do: ")
    });
    assert!(found, "{topic}: no fault says {words:?} and what to do: {report}");
}

/// A thing is wrong alone: every other line is well.
fn assert_alone(report: &str) {
    let faults = report.lines().filter(|line| line.trim_start().starts_with("FAULT")).count();
    assert_eq!(faults, 1, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_a_privilege_the_token_lacks() {
    let house = quiet("doctor-rights").await;
    let few = json!({"data": {"/vms": {"VM.Audit": 1, "VM.PowerMgmt": 1}}});
    let fault = json!({"kind": "status", "path": "/access/permissions", "status": 200, "body": few});
    house.proxmox().expect("a stand-in").add_fault(fault).await.expect("a fault");
    let report = ill(&house, &[]).await;
    assert_named(
        &report,
        "proxmox",
        &["the token lacks", "VM.Clone", "VM.Allocate", "Datastore.AllocateSpace on /storage"],
    );
    assert_alone(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_a_template_that_is_missing() {
    let house = quiet("doctor-template").await;
    let changed = "update images set template_vmid = 4999 where slug = (select min(slug) from images)";
    sqlx::query(changed).execute(house.db()).await.expect("an image");
    let report = ill(&house, &[]).await;
    assert_named(&report, "proxmox", &["there is no template 4999"]);
    assert_alone(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_a_storage_that_is_full() {
    let house = quiet("doctor-storage").await;
    let storage: String =
        sqlx::query_scalar("select storage from nodes limit 1").fetch_one(house.db()).await.expect("a node");
    let full = json!({"data": [{"storage": storage, "active": 1, "avail": 1_u64 << 30, "content": "images"}]});
    let fault = json!({"kind": "status", "path": "/nodes/pve1/storage", "status": 200, "body": full});
    house.proxmox().expect("a stand-in").add_fault(fault).await.expect("a fault");
    let report = ill(&house, &[]).await;
    assert_named(&report, "proxmox", &["storage on node pve1 is full", &storage, "1 GiB free"]);
    assert_alone(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_a_clock_that_is_off() {
    let house = quiet("doctor-clock").await;
    let early = || async {
        let mut headers = HeaderMap::new();
        headers.insert("date", "Mon, 01 Jan 2024 00:00:00 GMT".parse().expect("a date"));
        (headers, r#"{"object":"list","data":[],"has_more":false,"url":"/v1/prices"}"#)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(early))).await });
    let report = ill(&house, &[("EZ_STRIPE_API_URL", &address)]).await;
    assert_named(&report, "clock", &["the clock of Stripe is", "behind ours"]);
    assert!(!report.contains("the clock of the database"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_a_webhook_secret_that_never_fitted() {
    // What the endpoint signs with, and what we were told: nothing Stripe sends fits.
    let told = "whsec_of_another_endpoint";
    let mut options = HouseOptions::named("doctor-webhook").with("STRIPE_WEBHOOK_SECRET", told);
    options.with_portal = false;
    let house = open_with(options).await;
    house.start_web().await.expect("the web");
    assert_eq!(post_event(&house, house.stripe_webhook_secret(), 0).await, 400);
    let report = until("the refusal is remembered", SOON, || async {
        let report = house.run_ez_with(&[], &["doctor"]).await.err()?;
        Some(format!("{report:?}").replace("\\n", "\n"))
    })
    .await;
    assert_named(&report, "webhooks", &["no signature has ever fitted"]);
    assert_alone(&report);
    // Stripe's own tries go on and do not fit, so the newest of ours may have to be a newer one.
    let numbers = AtomicU32::new(1);
    until("the doctor sees a signature that fits", SOON, || async {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        assert_eq!(post_event(&house, told, number).await, 200);
        let report = house.run_ez(&["doctor"], "").await.ok()?;
        report.contains("the last signature that fitted").then_some(())
    })
    .await;
}

/// Sends an event nobody waits for, signed with this secret, and gives the status of the answer.
async fn post_event(house: &House, secret: &str, number: u32) -> u16 {
    let at = time::OffsetDateTime::now_utc().unix_timestamp();
    let body = format!(
        r#"{{"id":"evt_doctor_{number}","type":"ping","created":{at},"livemode":false,"data":{{"object":{{"id":"x_1","object":"x"}}}}}}"#
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
    mac.update(format!("{at}.{body}").as_bytes());
    let signature = hex(&mac.finalize().into_bytes());
    let url = house.url().join("/webhooks/stripe/").expect("a path");
    let question =
        reqwest::Client::new().post(url).header("Stripe-Signature", format!("t={at},v1={signature}")).body(body);
    question.send().await.expect("an answer").status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_a_namespace_and_search_attributes_that_are_missing() {
    let house = quiet("doctor-temporal").await;
    let report = ill(&house, &[("TEMPORAL_NAMESPACE", "nowhere-at-all")]).await;
    assert_named(&report, "temporal", &["there is no namespace nowhere-at-all", "temporal operator namespace create"]);
    assert_alone(&report);

    let bare = format!("bare-{}", std::process::id());
    let client = house.temporal().await.expect("Temporal");
    let kept = Duration::from_hours(24).try_into().ok();
    let wanted = RegisterNamespaceRequest {
        namespace: bare.clone(),
        workflow_execution_retention_period: kept,
        ..RegisterNamespaceRequest::default()
    };
    client.connection().workflow_service().register_namespace(Request::new(wanted)).await.expect("a namespace");
    let report = until("the namespace is known", SOON, || async {
        let report = ill(&house, &[("TEMPORAL_NAMESPACE", &bare)]).await;
        report.contains("search attributes are missing").then_some(report)
    })
    .await;
    assert_named(
        &report,
        "temporal",
        &["search-attribute create", "EzNeedsAttention --type Bool", "EzStage --type Keyword"],
    );
    assert_alone(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_a_zone_that_is_missing_a_server_that_refuses_and_one_that_is_away() {
    let house = quiet("doctor-zone").await;
    let report = ill(&house, &[("EZ_DNS_ZONE", "nowhere.test.")]).await;
    assert_named(&report, "dns", &["nowhere.test"]);
    assert_alone(&report);
    let away = [
        ("EZ_DNS_API_KEY", "wrong"),
        ("EZ_SMTP_URL", "smtp://127.0.0.1:9"),
        ("TEMPORAL_ADDRESS", "http://127.0.0.1:9"),
    ];
    let report = ill(&house, &away).await;
    assert_named(&report, "dns", &["401"]);
    assert_named(&report, "mail", &["Connection"]);
    assert_named(&report, "temporal", &[]);
    assert!(report.contains("what to do: start Temporal and compare TEMPORAL_ADDRESS"), "{report}");
    let report = ill(&house, &[("STRIPE_SECRET_KEY", "sk_test_wrong")]).await;
    assert_named(&report, "stripe", &["our key is not accepted"]);
    assert_alone(&report);
}

/// Where the settings of Stripe's customer portal are changed.
async fn portal_settings(house: &House) -> String {
    let list = house.stripe().base().join("/v1/billing_portal/configurations?is_default=true").expect("a path");
    let key = house.setting("STRIPE_SECRET_KEY").expect("a key");
    let answer = reqwest::Client::new().get(list).bearer_auth(key).send().await.expect("an answer");
    let known: Value = answer.json().await.expect("JSON");
    format!("/v1/billing_portal/configurations/{}", known["data"][0]["id"].as_str().expect("an id"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_what_is_switched_wrongly_in_stripes_customer_portal() {
    let house = quiet("doctor-billing").await;
    let settings = portal_settings(&house).await;
    for (name, wrong, told) in PORTAL_FAULTS {
        at_dashboard(&house, &settings, &[(name, wrong)]).await;
        let report = ill(&house, &[("EZ_STRIPE_TAX", "true")]).await;
        assert_named(&report, "billing", &[told]);
        assert_alone(&report);
        if told == "switch on tax id" {
            house.run_ez(&["doctor"], "").await.expect("where no tax is worked out a tax id is of no use");
        }
        at_dashboard(&house, &settings, &PORTAL).await;
    }
    house.run_ez(&["doctor"], "").await.expect("everything is as it was");

    let path = "/v1/billing_portal/configurations";
    let refused = "The provided key does not have the required permissions for this endpoint.";
    let none = json!({"object": "list", "data": [], "has_more": false, "url": path});
    let refused = json!({"error": {"type": "invalid_request_error", "message": refused}});
    for (status, body, told) in
        [(200, none, "nobody has saved any"), (403, refused, "our key lacks the permission Customer portal, Write")]
    {
        let fault = json!({"kind": "status", "method": "GET", "path": path, "status": status, "body": body});
        house.stripe().add_fault(fault).await.expect("a fault");
        let report = ill(&house, &[]).await;
        assert_named(&report, "billing", &[told]);
        assert_alone(&report);
        house.stripe().clear_faults().await.expect("no fault");
    }
    assert_stripe_contract(&house).await;
}
