//! A password of a list of stolen ones is nobody's new one, wherever one is chosen.
use std::fs;

use house::{Customer, HouseOptions, Page};

use super::{
    invitations::{invite, link},
    is_in, log_in, send,
};
use crate::{
    privacy::erase_page,
    shop::{SOON, open_with},
    world::count,
};

/// What the list says, and what somebody types.
const LISTED: &str = "velvet anchor 88 lanterns";
const TYPED: &str = "Velvet Anchor 88 Lanterns";
/// Nobody had it.
const FREE: &str = "velvet anchor 88 lantern";

fn assert_refused(answer: &Page) {
    let said = answer.text();
    assert!(answer.status == 422 && said.contains("stolen elsewhere"), "{}: {} {said}", answer.url, answer.status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_password_is_refused_wherever_one_is_chosen() {
    let list = std::env::temp_dir().join(format!("ez-stolen-{}.txt", uuid::Uuid::new_v4()));
    fs::write(&list, format!("123456\nsomething else that was stolen\n{LISTED}\n")).expect("a list");
    let options = HouseOptions::named("stolen-passwords").with("EZ_POLICY_ERASURE_SECS", "600");
    let house = open_with(options.with("EZ_REFUSED_PASSWORDS", list.to_str().expect("a path"))).await;

    let stranger = Customer::stranger(&house).expect("a stranger");
    let values = [("name", "Ada"), ("email", stranger.email.as_str()), ("password", TYPED)];
    assert_refused(&send(&stranger.visitor, "/accounts/signup/", "/accounts/signup/", &values).await);
    assert_eq!(count(house.db(), "select count(*) from users where not is_staff").await, 0, "somebody has it now");

    let customer = Customer::signed_in(&house).await.expect("a customer");
    let values = [("old", customer.password.as_str()), ("password", TYPED)];
    assert_refused(&send(&customer.visitor, "/accounts/password/", "/accounts/password/", &values).await);

    let browser = house.visitor().expect("a browser");
    send(&browser, "/accounts/reset/", "/accounts/reset/", &[("email", &customer.email)]).await;
    let letter = house.mail().wait_for(&customer.email, "choose a new password", 1, SOON).await.expect("the letter");
    let reset = letter.link("/accounts/reset/").expect("a link");
    let page = browser.open(reset.as_str()).await.expect("a page").ok().expect("the form");
    assert_refused(&browser.submit(&page, "/accounts/reset/new/", &[("password", TYPED)]).await.expect("an answer"));

    let guest = Customer::stranger(&house).expect("a guest");
    invite(&customer, &guest.email, "technical").await.ok().expect("invited");
    let invitation = link(&house, &guest.email, 1).await;
    let page = guest.visitor.open(invitation.as_str()).await.expect("a page").ok().expect("the invitation");
    let values = [("name", "Grace"), ("password", TYPED)];
    assert_refused(&guest.visitor.submit(&page, "/accounts/invitation/join/", &values).await.expect("an answer"));

    let leaver = Customer::signed_in(&house).await.expect("somebody who goes");
    let page = erase_page(&house, &leaver).await.ok().expect("the button");
    let gone = leaver.visitor.submit(&page, "/accounts/erase/confirm/", &[]).await.expect("an answer");
    gone.ok().expect("the account is closed");
    let letter = house.mail().wait_for(&leaver.email, "will be erased", 1, SOON).await.expect("the letter");
    let undo = letter.link("/accounts/erase/undo/").expect("a link");
    let page = browser.open(undo.as_str()).await.expect("a page").ok().expect("the form");
    assert_refused(&browser.submit(&page, "/accounts/erase/undo/", &[("password", TYPED)]).await.expect("an answer"));

    let words = ["user", "password", "--email", house.staff_email()];
    let told = house.run_ez(&words, TYPED).await.expect_err("a command gave it to somebody");
    assert!(format!("{told:?}").contains("stolen elsewhere"), "{told:?}");

    // Nothing was replaced, and what is not on the list is taken.
    assert!(is_in(&customer.visitor).await, "a refused password ended a session");
    let values = [("old", customer.password.as_str()), ("password", FREE)];
    send(&customer.visitor, "/accounts/password/", "/accounts/password/", &values).await.ok().expect("changed");
    log_in(&browser, &customer.email, FREE).await.ok().expect("it is the password now");
    assert!(is_in(&browser).await);
    fs::remove_file(&list).expect("gone");
}
