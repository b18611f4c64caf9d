//! What people told a subscription to do, and what became of it.
use crate::{
    Store, StoreError,
    attention::name_of,
    audit::{self, Actor},
    catalogue::money,
    fault::{Doing, word},
    timeline::{self, Entry},
};
use domain::{
    ids::{AccountId, InstructionId, OrderId, SubscriptionId},
    instruction::{Ask, AskKind, Instruction, InstructionState},
    money::Money,
};
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;

pub mod lost;

/// How many instructions of one subscription are listed at most.
const LISTED_LIMIT: i64 = 100;

/// What became of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstructionEnd {
    /// Done or refused.
    pub state: InstructionState,
    /// Why it was refused, or that it was done by hand.
    pub words: Option<String>,
    /// What it made at Stripe.
    pub object: Option<String>,
}

/// One instruction as the pages list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstructionLine {
    /// Which.
    pub id: InstructionId,
    /// What was to be done.
    pub kind: AskKind,
    /// What it is about, at Stripe or with us.
    pub about: Option<String>,
    /// How much money it moves.
    pub money: Option<Money>,
    /// The time it names.
    pub until: Option<OffsetDateTime>,
    /// Who asked for it, by name.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// How far it is.
    pub state: InstructionState,
    /// Why it was refused, or that it was done by hand.
    pub words: Option<String>,
    /// What it made at Stripe.
    pub object: Option<String>,
    /// When it was asked for.
    pub asked_at: OffsetDateTime,
    /// When it was done or refused.
    pub settled_at: Option<OffsetDateTime>,
}

impl Store {
    /// Writes an instruction down once, and what became of it once; gives how far it is. What was done stands in the history
    /// of the subscription's order, with who and why.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`subscription_unknown`) before the subscription's order was paid.
    pub async fn note_instruction(
        &self,
        subscription: &SubscriptionId,
        instruction: &Instruction,
        end: Option<&InstructionEnd>,
    ) -> Result<InstructionState, StoreError> {
        let mut tx = self.begin().await?;
        let order = sqlx::query_scalar!("select order_id from subscriptions where id = $1", subscription.0)
            .fetch_optional(&mut *tx)
            .await
            .doing("reading a subscription")?
            .map(OrderId)
            .ok_or_else(|| StoreError::conflict("subscription_unknown"))?;
        if put(&mut tx, subscription, order, instruction).await? {
            note(&mut tx, order, instruction, None).await?;
        }
        if let Some(end) = end
            && settle(&mut tx, instruction, end).await?
        {
            note(&mut tx, order, instruction, Some(end)).await?;
            if end.state == InstructionState::Done {
                done(&mut tx, order, instruction, end).await?;
            }
        }
        let state = sqlx::query_scalar!("select state from instructions where id = $1", instruction.id.0)
            .fetch_one(&mut *tx)
            .await
            .doing("reading an instruction")?;
        tx.commit().await.doing("writing an instruction down")?;
        word(&state, "an instruction's state")
    }

    /// What a subscription was told, newest first; 100 at most.
    pub async fn instructions(&self, subscription: &SubscriptionId) -> Result<Vec<InstructionLine>, StoreError> {
        let rows = sqlx::query!(
            r#"select i.id, i.kind, i.about, i.amount_minor, i.currency, i.until, coalesce((select u.name from users u where u.id = case
                    when i.actor ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then i.actor::uuid end), i.actor) as "actor!",
                i.reason, i.state, i.words, i.object_id, i.asked_at, i.settled_at
               from instructions i where i.subscription_id = $1 order by i.asked_at desc, i.id limit $2"#,
            subscription.0,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading instructions")?;
        rows.into_iter()
            .map(|row| {
                Ok(InstructionLine {
                    id: InstructionId(row.id),
                    kind: word(&row.kind, "an instruction's kind")?,
                    about: row.about,
                    money: row.amount_minor.zip(row.currency).map(|(minor, code)| money(minor, &code)).transpose()?,
                    until: row.until,
                    actor: row.actor,
                    reason: row.reason,
                    state: word(&row.state, "an instruction's state")?,
                    words: row.words,
                    object: row.object_id,
                    asked_at: row.asked_at,
                    settled_at: row.settled_at,
                })
            })
            .collect()
    }
}

/// Gives whether it was not written down before.
async fn put(
    db: &mut PgConnection,
    subscription: &SubscriptionId,
    order: OrderId,
    told: &Instruction,
) -> Result<bool, StoreError> {
    let about = told.what.about();
    let written = sqlx::query!(
        "insert into instructions
            (id, subscription_id, kind, about, amount_minor, currency, until, actor, reason, order_id, state)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'accepted') on conflict (id) do nothing",
        told.id.0,
        subscription.0,
        told.what.kind().as_str(),
        about.as_deref(),
        told.what.money().map(|money| money.amount_minor),
        told.what.money().map(|money| money.currency.as_str()),
        moment(&told.what)?,
        told.by,
        told.reason,
        order.0,
    )
    .execute(db)
    .await
    .doing("writing an instruction down")?;
    Ok(written.rows_affected() == 1)
}

/// Writes into the trail who told it, or what became of it.
async fn note(
    db: &mut PgConnection,
    order: OrderId,
    told: &Instruction,
    end: Option<&InstructionEnd>,
) -> Result<(), StoreError> {
    let account = sqlx::query_scalar!("select account_id from orders where id = $1", order.0)
        .fetch_optional(&mut *db)
        .await
        .doing("reading whose instruction it is")?;
    let actor = Actor::named(&mut *db, &told.by).await?;
    let (action, was, state) = match end.map(|end| end.state) {
        None => ("instruction.given", None, InstructionState::Accepted),
        Some(state @ InstructionState::Refused) => ("instruction.refused", Some(InstructionState::Accepted), state),
        Some(state) => ("instruction.done", Some(InstructionState::Accepted), state),
    };
    let entry = audit::Entry {
        actor,
        action,
        account: account.map(AccountId),
        subject: format!("instruction/{}", told.id),
        network: None,
        before: Some(json!({ "state": was })),
        after: Some(json!({
            "state": state,
            "kind": told.what.kind().as_str(),
            "about": told.what.about(),
            "amount_minor": told.what.money().map(|money| money.amount_minor),
            "currency": told.what.money().map(|money| money.currency.as_str()),
            "until": told.what.until(),
            "reason": told.reason,
            "words": end.and_then(|end| end.words.as_deref()),
            "object": end.and_then(|end| end.object.as_deref()),
            "by": (actor == Actor::Hand).then_some(told.by.as_str()),
        })),
    };
    audit::note(db, &entry).await
}

/// Gives whether it had not come to an end before.
async fn settle(db: &mut PgConnection, told: &Instruction, end: &InstructionEnd) -> Result<bool, StoreError> {
    let settled = sqlx::query!(
        "update instructions set state = $2, words = $3, object_id = $4, settled_at = now()
         where id = $1 and state = 'accepted'",
        told.id.0,
        end.state.as_str(),
        end.words,
        end.object,
    )
    .execute(db)
    .await
    .doing("settling an instruction")?;
    Ok(settled.rows_affected() == 1)
}

async fn done(
    db: &mut PgConnection,
    order: OrderId,
    told: &Instruction,
    end: &InstructionEnd,
) -> Result<(), StoreError> {
    let actor = name_of(&mut *db, &told.by).await?;
    let mut line = line(&told.what, end.object.is_some())?;
    if !told.reason.trim().is_empty() {
        line = format!("{line} Reason: {}", told.reason.trim());
    }
    let fact = format!("instruction/{}", told.id);
    timeline::write(db, Entry { order, actor: &actor, kind: "instruction", line: &line, fact: &fact }).await?;
    Ok(())
}

/// What was done, in a sentence for the customer; of money only where something was made for it.
fn line(what: &Ask, made: bool) -> Result<String, StoreError> {
    let day = moment(what)?.map_or_else(String::new, |at| at.date().to_string());
    Ok(match what {
        Ask::Hold { .. } => format!("Nothing is suspended, stopped or removed before {day}."),
        Ask::Release => "What was due is not held any longer.".to_owned(),
        Ask::Restore { .. } => format!("Your server was started again, and is not stopped before {day}."),
        Ask::Refund { invoice, money } => format!("{money} of invoice {invoice} were given back."),
        Ask::Credit { money } => format!("{money} were credited to your account; the next invoices use them first."),
        Ask::Extend { .. } => format!("Your period was extended until {day} without a charge."),
        Ask::ChangePlan { shown, .. } if made => format!("Another plan was chosen, and {shown} paid for it."),
        Ask::ChangePlan { .. } => "Another plan was chosen.".to_owned(),
        Ask::ChangePlanAtEnd { .. } => "Another plan was chosen for the end of the period.".to_owned(),
        Ask::KeepPlan => "The plan stays as it is after all.".to_owned(),
        Ask::CancelAtEnd => "It was asked to end with its period.".to_owned(),
        Ask::GoOn => "It was asked to go on after all.".to_owned(),
        Ask::CancelNow => "It was ended at once, as asked for.".to_owned(),
        Ask::RemoveServer { .. } => "A server that the plan covers was taken away, as asked for.".to_owned(),
        Ask::KeepServer { .. } => "A server that was taken away is kept after all.".to_owned(),
    })
}

fn moment(what: &Ask) -> Result<Option<OffsetDateTime>, StoreError> {
    let moment =
        |secs| OffsetDateTime::from_unix_timestamp(secs).map_err(|_| StoreError::conflict("time_out_of_range"));
    what.until().map(moment).transpose()
}
