//! Whoever was first with an address, and whoever reads mail there.
use house::{Customer, House, Page, Visitor};

use super::{is_in, log_in, reset, send};
use crate::{shop::open, world::count};

const UNCONFIRMED: &str = "select count(*) from users where email_verified_at is null";

/// Presses the link's button without having been shown it.
async fn press(browser: &Visitor, link: &url::Url) -> Page {
    let page = browser.open("/accounts/verify/").await.expect("a page");
    let csrf = page.attributes("input[name=csrf]", "value").into_iter().next().expect("a token");
    let mut fields = vec![("csrf".to_owned(), csrf)];
    fields.extend(link.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())));
    let url = browser.home.join("/accounts/verify/").expect("a path");
    let origin = browser.home.origin().ascii_serialization();
    let answer = browser.http.post(url).header("Origin", origin).form(&fields).send().await.expect("an answer");
    let (url, status) = (answer.url().clone(), answer.status().as_u16());
    Page { url, status, html: answer.text().await.expect("a page") }
}

/// Whoever has the address of somebody who signed up, in a browser of their own.
fn owner_of(house: &House, customer: &Customer) -> Customer {
    Customer::at(house, "Olive Owner", &customer.email, "orange kettle at dawn").expect("somebody")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_confirmed_only_by_who_knows_the_password_it_was_signed_up_with() {
    let house = open("confirm-theirs").await;
    let thief = Customer::stranger(&house).expect("a stranger");
    thief.sign_up().await.expect("signing up with an address that is somebody else's");
    thief.log_in().await.expect("logged in");
    let link = thief.verification_link().await.expect("the letter");
    let owner = owner_of(&house, &thief);
    let asked = owner.visitor.open(link.as_str()).await.expect("a page");
    assert_eq!((asked.status, asked.url.path()), (200, "/accounts/login/"), "{}", asked.text());
    assert!(asked.text().contains("did not sign up yourself"), "{}", asked.text());
    let pressed = press(&owner.visitor, &link).await;
    assert_eq!(pressed.url.path(), "/accounts/login/", "{}", pressed.text());
    let other = Customer::signed_in(&house).await.expect("somebody else");
    for page in [other.visitor.open(link.as_str()).await.expect("a page"), press(&other.visitor, &link).await] {
        assert!(page.status == 400 && page.text().contains("for somebody else"), "{}", page.text());
    }
    assert_eq!(count(house.db(), UNCONFIRMED).await, 1, "a password was confirmed that its owner never chose");

    let link = reset::link(&house, &owner, 1).await;
    let form = owner.visitor.open(link.as_str()).await.expect("the form").ok().expect("the form");
    let values = [("password", owner.password.as_str())];
    let done = owner.visitor.submit(&form, "/accounts/reset/new/", &values).await.expect("an answer");
    assert!(done.text().contains("password is changed"), "{}", done.text());
    assert_eq!(count(house.db(), UNCONFIRMED).await, 0, "the link was read at the address");
    assert!(!is_in(&thief.visitor).await, "who was first is still in");
    assert_eq!(log_in(&thief.visitor, &thief.email, &thief.password).await.status, 422, "the first password fits");
    log_in(&owner.visitor, &owner.email, &owner.password).await;
    assert!(is_in(&owner.visitor).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signs_up_on_one_device_confirms_on_another_with_the_same_password() {
    let house = open("confirm-elsewhere").await;
    let desk = Customer::stranger(&house).expect("a stranger");
    desk.sign_up().await.expect("signing up");
    desk.log_in().await.expect("logged in");
    let phone = Customer::at(&house, &desk.name, &desk.email, &desk.password).expect("another browser");
    let done = phone.verify().await.expect("confirmed");
    assert!(done.url.path() == "/dashboard/" && done.text().contains("address is confirmed"), "{}", done.text());
    assert_eq!(count(house.db(), UNCONFIRMED).await, 0);
    assert!(is_in(&desk.visitor).await && is_in(&phone.visitor).await, "somebody was logged out for confirming");
    let link = phone.verification_link().await.expect("the letter");
    let again = send(&desk.visitor, link.as_str(), "/accounts/verify/", &[]).await;
    assert!(again.text().contains("address is confirmed"), "the link used again is a fault: {}", again.text());
}
