//! The door: every page, in the order a customer meets them. A handler reads or writes through the store, or talks to
//! Temporal, never both writes; what happens next is decided elsewhere.
//!
//! | file | answers |
//! |---|---|
//! | `home` `pricing` | what is sold |
//! | `permit` | nothing by itself: who may ask for what, asked before every handler |
//! | `legal` `cookies` | privacy, terms, what is kept how long, every cookie |
//! | `accounts` | sign up, log in, log out, verify an address; a forgotten password; what one changes about oneself; a copy of all of it, and its end |
//! | `checkout` `billing` `invoices` | order, pay, manage the payment, read every invoice |
//! | `further` | another server that the plan covers |
//! | `plan_change` | another plan for a server, its price first |
//! | `dashboard` `orders` `services` `ending` | what a customer has, and how it ends |
//! | `webhook` | what Stripe reports |
//! | `coming` | what happens next, for staff |
//! | `staff` `subscription` | what waits for a person; every cent of one subscription, and what staff tell it |
//! | `people` `viewing` | who works here; staff who look at a customer's pages |
//! | `proof` `ceremony` `lost_factor` | who somebody is, once more; passkeys; and when all of that is lost |
//! | `audit` `trail` | who did what, for staff; how every entry reads |
//! | `api` | what programs ask with a token |
//! | `erasures` | whose data went and what stays, for staff |
//! | `health` | whether this process is well |
//! | `hosts` `headers` `reports` | which names we answer to, what browsers are told, and what they report |

use std::sync::Arc;

use activities::payment::stripe::StripeApi;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use domain::policy::Policy;
use store::{EventGatherer, KeyRing, Store};
use url::Url;

mod accounts;
mod api;
mod assets;
mod audit;
mod billing;
mod caller;
mod ceremony;
mod checkout;
mod coming;
mod cookies;
mod csrf;
mod dashboard;
mod ending;
pub(crate) mod engine;
mod erasures;
mod fields;
mod further;
mod headers;
mod health;
mod home;
mod hosts;
mod invoices;
mod legal;
mod limits;
mod lost_factor;
mod measure;
mod orders;
mod page;
pub(crate) mod password;
mod people;
pub(crate) mod permit;
mod plan_change;
mod posted;
mod pricing;
mod proof;
mod recovery;
mod redirect;
mod removals;
mod remove;
mod reports;
mod services;
mod shell;
mod showcase;
mod ssh_key;
mod staff;
mod streams;
mod subscription;
mod tell;
mod totp;
mod trail;
pub(crate) mod turnstile;
mod viewing;
mod visitor;
mod webhook;
mod words;

use crate::{
    config::{AccessConfig, DoorConfig, PrivacyConfig},
    legal::Legal,
};
use ceremony::Passkeys;
use engine::Engine;
use permit::Routes;
use showcase::Showcase;
use turnstile::Turnstile;

/// What the pages need to know about this installation.
#[derive(Clone)]
pub(crate) struct WebSettings {
    /// The public address without a trailing slash, such as `https://portal.example`.
    pub(crate) site_url: String,
    /// Whether cookies travel over TLS only. True whenever `site_url` is https.
    pub(crate) secure_cookies: bool,
    /// The secrets that sign webhooks; several while one is being replaced.
    pub(crate) webhook_secrets: Vec<String>,
    /// How patient orders and subscriptions are; copied into every new order.
    pub(crate) policy: Policy,
    /// Where Temporal answers.
    pub(crate) temporal_address: Url,
    /// The Temporal namespace.
    pub(crate) temporal_namespace: String,
    /// Where operators see workflows, without a trailing slash.
    pub(crate) temporal_ui_url: String,
    /// The Temporal task queue new orders go to.
    pub(crate) task_queue: String,
    /// Origins that a form of ours may be redirected to: Stripe's Checkout and Billing Portal.
    pub(crate) checkout_origins: Vec<String>,
    /// Whether Stripe works the tax out on the payment page.
    pub(crate) adds_tax: bool,
    /// Who gets in, from where and for how long.
    pub(crate) access: AccessConfig,
    /// What is kept how long.
    pub(crate) privacy: PrivacyConfig,
    /// The legal pages.
    pub(crate) legal: Arc<Legal>,
    /// Which names we answer to, how patient we are with slow clients, and what browsers are told.
    pub(crate) door: DoorConfig,
    /// Who says whether somebody is a person, when that is asked.
    pub(crate) turnstile: Option<Turnstile>,
}

/// Everything a handler may use.
pub(crate) struct Portal {
    /// The database.
    pub(crate) store: Store,
    /// Where payment events are stored, those of one moment together.
    pub(crate) events: EventGatherer,
    /// What is on sale.
    pub(crate) showcase: Showcase,
    /// The workflow engine.
    pub(crate) temporal: Engine,
    /// Stripe, for the Billing Portal only.
    pub(crate) stripe: StripeApi,
    /// Seals one-time credentials, SSH keys and seeds, and checks links from letters.
    pub(crate) keys: KeyRing,
    /// Who checks passkeys.
    pub(crate) passkeys: Passkeys,
    /// About this installation.
    pub(crate) settings: WebSettings,
}

impl Portal {
    /// Puts a portal together. Nothing is connected yet. To be called inside a Tokio runtime.
    pub(crate) fn new(store: Store, stripe: StripeApi, keys: KeyRing, settings: WebSettings) -> Self {
        let temporal = Engine::new(
            settings.temporal_address.clone(),
            settings.temporal_namespace.clone(),
            settings.task_queue.clone(),
        );
        password::warm_up();
        password::count_from_nought();
        limits::count_from_nought();
        reports::count_from_nought();
        webhook::count_from_nought();
        let (events, showcase) = (EventGatherer::start(store.clone()), Showcase::new(store.clone()));
        let passkeys = Passkeys::at(&settings.site_url);
        Self { store, events, showcase, temporal, stripe, keys, passkeys, settings }
    }
}

/// The shared state of every handler.
pub(crate) type Shared = axum::extract::State<Arc<Portal>>;

/// Gives every route, with permissions, sessions, security headers, limits and error pages around them.
pub(crate) fn routes(portal: Arc<Portal>) -> Router {
    let enforce = permit::enforce;
    let pages = pages().router().layer(middleware::from_fn_with_state(Arc::clone(&portal), enforce));
    let pages = pages.layer(middleware::from_fn_with_state(Arc::clone(&portal), trail::asked_from));
    let pages = pages.layer(shell::sessions(&portal));
    let machines =
        machines().and(programs()).router().layer(middleware::from_fn_with_state(Arc::clone(&portal), enforce));
    let webhooks = webhooks().router().layer(middleware::from_fn_with_state(Arc::clone(&portal), enforce));
    shell::around(&portal, pages.merge(machines), webhooks).with_state(portal)
}

/// Every route there is. Each needs a line in the table of permissions (`permit`); without one nobody reaches it.
pub(crate) fn every_route() -> Routes {
    pages().and(machines()).and(programs()).and(webhooks())
}

/// What has a session.
fn pages() -> Routes {
    shop().and(access()).and(factors()).and(members()).and(own_data()).and(customers()).and(staff_pages())
}

fn shop() -> Routes {
    Routes::new()
        .route("/", get(home::front))
        .route("/about/", get(home::about))
        .route("/privacy/", get(legal::privacy))
        .route("/terms/", get(legal::terms))
        .route("/cookies/", get(cookies::look))
        .route("/pricing/", get(pricing::every_plan))
        .route("/pricing/{slug}/", get(pricing::one_plan))
}

fn access() -> Routes {
    Routes::new()
        .route("/accounts/signup/", get(accounts::signup::form).post(accounts::signup::submit))
        .route("/accounts/verify/", get(accounts::verify::look).post(accounts::verify::confirm))
        .route("/accounts/verify/resend/", post(accounts::verify::resend))
        .route("/accounts/login/", get(accounts::login::form).post(accounts::login::submit))
        .route("/accounts/logout/", get(accounts::login::ask_logout).post(accounts::login::logout))
        .route("/accounts/reset/", get(accounts::reset::look).post(accounts::reset::ask))
        .route("/accounts/reset/new/", post(accounts::reset::choose))
        .route("/accounts/unlock/", get(accounts::unlock::look).post(accounts::unlock::open))
        .route("/accounts/", get(accounts::mine::overview))
        .route("/accounts/password/", get(accounts::mine::ask_password).post(accounts::mine::change_password))
        .route("/accounts/sessions/", get(accounts::sessions::list))
        .route("/accounts/sessions/end/", post(accounts::sessions::end))
        .route("/accounts/address/", get(accounts::address::form).post(accounts::address::ask))
        .route("/accounts/address/confirm/", get(accounts::address::look).post(accounts::address::confirm))
        .route("/accounts/activity/", get(accounts::activity::list))
        .route("/accounts/tokens/", get(accounts::tokens::list).post(accounts::tokens::make))
        .route("/accounts/tokens/revoke/", post(accounts::tokens::revoke))
        .route("/accounts/close/", get(accounts::close::look).post(accounts::close::close))
}

fn members() -> Routes {
    Routes::new()
        .route("/accounts/current/", post(accounts::members::choose))
        .route("/accounts/members/", get(accounts::members::list))
        .route("/accounts/members/invite/", post(accounts::members::invite))
        .route("/accounts/members/withdraw/", post(accounts::members::withdraw))
        .route("/accounts/members/role/", post(accounts::members::change))
        .route("/accounts/members/remove/", post(accounts::members::remove))
        .route("/accounts/members/leave/", post(accounts::members::leave))
        .route("/accounts/members/hand-over/", post(accounts::members::hand_over))
        .route("/accounts/invitation/", get(accounts::invitation::look).post(accounts::invitation::accept))
        .route("/accounts/invitation/join/", post(accounts::invitation::join))
}

fn factors() -> Routes {
    Routes::new()
        .route("/accounts/login/second/", get(accounts::second::form).post(accounts::second::submit))
        .route("/accounts/login/passkey/", get(accounts::passkey_login::form).post(accounts::passkey_login::submit))
        .route("/accounts/again/", get(accounts::again::form).post(accounts::again::submit))
        .route("/accounts/factors/", get(accounts::factors::overview))
        .route("/accounts/factors/app/", get(accounts::factors::app).post(accounts::factors::add_app))
        .route("/accounts/factors/app/remove/", post(accounts::factors::remove_app))
        .route("/accounts/factors/codes/", post(accounts::factors::make_codes))
        .route("/accounts/factors/passkey/", get(accounts::passkeys::form).post(accounts::passkeys::submit))
        .route("/accounts/factors/passkey/remove/", post(accounts::passkeys::remove))
        .route("/accounts/factors/keep/", get(lost_factor::ask_keep).post(lost_factor::keep_them))
}

/// What people ask about their own data.
fn own_data() -> Routes {
    Routes::new()
        .route("/accounts/data/", get(accounts::data::look).post(accounts::data::ask))
        .route("/accounts/data/file/", get(accounts::data::offer).post(accounts::data::fetch))
        .route("/accounts/erase/", get(accounts::erase::look).post(accounts::erase::ask))
        .route("/accounts/erase/confirm/", get(accounts::erase::ask_again).post(accounts::erase::confirm))
        .route("/accounts/erase/undo/", get(accounts::erase::offer_back).post(accounts::erase::take_back))
}

fn customers() -> Routes {
    Routes::new()
        .route("/billing/checkout/{slug}/", get(checkout::form).post(checkout::submit))
        .route("/billing/return/", get(billing::back))
        .route("/billing/portal/", get(billing::ask_portal).post(billing::open_portal))
        .route("/billing/invoices/", get(invoices::list))
        .route("/billing/invoices/{id}/{what}/", get(invoices::lead))
        .route("/dashboard/", get(dashboard::overview))
        .route("/dashboard/orders/{id}/", get(orders::look))
        .route("/dashboard/orders/{id}/events", get(orders::events))
        .route("/dashboard/subscriptions/{id}/server/", get(further::form).post(further::submit))
        .route("/dashboard/vps/{id}/", get(services::look))
        .route("/dashboard/vps/{id}/cancel/", get(ending::look))
        .route("/dashboard/vps/{id}/cancel/{what}/", post(ending::tell))
        .route("/dashboard/vps/{id}/plan/", get(plan_change::list).post(plan_change::keep))
        .route("/dashboard/vps/{id}/plan/{slug}/", get(plan_change::look).post(plan_change::tell))
        .route("/dashboard/vps/{id}/remove/", get(remove::look).post(remove::tell))
        .route("/dashboard/vps/{id}/password/", post(services::show_password))
}

fn staff_pages() -> Routes {
    Routes::new()
        .route("/staff/", get(staff::overview))
        .route("/staff/coming/", get(coming::look))
        .route("/staff/factors/", get(lost_factor::look).post(lost_factor::ask))
        .route("/staff/audit/", get(audit::search))
        .route("/staff/erasures/", get(erasures::list))
        .route("/staff/removals/", post(removals::approve))
        .route("/staff/refunds/", post(staff::settle_refund))
        .route("/staff/subscriptions/{id}/", get(subscription::look))
        .route("/staff/subscriptions/{id}/{what}/", post(subscription::tell))
        .route("/staff/attention/{workflow_id}/", post(staff::decide))
        .route("/staff/people/", get(people::list).post(people::change))
        .route("/staff/viewing/", get(viewing::list).post(viewing::begin))
        .route("/staff/viewing/end/", post(viewing::end))
}

/// What machines ask, without a session.
fn machines() -> Routes {
    Routes::new()
        .route("/robots.txt", get(home::robots))
        .route("/static/{hash}/{*path}", get(assets::serve))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
}

/// What programs ask with a token; no session is looked for.
fn programs() -> Routes {
    Routes::new().route("/api/v1/account/", get(api::account)).route("/api/v1/services/", get(api::services))
}

fn webhooks() -> Routes {
    Routes::new()
        .route("/webhooks/stripe/", post(webhook::receive))
        .route(reports::PATH, post(reports::receive).layer(DefaultBodyLimit::max(reports::LIMIT_BYTES)))
}
