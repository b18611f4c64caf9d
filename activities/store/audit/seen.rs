//! The end of the chain that was seen last: an end that is cut off is right in itself, and only what remembers it can miss it.
use super::chain::{AuditHead, hash_of};
use crate::{Store, StoreError, fault::Doing};

impl Store {
    /// Remembers the end of the chain. One that is missed stays remembered, whatever is linked after it was cut off.
    pub async fn see_audit(&self) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into audit_seen as known (seq, hash) select seq, hash from audit_links order by seq desc limit 1
             on conflict (only_one) do update set seq = excluded.seq, hash = excluded.hash
             where known.seq < excluded.seq
                and exists (select from audit_links l where l.seq = known.seq and l.hash = known.hash)"
        )
        .execute(&self.pool)
        .await
        .doing("remembering the end of the chain")?;
        Ok(())
    }

    /// The end of the chain that was seen last, when it is not in the chain any more.
    pub async fn missed_audit(&self) -> Result<Option<AuditHead>, StoreError> {
        let missed = sqlx::query!(
            "select known.seq, known.hash from audit_seen known
             where not exists (select from audit_links l where l.seq = known.seq and l.hash = known.hash)"
        )
        .fetch_optional(&self.pool)
        .await
        .doing("looking for the end of the chain that was seen")?;
        missed.map(|row| Ok(AuditHead { seq: row.seq, hash: hash_of(row.hash)? })).transpose()
    }
}
