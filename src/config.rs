//! The only reader of the environment. Everything is read once, and every fault is reported together.
use std::{collections::BTreeMap, fmt, fs, net::SocketAddr, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::policy::{OrderPolicy, Policy, SubscriptionPolicy};
use store::Allowance;
use url::Url;
use zeroize::Zeroizing;

use crate::settings::{SETTINGS, Setting};

mod access;
mod door;
mod observe;
mod privacy;
mod production;

pub(crate) use access::AccessConfig;
pub(crate) use door::{DoorConfig, HstsConfig, RefusedPasswords, TurnstileConfig};
pub(crate) use observe::ObserveConfig;
pub(crate) use privacy::PrivacyConfig;

/// A secret: it has no `Debug`, and its memory is wiped when it is dropped.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    /// The secret itself, for the one place that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

/// Whether mistakes are harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Environment {
    /// A developer's machine or a test.
    Development,
    /// Customers and money.
    Production,
}

impl FromStr for Environment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "development" => Ok(Self::Development),
            "production" => Ok(Self::Production),
            _ => Err("must be development or production"),
        }
    }
}

/// Where and how Temporal is reached.
pub(crate) struct TemporalConfig {
    /// gRPC address.
    pub(crate) address: Url,
    /// Namespace.
    pub(crate) namespace: String,
    /// The task queue that `ez work` serves.
    pub(crate) task_queue: String,
    /// Temporal UI, for links on staff pages.
    pub(crate) ui: Url,
    /// Its own databases, for backups; none when they are not ours to take.
    pub(crate) databases: Vec<Secret>,
}

/// Where and how Stripe is reached.
pub(crate) struct StripeConfig {
    /// Secret API key.
    pub(crate) secret_key: Secret,
    /// Signing secrets of the webhook endpoint; two during a rotation.
    pub(crate) webhook_secrets: Vec<Secret>,
    /// API base address.
    pub(crate) api: Url,
    /// Origins of the Checkout and Billing Portal pages, which forms may lead to.
    pub(crate) page_origins: Vec<String>,
    /// Whether the payment page takes promotion codes.
    pub(crate) promotion_codes: bool,
    /// Whether tax is added on the payment page.
    pub(crate) tax: bool,
}

/// Where and how Proxmox VE is reached.
pub(crate) struct ProxmoxConfig {
    /// API base address.
    pub(crate) url: Url,
    /// `user@realm!name`.
    pub(crate) token_id: String,
    /// The token's secret.
    pub(crate) token_secret: Secret,
    /// Whether its certificate is checked.
    pub(crate) verify_ssl: bool,
    /// A PEM file with the certificate authority to trust besides the public ones.
    pub(crate) ca_file: Option<String>,
}

/// Where and how names are published.
pub(crate) struct DnsConfig {
    /// PowerDNS API address.
    pub(crate) url: Url,
    /// Its API key.
    pub(crate) api_key: Secret,
    /// The zone machines are named in, with a final dot.
    pub(crate) zone: String,
}

/// Where and how letters leave.
pub(crate) struct MailConfig {
    /// `smtp://` or `smtps://`, with credentials if needed.
    pub(crate) smtp: Secret,
    /// Sender.
    pub(crate) from: String,
    /// Where staff read.
    pub(crate) staff: String,
}

/// How often what nobody may have told is gone through.
#[derive(Clone)]
pub(crate) struct RoundsConfig {
    /// Through Stripe's list of events.
    pub(crate) events_secs: u32,
    /// Through everything that lives.
    pub(crate) comparison_secs: u32,
    /// How many living subscriptions one comparison reads.
    pub(crate) comparison_subscriptions: usize,
}

/// Everything the portal is told from outside.
pub(crate) struct Config {
    /// Whether mistakes are harmless.
    pub(crate) environment: Environment,
    /// The address customers see.
    pub(crate) site: Url,
    /// Where `ez serve` listens.
    pub(crate) web_listen: SocketAddr,
    /// What operators see, and where it goes.
    pub(crate) observe: ObserveConfig,
    /// Seals SSH keys and one-time credentials, and signs links in letters.
    pub(crate) secret_key: Secret,
    /// Keys that only open and recognise, while one is being replaced.
    pub(crate) other_keys: Vec<Secret>,
    /// PostgreSQL.
    pub(crate) database_url: Secret,
    /// Connections to it for each process.
    pub(crate) database_pool_size: u32,
    /// Temporal.
    pub(crate) temporal: TemporalConfig,
    /// Stripe.
    pub(crate) stripe: StripeConfig,
    /// Proxmox VE.
    pub(crate) proxmox: ProxmoxConfig,
    /// `PowerDNS`.
    pub(crate) dns: DnsConfig,
    /// SMTP.
    pub(crate) mail: MailConfig,
    /// How patient the business is.
    pub(crate) policy: Policy,
    /// How often missed events and differences are looked for.
    pub(crate) rounds: RoundsConfig,
    /// How much may be taken away from customers within an hour before staff are asked.
    pub(crate) allowance: Allowance,
    /// Who gets in, from where and for how long.
    pub(crate) access: AccessConfig,
    /// What is kept how long.
    pub(crate) privacy: PrivacyConfig,
    /// Names, patience, and what browsers are told.
    pub(crate) door: DoorConfig,
}

/// Everything that is wrong with the environment, one line each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigFaults(pub(crate) Vec<String>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The settings have {} fault(s). docs/configuration.md explains each setting.", self.0.len())?;
        self.0.iter().try_for_each(|fault| writeln!(f, "  - {fault}"))
    }
}

impl std::error::Error for ConfigFaults {}

impl Config {
    /// Reads the process's environment.
    ///
    /// *Errors*: every fault of every setting together.
    pub(crate) fn from_env() -> Result<Self, ConfigFaults> {
        Self::from_values(&std::env::vars().collect())
    }

    /// Reads given values as if they were the environment.
    ///
    /// *Errors*: every fault of every setting together.
    pub(crate) fn from_values(values: &BTreeMap<String, String>) -> Result<Self, ConfigFaults> {
        let mut reader = Reader { values, faults: vec![] };
        let config = reader.config();
        if let Some(config) = &config {
            reader.faults.extend(config.unsafe_settings());
        }
        match config {
            Some(config) if reader.faults.is_empty() => Ok(config),
            _ => Err(ConfigFaults(reader.faults)),
        }
    }
}

struct Reader<'a> {
    values: &'a BTreeMap<String, String>,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn config(&mut self) -> Option<Config> {
        // Every setting is read before any `?`, so that all faults are found in one go.
        let (environment, site) = (self.parsed("EZ_ENVIRONMENT"), self.parsed("SITE_URL"));
        let (web_listen, observe) = (self.parsed("EZ_WEB_LISTEN"), self.observe());
        let (secret_key, database_url) = (self.secret_key(), self.secret("DATABASE_URL"));
        let database_pool_size = self.parsed("EZ_DATABASE_POOL_SIZE");
        let (temporal, stripe) = (self.temporal(), self.stripe());
        let (proxmox, dns, mail, policy) = (self.proxmox(), self.dns(), self.mail(), self.policy());
        let (rounds, allowance, access, door) = (self.rounds(), self.allowance(), self.access(), self.door());
        let other_keys = self.other_keys();
        let privacy = self.privacy();
        Some(Config {
            environment: environment?,
            site: site?,
            web_listen: web_listen?,
            observe,
            secret_key: secret_key?,
            other_keys,
            database_url: database_url?,
            database_pool_size: database_pool_size?,
            temporal: temporal?,
            stripe: stripe?,
            proxmox: proxmox?,
            dns: dns?,
            mail: mail?,
            policy: policy?,
            rounds: rounds?,
            allowance: allowance?,
            access: access?,
            privacy: privacy?,
            door: door?,
        })
    }

    fn temporal(&mut self) -> Option<TemporalConfig> {
        let (address, ui) = (self.parsed("TEMPORAL_ADDRESS"), self.parsed("EZ_TEMPORAL_UI_URL"));
        let (namespace, task_queue) = (self.text("TEMPORAL_NAMESPACE"), self.text("EZ_TEMPORAL_TASK_QUEUE"));
        let given = self.optional::<String>("EZ_TEMPORAL_DATABASE_URL").unwrap_or_default();
        let databases = list(&given).map(|url| Secret(Zeroizing::new(url.to_owned()))).collect();
        Some(TemporalConfig { address: address?, namespace: namespace?, task_queue: task_queue?, ui: ui?, databases })
    }

    fn stripe(&mut self) -> Option<StripeConfig> {
        let (secret_key, api) = (self.secret("STRIPE_SECRET_KEY"), self.parsed("EZ_STRIPE_API_URL"));
        let (secrets, origins) = (self.secret("STRIPE_WEBHOOK_SECRET"), self.text("EZ_STRIPE_PAGE_ORIGINS"));
        let webhook_secrets = list(secrets?.reveal()).map(|s| Secret(Zeroizing::new(s.to_owned()))).collect();
        let page_origins = list(&origins?).map(str::to_owned).collect();
        let (promotion_codes, tax) = (self.parsed("EZ_STRIPE_PROMOTION_CODES"), self.parsed("EZ_STRIPE_TAX"));
        Some(StripeConfig {
            secret_key: secret_key?,
            webhook_secrets,
            api: api?,
            page_origins,
            promotion_codes: promotion_codes?,
            tax: tax?,
        })
    }

    fn proxmox(&mut self) -> Option<ProxmoxConfig> {
        let (url, token_id) = (self.parsed("PROXMOX_URL"), self.text("PROXMOX_TOKEN_ID"));
        let (token_secret, verify_ssl) = (self.secret("PROXMOX_TOKEN_SECRET"), self.parsed("PROXMOX_VERIFY_SSL"));
        let ca_file = self.optional("PROXMOX_CA_FILE");
        if token_id.as_ref().is_some_and(|id| !(id.contains('@') && id.contains('!'))) {
            self.faults.push("PROXMOX_TOKEN_ID: must look like user@realm!name".to_owned());
        }
        Some(ProxmoxConfig {
            url: url?,
            token_id: token_id?,
            token_secret: token_secret?,
            verify_ssl: verify_ssl?,
            ca_file,
        })
    }

    fn dns(&mut self) -> Option<DnsConfig> {
        let (url, api_key, zone) = (self.parsed("EZ_DNS_URL"), self.secret("EZ_DNS_API_KEY"), self.text("EZ_DNS_ZONE"));
        if zone.as_ref().is_some_and(|zone| !zone.ends_with('.')) {
            self.faults.push("EZ_DNS_ZONE: must end with a dot".to_owned());
        }
        Some(DnsConfig { url: url?, api_key: api_key?, zone: zone? })
    }

    fn mail(&mut self) -> Option<MailConfig> {
        let (smtp, from, staff) = (self.secret("EZ_SMTP_URL"), self.text("EZ_MAIL_FROM"), self.text("EZ_STAFF_EMAIL"));
        Some(MailConfig { smtp: smtp?, from: from?, staff: staff? })
    }

    fn rounds(&mut self) -> Option<RoundsConfig> {
        let every = [self.parsed("EZ_POLICY_EVENTS_SECS"), self.parsed("EZ_POLICY_COMPARISON_SECS")];
        if every.contains(&Some(0)) {
            self.faults.push("EZ_POLICY_EVENTS_SECS, EZ_POLICY_COMPARISON_SECS: at least a second".to_owned());
        }
        let comparison_subscriptions = self.parsed("EZ_POLICY_COMPARISON_SUBSCRIPTIONS");
        if comparison_subscriptions == Some(0) {
            self.faults.push("EZ_POLICY_COMPARISON_SUBSCRIPTIONS: at least one".to_owned());
        }
        let [events_secs, comparison_secs] = every;
        Some(RoundsConfig {
            events_secs: events_secs?,
            comparison_secs: comparison_secs?,
            comparison_subscriptions: comparison_subscriptions?,
        })
    }

    fn allowance(&mut self) -> Option<Allowance> {
        let (number, percent) = (self.parsed("EZ_POLICY_BREAKER_NUMBER"), self.parsed("EZ_POLICY_BREAKER_PERCENT"));
        Some(Allowance { number: number?, percent: percent? })
    }

    fn policy(&mut self) -> Option<Policy> {
        let reminders = self.text("EZ_POLICY_REMINDERS_SECS");
        let reminders_secs: Option<Vec<i64>> =
            reminders.and_then(|text| list(&text).map(str::parse).collect::<Result<_, _>>().ok());
        if !reminders_secs.as_ref().is_some_and(|secs| secs.is_sorted()) {
            self.faults.push("EZ_POLICY_REMINDERS_SECS: must be whole numbers of seconds, ascending".to_owned());
        }
        let step_patience_secs = self.parsed("EZ_POLICY_STEP_PATIENCE_SECS");
        let deliver_within_secs = self.parsed("EZ_POLICY_DELIVERY_SECS");
        let order = (self.parsed("EZ_POLICY_PAYMENT_WINDOW_SECS"), self.parsed("EZ_POLICY_CHECKOUT_POLL_SECS"));
        let stop = (self.parsed("EZ_POLICY_SUSPEND_AFTER_SECS"), self.parsed("EZ_POLICY_GRACE_SECS"));
        let keep = (self.parsed("EZ_POLICY_RETENTION_SECS"), self.parsed("EZ_POLICY_RETENTION_WARNING_SECS"));
        let look = (self.parsed("EZ_POLICY_EXPIRY_WARNING_SECS"), self.parsed("EZ_POLICY_SUBSCRIPTION_POLL_SECS"));
        Some(Policy {
            order: OrderPolicy {
                payment_window_secs: order.0?,
                checkout_poll_secs: order.1?,
                step_patience_secs: step_patience_secs?,
                deliver_within_secs: deliver_within_secs?,
            },
            subscription: SubscriptionPolicy {
                reminders_secs: reminders_secs?,
                suspend_after_secs: stop.0?,
                grace_secs: stop.1?,
                retention_secs: keep.0?,
                retention_warning_secs: keep.1?,
                expiry_warning_secs: look.0?,
                poll_secs: look.1?,
                step_patience_secs: step_patience_secs?,
            },
        })
    }

    fn secret_key(&mut self) -> Option<Secret> {
        let key = self.secret("EZ_SECRET_KEY")?;
        if is_key(key.reveal()) {
            return Some(key);
        }
        self.faults.push("EZ_SECRET_KEY: must be base64 of 32 random bytes (openssl rand -base64 32)".to_owned());
        None
    }

    fn other_keys(&mut self) -> Vec<Secret> {
        let given = Zeroizing::new(self.optional::<String>("EZ_SECRET_KEYS_OTHER").unwrap_or_default());
        if !list(&given).all(is_key) {
            self.faults.push("EZ_SECRET_KEYS_OTHER: each must be base64 of 32 random bytes".to_owned());
        }
        list(&given).map(|key| Secret(Zeroizing::new(key.to_owned()))).collect()
    }

    /// The text of a setting, or its default. A missing one is a fault.
    fn text(&mut self, name: &'static str) -> Option<String> {
        let setting = SETTINGS.iter().find(|s| s.name == name)?;
        let text = self.given(setting).or_else(|| setting.default.map(str::to_owned));
        if text.is_none() {
            self.faults.push(format!("{name}: missing ({})", setting.help));
        }
        text
    }

    fn secret(&mut self, name: &'static str) -> Option<Secret> {
        self.text(name).map(|text| Secret(Zeroizing::new(text)))
    }

    fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str) -> Option<T> {
        let text = self.text(name)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(fault) => {
                self.faults.push(format!("{name}: {fault}"));
                None
            }
        }
    }

    fn optional<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str) -> Option<T> {
        let setting = SETTINGS.iter().find(|s| s.name == name)?;
        self.given(setting)?;
        self.parsed(name)
    }

    /// What stands in the environment: the value itself, or for a secret the content of the file that `NAME_FILE` names.
    fn given(&mut self, setting: &Setting) -> Option<String> {
        if let Some(value) = self.values.get(setting.name).filter(|value| !value.is_empty()) {
            return Some(value.clone());
        }
        let path = setting.secret.then(|| self.values.get(&format!("{}_FILE", setting.name))).flatten()?;
        match fs::read_to_string(path) {
            Ok(content) => Some(content.trim_end().to_owned()),
            Err(fault) => {
                self.faults.push(format!("{}_FILE: {path} cannot be read: {fault}", setting.name));
                None
            }
        }
    }
}

fn is_key(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests;
