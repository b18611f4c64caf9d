//! How often something was tried, counted in one place for every process that answers pages.
//!
//! A try is counted before it is made, so a hundred made at once are a hundred counted. What is counted is a keyed digest:
//! neither a network nor an address of a person stands in the table.
use crate::{Store, StoreError, fault::Doing};
use sqlx::PgConnection;

/// The longest a way is closed after a try, where it is not locked, in seconds.
const LONGEST_WAIT_SECS: u32 = 900;

/// How often something may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// How many tries cost no wait. After each further one the wait doubles, from two seconds.
    pub free: u32,
    /// With which try the way is locked; never, when not given.
    pub lock: Option<u32>,
    /// How long a lock lasts, in seconds. After it there is one try, and then the next lock.
    pub lock_secs: u32,
    /// Every how many seconds one try is forgotten, where they are forgotten one by one.
    pub leak_secs: Option<u32>,
    /// After how many seconds without a try the count begins anew.
    pub forget_secs: u32,
}

impl Rule {
    /// How long the way is closed after so many tries, in seconds.
    pub fn closed_secs(&self, attempts: u32) -> u32 {
        if self.locks(attempts) {
            return self.lock_secs;
        }
        match attempts.saturating_sub(self.free) {
            0 => 0,
            over => 2_u32.checked_pow(over).map_or(LONGEST_WAIT_SECS, |secs| secs.min(LONGEST_WAIT_SECS)),
        }
    }

    /// Whether so many tries lock the way.
    pub fn locks(&self, attempts: u32) -> bool {
        self.lock.is_some_and(|lock| attempts >= lock)
    }
}

/// What is counted, and how often it may be tried.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// The form, such as `login`.
    pub route: &'static str,
    /// A keyed digest of who tries, or of whom it is tried for.
    pub subject: [u8; 32],
    /// How often.
    pub rule: Rule,
}

/// Whether a try may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Yes.
    Open,
    /// Yes, and unless it succeeds the way is locked now.
    Last,
    /// No.
    Closed {
        /// For so long, in seconds; at least one.
        secs: u64,
        /// Whether it is a lock.
        locked: bool,
    },
}

impl Store {
    /// Counts a try for each of these and says whether it may be made. What is closed refuses, and is not counted; what comes
    /// after it is not asked. To be asked in the order *network, then range, then address*.
    pub async fn take(&self, counted: &[Counted]) -> Result<Taken, StoreError> {
        let mut tx = self.begin().await?;
        let mut taken = Taken::Open;
        for one in counted {
            match count_one(&mut tx, one).await? {
                closed @ Taken::Closed { .. } => {
                    taken = closed;
                    break;
                }
                Taken::Last => taken = Taken::Last,
                Taken::Open => {}
            }
        }
        tx.commit().await.doing("counting a try")?;
        Ok(taken)
    }

    /// Forgets every try for a subject, and opens its way again.
    pub async fn forgive(&self, route: &str, subject: &[u8; 32]) -> Result<(), StoreError> {
        sqlx::query!("delete from limits where route = $1 and subject = $2", route, subject.as_slice())
            .execute(&self.pool)
            .await
            .doing("forgetting tries")?;
        Ok(())
    }

    /// Takes one try back: it succeeded, and many people may share a network.
    pub async fn give_back(&self, route: &str, subject: &[u8; 32]) -> Result<(), StoreError> {
        sqlx::query!(
            "update limits set attempts = greatest(attempts - 1, 0) where route = $1 and subject = $2",
            route,
            subject.as_slice(),
        )
        .execute(&self.pool)
        .await
        .doing("taking a try back")?;
        Ok(())
    }
}

/// The row stays locked until the transaction ends, so tries for one subject are counted one after the other. One that waited
/// for another may have begun before it, and then nothing is forgotten in between.
async fn count_one(db: &mut PgConnection, one: &Counted) -> Result<Taken, StoreError> {
    let row = sqlx::query!(
        r#"insert into limits as l (route, subject, attempts, last_at) values ($1, $2, 1, now())
           on conflict (route, subject) do update set
            attempts = case
                when l.closed_until > now() then l.attempts
                when l.last_at < now() - make_interval(secs => $3) then 1
                else greatest(l.attempts - floor(greatest(extract(epoch from now() - l.last_at), 0) / $4::float8)::integer, 0) + 1
            end,
            last_at = case when l.closed_until > now() then l.last_at else now() end
           returning l.attempts, ceil(extract(epoch from l.closed_until - now()))::bigint as "wait?""#,
        one.route,
        one.subject.as_slice(),
        f64::from(one.rule.forget_secs),
        f64::from(one.rule.leak_secs.unwrap_or(u32::MAX)),
    )
    .fetch_one(&mut *db)
    .await
    .doing("counting a try")?;
    let attempts = u32::try_from(row.attempts).map_err(|_| StoreError::Corrupt { what: "a count of tries" })?;
    let wait = row.wait.and_then(|secs| u64::try_from(secs).ok()).unwrap_or(0);
    if wait > 0 {
        return Ok(Taken::Closed { secs: wait, locked: one.rule.locks(attempts) });
    }
    let closed = one.rule.closed_secs(attempts);
    if closed > 0 {
        sqlx::query!(
            "update limits set closed_until = now() + make_interval(secs => $3) where route = $1 and subject = $2",
            one.route,
            one.subject.as_slice(),
            f64::from(closed),
        )
        .execute(db)
        .await
        .doing("closing a way")?;
    }
    Ok(if one.rule.locks(attempts) { Taken::Last } else { Taken::Open })
}

#[cfg(test)]
mod tests {
    use super::Rule;

    const RULE: Rule = Rule { free: 5, lock: Some(12), lock_secs: 3600, leak_secs: None, forget_secs: 86_400 };

    #[test]
    fn the_wait_doubles_after_the_free_tries_and_ends_in_a_lock() {
        let waits: Vec<u32> = (1..=13).map(|attempts| RULE.closed_secs(attempts)).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 3600, 3600]);
        assert!(!RULE.locks(11) && RULE.locks(12) && RULE.locks(100));
    }

    #[test]
    fn a_way_that_is_never_locked_is_never_closed_for_long() {
        let rule = Rule { lock: None, ..RULE };
        assert_eq!(rule.closed_secs(14), 512);
        assert_eq!(rule.closed_secs(15), 900);
        assert_eq!(rule.closed_secs(u32::MAX), 900);
        assert!(!rule.locks(u32::MAX));
    }
}
