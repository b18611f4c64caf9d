//! Stripe customers: one for each account, and the Billing Portal where they look after themselves.
use domain::ids::AccountId;
use serde_json::{Value, json};
use stripe::StripeRequest as _;
use stripe_billing::billing_portal_session::CreateBillingPortalSession;
use stripe_core::customer::{
    CreateCustomer, DeleteCustomer, ListCustomer, RetrieveCustomer, RetrieveCustomerReturned, UpdateCustomer,
};
use uuid::Uuid;

use super::{Attempt, Denial, StripeApi, asked, read, short, under, write};
use crate::{
    call::Kind,
    fault::{Fault, Vendor},
};

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

/// What a customer is to be from now on. Has no `Debug`, because it names a person.
pub struct Addressee<'a> {
    /// Where Stripe sends invoices.
    pub email: &'a str,
    /// The name on the invoices, where it is to be another one.
    pub name: Option<&'a str>,
    /// The name it takes the place of; not said, of whichever stands there.
    pub instead_of: Option<&'a str>,
}

/// What Stripe holds under one customer. Has no `Debug`, because it is about a person.
pub struct PersonalRecord {
    id: String,
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    address: Option<[Option<String>; 6]>,
    balance_minor: Option<i64>,
}

impl PersonalRecord {
    /// What is told of it, in order.
    pub const COLUMNS: [&str; 11] =
        ["id", "name", "email", "phone", "line1", "line2", "postal_code", "city", "state", "country", "balance_minor"];

    /// The same as an object of these.
    pub fn json(&self) -> Value {
        let [line1, line2, postal_code, city, state, country] = self.address.clone().unwrap_or_default();
        json!({
            "id": self.id, "name": self.name, "email": self.email, "phone": self.phone, "line1": line1, "line2": line2,
            "postal_code": postal_code, "city": city, "state": state, "country": country,
            "balance_minor": self.balance_minor,
        })
    }
}

impl StripeApi {
    /// What Stripe holds under a customer (`cus_…`); `None` when it deleted it, or never knew it.
    pub async fn personal_record(&self, customer_id: &str) -> Result<Option<PersonalRecord>, Fault> {
        let Some(known) = self.known_customer(customer_id, "reading the customer").await? else { return Ok(None) };
        Ok(Some(PersonalRecord {
            id: customer_id.to_owned(),
            name: known.name,
            email: known.email,
            phone: known.phone,
            address: known.address.map(|at| [at.line1, at.line2, at.postal_code, at.city, at.state, at.country]),
            balance_minor: known.balance,
        }))
    }

    /// The customers (`cus_…`) of an account that were made with this address.
    pub async fn customers_at(&self, email: &str, account: AccountId) -> Result<Vec<String>, Fault> {
        let account = account.to_string();
        let known = ListCustomer::new().email(email).limit(SAME_ADDRESS_MAX);
        let known = read("looking for customers", known.send(&self.client)).await?;
        let ours = known.data.into_iter().filter(|customer| {
            customer.metadata.as_ref().is_some_and(|metadata| metadata.get(ACCOUNT) == Some(&account))
        });
        Ok(ours.map(|customer| customer.id.to_string()).collect())
    }

    /// Deletes a customer (`cus_…`) of an account. Its invoices and payments stay as they were.
    ///
    /// *Idempotence*: looks first; one that is deleted, or that Stripe never knew, is done. Deletes under `act`. *Errors*:
    /// gives up on a customer that was made for another account; a lost answer may be repeated.
    pub async fn forget_customer(
        &self,
        customer_id: &str,
        account: AccountId,
        act: &str,
        attempt: Attempt,
    ) -> Result<(), Fault> {
        let doing = "deleting the customer";
        let Some(known) = self.known_customer(customer_id, doing).await? else { return Ok(()) };
        let named = known.metadata.as_ref().and_then(|metadata| metadata.get(ACCOUNT));
        if named.is_some_and(|named| *named != account.to_string()) {
            return Err(Vendor::Stripe.give_up(doing, format!("{customer_id} was made for another account")));
        }
        let request = DeleteCustomer::new(customer_id).customize().request_strategy(under(&attempt.key(act))?);
        match asked(Kind::Write, request.send(&self.client)).await {
            Ok(_) | Err(Denial::Refused { status: 404, .. }) => Ok(()),
            Err(denial) => Err(denial.on_write(doing)),
        }
    }

    async fn known_customer(&self, customer_id: &str, doing: &str) -> Result<Option<stripe_core::Customer>, Fault> {
        let request = RetrieveCustomer::new(customer_id);
        match asked(Kind::Read, request.send(&self.client)).await {
            Ok(RetrieveCustomerReturned::Customer(known)) => Ok(Some(known)),
            Ok(RetrieveCustomerReturned::DeletedCustomer(_)) | Err(Denial::Refused { status: 404, .. }) => Ok(None),
            Err(denial) => Err(denial.on_read(doing)),
        }
    }

    /// Gives the id (`cus_…`) of the account's customer, making it when there is none.
    ///
    /// *Idempotence*: looks for a customer of this address that carries our account, then creates under
    /// `account-<uuid>/customer/<hash of name and address>`, or after a deletion `account-<uuid>/customer/after/<number>/<hash>`:
    /// under the same key Stripe would refuse an address that was changed meanwhile. *Errors*: a lost answer may be repeated.
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
        let person = short(&[buyer.name, buyer.email]);
        let key = under(&attempt.key(&format!("{act}/{person}")))?;
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

    /// Lets Stripe write to a customer (`cus_…`) at this address from now on, and under this name where it has the one that is
    /// replaced; one that is deleted there is left.
    ///
    /// *Idempotence*: looks first, then writes under the key of `act`. *Errors*: a lost answer may be repeated.
    pub async fn set_address(
        &self,
        customer_id: &str,
        to: &Addressee<'_>,
        act: &str,
        attempt: Attempt,
    ) -> Result<(), Fault> {
        let request = RetrieveCustomer::new(customer_id);
        let known = match read("reading the customer", request.send(&self.client)).await? {
            RetrieveCustomerReturned::Customer(known) => known,
            RetrieveCustomerReturned::DeletedCustomer(_) => return Ok(()),
        };
        let name = to.name.filter(|name| {
            let stands = known.name.as_deref();
            stands != Some(*name) && (to.instead_of.is_none() || stands == to.instead_of)
        });
        if known.email.as_deref() == Some(to.email) && name.is_none() {
            return Ok(());
        }
        let key = under(&attempt.key(act))?;
        let mut change = UpdateCustomer::new(customer_id).email(to.email);
        if let Some(name) = name {
            change = change.name(name);
        }
        let request = change.customize().request_strategy(key);
        write("changing the customer's address", request.send(&self.client)).await.map(|_| ())
    }

    /// Gives the address of a Billing Portal page for the customer (`cus_…`), from which it returns to `return_url`.
    ///
    /// The address is good for a few minutes. *Idempotence*: each call makes another page under a key of its own, and nothing
    /// else.
    pub async fn portal_url(&self, customer_id: &str, return_url: &str) -> Result<String, Fault> {
        let request = CreateBillingPortalSession::new()
            .customer(customer_id)
            .return_url(return_url)
            .customize()
            .request_strategy(under(&format!("portal/{}", Uuid::new_v4()))?);
        Ok(write("opening the billing portal", request.send(&self.client)).await?.url)
    }
}
