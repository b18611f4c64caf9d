//! The world as the vendors and our own tables see it, to compare and to ask for a clean slate.
use std::collections::BTreeMap;

use house::{House, Record, Vm};
use serde_json::Value;
use sqlx::{PgPool, Row};

/// Columns that say when something was written, not what: they may differ between two equal worlds.
const MOMENTS: &[&str] = &["read_at", "changed_at", "next_attempt_at", "attempts", "started_at", "finished_at"];

/// What mirrors Stripe, or says how far: it is written whenever Stripe tells of something, whoever did it.
pub(crate) const MIRRORS: &[&str] =
    &["billing_customers", "invoices", "payments", "refunds", "disputes", "mirror_looks", "rounds"];

/// Every row of every table that holds state of our own, without the moments of writing.
pub(crate) async fn tables(db: &PgPool) -> BTreeMap<String, Vec<Value>> {
    let names: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables where table_schema = 'public' order by 1",
    )
    .fetch_all(db)
    .await
    .expect("the tables");
    let mut all = BTreeMap::new();
    for name in names {
        // What operators watch says when something happened, not what there is.
        if ["_sqlx_migrations", "sessions", "vmids", "addresses", "backups", "webhook_refusals"]
            .contains(&name.as_str())
        {
            continue;
        }
        if MIRRORS.contains(&name.as_str()) {
            continue;
        }
        let rows = table(db, &name).await;
        all.insert(name, rows);
    }
    all
}

/// Every row of one table, without the moments of writing.
pub(crate) async fn table(db: &PgPool, name: &str) -> Vec<Value> {
    let query = format!("select to_jsonb(t) as row from {name} t order by to_jsonb(t)::text");
    let rows = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_all(db).await.expect("the rows");
    let without_moments = |row: sqlx::postgres::PgRow| {
        let mut row: Value = row.get("row");
        if let Some(columns) = row.as_object_mut() {
            columns.retain(|column, _| !MOMENTS.contains(&column.as_str()));
        }
        row
    };
    rows.into_iter().map(without_moments).collect()
}

/// Everything the vendors hold of us.
#[derive(Debug, PartialEq)]
pub(crate) struct Vendors {
    pub(crate) machines: BTreeMap<u32, Vm>,
    pub(crate) machine_state: Value,
    pub(crate) names: Vec<Record>,
    pub(crate) money: BTreeMap<String, Vec<Value>>,
    pub(crate) letters: Vec<String>,
}

/// Asks every vendor.
pub(crate) async fn vendors(house: &House) -> Vendors {
    let state = house.proxmox().expect("a stand-in").state().await.expect("the cluster");
    let money = house.stripe().state().await.expect("Stripe");
    let mail = house.mail().control.get("/api/v1/messages?limit=1000").await.expect("the mailbox");
    let mut letters: Vec<String> = list(&mail["messages"])
        .iter()
        .map(|message| {
            format!("{} {}", message["MessageID"].as_str().unwrap_or(""), message["Subject"].as_str().unwrap_or(""))
        })
        .collect();
    letters.sort();
    letters.dedup();
    let kinds = ["customers", "sessions", "subscriptions", "invoices", "charges", "payment_intents", "refunds"];
    Vendors {
        machines: house.machines().vms().await.expect("the machines"),
        machine_state: serde_json::json!({
            "vms": state["vms"], "disks": state["disks"], "leftovers": state["leftovers"]
        }),
        names: house.dns().records().await.expect("the names"),
        money: kinds.iter().map(|kind| ((*kind).to_owned(), list(&money[*kind]))).collect(),
        letters,
    }
}

/// A JSON list, or the values of a JSON object.
pub(crate) fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(rows) => rows.clone(),
        Value::Object(rows) => rows.values().cloned().collect(),
        _ => vec![],
    }
}

/// How many rows a query counts.
pub(crate) async fn count(db: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(db).await.unwrap_or_else(|fault| panic!("{query}: {fault}"))
}

/// Asks the vendors themselves whether anything of ours is left: no machine, disk, firewall rule, name, open payment page,
/// live subscription, unreturned money, reservation, entitlement or service, and no letter sent twice.
pub(crate) async fn assert_clean_slate(house: &House, what: &str) {
    let world = vendors(house).await;
    assert_eq!(world.machines, BTreeMap::new(), "{what}: a machine is left");
    let ours = |kind: &Value| list(kind).into_iter().filter(|d| !d.to_string().contains("900")).collect::<Vec<_>>();
    assert_eq!(ours(&world.machine_state["disks"]), Vec::<Value>::new(), "{what}: a disk is left");
    for kind in ["firewalls", "disks"] {
        assert_eq!(list(&world.machine_state["leftovers"][kind]), Vec::<Value>::new(), "{what}: {kind} left behind");
    }
    assert_eq!(world.names, Vec::<Record>::new(), "{what}: a name is left");
    for session in &world.money["sessions"] {
        assert_ne!(session["status"], "open", "{what}: a payment page is open");
    }
    for subscription in &world.money["subscriptions"] {
        assert_eq!(subscription["status"], "canceled", "{what}: a subscription lives");
    }
    for invoice in &world.money["invoices"] {
        assert_ne!(invoice["status"], "open", "{what}: an invoice is open");
    }
    for charge in &world.money["charges"] {
        if charge["paid"] == true {
            assert_eq!(charge["amount_refunded"], charge["amount"], "{what}: money was not given back");
        }
    }
    let open = "select count(*) from reservations where released_at is null";
    assert_eq!(count(house.db(), open).await, 0, "{what}: a reservation is held");
    let open = "select count(*) from entitlements where closed_at is null";
    assert_eq!(count(house.db(), open).await, 0, "{what}: an entitlement is open");
    let open = "select count(*) from services where status not in ('undone', 'expired')";
    assert_eq!(count(house.db(), open).await, 0, "{what}: a service lives");
    let open = "select count(*) from attention where settled_at is null";
    assert_eq!(count(house.db(), open).await, 0, "{what}: something waits for staff");
    assert_letters_once(&world.letters, what);
}

/// No subject reached the mailbox under two Message-IDs for the same occasion.
fn assert_letters_once(letters: &[String], what: &str) {
    let mut ids: Vec<&str> = letters.iter().filter_map(|letter| letter.split(' ').next()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "{what}: a letter was sent twice: {letters:#?}");
}

/// No request was ever refused by Stripe's own published contract.
pub(crate) async fn assert_stripe_contract(house: &House) {
    let refusals = house.stripe().get("/_control/mock_refusals").await.expect("the list");
    assert_eq!(list(&refusals), Vec::<Value>::new(), "stripe-mock refused a request");
}
