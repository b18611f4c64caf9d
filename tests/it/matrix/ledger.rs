//! The rows that are database steps. Triggers in the order's own tables refuse, are busy, sleep, or have the link spoil the
//! answer after the commit; each meant for one order and one step of it.
use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use house::{House, HouseOptions};
use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;

use super::{
    checks::{Repeats, World},
    order::{Bought, LIMIT, Story, When, waiting},
    rows::{Row, Vendor},
    story::{Aim, Cell, decide_firmly},
};
use crate::{
    attention::{needing_attention, staff},
    shop::{open_with, until},
};

/// One database step: the table it writes, the operation, and what the written row holds beside the order's id.
struct Written {
    row: Row,
    table: &'static str,
    operation: &'static str,
    holds: fn() -> Value,
}

const fn written(
    activity: &'static str,
    story: Story,
    (table, operation): (&'static str, &'static str),
    holds: fn() -> Value,
) -> Written {
    Written { row: Row { activity, story, when: When::Begin, aim: nothing }, table, operation, holds }
}

/// A database step has no call of a vendor.
fn nothing(_: &Bought<'_>) -> Aim {
    Aim { vendor: Vendor::Stripe, method: "", path: String::new(), contains: String::new() }
}

static WRITTEN: [Written; 15] = [
    written("ledger.reserve", Story::Delivered, ("reservations", "INSERT"), || json!({})),
    written("ledger.renumber", Story::Renumbered, ("reservations", "UPDATE"), || json!({})),
    written("ledger.adopt_number", Story::Adopted, ("reservations", "UPDATE"), || json!({})),
    written("ledger.step", Story::Delivered, ("order_steps", "INSERT"), || json!({"step": "name"})),
    written("ledger.paid", Story::Delivered, ("orders", "UPDATE"), || json!({"status": "provisioning"})),
    written("ledger.delivered", Story::Delivered, ("orders", "UPDATE"), || json!({"status": "delivered"})),
    written("ledger.queue_letter", Story::GivenUp, ("letters", "INSERT"), || json!({"kind": "order_abandoned"})),
    written("ledger.close_order", Story::Lapsed, ("orders", "UPDATE"), || json!({"status": "lapsed"})),
    written("ledger.raise_attention", Story::GivenUp, ("attention", "INSERT"), || json!({"step": "name"})),
    written("ledger.settle_attention", Story::GivenUp, ("attention", "UPDATE"), || json!({"verdict": "abandon"})),
    written("ledger.mirror_subscription", Story::Delivered, ("subscriptions", "UPDATE"), || json!({})),
    written("ledger.ask_leave", Story::Resumed, ("removals", "INSERT"), || json!({"kind": "suspend"})),
    written("ledger.change_service", Story::Resumed, ("services", "UPDATE"), || json!({"status": "suspended"})),
    written("ledger.change_plan", Story::Grown, ("reservations", "UPDATE"), || json!({"memory_mib": 4096})),
    written("ledger.note_instruction", Story::Told, ("instructions", "INSERT"), || json!({})),
];

/// Strikes where a row of `matrix_faults` says so; whoever uses it puts the trigger on the tables.
pub(crate) const TRIGGERS: &str = "
    create table matrix_faults (
        id serial primary key, tbl text not null, op text not null, pattern jsonb not null, kind text not null,
        times integer not null
    );
    create function matrix_strike() returns trigger language plpgsql as $$
    declare fault record;
    begin
        for fault in select * from matrix_faults where tbl = tg_table_name and op = tg_op and to_jsonb(new) @> pattern loop
            if nextval('matrix_struck_' || fault.id) <= fault.times then
                case fault.kind
                    when 'refuse' then
                        raise exception 'broken for good' using errcode = '23514', constraint = 'broken_for_good';
                    when 'strange' then raise exception 'broken for good' using errcode = 'XX001';
                    when 'busy' then raise exception 'sorry, too many clients already' using errcode = '53300';
                    when 'hang' then perform pg_sleep(11);
                    else raise notice 'link: %', fault.kind;
                end case;
            end if;
        end loop;
        return null;
    end $$;";

/// Counts above every number of strikes.
const FOR_EVER: i32 = i32::MAX;

async fn house(name: &str) -> House {
    let options = HouseOptions::named(name).with_links().with_gates().with("EZ_DATABASE_POOL_SIZE", "30");
    let house = open_with(options).await;
    sqlx::raw_sql(TRIGGERS).execute(house.db()).await.expect("the triggers");
    for table in WRITTEN.iter().map(|written| written.table).collect::<BTreeSet<_>>() {
        // A look at Stripe writes a subscription's period, too; its mirror is what writes the status.
        let change = if table == "subscriptions" { "update of status" } else { "insert or update" };
        let trigger =
            format!("create trigger matrix after {change} on {table} for each row execute function matrix_strike()");
        sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(house.db()).await.expect("a trigger");
    }
    house
}

/// Lays a fault on one database step of one order.
async fn lay(db: &PgPool, written: &Written, order: &Bought<'_>, kind: &str, times: i32) {
    let mut pattern = (written.holds)();
    pattern[if written.table == "orders" { "id" } else { "order_id" }] = json!(order.order);
    let id: i32 =
        sqlx::query_scalar("select nextval('matrix_faults_id_seq')::integer").fetch_one(db).await.expect("an id");
    let counter = format!("create sequence matrix_struck_{id}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(counter)).execute(db).await.expect("a counter");
    sqlx::query("insert into matrix_faults (id, tbl, op, pattern, kind, times) values ($1, $2, $3, $4, $5, $6)")
        .bind(id)
        .bind(written.table)
        .bind(written.operation)
        .bind(pattern)
        .bind(kind)
        .bind(times)
        .execute(db)
        .await
        .expect("a fault");
}

/// In how many rows the fault has struck as often as it should, or at all when that is without end.
async fn struck(house: &House) -> usize {
    let struck: i64 = sqlx::query_scalar(
        "select count(*) from matrix_faults f where coalesce(pg_sequence_last_value(('matrix_struck_' || f.id)::regclass), 0)
         >= case when f.times = 2147483647 then 1 else f.times end",
    )
    .fetch_one(house.db())
    .await
    .expect("the counters");
    usize::try_from(struck).expect("few")
}

async fn cells<'a>(house: &'a House, rows: &[&'static Written], kind: &str, times: i32) -> Vec<Cell<'a>> {
    let client = house.temporal().await.expect("Temporal");
    let mut cells = vec![];
    for written in rows {
        let cell = Cell::new(house, &client, &written.row, &[]).await;
        lay(house.db(), written, &cell.bought, kind, times).await;
        cells.push(cell);
    }
    cells
}

async fn ended_well(house: &House, column: &str, cells: &[Cell<'_>]) {
    // A letter that left while nobody could note it leaves once more, as the same one.
    ended_well_with(house, column, cells, Repeats::UnderOneId).await;
}

async fn ended_well_with(house: &House, column: &str, cells: &[Cell<'_>], repeats: Repeats) {
    assert_eq!(struck(house).await, cells.len(), "{column}: a fault never struck");
    assert_eq!(waiting(house).await, 0, "{column}: something waits for staff");
    let world = World::ask(house).await;
    for cell in cells {
        let what = format!("{} × {column}", cell.row.activity);
        world.assert_ended_well(&what, &cell.bought, repeats).await;
    }
}

async fn column(name: &str, column: &str, kind: &str, times: i32) {
    let house = house(name).await;
    let rows: Vec<_> = WRITTEN.iter().collect();
    let mut cells = cells(&house, &rows, kind, times).await;
    join_all(cells.iter_mut().map(Cell::live)).await;
    ended_well(&house, column, &cells).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_database_step_that_is_committed_and_whose_answer_is_lost_is_done_once() {
    column("matrix-db-lost", "work done but answer lost", "lose", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_database_step_whose_answer_is_garbage_is_done_once() {
    column("matrix-db-garbled", "malformed answer", "garble", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_database_step_that_is_refused_for_too_many_connections_is_done_later() {
    column("matrix-db-busy", "429/503", "busy", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_database_step_that_hangs_past_its_timeout_is_done_again() {
    column("matrix-db-hang", "hangs past its timeout", "hang", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_database_step_whose_worker_is_killed_after_the_commit_is_done_once() {
    let house = house("matrix-db-killed").await;
    let rows: Vec<_> = WRITTEN.iter().collect();
    let mut cells = cells(&house, &rows, "hold", 1).await;
    let kills = async {
        let mut seen = 0;
        while seen < WRITTEN.len() {
            until("one more step is committed", LIMIT, || async { (struck(&house).await > seen).then_some(()) }).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            seen = struck(&house).await;
            house.kill_worker().await.expect("kill -9");
            house.start_worker().await.expect("a new worker");
        }
    };
    tokio::join!(join_all(cells.iter_mut().map(Cell::live)), kills);
    ended_well_with(&house, "worker killed after the commit", &cells, Repeats::UnderOneId).await;
}

/// Each step refused for good, once by a rule of the tables and once for a reason nobody knows: staff see it, and a retry after
/// the repair ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_database_step_that_is_refused_for_good_or_strangely_waits_for_staff() {
    let house = house("matrix-db-refused").await;
    // Nothing may wait for the steps that say what waits and what was decided.
    let rows: Vec<_> = WRITTEN.iter().filter(|written| written.table != "attention").collect();
    let mut cells = cells(&house, &rows, "refuse", FOR_EVER).await;
    cells.extend(self::cells(&house, &rows, "strange", FOR_EVER).await);
    let number = cells.len();
    let person = async {
        let staff = staff(&house).await;
        let stuck: Vec<String> = until("every step waits", LIMIT, || async {
            let found: Vec<String> =
                sqlx::query_scalar("select workflow_id from attention where settled_at is null and step = 'record'")
                    .fetch_all(house.db())
                    .await
                    .expect("what waits");
            (found.len() == number).then_some(found)
        })
        .await;
        let shown: BTreeSet<String> = stuck.iter().cloned().collect();
        until("Temporal shows exactly what staff see", LIMIT, || async {
            let found: BTreeSet<String> = needing_attention(&house).await.into_iter().collect();
            (found == shown).then_some(())
        })
        .await;
        let page = staff.visitor.open("/staff/").await.expect("the staff page").text();
        assert!(page.contains(&format!("Waiting for a person ({number})")), "{page}");
        assert_eq!(page.matches("broken_for_good").count(), rows.len(), "{page}");
        assert_eq!(page.matches("XX001").count(), rows.len(), "{page}");
        sqlx::query("update matrix_faults set times = 1").execute(house.db()).await.expect("mended");
        for workflow_id in &stuck {
            decide_firmly(&house, workflow_id, &[("verdict", "retry")]).await;
        }
    };
    tokio::join!(join_all(cells.iter_mut().map(Cell::live)), person);
    ended_well(&house, "refused for good, retried", &cells).await;
}

/// Who reads the services and waits for their table: their sessions at the server, and since when.
async fn readers(db: &PgPool) -> Vec<(i32, OffsetDateTime)> {
    sqlx::query_as(
        "select pid, query_start from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
         and query like '%from services%'",
    )
    .fetch_all(db)
    .await
    .expect("the sessions")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_services_that_hangs_or_is_cut_off_is_read_again() {
    let house = house("matrix-db-services").await;
    let client = house.temporal().await.expect("Temporal");
    let mut bought = Bought::new(&house, Story::Resumed, "services").await;
    bought.suspend_after_secs = 15;
    bought.begin(&client).await;
    bought.page_opens().await;
    bought.pay().await;
    bought.reaches("delivered").await;
    let mut lock = house.db().begin().await.expect("a transaction");
    bought.stops_paying().await;
    // This letter reads the services too; nothing but the suspension is left to do when it is sent.
    bought.is_told("payment_reminder").await;
    sqlx::query("lock table services in access exclusive mode").execute(&mut *lock).await.expect("the lock");
    let status: String =
        sqlx::query_scalar("select status from services").fetch_one(&mut *lock).await.expect("its own");
    assert_eq!(status, "running", "the lock came too late");
    for _ in 0..2 {
        let cut = until("the services are read", LIMIT, || async { readers(house.db()).await.first().copied() }).await;
        sqlx::query("select pg_terminate_backend($1)").bind(cut.0).execute(house.db()).await.expect("cut off");
        until("that reader is gone", LIMIT, || async { (!readers(house.db()).await.contains(&cut)).then_some(()) })
            .await;
    }
    let first = until("the services are read", LIMIT, || async { readers(house.db()).await.first().copied() }).await;
    until("another try has begun", LIMIT, || async {
        readers(house.db()).await.iter().any(|reader| *reader != first).then_some(())
    })
    .await;
    lock.rollback().await.expect("released");
    bought.service_is("suspended").await;
    bought.is_told("service_suspended").await;
    bought.pays_again().await;
    bought.service_is("running").await;
    bought.is_told("service_resumed").await;
    assert_eq!(waiting(&house).await, 0, "something waits for staff");
    World::ask(&house).await.assert_ended_well("ledger.services", &bought, Repeats::Never).await;
}

/// The rows of this file.
pub(super) fn rows() -> impl Iterator<Item = &'static str> {
    WRITTEN.iter().map(|written| written.row.activity)
}
