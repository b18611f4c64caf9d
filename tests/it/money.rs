//! Money: what stands in our tables is what Stripe says, whatever was told, missed or told twice.
//!
//! | file | shows |
//! |---|---|
//! | `rebuild` | the mirror emptied and read from Stripe again is the same, row by row |
//! | `missed` | what no webhook told, or what was told and lost, is found; a round that is broken is made up for |
//! | `permutations` | all 120 orders of a first payment's events, all 720 of a renewal's |
//! | `lives` | lives by seed: events in any order, any number of times, in both shapes, or never |
//! | `story`, `teller` | what happens at Stripe, and who tells of it |
mod lives;
mod missed;
mod permutations;
mod rebuild;
mod story;
mod teller;

pub(crate) use story::told;
