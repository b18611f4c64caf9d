//! Ten thousand orders and a hundred thousand lines of history: what a page has to read stays what it was.
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use house::{Customer, House, HouseOptions, LINES_EACH, Past};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::{
    shop::{SOON, open_with},
    world::count,
};

/// Tables that grow with every order. What is on sale and what there is to sell it from does not. The trail is not among them: whoever
/// looks through it chooses as they go.
const GROWING: &[&str] = &[
    "accounts",
    "users",
    "orders",
    "order_steps",
    "reservations",
    "subscriptions",
    "invoices",
    "entitlements",
    "services",
    "payment_events",
    "timeline",
    "letters",
    "members",
    "attention",
    "billing_customers",
    "payments",
    "refunds",
    "credit_moves",
    "instructions",
    "removals",
];

/// How a question begins that is about everybody there is: whom Stripe knows, asked when the mirror is built anew.
const ABOUT_EVERYBODY: &[&str] =
    &[r#"select stripe_customer_id as "id!" from accounts where stripe_customer_id is not null"#];

/// The one account whose pages are looked at: the first staff user's.
async fn account(house: &House) -> uuid::Uuid {
    sqlx::query_scalar("select account_id from users where email = $1")
        .bind(house.staff_email())
        .fetch_one(house.db())
        .await
        .expect("the staff user")
}

/// Ten thousand orders of two thousand accounts.
async fn years_pass(house: &House) {
    let past = Past { running: 2, ended: 2, lapsed: 1, ..Past::default() };
    house.crowd(2000, past).await.expect("a crowd");
    assert!(count(house.db(), "select count(*) from orders").await >= 10_000);
    assert!(count(house.db(), "select count(*) from timeline").await >= 10_000 * LINES_EACH);
    for table in GROWING {
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(house.db())
            .await
            .expect("a count");
        assert!(rows >= 1_000, "{table} has not grown: {rows} rows");
    }
}

/// The names of the tables that a plan reads from end to end.
fn scanned(plan: &Value, found: &mut Vec<String>) {
    match plan {
        Value::Object(node) => {
            if node.get("Node Type").and_then(Value::as_str) == Some("Seq Scan") {
                found.extend(node.get("Relation Name").and_then(Value::as_str).map(str::to_owned));
            }
            node.values().for_each(|inner| scanned(inner, found));
        }
        Value::Array(nodes) => nodes.iter().for_each(|inner| scanned(inner, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_the_product_asks_reads_a_growing_table_from_end_to_end() {
    let house = open_with(HouseOptions { with_portal: false, ..HouseOptions::named("growth-plans") }).await;
    house.furnish(account(&house).await, Past { running: 3, open: 2, ended: 2, lapsed: 1 }).await.expect("a past");
    years_pass(&house).await;
    let mut db = PgConnection::connect(house.database_url().as_str()).await.expect("a connection");
    // The plan that is kept for every argument, as a busy connection keeps it.
    db.execute("set plan_cache_mode = force_generic_plan").await.expect("a setting");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let mut asked = 0;
    let mut whole = vec![];
    for file in fs::read_dir(folder).expect("the questions") {
        let text = fs::read_to_string(file.expect("a file").path()).expect("a question");
        let kept: Value = serde_json::from_str(&text).expect("JSON");
        let query = kept["query"].as_str().expect("a query");
        if query.starts_with("truncate ") || ABOUT_EVERYBODY.iter().any(|everybody| query.starts_with(everybody)) {
            // The first empties a table without reading it, and has no plan.
            continue;
        }
        let arguments = kept["describe"]["parameters"]["Left"].as_array().map_or(0, Vec::len);
        let given = if arguments == 0 { String::new() } else { format!("({})", vec!["null"; arguments].join(", ")) };
        db.execute(AssertSqlSafe(format!("prepare asked as {query}"))).await.unwrap_or_else(|e| panic!("{query}: {e}"));
        let explain = format!("explain (format json) execute asked{given}");
        let row = db.fetch_one(AssertSqlSafe(explain)).await.unwrap_or_else(|e| panic!("{query}: {e}"));
        db.execute("deallocate asked").await.expect("forgotten");
        let mut found = vec![];
        scanned(&row.get::<Value, _>(0), &mut found);
        found.retain(|table| GROWING.contains(&table.as_str()));
        if !found.is_empty() {
            whole.push(format!("{found:?} by: {query}"));
        }
        asked += 1;
    }
    assert!(asked > 100, "only {asked} questions were looked at");
    assert!(whole.is_empty(), "read from end to end:\n{}", whole.join("\n\n"));
}

/// Blocks of tables and indexes that were asked for so far, and rows read by scanning growing tables from end to end.
async fn work(house: &House) -> (i64, i64) {
    // A connection tells its counts when it ends, so every other one is ended first.
    let mut db = PgConnection::connect(house.database_url().as_str()).await.expect("a connection");
    let began = Instant::now();
    loop {
        let others: i64 = sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'",
        )
        .fetch_one(&mut db)
        .await
        .expect("an answer");
        if others == 0 {
            break;
        }
        assert!(began.elapsed() < SOON, "connections do not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let blocks: i64 = sqlx::query_scalar(
        "select coalesce(sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0)), 0)::bigint
         from pg_statio_user_tables where relname not in ('vmids', 'addresses', 'reservations')",
    )
    .fetch_one(&mut db)
    .await
    .expect("the counts");
    let rows = sqlx::query("select relname::text, seq_tup_read from pg_stat_user_tables").fetch_all(&mut db).await;
    let scanned = rows
        .expect("the counts")
        .iter()
        .filter(|row| GROWING.contains(&row.get::<String, _>(0).as_str()))
        .map(|row| row.get::<i64, _>(1))
        .sum();
    db.close().await.expect("closed");
    (blocks, scanned)
}

/// What looking at each page costs: blocks, and rows of growing tables read by scanning.
async fn costs(house: &House, pages: &[String]) -> BTreeMap<String, (i64, i64)> {
    let staff = Customer::at(house, "Staff", house.staff_email(), house.staff_password()).expect("a browser");
    staff.log_in().await.expect("logged in");
    let mut costs = BTreeMap::new();
    for page in pages {
        let before = work(house).await;
        for _ in 0..4 {
            staff.visitor.open(page).await.expect("an answer").ok().unwrap_or_else(|e| panic!("{page}: {e:?}"));
        }
        let after = work(house).await;
        costs.insert(page.clone(), (after.0 - before.0, after.1 - before.1));
    }
    costs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_orders_do_not_change_what_a_page_has_to_read() {
    let house = open_with(HouseOptions { with_portal: false, ..HouseOptions::named("growth-pages") }).await;
    let account = account(&house).await;
    house.furnish(account, Past { running: 3, open: 2, ended: 2, lapsed: 1 }).await.expect("a past");
    // Lists that are cut off at fifty are full before and after.
    house.crowd(20, Past { running: 2, ended: 2, lapsed: 1, ..Past::default() }).await.expect("a small crowd");
    // Whoever tidies up by itself would be counted too.
    for table in GROWING.iter().chain(&["audit", "audit_particulars", "audit_unlinked"]) {
        let alone = format!("alter table {table} set (autovacuum_enabled = false)");
        house.db().execute(AssertSqlSafe(alone)).await.expect("no autovacuum");
    }
    house.start_web().await.expect("a web");
    let (order, service): (uuid::Uuid, uuid::Uuid) =
        sqlx::query_as("select order_id, id from services where account_id = $1 and status = 'running' limit 1")
            .bind(account)
            .fetch_one(house.db())
            .await
            .expect("a service");
    let pages: Vec<String> =
        ["/", "/pricing/", "/pricing/small/", "/dashboard/", "/billing/portal/", "/billing/invoices/", "/staff/"]
            .iter()
            .map(|page| (*page).to_owned())
            .chain([format!("/dashboard/orders/{order}/"), format!("/dashboard/vps/{service}/")])
            .collect();
    let young = costs(&house, &pages).await;
    years_pass(&house).await;
    let old = costs(&house, &pages).await;
    for (page, (blocks, _)) in &young {
        let (later, scanned) = old[page];
        assert!(*blocks > 0, "{page} read nothing");
        assert!(later <= 3 * blocks + 200, "{page} read {blocks} blocks with few orders, and {later} with many");
        assert!(scanned < 1000, "{page} went through {scanned} rows");
    }
}
