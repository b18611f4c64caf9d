//! The mirror of Stripe in our own tables. Events, the round through the Events API, the comparison and the rebuild all write
//! it here, and all by looking: what an event says about money is never kept.
use std::time::Duration;

use domain::ids::AccountId;
use store::{DueLook, Store};
use tokio::time::timeout;

mod compare;
pub mod rebuild;
mod walk;

pub use compare::Comparison;
pub use walk::Walked;

use super::stripe::{Attempt, StripeApi, customer::Addressee};
use crate::{
    fault::{Fault, Vendor},
    name::of_store,
};

/// How long one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(25);

/// Writes down what Stripe says.
#[derive(Clone)]
pub struct Mirror {
    /// Our own database.
    pub store: Store,
    /// Stripe.
    pub stripe: StripeApi,
}

/// What became of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// What Stripe says is written down.
    Mirrored,
    /// It is nobody's we know; staff have to look.
    Stranger(String),
}

impl Mirror {
    /// Looks at a customer (`cus_…`), or at the customer of a payment (`ch_…`, `py_…`, `pi_…`).
    ///
    /// *Errors*: gives up on what is not there at Stripe; anything else may be tried again.
    pub async fn look(&self, id: &str) -> Result<Looked, Fault> {
        let looked = async {
            if id.starts_with("cus_") {
                return Box::pin(self.customer(id, None, false)).await;
            }
            match self.stripe.customer_of(id).await? {
                Some(customer) => Box::pin(self.customer(&customer, None, false)).await,
                None => Ok(Looked::Stranger(format!("the payment {id} names no customer; look at it in Stripe"))),
            }
        };
        let late = || Vendor::Stripe.try_again("looking at a customer", format!("not within {LOOK_LIMIT:?}"));
        timeout(LOOK_LIMIT, Box::pin(looked)).await.unwrap_or_else(|_| Err(late()))
    }

    /// Mirrors a customer, who is `account`'s if Stripe does not say whose; with `anew`, also what hardly anybody has.
    ///
    /// *Idempotence*: the rows are overwritten with what Stripe says now.
    pub async fn customer(&self, id: &str, account: Option<AccountId>, anew: bool) -> Result<Looked, Fault> {
        let read_at = self.store.clock().await?;
        let mut mirror = Box::pin(self.stripe.customer_mirror(id, anew)).await?;
        mirror.customer.account = mirror.customer.account.or(account);
        Ok(if self.store.put_customer(&mirror, read_at).await? {
            Looked::Mirrored
        } else {
            Looked::Stranger(format!("the customer {id} belongs to no account of ours; look at it in Stripe"))
        })
    }

    /// Gives the customer at Stripe the address that was confirmed here, or the owner the account has now, if it does not have it.
    ///
    /// *Idempotence*: looks first, and writes under a key made of the change and of the one it replaces; told twice it is told.
    async fn tell_address(&self, due: &DueLook) -> Result<(), Fault> {
        const DOING: &str = "telling Stripe of another address";
        let asked = self.store.address_due(&due.id).await.map_err(|error| of_store(DOING, error))?;
        let Some(asked) = asked else { return Ok(()) };
        let before = asked.told.map_or_else(|| "none".to_owned(), |told| told.to_string());
        let act = format!("account-{}/address/{}/after/{before}", asked.account, asked.change);
        let to =
            Addressee { email: &asked.email, name: asked.name.as_deref(), instead_of: asked.instead_of.as_deref() };
        self.stripe.set_address(&due.id, &to, &act, Attempt(due.attempts.saturating_add(1))).await?;
        if self.store.address_told(&asked).await.map_err(|error| of_store(DOING, error))? {
            return Ok(());
        }
        // A newer change came between, and its telling may have been written over just now.
        Err(Vendor::Stripe.try_again(DOING, "another address was confirmed meanwhile"))
    }

    /// Answers a look that was asked for, and notes what became of it.
    ///
    /// *Errors*: our own database does not answer; the look is due again by itself.
    pub async fn answer(&self, due: &DueLook) -> Result<(), store::StoreError> {
        let looked = match Box::pin(self.look(&due.id)).await {
            Ok(Looked::Mirrored) => Box::pin(self.tell_address(due)).await.map(|()| Looked::Mirrored),
            other => other,
        };
        match looked {
            Ok(Looked::Mirrored) => self.store.looked(due).await,
            Ok(Looked::Stranger(why)) => self.store.look_for_staff(due, &why).await,
            Err(fault @ Fault::GiveUp { .. }) => {
                tracing::warn!(look = due.id, reason = %fault.words(), "a look is left to staff");
                self.store.look_for_staff(due, &fault.words()).await
            }
            Err(fault) => {
                tracing::warn!(look = due.id, attempts = due.attempts, reason = %fault.words(), "a look is tried again");
                self.store.look_failed(due, &fault.words()).await
            }
        }
    }
}
