//! Alerts: sound, told apart from quiet times, about metrics that exist, and each with a page that says what to do.
use std::{collections::BTreeSet, fs, path::PathBuf, process::Command, time::Duration};

use house::{Customer, GOOD_CARD, House, OrderForm, order_id, tool};
use serde_json::{Value, json};
use temporalio_client::{UntypedWorkflow, WorkflowStartOptions, WorkflowTerminateOptions};
use temporalio_common::data_converters::RawValue;

use crate::{
    shop::{SOON, open, until},
    world::writes_at_stripe,
};

const RULES: &str = "docs/alerts.yml";
const DASHBOARD: &str = "docs/grafana.json";
/// Two rounds of samples, and as long again for a busy machine.
const SAMPLED: Duration = Duration::from_mins(2);

fn document(path: &str) -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&file).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

fn promtool(words: &[&str]) -> String {
    let program = tool("promtool", "tests/house/install-tools test").expect("promtool");
    let done =
        Command::new(program).args(words).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("promtool runs");
    let told = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "promtool {words:?}: {told}");
    told
}

/// The names of all alerts, in order.
fn alerts() -> Vec<String> {
    let names: Vec<String> =
        document(RULES).lines().filter_map(|line| Some(line.trim().strip_prefix("- alert: ")?.to_owned())).collect();
    assert!(names.len() > 10, "{names:?}");
    names
}

/// Every metric of ours or of Temporal's SDK that a text names.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
        .filter(|word| word.starts_with("ez_") || word.starts_with("temporal_"))
        .map(str::to_owned)
        .collect()
}

/// Every label that a text picks by its value: the metric, and the label as that metric tells it. Patterns are left out.
fn labels_in(text: &str) -> BTreeSet<(String, String)> {
    let text = text.replace('\\', "");
    let pieces: Vec<&str> = text.split('{').collect();
    let mut found = BTreeSet::new();
    for pair in pieces.windows(2) {
        let name = pair[0].rsplit(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')).next();
        let Some(name) = name.filter(|name| name.starts_with("ez_")) else { continue };
        let picked = pair[1].split('}').next().unwrap_or("");
        for (label, values) in picked.split(',').filter_map(|part| part.trim().split_once('=')) {
            let values = values.trim_start_matches('~').trim_matches('"').split('|');
            let told = values.filter(|value| !value.contains('.')).map(|value| format!("{label}=\"{value}\""));
            found.extend(told.map(|told| (name.to_owned(), told)));
        }
    }
    found
}

#[test]
fn promtool_finds_every_alert_sound() {
    let told = promtool(&["check", "rules", RULES]);
    assert!(told.contains("SUCCESS"), "{told}");
}

#[test]
fn every_alert_fires_when_it_should_and_keeps_quiet_when_not() {
    promtool(&["test", "rules", "docs/alerts_test.yml"]);
    let cases = document("docs/alerts_test.yml");
    for alert in alerts() {
        for what in ["fires", "keeps quiet"] {
            assert!(cases.contains(&format!("- name: {alert} {what}\n")), "no case says that {alert} {what}");
        }
    }
}

#[test]
fn every_alert_has_its_page_in_the_runbook() {
    let (rules, runbook) = (document(RULES), document("docs/RUNBOOK.md"));
    for alert in alerts() {
        assert!(runbook.contains(&format!("\n### {alert}\n")), "docs/RUNBOOK.md has no page {alert}");
        let link = format!("runbook: docs/RUNBOOK.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&link), "{alert} does not name its page");
        let page = runbook.split(&format!("\n### {alert}\n")).nth(1).unwrap_or("").split("\n### ").next().unwrap_or("");
        for part in ["**Means**", "**Hurts**", "**Look**", "**Do**", "**Over**"] {
            assert!(page.contains(part), "the page of {alert} does not say {part}");
        }
    }
}

/// Every question to Prometheus in a document, in order.
fn questions(document: &Value, found: &mut Vec<String>) {
    match document {
        Value::Array(parts) => {
            for part in parts {
                questions(part, found);
            }
        }
        Value::Object(parts) => {
            found.extend(parts.get("expr").and_then(Value::as_str).map(str::to_owned));
            for part in parts.values() {
                questions(part, found);
            }
        }
        _ => {}
    }
}

#[test]
fn promtool_understands_every_question_of_the_dashboard() {
    let dashboard: Value = serde_json::from_str(&document(DASHBOARD)).expect("a dashboard is JSON");
    let mut asked = vec![];
    questions(&dashboard, &mut asked);
    assert!(asked.len() > 20, "{asked:?}");
    // Each question as a rule of its own, because that is what promtool checks; JSON is YAML.
    let rule =
        |(number, expr): (usize, &String)| json!({"record": format!("dashboard:question:{number}"), "expr": expr});
    let rules: Vec<Value> = asked.iter().enumerate().map(rule).collect();
    let checked = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let file = std::env::temp_dir().join(format!("ez-dashboard-{}.yml", uuid::Uuid::new_v4()));
    fs::write(&file, checked.to_string()).expect("a file");
    let told = promtool(&["check", "rules", file.to_str().expect("a path in UTF-8")]);
    fs::remove_file(&file).expect("the file goes");
    assert!(told.contains(&format!("SUCCESS: {} rules found", asked.len())), "{told}");
}

#[test]
fn the_dashboard_shows_what_every_alert_looks_at() {
    let bare = |name: &String| name.trim_end_matches("_bucket").trim_end_matches("_count").to_owned();
    let shown: BTreeSet<String> = metrics_in(&document(DASHBOARD)).iter().map(bare).collect();
    let looked_at: BTreeSet<String> = metrics_in(&document(RULES)).iter().map(bare).collect();
    assert!(looked_at.len() > 20, "{looked_at:?}");
    let hidden: Vec<_> = looked_at.difference(&shown).collect();
    assert!(hidden.is_empty(), "alerts look at what the dashboard does not show: {hidden:?}");
}

/// A workflow nobody knows: its first task fails in the worker, as any fault in our program would.
async fn fail_a_workflow_task(house: &House) {
    let client = house.temporal().await.expect("Temporal");
    let id = format!("nobody-{}", house.name());
    let options = WorkflowStartOptions::new(house.task_queue().to_owned(), id.clone()).build();
    client.start_workflow(UntypedWorkflow::new("nobody"), RawValue::new(vec![]), options).await.expect("started");
    until("the worker notes the failed task", SOON, || async {
        let told = house.metrics().await.ok()?;
        told.contains("temporal_workflow_task_execution_failed").then_some(())
    })
    .await;
    let handle = client.get_workflow_handle::<UntypedWorkflow>(&id);
    handle.terminate(WorkflowTerminateOptions::default()).await.expect("terminated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_that_operators_watch_is_told_by_the_running_product() {
    let house = open("metrics").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let page = customer.order(&OrderForm::small("counted")).await.expect("the payment page");
    let back = customer.pay(&page, GOOD_CARD).await.expect("paying");
    let order = customer.order_page(&back).await.expect("the order's page");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    assert!(order_id(&order).is_ok());
    fail_a_workflow_task(&house).await;

    let watched: BTreeSet<String> = [RULES, DASHBOARD].iter().flat_map(|path| metrics_in(&document(path))).collect();
    assert!(watched.len() > 20, "{watched:?}");
    let picked: BTreeSet<_> = [RULES, DASHBOARD].iter().flat_map(|path| labels_in(&document(path))).collect();
    assert!(picked.len() > 5, "{picked:?}");
    let missing = || async {
        let told = house.metrics().await.expect("metrics");
        let names = metrics_in(&told);
        let labelled = |(name, label): &&(String, String)| {
            let begin = format!("{name}{{");
            told.lines().any(|line| line.starts_with(&begin) && line.contains(label.as_str()))
        };
        let mut missing: Vec<String> = watched.iter().filter(|name| !names.contains(*name)).cloned().collect();
        let unlabelled = picked.iter().filter(|pair| !labelled(pair));
        missing.extend(unlabelled.map(|(name, label)| format!("{name} with {label}")));
        missing
    };
    let all_told = || async { missing().await.is_empty().then_some(()) };
    let waited = tokio::time::timeout(SAMPLED, until("every metric is told", SAMPLED * 2, all_told)).await;
    let left = missing().await;
    assert!(waited.is_ok() && left.is_empty(), "watched, but not told: {left:#?}");
    assert_samples(&house).await;
}

/// Waits until operators are told of as many writes as Stripe was asked for. One that nobody times is missing for ever.
pub(crate) async fn assert_every_write_is_timed(house: &House) {
    // What is on sale was told to Stripe before the portal was up.
    let by_the_portal = |write: &&Value| {
        let path = write["path"].as_str().unwrap_or_default();
        !["/v1/products", "/v1/prices"].iter().any(|seeded| path.starts_with(seeded))
    };
    until("every write to Stripe is timed", SOON, || async {
        let told = house.metrics().await.expect("metrics");
        let lines = told.lines().filter(|line| {
            line.starts_with("ez_vendor_call_duration_seconds_count{")
                && line.contains(r#"vendor="stripe""#)
                && line.contains(r#"kind="write""#)
        });
        let timed: usize = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum();
        (writes_at_stripe(house).await.iter().filter(by_the_portal).count() == timed).then_some(())
    })
    .await;
}

/// What was sampled agrees with the house after one order.
async fn assert_samples(house: &House) {
    until("the samples agree with the house", SAMPLED, || async {
        let told = house.metrics().await.expect("metrics");
        let line = |begin: &str| told.lines().find(|line| line.starts_with(begin)).map(str::to_owned);
        let value = |begin: &str| line(begin)?.rsplit(' ').next()?.parse::<f64>().ok();
        let agrees = value(r#"ez_reservation_pool_used{pool="vmid"}"#) == Some(1.0)
            && value("ez_inbox_events_waiting") == Some(0.0)
            && value("ez_order_delivery_duration_seconds_count") == Some(1.0)
            && value("ez_temporal_up") == Some(1.0)
            && value("ez_database_up") == Some(1.0);
        agrees.then_some(())
    })
    .await;
    let waits = "insert into attention (id, workflow_id, occurrence, step, reason)
        values (gen_random_uuid(), 'letter-watched', 1, 'notify', 'the mail server is away')";
    sqlx::query(waits).execute(house.db()).await.expect("a letter that waits");
    until("a letter that waits is told as a letter's", SAMPLED, || async {
        let told = house.metrics().await.expect("metrics");
        let waiting: Vec<&str> =
            told.lines().filter(|line| line.starts_with("ez_steps_waiting{") && line.ends_with(" 1")).collect();
        let of_letters = |line: &&str| line.contains(r#"workflow="letter""#) && line.contains(r#"step="notify""#);
        (waiting.len() == 1 && waiting.iter().all(of_letters)).then_some(())
    })
    .await;
    // Labels stay few: nothing in them counts orders, customers or workflows.
    let told = house.metrics().await.expect("metrics");
    let ours = told.lines().filter(|line| line.starts_with("ez_"));
    for line in ours {
        for personal in ["order-", "sub_", "evt_", "cs_", "@", "uuid"] {
            assert!(!line.contains(personal), "a label that grows: {line}");
        }
    }
}
