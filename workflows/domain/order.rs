//! One request for one service, and the steps that fulfil it.
use crate::states;
use alloc::string::String;

states! {
    /// Where an order is in its life.
    ///
    /// ```text
    /// (sold_out)   awaiting_payment -> provisioning -> delivered
    ///                     |                 |
    ///                   lapsed           abandoned
    /// ```
    OrderStatus {
        /// Reserved; the customer has until the end of the payment window.
        AwaitingPayment = "awaiting_payment",
        /// Not paid in time; the reservation is free again and nothing was charged.
        Lapsed = "lapsed",
        /// Nothing was free to reserve; nothing was charged.
        SoldOut = "sold_out",
        /// Paid and being built.
        Provisioning = "provisioning",
        /// Handed to the customer.
        Delivered = "delivered",
        /// Taken back by staff, or because it was late: undone and refunded.
        Abandoned = "abandoned",
    }
}

/// Why an order was taken back that was not delivered in the time that was promised.
pub const LATE: &str = "not delivered in the time we promise";

states! {
    /// One unit of a workflow that staff can see, retry, skip or undo. The order here is the order on the page.
    Step {
        /// Hold node, machine number and addresses.
        Reserve = "reserve",
        /// Open the Stripe Checkout page.
        Checkout = "checkout",
        /// Wait until Stripe says it is paid.
        Payment = "payment",
        /// Clone the image's template, stamped with its owner.
        Clone = "clone",
        /// Set size, addresses, name and keys.
        Configure = "configure",
        /// Grow the disk to the plan's size.
        Resize = "resize",
        /// Turn the firewall on with address filters.
        Protect = "protect",
        /// Start the machine.
        Start = "start",
        /// Wait until the machine's agent answers.
        Answer = "answer",
        /// Publish the forward and reverse names.
        Name = "name",
        /// Tell the customer.
        Notify = "notify",
        /// Read the subscription at Stripe.
        ReadSubscription = "read_subscription",
        /// Stop a machine whose payment is missing.
        Suspend = "suspend",
        /// Start a machine whose payment returned.
        Resume = "resume",
        /// Stop a machine at the end of its subscription.
        Retain = "retain",
        /// End the subscription at Stripe.
        EndSubscription = "end_subscription",
        /// Remove the published names.
        Unname = "unname",
        /// Destroy the machine.
        Destroy = "destroy",
        /// Give the money back.
        Refund = "refund",
        /// Fit the machine to its plan.
        Fit = "fit",
        /// Carry out what a person told a subscription to do.
        CarryOut = "carry_out",
        /// Write to our own database.
        Record = "record",
        /// Gather everything about a person.
        GatherData = "gather_data",
        /// Delete a person's customer at Stripe.
        ForgetCustomer = "forget_customer",
    }
}

states! {
    /// How far a step is.
    StepState {
        /// Not begun.
        Waiting = "waiting",
        /// Begun.
        Running = "running",
        /// Finished.
        Done = "done",
        /// Out of patience; staff have been told.
        Delayed = "delayed",
        /// Staff supplied the result by hand.
        Skipped = "skipped",
        /// Taken back.
        Undone = "undone",
    }
}

impl Step {
    /// The steps of an order as the customer's page lists them.
    pub const OF_AN_ORDER: [Self; 11] = [
        Self::Reserve,
        Self::Checkout,
        Self::Payment,
        Self::Clone,
        Self::Configure,
        Self::Resize,
        Self::Protect,
        Self::Start,
        Self::Answer,
        Self::Name,
        Self::Notify,
    ];

    /// What the step does, in the customer's words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Reserve => "Reserve a place and an address",
            Self::Checkout => "Open the payment page",
            Self::Payment => "Receive your payment",
            Self::Clone => "Copy the operating system",
            Self::Configure => "Set size, address and access",
            Self::Resize => "Grow the disk",
            Self::Protect => "Turn the firewall on",
            Self::Start => "Start the server",
            Self::Answer => "Wait until the server answers",
            Self::Name => "Publish its name",
            Self::Notify => "Write to you",
            Self::ReadSubscription => "Read the subscription",
            Self::Suspend => "Suspend the server",
            Self::Resume => "Resume the server",
            Self::Retain => "Stop the server at the end",
            Self::EndSubscription => "End the subscription",
            Self::Unname => "Remove its name",
            Self::Destroy => "Destroy the server",
            Self::Refund => "Refund the payment",
            Self::Fit => "Fit the server to its plan",
            Self::CarryOut => "Carry out what was asked for",
            Self::Record => "Record what happened",
            Self::GatherData => "Gather everything about a person",
            Self::ForgetCustomer => "Delete the customer at Stripe",
        }
    }
}

/// Why a host name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostnameFault {
    /// Nothing was written.
    #[error("Give your server a name.")]
    Empty,
    /// More than 63 characters (RFC 1035, section 2.3.4).
    #[error("A name has at most 63 characters.")]
    TooLong,
    /// Something else than lower-case letters, digits and hyphens, or a hyphen at either end (RFC 1123, section 2.1).
    #[error("Use letters, digits and hyphens; begin and end with a letter or digit.")]
    BadCharacter,
}

/// Gives the canonical (lower-case) form of a single DNS label. Source: RFC 1123, section 2.1.
pub fn hostname(text: &str) -> Result<String, HostnameFault> {
    let name = text.trim().to_ascii_lowercase();
    if name.is_empty() {
        return Err(HostnameFault::Empty);
    }
    if name.len() > 63 {
        return Err(HostnameFault::TooLong);
    }
    let fits = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fits || name.starts_with('-') || name.ends_with('-') {
        return Err(HostnameFault::BadCharacter);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostname_is_one_dns_label() {
        assert_eq!(hostname(" Web-1 ").as_deref(), Ok("web-1"));
        assert_eq!(hostname(""), Err(HostnameFault::Empty));
        assert_eq!(hostname("-a"), Err(HostnameFault::BadCharacter));
        assert_eq!(hostname("a_b"), Err(HostnameFault::BadCharacter));
        assert_eq!(hostname("a.b"), Err(HostnameFault::BadCharacter));
        assert_eq!(hostname(&"a".repeat(64)), Err(HostnameFault::TooLong));
    }

    #[test]
    fn every_step_reads_back_from_its_own_word() {
        for step in Step::ALL {
            assert_eq!(step.as_str().parse(), Ok(*step));
        }
    }
}
