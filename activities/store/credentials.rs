//! Generated passwords, sealed, shown once and then erased.
use crate::{Store, StoreError, fault::Doing};
use domain::ids::{AccountId, ServiceId};

impl Store {
    /// Keeps a sealed password for a service, unless there is one, and gives the one there is: whoever sets it in the
    /// machine must use the answer. `None` when it was shown or erased already.
    pub async fn put_password(&self, service: ServiceId, sealed: &str) -> Result<Option<String>, StoreError> {
        sqlx::query!(
            "insert into credentials (service_id, sealed_password) values ($1, $2) on conflict (service_id) do nothing",
            service.0,
            sealed,
        )
        .execute(&self.pool)
        .await
        .doing("keeping a password")?;
        sqlx::query_scalar!("select sealed_password from credentials where service_id = $1", service.0)
            .fetch_one(&self.pool)
            .await
            .doing("reading a password")
    }

    /// Gives the sealed password of an account's delivered service, once, and erases it. `None` when there is none to
    /// show, or the service is not the account's.
    pub async fn take_password(&self, service: ServiceId, account: AccountId) -> Result<Option<String>, StoreError> {
        let mut tx = self.begin().await?;
        let sealed = sqlx::query_scalar!(
            r#"select c.sealed_password as "sealed!" from credentials c join services s on s.id = c.service_id
               where c.service_id = $1 and s.account_id = $2 and s.status <> 'provisioning'
                and c.sealed_password is not null
               for no key update of c"#,
            service.0,
            account.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking a password")?;
        let Some(sealed) = sealed else { return Ok(None) };
        let taken = sqlx::query!(
            "update credentials set sealed_password = null, shown_at = now()
             where service_id = $1 and sealed_password is not null",
            service.0,
        )
        .execute(&mut *tx)
        .await
        .doing("erasing a password")?;
        tx.commit().await.doing("erasing a password")?;
        Ok((taken.rows_affected() == 1).then_some(sealed))
    }
}
