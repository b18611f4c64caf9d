//! What people ask about their own data, how long it is kept, and what the pages say of that.
mod columns;
mod cookies;
mod elsewhere;
mod erasure;
mod export;
mod faults;
mod kept;
mod leavers;
mod legal;

use std::{
    collections::BTreeMap,
    io::{Cursor, Read},
};

use house::{Customer, House, HouseOptions, OrderForm, Page, PolicySecs};
use reqwest::header;
use serde_json::Value;
use uuid::Uuid;

use crate::shop::{SOON, until};

pub(crate) const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

/// A house in which an ended server goes within seconds, and an erasure can be taken back for `secs`.
fn house_of(name: &str, secs: u32) -> HouseOptions {
    let policy = PolicySecs { retention: 2, retention_warning: 1, subscription_poll: 1, ..PolicySecs::default() };
    let options = HouseOptions { policy, ..HouseOptions::named(name) };
    options.with("EZ_POLICY_ERASURE_SECS", &secs.to_string())
}

/// Somebody who bought a server, had it and ended it: everything of theirs is over.
async fn somebody_with_a_past(house: &House, hostname: &str) -> Customer {
    let customer = Customer::signed_in(house).await.expect("a customer");
    let form = OrderForm { ssh_key: KEY, ..OrderForm::small(hostname) };
    let order = customer.buy(&form).await.expect("buying");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    customer.at_stripe("cancel-now").await.expect("the end");
    let (account, _) = ids(house, &customer.email).await;
    until("everything of theirs is over", SOON, || async {
        let living: i64 = sqlx::query_scalar(
            "select (select count(*) from services where account_id = $1 and status <> 'expired')
                + (select count(*) from subscriptions where account_id = $1 and phase <> 'expired')",
        )
        .bind(account)
        .fetch_one(house.db())
        .await
        .expect("the tables");
        (living == 0).then_some(())
    })
    .await;
    customer
}

/// The account and the user of an address.
async fn ids(house: &House, email: &str) -> (Uuid, Uuid) {
    sqlx::query_as("select account_id, id from users where email = $1")
        .bind(email)
        .fetch_one(house.db())
        .await
        .expect("a user")
}

/// Asks for a copy, and gives the page that the link in its letter leads to.
pub(crate) async fn copy_page(house: &House, customer: &Customer, nth: usize) -> Page {
    let page = customer.visitor.open("/accounts/data/").await.expect("a page").ok().expect("the form");
    let values = [("password", customer.password.as_str())];
    let asked = customer.visitor.submit(&page, "/accounts/data/", &values).await.expect("an answer");
    assert!(asked.status == 200 && asked.text().contains("being made"), "{} {}", asked.status, asked.text());
    let letter = house.mail().wait_for(&customer.email, "data is ready", nth, SOON).await.expect("a letter");
    let link = letter.link("/accounts/data/file/").expect("a link");
    customer.visitor.open(link.as_str()).await.expect("the page of the link")
}

/// Presses the button of that page, and gives what comes: status, kind and bytes.
pub(crate) async fn press(customer: &Customer, page: &Page) -> (u16, String, Vec<u8>) {
    let field = |name: &str| {
        let found = page.attributes(&format!("main input[name={name}]"), "value");
        found.first().cloned().unwrap_or_else(|| panic!("no field {name}: {}", page.text()))
    };
    let fields = ["csrf", "id", "tag"].map(|name| (name, field(name)));
    let path = customer.visitor.home.join("/accounts/data/file/").expect("a path");
    let origin = customer.visitor.home.origin().ascii_serialization();
    let answer =
        customer.visitor.http.post(path).header("Origin", origin).form(&fields).send().await.expect("an answer");
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("").to_owned();
    (answer.status().as_u16(), kind, answer.bytes().await.expect("a body").to_vec())
}

/// Every file of a zip as text.
fn files(archive: Vec<u8>) -> BTreeMap<String, String> {
    let mut zip = zip::ZipArchive::new(Cursor::new(archive)).expect("a zip");
    let mut all = BTreeMap::new();
    for index in 0..zip.len() {
        let mut file = zip.by_index(index).expect("a file");
        let (name, mut text) = (file.name().expect("a name").into_owned(), String::new());
        file.read_to_string(&mut text).expect("text");
        all.insert(name, text);
    }
    all
}

/// The rows of one JSON file.
fn rows(files: &BTreeMap<String, String>, name: &str) -> Vec<Value> {
    let text = files.get(&format!("{name}.json")).unwrap_or_else(|| panic!("no {name}.json in {:?}", files.keys()));
    serde_json::from_str(text).expect("JSON")
}

/// Asks that everything goes, and gives the page that the link in the letter leads to.
pub(crate) async fn erase_page(house: &House, customer: &Customer) -> Page {
    let page = customer.visitor.open("/accounts/erase/").await.expect("a page").ok().expect("the form");
    let values = [("password", customer.password.as_str())];
    let asked = customer.visitor.submit(&page, "/accounts/erase/", &values).await.expect("an answer");
    assert!(asked.status == 200 && asked.text().contains("Nothing is erased before"), "{}", asked.text());
    let letter =
        house.mail().wait_for(&customer.email, "about you erased", 1, SOON).await.expect("a letter asks again");
    let link = letter.link("/accounts/erase/confirm/").expect("a link");
    customer.visitor.open(link.as_str()).await.expect("the page of the link")
}

/// Asks and confirms.
async fn ask_and_confirm(house: &House, customer: &Customer) {
    let page = erase_page(house, customer).await;
    let done = customer.visitor.submit(&page, "/accounts/erase/confirm/", &[]).await.expect("an answer");
    assert!(done.status == 200 && done.text().contains("is closed"), "{} {}", done.status, done.text());
}

/// Waits until an erasure of a user is in a state.
async fn erasure_is(house: &House, user: Uuid, state: &str) -> Uuid {
    until(&format!("the erasure is {state}"), SOON, || async {
        sqlx::query_scalar("select id from erasures where user_id = $1 and state = $2")
            .bind(user)
            .bind(state)
            .fetch_optional(house.db())
            .await
            .expect("the table")
    })
    .await
}
