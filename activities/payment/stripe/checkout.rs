//! Checkout Sessions: the page where one order is paid.
use std::collections::HashMap;

use contract::payment::CheckoutState;
use domain::ids::{AccountId, OrderId, ServiceId, SubscriptionId};
use stripe::StripeRequest as _;
use stripe_billing::{SubscriptionStatus, subscription::RetrieveSubscription};
use stripe_checkout::{
    CheckoutSession, CheckoutSessionBillingAddressCollection, CheckoutSessionMode, CheckoutSessionPaymentStatus,
    CheckoutSessionStatus,
    checkout_session::{
        CreateCheckoutSession, CreateCheckoutSessionAutomaticTax, CreateCheckoutSessionCustomerUpdate,
        CreateCheckoutSessionCustomerUpdateAddress, CreateCheckoutSessionCustomerUpdateName,
        CreateCheckoutSessionLineItems, CreateCheckoutSessionSubscriptionData, CreateCheckoutSessionTaxIdCollection,
        ExpireCheckoutSession, ListCheckoutSession, RetrieveCheckoutSession,
    },
};

use super::{Attempt, StripeApi, asked, customer::ACCOUNT, read, under, write};
use crate::{
    call::Kind,
    fault::{Fault, Vendor},
};

/// The metadata keys that name our order and its service.
const ORDER: &str = "order";
const SERVICE: &str = "service";
/// The metadata key that says how many days cost nothing at first.
pub(super) const TRIAL_DAYS: &str = "trial_days";
/// How many of a customer's newest sessions are looked at for one of this order.
const SESSIONS_MAX: i64 = 100;

/// What every payment page offers and asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SaleTerms {
    /// Whether it takes promotion codes.
    pub promotion_codes: bool,
    /// Whether Stripe Tax adds the tax; it then asks for the billing address and the tax id.
    pub tax: bool,
}

impl SaleTerms {
    fn on(self, page: CreateCheckoutSession) -> CreateCheckoutSession {
        let page = if self.promotion_codes { page.allow_promotion_codes(true) } else { page };
        if !self.tax {
            return page;
        }
        // Stripe takes neither without leave to keep what was written on the customer.
        let kept = CreateCheckoutSessionCustomerUpdate {
            address: Some(CreateCheckoutSessionCustomerUpdateAddress::Auto),
            name: Some(CreateCheckoutSessionCustomerUpdateName::Auto),
            ..CreateCheckoutSessionCustomerUpdate::new()
        };
        page.automatic_tax(CreateCheckoutSessionAutomaticTax::new(true))
            .tax_id_collection(CreateCheckoutSessionTaxIdCollection::new(true))
            .billing_address_collection(CheckoutSessionBillingAddressCollection::Required)
            .customer_update(kept)
    }
}

/// What a session is opened for.
#[derive(Debug)]
pub struct CheckoutOrder<'a> {
    /// The order; its id is the session's `client_reference_id`.
    pub order: OrderId,
    /// Who buys.
    pub account: AccountId,
    /// What it becomes.
    pub service: ServiceId,
    /// The Stripe customer (`cus_…`).
    pub customer_id: &'a str,
    /// The Stripe price (`price_…`).
    pub price_id: &'a str,
    /// Where our own pages are, without a slash at the end.
    pub site_url: &'a str,
    /// How many days cost nothing at first.
    pub trial_days: u32,
    /// What was ordered, by name: from this the order can be begun again when no database knows it any more.
    pub ordered: [(&'static str, String); 5],
}

/// A session that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedCheckout {
    /// Its id (`cs_…`).
    pub session: String,
    /// Where it is paid; our own return page once it can no longer be.
    pub url: String,
}

impl CheckoutOrder<'_> {
    fn return_url(&self) -> String {
        format!("{}/billing/return/?order={}", self.site_url, self.order)
    }

    fn metadata(&self) -> HashMap<String, String> {
        let mut said = HashMap::from([
            (ORDER.to_owned(), self.order.to_string()),
            (SERVICE.to_owned(), self.service.to_string()),
            (ACCOUNT.to_owned(), self.account.to_string()),
        ]);
        if self.trial_days > 0 {
            said.insert(TRIAL_DAYS.to_owned(), self.trial_days.to_string());
        }
        said
    }

    fn metadata_of_page(&self) -> HashMap<String, String> {
        let ordered = self.ordered.clone().map(|(name, value)| (name.to_owned(), value));
        self.metadata().into_iter().chain(ordered).collect()
    }

    fn opened(&self, session: CheckoutSession) -> OpenedCheckout {
        OpenedCheckout { session: session.id.to_string(), url: session.url.unwrap_or_else(|| self.return_url()) }
    }
}

impl StripeApi {
    async fn checkout_of(&self, customer_id: &str, order: OrderId) -> Result<Option<CheckoutSession>, Fault> {
        let known = ListCheckoutSession::new().customer(customer_id).limit(SESSIONS_MAX);
        let known = read("looking for the payment page", known.send(&self.client)).await?;
        Ok(known.data.into_iter().find(|session| belongs_to(session, order)))
    }

    /// The id of the payment page of an order, if one was ever opened.
    pub async fn find_checkout(&self, customer_id: &str, order: OrderId) -> Result<Option<String>, Fault> {
        Ok(self.checkout_of(customer_id, order).await?.map(|session| session.id.to_string()))
    }

    /// Opens the page where the order is paid, or gives the one that was opened before.
    ///
    /// *Idempotence*: looks through the customer's sessions for one of this order, then creates under
    /// `order-<uuid>/checkout`. *Errors*: a lost answer may be repeated.
    pub async fn open_checkout(&self, order: &CheckoutOrder<'_>, attempt: Attempt) -> Result<OpenedCheckout, Fault> {
        if let Some(session) = self.checkout_of(order.customer_id, order.order).await? {
            return Ok(order.opened(session));
        }
        let line = CreateCheckoutSessionLineItems {
            price: Some(order.price_id.to_owned()),
            quantity: Some(1),
            ..CreateCheckoutSessionLineItems::new()
        };
        let subscription = CreateCheckoutSessionSubscriptionData {
            metadata: Some(order.metadata()),
            // Its end is charged like any renewal; the page asks for a card all the same.
            trial_period_days: Some(order.trial_days).filter(|days| *days > 0),
            ..CreateCheckoutSessionSubscriptionData::new()
        };
        let page = CreateCheckoutSession::new()
            .mode(CheckoutSessionMode::Subscription)
            .customer(order.customer_id)
            .client_reference_id(order.order.to_string())
            .line_items([line])
            .metadata(order.metadata_of_page())
            .subscription_data(subscription)
            .success_url(order.return_url())
            .cancel_url(format!("{}&cancelled=1", order.return_url()));
        let request = self
            .terms
            .on(page)
            .customize()
            .request_strategy(under(&attempt.key(&format!("{}/checkout", order.order.workflow_id())))?);
        Ok(order.opened(write("opening the payment page", request.send(&self.client)).await?))
    }

    /// Says whether the session was paid.
    ///
    /// *Errors*: gives up on a session that is not there or that was opened for another order.
    pub async fn read_checkout(&self, order: OrderId, session: &str) -> Result<CheckoutState, Fault> {
        let doing = "reading the payment page";
        let session = read(doing, RetrieveCheckoutSession::new(session).send(&self.client)).await?;
        if !belongs_to(&session, order) {
            return Err(Vendor::Stripe.give_up(doing, "it was opened for another order"));
        }
        match state(&session, doing)? {
            CheckoutState::Processing => self.read_delayed(&session).await,
            settled => Ok(settled),
        }
    }

    /// Closes the session, so that it can no longer be paid, and says what it is now.
    ///
    /// *Idempotence*: looks first, and again when Stripe says that it is not open any more.
    pub async fn expire_checkout(
        &self,
        order: OrderId,
        session: &str,
        attempt: Attempt,
    ) -> Result<CheckoutState, Fault> {
        let doing = "closing the payment page";
        let before = self.read_checkout(order, session).await?;
        if before != CheckoutState::Open {
            return Ok(before);
        }
        let key = under(&attempt.key(&format!("{}/expire", order.workflow_id())))?;
        let request = ExpireCheckoutSession::new(session).customize().request_strategy(key);
        match asked(Kind::Write, request.send(&self.client)).await {
            Ok(closed) => state(&closed, doing),
            Err(denial) if denial.is_final() => match self.read_checkout(order, session).await? {
                CheckoutState::Open => Err(denial.on_write(doing)),
                settled => Ok(settled),
            },
            Err(denial) => Err(denial.on_write(doing)),
        }
    }

    /// A delayed payment that failed leaves its session complete and unpaid for ever; only the subscription tells.
    async fn read_delayed(&self, session: &CheckoutSession) -> Result<CheckoutState, Fault> {
        let Some(subscription) = session.subscription.as_ref() else {
            return Ok(CheckoutState::Processing);
        };
        let request = RetrieveSubscription::new(subscription.id().clone());
        let found = read("reading the subscription of a delayed payment", request.send(&self.client)).await?;
        Ok(match found.status {
            SubscriptionStatus::Canceled | SubscriptionStatus::IncompleteExpired => CheckoutState::Expired,
            _ => CheckoutState::Processing,
        })
    }
}

fn belongs_to(session: &CheckoutSession, order: OrderId) -> bool {
    session.client_reference_id.as_deref().and_then(|text| text.parse().ok()) == Some(order)
}

fn state(session: &CheckoutSession, doing: &str) -> Result<CheckoutState, Fault> {
    use CheckoutSessionPaymentStatus as Payment;
    match (session.status.as_ref(), &session.payment_status) {
        (Some(CheckoutSessionStatus::Open), _) => Ok(CheckoutState::Open),
        (Some(CheckoutSessionStatus::Expired), _) => Ok(CheckoutState::Expired),
        (Some(CheckoutSessionStatus::Complete), Payment::Unpaid) => Ok(CheckoutState::Processing),
        (Some(CheckoutSessionStatus::Complete), Payment::Paid | Payment::NoPaymentRequired) => {
            match session.subscription.as_ref() {
                Some(subscription) => {
                    Ok(CheckoutState::Paid { subscription: SubscriptionId(subscription.id().to_string()) })
                }
                None => Err(Vendor::Stripe.try_again(doing, "it is paid, but its subscription is not there yet")),
            }
        }
        (status, payment) => {
            let status = status.map_or("none", CheckoutSessionStatus::as_str);
            Err(Vendor::Stripe
                .give_up(doing, format!("Stripe calls it {status} and {}, which we do not know", payment.as_str())))
        }
    }
}
