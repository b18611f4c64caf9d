//! Money: what stands in our tables is what Stripe says, whatever was told, missed or told twice.
//!
//! | file | shows |
//! |---|---|
//! | `rebuild` | the mirror emptied and read from Stripe again is the same, row by row |
//! | `missed` | what no webhook told, or what was told and lost, is found; a round that is broken is made up for |
//! | `one_less` | one further server that its customer takes away |
//! | `permutations` | all 120 orders of a first payment's events, all 720 of a renewal's |
//! | `lives` | lives by seed: events in any order, any number of times, in both shapes, or never |
//! | `story`, `teller` | what happens at Stripe, and who tells of it |
//! | `bad_input` | what does not fit: a page or a staff item, nothing charged, nothing lost |
//! | `fewer` | a plan that covers fewer servers than there are |
//! | `followed` | what a long run is told just before another follows it is done once, under one key |
//! | `forgotten_keys` | what is written again after Stripe forgot its key is there once; what comes back, or failed, is another act |
//! | `gate` | nothing is suspended without a notice or an invoice, while a payment is on its way, or held |
//! | `breaker` | too many suspensions within an hour wait for staff |
//! | `promise` | an order that is not delivered in time is undone and paid back |
//! | `building` | a payment missing while the server is still being built |
//! | `checkout` | promotion codes, tax and currency on the payment page |
//! | `clock` | renewals are when Stripe says, whatever our clocks and time zones say |
//! | `coming` | what happens next, and a hold that moves it |
//! | `confirm` | a payment the bank wants confirmed |
//! | `entitlement` | further servers that a plan covers |
//! | `ending` | a customer cancels at the end, takes it back, also an end by date, ends it now |
//! | `given` | credit, time and money that staff give |
//! | `invoices` | a customer's invoices: own and foreign, paid, open, void, given back; credit |
//! | `lost` | what a subscription was told and its workflow has forgotten |
//! | `lost_refunds` | money that was given back and did not arrive |
//! | `named` | a renewal seen from everywhere at once, reminders however often it is looked, a start without a webhook |
//! | `plan` | a larger plan, its price first; a price changed at Stripe |
//! | `plan_waits` | a change of plan that waits for the bank; monthly and yearly; a workflow that was lost |
//! | `staff` | what staff tell a running subscription: hold, start again, refund |
//! | `trials` | days that cost nothing, once for each account |
mod bad_input;
mod breaker;
mod building;
mod checkout;
pub(crate) mod clock;
mod coming;
mod confirm;
mod ending;
mod entitlement;
mod fewer;
mod followed;
mod forgotten_keys;
mod gate;
mod given;
mod invoices;
mod lives;
mod lost;
mod lost_refunds;
mod missed;
mod named;
mod one_less;
mod permutations;
mod plan;
mod plan_waits;
mod promise;
mod rebuild;
pub(crate) mod staff;
pub(crate) mod story;
mod teller;
mod trials;

pub(crate) use forgotten_keys::hands;
pub(crate) use story::told;
