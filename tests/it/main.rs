//! Every test of the whole: through the wire, against real servers and stand-ins, never against mocks of our own rooms.
//!
//! | file | shows |
//! |---|---|
//! | `journey` | a stranger becomes a customer with a running server; the life of a subscription to its end |
//! | `cluster` | the same journey on another Proxmox VE counterpart |
//! | `twice` | every activity run two times leaves the same world |
//! | `matrix` | every activity × every fault ends delivered once or in a clean slate; stuck work is seen on both sides |
//! | `unwind` | every step broken for good, given up, and a clean slate asked of the vendors |
//! | `strays` | a clone that Proxmox begins when its order was given up and its number is another's |
//! | `attention` | retry, skip and abandon; staff see what waits |
//! | `death` | a worker killed in the middle of an order |
//! | `deploys` | the release before this one and this one share the work |
//! | `last_one` | more buyers than places, and payments that race with lapses |
//! | `money` | the mirror of Stripe, events that were missed, and every order, number and loss of events |
//! | `webhook` | every kind of bad webhook |
//! | `door` | webhooks told at the same moment, and the database cut away among them |
//! | `growth` | ten thousand orders change nothing about what a page has to read |
//! | `handoff` | web or worker killed at each point between a report of Stripe and its order |
//! | `accounts` | who gets in, how often it may be tried, and what they change about it |
//! | `factors` | second factors, saying again who one is, and keys that are replaced |
//! | `audit` | the trail: nothing in it can be changed, what was is found, and everything is in it |
//! | `privacy` | copies and erasures of personal data, what is kept how long, cookies and legal pages |
//! | `attacks` | what somebody tries who means harm, and that nothing secret is written down |
//! | `observatory` | every route by the rules of the HTTP Observatory |
//! | `scanner` | a scanner for weak places against a running house |
//! | `asvs` | the list of OWASP ASVS tells the truth |
//! | `forms` | every kind of bad form, and who may see what |
//! | `money` | every cent: what people tell a subscription, and what the mirror says |
//! | `storm` | every part killed while paid orders are in flight |
//! | `simulation` | lives by seed under losses, doubles, delays and deaths, which end in agreement |
//! | `growth_history` | a year of one subscription keeps a small history in Temporal |
//! | `skipped` | three years of the workflows' own timers, with a server that skips time |
//! | `outage` | Temporal, PostgreSQL or the mail server away |
//! | `post` | every kind of letter at a mail server that we did not write, with a reader of its own |
//! | `doctor` | every fault of settings and connections has a line of its own |
//! | `doctor_production` | every setting that is unsafe with customers and money is named |
//! | `alerts` | every alert is sound, fires when it should, is about a metric that exists, and has a page |
//! | `doctor_faults` | everything answers and one thing is wrong: it is named, with what to do |
//! | `traces` | one trace from the browser to the vendor; nothing personal in traces, logs and errors |
//! | `refusals` | Stripe's published contract is asked about every request |
//! | `restore` | a restored database and the orders it does not know |
//! | `replay` | recorded histories still replay, and hold nothing private |
//! | `browser` | the customer's and the staff's journey in a real browser |
//! | `tidy` | rooms, imports, sizes, documents |

#![expect(
    clippy::default_trait_access,
    clippy::expect_used,
    reason = "a test that meets the unexpected shall fail, and options of a client are best left at their defaults"
)]

mod accounts;
mod alerts;
mod asvs;
mod attacks;
mod attention;
mod audit;
mod barriers;
mod browser;
mod buyers;
mod cluster;
mod death;
mod deploys;
mod doctor;
mod doctor_faults;
mod doctor_production;
mod door;
mod drill;
mod factors;
mod forms;
mod growth;
mod growth_history;
mod handoff;
mod histories;
mod journey;
mod last_one;
mod matrix;
mod money;
mod mortals;
mod observatory;
mod outage;
mod post;
mod privacy;
mod refusals;
mod replay;
mod restore;
mod scale;
mod scanner;
mod shop;
mod simulation;
mod skipped;
mod storm;
mod strays;
mod tidy;
mod traces;
mod twice;
mod unwind;
mod webhook;
mod world;
