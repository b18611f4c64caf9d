//! What takes something away from a customer, and why it is not done yet.
use crate::states;

states! {
    /// What is taken away.
    RemovalKind {
        /// The server is stopped because a payment is missing.
        Suspend = "suspend",
        /// The server is stopped at the end of its subscription, and kept.
        Retain = "retain",
        /// The subscription is ended and the server destroyed.
        Expire = "expire",
    }
}

states! {
    /// Why it is held back.
    HeldBy {
        /// The invoice it is for is not one that is finalised and unpaid.
        Invoice = "invoice",
        /// A payment of the invoice is on its way.
        Payment = "payment",
        /// Staff hold it until a day.
        Hold = "hold",
        /// The mail server does not have every notice yet, or has had the last one too short a time.
        Notice = "notice",
        /// The mail server refused a notice for good; staff decide.
        Refused = "refused",
        /// Too much was taken away within an hour; staff decide.
        Breaker = "breaker",
    }
}

impl HeldBy {
    /// Whether it waits for staff, and not for something that comes by itself.
    pub const fn asks_staff(self) -> bool {
        matches!(self, Self::Refused | Self::Breaker)
    }
}
