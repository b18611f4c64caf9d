//! The mirror of Stripe, kept: looks that were asked for are made, and `ez mirror rebuild` reads everything again.
use std::{
    io::{self, Write},
    time::Duration,
};

use activities::payment::mirror::Mirror;
use anyhow::{Context, anyhow};
use contract::subscription::StripeChanged;
use futures::{StreamExt, stream};
use store::StoreError;
use temporalio_client::{WorkflowSignalOptions, errors::WorkflowInteractionError};
use tokio_util::sync::CancellationToken;
use workflows::subscription::Subscription;

use crate::{config::Config, inbox::chain, wiring};

/// How often the looks that are due are read.
const POLL: Duration = Duration::from_millis(500);
/// How long looks may go on after the stop was asked for.
const GRACE: Duration = Duration::from_secs(3);
/// How many are taken at once.
const BATCH_ROWS: i64 = 16;
/// How many are made at the same time.
const LOOKS_AT_ONCE: usize = 8;

/// Makes the looks that were asked for.
pub(crate) struct Looks {
    /// What writes down what is seen.
    pub(crate) mirror: Mirror,
}

impl Looks {
    /// Runs until `stop`. A database or a Stripe that is away is waited for.
    pub(crate) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // A look that is dropped is due again by itself.
            let too_late = async {
                stop.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                made = self.turn() => match made {
                    Ok(0) => {}
                    Ok(_) => continue,
                    Err(fault) => tracing::warn!(error = %chain(&fault), "the looks could not be read; trying again"),
                },
                () = too_late => return,
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    async fn turn(&self) -> Result<usize, StoreError> {
        let due = self.mirror.store.due_looks(BATCH_ROWS).await?;
        let made: Vec<_> = stream::iter(&due)
            .map(|look| Box::pin(self.mirror.answer(look)))
            .buffer_unordered(LOOKS_AT_ONCE)
            .collect()
            .await;
        made.into_iter().collect::<Result<Vec<()>, _>>()?;
        Ok(due.len())
    }
}

/// Reads everything at Stripe again, and lets every living subscription look once more.
pub(crate) async fn rebuild(config: &Config, empty: bool) -> anyhow::Result<()> {
    let temporal = wiring::temporal(&config.temporal).await?;
    let mirror = wiring::mirror(config, wiring::store(config)?)?;
    let rebuilt = Box::pin(mirror.rebuild(empty)).await.map_err(|fault| anyhow!(fault.words()))?;
    let mut looking = 0;
    for subscription in &rebuilt.subscriptions {
        let handle = temporal.get_workflow_handle::<Subscription>(subscription.workflow_id());
        let change = StripeChanged { event: "rebuild".to_owned() };
        match handle.signal(Subscription::stripe_changed, change, WorkflowSignalOptions::default()).await {
            Ok(()) => looking += 1,
            // Its life is over.
            Err(WorkflowInteractionError::NotFound(_)) => {}
            Err(fault) => return Err(fault).context("asking a subscription to look"),
        }
    }
    let mut told = io::stdout();
    writeln!(told, "subscriptions: {}, of which look again: {looking}", rebuilt.subscriptions.len())?;
    writeln!(told, "customers with all their payments: {}; events put in: {}", rebuilt.customers, rebuilt.events)?;
    for why in &rebuilt.left {
        writeln!(told, "left for a person: {why}")?;
    }
    Ok(())
}
