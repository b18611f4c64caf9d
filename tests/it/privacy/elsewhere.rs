//! What accounts of others say of somebody who is erased.
use house::{Customer, House, OrderForm};
use store::privacy::personal::tables;

use super::{ask_and_confirm, erasure_is, house_of, ids};
use crate::{
    accounts::{
        hand_over::{at_stripe, hand_over, heir_of},
        invitations::{invite, link},
    },
    shop::{SOON, open_with, until},
    world::{count, table},
};

const NAME: &str = "Olga Onlyhere";

/// Somebody whose name nobody else has.
async fn olga(house: &House) -> Customer {
    let stranger = Customer::stranger(house).expect("a stranger");
    let olga = Customer::at(house, NAME, &stranger.email, &stranger.password).expect("somebody");
    olga.sign_up().await.expect("signed up");
    olga.verify().await.expect("confirmed");
    olga.log_in().await.expect("logged in");
    olga
}

/// Every row of every table with personal data, as text.
async fn everything(house: &House) -> Vec<String> {
    let mut whole = vec![];
    for one in tables() {
        whole.extend(table(house.db(), one.name).await.into_iter().map(|row| format!("{}: {row}", one.name)));
    }
    whole
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_erased_is_named_nowhere_in_accounts_of_others() {
    let house = open_with(house_of("erased-elsewhere", 1)).await;
    let (olga, bob) = (olga(&house).await, Customer::signed_in(&house).await.expect("somebody else"));
    let order = olga.buy(&OrderForm::small("goes-on-1")).await.expect("buying");
    olga.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let server = olga.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link");
    let page = olga.visitor.open(&format!("{}cancel/", server.path())).await.expect("a page").ok().expect("the page");
    let told = olga.visitor.submit(&page, "/cancel/cancel_at_end/", &[]).await.expect("an answer");
    assert_eq!(told.status, 200, "{}", told.text());
    let named = "select count(*) from timeline where actor = 'Olga Onlyhere'";
    until("the history says who did it", SOON, || async { (count(house.db(), named).await == 1).then_some(()) }).await;
    let heir = heir_of(&house, &olga).await;
    hand_over(&house, &olga, &heir).await;
    assert_eq!(invite(&bob, &olga.email, "technical").await.status, 200);
    link(&house, &olga.email, 1).await;

    let (_, user) = ids(&house, &olga.email).await;
    ask_and_confirm(&house, &olga).await;
    erasure_is(&house, user, "done").await;
    let whole = everything(&house).await;
    for word in [NAME, olga.email.as_str()] {
        let left: Vec<&String> = whole.iter().filter(|line| line.contains(word)).collect();
        assert!(left.is_empty(), "{word} is still in {left:#?}");
    }
    let left = "select count(*) from timeline where actor = 'somebody who left'";
    assert_eq!(count(house.db(), left).await, 1, "the history lost a line");
    let customers = at_stripe(&house).await;
    assert!(customers.iter().all(|(email, name)| email != &olga.email && name != NAME), "{customers:?}");
    assert!(customers.contains(&(heir.email.clone(), heir.name.clone())), "{customers:?}");
    let seen = heir.visitor.open(server.path()).await.expect("a page").ok().expect("the server");
    assert!(!seen.text().contains(NAME) && seen.text().contains("goes-on-1"), "{}", seen.text());
    let open = "select count(*) from invitations where used_at is null and withdrawn_at is null";
    assert_eq!(count(house.db(), open).await, 0, "an invitation of who is erased is still open");
}
