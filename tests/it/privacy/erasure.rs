//! The end of everything about somebody.
use std::collections::BTreeSet;

use house::{Customer, OrderForm};
use serde_json::{Value, json};
use store::privacy::personal::{Rows, tables};

use super::{ask_and_confirm, erase_page, erasure_is, house_of, ids, somebody_with_a_past};
use crate::{
    accounts::{assert_stale, is_in, log_in},
    attention::staff,
    histories,
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, count, list, table},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_that_the_law_lets_go_and_what_stays_names_nobody() {
    let house = open_with(house_of("erase", 2)).await;
    let (ann, bob) = tokio::join!(somebody_with_a_past(&house, "ann-1"), somebody_with_a_past(&house, "bob-1"));
    let (account, user) = ids(&house, &ann.email).await;
    ask_and_confirm(&house, &ann).await;
    assert!(!is_in(&ann.visitor).await, "a session outlived the account");
    assert_eq!(log_in(&house.visitor().expect("a browser"), &ann.email, &ann.password).await.status, 422);
    let last = house.mail().wait_for(&ann.email, "is erased", 1, SOON).await.expect("the last letter");
    for words in ["Tax and commercial law", "31 December", "invoices as they were issued"] {
        assert!(last.text.contains(words), "the last letter does not say {words}: {}", last.text);
    }
    let id = erasure_is(&house, user, "done").await;

    let mut whole = String::new();
    for one in tables() {
        for row in table(house.db(), one.name).await {
            whole.push_str(&row.to_string());
            whole.push('\n');
        }
    }
    for word in [ann.email.as_str(), "ann-1", &ann.password] {
        assert!(!whole.contains(word), "{word} is still in a table");
    }
    assert!(whole.contains(&bob.email) && whole.contains("bob-1"), "somebody else was erased");
    for one in tables().filter(|one| one.rows == Rows::Removed && one.columns.iter().any(|c| c.name == "account_id")) {
        let left = table(house.db(), one.name).await.iter().filter(|row| row["account_id"] == json!(account)).count();
        assert_eq!(left, 0, "rows of {} are left", one.name);
    }
    let books = "select count(*) from payments p join subscriptions s on s.account_id = p.account_id
         join invoices i on i.subscription_id = s.id where i.pdf_url is null and p.receipt_url is null";
    assert!(count(house.db(), books).await >= 1, "the books went, too");
    let customers = list(&house.stripe().state().await.expect("Stripe")["customers"]);
    let emails: BTreeSet<&str> = customers.iter().filter_map(|customer| customer["email"].as_str()).collect();
    assert!(!emails.contains(ann.email.as_str()) && emails.contains(bob.email.as_str()), "{emails:?}");

    let staff = staff(&house).await;
    let page = staff.visitor.open("/staff/erasures/").await.expect("a page").ok().expect("the page");
    assert!(page.text().contains("Erased") && page.text().contains("until 31 December"), "{}", page.text());
    assert!(page.text().contains(&account.to_string()) && !page.html.contains(&ann.email), "{}", page.text());
    assert!(bob.visitor.open("/staff/erasures/").await.expect("an answer").status == 404, "customers see it");
    histories::keep(&house, &format!("erasure-{id}"), "erasure-done").await;
    let back = Customer::at(&house, "Ann Again", &ann.email, "orange ladder in fog").expect("somebody");
    back.sign_up().await.expect("the address is free");
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_is_taken_back_leaves_everything_as_it_was() {
    let house = open_with(house_of("erase-back", 600)).await;
    let ann = Customer::signed_in(&house).await.expect("a customer");
    let bob = Customer::signed_in(&house).await.expect("somebody else");
    let (_, user) = ids(&house, &ann.email).await;
    let page = erase_page(&house, &ann).await;
    let foreign = bob.visitor.open(page.url.as_str()).await.expect("an answer");
    assert_stale(&foreign, "another account", "/accounts/data/");
    assert!(is_in(&ann.visitor).await, "opening the link closed the account");
    let done = ann.visitor.submit(&page, "/accounts/erase/confirm/", &[]).await.expect("an answer");
    assert_eq!(done.status, 200, "{}", done.text());
    let letter = house.mail().wait_for(&ann.email, "will be erased", 1, SOON).await.expect("a letter");
    let link = letter.link("/accounts/erase/undo/").expect("a link");
    let stranger = house.visitor().expect("a browser");
    let garbled = stranger.open(&link.as_str().replace("tag=", "tag=A")).await.expect("an answer");
    assert_stale(&garbled, "does not work", "/accounts/login/");
    // The link that confirms is none that takes back.
    let other = page.url.as_str().replace("/confirm/", "/undo/");
    assert_stale(&stranger.open(&other).await.expect("an answer"), "does not work", "/accounts/login/");

    // Nobody keeps her out by signing up in her name.
    let eve = Customer::at(&house, "Eve", &ann.email, "orange ladder in fog").expect("somebody");
    eve.sign_up().await.expect("the address is free");
    let form = stranger.open(link.as_str()).await.expect("a page").ok().expect("the form");
    let weak = stranger.submit(&form, "/accounts/erase/undo/", &[("password", "short")]).await.expect("an answer");
    assert_eq!((weak.status, weak.attributes("#faults a", "href")), (422, vec!["#password".to_owned()]));
    let form = stranger.open(link.as_str()).await.expect("a page").ok().expect("the form");
    let values = [("password", "violet kettle hums")];
    let back = stranger.submit(&form, "/accounts/erase/undo/", &values).await.expect("an answer");
    assert_eq!((back.status, back.url.path()), (200, "/accounts/login/"), "{}", back.text());
    let id = erasure_is(&house, user, "taken_back").await;
    histories::keep(&house, &format!("erasure-{id}"), "erasure-taken-back").await;
    house.mail().wait_for(&ann.email, "is open again", 1, SOON).await.expect("a letter says so");
    let again = stranger.open(link.as_str()).await.expect("an answer");
    assert_stale(&again, "was used already", "/accounts/login/");
    log_in(&stranger, &ann.email, "violet kettle hums").await;
    assert!(is_in(&stranger).await, "the account did not come back");
    assert_eq!(
        log_in(&house.visitor().expect("a browser"), &ann.email, &ann.password).await.status,
        422,
        "the old password"
    );
    assert_eq!(log_in(&eve.visitor, &ann.email, "orange ladder in fog").await.status, 422, "a stranger is still in");
    let named = "select count(*) from erasures where email is not null";
    assert_eq!(count(house.db(), named).await, 0, "an address is kept that nobody needs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_while_something_lives_or_money_is_owed_and_the_page_says_what_to_do() {
    let house = open_with(house_of("erase-refused", 600)).await;
    let ann = Customer::signed_in(&house).await.expect("a customer");
    let early = erase_page(&house, &ann).await;
    let order = ann.buy(&OrderForm::small("alive-1")).await.expect("buying");
    ann.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let page = ann.visitor.open("/accounts/erase/").await.expect("a page").ok().expect("the reasons");
    assert!(page.text().contains("alive-1") && !page.has_form("/accounts/erase/"), "{}", page.text());
    // A link from before does not help.
    let late = ann.visitor.submit(&early, "/accounts/erase/confirm/", &[]).await.expect("an answer");
    assert!(late.status == 409 && late.text().contains("alive-1"), "{} {}", late.status, late.text());
    assert!(is_in(&ann.visitor).await, "what was refused closed the account");

    let bob = Customer::signed_in(&house).await.expect("somebody else");
    let (account, _) = ids(&house, &bob.email).await;
    let owes = "insert into billing_customers (id, account_id, deleted, balance_minor, currency, delinquent, read_at)
         values ('cus_owes', $1, false, 700, 'eur', false, now())";
    sqlx::query(owes).bind(account).execute(house.db()).await.expect("a debt");
    let page = bob.visitor.open("/accounts/erase/").await.expect("a page").ok().expect("the reasons");
    assert!(page.text().contains("EUR 7.00 is owed to us"), "{}", page.text());
    let credit = "update billing_customers set balance_minor = -300 where id = 'cus_owes'";
    sqlx::query(credit).execute(house.db()).await.expect("a credit");
    let page = bob.visitor.open("/accounts/erase/").await.expect("a page").ok().expect("the reasons");
    assert!(page.text().contains("You have a credit of EUR 3.00"), "{}", page.text());

    let staff = staff(&house).await;
    let page = staff.visitor.open("/accounts/erase/").await.expect("a page").ok().expect("the reasons");
    assert!(page.text().contains("You work here"), "{}", page.text());
    assert_eq!(count(house.db(), "select count(*) from accounts where closed_at is not null").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_nobody_confirms_lapses_and_one_that_is_held_goes_on_later() {
    let house = open_with(house_of("erase-held", 1)).await;
    let ann = Customer::signed_in(&house).await.expect("a customer");
    let (account, user) = ids(&house, &ann.email).await;
    let page = erase_page(&house, &ann).await;
    sqlx::query("update erasures set expires_at = now()").execute(house.db()).await.expect("a day later");
    let late = ann.visitor.submit(&page, "/accounts/erase/confirm/", &[]).await.expect("an answer");
    assert_stale(&late, "too old", "/accounts/data/");
    assert!(is_in(&ann.visitor).await);

    let form = ann.visitor.open("/accounts/erase/").await.expect("a page").ok().expect("the form");
    let values = [("password", ann.password.as_str())];
    ann.visitor.submit(&form, "/accounts/erase/", &values).await.expect("an answer").ok().expect("asked again");
    let letter = house.mail().wait_for(&ann.email, "about you erased", 2, SOON).await.expect("another letter");
    let link = letter.link("/accounts/erase/confirm/").expect("a link");
    let page = ann.visitor.open(link.as_str()).await.expect("a page").ok().expect("the button");
    // The worker is away while the days go by, and money moves meanwhile.
    house.stop_worker().await.expect("nobody works");
    ann.visitor.submit(&page, "/accounts/erase/confirm/", &[]).await.expect("an answer").ok().expect("closed");
    let owes = "insert into billing_customers (id, account_id, deleted, balance_minor, currency, delinquent, read_at)
         values ('cus_late', $1, false, 700, 'eur', false, now())";
    sqlx::query(owes).bind(account).execute(house.db()).await.expect("a debt");
    house.start_worker().await.expect("a worker");
    until("it is held, and says why", SOON, || async {
        let why: Option<Option<String>> =
            sqlx::query_scalar("select held_because from erasures where user_id = $1 and state = 'waiting'")
                .bind(user)
                .fetch_optional(house.db())
                .await
                .expect("the table");
        why.flatten().filter(|why| why.contains("EUR 7.00"))
    })
    .await;
    let staff = staff(&house).await;
    let board = staff.visitor.open("/staff/erasures/").await.expect("a page").ok().expect("the page").text();
    assert!(board.contains("Held") && board.contains("EUR 7.00 is owed to us"), "{board}");
    sqlx::query("delete from billing_customers where id = 'cus_late'").execute(house.db()).await.expect("paid");
    erasure_is(&house, user, "done").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_between_the_wish_and_the_button_keeps_everything() {
    let house = open_with(house_of("erase-race", 600)).await;
    let ann = Customer::signed_in(&house).await.expect("a customer");
    let page = erase_page(&house, &ann).await;
    ann.order(&OrderForm::small("between-1")).await.expect("the payment page");
    let refused = ann.visitor.submit(&page, "/accounts/erase/confirm/", &[]).await.expect("an answer");
    assert!(refused.status == 409 && refused.text().contains("between-1"), "{}", refused.text());
    // Of two who press at once, one closes it.
    let bob = Customer::signed_in(&house).await.expect("somebody else");
    let page = erase_page(&house, &bob).await;
    let press = || bob.visitor.submit(&page, "/accounts/erase/confirm/", &[]);
    let (one, other) = tokio::join!(press(), press());
    let closed =
        [one, other].into_iter().filter_map(Result::ok).filter(|page| page.text().contains("is closed")).count();
    assert_eq!(closed, 1, "closed {closed} times");
    let (told, kinds): (i64, Value) =
        sqlx::query_as("select count(*), coalesce(jsonb_agg(kind), '[]') from letters where kind = 'erasure_waiting'")
            .fetch_one(house.db())
            .await
            .expect("letters");
    assert_eq!(told, 1, "told {told} times: {kinds}");
}
