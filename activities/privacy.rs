//! The activities about a person's own data: a copy of it, and its end.
#![expect(missing_docs, reason = "the constants that the macro makes of each activity cannot carry a docstring")]
use std::{sync::Arc, time::Duration};

use contract::privacy::{ErasureBegun, ErasureLook, defs};
use domain::ids::{ErasureId, ExportId};
use store::{ErasureStep, ExportState, KeyRing, PersonalRows, Store};
use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};

use crate::{
    deadline::in_time,
    fault::{Fault, Vendor},
    payment::stripe::{Attempt, StripeApi, customer::PersonalRecord},
};

#[warn(missing_docs)]
pub mod archive;

/// What archives are sealed for.
pub const ARCHIVE_PURPOSE: &str = "data-export";

/// What the letters' links are signed for.
pub mod purpose {
    /// A copy is fetched.
    pub const EXPORT: &str = "data_export";
    /// An erasure is confirmed.
    pub const CONFIRM: &str = "erasure_confirm";
    /// An erasure is taken back.
    pub const UNDO: &str = "erasure_undo";
}

/// How long one try to gather everything may take.
const GATHER_LIMIT: Duration = Duration::from_mins(9);
/// How long one try at Stripe may take.
const CALL_LIMIT: Duration = Duration::from_secs(18);
/// The largest archive, in bytes.
const ARCHIVE_LIMIT_BYTES: usize = 64 * 1024 * 1024;

/// Gathers what we know of a person, and removes it.
pub struct PrivacyDesk {
    /// Our own database.
    pub store: Store,
    /// Stripe.
    pub stripe: StripeApi,
    /// What seals archives.
    pub keys: Arc<KeyRing>,
    /// How long a copy can be fetched, in seconds.
    pub export_secs: u32,
    /// How many years after the end of a year its books are kept.
    pub books_years: u8,
}

#[activities]
impl PrivacyDesk {
    /// Gathers everything about a person into a sealed archive, and writes the letter down that leads to it.
    ///
    /// *Idempotence*: a copy that is kept already, was fetched or is gone stays as it is.
    #[activity(definition = defs::Export)]
    pub async fn export(self: Arc<Self>, ctx: ActivityContext, export: ExportId) -> Result<(), ActivityError> {
        let doing = "gathering everything about a person";
        Ok(in_time(&ctx, GATHER_LIMIT, Vendor::Stripe, doing, Box::pin(self.gathered(export))).await?)
    }

    /// Says how an erasure stands.
    ///
    /// *Idempotence*: one that nobody confirmed in time lapses once.
    #[activity(definition = defs::Look)]
    pub async fn look(
        self: Arc<Self>,
        _ctx: ActivityContext,
        erasure: ErasureId,
    ) -> Result<ErasureLook, ActivityError> {
        Ok(match self.store.look_at_erasure(erasure).await.map_err(Fault::from)? {
            ErasureStep::Wait(secs) => ErasureLook::Waits { secs },
            ErasureStep::Begin | ErasureStep::Begun | ErasureStep::Held(_) => ErasureLook::Due,
            ErasureStep::Over => ErasureLook::Over,
        })
    }

    /// Begins what cannot be taken back, unless something lives or money is on its way.
    ///
    /// *Idempotence*: begun once, it stays begun.
    #[activity(definition = defs::Begin)]
    pub async fn begin(
        self: Arc<Self>,
        _ctx: ActivityContext,
        erasure: ErasureId,
    ) -> Result<ErasureBegun, ActivityError> {
        Ok(match self.store.begin_erasure(erasure, self.books_years).await.map_err(Fault::from)? {
            ErasureStep::Begun | ErasureStep::Begin => ErasureBegun::Begun,
            ErasureStep::Held(why) => ErasureBegun::Held { why },
            ErasureStep::Wait(_) => ErasureBegun::Held { why: "it is not due yet".to_owned() },
            ErasureStep::Over => ErasureBegun::Over,
        })
    }

    /// Deletes the account's customers at Stripe.
    ///
    /// *Idempotence*: each is looked at first; a deleted one is done.
    #[activity(definition = defs::ForgetCustomer)]
    pub async fn forget_customer(
        self: Arc<Self>,
        ctx: ActivityContext,
        erasure: ErasureId,
    ) -> Result<(), ActivityError> {
        let attempt = Attempt(ctx.info().attempt);
        let step = Box::pin(self.forgotten(erasure, attempt));
        Ok(in_time(&ctx, CALL_LIMIT, Vendor::Stripe, "deleting a customer", step).await?)
    }

    /// Removes or blanks everything in our tables that the law does not oblige us to keep.
    ///
    /// *Idempotence*: done again, it changes nothing.
    #[activity(definition = defs::Erase)]
    pub async fn erase(self: Arc<Self>, _ctx: ActivityContext, erasure: ErasureId) -> Result<(), ActivityError> {
        Ok(self.store.erase(erasure).await.map_err(Fault::from)?)
    }

    /// Removes where the last letter went.
    ///
    /// *Idempotence*: done again, it changes nothing.
    #[activity(definition = defs::Finish)]
    pub async fn finish(self: Arc<Self>, _ctx: ActivityContext, erasure: ErasureId) -> Result<(), ActivityError> {
        Ok(self.store.finish_erasure(erasure).await.map_err(Fault::from)?)
    }
}

impl PrivacyDesk {
    /// Gathers, seals and keeps one copy.
    pub async fn gathered(&self, id: ExportId) -> Result<(), Fault> {
        let doing = "gathering everything about a person";
        let Some(export) = self.store.export(id).await? else {
            return Err(Vendor::Database.give_up(doing, format!("there is no copy {id}")));
        };
        if export.state != ExportState::Asked {
            return Ok(());
        }
        let tables = self.store.personal_data(export.account, export.user).await?;
        let at_stripe = self.at_stripe(&tables).await?;
        let archive = archive::write(&tables, &at_stripe, &self.keys)
            .map_err(|error| Vendor::Database.give_up_over(doing, error.to_string(), error))?;
        if archive.len() > ARCHIVE_LIMIT_BYTES {
            return Err(Vendor::Database.give_up(doing, "there is more than an archive holds; hand it over by hand"));
        }
        let size_bytes = i64::try_from(archive.len()).unwrap_or(i64::MAX);
        let sealed = self.keys.seal(ARCHIVE_PURPOSE, &archive);
        let sealed = sealed.map_err(|error| Vendor::Database.give_up_over(doing, "it cannot be sealed", error))?;
        Ok(self.store.keep_export(id, &sealed, size_bytes, self.export_secs).await?)
    }

    /// What Stripe holds under the customers of an account.
    async fn at_stripe(&self, tables: &[PersonalRows]) -> Result<Vec<PersonalRecord>, Fault> {
        let mut found = vec![];
        for id in archive::customers(tables) {
            found.extend(self.stripe.personal_record(&id).await?);
        }
        Ok(found)
    }

    async fn forgotten(&self, id: ErasureId, attempt: Attempt) -> Result<(), Fault> {
        let doing = "deleting a customer";
        let Some(buyer) = self.store.forgotten_buyer(id).await? else {
            return Err(Vendor::Database.give_up(doing, format!("the erasure {id} has not begun")));
        };
        let mut customers = buyer.customers;
        if let Some(email) = &buyer.email {
            // One whose making was never answered stands in no table of ours.
            for found in self.stripe.customers_at(email, buyer.account).await? {
                if !customers.contains(&found) {
                    customers.push(found);
                }
            }
        }
        for customer in customers {
            let act = format!("{}/customer/{customer}", id.workflow_id());
            self.stripe.forget_customer(&customer, buyer.account, &act, attempt).await?;
        }
        Ok(())
    }
}
