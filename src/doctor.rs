//! `ez doctor`: every setting and every connection, one line each, and for each fault what to do about it.
use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use activities::machine::proxmox::Needs;
use anyhow::bail;
use store::Store;

use crate::{
    config::{Config, Environment},
    keys,
    strays::{self, Strays},
    wiring,
};

mod clock;
mod proxies;
mod temporal;

/// No check may take longer.
const CHECK_LIMIT: Duration = Duration::from_secs(20);

/// What is checked, in order, and what to do where it is not well.
const DATABASE: Topic = ("database", "start PostgreSQL, compare DATABASE_URL, then run `ez migrate`");
const TEMPORAL: Topic = ("temporal", "start Temporal and compare TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE");
const STRIPE: Topic = ("stripe", "compare STRIPE_SECRET_KEY with the key in Stripe's dashboard, Developers, API keys");
const BILLING: Topic = (
    "billing",
    "switch it in Stripe's dashboard, Settings, Billing, Customer portal, and save, in test and live mode each for itself; a \
     restricted key is changed under Developers, API keys",
);
const WEBHOOKS: Topic = (
    "webhooks",
    "copy the signing secret of the endpoint <SITE_URL>/webhooks/stripe/ from Stripe's dashboard into STRIPE_WEBHOOK_SECRET \
     and restart `ez serve`",
);
const PROXMOX: Topic = (
    "proxmox",
    "compare PROXMOX_URL, PROXMOX_TOKEN_ID and PROXMOX_TOKEN_SECRET; give the token its rights under Datacenter, Permissions; \
     make missing templates; free or add storage",
);
const MACHINES: Topic = (
    "machines",
    "see that nobody uses it, then destroy it on its node: `qm destroy <number> --purge`; docs/RUNBOOK.md, EzMachineStray",
);
const DNS: Topic = (
    "dns",
    "start PowerDNS with its API on, compare EZ_DNS_URL and EZ_DNS_API_KEY, and create missing zones with `pdnsutil create-zone`",
);
const MAIL: Topic = ("mail", "start the mail server, compare EZ_SMTP_URL, and let this machine relay through it");
const PROXIES: Topic = (
    "proxies",
    "name every proxy before `ez serve` in EZ_TRUSTED_PROXIES, and let the outermost one send X-Forwarded-For with the address \
     it was asked from",
);
const KEYS: Topic = (
    "keys",
    "give the key that sealed them to EZ_SECRET_KEYS_OTHER, restart `ez serve` and `ez work`, then run `ez keys rotate`",
);
const STAFF: Topic = ("staff", "let each of them log in and add an app or a passkey under Account");
const LEGAL: Topic = (
    "legal",
    "put your own privacy.md and terms.md into a folder that EZ_LEGAL_FOLDER names, in Markdown without HTML, and restart `ez serve`",
);
const CLOCK: Topic =
    ("clock", "let this machine keep its time by NTP (`timedatectl set-ntp true`), or the other one its own");

const PRODUCTION: Topic = ("production", "change the setting it names; docs/configuration.md says what each is for");

/// A connection, and what to do where it is not well.
type Topic = (&'static str, &'static str);

/// Checks everything and says so on standard output; for `production` also whether the settings are fit for customers and money.
/// The exit code is 1 on any fault.
pub(crate) async fn run(config: &Config, production: bool) -> ExitCode {
    let mut report = Report { sound: true };
    well("settings", &"complete");
    if production {
        report.fitness(config);
    }
    report.line(DATABASE, limited(database(config)).await);
    report.line(TEMPORAL, limited(temporal::check(config)).await);
    let stripe = limited(stripe(config)).await;
    let answers = stripe.is_ok();
    report.line(STRIPE, stripe);
    if answers {
        report.line(BILLING, limited(billing(config)).await);
    }
    report.line(WEBHOOKS, limited(webhooks(config)).await);
    match limited(proxmox(config)).await {
        Ok(found) => {
            for line in &found {
                well(PROXMOX.0, line);
            }
            report.machines(limited(strays(config)).await);
        }
        Err(fault) => report.line(PROXMOX, Err::<String, _>(fault)),
    }
    report.line(DNS, limited(dns(config)).await);
    report.line(MAIL, limited(mail(config)).await);
    report.line(PROXIES, limited(proxies::check(config)).await);
    report.line(KEYS, limited(sealed(config)).await);
    report.line(STAFF, limited(staff(config)).await);
    report.line(LEGAL, legal(config).map_err(|fault| format!("{fault:#}")));
    report.line(CLOCK, limited(clock::check(config)).await);
    if report.sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Report {
    sound: bool,
}

impl Report {
    fn line(&mut self, (topic, advice): Topic, result: Result<impl Display, impl Display>) {
        match result {
            Ok(words) => well(topic, &words),
            Err(words) => {
                self.sound = false;
                let _ = writeln!(io::stdout(), "FAULT {topic:<9} {words}\n                what to do: {advice}");
            }
        }
    }

    /// Machines that nobody wants any more. Whoever could not look must not be told to destroy any.
    fn machines(&mut self, looked: Result<Strays, String>) {
        match looked {
            Ok(strays) if strays.left.is_empty() => well(MACHINES.0, &strays),
            Ok(strays) => self.line(MACHINES, Err::<String, _>(strays)),
            Err(fault) => {
                self.line(PROXMOX, Err::<String, _>(format!("machines could not be looked through: {fault}")));
            }
        }
    }

    fn fitness(&mut self, config: &Config) {
        let faults = [config.unsafe_with_customers(), config.unsafe_to_stay_with()].concat();
        if faults.is_empty() {
            well(PRODUCTION.0, &"nothing is unsafe");
        }
        for fault in faults {
            self.line(PRODUCTION, Err::<String, _>(fault));
        }
    }
}

fn well(topic: &str, words: &impl Display) {
    let _ = writeln!(io::stdout(), "ok    {topic:<9} {words}");
}

async fn limited<T>(check: impl Future<Output = anyhow::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(CHECK_LIMIT, check).await {
        Ok(result) => result.map_err(|fault| format!("{fault:#}")),
        Err(_) => Err(format!("no answer in {} s; is it running and reachable from here?", CHECK_LIMIT.as_secs())),
    }
}

async fn database(config: &Config) -> anyhow::Result<String> {
    let store = wiring::store(config)?;
    store.ping().await?;
    if !store.is_migrated().await? {
        bail!("its tables are older than this program");
    }
    let plans = store.plans().await?;
    Ok(format!("answers; {} plan(s) on sale", plans.len()))
}

async fn sealed(config: &Config) -> anyhow::Result<String> {
    let standing = keys::standing(&wiring::store(config)?, &wiring::keys(config)?).await?;
    if standing.lost > 0 {
        bail!("{} of {} sealed value(s) open with none of our keys", standing.lost, standing.all);
    }
    let former = match standing.former {
        0 => String::new(),
        number => format!("; {number} with a former key: run `ez keys rotate`"),
    };
    Ok(format!("{} sealed value(s) open{former}", standing.all))
}

async fn staff(config: &Config) -> anyhow::Result<String> {
    let (all, with_factor) = wiring::store(config)?.staff_factors().await?;
    let asked = if config.access.factors.staff { "needed for staff pages" } else { "not asked for" };
    let site = if config.site.domain().is_some() { "" } else { "; no passkeys, because SITE_URL is a number" };
    Ok(format!("{with_factor} of {all} have a second factor, which is {asked}{site}"))
}

async fn stripe(config: &Config) -> anyhow::Result<String> {
    wiring::stripe(config)?.check().await.map_err(|fault| anyhow::anyhow!(fault.words()))
}

/// The settings of the pages at Stripe that ours lead to.
async fn billing(config: &Config) -> anyhow::Result<String> {
    wiring::stripe(config)?.check_portal().await.map_err(|fault| anyhow::anyhow!(fault.words()))
}

/// Nobody can ask Stripe whether our secret is the endpoint's; but we know which webhooks fitted.
async fn webhooks(config: &Config) -> anyhow::Result<String> {
    let health = wiring::store(config)?.webhook_health().await?;
    match (health.verified_at, health.refused_at) {
        (None, None) => Ok("none has come yet; send a test event from Stripe's dashboard".to_owned()),
        (None, Some(refused)) => bail!("webhooks come, the last at {refused}, but no signature has ever fitted"),
        (Some(verified), Some(refused)) if refused > verified => {
            bail!("no signature has fitted since {verified}, and at {refused} one did not")
        }
        (Some(verified), _) => Ok(format!("the last signature that fitted came at {verified}")),
    }
}

async fn proxmox(config: &Config) -> anyhow::Result<Vec<String>> {
    let needs = needs(&wiring::store(config)?).await?;
    Ok(wiring::proxmox(config)?.check(&needs).await?)
}

async fn needs(store: &Store) -> anyhow::Result<Needs> {
    let disk_gib = store.plans().await?.iter().map(|plan| plan.size.disk_gib).max().unwrap_or_default();
    Ok(Needs { templates: store.templates().await?, storages: store.storages().await?, disk_gib })
}

async fn strays(config: &Config) -> anyhow::Result<Strays> {
    strays::find(&wiring::store(config)?, &wiring::proxmox(config)?).await
}

async fn dns(config: &Config) -> anyhow::Result<String> {
    Ok(wiring::powerdns(config)?.check().await?)
}

/// The texts that come along name nobody, so they are not enough for customers.
fn legal(config: &Config) -> anyhow::Result<String> {
    let legal = wiring::legal(config)?;
    let named = [("privacy.md", &legal.privacy), ("terms.md", &legal.terms)];
    let missing: Vec<&str> = named.iter().filter(|(_, page)| page.is_default).map(|(name, _)| *name).collect();
    if !missing.is_empty() && config.environment == Environment::Production {
        bail!("customers read a text that names nobody in place of {}", missing.join(" and "));
    }
    Ok(if missing.is_empty() {
        "both pages are this installation's own".to_owned()
    } else {
        "the texts that come along".to_owned()
    })
}

async fn mail(config: &Config) -> anyhow::Result<String> {
    Ok(wiring::smtp(config)?.check().await?)
}
