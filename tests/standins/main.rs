//! Stand-ins for the vendors, spoken to over their own wire protocols.
//!
//! Each one keeps its state in memory (mail keeps a spool), listens where it is told and has a control API under
//! `/_control`: see [`faults`] for what all of them share, and each module for what it adds.
//! `SIGTERM` and Ctrl-C end a stand-in with exit code 0.

#![recursion_limit = "256"] // Stripe's objects are long literals.

mod faults;
mod gate;
mod mail;
mod proxmox;
mod stripe;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(name = "standins", about = "Vendors to test against, at the wire")]
struct Cli {
    #[command(subcommand)]
    vendor: Vendor,
}

#[derive(Subcommand)]
enum Vendor {
    /// A Proxmox VE cluster over HTTPS.
    Proxmox(Box<proxmox::ProxmoxArgs>),
    /// An SMTP server that catches every message, with a page to read them.
    Mail(mail::MailArgs),
    /// A gate before a real server, with faults.
    Gate(gate::GateArgs),
    /// Stripe, with pages to pay on and signed webhooks.
    Stripe(Box<stripe::StripeArgs>),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let vendor = Cli::parse().vendor;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let stand_in = async {
        match vendor {
            Vendor::Proxmox(args) => proxmox::run(*args).await,
            Vendor::Mail(args) => mail::run(args).await,
            Vendor::Gate(args) => gate::run(args).await,
            Vendor::Stripe(args) => stripe::run(*args).await,
        }
    };
    tokio::select! {
        result = stand_in => result,
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("listening for Ctrl-C"),
    }
}
