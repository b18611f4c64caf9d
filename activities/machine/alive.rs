//! What keeps a long step alive: it says so to Temporal, hears that it is no longer wanted, and has a limit of its own.
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use temporalio_sdk::activities::{ActivityContext, ActivityError};
use tokio::{sync::watch, time};

use super::proxmox::ProxmoxError;
use crate::{deadline::time_left, fault::Fault};

/// A sign of life is given this often; well below the heartbeat limit of the story.
const BEAT: Duration = Duration::from_secs(3);
/// A step that was given no deadline ends after this long.
const LIMIT: Duration = Duration::from_mins(9);

/// What a step waits for at the moment. It survives the step: a second attempt reads what the first one waited for.
#[derive(Debug)]
pub struct Progress {
    resumed: Option<String>,
    task: watch::Sender<Option<String>>,
    last_word: Mutex<Option<String>>,
}

impl Progress {
    /// Begins with the task an earlier attempt waited for, if there was one.
    pub fn new(resumed: Option<String>) -> Self {
        Self { task: watch::Sender::new(resumed.clone()), resumed, last_word: Mutex::default() }
    }

    /// The task an earlier attempt waited for.
    pub fn resumed(&self) -> Option<&str> {
        self.resumed.as_deref()
    }

    /// Notes what Proxmox said while the step goes on; staff read it when the step's time is over.
    pub fn heard(&self, error: &ProxmoxError) {
        *self.last_word.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }

    fn late(&self) -> ProxmoxError {
        let last_word = self.last_word.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let last_word = last_word.map(|word| format!("; the last answer was: {word}")).unwrap_or_default();
        ProxmoxError::NotYet(format!("it takes longer than one attempt may{last_word}"))
    }

    /// Notes the task that is waited for from now on.
    pub fn waits_for(&self, task: &str) {
        self.task.send_replace(Some(task.to_owned()));
    }
}

/// Runs one step to its end and gives signs of life meanwhile.
///
/// *Errors*: the step's own, or to try again when its time is over. A step that is no longer wanted is dropped at its next
/// wait: whatever it had asked for may have been done.
pub(super) async fn alive<T, W>(
    ctx: &ActivityContext,
    doing: &str,
    step: impl FnOnce(Arc<Progress>) -> W,
) -> Result<T, ActivityError>
where
    W: Future<Output = Result<T, Fault>>,
{
    let resumed = ctx.heartbeat_details().deserialize::<Option<String>>().ok().flatten().flatten();
    let progress = Arc::new(Progress::new(resumed));
    let work = step(Arc::clone(&progress));
    let end = time::sleep(time_left(ctx, LIMIT));
    // A step that is quick gives none: whoever comes after it looks first.
    let mut beat = time::interval_at(time::Instant::now() + BEAT, BEAT);
    tokio::pin!(work, end);
    loop {
        tokio::select! {
            done = &mut work => return done.map_err(Fault::into_activity),
            () = &mut end => return Err(progress.late().into_fault(doing).into_activity()),
            () = ctx.cancelled() => return Err(ActivityError::cancelled()),
            _ = beat.tick() => {}
        }
        let note = progress.task.borrow().clone();
        if let Err(error) = ctx.record_heartbeat(note).await {
            tracing::warn!(%error, "a sign of life could not be given");
        }
    }
}
