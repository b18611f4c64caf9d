//! What was kept long enough goes. What is kept how long stands in the store's `privacy/retention.rs`. Second
//! factors that were lost go, too, once their owner has had the time to object.
use std::time::Duration;

use store::Store;
use tokio_util::sync::CancellationToken;

use crate::inbox::chain;

/// How often what is over is removed.
const EVERY: Duration = Duration::from_mins(10);

/// Removes what is over until `stop`. Several workers may do it side by side.
pub(crate) async fn keep(store: Store, stop: CancellationToken) {
    loop {
        match store.prune().await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "removed what was kept long enough"),
            Err(fault) => {
                tracing::warn!(error = %chain(&fault), "what is over could not be removed; trying again later");
            }
        }
        match store.finish_factor_resets().await {
            Ok(0) => {}
            Ok(resets) => tracing::info!(resets, "took second factors away that were lost"),
            Err(fault) => {
                tracing::warn!(error = %chain(&fault), "second factors could not be taken away; trying again later");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
