//! A plan that covers fewer servers than there are: nothing is taken away, staff are shown it, until it is so no longer.
use house::{Catalogue, HouseOptions, PolicySecs};
use time::OffsetDateTime;

use super::{
    entitlement::{address, all_are, becomes_delivered, order},
    plan::{item, stripe_price},
    staff::Held,
    story::becomes,
};
use crate::{
    matrix::change_price,
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, count},
};

const SHOWN: &str = "select count(*) from payment_events
    where type = 'difference' and object_kind = 'cover' and state = 'unclaimed'";

/// The smallest and the largest plan cover a second server, the one between only one.
fn between_covers_one(catalogue: &mut Catalogue) {
    catalogue.plans[0].service_limit = 2;
    catalogue.plans[2].service_limit = 2;
}

/// Waits until a comparison that began after this moment came to its end.
pub(super) async fn compared(held: &Held<'_>) {
    let finished = || async {
        sqlx::query_scalar::<_, OffsetDateTime>("select finished_at from rounds where name = 'comparison'")
            .fetch_one(held.house.db())
            .await
            .expect("the round")
    };
    for _ in 0..2 {
        let before = finished().await;
        until("another comparison", SOON, || async { (finished().await > before).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_changed_at_stripe_to_a_plan_that_covers_fewer_is_shown_to_staff_and_takes_nothing_away() {
    let policy = PolicySecs { comparison: 1, ..PolicySecs::default() };
    let options = HouseOptions { change_catalogue: between_covers_one, policy, ..HouseOptions::named("fewer") };
    let house = open_with(options).await;
    let held = Held::new(&house, "fewer-1").await;
    becomes_delivered(&held, &order(&held, "fewer-2").await).await;
    assert_eq!(count(house.db(), SHOWN).await, 0);
    change_price(&house, &held.subscription, &item(&held).await, &stripe_price(&held, "medium").await).await;
    becomes(&house, "staff are shown it", SHOWN, 1).await;
    let resized = "select count(distinct service_id) from letters where kind = 'service_resized' and state = 'sent'";
    becomes(&house, "both are as large as the plan", resized, 2).await;
    let board = held.staff.visitor.open("/staff/").await.expect("the staff page").text();
    assert!(board.contains("its plan covers 1 now, and it has 2 servers"), "{board}");
    compared(&held).await;
    assert_eq!(count(house.db(), SHOWN).await, 1, "shown otherwise than once");
    all_are(&house, "running", "running", 2).await;
    let full = held.customer.visitor.open(&address(&held)).await.expect("an answer");
    assert!(full.status == 409 && full.text().contains("every place is taken"), "{}", full.text());

    change_price(&house, &held.subscription, &item(&held).await, &stripe_price(&held, "large").await).await;
    becomes(&house, "nothing is shown any more", SHOWN, 0).await;
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "something waits for staff");
    all_are(&house, "running", "running", 2).await;
    assert_stripe_contract(&house).await;
}
