//! A comparison with Stripe that one round does not read to its end: how far it came, and what it met on its way.
use crate::{Store, StoreError, fault::Doing};
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// How far a comparison came that the next round goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// When it began. What our table got later is compared by the one after it.
    pub began_at: OffsetDateTime,
    /// The subscription (`sub_…`) after which Stripe's list is read on.
    pub reached: String,
    /// Every subscription that Stripe listed until there.
    pub met: BTreeSet<String>,
}

/// Which subscriptions a round compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// These alone.
    Only(Vec<String>),
    /// All but these, which an earlier round compared.
    AllBut(Vec<String>),
}

impl Store {
    /// Where the next comparison goes on; `None` when it begins from the beginning.
    pub async fn comparison_pass(&self) -> Result<Option<Pass>, StoreError> {
        let row = sqlx::query!("select reached, pass_began_at, met from rounds where name = 'comparison'")
            .fetch_optional(&self.pool)
            .await
            .doing("reading how far the comparison came")?;
        Ok(row.and_then(|row| {
            Some(Pass { began_at: row.pass_began_at?, reached: row.reached?, met: row.met.into_iter().collect() })
        }))
    }

    /// Notes where the next comparison goes on.
    pub async fn put_comparison_pass(&self, pass: Option<&Pass>) -> Result<(), StoreError> {
        let met: Vec<String> = pass.map(|pass| pass.met.iter().cloned().collect()).unwrap_or_default();
        sqlx::query!(
            "update rounds set reached = $1, pass_began_at = $2, met = $3 where name = 'comparison'",
            pass.map(|pass| pass.reached.as_str()),
            pass.map(|pass| pass.began_at),
            &met,
        )
        .execute(&self.pool)
        .await
        .doing("noting how far the comparison came")?;
        Ok(())
    }
}
