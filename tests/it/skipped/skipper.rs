//! Skips time: that of workflows, by asking Temporal's server for it, and that of the database, which has to believe it too.
use std::time::Duration;

use house::House;
use sqlx::PgPool;
use temporalio_client::{Client, tonic::Request};
use temporalio_common::protos::temporal::api::{
    common::v1::{FastForwardConfig, TimeSkippingConfig, TimeSkippingInfo, WorkflowExecution},
    workflow::v1::WorkflowExecutionOptions,
    workflowservice::v1::{DescribeWorkflowExecutionRequest, UpdateWorkflowExecutionOptionsRequest},
};
use time::OffsetDateTime;

use crate::shop::until;

/// Each time the workflow wakes is a skip; the server stops at as many in one go.
const SKIPS_MAX: i32 = 10_000;
const LIMIT: Duration = Duration::from_mins(5);
/// What is sought first in a table of names is found before PostgreSQL's own: its clocks, as much ahead as a table says.
const CLOCKS: [&str; 5] = [
    "create schema ahead",
    "create table ahead.by (secs bigint not null)",
    "insert into ahead.by values (0)",
    "create function ahead.now() returns timestamptz stable language sql
     as $$ select pg_catalog.now() + make_interval(secs => (select secs from ahead.by)) $$",
    "create function ahead.clock_timestamp() returns timestamptz volatile language sql
     as $$ select pg_catalog.clock_timestamp() + make_interval(secs => (select secs from ahead.by)) $$",
];
const BELIEVE: &str = "do $$ begin
    execute format('alter database %I set search_path = ahead, pg_catalog, public', current_database()); end $$";

/// The times of a house.
pub(crate) struct Skipper<'a> {
    house: &'a House,
    client: Client,
    began: OffsetDateTime,
}

impl<'a> Skipper<'a> {
    /// Web and worker are started again, with a database whose clock can be moved.
    pub(crate) async fn of(house: &'a House) -> Self {
        for statement in CLOCKS.into_iter().chain([BELIEVE]) {
            sqlx::query(statement).execute(house.db()).await.unwrap_or_else(|fault| panic!("{statement}: {fault}"));
        }
        tokio::try_join!(house.stop_web(), house.stop_worker()).expect("ended");
        tokio::try_join!(house.start_web(), house.start_worker()).expect("started again");
        Self { house, client: house.temporal().await.expect("Temporal"), began: OffsetDateTime::now_utc() }
    }

    /// When the time began to be skipped.
    pub(crate) fn began(&self) -> OffsetDateTime {
        self.began
    }

    /// The database's clock shows this time, and goes on from there.
    pub(crate) async fn move_database(&self, to: OffsetDateTime) {
        set_ahead(self.house.db(), (to - OffsetDateTime::now_utc()).whole_seconds()).await;
    }

    /// The workflow's time goes on until then; whatever it wanted to do on the way it does at its time.
    pub(crate) async fn skip(&self, workflow: &str, to: OffsetDateTime) {
        let (runs, info) = self.info(workflow).await;
        let left = to - time_in(info.as_ref());
        if !runs || left <= time::Duration::ZERO {
            return;
        }
        let mut ahead = FastForwardConfig { id: to.unix_timestamp().to_string(), duration: Some(Default::default()) };
        if let Some(duration) = &mut ahead.duration {
            (duration.seconds, duration.nanos) = (left.whole_seconds(), left.subsec_nanoseconds());
        }
        let config = TimeSkippingConfig {
            enabled: true,
            fast_forward_config: Some(ahead),
            max_session_skip_count: SKIPS_MAX,
            ..Default::default()
        };
        let mut request = UpdateWorkflowExecutionOptionsRequest {
            namespace: self.namespace(),
            workflow_execution: Some(execution(workflow)),
            workflow_execution_options: Some(WorkflowExecutionOptions {
                time_skipping_config: Some(config),
                ..Default::default()
            }),
            update_mask: Some(Default::default()),
            identity: "house".to_owned(),
        };
        request.update_mask.iter_mut().for_each(|mask| mask.paths.push("time_skipping_config".to_owned()));
        let mut service = self.client.connection().workflow_service();
        let asked = service.update_workflow_execution_options(Request::new(request)).await;
        asked.unwrap_or_else(|refusal| panic!("{workflow} cannot skip time: {refusal}"));
        until(&format!("{workflow} is at {to}"), LIMIT, || async {
            // One that ended on the way has no time any more.
            let (runs, info) = self.info(workflow).await;
            (!runs || time_in(info.as_ref()) >= to).then_some(())
        })
        .await;
    }

    fn namespace(&self) -> String {
        self.house.setting("TEMPORAL_NAMESPACE").expect("a namespace").to_owned()
    }

    /// Whether a workflow runs, and what it says of its time.
    async fn info(&self, workflow: &str) -> (bool, Option<TimeSkippingInfo>) {
        let question =
            DescribeWorkflowExecutionRequest { namespace: self.namespace(), execution: Some(execution(workflow)) };
        let mut service = self.client.connection().workflow_service();
        let told =
            service.describe_workflow_execution(Request::new(question)).await.expect("a description").into_inner();
        let runs = told.workflow_execution_info.is_some_and(|info| info.close_time.is_none());
        (runs, told.workflow_extended_info.and_then(|info| info.time_skipping_info))
    }
}

/// What a description says of the time; the present, before any was skipped.
fn time_in(info: Option<&TimeSkippingInfo>) -> OffsetDateTime {
    let Some(at) = info.and_then(|info| info.current_time.as_ref()) else { return OffsetDateTime::now_utc() };
    let whole = OffsetDateTime::from_unix_timestamp(at.seconds).expect("a time");
    whole + time::Duration::nanoseconds(i64::from(at.nanos))
}

async fn set_ahead(db: &PgPool, secs: i64) {
    sqlx::query("update ahead.by set secs = $1").bind(secs).execute(db).await.expect("a clock");
}

fn execution(workflow: &str) -> WorkflowExecution {
    WorkflowExecution { workflow_id: workflow.to_owned(), run_id: String::new() }
}
