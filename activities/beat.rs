//! Signs of life during a call of a vendor, so that a worker that dies in it is noticed in seconds.
use std::time::Duration;

use temporalio_sdk::activities::ActivityContext;
use tokio::time::{Instant, interval_at};

/// A sign of life is given this often; well below the limit of the story. A call that is quick gives none.
const BEAT: Duration = Duration::from_secs(1);

/// Makes a call and gives signs of life until it ends.
pub(crate) fn beating<'a, T: Send + 'a>(
    ctx: &'a ActivityContext,
    call: impl Future<Output = T> + Send + 'a,
) -> impl Future<Output = T> + Send + 'a {
    // A call of a vendor is a large future, and would be copied with every caller's.
    let mut call = Box::pin(call);
    async move {
        let mut beat = interval_at(Instant::now() + BEAT, BEAT);
        loop {
            tokio::select! {
                done = &mut call => return done,
                _ = beat.tick() => {
                    if let Err(error) = ctx.record_heartbeat(()).await {
                        tracing::warn!(%error, "a sign of life could not be given");
                    }
                }
            }
        }
    }
}
