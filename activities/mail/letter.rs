//! Letters as words: facts in, subject, text and HTML out.
use askama::Template;
use contract::letter::LetterKind;
use domain::plan::Term;
use store::KeptLine;
use time::{OffsetDateTime, format_description::StaticFormatDescription, macros::format_description};

const DAY: StaticFormatDescription = format_description!("[day padding:none] [month repr:long] [year]");
const MINUTE: StaticFormatDescription =
    format_description!("[day padding:none] [month repr:long] [year], [hour]:[minute] UTC");

/// What letters say. A letter uses the facts it needs; the others are empty.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each letter asks for one or two of them")]
pub(super) struct Facts {
    /// The portal's address, without a final slash.
    pub(super) site: String,
    /// The receiver's name; empty where nobody has confirmed that the address is theirs.
    pub(super) name: String,
    /// The name the customer gave the server.
    pub(super) hostname: String,
    /// Its published name.
    pub(super) dns_name: String,
    pub(super) ipv4: String,
    pub(super) ipv6: String,
    /// Whether a generated password waits on its page.
    pub(super) has_password: bool,
    /// The plan's name.
    pub(super) plan: String,
    /// The name of the plan it was to change to.
    pub(super) other_plan: String,
    /// The amount with its currency.
    pub(super) amount: String,
    /// `month` or `year`.
    pub(super) term: &'static str,
    /// Whether nothing was paid for the order, because a plan covers it; or the letter is about such a server alone, and its
    /// subscription goes on.
    pub(super) covered: bool,
    /// Whether nothing was paid for the order, because its first days cost nothing or a promotion paid for it.
    pub(super) free: bool,
    /// Whether an order was taken back because the time we promise was over.
    pub(super) late: bool,
    /// The day it is about.
    pub(super) day: String,
    /// The one thing to click.
    pub(super) link: String,
    /// About second factors: what happened, as a sentence.
    pub(super) what: &'static str,
    /// About a log-in: what the browser seems to be.
    pub(super) device: String,
    /// About a log-in: the address it came from.
    pub(super) network: String,
    /// About an invitation: the confirmed address of whoever invites.
    pub(super) inviter: String,
    /// After an erasure: what stays.
    pub(super) kept: Vec<KeptLine>,
    /// To staff: the step that waits.
    pub(super) step: String,
    /// To staff: why it waits, or how much does.
    pub(super) reason: String,
    /// To staff: the workflow it belongs to.
    pub(super) workflow: String,
}

/// One letter, ready to be handed over.
pub(super) struct Written {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

macro_rules! letters {
    ($($kind:ident: $subject:literal, $text:literal, $html:literal;)+) => {
        /// Writes one letter.
        #[expect(dead_code, reason = "some subjects name no fact")]
        pub(super) fn write(kind: LetterKind, facts: &Facts) -> Result<Written, askama::Error> {
            match kind {
                $(LetterKind::$kind => {
                    #[derive(Template)]
                    #[template(path = $subject)]
                    struct Subject<'a> { l: &'a Facts }
                    #[derive(Template)]
                    #[template(path = $text)]
                    struct Text<'a> { l: &'a Facts }
                    #[derive(Template)]
                    #[template(path = $html)]
                    struct Html<'a> { l: &'a Facts }
                    Ok(Written {
                        subject: one_line(&Subject { l: facts }.render()?),
                        text: without_gaps(&Text { l: facts }.render()?),
                        html: Html { l: facts }.render()?,
                    })
                })+
            }
        }
    };
}

letters! {
    VerifyAddress: "letter/verify_address/subject.txt", "letter/verify_address/body.txt", "letter/verify_address/body.html";
    AccountExists: "letter/account_exists/subject.txt", "letter/account_exists/body.txt", "letter/account_exists/body.html";
    PasswordReset: "letter/password_reset/subject.txt", "letter/password_reset/body.txt", "letter/password_reset/body.html";
    PasswordChanged: "letter/password_changed/subject.txt", "letter/password_changed/body.txt", "letter/password_changed/body.html";
    LogInLocked: "letter/log_in_locked/subject.txt", "letter/log_in_locked/body.txt", "letter/log_in_locked/body.html";
    CodesLocked: "letter/codes_locked/subject.txt", "letter/codes_locked/body.txt", "letter/codes_locked/body.html";
    NewDevice: "letter/new_device/subject.txt", "letter/new_device/body.txt", "letter/new_device/body.html";
    AddressConfirm: "letter/address_confirm/subject.txt", "letter/address_confirm/body.txt", "letter/address_confirm/body.html";
    AddressChanging: "letter/address_changing/subject.txt", "letter/address_changing/body.txt", "letter/address_changing/body.html";
    AddressChanged: "letter/address_changed/subject.txt", "letter/address_changed/body.txt", "letter/address_changed/body.html";
    AccountClosed: "letter/account_closed/subject.txt", "letter/account_closed/body.txt", "letter/account_closed/body.html";
    MemberInvitation: "letter/member_invitation/subject.txt", "letter/member_invitation/body.txt", "letter/member_invitation/body.html";
    MembershipChanged: "letter/membership_changed/subject.txt", "letter/membership_changed/body.txt", "letter/membership_changed/body.html";
    FactorsChanged: "letter/factors_changed/subject.txt", "letter/factors_changed/body.txt", "letter/factors_changed/body.html";
    FactorsReset: "letter/factors_reset/subject.txt", "letter/factors_reset/body.txt", "letter/factors_reset/body.html";
    ColleagueFactorsReset: "letter/colleague_factors_reset/subject.txt", "letter/colleague_factors_reset/body.txt", "letter/colleague_factors_reset/body.html";
    DataExport: "letter/data_export/subject.txt", "letter/data_export/body.txt", "letter/data_export/body.html";
    ErasureConfirm: "letter/erasure_confirm/subject.txt", "letter/erasure_confirm/body.txt", "letter/erasure_confirm/body.html";
    ErasureWaiting: "letter/erasure_waiting/subject.txt", "letter/erasure_waiting/body.txt", "letter/erasure_waiting/body.html";
    ErasureTakenBack: "letter/erasure_taken_back/subject.txt", "letter/erasure_taken_back/body.txt", "letter/erasure_taken_back/body.html";
    ErasureDone: "letter/erasure_done/subject.txt", "letter/erasure_done/body.txt", "letter/erasure_done/body.html";
    ServiceDelivered: "letter/service_delivered/subject.txt", "letter/service_delivered/body.txt", "letter/service_delivered/body.html";
    PaymentReceived: "letter/payment_received/subject.txt", "letter/payment_received/body.txt", "letter/payment_received/body.html";
    PaymentConfirmation: "letter/payment_confirmation/subject.txt", "letter/payment_confirmation/body.txt", "letter/payment_confirmation/body.html";
    PlanConfirmation: "letter/plan_confirmation/subject.txt", "letter/plan_confirmation/body.txt", "letter/plan_confirmation/body.html";
    PlanUnchanged: "letter/plan_unchanged/subject.txt", "letter/plan_unchanged/body.txt", "letter/plan_unchanged/body.html";
    TermChanged: "letter/term_changed/subject.txt", "letter/term_changed/body.txt", "letter/term_changed/body.html";
    PaymentReminder: "letter/payment_reminder/subject.txt", "letter/payment_reminder/body.txt", "letter/payment_reminder/body.html";
    ServiceSuspended: "letter/service_suspended/subject.txt", "letter/service_suspended/body.txt", "letter/service_suspended/body.html";
    ServiceResumed: "letter/service_resumed/subject.txt", "letter/service_resumed/body.txt", "letter/service_resumed/body.html";
    ServiceRestored: "letter/service_restored/subject.txt", "letter/service_restored/body.txt", "letter/service_restored/body.html";
    ServiceResized: "letter/service_resized/subject.txt", "letter/service_resized/body.txt", "letter/service_resized/body.html";
    TrialEnding: "letter/trial_ending/subject.txt", "letter/trial_ending/body.txt", "letter/trial_ending/body.html";
    SubscriptionEnding: "letter/subscription_ending/subject.txt", "letter/subscription_ending/body.txt", "letter/subscription_ending/body.html";
    ServiceRetained: "letter/service_retained/subject.txt", "letter/service_retained/body.txt", "letter/service_retained/body.html";
    ServiceRemoved: "letter/service_removed/subject.txt", "letter/service_removed/body.txt", "letter/service_removed/body.html";
    DestructionWarning: "letter/destruction_warning/subject.txt", "letter/destruction_warning/body.txt", "letter/destruction_warning/body.html";
    ServiceExpired: "letter/service_expired/subject.txt", "letter/service_expired/body.txt", "letter/service_expired/body.html";
    OrderAbandoned: "letter/order_abandoned/subject.txt", "letter/order_abandoned/body.txt", "letter/order_abandoned/body.html";
    StaffAttention: "letter/staff_attention/subject.txt", "letter/staff_attention/body.txt", "letter/staff_attention/body.html";
    RemovalsHeld: "letter/removals_held/subject.txt", "letter/removals_held/body.txt", "letter/removals_held/body.html";
}

/// `month` or `year`.
pub(super) fn each(term: Term) -> &'static str {
    match term {
        Term::Monthly => "month",
        Term::Annual => "year",
    }
}

/// `21 December 2026`.
pub(super) fn day(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC).format(DAY).unwrap_or_default()
}

/// `21 December 2026, 09:05 UTC`.
pub(super) fn minute(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC).format(MINUTE).unwrap_or_default()
}

/// A sentence that was left out leaves no gap.
fn without_gaps(text: &str) -> String {
    let mut kept = text.trim_start().to_owned();
    while kept.contains("\n\n\n") {
        kept = kept.replace("\n\n\n", "\n\n");
    }
    kept
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
