//! The settings of Stripe's customer portal: what our pages lead there for is on, and what they do themselves is off.
use stripe_billing::{
    PortalCustomerUpdateAllowedUpdates, PortalFeatures, billing_portal_configuration::ListBillingPortalConfiguration,
};

use super::{Denial, StripeApi, asked};
use crate::{
    call::Kind,
    fault::{Fault, Vendor},
};

const DOING: &str = "reading the settings of Stripe's customer portal";

impl StripeApi {
    /// Says in one line that customers find there what our pages lead to, and nothing that our own pages do. Reads only.
    ///
    /// *Errors*: gives up with everything that is to be switched on or off there, or with the permission that our key lacks; to
    /// be tried again when Stripe does not answer.
    pub async fn check_portal(&self) -> Result<String, Fault> {
        let question = ListBillingPortalConfiguration::new().active(true).is_default(true).limit(1);
        let found = match asked(Kind::Read, question.send(&self.client)).await {
            Ok(found) => found.data.into_iter().next(),
            Err(denial @ Denial::Refused { status: 401 | 403, .. }) => {
                let told = format!("our key lacks the permission Customer portal, Write: {denial}");
                return Err(Vendor::Stripe.give_up_over(DOING, told, denial));
            }
            Err(denial) => return Err(denial.on_read(DOING)),
        };
        let Some(found) = found else {
            return Err(Vendor::Stripe.give_up(DOING, "nobody has saved any, so it does not open"));
        };
        match fault(&found.features, self.terms.tax) {
            Some(told) => Err(Vendor::Stripe.give_up(DOING, told)),
            None => Ok("Stripe's customer portal lets customers do what our pages lead there for".to_owned()),
        }
    }
}

/// What is to be switched there, if anything. A tax id is of use only where tax is worked out.
fn fault(features: &PortalFeatures, tax: bool) -> Option<String> {
    let update = &features.customer_update;
    let may_change =
        |what: &PortalCustomerUpdateAllowedUpdates| update.enabled && update.allowed_updates.contains(what);
    let missing: Vec<&str> = [
        ("payment methods", features.payment_method_update.enabled),
        ("billing address", may_change(&PortalCustomerUpdateAllowedUpdates::Address)),
        ("tax id", !tax || may_change(&PortalCustomerUpdateAllowedUpdates::TaxId)),
    ]
    .into_iter()
    .filter_map(|(name, on)| (!on).then_some(name))
    .collect();
    let needless: Vec<&str> = [
        ("cancelling subscriptions", features.subscription_cancel.enabled),
        ("changing plans", features.subscription_update.enabled),
    ]
    .into_iter()
    .filter_map(|(name, on)| on.then_some(name))
    .collect();
    let mut told = vec![];
    if !missing.is_empty() {
        told.push(format!("switch on {}", missing.join(", ")));
    }
    if !needless.is_empty() {
        told.push(format!("switch off {}, which our own pages do", needless.join(", ")));
    }
    (!told.is_empty()).then(|| told.join("; "))
}
