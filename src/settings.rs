//! Every setting, with its default and what it is for. `docs/configuration.md` is printed from this table.
use std::fmt::Write;

/// One setting.
pub(crate) struct Setting {
    /// Name in the environment.
    pub(crate) name: &'static str,
    /// What holds when it is not given; nothing means it must be given, unless it is optional.
    pub(crate) default: Option<&'static str>,
    /// Whether it may also be given as `NAME_FILE`, and is never shown.
    pub(crate) secret: bool,
    /// Whether leaving it out is fine although it has no default.
    pub(crate) optional: bool,
    /// What it is for, in one sentence.
    pub(crate) help: &'static str,
}

const fn plain(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, default: Some(default), secret: false, optional: false, help }
}

const fn needed(name: &'static str, help: &'static str) -> Setting {
    Setting { name, default: None, secret: false, optional: false, help }
}

const fn secret(name: &'static str, help: &'static str) -> Setting {
    Setting { name, default: None, secret: true, optional: false, help }
}

const fn optional(name: &'static str, help: &'static str) -> Setting {
    Setting { name, default: None, secret: false, optional: true, help }
}

/// Every setting the portal knows.
pub(crate) const SETTINGS: &[Setting] = &[
    plain(
        "EZ_ENVIRONMENT",
        "development",
        "`development` or `production`; production refuses to start with unsafe settings",
    ),
    needed("SITE_URL", "the address customers see, such as https://portal.example.com"),
    plain("EZ_WEB_LISTEN", "127.0.0.1:8000", "where `ez serve` listens"),
    optional("EZ_METRICS_LISTEN", "where Prometheus metrics are served at /metrics; off when not given"),
    optional(
        "EZ_TEMPORAL_METRICS_LISTEN",
        "where `ez work` serves the Temporal SDK's own metrics at /metrics; off when not given",
    ),
    optional(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "where traces go by OTLP over HTTP, such as http://127.0.0.1:4318; off when not given",
    ),
    Setting {
        name: "SENTRY_DSN",
        default: None,
        secret: true,
        optional: true,
        help: "where errors go by Sentry's protocol; off when not given",
    },
    secret(
        "EZ_SECRET_KEY",
        "base64 of 32 random bytes; seals SSH keys and one-time passwords, and signs links in letters",
    ),
    Setting {
        name: "EZ_SECRET_KEYS_OTHER",
        default: None,
        secret: true,
        optional: true,
        help: "further keys, separated by commas, that open and recognise what was made with them but make nothing new: the next \
               one before it becomes EZ_SECRET_KEY, the former one until `ez keys rotate` is through",
    },
    secret("DATABASE_URL", "PostgreSQL, such as postgres://ez@localhost/ez"),
    plain("EZ_DATABASE_POOL_SIZE", "10", "connections to PostgreSQL for each process"),
    plain("TEMPORAL_ADDRESS", "http://127.0.0.1:7233", "Temporal's gRPC address"),
    Setting {
        name: "EZ_TEMPORAL_DATABASE_URL",
        default: None,
        secret: true,
        optional: true,
        help: "Temporal's own databases for `ez backup`, separated by commas: postgres://… or sqlite:///file; off when not given",
    },
    plain("TEMPORAL_NAMESPACE", "default", "Temporal namespace"),
    plain("EZ_TEMPORAL_TASK_QUEUE", "ez", "the task queue that `ez work` serves"),
    plain("EZ_TEMPORAL_UI_URL", "http://127.0.0.1:8233", "Temporal UI, for links on staff pages"),
    secret("STRIPE_SECRET_KEY", "Stripe's secret API key (sk_…)"),
    secret(
        "STRIPE_WEBHOOK_SECRET",
        "signing secret of the webhook endpoint (whsec_…); two, separated by a comma, during a rotation",
    ),
    plain("EZ_STRIPE_API_URL", "https://api.stripe.com", "Stripe's API address"),
    plain(
        "EZ_STRIPE_PAGE_ORIGINS",
        "https://checkout.stripe.com,https://billing.stripe.com",
        "origins of Stripe's own pages, which our forms may lead to",
    ),
    plain("EZ_STRIPE_PROMOTION_CODES", "false", "whether Stripe's payment page takes promotion codes"),
    plain(
        "EZ_STRIPE_TAX",
        "false",
        "whether Stripe Tax adds the tax on the payment page, which then asks for the billing address and the tax id; \
         Stripe's tax settings need a registration and whether prices include tax",
    ),
    needed("PROXMOX_URL", "address of the Proxmox VE API, such as https://pve.example.com:8006"),
    needed("PROXMOX_TOKEN_ID", "API token, user@realm!name"),
    secret("PROXMOX_TOKEN_SECRET", "the API token's secret"),
    plain("PROXMOX_VERIFY_SSL", "true", "whether the certificate of Proxmox VE is checked"),
    optional("PROXMOX_CA_FILE", "PEM file with the certificate authority of Proxmox VE"),
    needed("EZ_DNS_URL", "address of the PowerDNS HTTP API, such as http://127.0.0.1:8081"),
    secret("EZ_DNS_API_KEY", "key of the PowerDNS HTTP API"),
    needed("EZ_DNS_ZONE", "the zone machines are named in, with a final dot"),
    Setting {
        name: "EZ_SMTP_URL",
        default: Some("smtp://127.0.0.1:1025"),
        secret: true,
        optional: false,
        help: "the mail server; smtps:// or ?tls=required for encryption, with user and password if needed",
    },
    needed("EZ_MAIL_FROM", "sender of letters, such as Example Hosting <no-reply@example.com>"),
    needed("EZ_STAFF_EMAIL", "where staff are written to about steps that wait for them"),
    optional(
        "EZ_LEGAL_FOLDER",
        "folder with privacy.md and terms.md, which take the place of the texts that come along; read at the start",
    ),
    optional(
        "EZ_TRUSTED_PROXIES",
        "addresses or networks of the proxies before `ez serve`, separated by commas, whose X-Forwarded-For is believed; \
         production needs it",
    ),
    optional(
        "EZ_STAFF_NETWORKS",
        "addresses or networks from which the staff pages are there, separated by commas; from everywhere when not given",
    ),
    plain("EZ_LIMIT_NETWORK", "30", "how often one network may send one form within an hour before it has to wait"),
    plain(
        "EZ_LIMIT_ADDRESS",
        "5",
        "how often something may be tried for one address before it has to wait, each time longer",
    ),
    plain(
        "EZ_LIMIT_LOCK",
        "12",
        "with how many tries in a row the log-in of an address, or its second step, is locked, and a letter opens it",
    ),
    plain("EZ_LIMIT_LOCK_SECS", "3600", "how long such a lock lasts without the letter"),
    plain(
        "EZ_SESSION_LONGEST_SECS",
        "1209600",
        "how long somebody who wants to be remembered stays logged in, counted from the log-in",
    ),
    plain("EZ_SESSION_BRIEF_SECS", "43200", "the same for everybody else; closing the browser ends it earlier"),
    plain("EZ_SESSION_IDLE_SECS", "259200", "how long somebody stays logged in without doing anything"),
    plain("EZ_SESSION_STAFF_IDLE_SECS", "3600", "the same for staff"),
    plain(
        "EZ_STAFF_SECOND_FACTOR",
        "true",
        "whether staff pages are shown only to whoever logged in with a second factor",
    ),
    plain(
        "EZ_STEP_UP_SECS",
        "600",
        "for how long it counts to have said who one is, before what cannot be taken back is asked for",
    ),
    plain(
        "EZ_FACTOR_RESET_SECS",
        "86400",
        "how long the owner may object before a second factor that staff were told is lost is taken away",
    ),
    optional(
        "EZ_WEB_HOSTS",
        "further names `ez serve` answers to besides that of SITE_URL, separated by commas; one without a port stands for every port",
    ),
    plain(
        "EZ_WEB_PATIENCE_SECS",
        "30",
        "how long a client may take for the head of a request, as long again for its body, and to take what is sent; longer than \
         the proxy keeps unused connections open",
    ),
    plain("EZ_WEB_CONNECTIONS", "4096", "how many connections `ez serve` keeps at once; further ones wait"),
    plain(
        "EZ_CSP_REPORT_ONLY",
        "false",
        "whether what the content policy forbids is only reported, to try a change of it",
    ),
    plain(
        "EZ_HSTS_SECS",
        "31536000",
        "for how long browsers are told to come back by HTTPS alone; begin with 300 and go up to a year",
    ),
    plain("EZ_HSTS_SUBDOMAINS", "true", "whether that holds for every name beneath the site's, too"),
    plain(
        "EZ_HSTS_PRELOAD",
        "false",
        "whether browsers may carry the name in their list of such names; not soon undone",
    ),
    optional("EZ_TURNSTILE_SITE_KEY", "Cloudflare Turnstile on the sign-up page: its public key; off when not given"),
    Setting { name: "EZ_TURNSTILE_SECRET", default: None, secret: true, optional: true, help: "its secret key" },
    plain("EZ_TURNSTILE_URL", "https://challenges.cloudflare.com", "where its script and its check are"),
    plain(
        "EZ_REFUSED_DOMAINS",
        "disposable",
        "whose e-mail addresses are not taken, separated by commas: `disposable` for a list of providers of addresses for once, \
         domains, absolute paths of files with a domain on each line, or `off`",
    ),
    optional(
        "EZ_REFUSED_PASSWORDS",
        "absolute paths of files with a password on each line that nobody may choose, separated by commas: lists of those \
         that were stolen elsewhere, each of 64 MiB at most",
    ),
    plain("EZ_POLICY_PAYMENT_WINDOW_SECS", "1800", "how long an order waits for its payment"),
    plain("EZ_POLICY_CHECKOUT_POLL_SECS", "30", "how often a waiting order asks Stripe by itself"),
    plain("EZ_POLICY_STEP_PATIENCE_SECS", "900", "how long a step is tried before it waits for staff"),
    plain(
        "EZ_POLICY_DELIVERY_SECS",
        "86400",
        "how long after its payment an order has to be delivered; else it is undone and paid back; 0 means that it may take \
         as long as it takes",
    ),
    plain(
        "EZ_POLICY_REMINDERS_SECS",
        "86400,259200,518400",
        "when a missing payment is reminded, counted from when it was first seen",
    ),
    plain(
        "EZ_POLICY_SUSPEND_AFTER_SECS",
        "604800",
        "when a machine with a missing payment is stopped, counted likewise",
    ),
    plain("EZ_POLICY_GRACE_SECS", "1209600", "how long a suspended machine waits for its payment"),
    plain(
        "EZ_POLICY_RETENTION_SECS",
        "1209600",
        "how long a stopped machine is kept after the end of its subscription",
    ),
    plain("EZ_POLICY_RETENTION_WARNING_SECS", "259200", "how long before it is destroyed the customer is warned"),
    plain(
        "EZ_POLICY_EXPIRY_WARNING_SECS",
        "259200",
        "how long before a period that will not renew, or a trial, ends the customer is told",
    ),
    plain(
        "EZ_POLICY_SUBSCRIPTION_POLL_SECS",
        "86400",
        "how often a subscription is read at Stripe although nothing was heard",
    ),
    plain("EZ_POLICY_EXPORT_SECS", "604800", "how long a copy of their data can be fetched by whoever asked for it"),
    plain(
        "EZ_POLICY_ERASURE_SECS",
        "1209600",
        "for how long somebody who wants everything about them erased can take it back; the account is closed meanwhile",
    ),
    plain(
        "EZ_POLICY_BOOKS_YEARS",
        "10",
        "how many years after the end of a year its invoices and payments are kept, whoever is erased; what your law says",
    ),
    plain(
        "EZ_POLICY_BREAKER_NUMBER",
        "20",
        "how many subscriptions may be suspended or ended within an hour before staff are asked",
    ),
    plain("EZ_POLICY_BREAKER_PERCENT", "5", "how many of a hundred living subscriptions may be, where that is more"),
    plain(
        "EZ_POLICY_EVENTS_SECS",
        "300",
        "how often Stripe's list of events is gone through for those that no webhook told",
    ),
    plain(
        "EZ_POLICY_COMPARISON_SECS",
        "21600",
        "how often every living subscription, unpaid invoice and open order is compared with Stripe",
    ),
    plain(
        "EZ_POLICY_COMPARISON_SUBSCRIPTIONS",
        "20000",
        "how many living subscriptions one comparison reads at Stripe; the next goes on after them",
    ),
];

/// The page docs/configuration.md.
pub(crate) fn page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Printed by `ez configuration`; a test compares. Everything is read from the environment once, at the start, and\n\
         every fault is reported together. `ez doctor` checks every setting and every connection.\n\n\
         A secret may also stand in a file: `NAME_FILE` holds its path.\n\n\
         | setting | default | what it is for |\n|---|---|---|\n",
    );
    for setting in SETTINGS {
        let default = match (setting.default, setting.optional) {
            (Some(default), _) => format!("`{default}`"),
            (None, true) => "off".to_owned(),
            (None, false) => "must be given".to_owned(),
        };
        let secret = if setting.secret { " (secret)" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{}` | {default} | {}{secret} |", setting.name, setting.help);
    }
    page
}
