//! What a copy looks like: a zip with a JSON and a CSV file for each kind of data, and a text that says what is in them.
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Cursor, Write as _},
};

use serde_json::{Map, Value};
use store::{
    KeyRing, PersonalRows,
    privacy::personal::{Rows, Shown, Table, Why},
};
use zip::{CompressionMethod, ZipWriter, result::ZipError, write::SimpleFileOptions};

use crate::payment::stripe::customer::PersonalRecord;

/// The name of the text.
const README: &str = "README.txt";
/// What Stripe holds.
const AT_STRIPE: &str = "at_stripe";
const AT_STRIPE_ABOUT: &str =
    "What stands under your name at Stripe, who takes the payments. Your card stands there alone.";
/// What stands where something was sealed with a key that is gone.
const UNREADABLE: &str = "(sealed, and cannot be opened any more)";

/// Why no archive could be written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveFault {
    /// The zip could not be written.
    #[error("the archive could not be written")]
    Zip(#[from] ZipError),
    /// A file in it could not be written.
    #[error("a file of the archive could not be written")]
    Write(#[from] io::Error),
    /// A row could not be turned into text.
    #[error("a row could not be written")]
    Row(#[from] serde_json::Error),
}

/// The customers at Stripe (`cus_…`) that the rows name.
pub fn customers(tables: &[PersonalRows]) -> Vec<String> {
    let named = |table: &'static str, column: &'static str| {
        let found = tables.iter().filter(move |one| one.table.name == table);
        found.flat_map(|one| &one.rows).filter_map(move |row| row.get(column)?.as_str().map(str::to_owned))
    };
    let all: BTreeSet<String> =
        named("accounts", "stripe_customer_id").chain(named("billing_customers", "id")).collect();
    all.into_iter().collect()
}

/// Writes the archive.
///
/// *Errors*: only when there is no memory left, or a row is no text; trying again does not help.
pub fn write(tables: &[PersonalRows], at_stripe: &[PersonalRecord], keys: &KeyRing) -> Result<Vec<u8>, ArchiveFault> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut readme = String::from(
        "This is everything that we know about you.\r\n\r\nEach kind of data is here twice: as JSON for programs, exactly as \
         it stands, and as CSV for tables.\r\nIn a CSV file a text that a table program would take for a formula has an \
         apostrophe before it.\r\n",
    );
    for one in tables {
        let rows: Vec<Value> = one.rows.iter().map(|row| opened(one.table, row, keys)).collect();
        let columns: Vec<&str> = shown(one.table).collect();
        tell(&mut readme, one.table.name, one.table.about, rows.len(), afterwards(one.table));
        if !one.is_whole {
            readme.push_str(
                "  There is more of it than a copy holds: these are the newest. Write to us for what was before.\r\n",
            );
        }
        add(&mut zip, one.table.name, &columns, &rows)?;
    }
    let rows: Vec<Value> = at_stripe.iter().map(PersonalRecord::json).collect();
    let kept = "Stripe deletes it when everything about you is erased here; invoices stay as they were issued.";
    tell(&mut readme, AT_STRIPE, AT_STRIPE_ABOUT, rows.len(), kept);
    add(&mut zip, AT_STRIPE, &PersonalRecord::COLUMNS, &rows)?;
    zip.start_file(README, options())?;
    zip.write_all(readme.as_bytes())?;
    Ok(zip.finish()?.into_inner())
}

fn options() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored)
}

fn add(zip: &mut ZipWriter<Cursor<Vec<u8>>>, name: &str, columns: &[&str], rows: &[Value]) -> Result<(), ArchiveFault> {
    zip.start_file(format!("{name}.json"), options())?;
    zip.write_all(&serde_json::to_vec_pretty(rows)?)?;
    zip.start_file(format!("{name}.csv"), options())?;
    zip.write_all(csv(columns, rows).as_bytes())?;
    Ok(())
}

fn tell(readme: &mut String, name: &str, about: &str, rows: usize, afterwards: &str) {
    // Writing to a String cannot fail.
    let _ = write!(readme, "\r\n{name}.json, {name}.csv ({rows})\r\n  {about}\r\n  {afterwards}\r\n");
}

fn afterwards(table: &Table) -> &'static str {
    match table.rows {
        Rows::Removed | Rows::Apart => "It goes when you have everything erased.",
        Rows::Kept(Why::Books) => {
            "When you have everything erased, what names you goes from it; the rest stays as long as the law wants books kept."
        }
        Rows::Kept(Why::Proof) => "Without your address it stays, so that we can show what we did.",
    }
}

fn shown(table: &Table) -> impl Iterator<Item = &'static str> {
    table.columns.iter().filter(|column| column.shown != Shown::Withheld).map(|column| column.name)
}

/// The row with what was sealed in it opened for its owner.
fn opened(table: &Table, row: &Value, keys: &KeyRing) -> Value {
    let mut row = row.clone();
    for column in table.columns {
        let Shown::Opened(purpose) = column.shown else { continue };
        let Some(sealed) = row.get(column.name).and_then(Value::as_str) else { continue };
        let plain = keys.open(purpose, sealed).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        row[column.name] = Value::String(plain.unwrap_or_else(|| UNREADABLE.to_owned()));
    }
    row
}

/// Rows as CSV. Source: RFC 4180.
fn csv(columns: &[&str], rows: &[Value]) -> String {
    let line = |cells: Vec<String>| format!("{}\r\n", cells.join(","));
    let mut text = line(columns.iter().map(|name| (*name).to_owned()).collect());
    let nothing = Map::new();
    for row in rows {
        let row = row.as_object().unwrap_or(&nothing);
        text.push_str(&line(columns.iter().map(|name| cell(row.get(*name))).collect()));
    }
    text
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => quoted(&harmless(text)),
        Some(other) => quoted(&other.to_string()),
    }
}

/// A text that a table program would run is made a text. Source: OWASP, "CSV Injection".
fn harmless(text: &str) -> String {
    let runs = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if runs { format!("'{text}") } else { text.to_owned() }
}

fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::SSH_KEY_PURPOSE;
    use serde_json::json;
    use store::privacy::personal::tables;

    fn keys() -> KeyRing {
        KeyRing::from_base64("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").expect("a key")
    }

    #[test]
    fn a_cell_is_quoted_where_it_must_and_is_never_run() {
        let rows = [json!({"a": "x,\"y\"\nz", "b": "=1+1", "c": -5, "d": null, "e": "@cmd"})];
        let text = csv(&["a", "b", "c", "d", "e"], &rows);
        assert_eq!(text, "a,b,c,d,e\r\n\"x,\"\"y\"\"\nz\",'=1+1,-5,,'@cmd\r\n");
    }

    #[test]
    fn what_was_sealed_is_opened_for_its_owner_with_the_purpose_it_was_sealed_for() {
        let orders = tables().find(|table| table.name == "orders").expect("a table");
        let key = orders.columns.iter().find(|column| column.name == "sealed_ssh_key").expect("a column");
        assert_eq!(key.shown, Shown::Opened(SSH_KEY_PURPOSE));
        let sealed = keys().seal(SSH_KEY_PURPOSE, b"ssh-ed25519 AAAA").expect("sealed");
        let row = opened(orders, &json!({"id": "1", "sealed_ssh_key": sealed}), &keys());
        assert_eq!(row, json!({"id": "1", "sealed_ssh_key": "ssh-ed25519 AAAA"}));
        let foreign = opened(orders, &json!({"sealed_ssh_key": "1.foreign"}), &keys());
        assert_eq!(foreign["sealed_ssh_key"], UNREADABLE);
    }

    #[test]
    fn an_archive_holds_two_files_for_each_kind_and_a_text_that_names_them() {
        let all: Vec<PersonalRows> =
            tables().map(|table| PersonalRows { table, rows: vec![], is_whole: table.name != "audit" }).collect();
        let bytes = write(&all, &[], &keys()).expect("an archive");
        let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip");
        assert_eq!(zip.len(), 2 * (all.len() + 1) + 1);
        for name in ["users.json", "users.csv", "at_stripe.csv", README] {
            assert!(zip.by_name(name).is_ok(), "no {name}");
        }
        let mut readme = String::new();
        std::io::Read::read_to_string(&mut zip.by_name(README).expect("a text"), &mut readme).expect("text");
        assert_eq!(readme.matches("these are the newest").count(), 1, "{readme}");
    }

    #[test]
    fn the_customers_are_those_the_rows_name_each_once() {
        let table = |name: &str| tables().find(|table| table.name == name).expect("a table");
        let rows = [
            PersonalRows {
                table: table("accounts"),
                rows: vec![json!({"stripe_customer_id": "cus_1"})],
                is_whole: true,
            },
            PersonalRows {
                table: table("billing_customers"),
                rows: vec![json!({"id": "cus_1"}), json!({"id": "cus_2"})],
                is_whole: true,
            },
        ];
        assert_eq!(customers(&rows), ["cus_1", "cus_2"]);
    }
}
