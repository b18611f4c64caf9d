//! What is about to be taken away from customers: leave for it, what holds it back, and what staff approved.
//!
//! The gate says whether everything is as it has to be; the breaker whether not too much is taken away within an hour. Both
//! are asked in one transaction, right before the act.
use crate::{
    Store, StoreError,
    audit::{self, Actor},
    fault::{Doing, word},
};
use domain::{
    UnixSecs,
    ids::{AccountId, OrderId, ServiceId, SubscriptionId},
    removal::{HeldBy, RemovalKind},
};
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;

mod breaker;
mod gate;
mod pages;

pub use breaker::Allowance;
pub use pages::{HeldRemoval, RemovalLine};

/// Something that is about to be taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRemoval {
    /// By which subscription.
    pub subscription: SubscriptionId,
    /// What.
    pub kind: RemovalKind,
    /// What makes it this one and no other.
    pub occasion: String,
    /// The unpaid invoice it is for.
    pub invoice: Option<String>,
    /// Whether a payment of it is on its way.
    pub payment_pending: bool,
    /// How many reminders the mail server has to have.
    pub reminders: u32,
    /// How long it has to have had the last notice, in seconds.
    pub notice_secs: i64,
    /// The one server it takes away, where its customer wants only that.
    pub service: Option<ServiceId>,
}

/// Why something is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// In one word.
    pub by: HeldBy,
    /// In a sentence.
    pub why: String,
    /// When it is over by itself, where that is known.
    pub until: Option<UnixSecs>,
}

impl Held {
    fn by(by: HeldBy, why: impl Into<String>) -> Self {
        Self { by, why: why.into(), until: None }
    }
}

/// Which of what waits for staff they approve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approved {
    /// One.
    One(String),
    /// All that were asked for until then.
    AllUntil(OffsetDateTime),
}

impl Store {
    /// Gives leave to take something away, or says why not yet. Whoever got leave keeps its place in the hour's allowance,
    /// so asking again counts once; everything else is asked anew each time.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`subscription_unknown`) before its order was paid.
    pub async fn ask_leave(&self, asked: &NewRemoval, allowance: Allowance) -> Result<Option<Held>, StoreError> {
        let mut tx = self.begin().await?;
        let order = sqlx::query_scalar!(
            "select order_id from subscriptions where id = $1 for no key update",
            asked.subscription.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking a subscription")?
        .map(OrderId)
        .ok_or_else(|| StoreError::conflict("subscription_unknown"))?;
        let held = match gate::held(&mut tx, asked).await? {
            Some(held) => Some(held),
            None => breaker::held(&mut tx, asked, allowance).await?,
        };
        // Whatever else it wanted before, it does not want any more.
        not_held(&mut tx, &asked.subscription, Some(&asked.occasion)).await?;
        sqlx::query!(
            "insert into removals (occasion, subscription_id, order_id, kind, cause, why, allowed_at, service_id)
             values ($1, $2, $3, $4, $5, $6, case when $5::text is null then now() end, $7)
             on conflict (occasion) do update set cause = excluded.cause, why = excluded.why,
                allowed_at = coalesce(removals.allowed_at, excluded.allowed_at)",
            asked.occasion,
            asked.subscription.0,
            order.0,
            asked.kind.as_str(),
            held.as_ref().map(|held| held.by.as_str()),
            held.as_ref().map(|held| held.why.as_str()),
            asked.service.map(|service| service.0),
        )
        .execute(&mut *tx)
        .await
        .doing("giving leave")?;
        tx.commit().await.doing("giving leave")?;
        Ok(held)
    }

    /// Approves what waits for staff, with who and why; gives how many. What was approved already, or does not wait for
    /// staff, stays as it is.
    pub async fn approve_removals(&self, which: &Approved, by: &str, because: &str) -> Result<u64, StoreError> {
        let asks = staff_are_asked();
        let (one, until) = match which {
            Approved::One(occasion) => (Some(occasion.as_str()), None),
            Approved::AllUntil(until) => (None, Some(*until)),
        };
        let mut tx = self.begin().await?;
        breaker::lock(&mut tx).await?;
        let approved = sqlx::query!(
            r#"with held as (
                select occasion, cause, why from removals
                where cause = any($5) and (occasion = $1 or asked_at <= $2) for update
               )
               update removals r set cause = null, why = null, allowed_at = coalesce(r.allowed_at, now()),
                approved_at = now(), approved_by = $3, approved_because = $4
               from held where r.occasion = held.occasion
               returning r.occasion as "occasion!", held.cause, held.why,
                (select o.account_id from orders o where o.id = r.order_id) as "account_id!""#,
            one,
            until,
            by,
            because,
            &asks,
        )
        .fetch_all(&mut *tx)
        .await
        .doing("approving what is held back")?;
        let actor = Actor::named(&mut tx, by).await?;
        for row in &approved {
            let entry = audit::Entry {
                actor,
                action: "removal.approved",
                account: Some(AccountId(row.account_id)),
                subject: format!("removal/{}", row.occasion),
                network: None,
                before: Some(json!({ "held_by": row.cause, "why": row.why })),
                after: Some(json!({ "held_by": null, "because": because })),
            };
            audit::note(&mut tx, &entry).await?;
        }
        tx.commit().await.doing("approving what is held back")?;
        Ok(u64::try_from(approved.len()).unwrap_or(u64::MAX))
    }

    /// How much is held back, by cause.
    pub async fn removals_held(&self) -> Result<Vec<(HeldBy, i64)>, StoreError> {
        let rows = sqlx::query!(
            r#"select cause as "cause!", count(*) as "count!" from removals where cause is not null group by cause"#
        )
        .fetch_all(&self.pool)
        .await
        .doing("counting what is held back")?;
        rows.into_iter().map(|row| Ok((word(&row.cause, "why something is held back")?, row.count))).collect()
    }
}

/// Notes that nothing of a subscription is held back any more, but for one occasion.
pub(crate) async fn not_held(
    db: &mut PgConnection,
    subscription: &SubscriptionId,
    but: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update removals set cause = null, why = null
         where subscription_id = $1 and cause is not null and occasion is distinct from $2",
        subscription.0,
        but,
    )
    .execute(db)
    .await
    .doing("noting that nothing is held back")?;
    Ok(())
}

fn staff_are_asked() -> Vec<String> {
    HeldBy::ALL.iter().filter(|by| by.asks_staff()).map(ToString::to_string).collect()
}
