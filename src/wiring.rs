//! The only file that knows every room: makes each from the configuration.
use std::{fs, path::Path, sync::Arc, time::Duration};

use activities::{
    ledger::LedgerDesk,
    machine::{MachineDesk, proxmox::ProxmoxApi},
    mail::{MailDesk, smtp::SmtpApi},
    name::{NameDesk, powerdns::PowerDnsApi},
    payment::{
        PaymentDesk,
        mirror::Mirror,
        stripe::{StripeApi, checkout::SaleTerms, living::Portion},
    },
    privacy::PrivacyDesk,
    round::RoundDesk,
};
use anyhow::Context;
use store::{KeyRing, Store};
use temporalio_client::{Client, ConnectionOptions, GrpcCompression};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Secret, TemporalConfig},
    legal::Legal,
    telemetry,
    web::{Portal, WebSettings, turnstile::Turnstile},
};

/// How often a connection to Temporal is tried again.
const TEMPORAL_RETRY: Duration = Duration::from_millis(500);

/// The desks of all activities.
pub(crate) struct Hands {
    /// Our own database.
    pub(crate) ledger: LedgerDesk,
    /// Stripe.
    pub(crate) payment: PaymentDesk,
    /// Proxmox VE.
    pub(crate) machine: MachineDesk,
    /// `PowerDNS`.
    pub(crate) name: NameDesk,
    /// Letters.
    pub(crate) mail: MailDesk,
    /// What people ask about their own data.
    pub(crate) privacy: PrivacyDesk,
    /// Stripe's list of events, and comparisons.
    pub(crate) round: RoundDesk,
}

/// The database, not yet asked anything.
pub(crate) fn store(config: &Config) -> anyhow::Result<Store> {
    Ok(Store::connect(config.database_url.reveal(), config.database_pool_size)?)
}

/// The keys that seal columns and sign links.
pub(crate) fn keys(config: &Config) -> anyhow::Result<KeyRing> {
    let others = config.other_keys.iter().map(Secret::reveal);
    KeyRing::of(config.secret_key.reveal(), others).context("reading EZ_SECRET_KEY and EZ_SECRET_KEYS_OTHER")
}

/// Stripe.
pub(crate) fn stripe(config: &Config) -> anyhow::Result<StripeApi> {
    let terms = SaleTerms { promotion_codes: config.stripe.promotion_codes, tax: config.stripe.tax };
    StripeApi::new(config.stripe.secret_key.reveal(), config.stripe.api.as_str())
        .map(|stripe| stripe.selling_under(terms))
        .map_err(|fault| anyhow::anyhow!(fault.words()))
}

/// The mirror of Stripe, over connections that are there already.
pub(crate) fn mirror(config: &Config, store: Store) -> anyhow::Result<Mirror> {
    Ok(Mirror { store, stripe: stripe(config)? })
}

/// Proxmox VE.
pub(crate) fn proxmox(config: &Config) -> anyhow::Result<ProxmoxApi> {
    let proxmox = &config.proxmox;
    let ca = proxmox.ca_file.as_ref().map(fs::read).transpose().context("reading PROXMOX_CA_FILE")?;
    ProxmoxApi::new(&proxmox.url, &proxmox.token_id, proxmox.token_secret.reveal(), proxmox.verify_ssl, ca.as_deref())
        .context("making the Proxmox VE client")
}

/// `PowerDNS`.
pub(crate) fn powerdns(config: &Config) -> anyhow::Result<PowerDnsApi> {
    let dns = &config.dns;
    PowerDnsApi::new(&dns.url, dns.api_key.reveal(), &dns.zone).context("making the PowerDNS client")
}

/// The mail server.
pub(crate) fn smtp(config: &Config) -> anyhow::Result<SmtpApi> {
    SmtpApi::new(config.mail.smtp.reveal(), &config.mail.from).context("reading EZ_SMTP_URL and EZ_MAIL_FROM")
}

/// Every desk.
pub(crate) fn hands(config: &Config) -> anyhow::Result<Hands> {
    let store = store(config)?;
    let keys = Arc::new(keys(config)?);
    Ok(Hands {
        ledger: LedgerDesk { store: store.clone(), allowance: config.allowance },
        payment: PaymentDesk {
            store: store.clone(),
            stripe: stripe(config)?,
            site_url: config.site.as_str().trim_end_matches('/').to_owned(),
        },
        machine: MachineDesk::new(store.clone(), proxmox(config)?, keys.clone()),
        name: NameDesk::new(store.clone(), powerdns(config)?),
        privacy: PrivacyDesk {
            store: store.clone(),
            stripe: stripe(config)?,
            keys: keys.clone(),
            export_secs: config.privacy.export_secs,
            books_years: config.privacy.books_years,
        },
        mail: MailDesk::new(store.clone(), smtp(config)?, keys, config.site.as_str(), &config.mail.staff),
        round: RoundDesk {
            mirror: mirror(config, store)?,
            portion: Portion::Part(config.rounds.comparison_subscriptions),
        },
    })
}

/// The legal pages.
pub(crate) fn legal(config: &Config) -> anyhow::Result<Legal> {
    Legal::load(config.privacy.legal_folder.as_deref().map(Path::new)).context("reading the legal pages")
}

/// The portal behind `ez serve`.
pub(crate) fn portal(config: &Config) -> anyhow::Result<Portal> {
    let settings = WebSettings {
        site_url: config.site.to_string().trim_end_matches('/').to_owned(),
        secure_cookies: config.site.scheme() == "https",
        webhook_secrets: config.stripe.webhook_secrets.iter().map(|s| s.reveal().to_owned()).collect(),
        policy: config.policy.clone(),
        temporal_address: config.temporal.address.clone(),
        temporal_namespace: config.temporal.namespace.clone(),
        temporal_ui_url: config.temporal.ui.to_string().trim_end_matches('/').to_owned(),
        task_queue: config.temporal.task_queue.clone(),
        checkout_origins: config.stripe.page_origins.clone(),
        adds_tax: config.stripe.tax,
        access: config.access.clone(),
        privacy: config.privacy.clone(),
        legal: Arc::new(legal(config)?),
        door: config.door.clone(),
        turnstile: config
            .door
            .turnstile
            .as_ref()
            .map(Turnstile::new)
            .transpose()
            .context("reading EZ_TURNSTILE_URL")?,
    };
    let store = Store::connect_for_pages(config.database_url.reveal(), config.database_pool_size)?;
    Ok(Portal::new(store, stripe(config)?, keys(config)?, settings))
}

/// A connection to Temporal. Temporal stands beside the portal, where packing small messages costs more than sending them.
///
/// *Errors*: Temporal does not answer; the caller may try again.
pub(crate) async fn temporal(config: &TemporalConfig) -> anyhow::Result<Client> {
    let identity = format!("ez@{}", std::process::id());
    let connection = ConnectionOptions::new(config.address.clone())
        .identity(identity)
        .grpc_compression(GrpcCompression::None)
        .build();
    let client = Client::connect(connection, telemetry::client_options(&config.namespace))
        .await
        .with_context(|| format!("connecting to Temporal at {}", config.address))?;
    Ok(client)
}

/// A connection to Temporal, waited for; nothing when told to stop first.
pub(crate) async fn patient_temporal(config: &TemporalConfig, stop: &CancellationToken) -> Option<Client> {
    loop {
        match temporal(config).await {
            Ok(client) => return Some(client),
            Err(fault) => tracing::warn!(error = format!("{fault:#}"), "Temporal is away; trying again"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(TEMPORAL_RETRY) => {}
        }
    }
}
