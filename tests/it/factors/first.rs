//! Whoever signs up with somebody else's address adds nothing that outlives its owner's coming.
use house::{Customer, House, HouseOptions};

use super::{add_app, half_in};
use crate::{
    accounts::{is_in, log_in, send},
    shop::{SOON, open, open_with},
    world::count,
};

const ANOTHER: &str = "purple lantern on ice";
const FACTORS: &str =
    "select (select count(*) from totp) + (select count(*) from passkeys) + (select count(*) from recovery_codes)";

/// Replaces a forgotten password by the link in the letter.
async fn reset(house: &House, customer: &Customer) {
    let stranger = house.visitor().expect("a browser");
    send(&stranger, "/accounts/reset/", "/accounts/reset/", &[("email", &customer.email)]).await.ok().expect("asked");
    let letter = house.mail().wait_for(&customer.email, "choose a new password", 1, SOON).await.expect("the letter");
    let link = letter.link("/accounts/reset/").expect("a link");
    let done = send(&stranger, link.as_str(), "/accounts/reset/new/", &[("password", ANOTHER)]).await;
    assert!(done.text().contains("password is changed"), "{}", done.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_factor_is_added_only_once_the_address_is_confirmed() {
    let house = open_with(HouseOptions::named("factor-unconfirmed").at_localhost()).await;
    let customer = Customer::stranger(&house).expect("a stranger");
    customer.sign_up().await.expect("signing up");
    customer.log_in().await.expect("logged in");
    let listed = customer.visitor.open("/accounts/factors/").await.expect("a page").ok().expect("the list");
    assert!(listed.text().contains("Confirm your address first"), "{}", listed.text());
    let csrf = listed.attributes("input[name=csrf]", "value").into_iter().next().expect("a token");
    for path in ["/accounts/factors/app/", "/accounts/factors/passkey/"] {
        let page = customer.visitor.open(path).await.expect("a page");
        assert_eq!((page.status, page.url.path()), (200, "/accounts/verify/"), "{path}: {}", page.text());
        let fields =
            [("csrf", csrf.as_str()), ("name", "mine"), ("code", "123456"), ("credential", "{}"), ("seed", "x")];
        let url = customer.visitor.home.join(path).expect("a path");
        let origin = customer.visitor.home.origin().ascii_serialization();
        let sent = customer.visitor.http.post(url).header("Origin", origin).form(&fields).send().await;
        assert_eq!(sent.expect("an answer").url().path(), "/accounts/verify/", "{path}");
    }
    assert_eq!(count(house.db(), FACTORS).await, 0);
    customer.verify().await.expect("confirmed");
    add_app(&customer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_password_leaves_no_factor_of_an_address_that_was_never_confirmed_and_every_other() {
    let house = open("factor-reset").await;
    let owner = Customer::signed_in(&house).await.expect("a customer");
    add_app(&owner).await;
    reset(&house, &owner).await;
    assert_eq!(count(house.db(), "select count(*) from totp").await, 1, "a mailbox is enough to get past a factor");
    let owner = Customer::at(&house, "Ada Example", &owner.email, ANOTHER).expect("the owner");
    half_in(&house, &owner).await;

    let first = Customer::signed_in(&house).await.expect("whoever was first");
    add_app(&first).await;
    sqlx::query("update users set email_verified_at = null where email = $1")
        .bind(&first.email)
        .execute(house.db())
        .await
        .expect("as when it had been added unconfirmed");
    reset(&house, &first).await;
    let theirs = "select count(*) from totp t join users u on u.id = t.user_id where u.email_verified_at is not null";
    assert_eq!(count(house.db(), theirs).await, 1, "who was first keeps a factor");
    assert_eq!(count(house.db(), "select count(*) from recovery_codes").await, 10, "and codes");
    let browser = house.visitor().expect("a browser");
    log_in(&browser, &first.email, ANOTHER).await;
    assert!(is_in(&browser).await, "the owner of the address is asked for somebody else's factor");
    house.mail().wait_for(&first.email, "log in with was changed", 2, SOON).await.expect("a letter tells");
}
