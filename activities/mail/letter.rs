//! Letters as words: facts in, subject, text and HTML out.
use askama::Template;
use contract::letter::LetterKind;
use domain::plan::Term;
use time::{OffsetDateTime, format_description::StaticFormatDescription, macros::format_description};

const DAY: StaticFormatDescription = format_description!("[day padding:none] [month repr:long] [year]");
const MINUTE: StaticFormatDescription =
    format_description!("[day padding:none] [month repr:long] [year], [hour]:[minute] UTC");

/// What letters say. A letter uses the facts it needs; the others are empty.
#[derive(Default)]
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
    /// Whether an order was taken back because the time we promise was over.
    pub(super) late: bool,
    /// The day it is about.
    pub(super) day: String,
    /// The one thing to click.
    pub(super) link: String,
    /// To staff: the step that waits.
    pub(super) step: String,
    /// To staff: why it waits.
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
    DestructionWarning: "letter/destruction_warning/subject.txt", "letter/destruction_warning/body.txt", "letter/destruction_warning/body.html";
    ServiceExpired: "letter/service_expired/subject.txt", "letter/service_expired/body.txt", "letter/service_expired/body.html";
    OrderAbandoned: "letter/order_abandoned/subject.txt", "letter/order_abandoned/body.txt", "letter/order_abandoned/body.html";
    StaffAttention: "letter/staff_attention/subject.txt", "letter/staff_attention/body.txt", "letter/staff_attention/body.html";
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
