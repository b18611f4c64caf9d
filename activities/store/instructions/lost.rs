//! What a subscription was told and nobody said what became of: its workflow may have been lost with it. It is given to the
//! workflow again, or comes to its end here, so that nothing is *being done* for ever.
use super::{InstructionEnd, note, settle};
use crate::{
    Difference, DifferenceKind, Store, StoreError,
    catalogue::money,
    fault::{Doing, word},
    timeline::{self, Entry, SYSTEM},
};
use domain::{
    UnixSecs,
    ids::{InstructionId, OrderId, ServiceId, SubscriptionId},
    instruction::{Ask, AskKind, Instruction, InstructionState},
    money::Money,
};
use time::OffsetDateTime;
use uuid::Uuid;

/// How many are looked after at once.
const LISTED_LIMIT: i64 = 1_000;

/// Something that was told and has not come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenInstruction {
    /// Which subscription was told.
    pub subscription: SubscriptionId,
    /// What it was told. Of a change of plan nobody knows any more what moment its price was counted from: nothing new is
    /// charged for it.
    pub instruction: Instruction,
    /// Whether something told later was done already, so that it may not be wanted any more.
    pub overtaken: bool,
}

/// Asks for what was told, of which this holds.
macro_rules! open_rows {
    ($which:tt, $($given:expr),+ $(,)?) => {
        sqlx::query_as!(
            OpenRow,
            r#"select i.id, i.subscription_id, i.order_id, i.kind, i.about, i.amount_minor, i.currency, i.until, i.actor,
                i.reason, i.asked_at, exists (select from instructions later
                    where later.subscription_id = i.subscription_id and later.asked_at > i.asked_at
                        and later.state = 'done') as "overtaken!"
               from instructions i where "# + $which,
            $($given),+
        )
    };
}

impl Store {
    /// Everything that was told more than a minute ago and has not come to its end, to be looked at.
    pub async fn unsettled_instructions(&self) -> Result<Vec<Difference>, StoreError> {
        let rows = sqlx::query!(
            "select id, subscription_id from instructions
             where state = 'accepted' and asked_at < now() - interval '1 minute' order by asked_at, id limit $1",
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading open instructions")?;
        Ok(rows
            .into_iter()
            .map(|row| Difference {
                kind: DifferenceKind::Instruction,
                object: row.id.to_string(),
                order: None,
                subscription: Some(SubscriptionId(row.subscription_id)),
                customer: None,
                why: "it was told something, and nobody said what became of it".to_owned(),
            })
            .collect())
    }

    /// One of them; `None` once it came to its end.
    ///
    /// *Errors*: [`StoreError::Corrupt`] when it cannot be read.
    pub async fn open_instruction(&self, id: InstructionId) -> Result<Option<OpenInstruction>, StoreError> {
        let row = open_rows!("i.id = $1 and i.state = 'accepted'", id.0)
            .fetch_optional(&self.pool)
            .await
            .doing("reading an open instruction")?;
        row.map(OpenRow::read).transpose()
    }

    /// What a subscription whose workflow was lost still has to do, oldest first.
    pub async fn to_carry_on(&self, subscription: &SubscriptionId) -> Result<Vec<Instruction>, StoreError> {
        let rows = open_rows!(
            "i.subscription_id = $1 and i.state = 'accepted'
               order by i.asked_at, i.id limit $2",
            subscription.0,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading open instructions")?;
        let open = rows.into_iter().map(OpenRow::read).collect::<Result<Vec<_>, StoreError>>()?;
        Ok(open.into_iter().filter(|open| !open.overtaken).map(|open| open.instruction).collect())
    }

    /// Ends one that was lost, and says so in the history of its order and in the trail. One that came to its end meanwhile
    /// stays as it is.
    pub async fn end_lost_instruction(&self, id: InstructionId, why: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query_as!(
            OpenRow,
            r#"select id, subscription_id, order_id, kind, about, amount_minor, currency, until, actor, reason, asked_at,
                false as "overtaken!"
               from instructions where id = $1 and state = 'accepted' for no key update"#,
            id.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("reading an open instruction")?;
        let Some(row) = row else { return Ok(()) };
        let (order, day, kind) = (OrderId(row.order_id), row.asked_at.date(), row.kind.replace('_', " "));
        let told = row.read()?.instruction;
        let end = InstructionEnd { state: InstructionState::Refused, words: Some(why.to_owned()), object: None };
        if settle(&mut tx, &told, &end).await? {
            note(&mut tx, order, &told, Some(&end)).await?;
            let line = format!("What was asked for on {day} (“{kind}”) was not done. {why}");
            let fact = format!("instruction/{id}/lost");
            timeline::write(&mut tx, Entry { order, actor: SYSTEM, kind: "instruction", line: &line, fact: &fact })
                .await?;
        }
        tx.commit().await.doing("ending an instruction")
    }
}

struct OpenRow {
    id: Uuid,
    subscription_id: String,
    order_id: Uuid,
    kind: String,
    about: Option<String>,
    amount_minor: Option<i64>,
    currency: Option<String>,
    until: Option<OffsetDateTime>,
    actor: String,
    reason: String,
    asked_at: OffsetDateTime,
    overtaken: bool,
}

impl OpenRow {
    fn read(self) -> Result<OpenInstruction, StoreError> {
        let what = self.what()?;
        Ok(OpenInstruction {
            subscription: SubscriptionId(self.subscription_id),
            instruction: Instruction { id: InstructionId(self.id), by: self.actor, reason: self.reason, what },
            overtaken: self.overtaken,
        })
    }

    fn what(&self) -> Result<Ask, StoreError> {
        Ok(match word::<AskKind>(&self.kind, "an instruction's kind")? {
            AskKind::Hold => Ask::Hold { until: self.until()? },
            AskKind::Release => Ask::Release,
            AskKind::Restore => Ask::Restore { until: self.until()? },
            AskKind::Refund => Ask::Refund { invoice: self.about()?, money: self.money()? },
            AskKind::Credit => Ask::Credit { money: self.money()? },
            AskKind::Extend => Ask::Extend { until: self.until()? },
            AskKind::ChangePlan => Ask::ChangePlan { price: self.about()?, proration_date: 0, shown: self.money()? },
            AskKind::ChangePlanAtEnd => Ask::ChangePlanAtEnd { price: self.about()? },
            AskKind::KeepPlan => Ask::KeepPlan,
            AskKind::CancelAtEnd => Ask::CancelAtEnd,
            AskKind::GoOn => Ask::GoOn,
            AskKind::CancelNow => Ask::CancelNow,
            AskKind::RemoveServer => Ask::RemoveServer { service: self.service()? },
            AskKind::KeepServer => Ask::KeepServer { service: self.service()? },
        })
    }

    fn about(&self) -> Result<String, StoreError> {
        self.about.clone().ok_or(StoreError::Corrupt { what: "what an instruction is about" })
    }

    fn service(&self) -> Result<ServiceId, StoreError> {
        word(&self.about()?, "what an instruction is about")
    }

    fn until(&self) -> Result<UnixSecs, StoreError> {
        let until = self.until.ok_or(StoreError::Corrupt { what: "the time of an instruction" })?;
        Ok(until.unix_timestamp())
    }

    fn money(&self) -> Result<Money, StoreError> {
        match (self.amount_minor, &self.currency) {
            (Some(minor), Some(currency)) => money(minor, currency),
            _ => Err(StoreError::Corrupt { what: "the money of an instruction" }),
        }
    }
}
