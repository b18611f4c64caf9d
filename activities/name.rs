//! The naming activities: forward and reverse DNS of one service.
#![expect(missing_docs, reason = "the constants that the macro makes of each activity cannot carry a docstring")]
use std::{net::IpAddr, sync::Arc, time::Duration};

use contract::name::defs;
use domain::ids::{OrderId, ServiceId};
use store::{OrderBrief, Store, StoreError};
use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};

use crate::{
    deadline::in_time,
    fault::{Fault, Vendor},
};
use powerdns::{PowerDnsApi, Published};

#[warn(missing_docs)]
pub mod powerdns;

/// All questions to the name server together take less than the story allows the step.
const STEP_LIMIT: Duration = Duration::from_secs(17);
/// The longest label. Source: RFC 1035, section 2.3.4.
const LABEL_LENGTH_MAX: usize = 63;
/// How many hexadecimal digits of a service's id make its name unique.
const MARK_DIGITS: usize = 8;

/// What the naming activities need.
pub struct NameDesk {
    store: Store,
    dns: PowerDnsApi,
}

#[activities]
impl NameDesk {
    /// Publishes A, AAAA and PTR. *Idempotence*: the same records again replace themselves.
    #[activity(definition = defs::Publish)]
    pub async fn publish(self: Arc<Self>, ctx: ActivityContext, order: OrderId) -> Result<(), ActivityError> {
        let doing = format!("publishing the name of order {order}");
        let step = self.publish_order(order, &doing);
        Ok(in_time(&ctx, STEP_LIMIT, Vendor::PowerDns, &doing, step).await?)
    }

    /// Removes the records that still say what we wrote. *Idempotence*: not there is done.
    #[activity(definition = defs::Withdraw)]
    pub async fn withdraw(self: Arc<Self>, ctx: ActivityContext, order: OrderId) -> Result<(), ActivityError> {
        let doing = format!("withdrawing the name of order {order}");
        let step = self.withdraw_order(order, &doing);
        Ok(in_time(&ctx, STEP_LIMIT, Vendor::PowerDns, &doing, step).await?)
    }
}

impl NameDesk {
    /// A desk over the orders and the name server.
    pub fn new(store: Store, dns: PowerDnsApi) -> Self {
        Self { store, dns }
    }

    /// Publishes the names of one order; `doing` is for staff.
    pub async fn publish_order(&self, order: OrderId, doing: &str) -> Result<(), Fault> {
        let brief = self.brief(order, doing).await?;
        let published = self.published(&brief, doing)?;
        self.dns.publish(&published).await.map_err(|error| error.into_fault(doing))?;
        self.store.set_dns_name(order, &published.name).await.map_err(|error| of_store(doing, error))
    }

    /// Takes the names of one order back; `doing` is for staff.
    pub async fn withdraw_order(&self, order: OrderId, doing: &str) -> Result<(), Fault> {
        let brief = self.brief(order, doing).await?;
        if brief.place.is_some() {
            let published = self.published(&brief, doing)?;
            self.dns.withdraw(&published).await.map_err(|error| error.into_fault(doing))?;
        }
        self.store.clear_dns_name(order).await.map_err(|error| of_store(doing, error))
    }

    async fn brief(&self, order: OrderId, doing: &str) -> Result<OrderBrief, Fault> {
        let found = self.store.brief(order).await.map_err(|error| of_store(doing, error))?;
        found.ok_or_else(|| Vendor::Database.give_up(doing, "there is no such order"))
    }

    fn published(&self, brief: &OrderBrief, doing: &str) -> Result<Published, Fault> {
        let nowhere = || Vendor::Database.give_up(doing, "the order has no addresses");
        let place = brief.place.as_ref().ok_or_else(nowhere)?;
        let both = (place.ipv4.address, place.ipv6.address);
        let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = both else { return Err(nowhere()) };
        // A zone that was changed in the settings since does not change a name that is out already.
        let name = brief.dns_name.as_ref().map_or_else(
            || canonical(&format!("{}.{}", label(&brief.hostname, brief.service), self.dns.zone())),
            |name| canonical(name),
        );
        Ok(Published { name, ipv4, ipv6 })
    }
}

/// The customer's name for a service made unique: at most 63 characters, one DNS label. Ends with the last digits of the
/// service's id, because an id that begins with the time of day begins like its neighbours.
pub fn label(hostname: &str, service: ServiceId) -> String {
    let id = service.0.simple().to_string();
    let mark = &id[id.len() - MARK_DIGITS..];
    let kept: String = hostname.chars().take(LABEL_LENGTH_MAX - MARK_DIGITS - 1).collect();
    format!("{}-{mark}", kept.trim_end_matches('-'))
}

/// Lower case and with the final dot.
fn canonical(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.').to_ascii_lowercase())
}

/// What an error of our own database means.
pub(crate) fn of_store(doing: &str, error: StoreError) -> Fault {
    match error {
        StoreError::Unavailable { .. } => Vendor::Database.try_again(doing, error),
        StoreError::Conflict { .. } | StoreError::Corrupt { .. } | StoreError::Refused { .. } => {
            Vendor::Database.give_up_over(doing, error.to_string(), error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_label_fits_dns_and_tells_services_apart() {
        let service = ServiceId(Uuid::from_u128(0x0193_4f5e_0000_7000_8000_0000_89ab_cdef));
        assert_eq!(label("web", service), "web-89abcdef");
        let long = label(&format!("{}-b", "a".repeat(53)), service);
        assert_eq!(long, format!("{}-89abcdef", "a".repeat(53)));
        assert_eq!(domain::order::hostname(&label(&"a".repeat(63), service)).map(|name| name.len()), Ok(63));
    }

    #[test]
    fn canonical_names_end_with_one_dot() {
        assert_eq!(canonical("Web.Example.test"), "web.example.test.");
        assert_eq!(canonical("web.example.test."), "web.example.test.");
    }
}
