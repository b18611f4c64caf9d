//! The chain: each link holds the hash of the link before it and of its entry, so nothing in the middle can be changed, taken
//! out or put in without every later hash being another one.
//!
//! Entries wait, and one worker at a time links what waits: no order waits for the end of the chain. Seen together they are
//! linked in the order in which they were written; what was committed before another began is linked before it.
//!
//! What is joined here is joined row by row (`lateral … limit 1`): of tables that only grow, no plan may read the beginning.
use crate::{Store, StoreError, fault::Doing};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

/// The name of the lock under which entries are linked.
const LINKING: i64 = 7_261_002;
/// What every hash begins with, so that it is a hash of nothing else.
const FORM: &[u8] = b"ez audit 1\n";

/// The hash before the first link.
const NOTHING: [u8; 32] = [0; 32];

/// The end of the chain, or any other place in it. Whoever keeps one outside can tell later that nothing before was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Which link; nought before the first.
    pub seq: i64,
    /// Its hash.
    pub hash: [u8; 32],
}

impl AuditHead {
    /// Before the first link.
    pub const BEGINNING: Self = Self { seq: 0, hash: NOTHING };
}

/// What waits to be linked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AuditWaiting {
    /// How many entries.
    pub count: i64,
    /// The age of the oldest, in seconds.
    pub oldest_secs: f64,
}

/// An entry as it is hashed.
pub(super) struct Hashed {
    pub(super) id: i64,
    pub(super) at: OffsetDateTime,
    pub(super) actor_kind: String,
    pub(super) actor_id: Option<Uuid>,
    pub(super) account_id: Option<Uuid>,
    pub(super) action: String,
    pub(super) subject: String,
    /// As PostgreSQL writes it.
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    pub(super) particulars_hash: Option<Vec<u8>>,
}

impl Hashed {
    /// The hash of the link after `previous` to this entry: SHA-256 over the form's name, the previous hash, the link's
    /// number, the entry's id and its time in microseconds since 1970 (eight bytes each, most significant first), and then
    /// each column: a nought for one without a value, otherwise a one, its length in eight bytes, and its bytes.
    pub(super) fn linked_after(&self, previous: &AuditHead) -> AuditHead {
        let seq = previous.seq + 1;
        let micros = i64::try_from(self.at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
        let (actor, account) = (self.actor_id.map(|id| id.to_string()), self.account_id.map(|id| id.to_string()));
        let mut bytes = FORM.to_vec();
        bytes.extend_from_slice(&previous.hash);
        for number in [seq, self.id, micros] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        let columns: [Option<&[u8]>; 8] = [
            Some(self.actor_kind.as_bytes()),
            actor.as_deref().map(str::as_bytes),
            account.as_deref().map(str::as_bytes),
            Some(self.action.as_bytes()),
            Some(self.subject.as_bytes()),
            self.before.as_deref().map(str::as_bytes),
            self.after.as_deref().map(str::as_bytes),
            self.particulars_hash.as_deref(),
        ];
        for column in columns {
            bytes.push(u8::from(column.is_some()));
            if let Some(column) = column {
                let length = u64::try_from(column.len()).unwrap_or(u64::MAX);
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend_from_slice(column);
            }
        }
        AuditHead { seq, hash: Sha256::digest(&bytes).into() }
    }
}

impl Store {
    /// Links what waits, the longest waiting first, at most `limit` entries, and gives how many. Nothing while somebody else
    /// does it. Killed in the middle, it has linked nothing.
    pub async fn link_audit(&self, limit: i64) -> Result<usize, StoreError> {
        let waits = sqlx::query_scalar!(r#"select exists (select from audit_unlinked) as "waits!""#)
            .fetch_one(&self.pool)
            .await
            .doing("looking for what is not linked")?;
        if !waits {
            return Ok(0);
        }
        let mut tx = self.begin().await?;
        let mine = sqlx::query_scalar!(r#"select pg_try_advisory_xact_lock($1) as "mine!""#, LINKING)
            .fetch_one(&mut *tx)
            .await
            .doing("taking the end of the chain")?;
        if !mine {
            return Ok(0);
        }
        // Statements of their own, so that they see what the last one to hold the lock has linked.
        let last = sqlx::query!("select seq, hash from audit_links order by seq desc limit 1")
            .fetch_optional(&mut *tx)
            .await
            .doing("reading the end of the chain")?;
        let mut head = match last {
            Some(row) => AuditHead { seq: row.seq, hash: hash_of(row.hash)? },
            None => AuditHead::BEGINNING,
        };
        let waiting = sqlx::query_as!(
            Hashed,
            r#"select a.id as "id!", a.at as "at!", a.actor_kind as "actor_kind!", a.actor_id as "actor_id?",
                a.account_id as "account_id?", a.action as "action!", a.subject as "subject!", a.before::text as before,
                a.after::text as after, a.particulars_hash as "particulars_hash?"
               from audit_unlinked u cross join lateral (select * from audit one where one.id = u.id limit 1) a
               order by u.id limit $1"#,
            limit,
        )
        .fetch_all(&mut *tx)
        .await
        .doing("reading what is not linked")?;
        let (mut seqs, mut ids, mut hashes) = (vec![], vec![], vec![]);
        for entry in &waiting {
            head = entry.linked_after(&head);
            seqs.push(head.seq);
            ids.push(entry.id);
            hashes.push(head.hash.to_vec());
        }
        sqlx::query!(
            "insert into audit_links (seq, audit_id, hash) select * from unnest($1::bigint[], $2::bigint[], $3::bytea[])",
            &seqs,
            &ids,
            &hashes,
        )
        .execute(&mut *tx)
        .await
        .doing("linking entries")?;
        sqlx::query!("delete from audit_unlinked where id = any($1)", &ids)
            .execute(&mut *tx)
            .await
            .doing("noting what is linked")?;
        tx.commit().await.doing("linking entries")?;
        Ok(ids.len())
    }

    /// The end of the chain.
    pub async fn audit_head(&self) -> Result<AuditHead, StoreError> {
        let last = sqlx::query!("select seq, hash from audit_links order by seq desc limit 1")
            .fetch_optional(&self.pool)
            .await
            .doing("reading the end of the chain")?;
        last.map_or(Ok(AuditHead::BEGINNING), |row| Ok(AuditHead { seq: row.seq, hash: hash_of(row.hash)? }))
    }

    /// The hash of one link, when it is there.
    pub async fn audit_link(&self, seq: i64) -> Result<Option<AuditHead>, StoreError> {
        let row = sqlx::query!("select seq, hash from audit_links where seq = $1", seq)
            .fetch_optional(&self.pool)
            .await
            .doing("reading a link")?;
        row.map(|row| Ok(AuditHead { seq: row.seq, hash: hash_of(row.hash)? })).transpose()
    }

    /// What waits to be linked.
    pub async fn audit_waiting(&self) -> Result<AuditWaiting, StoreError> {
        sqlx::query_as!(
            AuditWaiting,
            r#"select (select count(*) from audit_unlinked) as "count!",
                coalesce((select extract(epoch from now() - a.at)::float8 from audit a
                    where a.id = (select min(u.id) from audit_unlinked u)), 0) as "oldest_secs!""#
        )
        .fetch_one(&self.pool)
        .await
        .doing("counting what is not linked")
    }
}

pub(super) fn hash_of(bytes: Vec<u8>) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Corrupt { what: "a hash of the trail" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Hashed {
        Hashed {
            id: 7,
            at: OffsetDateTime::UNIX_EPOCH,
            actor_kind: "user".to_owned(),
            actor_id: Some(Uuid::nil()),
            account_id: None,
            action: "order.delivered".to_owned(),
            subject: "order/1".to_owned(),
            before: None,
            after: Some(r#"{"status": "delivered"}"#.to_owned()),
            particulars_hash: Some(vec![1; 32]),
        }
    }

    #[test]
    fn every_part_of_an_entry_and_of_its_place_makes_another_hash() {
        let first = entry().linked_after(&AuditHead::BEGINNING);
        assert_eq!(first.seq, 1);
        assert_eq!(first, entry().linked_after(&AuditHead::BEGINNING), "the same entry at the same place differs");
        let other_place = AuditHead { seq: 1, hash: NOTHING };
        let other_past = AuditHead { seq: 0, hash: [9; 32] };
        let mut seen =
            vec![first.hash, entry().linked_after(&other_place).hash, entry().linked_after(&other_past).hash];
        let changes: [fn(&mut Hashed); 10] = [
            |entry| entry.id = 8,
            |entry| entry.at += time::Duration::microseconds(1),
            |entry| entry.actor_kind = "staff".to_owned(),
            |entry| entry.actor_id = None,
            |entry| entry.account_id = Some(Uuid::nil()),
            |entry| entry.action = "order.lapsed".to_owned(),
            |entry| entry.subject = "order/2".to_owned(),
            |entry| entry.before = Some(String::new()),
            |entry| entry.after = None,
            |entry| entry.particulars_hash = None,
        ];
        for change in changes {
            let mut otherwise = entry();
            change(&mut otherwise);
            seen.push(otherwise.linked_after(&AuditHead::BEGINNING).hash);
        }
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "two different entries have one hash");
    }

    #[test]
    fn a_letter_that_moves_from_one_column_to_the_next_makes_another_hash() {
        let mut moved = entry();
        moved.action = "order.deliveredo".to_owned();
        moved.subject = "rder/1".to_owned();
        let (one, other) = (entry().linked_after(&AuditHead::BEGINNING), moved.linked_after(&AuditHead::BEGINNING));
        assert_ne!(one.hash, other.hash);
    }
}
