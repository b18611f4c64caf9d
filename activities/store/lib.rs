//! The only place that speaks SQL: one file for each topic, one function for each thing that is asked or written.
//!
//! Every write may run twice with the same arguments and leaves the same rows; what is decided upon is locked first, always
//! in the order *order, nodes, reservation, subscription, service*. Something that is not there is `Ok(None)`; a named
//! constraint becomes [`StoreError::Conflict`]; a database that does not answer is [`StoreError::Unavailable`].
//! What customers and staff read about it is written in the same transaction, into one timeline.

use catalogue::labels::LabelShelf;
use fault::Doing;
use readers::Readers;
use sqlx::{
    Connection, PgPool, Postgres, Transaction,
    error::DatabaseError,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use together::Together;
use uuid::Uuid;

pub mod access;
pub mod accounts;
pub mod attention;
pub mod audit;
pub mod catalogue;
pub mod credentials;
pub mod devices;
pub mod entitlements;
pub mod factors;
mod fault;
pub mod inbox;
pub mod instructions;
pub mod invitations;
pub mod letters;
pub mod limits;
pub mod members;
pub mod mirror;
pub mod operations;
pub mod orders;
pub mod pages;
pub mod payment_events;
pub mod people;
pub mod plan_change;
pub mod privacy;
mod readers;
pub mod reconcile;
pub mod removals;
pub mod reservations;
pub mod rotation;
pub mod seal;
pub mod sessions;
pub mod subscriptions;
mod timeline;
mod together;
pub mod tokens;
pub mod viewings;

pub use access::{
    AccessChange, CLOSED_DOMAIN, ChangeKind, LinkState, Pressed, USER_EPOCH,
    close::{Closing, Living},
    told::AddressDue,
};
pub use accounts::{Confirmed, LogIn, NewUser, SignedUp, User, Verification};
pub use attention::{AttentionLine, AttentionVerdict, NewAttention, SettledAttention};
pub use audit::{Actor, AuditBreak, AuditFilter, AuditHead, AuditLine, AuditStep, AuditWaiting, Entry};
pub use catalogue::{Image, NewAddress, NewImage, NewNode, NewPlan, NewPrice, Plan, Price};
pub use devices::{Device, NewDevice};
pub use entitlements::{Further, NoPlace};
pub use factors::{
    Added, Factor, FactorChange, FactorChanged, Factors, RECOVERY_CODES, SEED_PURPOSE,
    passkeys::{CeremonyKind, NewPasskey, PASSKEY_TAKEN_RULE, PASSKEYS_LIMIT_RULE, PasskeyLine, StoredPasskey},
    reset::{FactorReset, FactorResetLine, KEEP_PURPOSE, ResetAsked},
};
pub use fault::StoreError;
pub use inbox::DueEvent;
pub use instructions::{InstructionEnd, InstructionLine, lost::OpenInstruction};
pub use invitations::{Accepted, Invitation, InvitationLine, Invited};
pub use letters::{LetterState, NewLetter, QueuedLetter};
pub use limits::{Counted, Rule, Taken};
pub use members::{AccountLine, MemberChange, MemberLine, Seat, Viewing};
pub use mirror::{
    Compared, CreditMoveRow, CustomerMirror, CustomerRow, Difference, DifferenceKind, DisputeRow, DueLook,
    FoundSubscription, MirroredSubscription, PaidSubscription, Pass, PaymentRow, RefundRow, Round, UnpaidOrder,
};
pub use operations::{Gauges, Pool, PoolUse, WaitingSteps, WebhookHealth};
pub use orders::{Lease, OrderBrief, OrderPlace, close::PaidFor};
pub use pages::{
    AccountInvoice, ChargeLine, CreditMoveLine, CreditMover, Dashboard, EntitlementLine, InvoiceLine, InvoiceLinks,
    InvoiceStory, InvoicesPage, MovingPage, MovingSubscription, NextCharge, OrderCard, OrderPage, PaidService,
    PendingPlan, PlanWish, RefundLine, RefusedLetter, ReportLine, ServiceBeside, ServiceCard, ServicePage, StaffEvent,
    StaffOrder, StaffOverview, StaffSubscription, StepLine, SubscriptionPage, TimelineLine, WaitingPlan,
};
pub use payment_events::{EventGatherer, NewPaymentEvent, PaymentEventListener, PutEvent};
pub use people::{StaffChange, StaffLine};
pub use plan_change::PlanVerdict;
pub use privacy::{
    erasures::{Erasure, ErasureChange, ErasureConfirmed, ErasureState, ErasureStep, ForgottenBuyer},
    exports::{DataExport, ExportAsked, ExportState, PersonalRows},
    obstacles::Obstacle,
    retention::{Keeping, KeepingTerms, KeptLine, kept_after_erasure, schedule},
};
pub use reconcile::{HalfGivenUp, LivingSubscription, StoredOrder};
pub use removals::{Allowance, Approved, Held, HeldRemoval, NewRemoval, RemovalLine};
pub use reservations::{NewOrder, Place, Reserved};
pub use rotation::{SealedColumn, SealedRow};
pub use seal::{KeyRing, SealFault};
pub use sessions::{SessionLine, SessionRows, Shown, Whereabouts};
pub use subscriptions::{InvoicePrint, InvoiceRow, ServiceBrief, Subscription};
pub use tokens::{Scope, TokenBearer, TokenHolding, TokenLine, TokenMade};
pub use viewings::ViewingLine;

/// Every change of the tables, in order; applied by [`Store::migrate`].
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// How long after a migration that found a table in use it is tried again: whoever waited behind it gets on.
const MIGRATION_PAUSE: Duration = Duration::from_secs(2);
/// How long migrations are tried altogether.
const MIGRATED_WITHIN: Duration = Duration::from_mins(10);

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
    sessions: Together<String, sessions::LoadedRow>,
    dashboards: Together<Uuid, Vec<pages::dashboard::Row>>,
    labels: Arc<LabelShelf>,
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
        let (sessions, dashboards) = (sessions::together(&readers), pages::dashboard::together(&readers));
        Ok(Self { pool, sessions, dashboards, labels: Arc::default() })
    }

    /// Applies every migration that was not applied yet. Several processes may ask at once; one does it. What runs meanwhile
    /// queues behind a migration that waits for a table, so none waits for long: it is tried again after a pause.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        loop {
            match self.try_to_migrate().await {
                Err(fault) if found_a_table_in_use(&fault) && began.elapsed() < MIGRATED_WITHIN => {
                    tracing::info!(%fault, "a table is in use; the migrations are tried again");
                    tokio::time::sleep(MIGRATION_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    async fn try_to_migrate(&self) -> Result<(), StoreError> {
        let doing = "applying migrations";
        let mut connection = self.pool.acquire().await.doing(doing)?.detach();
        // A migration may take as long as it takes once it has its table.
        sqlx::query("set statement_timeout = 0").execute(&mut connection).await.doing(doing)?;
        sqlx::query("set lock_timeout = '2s'").execute(&mut connection).await.doing(doing)?;
        let applied = MIGRATOR.run(&mut connection).await.map_err(|error| match error {
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
                StoreError::Unavailable { doing, source }
            }
            _ => StoreError::Corrupt { what: "the list of applied migrations" },
        });
        // The lock that keeps other processes from doing the same goes with the connection.
        let closed = connection.close().await.doing(doing);
        applied.and(closed)
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

/// Whether a migration waited too long for a table, or for another process that applies them, or each waited for the other.
/// Source: PostgreSQL, "Error Codes", `lock_not_available` and `deadlock_detected`.
fn found_a_table_in_use(fault: &StoreError) -> bool {
    let StoreError::Unavailable { source, .. } = fault else { return false };
    source.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code == "55P03" || code == "40P01")
}
