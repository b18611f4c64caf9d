//! The breaker: when more is suspended or ended within an hour than is usual, everything waits for staff.
use std::collections::BTreeSet;

use domain::{ids::SubscriptionId, removal::RemovalKind};
use futures::future::join_all;
use house::{Customer, House, HouseOptions, PolicySecs};
use serde_json::json;
use store::{Allowance, Approved, NewRemoval, Store};

use super::{
    staff::Held,
    story::{Bought, act, becomes, buy, word},
};
use crate::{
    attention::staff,
    buyers::customers,
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, count, list},
};

const SUSPENDED: &str = "select count(*) from services where status = 'suspended'";
const HELD: &str = "select count(*) from removals where cause = 'breaker'";
const PLACES: &str = "select count(*) from removals where allowed_at is not null";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_in_the_hour_are_given_once_each_however_many_ask_at_once() {
    let house = open_with(HouseOptions::named("places")).await;
    let held = Held::new(&house, "places-1").await;
    house.stop_worker().await.expect("nobody else asks");
    let store = Store::connect(house.database_url().as_str(), 10).expect("the store");
    let few = Allowance { number: 7, percent: 5 };
    sqlx::query(
        "insert into subscriptions (id, account_id, order_id, plan_id, price_id, status, phase)
         select 'sub_places_' || nth, account_id, order_id, plan_id, price_id, status, phase
         from subscriptions, generate_series(0, 39) as nth where id = $1",
    )
    .bind(&held.subscription)
    .execute(house.db())
    .await
    .expect("forty subscriptions");
    let removal = |nth: usize| NewRemoval {
        subscription: SubscriptionId(format!("sub_places_{nth}")),
        kind: RemovalKind::Retain,
        occasion: format!("retain/{nth}"),
        invoice: None,
        payment_pending: false,
        reminders: 0,
        notice_secs: 0,
        service: None,
    };
    let ask = async |nth: usize| store.ask_leave(&removal(nth), few).await.expect("an answer").is_none();
    let asked = join_all((0..40).map(|turn| ask(turn % 20))).await;
    let given: BTreeSet<usize> = (0..40).filter(|turn| asked[*turn]).map(|turn| turn % 20).collect();
    assert_eq!(given.len(), 7, "given to {given:?}");
    assert_eq!(count(house.db(), PLACES).await, 7);
    for nth in given.clone() {
        assert!(ask(nth).await, "whoever had a place lost it");
    }
    assert_eq!(count(house.db(), PLACES).await, 7, "whoever asks again takes another place");
    let next = (0..20).find(|nth| !given.contains(nth)).expect("one that is held");
    assert!(!ask(next).await, "an eighth place");
    sqlx::query("update removals set allowed_at = allowed_at - interval '2 hours'")
        .execute(house.db())
        .await
        .expect("two hours pass");
    assert!(!ask(next).await, "what was held goes on without staff");
    let wrong = Approved::One("retain/none".to_owned());
    assert_eq!(store.approve_removals(&wrong, "ann", "why not").await.expect("an answer"), 0);
    let right = Approved::One(format!("retain/{next}"));
    assert_eq!(store.approve_removals(&right, "ann", "it is right").await.expect("an answer"), 1);
    assert_eq!(store.approve_removals(&right, "bob", "again").await.expect("an answer"), 0, "approved twice");
    assert!(ask(next).await, "approved, and held all the same");
    let by: String = sqlx::query_scalar(
        "select approved_by || ': ' || approved_because from removals where approved_at is not null",
    )
    .fetch_one(house.db())
    .await
    .expect("who and why");
    assert_eq!(by, "ann: it is right");
    assert!(!ask(30).await, "twelve more wait for staff");
    let all = Approved::AllUntil(time::OffsetDateTime::now_utc());
    assert_eq!(store.approve_removals(&all, "ann", "all of them").await.expect("an answer"), 13);
    assert!(ask(31).await, "nothing is held, and the hour is empty");
    let with = async |nth: usize, number, percent| {
        store.ask_leave(&removal(nth), Allowance { number, percent }).await.expect("an answer").is_none()
    };
    assert!(with(32, 0, 100).await, "the share is larger than the number");
    assert!(!with(33, 0, 0).await, "nothing is allowed, and it is done all the same");
}

/// The next month of each is not paid.
async fn stop_paying(house: &House, all: &[Bought]) {
    for bought in all {
        act(house, &format!("customers/{}/card", bought.customer), json!({"fails": true})).await;
    }
    join_all(all.iter().map(async |bought| {
        act(house, &format!("subscriptions/{}/renew", bought.subscription), json!({})).await;
    }))
    .await;
}

async fn held_occasions(house: &House) -> Vec<(String, String)> {
    sqlx::query_as("select occasion, subscription_id from removals where cause = 'breaker' order by occasion")
        .fetch_all(house.db())
        .await
        .expect("what is held back")
}

async fn approve(staff: &Customer, page: &str, values: &[(&str, &str)]) -> u16 {
    let page = staff.visitor.open(page).await.expect("the page").ok().expect("the page");
    staff.visitor.submit(&page, "/staff/removals/", values).await.expect("an answer").status
}

async fn pays_again(house: &House, bought: &Bought) {
    act(house, &format!("customers/{}/card", bought.customer), json!({"fails": false})).await;
    let state = house.stripe().state().await.expect("Stripe");
    let open = list(&state["invoices"])
        .into_iter()
        .find(|row| row["customer"] == bought.customer.as_str() && row["status"] == "open")
        .expect("an open invoice");
    act(house, &format!("invoices/{}/pay", word(&open["id"])), json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_suspensions_than_an_hour_allows_wait_for_staff_and_a_dead_worker_takes_no_second_place() {
    let policy =
        PolicySecs { reminders: vec![1], suspend_after: 2, subscription_poll: 2, breaker: 1, ..PolicySecs::default() };
    let options = HouseOptions { policy, ..HouseOptions::named("breaker") };
    let house = open_with(options.with("EZ_POLICY_BREAKER_PERCENT", "0")).await;
    let (buyers, staff) = (customers(&house, 4).await, staff(&house).await);
    let mut all = vec![];
    for (nth, buyer) in buyers.iter().enumerate() {
        all.push(buy(&house, buyer, &format!("breaker-{nth}")).await);
    }
    becomes(&house, "all are delivered", "select count(*) from orders where status = 'delivered'", 4).await;
    // Whoever has the place dies before the machine is stopped.
    let cluster = house.proxmox().expect("a stand-in");
    cluster
        .add_fault(json!({"kind": "delay", "ms": 3000, "path": "/status/shutdown", "times": 1}))
        .await
        .expect("slow");
    stop_paying(&house, &all).await;
    until("one has the place", SOON, || async { (count(house.db(), PLACES).await == 1).then_some(()) }).await;
    house.kill_worker().await.expect("kill -9");
    assert_eq!(count(house.db(), SUSPENDED).await, 0, "it was suspended already");
    house.start_worker().await.expect("a worker");
    becomes(&house, "the others wait", HELD, 3).await;
    becomes(&house, "the first is suspended all the same", SUSPENDED, 1).await;
    assert_eq!(count(house.db(), PLACES).await, 1, "a dead worker took a second place");
    until("operators are told", SOON * 2, || async {
        let told = house.metrics().await.ok()?;
        told.lines().any(|line| line.starts_with(r#"ez_removals_held{cause="breaker"} 3"#)).then_some(())
    })
    .await;

    let letter = house.mail().wait_for(house.staff_email(), "wait for you", 1, SOON).await.expect("a letter to staff");
    assert!(letter.link("/staff/coming/").is_ok(), "{}", letter.text);

    let stranger = buyers[0].visitor.open("/staff/coming/").await.expect("an answer");
    assert_eq!(stranger.status, 404, "a customer sees what staff see");
    let waiting = held_occasions(&house).await;
    let (one, its) = waiting[0].clone();
    assert_eq!(
        approve(&staff, "/staff/", &[("occasion", &one), ("reason", " ")]).await,
        422,
        "approved without a reason"
    );
    assert_eq!(approve(&staff, "/staff/", &[("occasion", &one), ("reason", "it is right")]).await, 200);
    becomes(&house, "the one that was approved is suspended", SUSPENDED, 2).await;
    let page = staff.visitor.open(&format!("/staff/subscriptions/{its}/")).await.expect("the page").text();
    assert!(page.contains("it is right") && page.contains("Staff"), "who and why is not on the page: {page}");
    assert_eq!(count(house.db(), HELD).await, 2, "more was approved than was said");
    let noted = "select count(*) from audit a join audit_particulars p on p.audit_id = a.id
        where a.action = 'removal.approved' and a.actor_kind = 'staff' and p.before->>'held_by' = 'breaker'
            and p.after->>'because' = 'it is right'";
    assert_eq!(count(house.db(), noted).await, 1, "the trail does not say who approved it and why");

    let payer = all.iter().find(|bought| bought.subscription == waiting[1].1).expect("one that waits");
    pays_again(&house, payer).await;
    becomes(&house, "what was paid for is not held back any more", HELD, 1).await;
    assert_eq!(
        approve(&staff, "/staff/coming/", &[("until", &latest(&staff).await), ("reason", "all of them")]).await,
        200
    );
    becomes(&house, "all that were approved are suspended", SUSPENDED, 3).await;
    becomes(&house, "nothing is held back", HELD, 0).await;
    let paid: String = sqlx::query_scalar("select status from services where subscription_id = $1")
        .bind(&payer.subscription)
        .fetch_one(house.db())
        .await
        .expect("the service");
    assert_eq!(paid, "running", "suspended although it was paid");
    let told = house.mail().letters(house.staff_email(), "wait for you").await.expect("the mailbox");
    assert_eq!(told.len(), 1, "staff are written to for each that waits");
    becomes(&house, "each is told", "select count(*) from letters where kind = 'service_suspended'", 3).await;
    assert_stripe_contract(&house).await;
}

/// Until when the page shows what waits.
async fn latest(staff: &Customer) -> String {
    let page = staff.visitor.open("/staff/coming/").await.expect("the page").ok().expect("the page");
    page.attributes("form[action='/staff/removals/'] input[name=until]", "value").remove(0)
}
