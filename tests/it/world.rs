//! The world as the vendors and our own tables see it, to compare and to ask for a clean slate.
use std::collections::{BTreeMap, BTreeSet};

use house::{House, Record, Vm};
use serde_json::Value;
use sqlx::{PgPool, Row};

/// Columns that say when something was written, not what: they may differ between two equal worlds.
const MOMENTS: &[&str] = &["read_at", "changed_at", "next_attempt_at", "attempts", "started_at", "finished_at"];

/// What mirrors Stripe, or says how far: it is written whenever Stripe tells of something, whoever did it.
pub(crate) const MIRRORS: &[&str] =
    &["billing_customers", "credit_moves", "invoices", "payments", "refunds", "disputes", "mirror_looks", "rounds"];

/// The machines that images are cloned from.
const TEMPLATES: [u32; 2] = [9000, 9001];

/// Every row of every table that holds state of our own, without the moments of writing.
pub(crate) async fn tables(db: &PgPool) -> BTreeMap<String, Vec<Value>> {
    let names: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE' order by 1",
    )
    .fetch_all(db)
    .await
    .expect("the tables");
    let mut all = BTreeMap::new();
    for name in names {
        // What operators watch, and who logged in from where, says when something happened, not what there is.
        let told =
            ["_sqlx_migrations", "sessions", "limits", "devices", "vmids", "addresses", "backups", "webhook_refusals"];
        if told.contains(&name.as_str()) || name.starts_with("audit") {
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
    pub(crate) letters: Vec<Letter>,
}

/// A letter as it stands in the mailbox, once for each time it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Letter {
    /// Its Message-ID, without angle brackets.
    pub(crate) id: String,
    pub(crate) receiver: String,
    pub(crate) subject: String,
}

impl Letter {
    fn of(message: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().trim_matches(['<', '>']).to_owned();
        Self {
            id: text(&message["MessageID"]),
            receiver: message["To"].to_string(),
            subject: text(&message["Subject"]),
        }
    }
}

/// How many letters whoever reads sees: one that came twice under one Message-ID is one.
pub(crate) fn distinct(letters: &[Letter]) -> usize {
    letters.iter().map(|letter| &letter.id).collect::<BTreeSet<_>>().len()
}

/// Asks every vendor.
pub(crate) async fn vendors(house: &House) -> Vendors {
    let state = house.proxmox().expect("a stand-in").state().await.expect("the cluster");
    let money = house.stripe().state().await.expect("Stripe");
    let mail = house.mail().control.get("/api/v1/messages?limit=1000").await.expect("the mailbox");
    let mut letters: Vec<Letter> = list(&mail["messages"]).iter().map(Letter::of).collect();
    letters.sort();
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

/// Whether one of the cluster's tasks is not over.
pub(crate) fn is_running(task: &Value) -> bool {
    task["endtime"].is_null()
}

/// Whether money is held for us that nobody took.
pub(crate) fn is_uncaptured(charge: &Value) -> bool {
    charge["paid"] == true && charge["captured"] == false
}

/// How many rows a query counts.
pub(crate) async fn count(db: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(db).await.unwrap_or_else(|fault| panic!("{query}: {fault}"))
}

/// Asks the vendors themselves whether anything of ours is left: no machine, disk, firewall rule, running task, name, open
/// payment page, live subscription, unreturned or uncaptured money, reservation, entitlement or service, and no letter sent twice.
pub(crate) async fn assert_clean_slate(house: &House, what: &str) {
    let world = vendors(house).await;
    assert_eq!(world.machines, BTreeMap::new(), "{what}: a machine is left");
    let of_template = |disk: &Value| TEMPLATES.iter().any(|template| disk["vmid"] == *template);
    let ours = |kind: &Value| list(kind).into_iter().filter(|disk| !of_template(disk)).collect::<Vec<_>>();
    assert_eq!(ours(&world.machine_state["disks"]), Vec::<Value>::new(), "{what}: a disk is left");
    for kind in ["firewalls", "disks"] {
        assert_eq!(list(&world.machine_state["leftovers"][kind]), Vec::<Value>::new(), "{what}: {kind} left behind");
    }
    let cluster = house.proxmox().expect("a stand-in").state().await.expect("the cluster");
    assert_eq!(list(&cluster["tasks"]).into_iter().find(is_running), None, "{what}: a task runs");
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
        assert!(!is_uncaptured(charge), "{what}: a charge is not captured: {charge}");
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
    assert_letters_once(house, &world.letters, what).await;
}

/// What people are told of one order or server, and told once: what is owed and was paid comes up again each month.
const TOLD_TWICE: &str = "
    select kind from letters
    where message_id is not null and (order_id is not null or subscription_id is not null or service_id is not null)
      and kind not in ('payment_received', 'payment_reminder', 'payment_confirmation', 'staff_attention', 'removals_held')
    group by kind, user_id, order_id, subscription_id, service_id
    having count(*) > 1";

/// Every letter in the mailbox is one that was written down; it came no oftener than it was handed over, which is once unless
/// its worker died or was not answered; and nobody was told one fact under two Message-IDs.
async fn assert_letters_once(house: &House, letters: &[Letter], what: &str) {
    let written: Vec<(String, i32)> =
        sqlx::query_as("select message_id, attempts from letters where message_id is not null")
            .fetch_all(house.db())
            .await
            .expect("the letters");
    let handed: BTreeMap<&str, i32> =
        written.iter().map(|(id, attempts)| (id.trim_matches(['<', '>']), *attempts)).collect();
    let mut came = BTreeMap::<&str, i32>::new();
    for letter in letters {
        *came.entry(letter.id.as_str()).or_default() += 1;
    }
    for (id, times) in came {
        let attempts = handed.get(id).unwrap_or_else(|| panic!("{what}: nobody wrote {id}: {letters:#?}"));
        assert!(times <= *attempts, "{what}: {id} came {times} times in {attempts} attempts: {letters:#?}");
    }
    let told: Vec<String> = sqlx::query_scalar(TOLD_TWICE).fetch_all(house.db()).await.expect("the letters");
    assert_eq!(told, Vec::<String>::new(), "{what}: somebody was told the same twice: {letters:#?}");
}

/// How our own requests to Stripe introduce themselves; staff at the dashboard do otherwise.
const OUR_AGENT: &str = "Stripe/v1 RustBindings/";

/// No request was ever refused by Stripe's own published contract, and each of our writes carried an idempotency key.
pub(crate) async fn assert_stripe_contract(house: &House) {
    let refusals = house.stripe().get("/_control/mock_refusals").await.expect("the list");
    assert_eq!(list(&refusals), Vec::<Value>::new(), "stripe-mock refused a request");
    let mut bare = writes_at_stripe(house).await;
    bare.retain(|request| !request["headers"]["idempotency-key"].is_string());
    assert_eq!(bare, Vec::<Value>::new(), "a write without an idempotency key");
}

/// Our own writes, as Stripe was asked for them.
pub(crate) async fn writes_at_stripe(house: &House) -> Vec<Value> {
    let mut writes = vec![];
    for method in ["POST", "DELETE"] {
        let asked = format!("/_control/requests?path=/v1/&method={method}");
        writes.extend(list(&house.stripe().get(&asked).await.expect("the requests")));
    }
    let ours =
        |request: &Value| request["headers"]["user-agent"].as_str().is_some_and(|agent| agent.starts_with(OUR_AGENT));
    // A preview is asked for by a POST, and changes nothing.
    writes.retain(|request| ours(request) && request["path"] != "/v1/invoices/create_preview");
    writes
}
