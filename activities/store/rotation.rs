//! Every column that holds what the portal's key sealed, read in slices and written anew one by one: for a key that is replaced
//! while everything runs. A column that is sealed has its word here.
use crate::{Store, StoreError, fault::Doing};
use uuid::Uuid;

/// A column of sealed text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedColumn {
    /// The SSH key of an order.
    SshKey,
    /// The generated password of a service.
    Password,
    /// The seed of somebody's app.
    Seed,
    /// A copy of somebody's data that waits to be fetched; many megabytes each.
    Archive,
}

/// One value of such a column. Has no `Debug`: it is a secret, if a sealed one.
#[derive(Clone)]
pub struct SealedRow {
    /// The row it stands in.
    pub id: Uuid,
    /// What stands there.
    pub sealed: String,
}

impl SealedColumn {
    /// Every one there is.
    pub const ALL: [Self; 4] = [Self::SshKey, Self::Password, Self::Seed, Self::Archive];

    /// What people call it, with its table.
    pub fn name(self) -> &'static str {
        match self {
            Self::SshKey => "orders.sealed_ssh_key",
            Self::Password => "credentials.sealed_password",
            Self::Seed => "totp.sealed_seed",
            Self::Archive => "data_exports.sealed_archive",
        }
    }
}

impl Store {
    /// The next hundred rows of a column after a row, in the order of their ids; the first ones after [`Uuid::nil`]. Of the copies
    /// of people's data one: each may be many megabytes.
    pub async fn sealed_rows(&self, column: SealedColumn, after: Uuid) -> Result<Vec<SealedRow>, StoreError> {
        let rows = match column {
            SealedColumn::SshKey => {
                sqlx::query_as!(
                    SealedRow,
                    r#"select id, sealed_ssh_key as "sealed!" from orders
                       where sealed_ssh_key is not null and id > $1 order by id limit 100"#,
                    after,
                )
                .fetch_all(&self.pool)
                .await
            }
            SealedColumn::Password => {
                sqlx::query_as!(
                    SealedRow,
                    r#"select service_id as id, sealed_password as "sealed!" from credentials
                       where sealed_password is not null and service_id > $1 order by service_id limit 100"#,
                    after,
                )
                .fetch_all(&self.pool)
                .await
            }
            SealedColumn::Seed => {
                sqlx::query_as!(
                    SealedRow,
                    r#"select user_id as id, sealed_seed as "sealed!" from totp
                       where user_id > $1 order by user_id limit 100"#,
                    after,
                )
                .fetch_all(&self.pool)
                .await
            }
            SealedColumn::Archive => {
                sqlx::query_as!(
                    SealedRow,
                    r#"select id, sealed_archive as "sealed!" from data_exports
                       where sealed_archive is not null and id > $1 order by id limit 1"#,
                    after,
                )
                .fetch_all(&self.pool)
                .await
            }
        };
        rows.doing("reading what is sealed")
    }

    /// Writes a value anew, unless somebody changed or erased it meanwhile. Says whether it was written.
    pub async fn reseal(&self, column: SealedColumn, row: &SealedRow, sealed: &str) -> Result<bool, StoreError> {
        let written = match column {
            SealedColumn::SshKey => {
                sqlx::query!(
                    "update orders set sealed_ssh_key = $3 where id = $1 and sealed_ssh_key = $2",
                    row.id,
                    row.sealed,
                    sealed,
                )
                .execute(&self.pool)
                .await
            }
            SealedColumn::Password => {
                sqlx::query!(
                    "update credentials set sealed_password = $3 where service_id = $1 and sealed_password = $2",
                    row.id,
                    row.sealed,
                    sealed,
                )
                .execute(&self.pool)
                .await
            }
            SealedColumn::Seed => {
                sqlx::query!(
                    "update totp set sealed_seed = $3 where user_id = $1 and sealed_seed = $2",
                    row.id,
                    row.sealed,
                    sealed,
                )
                .execute(&self.pool)
                .await
            }
            SealedColumn::Archive => {
                sqlx::query!(
                    "update data_exports set sealed_archive = $3 where id = $1 and sealed_archive = $2",
                    row.id,
                    row.sealed,
                    sealed,
                )
                .execute(&self.pool)
                .await
            }
        };
        Ok(written.doing("sealing anew")?.rows_affected() == 1)
    }
}
