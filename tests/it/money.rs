//! Money: what stands in our tables is what Stripe says, whatever was told, missed or told twice.
//!
//! | file | shows |
//! |---|---|
//! | `rebuild` | the mirror emptied and read from Stripe again is the same, row by row |
//! | `missed` | what no webhook told, or what was told and lost, is found; a round that is broken is made up for |
//! | `permutations` | all 120 orders of a first payment's events, all 720 of a renewal's |
//! | `lives` | lives by seed: events in any order, any number of times, in both shapes, or never |
//! | `story`, `teller` | what happens at Stripe, and who tells of it |
//! | `bad_input` | what does not fit: a page or a staff item, nothing charged, nothing lost |
//! | `gate` | nothing is suspended without a notice, while a payment is on its way, or held |
//! | `breaker` | too many suspensions within an hour wait for staff |
//! | `promise` | an order that is not delivered in time is undone and paid back |
//! | `building` | a payment missing while the server is still being built |
//! | `checkout` | promotion codes, tax and currency on the payment page |
//! | `coming` | what happens next, and a hold that moves it |
//! | `confirm` | a payment the bank wants confirmed |
//! | `ending` | a customer cancels at the end, takes it back, ends it now |
//! | `given` | credit and time that staff give |
//! | `invoices` | a customer's invoices: own and foreign, paid, open, void, given back; credit |
//! | `plan` | a larger plan, its price first; a price changed at Stripe |
//! | `plan_waits` | a change of plan that waits for the bank; monthly and yearly; a workflow that was lost |
//! | `staff` | what staff tell a running subscription: hold, start again, refund |
//! | `trials` | days that cost nothing, once for each account |
mod bad_input;
mod breaker;
mod building;
mod checkout;
mod coming;
mod confirm;
mod ending;
mod gate;
mod given;
mod invoices;
mod lives;
mod missed;
mod permutations;
mod plan;
mod plan_waits;
mod promise;
mod rebuild;
mod staff;
mod story;
mod teller;
mod trials;

pub(crate) use story::told;
