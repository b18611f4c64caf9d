//! The door: every page, in the order a customer meets them. A handler reads or writes through the store, or talks to
//! Temporal, never both writes; what happens next is decided elsewhere.
//!
//! | file | answers |
//! |---|---|
//! | `home` `pricing` | what is sold |
//! | `accounts` | sign up, log in, log out, verify an address |
//! | `checkout` `billing` `invoices` | order, pay, manage the payment, read every invoice |
//! | `plan_change` | another plan for a server, its price first |
//! | `dashboard` `orders` `services` `ending` | what a customer has, and how it ends |
//! | `webhook` | what Stripe reports |
//! | `coming` | what happens next, for staff |
//! | `staff` `subscription` | what waits for a person; every cent of one subscription, and what staff tell it |
//! | `health` | whether this process is well |

use std::sync::Arc;

use activities::payment::stripe::StripeApi;
use axum::{
    Router,
    routing::{get, post},
};
use domain::policy::Policy;
use store::{EventGatherer, KeyRing, Store};
use url::Url;

mod accounts;
mod assets;
mod billing;
mod checkout;
mod coming;
mod csrf;
mod dashboard;
mod ending;
pub(crate) mod engine;
mod fields;
mod headers;
mod health;
mod home;
mod invoices;
mod measure;
mod orders;
mod page;
pub(crate) mod password;
mod plan_change;
mod posted;
mod pricing;
mod redirect;
mod removals;
mod services;
mod shell;
mod showcase;
mod ssh_key;
mod staff;
mod subscription;
mod tell;
mod visitor;
mod webhook;
mod words;

use engine::Engine;
use showcase::Showcase;

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
    /// Seals one-time credentials and SSH keys, and checks links from letters.
    pub(crate) keys: KeyRing,
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
        let (events, showcase) = (EventGatherer::start(store.clone()), Showcase::new(store.clone()));
        Self { store, events, showcase, temporal, stripe, keys, settings }
    }
}

/// The shared state of every handler.
pub(crate) type Shared = axum::extract::State<Arc<Portal>>;

/// Gives every route, with sessions, security headers, limits and error pages around them.
pub(crate) fn routes(portal: Arc<Portal>) -> Router {
    let pages = Router::new()
        .route("/", get(home::front))
        .route("/about/", get(home::about))
        .route("/pricing/", get(pricing::every_plan))
        .route("/pricing/{slug}/", get(pricing::one_plan))
        .route("/accounts/signup/", get(accounts::signup::form).post(accounts::signup::submit))
        .route("/accounts/verify/", get(accounts::verify::look).post(accounts::verify::confirm))
        .route("/accounts/verify/resend/", post(accounts::verify::resend))
        .route("/accounts/login/", get(accounts::login::form).post(accounts::login::submit))
        .route("/accounts/logout/", get(accounts::login::ask_logout).post(accounts::login::logout))
        .route("/billing/checkout/{slug}/", get(checkout::form).post(checkout::submit))
        .route("/billing/return/", get(billing::back))
        .route("/billing/portal/", get(billing::ask_portal).post(billing::open_portal))
        .route("/billing/invoices/", get(invoices::list))
        .route("/billing/invoices/{id}/{what}/", get(invoices::lead))
        .route("/dashboard/", get(dashboard::overview))
        .route("/dashboard/orders/{id}/", get(orders::look))
        .route("/dashboard/orders/{id}/events", get(orders::events))
        .route("/dashboard/vps/{id}/", get(services::look))
        .route("/dashboard/vps/{id}/cancel/", get(ending::look))
        .route("/dashboard/vps/{id}/cancel/{what}/", post(ending::tell))
        .route("/dashboard/vps/{id}/plan/", get(plan_change::list).post(plan_change::keep))
        .route("/dashboard/vps/{id}/plan/{slug}/", get(plan_change::look).post(plan_change::tell))
        .route("/dashboard/vps/{id}/password/", post(services::show_password))
        .route("/staff/", get(staff::overview))
        .route("/staff/coming/", get(coming::look))
        .route("/staff/removals/", post(removals::approve))
        .route("/staff/subscriptions/{id}/", get(subscription::look))
        .route("/staff/subscriptions/{id}/{what}/", post(subscription::tell))
        .route("/staff/attention/{workflow_id}/", post(staff::decide))
        .layer(shell::sessions(&portal));
    let machines = Router::new()
        .route("/robots.txt", get(home::robots))
        .route("/static/{hash}/{*path}", get(assets::serve))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready));
    let webhooks = Router::new().route("/webhooks/stripe/", post(webhook::receive));
    shell::around(&portal, pages.merge(machines), webhooks).with_state(portal)
}
