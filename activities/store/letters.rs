//! Letters to write, and what became of them. Each occasion is written to at most once.
use crate::{
    Store, StoreError,
    fault::{Doing, count},
    timeline::{self, Entry, SYSTEM},
};
use domain::ids::{OrderId, ServiceId, SubscriptionId, UserId};
use sqlx::PgConnection;

/// A letter that nobody has begun to send yet; its workflow is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedLetter {
    /// What makes it this letter and no other.
    pub occasion: String,
    /// What it says.
    pub kind: String,
    /// The person it is about.
    pub user: Option<UserId>,
    /// The order it is about.
    pub order: Option<OrderId>,
    /// The subscription it is about.
    pub subscription: Option<SubscriptionId>,
    /// The service it names.
    pub service: Option<ServiceId>,
}

/// A letter that is about to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLetter {
    /// What makes it this letter and no other.
    pub occasion: String,
    /// What it says.
    pub kind: String,
    /// The person it is about.
    pub user: Option<UserId>,
    /// The order it is about.
    pub order: Option<OrderId>,
    /// The subscription it is about.
    pub subscription: Option<SubscriptionId>,
    /// The service it names.
    pub service: Option<ServiceId>,
    /// The Message-ID to send it under, unless an earlier try chose one.
    pub message_id: String,
}

/// How far a letter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LetterState {
    /// Not handed over, or nobody knows: send it under this Message-ID.
    ToSend {
        /// The Message-ID of the first try.
        message_id: String,
        /// How many tries were begun, this one included.
        attempts: u32,
    },
    /// Handed to the mail server.
    Sent,
}

impl QueuedLetter {
    /// Writes it down to be sent. An occasion that is known stays as it is.
    pub(crate) async fn queue(&self, db: &mut PgConnection) -> Result<(), StoreError> {
        sqlx::query!(
            r#"with queued as (
                insert into letters (occasion, kind, user_id, order_id, subscription_id, service_id, state)
                values ($1, $2, $3, $4, $5, $6, 'queued')
                on conflict (occasion) do nothing returning occasion
               )
               select pg_notify('payment_events', occasion) as "done: ()" from queued"#,
            self.occasion,
            self.kind,
            self.user.map(|user| user.0),
            self.order.map(|order| order.0),
            self.subscription.as_ref().map(|subscription| &subscription.0),
            self.service.map(|service| service.0),
        )
        .fetch_optional(db)
        .await
        .doing("queueing a letter")?;
        Ok(())
    }
}

impl Store {
    /// Writes a letter down to be sent. An occasion that is known stays as it is.
    pub async fn queue_letter(&self, letter: &QueuedLetter) -> Result<(), StoreError> {
        let mut db = self.pool.acquire().await.doing("queueing a letter")?;
        letter.queue(&mut db).await
    }

    /// The letters of these `kinds` that nobody has begun to send, oldest first. One of another kind waits for a worker that
    /// knows it, and stands in nobody's way.
    pub async fn queued_letters(&self, kinds: &[String], limit: i64) -> Result<Vec<QueuedLetter>, StoreError> {
        let rows = sqlx::query!(
            "select occasion, kind, user_id, order_id, subscription_id, service_id
             from letters where state = 'queued' and kind = any($1) order by created_at, occasion limit $2",
            kinds,
            limit,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading queued letters")?;
        Ok(rows
            .into_iter()
            .map(|row| QueuedLetter {
                occasion: row.occasion,
                kind: row.kind,
                user: row.user_id.map(UserId),
                order: row.order_id.map(OrderId),
                subscription: row.subscription_id.map(SubscriptionId),
                service: row.service_id.map(ServiceId),
            })
            .collect())
    }

    /// Writes down that a letter is about to be handed over, and says whether it still has to be. The Message-ID of the
    /// first try stays.
    pub async fn begin_letter(&self, letter: &NewLetter) -> Result<LetterState, StoreError> {
        let row = sqlx::query!(
            r#"insert into letters
                (occasion, kind, user_id, order_id, subscription_id, service_id, state, message_id, attempts)
               values ($1, $2, $3, (select id from orders where id = $4), $5, $6, 'started', $7, 1)
               on conflict (occasion) do update set
                state = case when letters.state = 'sent' then letters.state else excluded.state end,
                user_id = coalesce(letters.user_id, excluded.user_id),
                order_id = coalesce(letters.order_id, excluded.order_id),
                message_id = coalesce(letters.message_id, excluded.message_id),
                attempts = letters.attempts + case when letters.state = 'sent' then 0 else 1 end
               returning state = 'sent' as "sent!", message_id as "message_id!", attempts"#,
            letter.occasion,
            letter.kind,
            letter.user.map(|user| user.0),
            letter.order.map(|order| order.0),
            letter.subscription.as_ref().map(|subscription| &subscription.0),
            letter.service.map(|service| service.0),
            letter.message_id,
        )
        .fetch_one(&self.pool)
        .await
        .doing("beginning a letter")?;
        if row.sent {
            return Ok(LetterState::Sent);
        }
        Ok(LetterState::ToSend { message_id: row.message_id, attempts: count(row.attempts, "a letter's attempts")? })
    }

    /// Notes that the mail server took a letter. The history of its order gets a line.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`letter_unknown`) when it was never begun.
    pub async fn letter_sent(&self, occasion: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query!(
            r#"update letters set state = 'sent', sent_at = coalesce(sent_at, now()), last_error = null
               where occasion = $1
               returning kind, coalesce(
                order_id,
                (select o.id from orders o where o.service_id = letters.service_id),
                (select s.order_id from subscriptions s where s.id = letters.subscription_id)
               ) as "order?""#,
            occasion,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("noting a letter")?
        .ok_or_else(|| StoreError::conflict("letter_unknown"))?;
        if let (Some(order), Some(line)) = (row.order, line(&row.kind)) {
            tell(&mut tx, OrderId(order), occasion, line).await?;
        }
        tx.commit().await.doing("noting a letter")
    }

    /// Notes why a try to hand a letter over failed; it will be tried again.
    pub async fn letter_failed(&self, occasion: &str, error: &str) -> Result<(), StoreError> {
        sqlx::query!("update letters set last_error = $2 where occasion = $1 and state <> 'sent'", occasion, error)
            .execute(&self.pool)
            .await
            .doing("noting a failed letter")?;
        Ok(())
    }

    /// Notes that a letter will not be sent, whether or not it was begun; staff see it. Beginning it again tries once more.
    pub async fn letter_refused(&self, occasion: &str, kind: &str, error: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into letters (occasion, kind, state, last_error) values ($1, $2, 'refused', $3)
             on conflict (occasion) do update set state = 'refused', last_error = excluded.last_error
             where letters.state <> 'sent'",
            occasion,
            kind,
            error,
        )
        .execute(&self.pool)
        .await
        .doing("noting a refused letter")?;
        Ok(())
    }
}

/// Notes that staff do not want a letter sent any more; it stands among the refused ones with what they said.
pub(crate) async fn letter_given_up(db: &mut PgConnection, occasion: &str, told: &str) -> Result<(), StoreError> {
    sqlx::query!(
        "update letters set state = 'refused', last_error = $2 where occasion = $1 and state <> 'sent'",
        occasion,
        told,
    )
    .execute(db)
    .await
    .doing("noting a letter given up")?;
    Ok(())
}

/// Writes the letter down that tells of a delivery.
pub(crate) async fn announce_delivery(db: &mut PgConnection, order: OrderId) -> Result<(), StoreError> {
    sqlx::query!(
        r#"with queued as (
            insert into letters (occasion, kind, order_id, service_id, state)
            select 'service_delivered/' || service_id, 'service_delivered', id, service_id, 'queued'
            from orders where id = $1
            on conflict (occasion) do nothing returning occasion
           )
           select pg_notify('payment_events', occasion) as "done: ()" from queued"#,
        order.0,
    )
    .fetch_optional(db)
    .await
    .doing("queueing a letter")?;
    Ok(())
}

async fn tell(db: &mut PgConnection, order: OrderId, occasion: &str, line: &str) -> Result<(), StoreError> {
    let fact = format!("letter/{occasion}");
    timeline::write(db, Entry { order, actor: SYSTEM, kind: "letter", line, fact: &fact }).await?;
    Ok(())
}

/// What the customer's history says about a letter; nothing about those to staff.
fn line(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "service_delivered" => "We wrote to you: your server is ready.",
        "payment_received" => "We wrote to you: your payment arrived.",
        "payment_reminder" => "We wrote to you: a payment is missing.",
        "payment_confirmation" => "We wrote to you: your bank wants a payment confirmed.",
        "plan_confirmation" => "We wrote to you: your bank wants the payment for your new plan confirmed.",
        "plan_unchanged" => "We wrote to you: your plan stays as it is.",
        "term_changed" => "We wrote to you: how often your plan is paid has changed.",
        "service_resized" => "We wrote to you: your server has its new size.",
        "service_restored" => "We wrote to you: your server was started again.",
        "service_suspended" => "We wrote to you: your server is suspended.",
        "service_resumed" => "We wrote to you: your server runs again.",
        "trial_ending" => "We wrote to you: your trial ends soon.",
        "subscription_ending" => "We wrote to you: your subscription will end.",
        "service_retained" => "We wrote to you: your server was stopped and will be destroyed.",
        "service_removed" => "We wrote to you: you removed a server, and it will be destroyed.",
        "destruction_warning" => "We wrote to you: your server will soon be destroyed.",
        "service_expired" => "We wrote to you: your server is gone.",
        "order_abandoned" => "We wrote to you: we could not deliver.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn letters_to_staff_are_not_in_the_customers_history() {
        assert!(line("service_suspended").is_some());
        assert_eq!(line("staff_attention"), None);
        assert_eq!(line("verify_address"), None);
    }
}
