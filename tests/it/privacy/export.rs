//! A copy of everything.
use house::Customer;
use serde_json::json;

use super::{KEY, copy_page, files, house_of, ids, press, rows, somebody_with_a_past};
use crate::{
    accounts::{assert_stale, log_in},
    histories,
    shop::{SOON, open, open_with, until},
    world::{assert_stripe_contract, count},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_holds_what_the_journey_made_and_nothing_of_anybody_else() {
    let house = open_with(house_of("copy", 600)).await;
    let (ann, bob) = tokio::join!(somebody_with_a_past(&house, "ann-1"), somebody_with_a_past(&house, "bob-1"));
    let page = copy_page(&house, &ann, 1).await;
    assert!(page.status == 200 && page.text().contains("Fetch my data"), "{}", page.text());
    let (status, kind, archive) = press(&ann, &page).await;
    assert_eq!((status, kind.as_str()), (200, "application/zip"));
    let files = files(archive);

    let (account, user) = ids(&house, &ann.email).await;
    let users = rows(&files, "users");
    assert_eq!((users.len(), &users[0]["email"], &users[0]["id"]), (1, &json!(ann.email), &json!(user)));
    assert!(users[0].get("password_hash").is_none(), "a secret is in the copy");
    assert_eq!(rows(&files, "accounts")[0]["id"], json!(account));
    let orders = rows(&files, "orders");
    assert_eq!((orders.len(), &orders[0]["hostname"]), (1, &json!("ann-1")));
    assert_eq!(orders[0]["sealed_ssh_key"], json!(KEY), "what was sealed is not opened for its owner");
    for name in ["timeline", "letters", "services", "subscriptions", "invoices", "payments", "sessions", "order_steps"]
    {
        assert!(!rows(&files, name).is_empty(), "no {name}, although the journey made some");
    }
    let at_stripe = rows(&files, "at_stripe");
    assert_eq!((at_stripe.len(), &at_stripe[0]["email"]), (1, &json!(ann.email)));
    assert!(files["users.csv"].lines().nth(1).is_some_and(|line| line.contains(&ann.email)), "{}", files["users.csv"]);
    assert!(files["README.txt"].contains("orders.json, orders.csv (1)"), "{}", files["README.txt"]);

    let foreign: Vec<String> = sqlx::query_scalar(
        "select x from (
            select id::text as x from users where email = $1 union select account_id::text from users where email = $1
            union select o.id::text from orders o join users u on u.account_id = o.account_id where u.email = $1
            union select s.id from subscriptions s join users u on u.account_id = s.account_id where u.email = $1
            union select p.id from payments p join users u on u.account_id = p.account_id where u.email = $1
         ) x",
    )
    .bind(&bob.email)
    .fetch_all(house.db())
    .await
    .expect("the ids of somebody else");
    assert!(foreign.len() > 4, "{foreign:?}");
    let whole: String = files.values().map(String::as_str).collect();
    for word in foreign.iter().map(String::as_str).chain([bob.email.as_str(), "bob-1"]) {
        assert!(!whole.contains(word), "{word} of somebody else is in the copy");
    }
    assert!(!whole.contains("$argon2"), "the hash of a password is in the copy");
    let sealed = "select count(*) from data_exports where sealed_archive is not null";
    assert_eq!(count(house.db(), sealed).await, 0, "what was fetched is still there");
    assert_stripe_contract(&house).await;
    let id: uuid::Uuid = sqlx::query_scalar("select id from data_exports where user_id = $1")
        .bind(user)
        .fetch_one(house.db())
        .await
        .expect("a copy");
    histories::keep(&house, &format!("export-{id}"), "export-made").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_to_a_copy_works_once_for_its_owner_and_for_some_days() {
    let house = open("copy-links").await;
    let ann = Customer::signed_in(&house).await.expect("a customer");
    let bob = Customer::signed_in(&house).await.expect("somebody else");
    let page = ann.visitor.open("/accounts/data/").await.expect("a page").ok().expect("the form");
    let wrong =
        ann.visitor.submit(&page, "/accounts/data/", &[("password", "not my password")]).await.expect("an answer");
    assert_eq!((wrong.status, wrong.attributes("#faults a", "href")), (422, vec!["#password".to_owned()]));

    let page = copy_page(&house, &ann, 1).await;
    let sealed: String = sqlx::query_scalar("select sealed_archive from data_exports where state = 'ready'")
        .fetch_one(house.db())
        .await
        .expect("a sealed archive");
    assert!(sealed.starts_with("1."), "it is not sealed");
    let foreign = bob.visitor.open(page.url.as_str()).await.expect("an answer");
    assert_stale(&foreign, "another account", "/accounts/data/");
    let stranger = house.visitor().expect("a browser");
    let asked = stranger.open(page.url.as_str()).await.expect("an answer");
    assert_eq!(asked.url.path(), "/accounts/login/", "a copy is shown to whoever has the link");
    let garbled = page.url.as_str().replace("tag=", "tag=A");
    assert_stale(&ann.visitor.open(&garbled).await.expect("an answer"), "does not work", "/accounts/data/");

    // Of two who press at once one gets it.
    let (one, other) = tokio::join!(press(&ann, &page), press(&ann, &page));
    let mut statuses = [one.0, other.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400], "fetched twice, or not at all");
    let used = ann.visitor.open(page.url.as_str()).await.expect("an answer");
    assert_stale(&used, "was fetched already", "/accounts/data/");

    let again = ann.visitor.open("/accounts/data/").await.expect("a page").ok().expect("the form");
    let values = [("password", ann.password.as_str())];
    let soon = ann.visitor.submit(&again, "/accounts/data/", &values).await.expect("an answer");
    assert!(soon.text().contains("less than an hour ago"), "{}", soon.text());
    sqlx::query("update data_exports set asked_at = asked_at - interval '2 hours'")
        .execute(house.db())
        .await
        .expect("an hour later");
    let page = copy_page(&house, &ann, 2).await;
    sqlx::query("update data_exports set expires_at = now() where state = 'ready'")
        .execute(house.db())
        .await
        .expect("days later");
    let (status, kind, _) = press(&ann, &page).await;
    assert!(status == 400 && kind.starts_with("text/html"), "an old copy is given: {status} {kind}");
    let old = ann.visitor.open(page.url.as_str()).await.expect("an answer");
    assert_stale(&old, "This copy is gone", "/accounts/data/");
    house.kill_worker().await.expect("kill -9");
    house.start_worker().await.expect("a new worker");
    until("what was too old is removed", SOON, || async {
        let left = "select count(*) from data_exports where sealed_archive is not null";
        (count(house.db(), left).await == 0).then_some(())
    })
    .await;
    assert_eq!(log_in(&house.visitor().expect("a browser"), &ann.email, &ann.password).await.status, 200);
}
