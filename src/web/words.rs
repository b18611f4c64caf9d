//! How states and times read on a page. Every badge carries its word; the colour only repeats it.
#![expect(clippy::trivially_copy_pass_by_ref, reason = "templates hand over references")]
use askama::Template;
use domain::{
    billing::Phase,
    instruction::{AskKind, InstructionState},
    member::{MemberRole, StaffRole},
    money::Money,
    order::{OrderStatus, StepState},
    plan::Term,
    removal::RemovalKind,
    service::ServiceStatus,
};
use time::{
    OffsetDateTime, UtcOffset,
    format_description::{BorrowedFormatItem, well_known::Rfc3339},
    macros::format_description,
};

/// A word and the tone it is shown in: `good`, `busy`, `warn`, `bad` or `quiet`.
#[derive(Template)]
#[template(ext = "html", source = r#"<span class="tag tag-{{ tone }}">{{ word }}</span>"#)]
pub(crate) struct Badge {
    /// The word.
    pub(crate) word: &'static str,
    /// The tone.
    pub(crate) tone: &'static str,
}

const fn badge(word: &'static str, tone: &'static str) -> Badge {
    Badge { word, tone }
}

/// How an order's status reads.
pub(crate) fn order(status: &OrderStatus) -> Badge {
    match status {
        OrderStatus::AwaitingPayment => badge("Waiting for payment", "warn"),
        OrderStatus::Lapsed => badge("Not paid in time", "quiet"),
        OrderStatus::SoldOut => badge("Sold out", "quiet"),
        OrderStatus::Provisioning => badge("Being set up", "busy"),
        OrderStatus::Delivered => badge("Delivered", "good"),
        OrderStatus::Abandoned => badge("Could not be delivered", "bad"),
    }
}

/// How a service's status reads.
pub(crate) fn service(status: &ServiceStatus) -> Badge {
    match status {
        ServiceStatus::Provisioning => badge("Being set up", "busy"),
        ServiceStatus::Running => badge("Running", "good"),
        ServiceStatus::Suspended => badge("Suspended", "bad"),
        ServiceStatus::Retained => badge("Stopped", "warn"),
        ServiceStatus::Expired => badge("Removed", "quiet"),
        ServiceStatus::Undone => badge("Never delivered", "quiet"),
    }
}

/// How a subscription's phase reads.
pub(crate) fn phase(phase: &Phase) -> Badge {
    match phase {
        Phase::Active => badge("Paid", "good"),
        Phase::PastDue => badge("Payment missing", "warn"),
        Phase::Suspended => badge("Suspended", "bad"),
        Phase::Retained => badge("Ended", "warn"),
        Phase::Expired => badge("Over", "quiet"),
    }
}

/// What a member of an account is.
pub(crate) fn member(role: &MemberRole) -> &'static str {
    match role {
        MemberRole::Owner => "Owner",
        MemberRole::Billing => "Billing",
        MemberRole::Technical => "Technical",
        MemberRole::ReadOnly => "Read-only",
    }
}

/// What a member of an account may do.
pub(crate) fn member_may(role: &MemberRole) -> &'static str {
    match role {
        MemberRole::Owner => "everything, who belongs to the account included",
        MemberRole::Billing => "orders, plans, cancelling, cards and invoices",
        MemberRole::Technical => "servers and their passwords",
        MemberRole::ReadOnly => "looking at servers and invoices",
    }
}

/// What somebody who works here does.
pub(crate) fn staff(role: &StaffRole) -> &'static str {
    match role {
        StaffRole::Support => "Support",
        StaffRole::Operator => "Operator",
        StaffRole::Finance => "Finance",
        StaffRole::Admin => "Admin",
    }
}

/// How a subscription's phase reads while nothing was charged yet.
pub(crate) fn trial() -> Badge {
    badge("Free trial", "good")
}

/// How a step's state reads.
pub(crate) fn step(state: &StepState) -> Badge {
    match state {
        StepState::Waiting => badge("To do", "quiet"),
        StepState::Running => badge("In progress", "busy"),
        StepState::Done => badge("Done", "good"),
        StepState::Delayed => badge("Delayed", "warn"),
        StepState::Skipped => badge("Done by hand", "good"),
        StepState::Undone => badge("Taken back", "quiet"),
    }
}

/// What a person told a subscription to do.
pub(crate) fn asked(kind: &AskKind) -> &'static str {
    match kind {
        AskKind::Hold => "Hold",
        AskKind::Release => "Take the hold away",
        AskKind::Restore => "Start it again",
        AskKind::Refund => "Refund",
        AskKind::Credit => "Credit",
        AskKind::Extend => "Extend the period",
        AskKind::ChangePlan => "Change the plan",
        AskKind::ChangePlanAtEnd => "Change the plan at the end of the period",
        AskKind::KeepPlan => "Keep the plan",
        AskKind::CancelAtEnd => "Cancel at the end",
        AskKind::GoOn => "Take the cancellation back",
        AskKind::CancelNow => "Cancel now",
        AskKind::RemoveServer => "Remove a server",
        AskKind::KeepServer => "Keep a server",
    }
}

/// How far that is.
pub(crate) fn told(state: &InstructionState) -> Badge {
    match state {
        InstructionState::Accepted => badge("Being done", "busy"),
        InstructionState::Done => badge("Done", "good"),
        InstructionState::Refused => badge("Not possible", "bad"),
    }
}

/// What is taken away from a customer, and whether it is one server `alone` that they do not want any more.
pub(crate) fn removal(kind: &RemovalKind, alone: &bool) -> &'static str {
    match kind {
        RemovalKind::Suspend => "Suspend",
        RemovalKind::Retain if *alone => "Stop one server, and keep it",
        RemovalKind::Retain => "Stop, and keep",
        RemovalKind::Expire if *alone => "Destroy one server",
        RemovalKind::Expire => "End and destroy",
    }
}

/// How an invoice's status (Stripe's word) reads.
pub(crate) fn invoice(status: &str) -> Badge {
    match status {
        "paid" => badge("Paid", "good"),
        "open" => badge("To be paid", "warn"),
        "uncollectible" => badge("Not paid", "bad"),
        "void" => badge("Void", "quiet"),
        _ => badge("Draft", "quiet"),
    }
}

/// How the state of a payment event reads.
pub(crate) fn event(state: &str) -> Badge {
    match state {
        "handled" => badge("Handled", "good"),
        "ignored" => badge("Not needed", "quiet"),
        "unclaimed" => badge("Nobody's", "bad"),
        _ => badge("Received", "busy"),
    }
}

/// What a price is charged for.
pub(crate) fn per(term: &Term) -> &'static str {
    match term {
        Term::Monthly => "a month",
        Term::Annual => "a year",
    }
}

/// How often a price is charged.
pub(crate) fn often(term: &Term) -> &'static str {
    match term {
        Term::Monthly => "Monthly",
        Term::Annual => "Yearly",
    }
}

/// A time, for machines and for people.
#[derive(Template)]
#[template(ext = "html", source = r#"<time datetime="{{ stamp }}">{{ text }}</time>"#)]
pub(crate) struct When {
    stamp: String,
    text: String,
}

fn written(at: &OffsetDateTime, shape: &[BorrowedFormatItem<'_>]) -> When {
    let text = at.to_offset(UtcOffset::UTC).format(shape).unwrap_or_default();
    When { stamp: at.format(&Rfc3339).unwrap_or_default(), text }
}

/// A minute, in UTC.
pub(crate) fn moment(at: &OffsetDateTime) -> When {
    written(at, format_description!("[day padding:none] [month repr:short] [year], [hour]:[minute] UTC"))
}

/// A day, in UTC.
pub(crate) fn day(at: &OffsetDateTime) -> When {
    written(at, format_description!("[day padding:none] [month repr:long] [year]"))
}

/// An amount in the currency of another.
pub(crate) fn amount(amount_minor: &i64, like: &Money) -> String {
    Money { amount_minor: *amount_minor, currency: like.currency.clone() }.to_string()
}

/// An amount of memory: `4 GiB`, `512 MiB`, `1.5 GiB`.
pub(crate) fn memory(memory_mib: &u32) -> String {
    match memory_mib {
        mib if mib % 1024 == 0 => format!("{} GiB", mib / 1024),
        mib if mib % 512 == 0 && *mib > 1024 => format!("{}.5 GiB", mib / 1024),
        mib => format!("{mib} MiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn times_read_the_same_everywhere() {
        let at = datetime!(2026-03-01 01:05 +02:00);
        let stamp = "2026-03-01T01:05:00+02:00";
        assert_eq!(moment(&at).to_string(), format!(r#"<time datetime="{stamp}">28 Feb 2026, 23:05 UTC</time>"#));
        assert_eq!(day(&at).to_string(), format!(r#"<time datetime="{stamp}">28 February 2026</time>"#));
    }

    #[test]
    fn memory_is_shown_in_the_largest_plain_unit() {
        assert_eq!(memory(&4096), "4 GiB");
        assert_eq!(memory(&1536), "1.5 GiB");
        assert_eq!(memory(&512), "512 MiB");
    }
}
