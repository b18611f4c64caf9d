//! What is delivered.
use crate::states;

states! {
    /// What kind of thing a service is.
    ServiceKind {
        /// A virtual private server.
        Vps = "vps",
    }
}

states! {
    /// Where a service is in its life.
    ///
    /// ```text
    /// provisioning -> running <-> suspended -> retained -> expired
    ///        |             \________________/^
    ///        +-> undone
    /// ```
    ServiceStatus {
        /// Being built.
        Provisioning = "provisioning",
        /// Delivered and running.
        Running = "running",
        /// Stopped because payment is missing; comes back by itself when it is paid.
        Suspended = "suspended",
        /// Stopped at the end of its subscription; destroyed when the retention days are over.
        Retained = "retained",
        /// Destroyed; address and name are returned.
        Expired = "expired",
        /// Never delivered: taken back during provisioning.
        Undone = "undone",
    }
}
