//! Signing up by the dozen, and by programs.
use house::{Customer, Page, Visitor};

use super::{FIREFOX, behind_a_proxy, browser_at, log_in, send};
use crate::{
    shop::{open, open_with},
    world::count,
};

const USERS: &str = "select count(*) from users where not is_staff";

async fn sign_up(visitor: &Visitor, email: &str, more: &[(&str, &str)]) -> Page {
    let values = [&[("name", "Ada Example"), ("email", email), ("password", "purple lantern on ice")], more].concat();
    send(visitor, "/accounts/signup/", "/accounts/signup/", &values).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_network_signs_up_so_many_and_others_as_before() {
    let house = open_with(behind_a_proxy("sign-ups").with("EZ_LIMIT_NETWORK", "3")).await;
    let before = count(house.db(), USERS).await;
    let mut statuses = vec![];
    while statuses.len() < 12 && !statuses.contains(&429) {
        let email = format!("crowd-{}@example.test", statuses.len());
        statuses.push(sign_up(&browser_at(&house, "198.51.100.1", FIREFOX), &email, &[]).await.status);
    }
    assert!(statuses.len() > 3 && statuses[..3] == [200; 3], "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    let made = i64::try_from(statuses.len() - 1).expect("a small number");
    assert_eq!(count(house.db(), USERS).await, before + made, "what was refused made somebody");
    let other = sign_up(&browser_at(&house, "198.51.100.2", FIREFOX), "other@example.test", &[]).await;
    assert_eq!(other.status, 200, "{}", other.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_many_networks_of_one_range_signs_up_as_often_as_eight_of_them() {
    let house = open_with(behind_a_proxy("sign-ups-range").with("EZ_LIMIT_NETWORK", "1")).await;
    let before = count(house.db(), USERS).await;
    let mut statuses = vec![];
    while statuses.len() < 24 && !statuses.contains(&429) {
        let number = statuses.len();
        let browser = browser_at(&house, &format!("2001:db8:1:{number:x}::1"), FIREFOX);
        statuses.push(sign_up(&browser, &format!("range-{number}@example.test"), &[]).await.status);
    }
    assert!(statuses.len() > 8 && statuses[..8] == [200; 8], "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429), "every network of a range counts as another one: {statuses:?}");
    let made = i64::try_from(statuses.len() - 1).expect("a small number");
    assert_eq!(count(house.db(), USERS).await, before + made, "what was refused made somebody");
    for (number, other) in ["2001:db8:2::1", "198.51.100.1"].into_iter().enumerate() {
        let browser = browser_at(&house, other, FIREFOX);
        let answer = sign_up(&browser, &format!("other-{number}@example.test"), &[]).await;
        assert_eq!(answer.status, 200, "{other}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_fills_in_every_field_makes_nobody_and_is_told_nothing() {
    let house = open("sign-up-programs").await;
    let person = Customer::stranger(&house).expect("a stranger");
    let browser = house.visitor().expect("a browser");
    let form = browser.open("/accounts/signup/").await.expect("the form");
    let unseen = form.attributes("main [aria-hidden=true] input", "tabindex");
    assert_eq!(unseen, ["-1"], "a field that people reach by keyboard: {}", form.html);
    let before = count(house.db(), USERS).await;
    let program = sign_up(&browser, "program@example.test", &[("leave_empty", "https://example.test/")]).await;
    assert_eq!(count(house.db(), USERS).await, before, "somebody was made");
    let human = sign_up(&browser, &person.email, &[]).await;
    assert_eq!((program.status, program.text()), (human.status, human.text()), "it is told that it was seen");
    assert_eq!(count(house.db(), USERS).await, before + 1);
    assert_eq!(log_in(&browser, "program@example.test", "purple lantern on ice").await.status, 422);
}
