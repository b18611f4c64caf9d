//! Who belongs to an account, and who works here. What each of them may do stands in the door's table of permissions.
use crate::states;

states! {
    /// What somebody is in an account.
    MemberRole {
        /// Everything, who else belongs to it included. An account has one at least.
        Owner = "owner",
        /// What costs money: orders, plans, cards and invoices.
        Billing = "billing",
        /// The servers themselves, and their passwords.
        Technical = "technical",
        /// Looking, and nothing else.
        ReadOnly = "read_only",
    }
}

states! {
    /// What somebody who works here does.
    StaffRole {
        /// Answers customers: sees what they see, and holds what would be taken away.
        Support = "support",
        /// Keeps machines going: steps that wait, and what is held back.
        Operator = "operator",
        /// Money that goes back, credit and periods.
        Finance = "finance",
        /// All of it, and who works here.
        Admin = "admin",
    }
}
