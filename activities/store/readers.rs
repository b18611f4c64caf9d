//! Connections the pages read through. The pool asks a connection whether it is well before and after each use, which for
//! a page that asks one short question is most of the work; these are asked the question at once, and when one turns out
//! to be lost, the question is asked again on a new one. That is safe because nothing but reading goes through here.
//!
//! ```text
//! loop { lane = self.lane();  answer = question(lane);  lane.judged(answer) --> the answer | lost meanwhile: once more }
//! ```
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// How long a reader waits for a lane, and how long a new connection may take, before the database counts as away.
const LANE_WITHIN: Duration = Duration::from_secs(5);
/// A connection that rested longer is asked first whether it is well: a cable may have been pulled without a word.
const RESTED: Duration = Duration::from_secs(1);
/// A connection that rested longer is closed.
const REST_LIMIT: Duration = Duration::from_mins(5);

struct Resting {
    connection: PgConnection,
    since: Instant,
}

/// Some connections that only read.
pub(crate) struct Readers {
    options: PgConnectOptions,
    lanes: Semaphore,
    resting: Mutex<Vec<Resting>>,
}

impl Readers {
    /// Remembers how to connect; nothing is connected yet.
    pub(crate) fn new(options: PgConnectOptions, lanes: usize) -> Self {
        Self { options, lanes: Semaphore::new(lanes.max(1)), resting: Mutex::default() }
    }

    /// Asks about these keys, and once more on another connection when one turned out to be lost.
    ///
    /// *Errors*: the question's own, or no connection became free or could be made within five seconds each.
    pub(crate) async fn ask<K, T>(
        &self,
        keys: &[K],
        question: impl AsyncFn(&mut PgConnection, &[K]) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        loop {
            let mut lane = self.lane().await?;
            let answer = question(&mut lane.connection, keys).await;
            if let Some(answer) = lane.judged(answer) {
                return answer;
            }
        }
    }

    /// A connection to ask one question on.
    ///
    /// *Errors*: none became free or could be made within five seconds each.
    async fn lane(&self) -> Result<Lane<'_>, sqlx::Error> {
        let Ok(Ok(turn)) = timeout(LANE_WITHIN, self.lanes.acquire()).await else {
            return Err(sqlx::Error::PoolTimedOut);
        };
        while let Some(mut kept) = self.take() {
            let rested = kept.since.elapsed();
            if rested > REST_LIMIT {
                continue;
            }
            if rested < RESTED || timeout(LANE_WITHIN, kept.connection.ping()).await.is_ok_and(|pong| pong.is_ok()) {
                return Ok(Lane { readers: self, connection: kept.connection, is_new: false, _turn: turn });
            }
        }
        let connection = timeout(LANE_WITHIN, PgConnection::connect_with(&self.options))
            .await
            .map_err(|_| sqlx::Error::Io(io::ErrorKind::TimedOut.into()))??;
        Ok(Lane { readers: self, connection, is_new: true, _turn: turn })
    }

    fn resting(&self) -> MutexGuard<'_, Vec<Resting>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that rested shortest, so that those not needed are not kept busy.
    fn take(&self) -> Option<Resting> {
        self.resting().pop()
    }
}

/// One connection, for one question. Dropped without [`Lane::judged`], as by a visitor who goes away, it is closed.
struct Lane<'a> {
    readers: &'a Readers,
    connection: PgConnection,
    is_new: bool,
    _turn: SemaphorePermit<'a>,
}

impl Lane<'_> {
    /// Gives the answer, and the connection back. Nothing when the connection had been lost while it rested: the question
    /// is then to be asked again, on another.
    fn judged<T>(self, answer: Result<T, sqlx::Error>) -> Option<Result<T, sqlx::Error>> {
        match &answer {
            Err(fault) if is_lost(fault) => {
                // What happened to one happened to all that rested, mostly.
                self.readers.resting().clear();
                self.is_new.then_some(answer)
            }
            _ => {
                self.readers.resting().push(Resting { connection: self.connection, since: Instant::now() });
                Some(answer)
            }
        }
    }
}

/// Whether a fault means that the connection cannot be used any more. Source: PostgreSQL, "Error Codes", classes 08 and 57P.
fn is_lost(fault: &sqlx::Error) -> bool {
    match fault {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("08") || code.starts_with("57P"))
        }
        sqlx::Error::RowNotFound
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. } => false,
        _ => true,
    }
}
