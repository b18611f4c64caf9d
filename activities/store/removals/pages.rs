//! What is held back, for staff.
use crate::{
    Store, StoreError,
    fault::{Doing, word},
};
use domain::{
    ids::SubscriptionId,
    removal::{HeldBy, RemovalKind},
};
use time::OffsetDateTime;

/// How many lines are listed at most.
const LISTED_LIMIT: i64 = 200;
/// How many of one subscription are.
const OF_ONE_LIMIT: i64 = 10;

/// Something that is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRemoval {
    /// What makes it this one and no other.
    pub occasion: String,
    /// By which subscription.
    pub subscription: SubscriptionId,
    /// Who pays.
    pub account_name: String,
    /// What would be taken away, by name: all that the subscription pays for, or the one that its customer takes away.
    pub hostnames: String,
    /// Whether it is that one, and the subscription goes on.
    pub alone: bool,
    /// What would be taken away.
    pub kind: RemovalKind,
    /// Why it is held back, in one word.
    pub by: HeldBy,
    /// Why, in a sentence.
    pub why: String,
    /// Since when.
    pub asked_at: OffsetDateTime,
}

/// Something a subscription was about to take away, held back or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovalLine {
    /// What.
    pub kind: RemovalKind,
    /// Whether it is one server that its customer takes away.
    pub alone: bool,
    /// The name of that one.
    pub server: Option<String>,
    /// Why it is held back; nothing when it is not.
    pub why: Option<String>,
    /// When it was first asked for.
    pub asked_at: OffsetDateTime,
    /// When it got leave.
    pub allowed_at: Option<OffsetDateTime>,
    /// Who approved it, by name.
    pub approved_by: Option<String>,
    /// Why they did.
    pub approved_because: Option<String>,
}

impl Store {
    /// What is held back, what waits for staff first, then oldest first; 200 at most.
    pub async fn held_removals(&self) -> Result<Vec<HeldRemoval>, StoreError> {
        let rows = sqlx::query!(
            r#"select r.occasion, r.subscription_id, r.kind, r.cause as "cause!", coalesce(r.why, '') as "why!", r.asked_at,
                r.service_id is not null as "alone!",
                a.name, coalesce((select string_agg(v.hostname, ', ' order by v.hostname) from services v
                    where v.subscription_id = r.subscription_id and v.status <> 'undone'
                        and (r.service_id is null or v.id = r.service_id)), '') as "hostnames!"
               from removals r join orders o on o.id = r.order_id join accounts a on a.id = o.account_id
               where r.cause is not null
               order by r.cause not in ('breaker', 'refused'), r.asked_at, r.occasion limit $1"#,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading what is held back")?;
        rows.into_iter()
            .map(|row| {
                Ok(HeldRemoval {
                    occasion: row.occasion,
                    subscription: SubscriptionId(row.subscription_id),
                    account_name: row.name,
                    hostnames: row.hostnames,
                    alone: row.alone,
                    kind: word(&row.kind, "what is taken away")?,
                    by: word(&row.cause, "why something is held back")?,
                    why: row.why,
                    asked_at: row.asked_at,
                })
            })
            .collect()
    }

    /// What one subscription was about to take away, newest first; 10 at most.
    pub async fn removals_of(&self, subscription: &SubscriptionId) -> Result<Vec<RemovalLine>, StoreError> {
        let rows = sqlx::query!(
            r#"select r.kind, r.why, r.asked_at, r.allowed_at, r.approved_because,
                r.service_id is not null as "alone!", (select v.hostname from services v where v.id = r.service_id) as server,
                coalesce((select u.name from users u
                    where u.id = case when r.approved_by ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                        then r.approved_by::uuid end), r.approved_by) as approved_by
               from removals r where r.subscription_id = $1 order by r.asked_at desc, r.occasion limit $2"#,
            subscription.0,
            OF_ONE_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading what was held back")?;
        rows.into_iter()
            .map(|row| {
                Ok(RemovalLine {
                    kind: word(&row.kind, "what is taken away")?,
                    alone: row.alone,
                    server: row.server,
                    why: row.why,
                    asked_at: row.asked_at,
                    allowed_at: row.allowed_at,
                    approved_by: row.approved_by,
                    approved_because: row.approved_because,
                })
            })
            .collect()
    }
}
