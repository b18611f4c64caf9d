//! Barriers in the house's own database: a statement stops at one that is closed, so that whoever sent it can be killed there.
use house::House;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::shop::{SOON, until};

/// Where a statement about a payment event can be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// Before the row is there.
    Insert = 1,
    /// The row is there, the transaction is about to be committed.
    Commit = 2,
    /// The row is about to be marked as handled.
    Mark = 3,
}

const BARRIERS: &str = "
    create function hold_at_barrier() returns trigger language plpgsql as $$
    begin
        perform pg_advisory_xact_lock_shared(tg_argv[0]::bigint);
        return new;
    end $$;
    create trigger hold_insert before insert on payment_events
        for each row execute function hold_at_barrier('1');
    create constraint trigger hold_commit after insert on payment_events deferrable initially deferred
        for each row execute function hold_at_barrier('2');
    create trigger hold_mark before update on payment_events
        for each row when (new.state = 'handled' and old.state <> 'handled') execute function hold_at_barrier('3');";

const WAITERS: &str = "from pg_locks where locktype = 'advisory' and not granted and objid = $1
    and database = (select oid from pg_database where datname = current_database())";

/// What opens and closes the barriers of one house.
pub(crate) struct Keeper(PgConnection);

impl Keeper {
    /// Builds the barriers; all are open.
    pub(crate) async fn of(house: &House) -> Self {
        let mut own = PgConnection::connect(house.database_url().as_str()).await.expect("a connection");
        sqlx::raw_sql(BARRIERS).execute(&mut own).await.expect("barriers");
        Self(own)
    }

    /// From now on nobody passes.
    pub(crate) async fn close(&mut self, barrier: Barrier) {
        self.on(barrier, "select pg_advisory_lock($1)").await;
    }

    /// Lets everybody pass who waits or comes.
    pub(crate) async fn open(&mut self, barrier: Barrier) {
        self.on(barrier, "select pg_advisory_unlock($1)").await;
    }

    /// Waits until somebody waits at the barrier.
    pub(crate) async fn reached(&self, house: &House, barrier: Barrier) {
        until(&format!("somebody waits at {barrier:?}"), SOON, || async {
            let waiting = format!("select count(*) {WAITERS}");
            let waiting: i64 = sqlx::query_scalar(AssertSqlSafe(waiting))
                .bind(barrier as i64)
                .fetch_one(house.db())
                .await
                .expect("the locks");
            (waiting > 0).then_some(())
        })
        .await;
    }

    /// Ends the statements that wait, as if the database had noticed that their sender is dead.
    pub(crate) async fn turn_away(&mut self, barrier: Barrier) {
        self.on(barrier, &format!("select pg_terminate_backend(pid) {WAITERS}")).await;
    }

    async fn on(&mut self, barrier: Barrier, statement: &str) {
        let asked = sqlx::query(AssertSqlSafe(statement.to_owned())).bind(barrier as i64).execute(&mut self.0).await;
        asked.unwrap_or_else(|fault| panic!("{statement}: {fault}"));
    }
}
