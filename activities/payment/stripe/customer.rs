//! Stripe customers: one for each account, and the Billing Portal where they look after themselves.
use domain::ids::AccountId;
use stripe::StripeRequest as _;
use stripe_billing::billing_portal_session::CreateBillingPortalSession;
use stripe_core::customer::{CreateCustomer, ListCustomer, RetrieveCustomer, RetrieveCustomerReturned};

use super::{Attempt, StripeApi, read, under, write};
use crate::fault::Fault;

/// The metadata key that names our account.
pub(super) const ACCOUNT: &str = "account";
/// How many customers of one address are looked at.
const SAME_ADDRESS_MAX: i64 = 100;

/// What a customer at Stripe says of a person. Has no `Debug`, because it names them.
pub struct Person {
    /// The account the customer was made for.
    pub account: AccountId,
    /// The name on the invoices.
    pub name: String,
    /// Where Stripe sends them.
    pub email: String,
}

/// Whom a customer is made for. Has no `Debug`, because it names a person.
pub struct Buyer<'a> {
    /// Our account; stands in the customer's metadata.
    pub account: AccountId,
    /// The name on the invoices.
    pub name: &'a str,
    /// Where Stripe sends them.
    pub email: &'a str,
    /// How many customers of this account Stripe has deleted: the next one is another act.
    pub deleted: i64,
}

impl StripeApi {
    /// Gives the id (`cus_…`) of the account's customer, making it when there is none.
    ///
    /// *Idempotence*: looks for a customer of this address that carries our account, then creates under
    /// `account-<uuid>/customer`, or after a deletion `account-<uuid>/customer/after/<number>`. *Errors*: a lost answer may be repeated.
    pub async fn ensure_customer(&self, buyer: &Buyer<'_>, attempt: Attempt) -> Result<String, Fault> {
        let account = buyer.account.to_string();
        let known = ListCustomer::new().email(buyer.email).limit(SAME_ADDRESS_MAX);
        let known = read("looking for the customer", known.send(&self.client)).await?;
        let is_ours = |metadata: &std::collections::HashMap<String, String>| metadata.get(ACCOUNT) == Some(&account);
        if let Some(customer) = known.data.into_iter().find(|c| c.metadata.as_ref().is_some_and(is_ours)) {
            return Ok(customer.id.to_string());
        }
        let act = match buyer.deleted {
            0 => format!("account-{account}/customer"),
            // Under the first key Stripe would answer with the deleted one.
            deleted => format!("account-{account}/customer/after/{deleted}"),
        };
        let key = under(&attempt.key(&act))?;
        let request = CreateCustomer::new()
            .name(buyer.name)
            .email(buyer.email)
            .metadata([(ACCOUNT.to_owned(), account)])
            .customize()
            .request_strategy(key);
        Ok(write("making the customer", request.send(&self.client)).await?.id.to_string())
    }

    /// Gives whom a customer (`cus_…`) was made for; `None` when Stripe has deleted it or it is not one of ours.
    pub async fn person(&self, customer_id: &str) -> Result<Option<Person>, Fault> {
        let request = RetrieveCustomer::new(customer_id);
        let known = match read("reading the customer", request.send(&self.client)).await? {
            RetrieveCustomerReturned::Customer(known) => known,
            RetrieveCustomerReturned::DeletedCustomer(_) => return Ok(None),
        };
        let account = known.metadata.as_ref().and_then(|said| said.get(ACCOUNT)?.parse().ok());
        Ok(match (account, known.name, known.email) {
            (Some(account), Some(name), Some(email)) => Some(Person { account, name, email }),
            _ => None,
        })
    }

    /// Gives the address of a Billing Portal page for the customer (`cus_…`), from which it returns to `return_url`.
    ///
    /// The address is good for a few minutes. *Idempotence*: each call makes another page, and nothing else.
    pub async fn portal_url(&self, customer_id: &str, return_url: &str) -> Result<String, Fault> {
        let request = CreateBillingPortalSession::new().customer(customer_id).return_url(return_url);
        Ok(read("opening the billing portal", request.send(&self.client)).await?.url)
    }
}
