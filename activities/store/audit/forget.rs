//! What says something of a person is taken away; that something happened, who did it by id, and the chain stay. The salt goes
//! with it, so the hash that stays tells nothing.
use super::{Actor, Entry, note};
use crate::{Store, StoreError, fault::Doing};
use domain::ids::{AccountId, UserId};
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;

impl Store {
    /// Forgets the networks, addresses and words of everything a person did for themself or that was done with their way in, and,
    /// when an account is given, of everything that was done in it. Gives how many entries lost them. What staff did is kept until
    /// its time is over ([`Store::forget_audit_before`]), also when it is one of them who wants to be forgotten: it says why money
    /// moved. Only what they did with their own way in, an address they replaced, goes with it.
    pub async fn forget_in_audit(&self, user: UserId, account: Option<AccountId>) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let gone = forget(&mut tx, user, account).await?;
        tx.commit().await.doing("forgetting a person in the trail")?;
        Ok(gone)
    }

    /// Forgets the same of every entry from before then, at most `limit`, the oldest first. Gives how many lost it.
    pub async fn forget_audit_before(&self, before: OffsetDateTime, limit: i64) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        allow(&mut tx, "on").await?;
        let gone = sqlx::query!(
            "delete from audit_particulars where audit_id in (
                select p.audit_id from audit_particulars p join audit a on a.id = p.audit_id
                where a.at < $1 order by p.audit_id limit $2
             )",
            before,
            limit,
        )
        .execute(&mut *tx)
        .await
        .doing("forgetting what is old in the trail")?
        .rows_affected();
        allow(&mut tx, "").await?;
        tx.commit().await.doing("forgetting what is old in the trail")?;
        Ok(gone)
    }
}

/// The same, inside the transaction that does the rest.
pub(crate) async fn forget(db: &mut PgConnection, user: UserId, account: Option<AccountId>) -> Result<u64, StoreError> {
    allow(&mut *db, "on").await?;
    let gone = sqlx::query!(
        "with theirs as (
            select id from audit where actor_id = $1 and actor_kind <> 'staff'
            union select id from audit where subject = 'user/' || $1::uuid and (actor_kind <> 'staff' or actor_id = $1)
            union select id from audit where account_id = $2 and actor_kind <> 'staff'
         )
         delete from audit_particulars where audit_id in (select id from theirs)",
        user.0,
        account.map(|account| account.0),
    )
    .execute(&mut *db)
    .await
    .doing("forgetting a person in the trail")?
    .rows_affected();
    allow(&mut *db, "").await?;
    let entry = Entry {
        actor: Actor::System,
        action: "audit.forgotten",
        account,
        subject: format!("user/{user}"),
        network: None,
        before: None,
        after: Some(json!({ "entries": gone })),
    };
    note(&mut *db, &entry).await?;
    Ok(gone)
}

/// Lets particulars be taken away, or not any more; in this transaction only.
async fn allow(db: &mut PgConnection, how: &str) -> Result<(), StoreError> {
    sqlx::query!(r#"select set_config('ez.erasure', $1, true) as "how!""#, how)
        .fetch_one(db)
        .await
        .doing("allowing an erasure")?;
    Ok(())
}
