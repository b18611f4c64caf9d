//! The breaker: when more is taken away within an hour than is usual, something else is wrong (Stripe answers nonsense, a clock
//! jumped), and everything waits for staff. It counts in one place, one after the other.
use super::{Held, NewRemoval};
use crate::{StoreError, fault::Doing};
use domain::removal::HeldBy;
use sqlx::PgConnection;

/// The name of the lock under which places in the hour's allowance are given.
const PLACES: i64 = 7_261_001;

/// How much may be taken away within an hour before staff are asked: the larger of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// So many subscriptions.
    pub number: u32,
    /// So many of a hundred that live.
    pub percent: u32,
}

/// Waits until nobody else is given a place; until the end of the transaction.
pub(super) async fn lock(db: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!(r#"select pg_advisory_xact_lock($1) as "done: ()""#, PLACES)
        .fetch_one(db)
        .await
        .doing("waiting for a place")?;
    Ok(())
}

/// Gives a place in the hour's allowance, or says that staff are asked. Once it has tripped, everything waits until staff have
/// decided about all that is held. What staff approved is not counted.
pub(super) async fn held(
    db: &mut PgConnection,
    asked: &NewRemoval,
    allowance: Allowance,
) -> Result<Option<Held>, StoreError> {
    lock(db).await?;
    // A statement of its own, so that it sees what was given while the lock was waited for.
    let seen = sqlx::query!(
        r#"select exists (select from removals where occasion = $1 and allowed_at is not null) as "had!",
            exists (select from removals where cause = 'breaker' and (subscription_id <> $2 or occasion = $1))
                as "tripped!",
            (select count(*) from removals where approved_at is null and allowed_at > now() - interval '1 hour')
                as "lately!""#,
        asked.occasion,
        asked.subscription.0,
    )
    .fetch_one(&mut *db)
    .await
    .doing("counting what was taken away")?;
    if seen.had {
        return Ok(None);
    }
    let number = i64::from(allowance.number);
    if !seen.tripped && (seen.lately < number || is_within_share(db, allowance, seen.lately).await?) {
        return Ok(None);
    }
    if !seen.tripped {
        tell_staff(db, asked).await?;
    }
    let why = format!("{} were suspended or ended within the last hour, and that is much: staff decide.", seen.lately);
    Ok(Some(Held::by(HeldBy::Breaker, why)))
}

/// Queues a letter to staff, once for each time it trips.
async fn tell_staff(db: &mut PgConnection, asked: &NewRemoval) -> Result<(), StoreError> {
    sqlx::query!(
        r#"with queued as (
            insert into letters (occasion, kind, subscription_id, state) values ($1, 'removals_held', $2, 'queued')
            on conflict (occasion) do nothing returning occasion
           )
           select pg_notify('payment_events', occasion) as "done: ()" from queued"#,
        format!("removals_held/{}", asked.occasion),
        asked.subscription.0,
    )
    .fetch_optional(db)
    .await
    .doing("queueing a letter to staff")?;
    Ok(())
}

/// Whether so many live that one more is still within the share of them. No more of them are counted than that takes.
async fn is_within_share(db: &mut PgConnection, allowance: Allowance, lately: i64) -> Result<bool, StoreError> {
    let percent = i64::from(allowance.percent);
    if percent == 0 {
        return Ok(false);
    }
    let others = (lately.saturating_add(1).saturating_mul(100) + percent - 1) / percent - 1;
    sqlx::query_scalar!(
        r#"select exists (select from subscriptions where phase <> 'expired' order by id offset $1) as "so_many!""#,
        others,
    )
    .fetch_one(db)
    .await
    .doing("counting subscriptions")
}
