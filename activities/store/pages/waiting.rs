//! Changes of plan that wait: for their payment, or for the end of the period.
use crate::{
    Store, StoreError,
    catalogue::money,
    fault::{Doing, word},
};
use domain::{
    ids::{InstructionId, SubscriptionId},
    instruction::InstructionState,
    money::Money,
    plan::Term,
};
use time::OffsetDateTime;

/// How many are listed at most.
const WAITING_LIMIT: i64 = 100;

/// A change of plan that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingPlan {
    /// Of which subscription.
    pub subscription: SubscriptionId,
    /// Who pays.
    pub account_name: String,
    /// What runs on it.
    pub hostnames: String,
    /// The plan it has.
    pub from: String,
    /// The plan it changes to; nothing for a price that is no plan's.
    pub to: Option<String>,
    /// What that costs each term.
    pub price: Option<(Money, Term)>,
    /// When it changes, or is given up.
    pub at: OffsetDateTime,
    /// Whether it is given up then unless it is paid before.
    pub needs_payment: bool,
}

/// A change of plan that waits for its payment, for whoever pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingPlan {
    /// The plan it changes to.
    pub name: String,
    /// When it is given up.
    pub until: OffsetDateTime,
    /// Where it is paid.
    pub pay_url: Option<String>,
}

/// Another plan as somebody wished for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanWish {
    /// The plan.
    pub name: String,
    /// What was to be paid at once.
    pub due: Option<Money>,
    /// How far it is.
    pub state: InstructionState,
}

impl Store {
    /// Every change of plan that waits, soonest first; 100 at most.
    pub async fn waiting_plans(&self) -> Result<Vec<WaitingPlan>, StoreError> {
        let rows = sqlx::query!(
            r#"select s.id, a.name as account_name, had.name as had, p.name as "plan_name?",
                pr.amount_minor as "amount_minor?", pr.currency as "currency?", pr.term as "term?",
                coalesce(s.pending_until, s.next_price_at) as "at!", s.pending_price is not null as "needs_payment!",
                coalesce((select string_agg(v.hostname, ', ' order by v.hostname) from services v
                    where v.subscription_id = s.id and v.status <> 'undone'), '') as "hostnames!"
               from subscriptions s
               join accounts a on a.id = s.account_id
               join plans had on had.id = s.plan_id
               left join prices pr on pr.stripe_price_id = coalesce(s.pending_price, s.next_price)
               left join plans p on p.id = pr.plan_id
               where (s.pending_price is not null or s.next_price is not null) and s.phase <> 'expired'
               order by coalesce(s.pending_until, s.next_price_at), s.id limit $1"#,
            WAITING_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading changes that wait")?;
        rows.into_iter()
            .map(|row| {
                let price = match (row.amount_minor, row.currency, row.term) {
                    (Some(minor), Some(code), Some(term)) => {
                        Some((money(minor, &code)?, word(&term, "a price's term")?))
                    }
                    _ => None,
                };
                Ok(WaitingPlan {
                    subscription: SubscriptionId(row.id),
                    account_name: row.account_name,
                    hostnames: row.hostnames,
                    from: row.had,
                    to: row.plan_name,
                    price,
                    at: row.at,
                    needs_payment: row.needs_payment,
                })
            })
            .collect()
    }

    /// The change of plan of a subscription that waits for its payment.
    pub(super) async fn pending_plan(&self, subscription: &SubscriptionId) -> Result<Option<PendingPlan>, StoreError> {
        sqlx::query_as!(
            PendingPlan,
            r#"select p.name, s.pending_until as "until!", i.hosted_url as "pay_url?"
               from subscriptions s
               join prices pr on pr.stripe_price_id = s.pending_price
               join plans p on p.id = pr.plan_id
               left join invoices i on i.id = s.pending_invoice and i.status = 'open'
               where s.id = $1"#,
            subscription.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading a change that waits")
    }

    /// The plan that an instruction is about.
    pub async fn plan_wish(&self, instruction: InstructionId) -> Result<Option<PlanWish>, StoreError> {
        let row = sqlx::query!(
            "select p.name, t.amount_minor, t.currency, t.state from instructions t
             join prices pr on pr.stripe_price_id = t.about join plans p on p.id = pr.plan_id where t.id = $1",
            instruction.0,
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading what plan was wished for")?;
        row.map(|row| {
            Ok(PlanWish {
                name: row.name,
                due: row.amount_minor.zip(row.currency).map(|(minor, code)| money(minor, &code)).transpose()?,
                state: word(&row.state, "an instruction's state")?,
            })
        })
        .transpose()
    }
}
