//! The chain: refused, tampered with, written by many at once, and linked by workers that die.
use std::time::Duration;

use futures::future::join_all;
use house::{House, HouseOptions};
use sqlx::{AssertSqlSafe, Executor};
use store::AuditHead;

use super::{all_is_linked, broken, right, store};
use crate::{
    shop::{SOON, open, open_with, until},
    world::count,
};

/// The tables of the trail that are only ever added to.
const TABLES: [&str; 3] = ["audit", "audit_links", "audit_particulars"];

/// A house in which nobody works yet.
async fn quiet(name: &str) -> House {
    open_with(HouseOptions { with_portal: false, ..HouseOptions::named(name) }).await
}

/// Writes entries as a transaction of the portal does, each with something of a person.
async fn write(house: &House, number: i32) {
    sqlx::query(
        "select audit_write('user', null, null, 'test.made', 'test/' || n, null, jsonb_build_object('n', n),
            '198.51.100.' || n % 250, null, jsonb_build_object('name', 'Ada'))
         from generate_series(1, $1) n",
    )
    .bind(number)
    .execute(house.db())
    .await
    .expect("entries");
}

async fn link_all(house: &House) {
    let store = store(house);
    while store.link_audit(7).await.expect("linked") > 0 {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_refuses_to_change_empty_or_take_anything_out_of_the_trail() {
    let house = quiet("trail-stays").await;
    write(&house, 3).await;
    link_all(&house).await;
    let mut db = house.db().acquire().await.expect("a connection");
    let changes = TABLES.iter().flat_map(|table| {
        let column = if *table == "audit_links" { "hash" } else { "before" };
        [
            format!("update {table} set {column} = null"),
            format!("update {table} set {column} = null where false"),
            format!("delete from {table}"),
            format!("truncate {table}"),
            format!("truncate {table} cascade"),
        ]
    });
    for role in ["origin", "replica"] {
        db.execute(AssertSqlSafe(format!("set session_replication_role = {role}"))).await.expect("a role");
        for change in changes.clone() {
            let fault = db.execute(AssertSqlSafe(change.clone())).await.expect_err(&change);
            let refusal = fault.as_database_error().unwrap_or_else(|| panic!("{change}: {fault:?}"));
            assert_eq!(refusal.code().as_deref(), Some("42501"), "{change}: {refusal}");
            assert!(refusal.message().contains("only ever added to"), "{change}: {refusal}");
        }
    }
    db.execute("set session_replication_role = origin").await.expect("a role");
    // Whoever says when it was is not believed.
    db.execute("insert into audit (at, actor_kind, action, subject) values ('2001-01-01', 'hand', 'x', 'y')")
        .await
        .expect("an entry");
    assert_eq!(count(house.db(), "select count(*) from audit where at < now() - interval '1 day'").await, 0);
    link_all(&house).await;
    right(&house).await;
}

/// Does something to the trail that nobody may, as whoever owns the database can.
async fn tamper(house: &House, acts: &[String]) {
    let mut tx = house.db().begin().await.expect("a transaction");
    for table in TABLES {
        tx.execute(AssertSqlSafe(format!("alter table {table} disable trigger user"))).await.expect("without guard");
    }
    for act in acts {
        tx.execute(AssertSqlSafe(act.clone())).await.unwrap_or_else(|fault| panic!("{act}: {fault}"));
    }
    for table in TABLES {
        tx.execute(AssertSqlSafe(format!("alter table {table} enable trigger user"))).await.expect("with guard");
    }
    tx.commit().await.expect("committed");
}

/// The entry of a link.
async fn entry(house: &House, seq: i64) -> i64 {
    sqlx::query_scalar("select audit_id from audit_links where seq = $1")
        .bind(seq)
        .fetch_one(house.db())
        .await
        .expect("a link")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_changed_past_the_database_is_found_at_its_place() {
    let house = quiet("trail-tampered").await;
    write(&house, 40).await;
    link_all(&house).await;
    let last = count(house.db(), "select max(seq) from audit_links").await;
    let told = right(&house).await;
    assert!(told.contains(&format!("links 1 to {last}, from ")), "{told}");
    let (seq, id) = (17, entry(&house, 17).await);
    let keep = |table: &str, column: &str, key: i64| {
        format!("drop table if exists kept; create table kept as select * from {table} where {column} = {key}")
    };
    let back = |table: &str, column: &str, key: i64| {
        format!(
            "delete from {table} where {column} = {key}; insert into {table} overriding system value select * from kept"
        )
    };
    let cases = [
        ("audit", "id", id, format!("update audit set subject = 'test/0' where id = {id}"), "was changed"),
        (
            "audit",
            "id",
            id,
            format!("update audit set at = at + interval '1 microsecond' where id = {id}"),
            "was changed",
        ),
        ("audit", "id", id, format!("update audit set after = null where id = {id}"), "was changed"),
        ("audit", "id", id, format!("delete from audit where id = {id}"), "the entry was taken out"),
        (
            "audit_particulars",
            "audit_id",
            id,
            format!("update audit_particulars set network = '203.0.113.1' where audit_id = {id}"),
            "beside the entry was changed",
        ),
        (
            "audit_links",
            "seq",
            seq,
            format!("update audit_links set hash = sha256('x') where seq = {seq}"),
            "was changed",
        ),
    ];
    for (table, column, key, act, why) in cases {
        tamper(&house, &[keep(table, column, key), act.clone()]).await;
        let told = broken(&house, &[]).await;
        let place = format!("BROKEN at link {seq}, entry {id}");
        assert!(told.contains(&place) && told.contains(why), "{act}: {told}");
        tamper(&house, &[back(table, column, key)]).await;
        right(&house).await;
    }

    tamper(&house, &[keep("audit_links", "seq", seq), format!("delete from audit_links where seq = {seq}")]).await;
    let told = broken(&house, &[]).await;
    assert!(told.contains("BROKEN at link 17, no entry: the link was taken out"), "{told}");
    tamper(&house, &[back("audit_links", "seq", seq)]).await;
    right(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_without_a_place_and_an_end_that_is_cut_off_are_found_too() {
    let house = quiet("trail-cut").await;
    write(&house, 20).await;
    link_all(&house).await;
    let last = count(house.db(), "select max(seq) from audit_links").await;
    let told = right(&house).await;
    let head = told.lines().find_map(|line| line.strip_prefix("head: ")).expect("the head").to_owned();

    let slipped = "insert into audit (actor_kind, action, subject) values ('hand', 'x', 'slipped-in')".to_owned();
    tamper(&house, &[slipped]).await;
    let told = broken(&house, &[]).await;
    assert!(told.contains(&format!("BROKEN at link {}", last + 1)) && told.contains("no link leads"), "{told}");
    tamper(&house, &["delete from audit where subject = 'slipped-in'".to_owned()]).await;

    write(&house, 1).await;
    let waiting = "delete from audit where id = (select max(id) from audit)".to_owned();
    tamper(&house, &[waiting]).await;
    let told = broken(&house, &[]).await;
    assert!(told.contains("waited for its link was taken out"), "{told}");
    tamper(&house, &["delete from audit_unlinked".to_owned()]).await;

    // An end that is cut off is right in itself; whoever knows a place beyond it is not deceived.
    let told = house.run_ez(&["audit", "verify", "--head", &head], "").await.expect("the head is in it");
    assert!(told.contains("right:"), "{told}");
    let cut = [
        format!("delete from audit where id in (select audit_id from audit_links where seq > {})", last - 5),
        format!("delete from audit_links where seq > {}", last - 5),
    ];
    tamper(&house, &cut).await;
    right(&house).await;
    let told = broken(&house, &["--head", &head]).await;
    assert!(told.contains("not the chain that had the link"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_is_cut_off_while_no_worker_runs_is_missed_by_the_next_one() {
    const SEEN: &str = "select coalesce(max(seq), 0) from audit_seen";
    let house = quiet("trail-missed").await;
    write(&house, 20).await;
    link_all(&house).await;
    let last = count(house.db(), "select max(seq) from audit_links").await;
    house.start_worker().await.expect("a worker");
    until("the worker has seen the end", SOON, || async { (count(house.db(), SEEN).await >= last).then_some(()) })
        .await;
    house.kill_worker().await.expect("kill -9");
    right(&house).await;
    let seen = count(house.db(), SEEN).await;
    let cut = [
        format!("delete from audit where id in (select audit_id from audit_links where seq > {})", last - 5),
        format!("delete from audit_links where seq > {}", last - 5),
    ];
    tamper(&house, &cut).await;
    let missed = format!("a worker saw the link {seen}:");
    let told = broken(&house, &[]).await;
    assert!(told.contains(&missed) && told.contains("cut off"), "{told}");

    // What is linked later does not take the place of what is missed.
    write(&house, 40).await;
    link_all(&house).await;
    assert!(count(house.db(), "select max(seq) from audit_links").await > seen, "the chain is shorter than it was");
    tokio::try_join!(house.start_web(), house.start_worker()).expect("another worker");
    until("operators are told", SOON * 2, || async {
        let told = house.metrics().await.ok()?;
        told.lines().any(|line| line == "ez_audit_broken 1").then_some(())
    })
    .await;
    house.kill_worker().await.expect("kill -9");
    assert_eq!(count(house.db(), SEEN).await, seen, "what is missed was forgotten");
    let told = broken(&house, &[]).await;
    assert!(told.contains(&missed), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_and_several_linkers_at_once_give_one_unbroken_chain() {
    const WRITERS: usize = 8;
    const EACH: usize = 40;
    let house = quiet("trail-many").await;
    let before = count(house.db(), "select count(*) from audit").await;
    let writers = (0..WRITERS).map(|writer| {
        let db = house.db().clone();
        async move {
            for turn in 0..EACH {
                let mut tx = db.begin().await.expect("a transaction");
                sqlx::query("select audit_write('system', null, null, 'test.made', $1, null, null, null, null, null)")
                    .bind(format!("writer/{writer}"))
                    .execute(&mut *tx)
                    .await
                    .expect("an entry");
                // Numbers that are given and never used leave no hole.
                let ended = if turn % 4 == 3 { tx.rollback().await } else { tx.commit().await };
                ended.expect("an end");
            }
        }
    });
    let done = tokio_util::sync::CancellationToken::new();
    let linkers = (0..3).map(|_| {
        let (store, done) = (store(&house), done.clone());
        tokio::spawn(async move {
            let mut linked = 0;
            loop {
                let is_last = done.is_cancelled();
                let now = store.link_audit(17).await.expect("linked");
                linked += now;
                if is_last && now == 0 {
                    return linked;
                }
            }
        })
    });
    let linkers: Vec<_> = linkers.collect();
    join_all(writers).await;
    done.cancel();
    let linked: usize = join_all(linkers).await.into_iter().map(|linked| linked.expect("a linker")).sum();
    link_all(&house).await;
    let kept = i64::try_from(WRITERS * EACH * 3 / 4).expect("a number");
    let entries = count(house.db(), "select count(*) from audit").await;
    assert_eq!(entries, before + kept, "what was rolled back stands in the trail, or something is lost");
    assert!(linked > 0, "nobody linked while others wrote");
    assert_eq!(count(house.db(), "select count(*) from audit_links").await, entries);
    assert_eq!(count(house.db(), "select max(seq) from audit_links").await, entries, "a hole");
    assert_eq!(count(house.db(), "select count(*) from audit_unlinked").await, 0);
    let turned = "select count(*) from (
        select l.seq, lag(l.seq) over (partition by a.subject order by a.id) as earlier
        from audit a join audit_links l on l.audit_id = a.id where a.subject like 'writer/%'
     ) linked where seq < earlier";
    assert_eq!(count(house.db(), turned).await, 0, "what one writer wrote later is linked before");
    right(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_while_they_link_leave_no_hole() {
    let house = open("trail-killed").await;
    for _ in 0..4 {
        write(&house, 3_000).await;
        // Some of it is linked, and some of it waits.
        until("linking has begun", SOON, || async {
            (count(house.db(), "select count(*) from audit_links").await > 0).then_some(())
        })
        .await;
        house.kill_worker().await.expect("kill -9");
        house.start_worker().await.expect("a worker");
    }
    all_is_linked(&house).await;
    let links = count(house.db(), "select count(*) from audit_links").await;
    assert_eq!(links, count(house.db(), "select count(*) from audit").await);
    assert_eq!(links, count(house.db(), "select max(seq) from audit_links").await, "a hole");
    right(&house).await;
    until("operators are told that nothing waits", SOON * 2, || async {
        let told = house.metrics().await.ok()?;
        let says = |line: &str| told.lines().any(|told| told == line);
        (says("ez_audit_unlinked 0") && says("ez_audit_broken 0")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_writes_waits_for_whoever_links() {
    let house = quiet("trail-free").await;
    write(&house, 5).await;
    // Somebody holds the end of the chain, as a linker that is slow does.
    let mut tx = house.db().begin().await.expect("a transaction");
    sqlx::query("select pg_advisory_xact_lock(7261002)").execute(&mut *tx).await.expect("the lock");
    let store = store(&house);
    assert_eq!(store.link_audit(10).await.expect("an answer"), 0, "two link at once");
    tokio::time::timeout(Duration::from_secs(20), write(&house, 5)).await.expect("a writer waits for a linker");
    assert_eq!(store.audit_head().await.expect("the end"), AuditHead::BEGINNING);
    tx.rollback().await.expect("the lock is free");
    link_all(&house).await;
    right(&house).await;
}
