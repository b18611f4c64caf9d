//! Stripe at the wire: API, Checkout and Billing Portal pages, billing, webhooks.
//!
//! Answers `/v1` in the shape of API version `2026-09-30.endive`, holds everything in memory and
//! bills by itself: a month is a calendar month or, with `--month-secs`, that many seconds (a day is a
//! thirtieth of it). The pages are `/c/pay/{session}`, `/p/session/{id}`, `/i/{invoice}` (pay, authenticate)
//! and `/i/{invoice}/pdf`.
//!
//! | card | does |
//! |---|---|
//! | `4242…` | always pays |
//! | `4000000000000002`, `4000000000009995` | declined at checkout; the second for want of money |
//! | `4000000000000341` | pays at checkout and is declined afterwards |
//! | `4000002760003184` | a person authenticates every payment; a renewal waits with `requires_action` |
//! | `AT611904300234573201` | every payment is `processing` until the control API settles it |
//!
//! Tax: AT 20, BE 21, CH 8.1, DE 19, DK 25, ES 21, FR 20, GB 20, IE 23, IT 22, NL 21, PL 23, SE 25 %, nothing
//! elsewhere, reverse charge with an `eu_vat` id in the EU.
//!
//! Not as at Stripe: a renewal's invoice is finalized at once instead of an hour later (`draft_secs` changes that),
//! a failed payment is not retried by itself, and a past due subscription stays past due. Fixed discounts are no part
//! of a proration. Every tax id counts as verified.
//!
//! # Control API (JSON; besides what [`crate::faults`] gives)
//!
//! | call | does |
//! |---|---|
//! | `GET /_control/state` | every object by kind, newest last; `payments`: the successful charges and refunds of each invoice |
//! | `GET /_control/mock_refusals` | what `--mock-url` refused, with the request (409 without it); `DELETE` forgets it, in the file of `--mock-refusals` too |
//! | `POST /_control/webhooks` `{paused?, duplicate?, duplicate_percent?, shuffle?, drop_percent?, seed?, shape?}` | pauses, repeats each event `duplicate` more times or a part of them once, shuffles, loses attempts (which are retried); `seed` throws the dice; `shape` is `current` or `legacy` (before 2025-03-31) |
//! | `POST /_control/webhooks/resend` `{event_id}` | delivers an event again |
//! | `POST /_control/webhooks/deliver` `{events: [ids], shape?}` | posts these events one after the other, each once for every time it is named, paused or not; answers when all were: `{delivered: [{event_id, acknowledged, why_not}]}` |
//! | `GET /_control/webhooks/pending` | what is not yet acknowledged, and the settings; `DELETE` forgets it: those are never delivered |
//! | `POST /_control/quiet` `{quiet, still}` | nothing becomes an event, or again; nothing is billed of its own accord (as `quiet` unless it is given), or again: for crowds |
//! | `POST /_control/events/{id}/restate` | states the same fact under a second event id, and gives that event |
//! | `DELETE /_control/idempotency_keys` | forgets every idempotency key, as Stripe may after 24 hours: `{forgotten}` |
//! | `POST /_control/clock` `{advance_secs?, month_secs?, draft_secs?}` | moves the clock forward and bills what is due; sets the length of the months begun from now on (`null`: calendar), and how long renewals' invoices stay drafts |
//! | `GET /_control/clock` | `{now, month_secs, draft_secs}` |
//! | `POST /_control/sessions/{id}/pay` `{card?, address?, tax_id?: {type, value}, promotion_code?, authenticate?}` | pays as a person would; `card: false` gives none, `authenticate: false` fails the bank's question |
//! | `POST /_control/sessions/{id}/begin` (the same) and `…/finish` | a person is at their bank's page, and comes back |
//! | `POST /_control/sessions/{id}/decline`, `…/expire` | tries a card that is declined; expires the session |
//! | `POST /_control/customers/{id}/card` `{fails}` or `{kind}` | gives the customer a card: `good`, `fails`, `insufficient`, `authenticate`, `delayed` |
//! | `POST /_control/customers/{id}/no_card` | takes it away |
//! | `POST /_control/customers/{id}/subscriptions` `{price, id?, quantity?, metadata?}` | begins a subscription as somebody in the dashboard does |
//! | `POST /_control/customers/new/subscriptions` `{customer?, price, …}` | the same for a customer made with it, from the parameters of `POST /v1/customers` |
//! | `POST /_control/subscriptions/{id}/renew` | ends the current period now |
//! | `POST /_control/subscriptions/{id}/cancel` | ends the subscription now |
//! | `POST /_control/invoices/{id}/pay`, `…/finalize` | charges the customer's card for an open invoice; finalizes a draft and charges it |
//! | `POST /_control/invoices/{id}/authenticate`, `…/fail_authentication` | answers the bank's question |
//! | `POST /_control/payment_intents/{id}/succeed`, `…/fail` | settles a payment that is processing, with its invoice and session |
//! | `POST /_control/charges/{id}/dispute` `{reason?, amount?}` | opens a dispute |
//! | `POST /_control/disputes/{id}/review`, `…/win`, `…/lose` | moves it on |
//! | `POST /_control/refunds` `{status}` | refunds begin as `succeeded`, `pending` or `failed` from now on |
//! | `POST /_control/refunds/{id}/succeed`, `…/fail` | settles a refund; one that had arrived may still fail |
//!
//! Faults of its own, by `subject` (the exact path, `/v1/refunds`; none: every `/v1` POST):
//! `stored_status` `{status}` answers a keyed request with an error that is kept under its
//! idempotency key, work undone; `slow_work` `{ms}` holds a request and its key that long.

mod balance;
mod billing;
mod calendar;
mod cards;
mod catalogue;
mod charges;
mod checkout;
mod checkout_create;
mod checkout_page;
mod clocks;
mod control;
mod control_acts;
mod coupons;
mod customers;
mod discounts;
mod disputes;
mod events;
mod expand;
mod forms;
mod front;
mod idempotency;
mod invoice_calls;
mod invoice_page;
mod invoice_shape;
mod invoices;
mod legacy;
mod page;
mod payments;
mod pending_update;
mod plan_change;
mod portal;
mod portal_page;
mod preview;
mod refunds;
mod refusal;
mod routes;
mod schedule_shape;
mod schedules;
mod subscription_shape;
mod subscription_update;
mod subscriptions;
mod tax;
mod tax_ids;
#[cfg(test)]
mod tests;
mod ties;
mod trials;
mod webhooks;
mod world;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use serde_json::Value;

use crate::faults::Faults;
use idempotency::Keys;
use world::World;

const TICK: Duration = Duration::from_secs(1);
const SHORT_TICK: Duration = Duration::from_millis(25);
/// Faults that only this stand-in knows.
const FAULT_KINDS: &[&str] = &["stored_status", "slow_work"];

/// How the Stripe stand-in is started.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StripeArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:12111")]
    pub(crate) listen: SocketAddr,
    /// The API key that is accepted, as a bearer token or a basic user name.
    #[arg(long)]
    pub(crate) secret_key: String,
    /// Where events are posted.
    #[arg(long, requires = "webhook_secret")]
    pub(crate) webhook_url: Option<String>,
    /// What events are signed with.
    #[arg(long)]
    pub(crate) webhook_secret: Option<String>,
    /// Base URL of the pages; the listening address if absent.
    #[arg(long)]
    pub(crate) public_url: Option<String>,
    /// Base URL of a stripe-mock that every request is shown to first.
    #[arg(long)]
    pub(crate) mock_url: Option<String>,
    /// A file that what it refuses is written to, one request on each line; made with the first of them.
    #[arg(long, requires = "mock_url")]
    pub(crate) mock_refusals: Option<PathBuf>,
    /// Real seconds in a month; calendar months if absent.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) month_secs: Option<i64>,
    /// Shortest life of a Checkout Session in seconds; Stripe's own is the default.
    #[arg(long, default_value_t = 1800)]
    pub(crate) min_session_secs: i64,
}

/// What the request handlers and the background work share.
struct App {
    world: Mutex<World>,
    keys: Mutex<Keys>,
    faults: Faults,
    http: reqwest::Client,
    secret_key: String,
    webhook_secret: String,
    webhook_url: Option<String>,
    mock_url: Option<String>,
    mock_refusals: Mutex<Vec<Value>>,
    mock_refusals_file: Option<PathBuf>,
}

impl App {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mock_refusals(&self) -> MutexGuard<'_, Vec<Value>> {
        self.mock_refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until the process is stopped.
///
/// *Errors*: the address cannot be listened on.
pub(crate) async fn run(args: StripeArgs) -> anyhow::Result<()> {
    let listener =
        tokio::net::TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    let app = Arc::new(new_app(&args, listener.local_addr()?)?);
    tokio::spawn(bill_forever(Arc::clone(&app)));
    if args.webhook_url.is_some() {
        app.world().outbox.enabled = true;
        tokio::spawn(webhooks::deliver_forever(Arc::clone(&app)));
    }
    axum::serve(listener, router(app)).await.context("serving")
}

fn new_app(args: &StripeArgs, address: SocketAddr) -> anyhow::Result<App> {
    // A provider may have been installed by another stand-in of the same process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .context("building the HTTP client")?;
    let public_url = args.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
    Ok(App {
        world: Mutex::new(World::new(&public_url, args.min_session_secs, args.month_secs)),
        keys: Mutex::new(Keys::default()),
        faults: Faults::new().with_kinds(FAULT_KINDS),
        http,
        secret_key: args.secret_key.clone(),
        webhook_secret: args.webhook_secret.clone().unwrap_or_default(),
        webhook_url: args.webhook_url.clone(),
        mock_url: args.mock_url.clone(),
        mock_refusals: Mutex::new(Vec::new()),
        mock_refusals_file: args.mock_refusals.clone(),
    })
}

fn router(app: Arc<App>) -> Router {
    let faults = app.faults.clone();
    let served = front::router(Arc::clone(&app))
        .merge(checkout_page::router(Arc::clone(&app)))
        .merge(invoice_page::router(Arc::clone(&app)))
        .merge(portal_page::router(Arc::clone(&app)));
    let controls = control::router(Arc::clone(&app)).merge(control_acts::router(app));
    faults.wrap(served).merge(controls).merge(faults.router())
}

/// Bills once for each second of the stand-in's clock: nothing falls due between two.
async fn bill_forever(app: Arc<App>) {
    let mut billed_until = i64::MIN;
    loop {
        let pause = {
            let mut world = app.world();
            let now = world.clock();
            if now != billed_until && !world.still {
                billed_until = now;
                if let Err(refusal) = billing::bill_due(&mut world) {
                    eprintln!("billing: {}", refusal.message());
                }
            }
            if world.month_secs.is_some() { SHORT_TICK } else { TICK }
        };
        tokio::time::sleep(pause).await;
    }
}
