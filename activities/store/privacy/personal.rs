//! The one list of personal data: every column of every table, with what a copy shows of it and what is left of it when its
//! person wants it gone. A test compares it with the tables, so a new column has to be thought about here.
//!
//! Tables that refer to others stand before them: in this order their rows can be removed.
//!
//! | file | holds the tables of |
//! |---|---|
//! | `traces` | what is written down on the way |
//! | `sold` | what was sold and paid |
//! | `people` | who somebody is, and how they get in |
//! | `impersonal` | everything in which nobody stands |

pub mod impersonal;
mod people;
mod sold;
mod traces;

pub use impersonal::{IMPERSONAL, Impersonal};

/// What becomes of a table's rows of one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// They go.
    Removed,
    /// They stay for a while, without what names anybody.
    Kept(Why),
    /// They go by statements of their own: the trail lets nothing else touch them.
    Apart,
}

/// Why something stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Tax and commercial law want books kept.
    Books,
    /// So that we can show that, and when, we did what was asked.
    Proof,
}

/// What a copy shows of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// What stands in it.
    Plain,
    /// What was sealed in it for this purpose.
    Opened(&'static str),
    /// Nothing: it is a secret of ours or a number of our own bookkeeping.
    Withheld,
}

/// What is left of a column in rows that stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Everything: it names nobody.
    Same,
    /// What this SQL says, with the row as `t`.
    Sql(&'static str),
    /// Everything, until the last letter has left.
    UntilTheLastLetter,
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What a copy shows.
    pub shown: Shown,
    /// What is left of it.
    pub left: Left,
}

/// One table with data about persons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// What it holds, in words for the person.
    pub about: &'static str,
    /// Which rows are one person's, as SQL over the row `t` and `who.account`, `who.person`.
    pub whose: &'static str,
    /// What becomes of them.
    pub rows: Rows,
    /// Every column.
    pub columns: &'static [Column],
}

const fn plain(name: &'static str) -> Column {
    Column { name, shown: Shown::Plain, left: Left::Same }
}

const fn blanked(name: &'static str, left: &'static str) -> Column {
    Column { name, shown: Shown::Plain, left: Left::Sql(left) }
}

const fn withheld(name: &'static str) -> Column {
    Column { name, shown: Shown::Withheld, left: Left::Same }
}

const ERASED: &str = "'erased'";
const NOTHING: &str = "null";

const OF_ACCOUNT: &str = "t.account_id = who.account";
const OF_PERSON: &str = "t.user_id = who.person";
const OF_PERSON_OR_ACCOUNT: &str = "(t.user_id = who.person or t.account_id = who.account)";
const OF_ORDER: &str = "t.order_id in (select o.id from orders o where o.account_id = who.account)";
const OF_SUBSCRIPTION: &str =
    "t.subscription_id in (select s.id from subscriptions s where s.account_id = who.account)";
const OF_PAYMENT: &str = "t.payment_id in (select p.id from payments p where p.account_id = who.account)";

/// Every table with data about persons, in the order in which rows can be removed.
pub fn tables() -> impl Iterator<Item = &'static Table> {
    traces::TABLES.iter().chain(sold::TABLES).chain(people::TABLES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_stands_here_once_and_names_each_column_once() {
        let mut names: Vec<&str> = tables().map(|table| table.name).collect();
        names.extend(IMPERSONAL.iter().map(|table| table.name));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "a table stands here twice");
        for table in tables() {
            let mut columns: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
            columns.sort_unstable();
            columns.dedup();
            assert_eq!(columns.len(), table.columns.len(), "{}: a column stands here twice", table.name);
            assert!(table.about.ends_with('.'), "{}: not a sentence", table.name);
        }
    }

    #[test]
    fn what_is_sealed_is_opened_for_its_owner_or_withheld_and_never_shown_as_it_stands() {
        for table in tables() {
            for column in table.columns {
                let secret = ["sealed_", "_hash"].iter().any(|mark| column.name.contains(mark));
                assert!(!secret || column.shown != Shown::Plain, "{}.{}", table.name, column.name);
            }
        }
    }

    #[test]
    fn what_is_left_of_rows_that_stay_names_nobody() {
        for table in tables().filter(|table| matches!(table.rows, Rows::Kept(_))) {
            for column in table.columns {
                let personal =
                    ["name", "email", "hostname", "dns_name", "reason", "ssh_key", "agent", "network", "_url"];
                let is_personal = personal.iter().any(|word| column.name == *word || column.name.ends_with(word));
                let of_stripe =
                    ["refunds", "disputes", "invoices"].contains(&table.name) && column.name.ends_with("reason");
                assert!(
                    !is_personal || of_stripe || column.left != Left::Same,
                    "{}.{} would stay as it is",
                    table.name,
                    column.name
                );
            }
        }
    }
}
