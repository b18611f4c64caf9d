//! Another address for an account.
use house::{Customer, House, OrderForm, Page};
use serde_json::json;

use super::{assert_stale, is_in, log_in, send};
use crate::{
    shop::{SOON, open, until},
    world::count,
};

async fn ask(customer: &Customer, email: &str) -> Page {
    send(&customer.visitor, "/accounts/address/", "/accounts/address/", &[("email", email)]).await
}

async fn link(house: &House, email: &str) -> url::Url {
    let letter = house.mail().wait_for(email, "confirm your new address", 1, SOON).await.expect("the letter");
    letter.link("/accounts/address/confirm/").expect("a link")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address_is_confirmed_there_by_its_owner_alone_and_told_at_the_old_one() {
    let house = open("address").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let other = Customer::signed_in(&house).await.expect("somebody else");
    let new = format!("new-{}", customer.email);
    for email in ["nobody", customer.email.as_str()] {
        let answer = ask(&customer, email).await;
        assert_eq!(answer.status, 422, "{email:?}: {}", answer.text());
        assert_eq!(answer.attributes("#faults a", "href"), ["#email"], "{email:?}");
    }
    let asked = ask(&customer, &new).await;
    assert!(asked.status == 200 && asked.text().contains("Open the letter"), "{}", asked.text());
    house.mail().wait_for(&customer.email, "about to be changed", 1, SOON).await.expect("the old address is told");
    let link = link(&house, &new).await;
    let stranger = house.visitor().expect("a browser");
    assert_eq!(log_in(&stranger, &new, &customer.password).await.status, 422, "used before it is confirmed");

    let page = stranger.open(link.as_str()).await.expect("a page");
    assert_eq!(page.url.path(), "/accounts/login/", "whoever reads the letter may confirm it");
    assert_stale(&other.visitor.open(link.as_str()).await.expect("a page"), "another account", "/accounts/address/");
    let values = [("email", customer.email.as_str()), ("password", &customer.password)];
    let page = stranger.submit(&page, "/accounts/login/", &values).await.expect("an answer");
    assert!(page.has_form("/accounts/address/confirm/"), "the log-in does not lead back: {}", page.text());
    let done = stranger.submit(&page, "/accounts/address/confirm/", &[]).await.expect("an answer");
    assert!(done.status == 200 && done.text().contains("address is changed"), "{}", done.text());
    assert!(done.text().contains(&new) && is_in(&stranger).await, "{}", done.text());
    assert!(!is_in(&customer.visitor).await, "another session outlived the address");
    house.mail().wait_for(&customer.email, "address was changed", 1, SOON).await.expect("the old address is told");
    assert_stale(&stranger.open(link.as_str()).await.expect("a page"), "used already", "/accounts/address/");
    assert_eq!(log_in(&customer.visitor, &customer.email, &customer.password).await.status, 422, "the old one fits");
    log_in(&customer.visitor, &new, &customer.password).await;
    assert!(is_in(&customer.visitor).await, "the new one does not fit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_somebody_has_looks_the_same_and_its_owner_is_told() {
    let house = open("address-taken").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let owner = Customer::signed_in(&house).await.expect("the owner");
    let free = ask(&customer, "free@example.test").await;
    let stale = link(&house, "free@example.test").await;
    let taken = ask(&customer, &owner.email).await;
    let plain = |page: &Page, email: &str| (page.status, page.text().replace(email, "it"));
    assert_eq!(plain(&free, "free@example.test"), plain(&taken, &owner.email), "it tells who is known");
    house.mail().wait_for(&owner.email, "already have an account", 1, SOON).await.expect("the owner is told");
    house.mail().wait_for(&customer.email, "about to be changed", 2, SOON).await.expect("both wishes are told");
    let confirm = "select count(*) from letters where kind = 'address_confirm'";
    assert_eq!(count(house.db(), confirm).await, 1, "the owner is asked to give the address away");

    // Who asked first and confirms last is refused, and so is a wish that another one replaced.
    let page = customer.visitor.open(stale.as_str()).await.expect("a page");
    assert_stale(&page, "used already", "/accounts/address/");
    ask(&customer, "late@example.test").await;
    let late = link(&house, "late@example.test").await;
    let page = customer.visitor.open(late.as_str()).await.expect("a page").ok().expect("the page");
    let quick = Customer::at(&house, "Quick", "late@example.test", "orange ladder in fog").expect("somebody");
    quick.sign_up().await.expect("signing up");
    let refused = customer.visitor.submit(&page, "/accounts/address/confirm/", &[]).await.expect("an answer");
    assert_stale(&refused, "in use", "/accounts/address/");
    assert!(is_in(&customer.visitor).await, "what was refused logged somebody out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_password_ends_a_wish_for_another_address() {
    let house = open("address-stopped").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    log_in(&house.visitor().expect("a browser"), &customer.email, &customer.password).await;
    ask(&customer, "thief@example.test").await;
    let link = link(&house, "thief@example.test").await;
    let values = [("old", customer.password.as_str()), ("password", "purple lantern on ice")];
    send(&customer.visitor, "/accounts/password/", "/accounts/password/", &values).await.ok().expect("changed");
    assert_eq!(count(house.db(), "select count(*) from devices").await, 1, "this browser alone stays known");
    assert_stale(&customer.visitor.open(link.as_str()).await.expect("a page"), "used already", "/accounts/address/");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_not_written_to_for_ever_by_somebody_who_is_logged_in() {
    let house = open("address-flood").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let mut statuses = vec![];
    while statuses.len() < 14 && !statuses.contains(&429) {
        statuses.push(ask(&customer, "stranger@example.test").await.status);
    }
    assert!(statuses.len() > 5 && statuses[..5] == [200; 5], "nobody mistypes an address five times: {statuses:?}");
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
}

/// The customers at Stripe, by address.
async fn at_stripe(house: &House) -> Vec<String> {
    let state = house.stripe().state().await.expect("Stripe");
    let customers = state["customers"].as_array().expect("the customers");
    customers.iter().map(|one| one["email"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stripe_writes_to_the_confirmed_address_although_its_answer_was_lost() {
    let house = open("address-at-stripe").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    customer.buy(&OrderForm::small("billed-1")).await.expect("buying");
    assert_eq!(at_stripe(&house).await, [customer.email.as_str()]);
    let lost = json!({"kind": "drop", "method": "POST", "path": "/v1/customers/", "times": 1});
    house.stripe().add_fault(lost).await.expect("a fault");
    ask(&customer, "billed@example.test").await;
    assert_eq!(at_stripe(&house).await, [customer.email.as_str()], "told before it is confirmed");
    let page = customer.visitor.open(link(&house, "billed@example.test").await.as_str()).await.expect("a page");
    customer.visitor.submit(&page, "/accounts/address/confirm/", &[]).await.expect("an answer").ok().expect("changed");
    let due = "select count(*) from accounts where address_asked is distinct from address_told";
    until("Stripe is told", SOON, || async { (count(house.db(), due).await == 0).then_some(()) }).await;
    assert_eq!(at_stripe(&house).await, ["billed@example.test"], "one customer, at the new address");
}
