//! What stands around every activity: a span that names workflow and order, how long it took, and what becomes of a panic.
use std::time::Instant;

use activities::fault::sorted;
use temporalio_sdk::interceptors::{ActivityInboundInterceptor, ExecuteActivityInput, ExecuteActivityOutput, Next};
use tracing::{Instrument, field::Empty};

use super::{continue_trace, note_trace};

/// Puts a span around every activity.
pub(crate) struct Spans;

impl ActivityInboundInterceptor for Spans {
    fn execute_activity<'a>(
        &'a self,
        input: ExecuteActivityInput,
        next: Next<'a, ExecuteActivityInput, ExecuteActivityOutput<'a>>,
    ) -> ExecuteActivityOutput<'a> {
        let info = input.activity_info();
        let activity = info.activity_type.clone();
        let local = info.is_local;
        let workflow = info.workflow_id.as_deref().unwrap_or_default();
        let span = tracing::info_span!(
            "activity",
            otel.name = %format_args!("activity {activity}"),
            activity,
            workflow,
            order = order_of(workflow),
            attempt = info.attempt,
            trace_id = Empty,
        );
        continue_trace(&span, input.headers());
        note_trace(&span);
        let done = async move {
            let began = Instant::now();
            let result = next.run(input).await.map_err(sorted);
            let outcome = if result.is_ok() { "done" } else { "failed" };
            if !local {
                tracing::info!(outcome, "an activity ended");
            }
            metrics::histogram!("ez_activity_duration_seconds", "activity" => activity, "outcome" => outcome)
                .record(began.elapsed().as_secs_f64());
            result
        };
        Box::pin(done.instrument(span))
    }
}

/// The order a workflow's id names, if it names one.
pub(crate) fn order_of(workflow: &str) -> Option<&str> {
    workflow.strip_prefix("order-")
}

#[cfg(test)]
mod tests {
    use super::order_of;

    #[test]
    fn only_the_workflow_of_an_order_names_one() {
        assert_eq!(
            order_of("order-6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
            Some("6f9619ff-8b86-d011-b42d-00cf4fc964ff")
        );
        assert_eq!(order_of("subscription-sub_1"), None);
    }
}
