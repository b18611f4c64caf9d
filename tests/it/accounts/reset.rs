//! A forgotten password, and another one.
use futures::future::join_all;
use house::{Customer, House, Visitor};

use super::{FIREFOX, SAFARI, assert_stale, behind_a_proxy, browser_at, is_in, log_in, send, stolen_cookie};
use crate::{
    shop::{SOON, open, open_with, until},
    world::count,
};

const ANOTHER: &str = "purple lantern on ice";

/// Asks for a link and gives it; the number is how many letters of this kind there are then.
pub(super) async fn link(house: &House, customer: &Customer, nth: usize) -> url::Url {
    sqlx::query("update access_changes set created_at = created_at - interval '2 minutes'")
        .execute(house.db())
        .await
        .expect("time passes");
    let asked = send(&customer.visitor, "/accounts/reset/", "/accounts/reset/", &[("email", &customer.email)]).await;
    assert_eq!(asked.status, 200, "{}", asked.text());
    let letter = house.mail().wait_for(&customer.email, "choose a new password", nth, SOON).await.expect("the letter");
    letter.link("/accounts/reset/").expect("a link")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_password_is_replaced_once_and_every_session_ends() {
    let house = open_with(behind_a_proxy("reset")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let phone = browser_at(&house, "198.51.100.1", SAFARI);
    log_in(&phone, &customer.email, &customer.password).await;
    assert!(is_in(&phone).await && is_in(&customer.visitor).await);

    let stranger = browser_at(&house, "198.51.100.2", FIREFOX);
    let ask = |email: &'static str| {
        let stranger = stranger.clone();
        async move { send(&stranger, "/accounts/reset/", "/accounts/reset/", &[("email", email)]).await }
    };
    let nobody = ask("nobody@example.test").await;
    assert_eq!(ask("nobody").await.status, 422);
    let link = link(&house, &customer, 1).await;
    let works = "select count(*) from access_changes where kind = 'reset_password'
        and expires_at between now() + interval '25 minutes' and now() + interval '30 minutes'";
    assert_eq!(count(house.db(), works).await, 1, "the link does not work for 30 minutes");
    let somebody = send(&stranger, "/accounts/reset/", "/accounts/reset/", &[("email", customer.email.as_str())]).await;
    assert_eq!((nobody.status, nobody.text()), (somebody.status, somebody.text()), "it tells who is known");

    let form = phone.open(link.as_str()).await.expect("the form").ok().expect("the form");
    for weak in ["short", "password1234", customer.email.as_str()] {
        let answer = phone.submit(&form, "/accounts/reset/new/", &[("password", weak)]).await.expect("an answer");
        assert_eq!(answer.status, 422, "{weak}: {}", answer.text());
        assert!(answer.texts("#password-fault").concat().len() > 10, "{weak}: nothing beside the field");
    }
    let values = [("password", ANOTHER)];
    let (one, two) = tokio::join!(
        phone.submit(&form, "/accounts/reset/new/", &values),
        phone.submit(&form, "/accounts/reset/new/", &values)
    );
    let pages = [one.expect("an answer"), two.expect("an answer")];
    let won = pages.iter().filter(|page| page.status == 200 && page.text().contains("password is changed")).count();
    assert_eq!(won, 1, "the link worked {won} times: {:?}", pages.map(|page| (page.status, page.text())));

    assert!(!is_in(&phone).await && !is_in(&customer.visitor).await, "a session outlived the password");
    assert_eq!(log_in(&phone, &customer.email, &customer.password).await.status, 422, "the old password fits");
    log_in(&phone, &customer.email, ANOTHER).await;
    assert!(is_in(&phone).await, "the new password does not fit");
    house.mail().wait_for(&customer.email, "password was changed", 1, SOON).await.expect("a letter tells");
    assert_stale(&stranger.open(link.as_str()).await.expect("a page"), "used already", "/accounts/reset/");
    let private = "select count(*) from letters where occasion like '%@%'";
    assert_eq!(count(house.db(), private).await, 0, "an occasion names somebody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_old_garbled_or_for_something_else_says_what_to_do() {
    let house = open("reset-links").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let other = Customer::signed_in(&house).await.expect("another");
    let first = link(&house, &customer, 1).await;
    let theirs = link(&house, &other, 1).await;
    let whole = first.as_str();
    let tag_of = |link: &url::Url| link.query_pairs().find(|(name, _)| name == "tag").expect("a tag").1.into_owned();
    let id_of = |link: &url::Url| link.query_pairs().find(|(name, _)| name == "id").expect("an id").1.into_owned();
    let mixed = format!("/accounts/reset/?id={}&tag={}", id_of(&first), tag_of(&theirs));
    let elsewhere = format!("/accounts/unlock/?id={}&tag={}", id_of(&first), tag_of(&first));
    let nobodys = format!("/accounts/reset/?id={}&tag={}", uuid::Uuid::new_v4(), tag_of(&first));
    for garbled in [&whole[..whole.len() - 4], &format!("{whole}x"), &mixed, &nobodys, "/accounts/reset/?id=x&tag="] {
        let page = customer.visitor.open(garbled).await.expect("a page");
        assert_stale(&page, "does not work", "/accounts/reset/");
    }
    assert_stale(&customer.visitor.open(&elsewhere).await.expect("a page"), "does not work", "/accounts/login/");

    let form = customer.visitor.open(whole).await.expect("the form").ok().expect("the form");
    sqlx::query("update access_changes set expires_at = now() - interval '1 second'")
        .execute(house.db())
        .await
        .expect("time passes");
    assert_stale(&customer.visitor.open(whole).await.expect("a page"), "too old", "/accounts/reset/");
    let late = customer.visitor.submit(&form, "/accounts/reset/new/", &[("password", ANOTHER)]).await;
    assert_stale(&late.expect("a page"), "too old", "/accounts/reset/");
    assert!(is_in(&customer.visitor).await, "an old link logged somebody out");
    assert_eq!(count(house.db(), "select count(*) from letters where kind = 'password_changed'").await, 0);

    // Of two links the one that is used makes the other worthless.
    let second = link(&house, &customer, 2).await;
    let third = link(&house, &customer, 3).await;
    let form = customer.visitor.open(third.as_str()).await.expect("the form").ok().expect("the form");
    let done = customer.visitor.submit(&form, "/accounts/reset/new/", &[("password", ANOTHER)]).await;
    assert!(done.expect("an answer").text().contains("password is changed"));
    assert_stale(&customer.visitor.open(second.as_str()).await.expect("a page"), "used already", "/accounts/reset/");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_password_asks_for_the_present_one_and_ends_every_other_session() {
    let house = open("another-password").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let cookie = stolen_cookie(&house, &customer.email, &customer.password).await;
    let owner = Visitor::with_cookie(house.url(), &cookie).expect("a browser");
    let thief = Visitor::with_cookie(house.url(), &cookie).expect("a browser");
    assert!(is_in(&thief).await);
    let change = async |old: &str, new: &str| {
        send(&owner, "/accounts/password/", "/accounts/password/", &[("old", old), ("password", new)]).await
    };
    for (old, new, field) in [
        ("not my password", ANOTHER, "old"),
        // Nothing is said of a new password, and so nothing is weighed, for whoever does not know the present one.
        ("not my password", "short", "old"),
        (customer.password.as_str(), "short", "password"),
        (&customer.password, &customer.password, "password"),
        ("", ANOTHER, "old"),
    ] {
        let answer = change(old, new).await;
        assert_eq!(answer.status, 422, "{old:?} {new:?}: {}", answer.text());
        assert_eq!(answer.attributes("#faults a", "href"), [format!("#{field}")], "{old:?} {new:?}");
        assert!(!answer.html.contains(ANOTHER), "a password is written into the page");
    }
    let done = change(&customer.password, ANOTHER).await;
    assert!(done.status == 200 && done.text().contains("password is changed"), "{}", done.text());
    assert!(is_in(&owner).await, "whoever changed it is logged out");
    assert!(!is_in(&thief).await, "the session's old id still opens it");
    assert!(!is_in(&customer.visitor).await, "another session outlived the password");
    assert_eq!(count(house.db(), "select count(*) from devices").await, 0, "a browser that may be a thief's is known");
    house.mail().wait_for(&customer.email, "password was changed", 1, SOON).await.expect("a letter tells");
    log_in(&customer.visitor, &customer.email, ANOTHER).await;
    assert!(is_in(&customer.visitor).await, "the new password does not fit");

    let mut guesses = vec![];
    for number in 1..=14 {
        let guess = format!("my guess number {number}");
        let values = [("old", guess.as_str()), ("password", "green bottle on sand")];
        let answer = send(&owner, "/accounts/password/", "/accounts/password/", &values).await;
        guesses.push(answer.status);
        if answer.status == 429 {
            return;
        }
    }
    panic!("a stolen session may guess the password for ever: {guesses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_on_its_way_while_the_password_is_replaced_opens_nothing() {
    let house = open_with(behind_a_proxy("reset-race").with("EZ_LIMIT_ADDRESS", "20")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let link = link(&house, &customer, 1).await;
    let form = customer.visitor.open(link.as_str()).await.expect("the form").ok().expect("the form");
    let thieves: Vec<Visitor> =
        (1..=8).map(|number| browser_at(&house, &format!("203.0.113.{number}"), FIREFOX)).collect();
    let values = [("password", ANOTHER)];
    let (done, _) = tokio::join!(
        customer.visitor.submit(&form, "/accounts/reset/new/", &values),
        join_all(thieves.iter().map(|thief| log_in(thief, &customer.email, &customer.password)))
    );
    assert!(done.expect("an answer").text().contains("password is changed"));
    for thief in &thieves {
        assert!(!is_in(thief).await, "a session slipped in while all were ended");
    }

    // What such a session leaves, wherever between its check and its row the others ended.
    let late = browser_at(&house, "198.51.100.4", SAFARI);
    log_in(&late, &customer.email, ANOTHER).await;
    assert!(is_in(&late).await);
    end_epoch(&house, &customer).await;
    assert!(!is_in(&late).await, "a session of an epoch that is over goes on");
    let now = browser_at(&house, "198.51.100.5", SAFARI);
    log_in(&now, &customer.email, ANOTHER).await;
    let listed = now.open("/accounts/sessions/").await.expect("a page").ok().expect("the list");
    assert!(!listed.text().contains("198.51.100.4"), "a session that opens nothing is listed: {}", listed.text());
}

/// As when somebody else ends every session at this moment.
async fn end_epoch(house: &House, customer: &Customer) {
    sqlx::query("update users set access_epoch = access_epoch + 1 where email = $1")
        .bind(&customer.email)
        .execute(house.db())
        .await
        .expect("an epoch ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_logged_out_meanwhile_changes_nothing_with_a_form_that_is_on_its_way() {
    let house = open("overtaken").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let password = customer.password.as_str();
    for (path, values) in [
        ("/accounts/password/", vec![("old", password), ("password", ANOTHER)]),
        ("/accounts/address/", vec![("email", "thief@example.test")]),
        ("/accounts/close/", vec![("sure", "yes"), ("password", password)]),
    ] {
        if !is_in(&customer.visitor).await {
            log_in(&customer.visitor, &customer.email, password).await;
        }
        let form = customer.visitor.open(path).await.expect("a page").ok().expect("the form");
        // The user is locked, as by a link that replaces the password; the form's handler waits for it.
        let mut tx = house.db().begin().await.expect("a transaction");
        sqlx::query("update users set access_epoch = access_epoch + 1 where email = $1")
            .bind(&customer.email)
            .execute(&mut *tx)
            .await
            .expect("an epoch ends");
        let (answer, ()) = tokio::join!(customer.visitor.submit(&form, path, &values), async {
            until("the form waits", SOON, || async {
                let waits = "select count(*) from pg_stat_activity where datname = current_database()
                             and wait_event_type = 'Lock' and query like '%access_epoch = $2%'";
                (count(house.db(), waits).await > 0).then_some(())
            })
            .await;
            tx.commit().await.expect("committed");
        });
        let answer = answer.expect("an answer");
        assert_eq!(answer.url.path(), "/accounts/login/", "{path}: {}", answer.text());
    }
    let changes =
        "select count(*) from letters where kind in ('password_changed', 'address_confirm', 'account_closed')";
    assert_eq!(count(house.db(), changes).await, 0, "something was changed after the log-out");
    log_in(&customer.visitor, &customer.email, password).await;
    assert!(is_in(&customer.visitor).await, "the password is another one");
}
