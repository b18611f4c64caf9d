//! One clock: what is renewed when is Stripe's to say. We show and keep its periods to the second, whatever day a month begins
//! on, whatever clock, time zone or month our own processes believe in.
//!
//! | file | shows |
//! |---|---|
//! | `anchors` | three years of renewals for each day of the month, told by Stripe, in foreign time zones |
//! | `jumps` | web and worker wrong by weeks and by hours, ahead and behind |
//! | `months` | the rule of months that the tests hold Stripe's stand-in to, and what both sides say |
pub(crate) mod anchors;
mod jumps;
pub(crate) mod months;
