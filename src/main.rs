//! `ez`: the portal a hosting business runs on.
//!
//! `ez serve` answers customers, `ez work` does the work; any number of each run side by side on one database and one
//! Temporal.
use std::{
    io::{self, Read, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};
use config::Config;
use telemetry::Telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

mod attributes;
mod audit;
mod backup;
mod config;
mod doctor;
mod gauges;
mod inbox;
mod keys;
mod legal;
mod mirror;
mod network;
mod privacy;
mod prune;
mod reconcile;
mod rounds;
mod seed;
mod serve;
mod settings;
mod strays;
mod telemetry;
mod web;
mod wiring;
mod worker;

#[derive(Parser)]
#[command(version, about = "The portal a hosting business runs on")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer customers: pages and webhooks.
    Serve,
    /// Do the work: workflows, activities and the Stripe inbox.
    Work,
    /// Bring the tables up to date.
    Migrate,
    /// Put a catalogue (a JSON file) on sale.
    Seed {
        /// The catalogue.
        catalogue: PathBuf,
    },
    /// Check every setting and every connection; exit 1 on any fault.
    Doctor {
        /// Also name what would be unsafe with customers and money.
        #[arg(long)]
        production: bool,
    },
    /// Take the portal's database and Temporal's into a new folder.
    Backup {
        /// The folder; it must not be there yet.
        folder: PathBuf,
    },
    /// Put back what a backup holds; nothing of ours and no Temporal may be running.
    Restore {
        /// The backup's folder.
        folder: PathBuf,
        /// Whether what is in the databases now may be lost.
        #[arg(long)]
        overwrite: bool,
    },
    /// Let everything that was acknowledged go on, after a restore too. May be run any number of times.
    Reconcile {
        /// How far back to look: longer than the older of the two databases.
        #[arg(long, default_value_t = 48)]
        hours: u64,
        /// Whether a database was restored: orders whose workflow runs begin again, too.
        #[arg(long)]
        restored: bool,
    },
    /// Look after the mirror of Stripe.
    #[command(subcommand)]
    Mirror(MirrorCommand),
    /// Look after the portal's keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Look after the trail of who did what.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Manage users.
    #[command(subcommand)]
    User(UserCommand),
    /// Print docs/configuration.md.
    Configuration,
    /// Print docs/PERMISSIONS.md: every route, and who may ask.
    Permissions,
}

#[derive(Subcommand)]
enum MirrorCommand {
    /// Read everything at Stripe again that stands in the tables of the mirror. May be run any number of times, also while
    /// everything runs.
    Rebuild {
        /// Empty those tables first: events older than Stripe's 30 days do not come back.
        #[arg(long)]
        empty: bool,
    },
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Seal everything anew with `EZ_SECRET_KEY` that another key had sealed. May be run any number of times, also while everything
    /// runs.
    Rotate,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Go through the whole chain and say from where to where it is right, or what the first place is that is not; exit 1
    /// then. May be run while everything runs.
    Verify {
        /// A place in the chain that this command or the log told earlier: it has to be in it still.
        #[arg(long)]
        head: Option<String>,
    },
}

#[derive(Subcommand)]
enum UserCommand {
    /// Create a user, or change the password of one that exists. The password is read from standard input.
    Create {
        /// Their address.
        #[arg(long)]
        email: String,
        /// Their name.
        #[arg(long, default_value = "Staff")]
        name: String,
        /// Whether they see staff pages, as an admin.
        #[arg(long, required = true)]
        staff: bool,
    },
    /// Take a user's app, passkeys and recovery codes away at once, and end their sessions. Staff pages do it with a waiting.
    Factors {
        /// Their address.
        #[arg(long)]
        email: String,
    },
    /// Give a user another password, and end their sessions. The password is read from standard input.
    Password {
        /// Their address.
        #[arg(long)]
        email: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(arguments.command).await {
        Ok(code) => code,
        Err(fault) => {
            let _ = writeln!(io::stderr(), "ez: {fault:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    if matches!(command, Command::Configuration) {
        io::stdout().write_all(settings::page().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if matches!(command, Command::Permissions) {
        io::stdout().write_all(web::permit::printed(&web::every_route()).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(faults) => bail!("{faults}"),
    };
    match command {
        Command::Serve => Box::pin(serve(&config)).await?,
        Command::Work => Box::pin(work(&config)).await?,
        Command::Migrate => wiring::store(&config)?.migrate().await?,
        Command::Seed { catalogue } => {
            seed::run(&catalogue, &wiring::store(&config)?, &wiring::stripe(&config)?).await?;
        }
        Command::Doctor { production } => return Ok(Box::pin(doctor::run(&config, production)).await),
        Command::Backup { folder } => Box::pin(backup::take(&config, &folder)).await?,
        Command::Restore { folder, overwrite } => Box::pin(backup::restore(&config, &folder, overwrite)).await?,
        Command::Reconcile { hours, restored } => Box::pin(reconcile::run(&config, hours, restored)).await?,
        Command::Audit(AuditCommand::Verify { head }) => {
            return Box::pin(audit::verify(&config, head.as_deref())).await;
        }
        Command::Mirror(MirrorCommand::Rebuild { empty }) => Box::pin(mirror::rebuild(&config, empty)).await?,
        Command::Keys(KeysCommand::Rotate) => Box::pin(keys::rotate(&config)).await?,
        Command::User(UserCommand::Create { email, name, staff: _ }) => create_staff(&config, email, name).await?,
        Command::User(UserCommand::Factors { email }) => take_factors(&config, &email).await?,
        Command::User(UserCommand::Password { email }) => set_password(&config, &email).await?,
        Command::Configuration | Command::Permissions => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    let telemetry = Telemetry::start(config, "serve")?;
    let stop = told_to_stop()?;
    let portal = Arc::new(wiring::portal(config)?);
    tokio::spawn(gauges::watch_pool(portal.store.clone(), stop.clone()));
    let listener = tokio::net::TcpListener::bind(config.web_listen)
        .await
        .with_context(|| format!("listening on {}", config.web_listen))?;
    tracing::info!(address = %config.web_listen, site = %config.site, "serving");
    Box::pin(serve::answer(listener, &web::routes(portal), serve::Patience::of(&config.door), &stop)).await;
    telemetry.end().await;
    Ok(())
}

async fn work(config: &Config) -> anyhow::Result<()> {
    let telemetry = Telemetry::start(config, "work")?;
    let stop = told_to_stop()?;
    let Some(temporal) = wiring::patient_temporal(&config.temporal, &stop).await else {
        return Ok(());
    };
    let task_queue = config.temporal.task_queue.clone();
    let store = wiring::store(config)?;
    let watch = gauges::Watch {
        store: store.clone(),
        temporal: temporal.clone(),
        namespace: config.temporal.namespace.clone(),
        task_queue: task_queue.clone(),
    };
    tokio::spawn(rounds::keep(
        store.clone(),
        temporal.clone(),
        task_queue.clone(),
        config.rounds.clone(),
        stop.clone(),
    ));
    tokio::spawn(prune::keep(store.clone(), stop.clone()));
    tokio::spawn(audit::keep(store.clone(), stop.clone()));
    tokio::spawn(strays::keep(store.clone(), wiring::proxmox(config)?, stop.clone()));
    let wishes = privacy::Wishes {
        store: store.clone(),
        temporal: temporal.clone(),
        task_queue: task_queue.clone(),
        patience_secs: config.policy.order.step_patience_secs,
        poll_secs: config.policy.subscription.poll_secs,
    };
    let looks = mirror::Looks { mirror: wiring::mirror(config, store.clone())? };
    let inbox = inbox::Inbox { store, temporal: temporal.clone(), task_queue };
    let hands = wiring::hands(config)?;
    let work = async {
        let metrics = config.observe.temporal_metrics_listen;
        let worked = worker::run(temporal, &config.temporal, hands, metrics, stop.clone()).await;
        stop.cancel();
        worked
    };
    let ((), (), (), (), worked) = tokio::join!(
        inbox.run(stop.clone()),
        looks.run(stop.clone()),
        Box::pin(wishes.run(stop.clone())),
        Box::pin(watch.run(stop.clone())),
        work
    );
    telemetry.end().await;
    worked
}

async fn create_staff(config: &Config, email: String, name: String) -> anyhow::Result<()> {
    let password_hash = hash_of_given_password(config, &email, &name).await?;
    wiring::store(config)?.create_staff(store::NewUser { name, email, password_hash }).await?;
    Ok(())
}

async fn set_password(config: &Config, email: &str) -> anyhow::Result<()> {
    let password_hash = hash_of_given_password(config, email, "").await?;
    ensure!(wiring::store(config)?.set_password(email, &password_hash).await?, "nobody has the address {email}");
    Ok(())
}

async fn take_factors(config: &Config, email: &str) -> anyhow::Result<()> {
    ensure!(wiring::store(config)?.take_factors(email).await?, "nobody has the address {email}");
    Ok(())
}

/// The hash of the password on standard input. It is weighed as on every page: an empty one would let in whoever comes.
async fn hash_of_given_password(config: &Config, email: &str, name: &str) -> anyhow::Result<String> {
    let mut given = String::new();
    io::stdin().read_to_string(&mut given)?;
    let password = given.trim_end();
    if let Some(fault) =
        web::password::fault(web::password::Asker::Known, &config.door.refused_passwords, password, (email, name))
            .await?
    {
        bail!("the password on standard input: {fault}");
    }
    Ok(web::password::hash(web::password::Asker::Known, password).await?)
}

/// What is cancelled when the process is told to stop.
fn told_to_stop() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}
