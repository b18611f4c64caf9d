//! Steps that ran out of patience and wait for staff.
use crate::{
    Store, StoreError,
    audit::{self, Actor},
    catalogue::number,
    fault::{Doing, count, word},
    letters::letter_given_up,
    orders::steps::delay,
    timeline::{self, Entry, SYSTEM},
};
use domain::{
    ids::{AccountId, AttentionId, OrderId, SubscriptionId},
    order::Step,
};
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

domain::states! {
    /// What staff decided about a waiting step.
    AttentionVerdict {
        /// Try again.
        Retry = "retry",
        /// Go on as if it had succeeded.
        Skip = "skip",
        /// Give up and undo.
        Abandon = "abandon",
    }
}

/// A step that begins to wait for staff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAttention {
    /// The workflow that waits.
    pub workflow_id: String,
    /// Which waiting of that workflow, from 1.
    pub occurrence: u32,
    /// The order it is about.
    pub order: Option<OrderId>,
    /// The subscription it is about.
    pub subscription: Option<SubscriptionId>,
    /// Which step.
    pub step: Step,
    /// Why, for staff.
    pub reason: String,
}

/// What staff decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledAttention {
    /// The workflow that waited.
    pub workflow_id: String,
    /// Which waiting of that workflow, from 1.
    pub occurrence: u32,
    /// The decision.
    pub verdict: AttentionVerdict,
    /// The result supplied by hand, with [`AttentionVerdict::Skip`].
    pub result: Option<String>,
    /// A staff user's uuid, or a name.
    pub by: String,
    /// The decider's reason.
    pub because: String,
}

/// A step that waits for staff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionLine {
    /// Which waiting.
    pub id: AttentionId,
    /// The workflow that waits.
    pub workflow_id: String,
    /// Which waiting of that workflow, from 1.
    pub occurrence: u32,
    /// The order it is about.
    pub order: Option<OrderId>,
    /// The subscription it is about.
    pub subscription: Option<SubscriptionId>,
    /// Which step.
    pub step: Step,
    /// Why.
    pub reason: String,
    /// Since when.
    pub raised_at: OffsetDateTime,
}

/// What the id of a letter's workflow begins with, before its occasion.
const LETTER: &str = "letter-";
/// How many waiting steps are listed at most.
const LISTED_LIMIT: i64 = 200;

impl Store {
    /// Notes that a step waits for staff, once for each workflow and occurrence, and gives its id. The step counts as
    /// delayed, and the customer reads so. The workflow of a subscription counts from 1 again in each of its runs, so an
    /// occurrence of one that was settled before is a new one.
    pub async fn raise_attention(&self, new: &NewAttention) -> Result<AttentionId, StoreError> {
        let mut tx = self.begin().await?;
        if let Some(order) = new.order {
            delay(&mut tx, order, new.step, true).await?;
            if let Some(known) = known(&mut tx, new).await? {
                return Ok(known);
            }
        }
        let id = AttentionId(Uuid::new_v4());
        let inserted = sqlx::query!(
            "insert into attention (id, workflow_id, occurrence, order_id, subscription_id, step, reason)
             values ($1, $2, $3, (select id from orders where id = $4), $5, $6, $7)
             on conflict (workflow_id, occurrence) where settled_at is null do nothing",
            id.0,
            new.workflow_id,
            number(new.occurrence)?,
            new.order.map(|order| order.0),
            new.subscription.as_ref().map(|subscription| &subscription.0),
            new.step.as_str(),
            new.reason,
        )
        .execute(&mut *tx)
        .await
        .doing("noting that a step waits")?;
        if inserted.rows_affected() == 0 {
            return known(&mut tx, new).await?.ok_or(StoreError::Corrupt { what: "a step that waits" });
        }
        if let Some(order) = order_of(&mut tx, id).await? {
            let line = format!("“{}” takes longer than expected. We are on it.", new.step.title());
            let fact = format!("attention/{id}/raised");
            let entry = Entry { order, actor: SYSTEM, kind: "attention", line: &line, fact: &fact };
            timeline::write(&mut tx, entry).await?;
        }
        tx.commit().await.doing("noting that a step waits")?;
        Ok(id)
    }

    /// Notes what staff decided, with who and why. What was settled stays settled as it was.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`attention_unknown`) when the step never waited.
    pub async fn settle_attention(&self, settled: &SettledAttention) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query!(
            "select id, order_id, step, settled_at from attention where workflow_id = $1 and occurrence = $2
             order by raised_at desc, id limit 1",
            settled.workflow_id,
            number(settled.occurrence)?,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("reading a step that waits")?
        .ok_or_else(|| StoreError::conflict("attention_unknown"))?;
        let (id, step) = (AttentionId(row.id), word::<Step>(&row.step, "a step")?);
        if let Some(order) = row.order_id {
            delay(&mut tx, OrderId(order), step, false).await?;
        }
        let changed = sqlx::query!(
            "update attention set settled_at = now(), verdict = $2, result = $3, decided_by = $4, decided_because = $5
             where id = $1 and settled_at is null",
            id.0,
            settled.verdict.as_str(),
            settled.result,
            settled.by,
            settled.because,
        )
        .execute(&mut *tx)
        .await
        .doing("settling a step that waits")?;
        if changed.rows_affected() == 0 {
            return Ok(());
        }
        if settled.verdict != AttentionVerdict::Retry
            && let Some(occasion) = settled.workflow_id.strip_prefix(LETTER)
        {
            let told = format!("{}: {}", settled.verdict, settled.because);
            letter_given_up(&mut tx, occasion, &told).await?;
        }
        note_decision(&mut tx, id, step, settled).await?;
        if let Some(order) = order_of(&mut tx, id).await? {
            let actor = name_of(&mut tx, &settled.by).await?;
            let title = step.title();
            let line = match settled.verdict {
                AttentionVerdict::Retry => format!("“{title}” is tried again."),
                AttentionVerdict::Skip => format!("“{title}” was done by hand."),
                AttentionVerdict::Abandon => format!("“{title}” was given up."),
            };
            let fact = format!("attention/{id}/settled");
            timeline::write(&mut tx, Entry { order, actor: &actor, kind: "attention", line: &line, fact: &fact })
                .await?;
        }
        tx.commit().await.doing("settling a step that waits")
    }

    /// The steps that wait for staff, oldest first; 200 at most.
    pub async fn open_attention(&self) -> Result<Vec<AttentionLine>, StoreError> {
        sqlx::query_as!(
            AttentionRow,
            "select id, workflow_id, occurrence, order_id, subscription_id, step, reason, raised_at
             from attention where settled_at is null order by raised_at, id limit $1",
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading the steps that wait")?
        .into_iter()
        .map(AttentionRow::read)
        .collect()
    }

    /// Whether staff have settled that waiting; false for one that was never written down.
    pub async fn attention_is_settled(&self, workflow_id: &str, occurrence: u32) -> Result<bool, StoreError> {
        let occurrence = i32::try_from(occurrence).unwrap_or(i32::MAX);
        sqlx::query_scalar!(
            r#"select exists (select from attention where workflow_id = $1 and occurrence = $2 and settled_at is not null)
               as "settled!""#,
            workflow_id,
            occurrence,
        )
        .fetch_one(&self.pool)
        .await
        .doing("asking whether a step was settled")
    }

    /// One step that waits for staff; `None` once it is settled.
    pub async fn attention(&self, id: AttentionId) -> Result<Option<AttentionLine>, StoreError> {
        sqlx::query_as!(
            AttentionRow,
            "select id, workflow_id, occurrence, order_id, subscription_id, step, reason, raised_at
             from attention where settled_at is null and id = $1",
            id.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a step that waits")?
        .map(AttentionRow::read)
        .transpose()
    }

    /// The step of an order that waits for staff, or of the subscription that pays for it.
    pub async fn attention_of_order(&self, order: OrderId) -> Result<Option<AttentionLine>, StoreError> {
        sqlx::query_as!(
            AttentionRow,
            "select id, workflow_id, occurrence, order_id, subscription_id, step, reason, raised_at
             from attention
             where settled_at is null
                and (order_id = $1 or subscription_id = (select subscription_id from orders where id = $1))
             order by raised_at, id limit 1",
            order.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a step that waits")?
        .map(AttentionRow::read)
        .transpose()
    }
}

struct AttentionRow {
    id: Uuid,
    workflow_id: String,
    occurrence: i32,
    order_id: Option<Uuid>,
    subscription_id: Option<String>,
    step: String,
    reason: String,
    raised_at: OffsetDateTime,
}

impl AttentionRow {
    fn read(self) -> Result<AttentionLine, StoreError> {
        Ok(AttentionLine {
            id: AttentionId(self.id),
            workflow_id: self.workflow_id,
            occurrence: count(self.occurrence, "an occurrence")?,
            order: self.order_id.map(OrderId),
            subscription: self.subscription_id.map(SubscriptionId),
            step: word(&self.step, "a step")?,
            reason: self.reason,
            raised_at: self.raised_at,
        })
    }
}

/// The same waiting, if it was noted before.
async fn known(db: &mut PgConnection, new: &NewAttention) -> Result<Option<AttentionId>, StoreError> {
    sqlx::query_scalar!(
        "select id from attention where workflow_id = $1 and occurrence = $2 order by raised_at desc, id limit 1",
        new.workflow_id,
        number(new.occurrence)?,
    )
    .fetch_optional(db)
    .await
    .doing("reading a step that waits")
    .map(|id| id.map(AttentionId))
}

/// The order whose history tells of it.
async fn order_of(db: &mut PgConnection, id: AttentionId) -> Result<Option<OrderId>, StoreError> {
    sqlx::query_scalar!(
        r#"select coalesce(a.order_id, s.order_id) as "order?"
           from attention a left join subscriptions s on s.id = a.subscription_id where a.id = $1"#,
        id.0,
    )
    .fetch_one(db)
    .await
    .doing("reading a step that waits")
    .map(|order| order.map(OrderId))
}

/// Writes into the trail who decided what, and why.
async fn note_decision(
    db: &mut PgConnection,
    id: AttentionId,
    step: Step,
    settled: &SettledAttention,
) -> Result<(), StoreError> {
    let account = sqlx::query_scalar!(
        r#"select o.account_id as "account?" from attention a left join subscriptions s on s.id = a.subscription_id
            left join orders o on o.id = coalesce(a.order_id, s.order_id)
           where a.id = $1"#,
        id.0,
    )
    .fetch_one(&mut *db)
    .await
    .doing("reading whose step waits")?;
    let actor = Actor::named(&mut *db, &settled.by).await?;
    let entry = audit::Entry {
        actor,
        action: "step.decided",
        account: account.map(AccountId),
        subject: format!("workflow/{}", settled.workflow_id),
        network: None,
        before: Some(json!({ "step": step, "state": "waits" })),
        after: Some(json!({
            "step": step, "verdict": settled.verdict, "result": settled.result, "because": settled.because,
            "by": (actor == Actor::Hand).then_some(&settled.by),
        })),
    };
    audit::note(db, &entry).await
}

/// The name of a staff user, or what was given instead of one.
pub(crate) async fn name_of(db: &mut PgConnection, by: &str) -> Result<String, StoreError> {
    let Ok(id) = Uuid::parse_str(by) else { return Ok(by.to_owned()) };
    let name = sqlx::query_scalar!("select name from users where id = $1", id)
        .fetch_optional(db)
        .await
        .doing("reading a user")?;
    Ok(name.unwrap_or_else(|| by.to_owned()))
}
