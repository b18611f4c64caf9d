//! The story: when things happen, and in which order. Nothing here performs I/O.
//!
//! | file | tells |
//! |---|---|
//! | [`order`] | reserve → checkout → paid or lapsed → provision → notify |
//! | [`covered`] | the same for an order that a subscription covers: reserve → provision → notify |
//! | `provision` | clone → configure → resize → protect → start → answer → name |
//! | [`subscription`] | look at Stripe → the one next act → wait; for years |
//! | `renew` `suspend` `expire` | the acts of a subscription, one group each |
//! | `leave` | nothing is taken away before the ledger gives leave |
//! | `instructions` | what people told a subscription to do, one after the other, before its next look |
//! | `plan` | another plan: room, payment, and the machine fitted to it |
//! | `remove` | a further server that its customer takes away |
//! | [`promise`] | an order that is not delivered in the time that was promised is taken back |
//! | `undo` | promises to take a step back, kept in reverse |
//! | [`attention`] | a step out of patience waits here until staff retry, skip or abandon |
//! | [`round`] | goes through Stripe's events, or compares what lives with Stripe, once for each time a schedule says so |
//! | [`export`] | a copy of everything about a person |
//! | [`erasure`] | asked again, closed, days to take it back, then everything goes that the law lets go |
//! | `notify` and [`letter`] | one workflow for each letter, so that mail never holds up anything else |
//! | `patience` | every timeout and retry policy |
//!
//! A change to a workflow that may be running goes through `ctx.patched` and keeps every recorded history replaying.

#![expect(missing_docs, reason = "the constants that the macro makes of each handler cannot carry a docstring")]

pub mod attention;
pub mod covered;
pub mod erasure;
mod expire;
pub mod export;
mod instructions;
mod leave;
pub mod letter;
mod notify;
pub mod order;
mod patience;
mod plan;
pub mod promise;
mod provision;
mod remove;
mod renew;
pub mod round;
mod search;
pub mod subscription;
mod suspend;
mod undo;
mod wait;
