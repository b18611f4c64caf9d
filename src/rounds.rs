//! The schedules of the rounds: made when a worker starts, and brought up to date when the settings say otherwise.
use std::time::Duration;

use activities::round;
use contract::round::RoundInput;
use store::{Round as Name, Store};
use temporalio_client::{
    Client, RpcOptions,
    schedules::{
        CreateScheduleOptions, ScheduleAction, ScheduleError, ScheduleOverlapPolicy, ScheduleSpec, ScheduleUpdate,
    },
    tonic::Code,
};
use tokio_util::sync::CancellationToken;
use workflows::round::Round;

use crate::{config::RoundsConfig, inbox::chain};

/// How long after a failure the schedules are made again.
const AGAIN: Duration = Duration::from_secs(5);
/// Rounds that were missed longer ago than this are not made up for: the next one does it all.
const CATCH_UP: Duration = Duration::from_mins(1);

/// Makes the schedules, and tries again until it worked or `stop`.
pub(crate) async fn keep(
    store: Store,
    temporal: Client,
    task_queue: String,
    rounds: RoundsConfig,
    stop: CancellationToken,
) {
    round::announce();
    loop {
        let made = async {
            store.begin_rounds().await.map_err(|fault| chain(&fault))?;
            let events = RoundInput::Events { every_secs: rounds.events_secs };
            let comparison = RoundInput::Comparison { every_secs: rounds.comparison_secs };
            for (name, input) in [(Name::Events, events), (Name::Comparison, comparison)] {
                make(&temporal, &task_queue, name, input).await.map_err(|fault| chain(&fault))?;
            }
            Ok::<(), String>(())
        };
        match made.await {
            Ok(()) => return,
            Err(error) => tracing::warn!(error, "the rounds could not be scheduled; trying again"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// The id of a round's schedule. Several houses may share one Temporal.
fn schedule_id(task_queue: &str, name: Name) -> String {
    format!("rounds-{}-{task_queue}", name.as_str())
}

async fn make(temporal: &Client, task_queue: &str, name: Name, input: RoundInput) -> Result<(), ScheduleError> {
    let (RoundInput::Events { every_secs } | RoundInput::Comparison { every_secs }) = input;
    let spec = ScheduleSpec::from_interval(Duration::from_secs(u64::from(every_secs)));
    let id = schedule_id(task_queue, name);
    let action = ScheduleAction::start_workflow(
        Round::run,
        input,
        task_queue.to_owned(),
        format!("round-{}-{task_queue}", name.as_str()),
    );
    let options = CreateScheduleOptions::builder()
        .action(action.clone())
        .spec(spec.clone())
        .overlap_policy(ScheduleOverlapPolicy::Skip)
        .build();
    match temporal.create_schedule(id.clone(), options).await {
        Ok(_) => {}
        Err(ScheduleError::Rpc(status)) if status.code() == Code::AlreadyExists => {}
        Err(fault) => return Err(fault),
    }
    let change = move |schedule: &mut ScheduleUpdate| {
        schedule
            .set_spec(spec)
            .set_action(action)
            .set_overlap_policy(ScheduleOverlapPolicy::Skip)
            .set_catchup_window(CATCH_UP);
    };
    temporal.get_schedule_handle(id).update(change, RpcOptions::default()).await
}
