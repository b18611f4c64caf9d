//! The list of personal data against the tables as they are.
use std::collections::BTreeSet;

use store::privacy::personal::{IMPERSONAL, tables};

use crate::shop::open;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_column_of_every_table_stands_in_the_list_of_personal_data() {
    let house = open("privacy-columns").await;
    let there: Vec<(String, String)> = sqlx::query_as(
        "select c.table_name::text, c.column_name::text from information_schema.columns c
         join information_schema.tables t on t.table_schema = c.table_schema and t.table_name = c.table_name
         where c.table_schema = 'public' and t.table_type = 'BASE TABLE' and c.table_name <> '_sqlx_migrations'",
    )
    .fetch_all(house.db())
    .await
    .expect("the columns");
    let there: BTreeSet<String> = there.into_iter().map(|(table, column)| format!("{table}.{column}")).collect();
    let mut listed = BTreeSet::new();
    for table in tables() {
        listed.extend(table.columns.iter().map(|column| format!("{}.{}", table.name, column.name)));
    }
    for table in IMPERSONAL {
        listed.extend(table.columns.iter().map(|column| format!("{}.{column}", table.name)));
    }
    let forgotten: Vec<_> = there.difference(&listed).collect();
    assert!(
        forgotten.is_empty(),
        "what a copy shows of these and what is left of them after an erasure has to be said in \
         activities/store/privacy/personal: {forgotten:#?}"
    );
    let gone: Vec<_> = listed.difference(&there).collect();
    assert!(gone.is_empty(), "there are no such columns: {gone:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_removed_are_removed_before_what_they_refer_to() {
    let house = open("privacy-order").await;
    let refers: Vec<(String, String)> = sqlx::query_as(
        "select c.conrelid::regclass::text, c.confrelid::regclass::text from pg_constraint c
         where c.contype = 'f' and c.confdeltype = 'a' and c.conrelid <> c.confrelid",
    )
    .fetch_all(house.db())
    .await
    .expect("the references");
    assert!(refers.len() > 10, "only {} references", refers.len());
    let place = |name: &str| tables().position(|table| table.name == name);
    for (from, to) in refers {
        let (Some(child), Some(parent)) = (place(&from), place(&to)) else { continue };
        assert!(child < parent, "{from} refers to {to} and stands after it in the list");
    }
}
