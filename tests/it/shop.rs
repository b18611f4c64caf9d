//! What the tests share: the real servers, started once, and houses on them.
use std::{
    future::Future,
    time::{Duration, Instant},
};

use house::{Engine, House, HouseOptions};
use tokio::sync::OnceCell;

static ENGINE: OnceCell<Engine> = OnceCell::const_new();

/// How long a test waits for something that should happen soon.
pub(crate) const SOON: Duration = Duration::from_mins(1);
/// A day, as a policy counts it.
pub(crate) const DAY_SECS: u32 = 86_400;

/// The real servers.
pub(crate) async fn engine() -> &'static Engine {
    ENGINE.get_or_init(|| async { Engine::start(true).await.expect("the real servers start") }).await
}

/// The usual house, with its own database, task queue and vendors.
pub(crate) async fn open(name: &str) -> House {
    open_with(HouseOptions::named(name)).await
}

/// A house made to measure.
pub(crate) async fn open_with(options: HouseOptions) -> House {
    let name = options.name.clone();
    House::start(engine().await, options).await.unwrap_or_else(|fault| panic!("house {name}: {fault:?}"))
}

/// Waits until `look` gives something, and gives it.
pub(crate) async fn until<T, F, Fut>(what: &str, limit: Duration, mut look: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < limit, "still not after {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
