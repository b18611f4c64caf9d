//! The hands: every act on the world outside, and on our own database.
//!
//! An activity does one thing, may run twice, and decides no order: when it runs is the story's business (`workflows`).
//! What it is called and what it takes stands in `contract`, which both wings share. Each looks before it acts, and an
//! answer that never came is *unknown*, never *failed*.
//!
//! | module | acts on | vendor words stop in |
//! |---|---|---|
//! | [`payment`] | Stripe | `payment/stripe` |
//! | [`machine`] | Proxmox VE | `machine/proxmox` |
//! | [`name`] | PowerDNS | `name/powerdns` |
//! | [`mail`] | the mail server | `mail/smtp` |
//! | [`round`] | nothing: it reads at Stripe and asks for looks | `payment/stripe` |
//! | [`privacy`] | Stripe's customer, and our own database | `payment/stripe` |
//! | [`ledger`] | our own database | the crate `store` |
//!
//! Whatever goes wrong becomes a [`fault::Fault`], which says what a workflow may do about it.

mod beat;
pub mod call;
mod deadline;
pub mod fault;
pub mod ledger;
pub mod machine;
pub mod mail;
pub mod name;
pub mod payment;
pub mod privacy;
pub mod round;
