//! Letters: workflow id `letter-<occasion>`, type `letter`, and the activity that sends one.
use alloc::{format, string::String};
use domain::{
    ids::{OrderId, ServiceId, SubscriptionId, UserId},
    states,
};
use serde::{Deserialize, Serialize};
use temporalio_common::ActivityError;
use temporalio_macros::activity_definitions;

states! {
    /// What a letter says. One folder of templates each.
    LetterKind {
        /// Confirm your address.
        VerifyAddress = "verify_address",
        /// Somebody signed up with your address again.
        AccountExists = "account_exists",
        /// Choose another password.
        PasswordReset = "password_reset",
        /// Your password was changed.
        PasswordChanged = "password_changed",
        /// Your log-in was tried too often and is locked.
        LogInLocked = "log_in_locked",
        /// Somebody who knew your password tried too many codes, and your log-in is locked.
        CodesLocked = "codes_locked",
        /// Somebody logged in with a browser we do not know.
        NewDevice = "new_device",
        /// Confirm your other address; to that address.
        AddressConfirm = "address_confirm",
        /// Your address is to be changed; to the old one.
        AddressChanging = "address_changing",
        /// Your address was changed; to the old one.
        AddressChanged = "address_changed",
        /// Your account is closed.
        AccountClosed = "account_closed",
        /// Somebody invites you to an account; the subject is who invites.
        MemberInvitation = "member_invitation",
        /// What you may do in an account has changed.
        MembershipChanged = "membership_changed",
        /// What you log in with besides your password was changed.
        FactorsChanged = "factors_changed",
        /// Our staff were asked to take your second factors away.
        FactorsReset = "factors_reset",
        /// To an admin: a colleague's second factors are to be taken away.
        ColleagueFactorsReset = "colleague_factors_reset",
        /// The copy of your data is ready.
        DataExport = "data_export",
        /// Confirm that everything about you is to go.
        ErasureConfirm = "erasure_confirm",
        /// Your account is closed, and until when that can be taken back.
        ErasureWaiting = "erasure_waiting",
        /// Your account is there again.
        ErasureTakenBack = "erasure_taken_back",
        /// What went, what stays, why and until when.
        ErasureDone = "erasure_done",
        /// Your server is ready.
        ServiceDelivered = "service_delivered",
        /// We received your payment.
        PaymentReceived = "payment_received",
        /// Confirm a payment with your bank.
        PaymentConfirmation = "payment_confirmation",
        /// Confirm the payment of another plan with your bank.
        PlanConfirmation = "plan_confirmation",
        /// Your plan stays as it is: the other one was not paid.
        PlanUnchanged = "plan_unchanged",
        /// Your plan is paid by the month or year now.
        TermChanged = "term_changed",
        /// A payment is missing.
        PaymentReminder = "payment_reminder",
        /// Your server is suspended.
        ServiceSuspended = "service_suspended",
        /// Your server runs again.
        ServiceResumed = "service_resumed",
        /// Our staff started your server again.
        ServiceRestored = "service_restored",
        /// Your server has the size of its new plan.
        ServiceResized = "service_resized",
        /// Your trial ends, and what is charged then.
        TrialEnding = "trial_ending",
        /// Your subscription will end.
        SubscriptionEnding = "subscription_ending",
        /// Your server is stopped and will be destroyed.
        ServiceRetained = "service_retained",
        /// Your server is stopped and will be destroyed, because you take it away.
        ServiceRemoved = "service_removed",
        /// Last warning before your server is destroyed.
        DestructionWarning = "destruction_warning",
        /// Your server is gone.
        ServiceExpired = "service_expired",
        /// We could not deliver; you have your money back.
        OrderAbandoned = "order_abandoned",
        /// To staff: a step waits for you.
        StaffAttention = "staff_attention",
        /// To staff: so much is taken away at once that it waits for you.
        RemovalsHeld = "removals_held",
    }
}

/// Whom and what a letter is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LetterSubject {
    /// A person who logs in.
    User(UserId),
    /// An order.
    Order(OrderId),
    /// A subscription.
    Subscription(SubscriptionId),
}

/// One letter. The same occasion is written to at most once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterInput {
    /// What it says.
    pub kind: LetterKind,
    /// What it is about; the receiver is looked up from it when the letter is sent.
    pub subject: LetterSubject,
    /// The service it names, where it names one.
    pub service: Option<ServiceId>,
    /// What makes it this letter and no other, for example `payment_received/in_123`.
    pub occasion: String,
    /// How long the mail server is asked, in seconds, before the letter waits for staff. Not said, it is three days.
    #[serde(default)]
    pub patience_secs: Option<u64>,
}

impl LetterInput {
    /// The id of the workflow that sends it.
    pub fn workflow_id(&self) -> String {
        format!("letter-{}", self.occasion)
    }
}

/// The mail activities.
pub struct Mail;

#[activity_definitions]
impl Mail {
    /// Hands one letter to the mail server.
    ///
    /// *Idempotence*: a letter already handed over is not sent again; one whose answer was lost is sent with the same
    /// Message-ID.
    #[activity(name = "mail.send")]
    pub fn send(_: LetterInput) -> Result<(), ActivityError> {
        unimplemented!()
    }
}

/// Markers an implementation names with `#[activity(definition = …)]`.
pub mod defs {
    pub use super::mail::Send;
}
