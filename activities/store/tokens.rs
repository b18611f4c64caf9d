//! Tokens of programs. A token is 256 random bits and shown once; its SHA-256 alone stands in the table, so neither a copy of the
//! table nor a comparison tells it. It does no more than its scopes say, ends by itself, and whatever ends every session of its
//! user ends it, too. It works for as long as whoever made it owns the account, and is revoked with that.
use crate::{
    Store, StoreError, User,
    access::{actor, lock_user},
    audit::{self, Actor, Entry},
    fault::Doing,
};
use domain::ids::{AccountId, UserId};
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

domain::states! {
    /// What a token may do.
    Scope {
        /// Read the account's name and its people's.
        AccountRead = "account:read",
        /// Read what the account has.
        ServicesRead = "services:read",
    }
}

/// How many tokens of an account work at once.
const LIVING_LIMIT: i64 = 20;
/// How many are listed at most.
const LISTED_LIMIT: i64 = 100;

/// A token that is made. Has no `Debug`: it holds what recognises a secret.
#[derive(Clone)]
pub struct TokenMade {
    /// From the form, so that the form sent twice makes one.
    pub id: Uuid,
    /// As its owner calls it.
    pub name: String,
    /// Its first characters.
    pub prefix: String,
    /// SHA-256 of it.
    pub token_hash: [u8; 32],
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// For how many days it works.
    pub days: i32,
}

/// What became of making one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenHolding {
    /// It works from now on.
    Made,
    /// The same form was sent before; what was made then was shown then.
    Before,
    /// So many work already that there is no place for one more.
    Full,
}

/// A token as its owner reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenLine {
    /// Which.
    pub id: Uuid,
    /// As its owner calls it.
    pub name: String,
    /// Who made it.
    pub made_by: String,
    /// Its first characters.
    pub prefix: String,
    /// What it may do, in the words of the table.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Until when it works.
    pub expires_at: OffsetDateTime,
    /// When it was last used, give or take a minute.
    pub used_at: Option<OffsetDateTime>,
    /// From where it was last used.
    pub used_network: Option<String>,
    /// Whether it works.
    pub is_living: bool,
    /// Whether it was revoked, or ended with every session of its user.
    pub is_revoked: bool,
}

/// Whoever brought a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBearer {
    /// Which token.
    pub id: Uuid,
    /// Whose.
    pub account: AccountId,
    /// Who made it.
    pub user: UserId,
    /// What it may do. A word of a later release is left out.
    pub scopes: Vec<Scope>,
    /// Whether its use is to be noted again.
    pub is_rested: bool,
}

impl Store {
    /// Makes a token for the account of a user who is still let in.
    ///
    /// *Errors*: [`StoreError::Conflict`] (`user_epoch`) when all of the user's sessions were ended meanwhile.
    pub async fn make_token(&self, user: &User, new: &TokenMade) -> Result<TokenHolding, StoreError> {
        let mut tx = self.begin().await?;
        lock_user(&mut tx, user).await?;
        // Two forms at once count one after the other.
        sqlx::query_scalar!("select id from accounts where id = $1 for no key update", user.account.0)
            .fetch_one(&mut *tx)
            .await
            .doing("locking an account")?;
        let living = sqlx::query_scalar!(
            r#"select count(*) as "count!" from api_tokens t
               where t.account_id = $1 and t.revoked_at is null and t.expires_at > now()
                and t.access_epoch = (select u.access_epoch from users u where u.id = t.user_id)
                and exists (
                    select 1 from members m
                    where m.account_id = t.account_id and m.user_id = t.user_id and m.role = 'owner'
                )"#,
            user.account.0,
        )
        .fetch_one(&mut *tx)
        .await
        .doing("counting tokens")?;
        let scopes: Vec<String> = new.scopes.iter().map(ToString::to_string).collect();
        let known = sqlx::query_scalar!(r#"select exists (select from api_tokens where id = $1) as "known!""#, new.id)
            .fetch_one(&mut *tx)
            .await
            .doing("looking for a token")?;
        if known {
            return Ok(TokenHolding::Before);
        }
        if living >= LIVING_LIMIT {
            return Ok(TokenHolding::Full);
        }
        sqlx::query!(
            "insert into api_tokens (id, account_id, user_id, name, prefix, token_hash, scopes, access_epoch, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(days => $9))",
            new.id,
            user.account.0,
            user.id.0,
            new.name,
            new.prefix,
            new.token_hash.as_slice(),
            &scopes,
            user.epoch,
            new.days,
        )
        .execute(&mut *tx)
        .await
        .doing("making a token")?;
        let entry = Entry {
            actor: actor(user),
            action: "token.made",
            account: Some(user.account),
            subject: format!("token/{}", new.id),
            network: None,
            before: None,
            after: Some(json!({ "name": new.name, "scopes": scopes, "days": new.days })),
        };
        audit::note(&mut tx, &entry).await?;
        tx.commit().await.doing("making a token")?;
        Ok(TokenHolding::Made)
    }

    /// The tokens of an account, the newest first; 100 at most.
    pub async fn tokens(&self, account: AccountId) -> Result<Vec<TokenLine>, StoreError> {
        sqlx::query_as!(
            TokenLine,
            r#"select t.id, t.name, u.name as "made_by!", t.prefix, t.scopes, t.created_at, t.expires_at, t.used_at,
                t.used_network,
                t.revoked_at is null and t.expires_at > now() and t.access_epoch = u.access_epoch and o.owns as "is_living!",
                t.revoked_at is not null or t.access_epoch <> u.access_epoch or not o.owns as "is_revoked!"
               from api_tokens t
                cross join lateral (select * from users one where one.id = t.user_id limit 1) u
                cross join lateral (select exists (
                    select 1 from members m
                    where m.account_id = t.account_id and m.user_id = t.user_id and m.role = 'owner'
                ) as owns) o
               where t.account_id = $1 order by t.created_at desc, t.id limit $2"#,
            account.0,
            LISTED_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("listing tokens")
    }

    /// Revokes a token of the user's account. One that is revoked stays so; somebody else's stays as it is.
    pub async fn revoke_token(&self, user: &User, id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let revoked = sqlx::query_scalar!(
            "update api_tokens set revoked_at = now() where id = $1 and account_id = $2 and revoked_at is null returning name",
            id,
            user.account.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("revoking a token")?;
        if let Some(name) = revoked {
            note_revoked(&mut tx, actor(user), user.account, (id, &name)).await?;
        }
        tx.commit().await.doing("revoking a token")
    }

    /// Whoever brings a token with this hash; nobody when it was revoked, is too old, or its user's or account's time is over.
    pub async fn token_bearer(&self, token_hash: &[u8; 32]) -> Result<Option<TokenBearer>, StoreError> {
        let row = sqlx::query!(
            r#"select t.id, t.account_id, t.user_id, t.scopes,
                t.used_at is null or t.used_at < now() - interval '1 minute' as "is_rested!"
               from api_tokens t
                join users u on u.id = t.user_id and u.access_epoch = t.access_epoch and u.closed_at is null
                join accounts a on a.id = t.account_id and a.closed_at is null
                join members m on m.account_id = t.account_id and m.user_id = t.user_id and m.role = 'owner'
               where t.token_hash = $1 and t.revoked_at is null and t.expires_at > now()"#,
            token_hash.as_slice(),
        )
        .fetch_optional(&self.pool)
        .await
        .doing("looking for a token")?;
        Ok(row.map(|row| TokenBearer {
            id: row.id,
            account: AccountId(row.account_id),
            user: UserId(row.user_id),
            scopes: row.scopes.iter().filter_map(|word| word.parse().ok()).collect(),
            is_rested: row.is_rested,
        }))
    }

    /// Notes that a token was used just now, and where; at most once a minute.
    pub async fn token_used(&self, id: Uuid, network: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "update api_tokens set used_at = now(), used_network = $2
             where id = $1 and (used_at is null or used_at < now() - interval '1 minute')",
            id,
            network,
        )
        .execute(&self.pool)
        .await
        .doing("noting the use of a token")?;
        Ok(())
    }
}

/// Revokes what somebody made for an account that they own no longer. Whoever owns it again makes new ones.
pub(crate) async fn revoke_made_by(
    db: &mut PgConnection,
    by: Actor,
    account: AccountId,
    maker: UserId,
) -> Result<(), StoreError> {
    let revoked = sqlx::query!(
        "update api_tokens set revoked_at = now()
         where account_id = $1 and user_id = $2 and revoked_at is null and expires_at > now() returning id, name",
        account.0,
        maker.0,
    )
    .fetch_all(&mut *db)
    .await
    .doing("revoking tokens")?;
    for token in revoked {
        note_revoked(&mut *db, by, account, (token.id, &token.name)).await?;
    }
    Ok(())
}

async fn note_revoked(
    db: &mut PgConnection,
    by: Actor,
    account: AccountId,
    (id, name): (Uuid, &str),
) -> Result<(), StoreError> {
    let entry = Entry {
        actor: by,
        action: "token.revoked",
        account: Some(account),
        subject: format!("token/{id}"),
        network: None,
        before: Some(json!({ "name": name, "works": true })),
        after: Some(json!({ "name": name, "works": false })),
    };
    audit::note(db, &entry).await
}
