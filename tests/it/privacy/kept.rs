//! What is kept long enough goes by itself.
use domain::ids::OrderId;
use house::Customer;
use store::Store;
use uuid::Uuid;

use super::{ask_and_confirm, erasure_is, house_of, ids, somebody_with_a_past};
use crate::{
    shop::{SOON, open_with, until},
    world::count,
};

async fn change(house: &house::House, statement: &'static str) {
    sqlx::query(statement).execute(house.db()).await.unwrap_or_else(|fault| panic!("{statement}: {fault}"));
}

/// What Stripe still tells of an order is understood, although nobody belongs to its account any more.
async fn assert_order_is_known(house: &house::House, account: Uuid) {
    let order: Uuid = sqlx::query_scalar("select id from orders where account_id = $1")
        .bind(account)
        .fetch_one(house.db())
        .await
        .expect("an order");
    let store = Store::connect(house.database_url().as_str(), 2).expect("the store");
    let brief = store.brief(OrderId(order)).await.expect("an answer").expect("an order of somebody who was erased");
    assert_eq!((brief.order, brief.account.0), (OrderId(order), account));
}

/// Somebody had a copy of an account made when it was theirs.
async fn had_a_copy(house: &house::House, email: &str, account: Uuid) {
    sqlx::query(
        "insert into data_exports (id, user_id, account_id, state, used_at, told_at)
         select gen_random_uuid(), id, $2, 'used', now(), now() from users where email = $1",
    )
    .bind(email)
    .bind(account)
    .execute(house.db())
    .await
    .expect("a copy that was fetched");
}

/// Reports of Stripe: two about nobody that nothing is done about, one of them young; one that nobody claimed; and two about somebody.
const REPORTS: &str = "insert into payment_events
    (id, type, object_id, object_kind, order_id, customer_id, stripe_created_at, livemode, state, received_at)
    select 'evt_kept_' || name, 'payout.paid', 'po_' || name, 'payout',
        case when name = 'order' then (select id from orders where hostname = 'bob-1') end,
        case when name = 'customer' then 'cus_kept' end, now() - days * interval '1 day', false, state,
        now() - days * interval '1 day'
    from (values ('old', 91, 'ignored'), ('young', 89, 'ignored'), ('unclaimed', 91, 'unclaimed'),
        ('order', 91, 'ignored'), ('customer', 91, 'ignored')) as reports (name, days, state)";

async fn assert_only_old_reports_about_nobody_went(house: &house::House) {
    let left: Vec<String> =
        sqlx::query_scalar("select id from payment_events where starts_with(id, 'evt_kept_') order by id")
            .fetch_all(house.db())
            .await
            .expect("the reports");
    assert_eq!(left, ["customer", "order", "unclaimed", "young"].map(|name| format!("evt_kept_{name}")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_long_enough_goes_and_the_books_go_when_the_law_lets_them() {
    let house = open_with(house_of("kept", 1)).await;
    let ann = somebody_with_a_past(&house, "ann-1").await;
    let bob = somebody_with_a_past(&house, "bob-1").await;
    let (account, user) = ids(&house, &ann.email).await;
    ask_and_confirm(&house, &ann).await;
    erasure_is(&house, user, "done").await;
    for (statement, what) in [
        ("select count(*) from orders where account_id = (select account_id from erasures)", "orders"),
        ("select count(*) from payments where account_id = (select account_id from erasures)", "payments"),
        ("select count(*) from accounts where id = (select account_id from erasures)", "accounts"),
    ] {
        assert_eq!(count(house.db(), statement).await, 1, "{what} went before the law lets them");
    }

    assert_order_is_known(&house, account).await;
    had_a_copy(&house, &bob.email, account).await;

    // Years later.
    change(&house, "update erasures set kept_until = current_date - 1").await;
    change(&house, "update email_verifications set expires_at = now() - interval '31 days'").await;
    change(&house, "update letters set sent_at = now() - interval '401 days' where order_id is null").await;
    change(&house, "update services set changed_at = now() - interval '31 days'").await;
    change(&house, "update devices set seen_at = now() - interval '401 days'").await;
    change(&house, REPORTS).await;
    house.kill_worker().await.expect("kill -9");
    house.start_worker().await.expect("a new worker");
    until("the books are gone", SOON, || async {
        let gone = "select count(*) from erasures where rest_erased_at is not null";
        (count(house.db(), gone).await == 1).then_some(())
    })
    .await;
    for (statement, what) in [
        ("select count(*) from orders where account_id = (select account_id from erasures)", "orders"),
        ("select count(*) from payments where account_id = (select account_id from erasures)", "payments"),
        ("select count(*) from users where account_id = (select account_id from erasures)", "users"),
        ("select count(*) from accounts where id = (select account_id from erasures)", "accounts"),
        ("select count(*) from email_verifications", "links"),
        ("select count(*) from devices", "browsers"),
        ("select count(*) from orders where sealed_ssh_key is not null", "keys of servers that are gone"),
        (
            "select count(*) from letters where sent_at < now() - interval '400 days' and order_id is null
                and subscription_id is null",
            "letters",
        ),
    ] {
        assert_eq!(count(house.db(), statement).await, 0, "{what} are still there");
    }
    assert_only_old_reports_about_nobody_went(&house).await;
    assert_eq!(
        count(house.db(), "select count(*) from data_exports").await,
        1,
        "what somebody else asked for went, too"
    );
    let (left, _) = ids(&house, &bob.email).await;
    assert_ne!(left, account);
    let orders: i64 = sqlx::query_scalar("select count(*) from orders where account_id = $1 and hostname = 'bob-1'")
        .bind(left)
        .fetch_one(house.db())
        .await
        .expect("the orders");
    assert_eq!(orders, 1, "the books of somebody else went");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_was_closed_is_erased_when_its_days_are_over() {
    let house = open_with(house_of("kept-closed", 600)).await;
    let ann = Customer::signed_in(&house).await.expect("a customer");
    let (_, user) = ids(&house, &ann.email).await;
    let page = ann.visitor.open("/accounts/close/").await.expect("a page").ok().expect("the form");
    let values = [("password", ann.password.as_str()), ("sure", "yes")];
    ann.visitor.submit(&page, "/accounts/close/", &values).await.expect("an answer").ok().expect("closed");
    house.mail().wait_for(&ann.email, "account is closed", 1, SOON).await.expect("a letter");
    change(&house, "update users set closed_at = now() - interval '31 days' where closed_at is not null").await;
    house.kill_worker().await.expect("kill -9");
    house.start_worker().await.expect("a new worker");
    erasure_is(&house, user, "done").await;
    let named = "select count(*) from users where name = 'erased'";
    assert_eq!(count(house.db(), named).await, 1, "the name is still there");
    assert_eq!(count(house.db(), "select count(*) from access_changes").await, 0, "the address is still there");
    assert_eq!(count(house.db(), "select count(*) from letters where kind = 'erasure_done'").await, 0);
}
