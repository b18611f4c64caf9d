//! The smallest thing a Temporal server can be asked for: a workflow with one ordinary activity that does nothing. How many
//! of these it ends in a second says what the server gives on this machine.
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use futures::{StreamExt as _, stream};
use house::House;
use temporalio_client::{Client, WorkflowGetResultOptions, WorkflowStartOptions};
use temporalio_macros::{activities, workflow, workflow_methods};
use temporalio_sdk::{
    Runtime, Worker, WorkerOptions,
    activities::{ActivityContext, ActivityError},
    runtime::RuntimeOptions,
};
use temporalio_workflow::{ActivityOptions, WorkflowContext, WorkflowContextView, WorkflowResult};

use crate::figures::as_f64;

/// How many run at the same time.
const IN_FLIGHT: usize = 50;
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) struct Nothing;

#[activities]
impl Nothing {
    /// Does nothing.
    #[expect(clippy::unused_async, reason = "an activity is asynchronous, whatever it does")]
    #[activity(name = "nothing")]
    pub(crate) async fn nothing(_ctx: ActivityContext, number: u64) -> Result<u64, ActivityError> {
        Ok(number)
    }
}

/// One activity, and that is all.
#[workflow]
struct Bare {
    number: u64,
}

#[workflow_methods]
impl Bare {
    #[init]
    fn new(_ctx: &WorkflowContextView, number: u64) -> Self {
        Self { number }
    }

    #[run(name = "bare")]
    async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<u64> {
        let number = ctx.state(|s| s.number);
        let options = ActivityOptions::with_start_to_close_timeout(LIMIT).build();
        Ok(ctx.execute_activity(Nothing::nothing, number, options).await?)
    }
}

/// Runs so many, and gives how many ended in a second.
pub(crate) async fn rate(house: &House, many: usize) -> Result<f64> {
    let queue = format!("{}-bare-{:08x}", house.task_queue(), std::process::id());
    let client = house.temporal().await?;
    let options = WorkerOptions::new(queue.clone()).register_workflow::<Bare>()?.register_activities(Nothing).build();
    let runtime = Runtime::from_current_tokio(RuntimeOptions::default()).context("making the Temporal runtime")?;
    let mut worker = Worker::new(&runtime, client.clone(), options).context("making a worker")?;
    let shut_down = worker.shutdown_handle();
    let handle = tokio::runtime::Handle::current();
    let thread = std::thread::spawn(move || {
        let _runtime = runtime;
        handle.block_on(worker.run()).map_err(|fault| anyhow!("{fault}"))
    });
    run(&client, &queue, IN_FLIGHT).await?;
    let began = Instant::now();
    run(&client, &queue, many).await?;
    let rate = as_f64(many) / began.elapsed().as_secs_f64();
    shut_down();
    tokio::task::spawn_blocking(move || thread.join()).await?.map_err(|_| anyhow!("the worker panicked"))??;
    Ok(rate)
}

async fn run(client: &Client, queue: &str, many: usize) -> Result<()> {
    let began = format!("{:?}", Instant::now());
    stream::iter(0..many)
        .map(|number| {
            let id = format!("{queue}-{began}-{number}");
            async move {
                let options = WorkflowStartOptions::new(queue.to_owned(), id).build();
                let run = client.start_workflow(Bare::run, number as u64, options).await?;
                run.get_result(WorkflowGetResultOptions::default()).await?;
                Ok(())
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .collect::<Vec<Result<()>>>()
        .await
        .into_iter()
        .collect()
}
