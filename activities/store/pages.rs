//! What the pages show, each read with as few questions as it takes.
use crate::{AttentionLine, HeldRemoval, InstructionLine, Lease, PaidFor};
use domain::{
    billing::{Phase, SubscriptionStatus},
    ids::{OrderId, ServiceId, SubscriptionId},
    money::Money,
    order::{OrderStatus, Step, StepState},
    plan::{MachineSize, Term},
    service::{ServiceKind, ServiceStatus},
};
use std::net::IpAddr;
use time::OffsetDateTime;

mod charges;
mod credit;
pub(crate) mod dashboard;
mod history;
mod invoices;
mod order;
mod service;
mod staff;
mod subscription;
mod waiting;

pub use charges::{ChargeLine, RefundLine};
pub use credit::{CreditMoveLine, CreditMover};
pub use invoices::{AccountInvoice, InvoiceLinks, InvoicesPage};
pub use subscription::{InvoiceStory, MovingPage, MovingSubscription, PaidService, ReportLine, SubscriptionPage};
pub use waiting::{PendingPlan, PlanWish, WaitingPlan};

/// What an account has, owes and may still order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dashboard {
    /// What it has, newest first; what ended stays for 30 days.
    pub services: Vec<ServiceCard>,
    /// Its newest 20 orders that are not delivered.
    pub orders: Vec<OrderCard>,
    /// What its subscriptions let it have.
    pub entitlements: Vec<EntitlementLine>,
    /// What will be charged next, soonest first.
    pub next_charges: Vec<NextCharge>,
}

/// One service on the dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCard {
    /// Which.
    pub id: ServiceId,
    /// The order it was built for.
    pub order: OrderId,
    /// One DNS label.
    pub hostname: String,
    /// The published name.
    pub dns_name: Option<String>,
    /// Its IPv4 address while it has one.
    pub ipv4: Option<IpAddr>,
    /// Its IPv6 address while it has one.
    pub ipv6: Option<IpAddr>,
    /// Where it is in its life.
    pub status: ServiceStatus,
    /// The plan's name.
    pub plan_name: String,
    /// What is charged each term.
    pub money: Money,
    /// How often.
    pub term: Term,
    /// Until when it is paid.
    pub period_end: Option<OffsetDateTime>,
    /// Whether it ends then instead of renewing.
    pub cancel_at_period_end: bool,
    /// Where its subscription stands.
    pub phase: Phase,
    /// When it will be destroyed, if it will.
    pub destroy_at: Option<OffsetDateTime>,
    /// The subscription that pays for it.
    pub subscription: SubscriptionId,
    /// Where the oldest unpaid invoice can be paid.
    pub open_invoice_url: Option<String>,
    /// The plan it changes to as soon as it is paid, by name.
    pub pending_plan: Option<String>,
    /// Until when it costs nothing, while it has never cost anything.
    pub trial_until: Option<OffsetDateTime>,
    /// Whether its subscription covers it beside the one it was paid for.
    pub covered: bool,
}

/// One order on the dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderCard {
    /// Which.
    pub id: OrderId,
    /// One DNS label.
    pub hostname: String,
    /// The plan's name.
    pub plan_name: String,
    /// Where it is in its life.
    pub status: OrderStatus,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Whether a step of it waits for staff.
    pub needs_attention: bool,
}

/// What one subscription lets the account have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitlementLine {
    /// The subscription that gives it.
    pub subscription: SubscriptionId,
    /// The plan's name.
    pub plan_name: String,
    /// Of what kind.
    pub kind: ServiceKind,
    /// How many.
    pub quantity: u32,
    /// How many of them are used.
    pub used: i64,
    /// Whether the subscription is paid and goes on, so that what is free may be ordered.
    pub open: bool,
}

/// What will be charged next for one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextCharge {
    /// Which subscription.
    pub subscription: SubscriptionId,
    /// The plan's name.
    pub plan_name: String,
    /// How much.
    pub money: Money,
    /// When.
    pub at: OffsetDateTime,
}

/// One order in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderPage {
    /// Which.
    pub id: OrderId,
    /// The service it becomes.
    pub service: ServiceId,
    /// Where that service is in its life; none before it is paid.
    pub service_status: Option<ServiceStatus>,
    /// One DNS label.
    pub hostname: String,
    /// The published name.
    pub dns_name: Option<String>,
    /// The plan's name.
    pub plan_name: String,
    /// The plan's slug.
    pub plan_slug: String,
    /// The machine's size.
    pub size: MachineSize,
    /// The image's name.
    pub image_name: String,
    /// What is charged each term.
    pub money: Money,
    /// How often.
    pub term: Term,
    /// Where it is in its life.
    pub status: OrderStatus,
    /// Why it was closed.
    pub reason: Option<String>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was paid.
    pub paid_at: Option<OffsetDateTime>,
    /// When it was delivered.
    pub delivered_at: Option<OffsetDateTime>,
    /// When it was closed without a service.
    pub closed_at: Option<OffsetDateTime>,
    /// The subscription that covers it, when nothing is paid for it.
    pub covered_by: Option<SubscriptionId>,
    /// What was paid for it, once it was given up.
    pub paid: PaidFor,
    /// Where it can be paid; only while it waits for its payment.
    pub checkout_url: Option<String>,
    /// Every step of such an order in the page's order; a step not begun is waiting.
    pub steps: Vec<StepLine>,
    /// Its history, oldest first.
    pub timeline: Vec<TimelineLine>,
    /// Whether a step of it waits for staff.
    pub attention: bool,
}

/// One step of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepLine {
    /// Which.
    pub step: Step,
    /// How far it is.
    pub state: StepState,
    /// When it began.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
}

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineLine {
    /// When it happened.
    pub at: OffsetDateTime,
    /// `system`, or who.
    pub actor: String,
    /// What it is about, one word.
    pub kind: String,
    /// A sentence.
    pub line: String,
}

/// One service in full.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and most services have none")]
pub struct ServicePage {
    /// Which.
    pub id: ServiceId,
    /// The order it was built for.
    pub order: OrderId,
    /// One DNS label.
    pub hostname: String,
    /// The published name.
    pub dns_name: Option<String>,
    /// Where it is in its life.
    pub status: ServiceStatus,
    /// The plan's name.
    pub plan_name: String,
    /// The machine's size.
    pub size: MachineSize,
    /// The image's name.
    pub image_name: String,
    /// What is charged each term.
    pub money: Money,
    /// How often.
    pub term: Term,
    /// Its IPv4 address while it has one.
    pub ipv4: Option<Lease>,
    /// Its IPv6 address while it has one.
    pub ipv6: Option<Lease>,
    /// The subscription that pays for it.
    pub subscription: SubscriptionId,
    /// Stripe's word about that subscription.
    pub subscription_status: SubscriptionStatus,
    /// Where that subscription stands.
    pub phase: Phase,
    /// When the paid period began.
    pub period_start: Option<OffsetDateTime>,
    /// When it ends.
    pub period_end: Option<OffsetDateTime>,
    /// Whether it ends then instead of renewing.
    pub cancel_at_period_end: bool,
    /// When the machine will be destroyed, if it will.
    pub destroy_at: Option<OffsetDateTime>,
    /// Whether its customer takes it away, or did.
    pub removed: bool,
    /// Where the oldest unpaid invoice can be paid.
    pub open_invoice_url: Option<String>,
    /// The newest 24 invoices, newest first.
    pub invoices: Vec<InvoiceLine>,
    /// Its history and its order's, oldest first.
    pub timeline: Vec<TimelineLine>,
    /// Whether a generated password waits to be shown once.
    pub password_waiting: bool,
    /// The newest wish of the customer.
    pub asked: Option<InstructionLine>,
    /// The plan it changes to when the period ends, by name.
    pub next_plan: Option<String>,
    /// The plan it changes to as soon as it is paid.
    pub pending_plan: Option<PendingPlan>,
    /// Until when it costs nothing, while it has never cost anything.
    pub trial_until: Option<OffsetDateTime>,
    /// Whether its subscription covers it beside the one it was paid for.
    pub covered: bool,
    /// What else its subscription pays for and is not gone.
    pub beside: Vec<ServiceBeside>,
}

/// Another service of the same subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceBeside {
    /// Which.
    pub id: ServiceId,
    /// One DNS label.
    pub hostname: String,
    /// Whether it is covered, too; the other is the one that the subscription was begun for.
    pub covered: bool,
}

/// One invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceLine {
    /// The Stripe id (`in_…`).
    pub id: String,
    /// Stripe's word.
    pub status: String,
    /// What was asked.
    pub amount_due: Money,
    /// What was paid.
    pub amount_paid: Money,
    /// Where it can be read and paid.
    pub hosted_url: Option<String>,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// Everything staff look at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaffOverview {
    /// What is held back, what waits for staff first.
    pub held: Vec<HeldRemoval>,
    /// Steps that wait for staff, oldest first.
    pub attention: Vec<AttentionLine>,
    /// The newest 50 orders.
    pub orders: Vec<StaffOrder>,
    /// The newest 50 subscriptions.
    pub subscriptions: Vec<StaffSubscription>,
    /// 50 payment events: those no workflow claimed first, then those not handled, then the newest.
    pub events: Vec<StaffEvent>,
    /// The newest 50 letters that were refused.
    pub letters_refused: Vec<RefusedLetter>,
}

/// One order as staff see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaffOrder {
    /// Which.
    pub id: OrderId,
    /// The id of its workflow.
    pub workflow_id: String,
    /// Who buys.
    pub account_name: String,
    /// One DNS label.
    pub hostname: String,
    /// The plan's name.
    pub plan_name: String,
    /// Where it is in its life.
    pub status: OrderStatus,
    /// The step that runs or is delayed.
    pub step: Option<Step>,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// One subscription as staff see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaffSubscription {
    /// Which.
    pub id: SubscriptionId,
    /// The id of its workflow.
    pub workflow_id: String,
    /// Who pays.
    pub account_name: String,
    /// The plan's name.
    pub plan_name: String,
    /// Stripe's word.
    pub status: SubscriptionStatus,
    /// Our phase.
    pub phase: Phase,
    /// When the paid period ends.
    pub period_end: Option<OffsetDateTime>,
    /// When the machine will be destroyed, if it will.
    pub destroy_at: Option<OffsetDateTime>,
}

/// One payment event as staff see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaffEvent {
    /// The Stripe id (`evt_…`).
    pub id: String,
    /// Stripe's word.
    pub event_type: String,
    /// The object it is about.
    pub object_id: String,
    /// `received`, `handled`, `ignored` or `unclaimed`.
    pub state: String,
    /// How many tries failed.
    pub attempts: u32,
    /// Why the last one failed, or why nobody claimed it.
    pub last_error: Option<String>,
    /// The order it names.
    pub order: Option<OrderId>,
    /// The subscription it names.
    pub subscription: Option<SubscriptionId>,
    /// When it was told to us.
    pub received_at: OffsetDateTime,
}

/// A letter the mail server would not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLetter {
    /// What makes it this letter and no other.
    pub occasion: String,
    /// What it says.
    pub kind: String,
    /// The mail server's words.
    pub last_error: Option<String>,
    /// When it was due.
    pub created_at: OffsetDateTime,
}
