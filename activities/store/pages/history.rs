//! The history as the pages read it.
use super::TimelineLine;
use crate::{Store, StoreError, fault::Doing};
use domain::ids::ServiceId;

/// How many lines of a history are shown at most; the newest stay.
const HISTORY_LIMIT: i64 = 200;

impl Store {
    /// The history of a service and of the order it was built for, oldest first.
    pub(super) async fn history(&self, service: ServiceId) -> Result<Vec<TimelineLine>, StoreError> {
        let mut lines = sqlx::query_as!(
            TimelineLine,
            "select happened_at as at, actor, kind, line from timeline
             where service_id = $1 order by id desc limit $2",
            service.0,
            HISTORY_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading the timeline")?;
        lines.reverse();
        Ok(lines)
    }
}
