//! A person's own data: what there is, a copy of it, its end, and how long what is kept how long.
//!
//! | file | holds |
//! |---|---|
//! | `personal` | every column of every table: what a copy shows of it, and what is left of it afterwards |
//! | `statements` | the SQL that is made of that list |
//! | `exports` | copies that were asked for |
//! | `erasures` | ends that were asked for, confirmed, taken back and carried out |
//! | `obstacles` | why nothing can go yet |
//! | `retention` | what goes by itself, and when |

pub mod erasures;
pub mod exports;
pub mod obstacles;
pub mod personal;
pub mod retention;
mod statements;
