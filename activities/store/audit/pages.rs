//! The trail as people read it: staff search all of it, an account's owner reads what is theirs.
use crate::{Store, StoreError, fault::Doing};
use domain::ids::{AccountId, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

/// What staff look for; nothing given is everything. Has no `Debug`: it names a person.
#[derive(Clone, Default)]
pub struct AuditFilter {
    /// Who did it, or with whose way in it was done.
    pub person: Option<Uuid>,
    /// Whose it is.
    pub account: Option<Uuid>,
    /// What was done, in the trail's own word.
    pub action: Option<String>,
    /// What it is about, such as `order/<id>`.
    pub subject: Option<String>,
    /// Not before this.
    pub from: Option<OffsetDateTime>,
    /// Before this.
    pub until: Option<OffsetDateTime>,
}

/// One entry as people read it. Has no `Debug`: it says where a person is.
#[derive(Clone)]
pub struct AuditLine {
    /// Which.
    pub id: i64,
    /// When it was written.
    pub at: OffsetDateTime,
    /// Who: system, hand, stranger, user, staff or token.
    pub actor_kind: String,
    /// Who it was, as an id.
    pub actor_id: Option<Uuid>,
    /// Their name, while it is known; for a token what its owner calls it.
    pub actor_name: Option<String>,
    /// Whose it is.
    pub account_id: Option<Uuid>,
    /// The account's name, while it is known.
    pub account_name: Option<String>,
    /// What was done.
    pub action: String,
    /// What it is about.
    pub subject: String,
    /// How it was, as JSON.
    pub before: Option<String>,
    /// How it is, as JSON.
    pub after: Option<String>,
    /// From where.
    pub network: Option<String>,
    /// Whether what said something of a person was forgotten.
    pub is_forgotten: bool,
    /// Its place in the chain; nothing while it waits for it.
    pub seq: Option<i64>,
}

impl Store {
    /// The entries that staff look for, the newest first, from before one of them.
    pub async fn search_audit(
        &self,
        filter: &AuditFilter,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<AuditLine>, StoreError> {
        let mut tx = self.begin().await?;
        // A plan made for what is given, and no other: what is not given costs nothing then.
        sqlx::query!(r#"select set_config('plan_cache_mode', 'force_custom_plan', true) as "mode!""#)
            .fetch_one(&mut *tx)
            .await
            .doing("choosing how to plan")?;
        let lines = sqlx::query_as!(
            AuditLine,
            r#"select a.id, a.at, a.actor_kind, a.actor_id,
                coalesce((select u.name from users u where u.id = a.actor_id),
                    (select t.name from api_tokens t where t.id = a.actor_id)) as actor_name,
                a.account_id, (select c.name from accounts c where c.id = a.account_id) as account_name,
                a.action, a.subject, coalesce(a.before, p.before)::text as before,
                coalesce(a.after, p.after)::text as after, p.network as "network?",
                a.particulars_hash is not null and p.audit_id is null as "is_forgotten!",
                (select l.seq from audit_links l where l.audit_id = a.id) as seq
               from audit a
                left join lateral (select * from audit_particulars one where one.audit_id = a.id limit 1) p on true
               where ($1::bigint is null or a.id < $1)
                and ($2::uuid is null or a.actor_id = $2 or a.subject = 'user/' || $2::uuid)
                and ($3::uuid is null or a.account_id = $3)
                and ($4::text is null or a.action = $4)
                and ($5::text is null or a.subject = $5)
                and ($6::timestamptz is null or a.at >= $6)
                and ($7::timestamptz is null or a.at < $7)
               order by a.id desc limit $8"#,
            before,
            filter.person,
            filter.account,
            filter.action,
            filter.subject,
            filter.from,
            filter.until,
            limit,
        )
        .fetch_all(&mut *tx)
        .await
        .doing("searching the trail")?;
        tx.commit().await.doing("searching the trail")?;
        Ok(lines)
    }

    /// The entries of an account, the newest first, from before one of them, as one of its owners may read them: where staff
    /// and other owners were, and what staff wrote for themselves, is not among it.
    pub async fn account_audit(
        &self,
        account: AccountId,
        reader: UserId,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<AuditLine>, StoreError> {
        sqlx::query_as!(
            AuditLine,
            r#"select a.id, a.at, a.actor_kind, a.actor_id,
                case when a.actor_kind <> 'staff' then coalesce((select u.name from users u where u.id = a.actor_id),
                    (select t.name from api_tokens t where t.id = a.actor_id)) end as actor_name,
                a.account_id, null::text as account_name, a.action, a.subject,
                case when a.actor_kind in ('user', 'token') or a.actor_id = $2 then coalesce(a.before, p.before)
                    else a.before end::text as before,
                case when a.actor_kind in ('user', 'token') or a.actor_id = $2 then coalesce(a.after, p.after)
                    else a.after end::text as after,
                case when a.actor_kind in ('token', 'stranger') or a.actor_id = $2 then p.network end as network,
                a.particulars_hash is not null and p.audit_id is null as "is_forgotten!",
                (select l.seq from audit_links l where l.audit_id = a.id) as seq
               from audit a
                left join lateral (select * from audit_particulars one where one.audit_id = a.id limit 1) p on true
               where a.account_id = $1 and ($3::bigint is null or a.id < $3)
               order by a.id desc limit $4"#,
            account.0,
            reader.0,
            before,
            limit,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading the trail of an account")
    }
}
