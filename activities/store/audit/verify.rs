//! Going through the chain: the first place that is not right, and what is wrong there.
use super::chain::{AuditHead, Hashed, hash_of};
use crate::{Store, StoreError, fault::Doing};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// Over how many numbers of entries it is asked at once whether all of them are linked.
const SPAN: i64 = 100_000;

/// The first place that is not right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditBreak {
    /// Which link; for an entry that no link leads to, the one after the end of the chain.
    pub seq: i64,
    /// Which entry, where that is known.
    pub entry: Option<i64>,
    /// When the entry says it was written.
    pub at: Option<OffsetDateTime>,
    /// What is wrong.
    pub why: &'static str,
}

/// How far it was gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditStep {
    /// All is right to here, and there is more.
    More(AuditHead),
    /// All is right to the end of the chain, which is here.
    End(AuditHead),
    /// All is right to the link before this place.
    Broken(AuditBreak),
}

struct Row {
    seq: i64,
    audit_id: i64,
    hash: Vec<u8>,
    id: Option<i64>,
    at: Option<OffsetDateTime>,
    actor_kind: Option<String>,
    actor_id: Option<uuid::Uuid>,
    account_id: Option<uuid::Uuid>,
    action: Option<String>,
    subject: Option<String>,
    before: Option<String>,
    after: Option<String>,
    particulars_hash: Option<Vec<u8>>,
    salt: Option<Vec<u8>>,
    particulars: Option<String>,
}

impl Row {
    /// What is wrong with this link after the one before it, or where it ends.
    fn judged(self, previous: &AuditHead) -> Result<Result<AuditHead, AuditBreak>, StoreError> {
        let (entry, at) = (self.audit_id, self.at);
        let broken = |why| Ok(Err(AuditBreak { seq: previous.seq + 1, entry: Some(entry), at, why }));
        if self.seq != previous.seq + 1 {
            return Ok(Err(AuditBreak { seq: previous.seq + 1, entry: None, at: None, why: "the link was taken out" }));
        }
        let (Some(id), Some(at), Some(actor_kind), Some(action), Some(subject)) =
            (self.id, self.at, self.actor_kind, self.action, self.subject)
        else {
            return broken("the entry was taken out");
        };
        // What was forgotten can not be proved, and need not be; what is there must be what was there.
        let told = self.salt.zip(self.particulars).map(|(salt, text)| particulars_hash(salt, &text));
        if told.is_some_and(|told| self.particulars_hash.as_deref() != Some(told.as_slice())) {
            return broken("what is kept of a person beside the entry was changed");
        }
        let hashed = Hashed {
            id,
            at,
            actor_kind,
            actor_id: self.actor_id,
            account_id: self.account_id,
            action,
            subject,
            before: self.before,
            after: self.after,
            particulars_hash: self.particulars_hash,
        };
        let head = hashed.linked_after(previous);
        if head.hash == hash_of(self.hash)? { Ok(Ok(head)) } else { broken("the entry or its link was changed") }
    }
}

/// As the function `audit_write` of the tables makes it.
fn particulars_hash(mut salt: Vec<u8>, text: &str) -> [u8; 32] {
    salt.extend_from_slice(text.as_bytes());
    Sha256::digest(&salt).into()
}

impl Store {
    /// Goes through the chain from after a place that is known to be right, at most `limit` links.
    pub async fn check_audit(&self, after: &AuditHead, limit: i64) -> Result<AuditStep, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"select l.seq as "seq!", l.audit_id as "audit_id!", l.hash as "hash!", a.id as "id?", a.at as "at?", a.actor_kind as "actor_kind?",
                a.actor_id as "actor_id?", a.account_id as "account_id?", a.action as "action?", a.subject as "subject?",
                a.before::text as before, a.after::text as after, a.particulars_hash as "particulars_hash?",
                p.salt as "salt?",
                case when p.audit_id is not null then jsonb_build_array(p.network, p.before, p.after)::text end
                    as particulars
               from audit_links l
                left join lateral (select * from audit one where one.id = l.audit_id limit 1) a on true
                left join lateral (select * from audit_particulars one where one.audit_id = l.audit_id limit 1) p on true
               where l.seq > $1 order by l.seq limit $2"#,
            after.seq,
            limit,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading the chain")?;
        let mut head = *after;
        if rows.is_empty() {
            return Ok(AuditStep::End(head));
        }
        for row in rows {
            match row.judged(&head)? {
                Ok(next) => head = next,
                Err(broken) => return Ok(AuditStep::Broken(broken)),
            }
        }
        Ok(AuditStep::More(head))
    }

    /// The first entry that is neither linked nor waiting, and the first that waits and is not there. In every snapshot there
    /// is neither.
    pub async fn stray_audit(&self) -> Result<Option<AuditBreak>, StoreError> {
        let head = self.audit_head().await?;
        let lost = sqlx::query_scalar!(
            "select u.id from audit_unlinked u where (select a.id from audit a where a.id = u.id) is null order by u.id limit 1"
        )
        .fetch_optional(&self.pool)
        .await
        .doing("looking for entries that are lost")?;
        if let Some(entry) = lost {
            let why = "an entry that waited for its link was taken out";
            return Ok(Some(AuditBreak { seq: head.seq + 1, entry: Some(entry), at: None, why }));
        }
        let newest = sqlx::query_scalar!(r#"select coalesce(max(id), 0) as "last!" from audit"#)
            .fetch_one(&self.pool)
            .await
            .doing("reading the end of the trail")?;
        let mut from = 0;
        while from < newest {
            let stray = sqlx::query!(
                r#"select a.id, a.at from audit a
                   where a.id > $1 and a.id <= $2
                    and (select l.seq from audit_links l where l.audit_id = a.id) is null
                    and (select u.id from audit_unlinked u where u.id = a.id) is null
                   order by a.id limit 1"#,
                from,
                from + SPAN,
            )
            .fetch_optional(&self.pool)
            .await
            .doing("looking for entries without a link")?;
            if let Some(row) = stray {
                let why = "no link leads to the entry";
                return Ok(Some(AuditBreak { seq: head.seq + 1, entry: Some(row.id), at: Some(row.at), why }));
            }
            from += SPAN;
        }
        Ok(None)
    }

    /// When the entries of the first and of the last link were written.
    pub async fn audit_times(&self) -> Result<Option<(OffsetDateTime, OffsetDateTime)>, StoreError> {
        let row = sqlx::query!(
            r#"select (select a.at from audit_links l join audit a on a.id = l.audit_id order by l.seq limit 1) as first,
                (select a.at from audit_links l join audit a on a.id = l.audit_id order by l.seq desc limit 1) as last"#
        )
        .fetch_one(&self.pool)
        .await
        .doing("reading the times of the chain")?;
        Ok(row.first.zip(row.last))
    }
}
