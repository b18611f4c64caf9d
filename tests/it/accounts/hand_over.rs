//! Whose an account is after it was handed over: who is written to, and whose name stands on it.
use house::{Customer, House, OrderForm};

use super::{
    invitations::{invite, link, take},
    members::press,
    send,
};
use crate::{
    shop::{SOON, open, until},
    world::count,
};

const DUE: &str = "select count(*) from accounts where address_asked is distinct from address_told";

/// Somebody else by name, who took an invitation of the owner.
pub(crate) async fn heir_of(house: &House, owner: &Customer) -> Customer {
    let stranger = Customer::stranger(house).expect("a stranger");
    let heir = Customer::at(house, "Grace Heir", &stranger.email, &stranger.password).expect("an heir");
    heir.sign_up().await.expect("signed up");
    heir.verify().await.expect("confirmed");
    heir.log_in().await.expect("logged in");
    assert_eq!(invite(owner, &heir.email, "billing").await.status, 200);
    let page = take(&heir, &link(house, &heir.email, 1).await).await;
    assert_eq!((page.status, page.url.path()), (200, "/dashboard/"), "{}", page.text());
    heir
}

/// Hands the account over, and waits until Stripe knows.
pub(crate) async fn hand_over(house: &House, owner: &Customer, heir: &Customer) {
    let page = press(house, owner, "/accounts/members/hand-over/", heir, &[("then", "billing")]).await;
    assert_eq!(page.status, 200, "{}", page.text());
    until("Stripe is told", SOON, || async { (count(house.db(), DUE).await == 0).then_some(()) }).await;
}

/// The customers at Stripe: the address and the name of each.
pub(crate) async fn at_stripe(house: &House) -> Vec<(String, String)> {
    let state = house.stripe().state().await.expect("Stripe");
    let customers = state["customers"].as_array().expect("the customers");
    let word = |word: &serde_json::Value| word.as_str().unwrap_or_default().to_owned();
    customers.iter().map(|one| (word(&one["email"]), word(&one["name"]))).collect()
}

async fn names(house: &House) -> Vec<String> {
    let bought = "select name from accounts where stripe_customer_id is not null order by name";
    sqlx::query_scalar(bought).fetch_all(house.db()).await.expect("the table")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_was_handed_over_has_the_name_and_the_address_of_its_new_owner_here_and_at_stripe() {
    let house = open("handed-over").await;
    let owner = Customer::signed_in(&house).await.expect("an owner");
    owner.buy(&OrderForm::small("handed-1")).await.expect("buying");
    assert_eq!(at_stripe(&house).await, [(owner.email.clone(), owner.name.clone())]);
    let heir = heir_of(&house, &owner).await;
    hand_over(&house, &owner, &heir).await;
    assert_eq!(at_stripe(&house).await, [(heir.email.clone(), heir.name.clone())], "invoices go to who left");
    assert_eq!(names(&house).await, [heir.name.as_str()], "the account is called after who left");
    let seen = heir.visitor.open("/accounts/members/").await.expect("a page").ok().expect("the members");
    assert_eq!(seen.texts("#members tbody tr").len(), 2, "{}", seen.text());

    // Who belongs to it longest is its first owner again; a member who goes changes nothing.
    let page = press(&house, &heir, "/accounts/members/role/", &owner, &[("role", "owner")]).await;
    assert_eq!(page.status, 200, "{}", page.text());
    until("Stripe is told", SOON, || async { (count(house.db(), DUE).await == 0).then_some(()) }).await;
    assert_eq!(at_stripe(&house).await, [(owner.email.clone(), owner.name.clone())]);
    assert_eq!(names(&house).await, [owner.name.as_str()]);
    let left = send(&owner.visitor, "/accounts/members/", "/accounts/members/leave/", &[]).await;
    assert_eq!(left.status, 200, "{}", left.text());
    until("Stripe is told", SOON, || async { (count(house.db(), DUE).await == 0).then_some(()) }).await;
    assert_eq!(at_stripe(&house).await, [(heir.email.clone(), heir.name.clone())], "who left is still written to");
    let waits = "select count(*) from accounts where address_former is not null";
    assert_eq!(count(house.db(), waits).await, 0, "who is not to be named any more is kept");
}
