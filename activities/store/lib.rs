//! The only place that speaks SQL: one file for each topic, one function for each thing that is asked or written.
//!
//! Every write may run twice with the same arguments and leaves the same rows; what is decided upon is locked first, always
//! in the order *order, nodes, reservation, subscription, service*. Something that is not there is `Ok(None)`; a named
//! constraint becomes [`StoreError::Conflict`]; a database that does not answer is [`StoreError::Unavailable`].
//! What customers and staff read about it is written in the same transaction, into one timeline.

use fault::Doing;
use readers::Readers;
use sqlx::{
    Connection, PgPool, Postgres, Transaction,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{sync::Arc, time::Duration};

pub mod accounts;
pub mod attention;
pub mod catalogue;
pub mod credentials;
mod fault;
pub mod inbox;
pub mod instructions;
pub mod letters;
pub mod mirror;
pub mod operations;
pub mod orders;
pub mod pages;
pub mod payment_events;
pub mod plan_change;
mod readers;
pub mod reconcile;
pub mod removals;
pub mod reservations;
pub mod seal;
pub mod sessions;
pub mod subscriptions;
mod timeline;

pub use accounts::{Confirmed, LogIn, NewUser, SignedUp, User, Verification};
pub use attention::{AttentionLine, AttentionVerdict, NewAttention, SettledAttention};
pub use catalogue::{Image, NewAddress, NewImage, NewNode, NewPlan, NewPrice, Plan, Price};
pub use fault::StoreError;
pub use inbox::DueEvent;
pub use instructions::{InstructionEnd, InstructionLine};
pub use letters::{LetterState, NewLetter, QueuedLetter};
pub use mirror::{
    CustomerMirror, CustomerRow, Difference, DifferenceKind, DisputeRow, DueLook, FoundSubscription,
    MirroredSubscription, PaidSubscription, PaymentRow, RefundRow, Round, UnpaidOrder,
};
pub use operations::{Gauges, Pool, PoolUse, WaitingSteps, WebhookHealth};
pub use orders::{Lease, OrderBrief, OrderPlace};
pub use pages::{
    AccountInvoice, ChargeLine, Dashboard, EntitlementLine, InvoiceLine, InvoiceLinks, InvoiceStory, InvoicesPage,
    MovingSubscription, NextCharge, OrderCard, OrderPage, PaidService, PendingPlan, PlanWish, RefundLine,
    RefusedLetter, ReportLine, ServiceCard, ServicePage, StaffEvent, StaffOrder, StaffOverview, StaffSubscription,
    StepLine, SubscriptionPage, TimelineLine, WaitingPlan,
};
pub use payment_events::{EventGatherer, NewPaymentEvent, PaymentEventListener, PutEvent};
pub use plan_change::PlanVerdict;
pub use reconcile::{LivingSubscription, StoredOrder};
pub use removals::{Allowance, Approved, Held, HeldRemoval, NewRemoval, RemovalLine};
pub use reservations::{NewOrder, Place, Reserved};
pub use seal::{KeyRing, SealFault};
pub use sessions::SessionRows;
pub use subscriptions::{InvoicePrint, InvoiceRow, ServiceBrief, Subscription};

/// Every change of the tables, in order; applied by [`Store::migrate`].
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// How long a caller waits for a free connection before the database counts as away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// The database's own limits, in milliseconds: for one statement, for one lock, and for a transaction whose process
/// stopped talking.
const LIMITS_MS: [(&str, &str); 3] =
    [("statement_timeout", "15000"), ("lock_timeout", "10000"), ("idle_in_transaction_session_timeout", "30000")];
/// What pages read is planned once for each connection: every question is about one session or one account, and planning
/// the joins anew takes longer than following them. Source: PostgreSQL, "Other Planner Options", `plan_cache_mode`.
const PLAN_ONCE: [(&str, &str); 1] = [("plan_cache_mode", "force_generic_plan")];

/// The database. Cheap to clone; all clones share one pool of connections.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    readers: Arc<Readers>,
}

impl core::fmt::Debug for Store {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Gives a store over at most `pool_size` connections. Nothing is connected before the first question. To be called
    /// inside a Tokio runtime.
    ///
    /// *Errors*: [`StoreError::Corrupt`] when the address cannot be read.
    pub fn connect(url: &str, pool_size: u32) -> Result<Self, StoreError> {
        Self::with_readers(url, pool_size, 1)
    }

    /// The same for a process that answers pages: half of its connections are for what pages read.
    pub fn connect_for_pages(url: &str, pool_size: u32) -> Result<Self, StoreError> {
        let lanes = pool_size.div_ceil(2).max(1);
        Self::with_readers(url, pool_size.saturating_sub(lanes).max(1), lanes)
    }

    fn with_readers(url: &str, pool_size: u32, lanes: u32) -> Result<Self, StoreError> {
        let options: PgConnectOptions =
            url.parse().map_err(|_| StoreError::Corrupt { what: "the address of the database" })?;
        let options = options.application_name("ez").options(LIMITS_MS);
        let lanes = usize::try_from(lanes).unwrap_or(1);
        let readers = Arc::new(Readers::new(options.clone().options(PLAN_ONCE), lanes));
        let pool =
            PgPoolOptions::new().max_connections(pool_size).acquire_timeout(ACQUIRE_TIMEOUT).connect_lazy_with(options);
        Ok(Self { pool, readers })
    }

    /// Applies every migration that was not applied yet. Several processes may ask at once; one does it.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let doing = "applying migrations";
        let mut connection = self.pool.acquire().await.doing(doing)?.detach();
        // A migration may take as long as it takes, and waits for another process that applies them.
        sqlx::query("set statement_timeout = 0").execute(&mut connection).await.doing(doing)?;
        sqlx::query("set lock_timeout = 0").execute(&mut connection).await.doing(doing)?;
        MIGRATOR.run(&mut connection).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(source) => StoreError::Unavailable { doing, source },
            _ => StoreError::Corrupt { what: "the list of applied migrations" },
        })?;
        connection.close().await.doing(doing)
    }

    /// Says whether every migration of this program was applied.
    pub async fn is_migrated(&self) -> Result<bool, StoreError> {
        let latest = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
        let there = sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "there!""#)
            .fetch_one(&self.pool)
            .await
            .doing("looking for the list of migrations")?;
        if !there {
            return Ok(false);
        }
        let applied: Option<i64> = sqlx::query_scalar("select max(version) from _sqlx_migrations where success")
            .fetch_one(&self.pool)
            .await
            .doing("reading the list of migrations")?;
        Ok(applied.is_some_and(|version| version >= latest))
    }

    /// Succeeds when the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query_scalar!(r#"select 1 as "one!""#).fetch_one(&self.pool).await.doing("asking whether it answers")?;
        Ok(())
    }

    /// Begins a transaction. Dropped without a commit, it leaves nothing behind.
    async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.pool.begin().await.doing("beginning a transaction")
    }
}
