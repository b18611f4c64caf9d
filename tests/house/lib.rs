//! The house: everything the portal needs, started for real on free ports, for `make demo`, `make dev` and the tests alike.
//!
//! An [`Engine`] holds the servers all houses share (PostgreSQL, Temporal, PowerDNS); it is started once per process.
//! A [`House`] is one portal on it, with stand-ins for its vendors. A [`Customer`] uses it as people do: pages, letters, payments.

mod catalogue;
mod control;
mod crowd;
mod customer;
mod engine;
mod gates;
mod house;
mod options;
mod place;
mod portal;
mod ports;
mod process;
mod relay;
mod server;
mod spoil;
mod stand_ins;
mod tools;
mod visitor;
mod wrong_clock;

pub use catalogue::{Catalogue, ImageEntry, NodeEntry, PlanEntry, PoolEntry, PriceEntry, SizeEntry};
pub use control::{Control, Letter, Machines, Mailbox, Names, Record, Vm};
pub use crowd::{LINES_EACH, Past};
pub use customer::{Customer, DECLINED_CARD, FAILS_LATER_CARD, GOOD_CARD, OrderForm, order_id};
pub use engine::Engine;
pub use house::House;
pub use options::{Cluster, HouseOptions, PolicySecs, Post};
pub use place::{Place, house_folder, repository};
pub use ports::free_port;
pub use process::{Launch, Running};
pub use relay::Link;
pub use tools::{own_binary, tool};
pub use visitor::{Page, Visitor};
pub use wrong_clock::WrongClock;
