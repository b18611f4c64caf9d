//! `ez`: the portal a hosting business runs on.
//!
//! `ez serve` answers customers, `ez work` does the work; any number of each run side by side on one database and one
//! Temporal.
use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use config::Config;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

mod config;
mod doctor;
mod inbox;
mod seed;
mod settings;
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
    Doctor,
    /// Manage users.
    #[command(subcommand)]
    User(UserCommand),
    /// Print docs/configuration.md.
    Configuration,
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
        /// Whether they see staff pages.
        #[arg(long, required = true)]
        staff: bool,
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
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(faults) => bail!("{faults}"),
    };
    match command {
        Command::Serve => serve(&config).await?,
        Command::Work => work(&config).await?,
        Command::Migrate => wiring::store(&config)?.migrate().await?,
        Command::Seed { catalogue } => {
            seed::run(&catalogue, &wiring::store(&config)?, &wiring::stripe(&config)?).await?;
        }
        Command::Doctor => return Ok(doctor::run(&config).await),
        Command::User(UserCommand::Create { email, name, staff: _ }) => create_staff(&config, email, name).await?,
        Command::Configuration => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    let stop = prepare(config)?;
    let portal = Arc::new(wiring::portal(config)?);
    let listener = tokio::net::TcpListener::bind(config.web_listen)
        .await
        .with_context(|| format!("listening on {}", config.web_listen))?;
    tracing::info!(address = %config.web_listen, site = %config.site, "serving");
    let routes = web::routes(portal).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

async fn work(config: &Config) -> anyhow::Result<()> {
    let stop = prepare(config)?;
    let Some(temporal) = wiring::patient_temporal(&config.temporal, &stop).await else {
        return Ok(());
    };
    let task_queue = config.temporal.task_queue.clone();
    let inbox = inbox::Inbox { store: wiring::store(config)?, temporal: temporal.clone(), task_queue };
    let hands = wiring::hands(config)?;
    let work = async {
        let worked = worker::run(temporal, &config.temporal.task_queue, hands, stop.clone()).await;
        stop.cancel();
        worked
    };
    let ((), worked) = tokio::join!(inbox.run(stop.clone()), work);
    worked
}

async fn create_staff(config: &Config, email: String, name: String) -> anyhow::Result<()> {
    let mut password = String::new();
    io::stdin().read_to_string(&mut password)?;
    let password_hash = web::password::hash(password.trim_end().to_owned()).await?;
    wiring::store(config)?.create_staff(store::NewUser { name, email, password_hash }).await?;
    Ok(())
}

/// Starts logs and metrics, and gives what is cancelled when the process is told to stop.
fn prepare(config: &Config) -> anyhow::Result<CancellationToken> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,temporalio=warn"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(io::stderr).init();
    if let Some(address) = config.metrics_listen {
        PrometheusBuilder::new().with_http_listener(address).install().context("serving metrics")?;
    }
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
