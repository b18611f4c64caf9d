//! The SQL that is made of the list of personal data. Everything in it stands in this program; a person's ids are bound.
use super::personal::{Left, Rows, Shown, Table};
use core::fmt::Write as _;

/// How many rows of one table a copy holds at most; one row more is asked for to see whether that was all.
const ROWS_LIMIT: usize = 100_000;
/// The same for the trail, which is without an end: of it a copy holds the newest.
const TRAIL_ROWS_LIMIT: usize = 20_000;

/// Who is meant: the first and the second bound value.
const WHO: &str = "with who as (select $1::uuid as account, $2::uuid as person)";

/// Whether it is a table of the trail.
pub(super) fn is_trail(table: &Table) -> bool {
    matches!(table.name, "audit" | "audit_particulars")
}

/// How many rows of a table a copy holds at most.
pub(super) fn rows_limit(table: &Table) -> usize {
    if is_trail(table) { TRAIL_ROWS_LIMIT } else { ROWS_LIMIT }
}

/// Reads what a copy shows of a table, one JSON object for each row.
pub(super) fn read(table: &Table) -> String {
    let mut columns = String::new();
    for column in table.columns.iter().filter(|column| column.shown != Shown::Withheld) {
        let comma = if columns.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(columns, "{comma}t.{}", column.name);
    }
    let newest_first = if is_trail(table) { " desc" } else { "" };
    format!(
        "{WHO} select to_jsonb(x) from (select {columns} from {} t, who where {} order by 1{newest_first} limit {}) x",
        table.name,
        table.whose,
        rows_limit(table) + 1,
    )
}

/// Removes or blanks the rows of one person; nothing for a table that stays as it is.
pub(super) fn erase(table: &Table) -> Option<String> {
    match table.rows {
        Rows::Removed => Some(remove(table)),
        Rows::Apart => None,
        Rows::Kept(_) => {
            let mut changes = String::new();
            for column in table.columns {
                if let Left::Sql(left) = column.left {
                    let comma = if changes.is_empty() { "" } else { ", " };
                    let _ = write!(changes, "{comma}{} = {left}", column.name);
                }
            }
            (!changes.is_empty())
                .then(|| format!("{WHO} update {} t set {changes} from who where {}", table.name, table.whose))
        }
    }
}

/// Removes the rows of one person, whatever else is to become of them.
pub(super) fn remove(table: &Table) -> String {
    format!("{WHO} delete from {} t using who where {}", table.name, table.whose)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::personal::tables;

    #[test]
    fn every_statement_is_about_one_person_alone() {
        for table in tables() {
            for statement in [Some(read(table)), erase(table), Some(remove(table))].into_iter().flatten() {
                assert!(statement.starts_with(WHO), "{statement}");
                assert!(statement.contains(" where ") && statement.contains("who."), "{statement}");
                assert!(!statement.contains(';') && !statement.contains("--"), "{statement}");
            }
        }
    }

    #[test]
    fn a_copy_shows_no_column_that_is_withheld_and_blanking_touches_no_column_that_stays() {
        let users = tables().find(|table| table.name == "users").expect("a table");
        assert!(!read(users).contains("password_hash") && read(users).contains("t.email"));
        let blanks = erase(users).expect("something is blanked");
        assert!(blanks.contains("password_hash = 'closed'") && !blanks.contains("created_at"), "{blanks}");
        let sessions = tables().find(|table| table.name == "sessions").expect("a table");
        assert!(erase(sessions).expect("a statement").contains("delete from sessions t"));
        let subscriptions = tables().find(|table| table.name == "subscriptions").expect("a table");
        assert_eq!(erase(subscriptions), None);
    }

    #[test]
    fn of_the_trail_a_copy_holds_the_newest() {
        for table in tables() {
            let statement = read(table);
            let (is_trail, limit) = (table.name.starts_with("audit"), rows_limit(table));
            let end = if is_trail { " order by 1 desc limit 20001) x" } else { " order by 1 limit 100001) x" };
            assert!(statement.ends_with(end), "{statement}");
            let first = table.columns.iter().find(|column| column.shown != Shown::Withheld).expect("a column");
            assert!(!is_trail || ["id", "audit_id"].contains(&first.name), "{} is not in its order", table.name);
            assert_eq!(limit, if is_trail { 20_000 } else { 100_000 });
        }
    }
}
