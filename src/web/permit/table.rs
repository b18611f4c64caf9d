//! The table: every method of every route, and who may ask. Where a path ends with `{what}`, each word has a line of its own.
use domain::member::{
    MemberRole::{self, Billing, Owner, ReadOnly, Technical},
    StaffRole::{self, Admin, Finance, Operator, Support},
};

use super::{
    Permit,
    Who::{Anybody, Member, Person, Staff},
    get, post,
};

/// Everybody who belongs to the account.
const ALL: &[MemberRole] = &[Owner, Billing, Technical, ReadOnly];
/// What costs money, or brings it back.
const MONEY: &[MemberRole] = &[Owner, Billing];
/// What is paid, to look at.
const BOOKS: &[MemberRole] = &[Owner, Billing, ReadOnly];
/// What opens a server, or makes one that is paid already.
const SERVERS: &[MemberRole] = &[Owner, Technical];
/// Who belongs to the account.
const OWNERS: &[MemberRole] = &[Owner];

/// Everybody who works here.
const HERE: &[StaffRole] = &[Support, Operator, Finance, Admin];
/// Whoever keeps machines going.
const MACHINES: &[StaffRole] = &[Operator, Admin];
/// Whoever holds and starts again what a payment has stopped.
const HOLDS: &[StaffRole] = &[Support, Operator, Finance, Admin];
/// Whoever moves money.
const PURSE: &[StaffRole] = &[Finance, Admin];
/// Whoever answers customers.
const DESK: &[StaffRole] = &[Support, Admin];
/// Whoever says who works here.
const ADMINS: &[StaffRole] = &[Admin];

/// Who may ask for what.
pub(super) const TABLE: &[Permit] = &[
    // What everybody sees, and machines ask.
    get("/", Anybody),
    get("/about/", Anybody),
    get("/pricing/", Anybody),
    get("/pricing/{slug}/", Anybody),
    get("/robots.txt", Anybody),
    get("/privacy/", Anybody),
    get("/terms/", Anybody),
    get("/cookies/", Anybody),
    get("/static/{hash}/{*path}", Anybody),
    get("/healthz", Anybody),
    get("/readyz", Anybody),
    // The token decides.
    get("/api/v1/account/", Anybody),
    get("/api/v1/services/", Anybody),
    // What browsers report of the content policy.
    post("/csp-reports/", Anybody),
    // Believed by its signature alone.
    post("/webhooks/stripe/", Anybody),
    // How somebody gets in. Links from letters carry their own proof.
    get("/accounts/signup/", Anybody),
    post("/accounts/signup/", Anybody),
    get("/accounts/verify/", Anybody),
    post("/accounts/verify/", Anybody),
    post("/accounts/verify/resend/", Anybody),
    get("/accounts/login/", Anybody),
    post("/accounts/login/", Anybody),
    get("/accounts/login/second/", Anybody),
    post("/accounts/login/second/", Anybody),
    get("/accounts/login/passkey/", Anybody),
    post("/accounts/login/passkey/", Anybody),
    get("/accounts/logout/", Anybody),
    post("/accounts/logout/", Anybody).ends_viewing(),
    get("/accounts/reset/", Anybody),
    post("/accounts/reset/", Anybody),
    post("/accounts/reset/new/", Anybody),
    get("/accounts/unlock/", Anybody),
    post("/accounts/unlock/", Anybody),
    get("/accounts/invitation/", Anybody),
    post("/accounts/invitation/", Person),
    post("/accounts/invitation/join/", Anybody),
    // About oneself.
    get("/accounts/", Person),
    get("/accounts/password/", Person),
    post("/accounts/password/", Person),
    get("/accounts/sessions/", Person),
    post("/accounts/sessions/end/", Person),
    get("/accounts/address/", Person).again(),
    post("/accounts/address/", Person).again(),
    get("/accounts/address/confirm/", Person),
    post("/accounts/address/confirm/", Person),
    get("/accounts/close/", Person),
    post("/accounts/close/", Person),
    post("/accounts/current/", Person),
    // Their own data, and its end.
    get("/accounts/data/", Person),
    post("/accounts/data/", Person),
    get("/accounts/data/file/", Person),
    post("/accounts/data/file/", Person),
    get("/accounts/erase/", Person),
    post("/accounts/erase/", Person),
    get("/accounts/erase/confirm/", Person),
    post("/accounts/erase/confirm/", Person).again(),
    get("/accounts/erase/undo/", Anybody),
    post("/accounts/erase/undo/", Anybody),
    // What they log in with besides a password, and who they are, once more.
    get("/accounts/again/", Person),
    post("/accounts/again/", Person),
    get("/accounts/factors/", Person),
    get("/accounts/factors/app/", Person).again(),
    post("/accounts/factors/app/", Person).again(),
    post("/accounts/factors/app/remove/", Person).again(),
    post("/accounts/factors/codes/", Person).again(),
    get("/accounts/factors/passkey/", Person).again(),
    post("/accounts/factors/passkey/", Person).again(),
    post("/accounts/factors/passkey/remove/", Person).again(),
    get("/accounts/factors/keep/", Anybody),
    post("/accounts/factors/keep/", Anybody),
    // Who belongs to the account. Whoever changes it says again who they are.
    get("/accounts/members/", Member(ALL)),
    post("/accounts/members/leave/", Member(ALL)).again(),
    post("/accounts/members/invite/", Member(OWNERS)).again(),
    post("/accounts/members/withdraw/", Member(OWNERS)).again(),
    post("/accounts/members/role/", Member(OWNERS)).again(),
    post("/accounts/members/remove/", Member(OWNERS)).again(),
    post("/accounts/members/hand-over/", Member(OWNERS)).again(),
    // What happened in the account, and the programs that read it.
    get("/accounts/activity/", Member(OWNERS)),
    get("/accounts/tokens/", Member(OWNERS)),
    post("/accounts/tokens/", Member(OWNERS)),
    post("/accounts/tokens/revoke/", Member(OWNERS)),
    // What is bought.
    get("/billing/checkout/{slug}/", Member(MONEY)),
    post("/billing/checkout/{slug}/", Member(MONEY)),
    get("/billing/return/", Member(MONEY)),
    get("/billing/portal/", Member(MONEY)),
    post("/billing/portal/", Member(MONEY)).again(),
    get("/billing/invoices/", Member(BOOKS)),
    get("/billing/invoices/{id}/page/", Member(MONEY)),
    get("/billing/invoices/{id}/pdf/", Member(MONEY)),
    get("/billing/invoices/{id}/receipt/", Member(MONEY)),
    // What is there.
    get("/dashboard/", Member(ALL)),
    get("/dashboard/orders/{id}/", Member(ALL)),
    get("/dashboard/orders/{id}/events", Member(ALL)),
    get("/dashboard/subscriptions/{id}/server/", Member(SERVERS)),
    post("/dashboard/subscriptions/{id}/server/", Member(SERVERS)),
    get("/dashboard/vps/{id}/", Member(ALL)),
    get("/dashboard/vps/{id}/cancel/", Member(MONEY)),
    post("/dashboard/vps/{id}/cancel/cancel_at_end/", Member(MONEY)),
    post("/dashboard/vps/{id}/cancel/go_on/", Member(MONEY)),
    post("/dashboard/vps/{id}/cancel/cancel_now/", Member(MONEY)).again(),
    get("/dashboard/vps/{id}/plan/", Member(MONEY)),
    post("/dashboard/vps/{id}/plan/", Member(MONEY)),
    get("/dashboard/vps/{id}/plan/{slug}/", Member(MONEY)),
    post("/dashboard/vps/{id}/plan/{slug}/", Member(MONEY)),
    get("/dashboard/vps/{id}/remove/", Member(SERVERS)),
    post("/dashboard/vps/{id}/remove/", Member(SERVERS)).again(),
    post("/dashboard/vps/{id}/password/", Member(SERVERS)),
    // For staff.
    get("/staff/", Staff(HERE)),
    get("/staff/coming/", Staff(HERE)),
    get("/staff/factors/", Staff(DESK)),
    post("/staff/factors/", Staff(DESK)).again(),
    get("/staff/erasures/", Staff(DESK)),
    get("/staff/audit/", Staff(ADMINS)),
    post("/staff/removals/", Staff(MACHINES)).again(),
    post("/staff/refunds/", Staff(PURSE)).again(),
    post("/staff/attention/{workflow_id}/", Staff(MACHINES)).again(),
    get("/staff/subscriptions/{id}/", Staff(HERE)),
    post("/staff/subscriptions/{id}/hold/", Staff(HOLDS)).again(),
    post("/staff/subscriptions/{id}/release/", Staff(HOLDS)).again(),
    post("/staff/subscriptions/{id}/restore/", Staff(HOLDS)).again(),
    post("/staff/subscriptions/{id}/keep_server/", Staff(HOLDS)).again(),
    post("/staff/subscriptions/{id}/refund/", Staff(PURSE)).again(),
    post("/staff/subscriptions/{id}/credit/", Staff(PURSE)).again(),
    post("/staff/subscriptions/{id}/extend/", Staff(PURSE)).again(),
    post("/staff/subscriptions/{id}/cancel_at_end/", Staff(PURSE)).again(),
    post("/staff/subscriptions/{id}/go_on/", Staff(PURSE)).again(),
    post("/staff/subscriptions/{id}/cancel_now/", Staff(ADMINS)).again(),
    get("/staff/people/", Staff(ADMINS)),
    post("/staff/people/", Staff(ADMINS)).again(),
    get("/staff/viewing/", Staff(DESK)),
    post("/staff/viewing/", Staff(DESK)).again(),
    post("/staff/viewing/end/", Staff(DESK)).ends_viewing(),
];
