//! The parts of a house that can be killed, on servers of their own that remember what they acknowledged.
use std::time::Duration;

use house::{Engine, House};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

static ENGINE: OnceCell<Engine> = OnceCell::const_new();
static PRODUCTION: OnceCell<Engine> = OnceCell::const_new();
static STAGE: Mutex<()> = Mutex::const_new(());

/// A part that can be killed as a power cut would, and started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// `ez work`.
    Worker,
    /// `ez serve`.
    Web,
    /// Temporal, with what is in its memory.
    Temporal,
    /// PostgreSQL with all its processes, with what is in their memory.
    Postgres,
    /// The mail server.
    Mail,
}

/// All of them.
pub(crate) const PARTS: [Part; 5] = [Part::Worker, Part::Web, Part::Temporal, Part::Postgres, Part::Mail];

/// Servers that only whoever holds this may kill: one heavy test at a time, as each of them needs the whole machine.
pub(crate) struct Stage {
    /// Where houses are opened.
    pub(crate) engine: &'static Engine,
    _alone: MutexGuard<'static, ()>,
}

/// Waits for the stage.
pub(crate) async fn stage() -> Stage {
    let alone = STAGE.lock().await;
    let started = || async {
        let engine = Engine::start_durable().await.expect("durable servers start");
        engine.with_stripe_mock().await.expect("stripe-mock starts")
    };
    let engine = ENGINE.get_or_init(started).await;
    Stage { engine, _alone: alone }
}

/// The same with Temporal's server over PostgreSQL, as production has it.
pub(crate) async fn production_stage() -> Stage {
    let alone = STAGE.lock().await;
    let started = || async {
        let engine = Engine::start_production().await.expect("production's servers start");
        engine.with_stripe_mock().await.expect("stripe-mock starts")
    };
    let engine = PRODUCTION.get_or_init(started).await;
    Stage { engine, _alone: alone }
}

impl Stage {
    /// Kills a part; killed already is no error.
    pub(crate) async fn kill(&self, house: &House, part: Part) {
        let killed = match part {
            Part::Worker => house.kill_worker().await,
            Part::Web => house.kill_web().await,
            Part::Temporal => self.engine.kill_temporal().await,
            Part::Postgres => self.engine.kill_postgres().await,
            Part::Mail => house.kill_mail().await,
        };
        killed.unwrap_or_else(|fault| panic!("killing {part:?}: {fault:?}"));
    }

    /// Starts a part again and waits until it is ready.
    pub(crate) async fn start(&self, house: &House, part: Part) {
        let started = match part {
            Part::Worker => house.start_worker().await,
            Part::Web => house.start_web().await,
            Part::Temporal => self.engine.start_temporal().await,
            Part::Postgres => self.engine.start_postgres().await,
            Part::Mail => house.start_mail().await,
        };
        started.unwrap_or_else(|fault| panic!("starting {part:?}: {fault:?}"));
    }

    /// Kills a part and starts it again after this long.
    pub(crate) async fn strike(&self, house: &House, part: Part, down: Duration) {
        self.kill(house, part).await;
        tokio::time::sleep(down).await;
        self.start(house, part).await;
    }
}
