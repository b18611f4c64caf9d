//! Live pages: one account cannot take every place for them.
use house::{Customer, House, HouseOptions, OrderForm, PolicySecs};

use crate::{
    forms::get,
    shop::{SOON, open_with, until},
};

/// How many live pages one account may have open in one process.
const SHARE: usize = 20;

/// A customer, and the page of their order that waits for its payment.
async fn waiting(house: &House, hostname: &str) -> (Customer, String) {
    let customer = Customer::signed_in(house).await.expect("a customer");
    customer.order(&OrderForm::small(hostname)).await.expect("the payment page");
    let order: uuid::Uuid = sqlx::query_scalar("select id from orders where hostname = $1")
        .bind(hostname)
        .fetch_one(house.db())
        .await
        .expect("the order");
    (customer, format!("/dashboard/orders/{order}/"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_live_pages_of_one_account_leave_places_to_everybody_else() {
    let policy = PolicySecs { payment_window: 3_600, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("stream-share") }).await;
    let (greedy, page) = waiting(&house, "greedy-1").await;
    let (other, others_page) = waiting(&house, "modest-1").await;
    let stream = format!("{page}events");
    let mut open = vec![];
    for number in 1..=SHARE {
        let answer = get(&greedy.visitor, &stream).await;
        assert_eq!(answer.status(), 200, "live page {number}");
        open.push(answer);
    }
    assert_eq!(get(&greedy.visitor, &stream).await.status(), 429, "more than a share");
    assert_eq!(get(&greedy.visitor, &page).await.status(), 200, "the page itself is there without its stream");
    let modest = get(&other.visitor, &format!("{others_page}events")).await;
    assert_eq!(modest.status(), 200, "somebody else has no place");
    drop(open.pop());
    until("the place that was left is free again", SOON, || async {
        (get(&greedy.visitor, &stream).await.status() == 200).then_some(())
    })
    .await;
}
