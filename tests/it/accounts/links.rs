//! Links from letters of which a part was lost, or that are old or over: each leads to a page that says what to do, and does nothing.
//! Those to confirm an address at first, to replace a password and to join an account are tried where they are used.
use house::{Customer, House, HouseOptions, Visitor};
use url::Url;
use uuid::Uuid;

use super::{assert_stale, log_in, send};
use crate::{
    attention::staff,
    factors::add_app,
    shop::{SOON, open, open_with},
    world::count,
};

/// A link that was cut off, or names what is nobody's.
async fn assert_garbled(visitor: &Visitor, link: &Url, way_on: &str) {
    let whole = link.as_str();
    let nobodys = format!("{}?id={}&tag=x", link.path(), Uuid::new_v4());
    for garbled in [&whole[..whole.len() - 4], &format!("{whole}x"), &nobodys, link.path()] {
        assert_stale(&visitor.open(garbled).await.expect("a page"), "does not work", way_on);
    }
}

/// A link that is older than it works, also when its page was opened in time.
async fn assert_too_old(house: &House, visitor: &Visitor, link: &Url, way_on: &str) {
    let page = visitor.open(link.as_str()).await.expect("a page").ok().expect("the button");
    sqlx::query("update access_changes set expires_at = now() - interval '1 second'")
        .execute(house.db())
        .await
        .expect("time passes");
    assert_stale(&visitor.open(link.as_str()).await.expect("a page"), "too old", way_on);
    let late = visitor.submit(&page, link.path(), &[]).await.expect("an answer");
    assert_stale(&late, "too old", way_on);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_opens_a_log_in_says_what_to_do_when_it_is_garbled_or_old() {
    let options = HouseOptions::named("links-unlock").with("EZ_LIMIT_ADDRESS", "2").with("EZ_LIMIT_LOCK", "2");
    let house = open_with(options).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let stranger = house.visitor().expect("a browser");
    for _ in 0..2 {
        assert_eq!(log_in(&stranger, &customer.email, "not the password").await.status, 422);
    }
    let letter = house.mail().wait_for(&customer.email, "locked", 1, SOON).await.expect("the letter");
    let link = letter.link("/accounts/unlock/").expect("a link");
    assert_garbled(&stranger, &link, "/accounts/login/").await;
    assert_too_old(&house, &stranger, &link, "/accounts/login/").await;
    let refused = log_in(&stranger, &customer.email, &customer.password).await;
    assert_eq!(refused.status, 429, "a link that does not work opened the log-in: {}", refused.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_to_another_address_says_what_to_do_when_it_is_garbled_or_old() {
    let house = open("links-address").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let path = "/accounts/address/";
    let asked = send(&customer.visitor, path, path, &[("email", "moved@example.test")]).await;
    assert_eq!(asked.status, 200, "{}", asked.text());
    let letter = house.mail().wait_for("moved@example.test", "confirm your new address", 1, SOON).await;
    let link = letter.expect("the letter").link("/accounts/address/confirm/").expect("a link");
    assert_garbled(&customer.visitor, &link, path).await;
    assert_too_old(&house, &customer.visitor, &link, path).await;
    let moved = "select count(*) from users where email = 'moved@example.test'";
    assert_eq!(count(house.db(), moved).await, 0, "a link that does not work changed the address");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_keeps_second_factors_says_what_to_do_when_it_is_garbled_or_over() {
    let house = open("links-keep").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    add_app(&customer).await;
    let staff = staff(&house).await;
    let path = "/staff/factors/";
    let values = [("email", customer.email.as_str()), ("reason", "called from the number on the invoice")];
    send(&staff.visitor, path, path, &values).await.ok().expect("asked");
    let letter = house.mail().wait_for(&customer.email, "Did you lose", 1, SOON).await.expect("the letter");
    let link = letter.link("/accounts/factors/keep/").expect("a link");
    let stranger = house.visitor().expect("a browser");
    assert_garbled(&stranger, &link, "/accounts/factors/").await;
    let waits = "select count(*) from factor_resets where ended_at is null";
    assert_eq!(count(house.db(), waits).await, 1, "a link that does not work kept them");
    let page = stranger.open(link.as_str()).await.expect("a page").ok().expect("the button");
    stranger.submit(&page, link.path(), &[]).await.expect("an answer").ok().expect("kept");
    assert_stale(&stranger.open(link.as_str()).await.expect("a page"), "over already", "/accounts/factors/");
    let again = stranger.submit(&page, link.path(), &[]).await.expect("an answer");
    assert_stale(&again, "over already", "/accounts/factors/");
}
