//! Passkeys: added, used as second step and alone, and every answer that does not fit refused.
use house::{Customer, House, HouseOptions, Page, Visitor};

use super::{authenticator::Authenticator, half_in};
use crate::{
    accounts::{is_in, log_in},
    shop::{SOON, open, open_with, until},
    world::count,
};

const ADD: &str = "/accounts/factors/passkey/";
const ALONE: &str = "/accounts/login/passkey/";

/// Browsers bind passkeys to names.
async fn named(name: &str) -> House {
    open_with(HouseOptions::named(name).at_localhost().with("EZ_STEP_UP_SECS", "600")).await
}

async fn add(customer: &Customer, name: &str) -> (Authenticator, Page) {
    let page = customer.visitor.open(ADD).await.expect("a page").ok().expect("the page");
    let (authenticator, credential) = Authenticator::create(&page);
    let values = [("name", name), ("credential", credential.as_str())];
    let added = customer.visitor.submit(&page, ADD, &values).await.expect("an answer");
    assert!(added.status == 200 && added.text().contains("passkey is added"), "{} {}", added.status, added.text());
    (authenticator, added)
}

async fn page(browser: &Visitor, path: &str) -> Page {
    browser.open(path).await.expect("a page").ok().expect("the page")
}

async fn answer(browser: &Visitor, page: &Page, path: &str, credential: &str) -> Page {
    browser.submit(page, path, &[("credential", credential)]).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_is_a_second_step_a_log_in_of_its_own_and_says_again_who_one_is() {
    let house = named("passkey").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (mut phone, added) = add(&customer, "my phone").await;
    assert_eq!(added.texts("#recovery-codes li").len(), 10);
    assert!(is_in(&customer.visitor).await, "whoever added it is logged out");
    house.mail().wait_for(&customer.email, "log in with was changed", 1, SOON).await.expect("a letter tells");
    let (_, added) = add(&customer, "a key").await;
    assert!(added.texts("#recovery-codes li").is_empty() && added.text().contains("still count"), "{}", added.text());

    let (browser, second) = half_in(&house, &customer).await;
    answer(&browser, &second, "/accounts/login/second/", &phone.sign(&second)).await.ok().expect("let in");
    assert!(is_in(&browser).await, "not let in by the second step");

    let alone = house.visitor().expect("a browser");
    let form = page(&alone, ALONE).await;
    let entered = answer(&alone, &form, ALONE, &phone.sign(&form)).await;
    assert!(entered.status == 200 && is_in(&alone).await, "{} {}", entered.status, entered.text());
    let remembered = "select count(*) from sessions where user_id is not null and remembered";
    assert_eq!(count(house.db(), remembered).await, 0, "nobody wanted to stay logged in");
    let staying = house.visitor().expect("a browser");
    let form = page(&staying, ALONE).await;
    let signed = phone.sign(&form);
    let values = [("credential", signed.as_str()), ("remember", "yes")];
    staying.submit(&form, ALONE, &values).await.expect("an answer").ok().expect("let in");
    assert_eq!(count(house.db(), remembered).await, 1, "a passkey alone forgets who wanted to stay");
    sqlx::query("update sessions set proven_at = now() - interval '11 minutes'")
        .execute(house.db())
        .await
        .expect("time passes");
    let asked = alone.open(ADD).await.expect("a page");
    assert_eq!(asked.url.path(), "/accounts/again/");
    let back = answer(&alone, &asked, "/accounts/again/", &phone.sign(&asked)).await;
    assert_eq!((back.status, back.url.path()), (200, ADD), "{}", back.text());
    sqlx::query("update sessions set proven_at = now() - interval '11 minutes'")
        .execute(house.db())
        .await
        .expect("time passes");
    let asked = alone.open("/accounts/address/").await.expect("a page");
    let back = answer(&alone, &asked, "/accounts/again/", &phone.sign(&asked)).await;
    assert_eq!((back.status, back.url.path()), (200, "/accounts/address/"), "{}", back.text());
    let sent = alone.submit(&back, "/accounts/address/", &[("email", "moved@example.test")]).await.expect("an answer");
    assert!(sent.text().contains("Open the letter"), "a passkey is not enough for another address: {}", sent.text());

    let listed = page(&alone, "/accounts/factors/").await;
    assert!(listed.text().contains("my phone") && listed.text().contains("a key"), "{}", listed.text());
    for _ in 0..2 {
        let listed = page(&alone, "/accounts/factors/").await;
        alone.submit(&listed, "/accounts/factors/passkey/remove/", &[]).await.expect("an answer").ok().expect("gone");
    }
    assert_eq!(count(house.db(), "select count(*) from passkeys").await, 0);
    assert!(is_in(&alone).await && !is_in(&browser).await, "the others had to end");
    let stranger = house.visitor().expect("a browser");
    let form = page(&stranger, ALONE).await;
    assert_eq!(answer(&stranger, &form, ALONE, &phone.sign(&form)).await.status, 422, "a passkey that is gone works");
    log_in(&stranger, &customer.email, &customer.password).await;
    assert!(is_in(&stranger).await, "the password alone is enough again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_old_forged_copied_or_somebody_elses_lets_nobody_in() {
    let house = named("passkey-forged").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let other = Customer::signed_in(&house).await.expect("somebody else");
    let (mut phone, _) = add(&customer, "my phone").await;
    let (mut theirs, _) = add(&other, "their phone").await;
    let browser = house.visitor().expect("a browser");

    let first = page(&browser, ALONE).await;
    let used = phone.sign(&first);
    let ceremony = first.attributes("input[name=ceremony]", "value").into_iter().next().expect("a ceremony");
    let thief = house.visitor().expect("a browser");
    answer(&browser, &first, ALONE, &used).await.ok().expect("let in");
    let form = page(&thief, ALONE).await;
    assert_eq!(answer(&thief, &form, ALONE, &used).await.status, 422, "an answer worked for another question");
    let values = [("credential", used.as_str()), ("ceremony", ceremony.as_str())];
    let replayed = thief.submit(&form, ALONE, &values).await.expect("an answer");
    assert_eq!(replayed.status, 422, "an answer worked two times");

    let form = page(&thief, ALONE).await;
    let origin = core::mem::replace(&mut phone.origin, "https://evil.example".to_owned());
    assert_eq!(answer(&thief, &form, ALONE, &phone.sign(&form)).await.status, 422, "signed at another site");
    phone.origin = origin;
    let form = page(&thief, ALONE).await;
    phone.verifies = false;
    assert_eq!(answer(&thief, &form, ALONE, &phone.sign(&form)).await.status, 422, "nobody checked who holds it");
    phone.verifies = true;
    let form = page(&thief, ALONE).await;
    phone.count = 1;
    assert_eq!(answer(&thief, &form, ALONE, &phone.sign(&form)).await.status, 422, "a copy of the device got in");
    let form = page(&thief, ALONE).await;
    let mut bent = phone.sign(&form);
    bent = bent.replace("\"signature\":\"", "\"signature\":\"AA");
    assert_eq!(answer(&thief, &form, ALONE, &bent).await.status, 422);
    let form = page(&thief, ALONE).await;
    assert_eq!(answer(&thief, &form, ALONE, "not JSON").await.status, 422);
    let form = page(&thief, ALONE).await;
    phone.count = 50;
    let late = phone.sign(&form);
    sqlx::query("update passkey_ceremonies set expires_at = now()").execute(house.db()).await.expect("time passes");
    assert_eq!(answer(&thief, &form, ALONE, &late).await.status, 422, "an answer after ten minutes");
    assert!(!is_in(&thief).await);
    let known = "select count(*) from audit where action = 'log_in.refused' and account_id is not null";
    assert!(count(house.db(), known).await >= 4, "the owner does not see that their passkey was tried");
    let of_nobody = "select count(*) from audit where action = 'log_in.refused' and account_id is null";
    assert!(count(house.db(), of_nobody).await >= 3, "what names nobody is not in the trail");

    let (half, second) = half_in(&house, &customer).await;
    let refused = answer(&half, &second, "/accounts/login/second/", &theirs.sign(&second)).await;
    assert_eq!(refused.status, 422, "somebody else's passkey is a second factor");
    let form = page(&thief, ALONE).await;
    let misused = phone.sign(&form);
    let its = form.attributes("input[name=ceremony]", "value").into_iter().next().expect("a ceremony");
    let values = [("credential", misused.as_str()), ("ceremony", its.as_str())];
    let crossed = half.submit(&refused, "/accounts/login/second/", &values).await.expect("an answer");
    assert_eq!(crossed.status, 422, "an answer to one question fits another");
    assert!(!is_in(&half).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_is_added_by_its_owner_alone_and_once() {
    let house = named("passkey-add").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let other = Customer::signed_in(&house).await.expect("somebody else");
    let form = page(&customer.visitor, ADD).await;
    let (_, credential) = Authenticator::create(&form);
    let unnamed = customer.visitor.submit(&form, ADD, &[("credential", &credential)]).await.expect("an answer");
    assert_eq!((unnamed.status, unnamed.attributes("#faults a", "href")), (422, vec!["#name".to_owned()]));
    let ceremony = form.attributes("input[name=ceremony]", "value").into_iter().next().expect("a ceremony");
    let theirs = page(&other.visitor, ADD).await;
    let values = [("name", "x"), ("credential", credential.as_str()), ("ceremony", ceremony.as_str())];
    let stolen = other.visitor.submit(&theirs, ADD, &values).await.expect("an answer");
    assert_eq!(stolen.status, 422, "what was asked of one was answered by another");
    let values = [("name", "x"), ("credential", credential.as_str())];
    let added = customer.visitor.submit(&form, ADD, &values).await.expect("an answer");
    assert_eq!(added.status, 200, "{}", added.text());
    let again = customer.visitor.open(ADD).await.expect("a page");
    let values = [("name", "x"), ("credential", credential.as_str()), ("ceremony", ceremony.as_str())];
    assert_eq!(customer.visitor.submit(&again, ADD, &values).await.expect("an answer").status, 422, "added two times");
    assert_eq!(count(house.db(), "select count(*) from passkeys").await, 1);
    assert_eq!(count(house.db(), "select count(*) from recovery_codes").await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_first_with_the_address_of_a_new_admin_keeps_no_passkey_into_it() {
    let house = named("passkey-staff").await;
    let first = Customer::signed_in(&house).await.expect("somebody");
    let (mut theirs, _) = add(&first, "kept").await;
    let words = ["user", "create", "--email", &first.email, "--staff"];
    house.run_ez(&words, "a password of the admin's own").await.expect("an admin");
    assert_eq!(count(house.db(), "select count(*) from users where email like 'ada-%' and is_staff").await, 1);
    assert!(!is_in(&first.visitor).await, "a session of before is an admin's");
    let stranger = house.visitor().expect("a browser");
    let form = page(&stranger, ALONE).await;
    assert_eq!(answer(&stranger, &form, ALONE, &theirs.sign(&form)).await.status, 422, "it opens what an admin may do");
    assert!(!is_in(&stranger).await);
    for left in ["select count(*) from passkeys", "select count(*) from recovery_codes", "select count(*) from devices"]
    {
        assert_eq!(count(house.db(), left).await, 0, "{left}");
    }
    house.mail().wait_for(&first.email, "log in with was changed", 2, SOON).await.expect("a letter tells");
    log_in(&stranger, &first.email, "a password of the admin's own").await;
    assert!(is_in(&stranger).await, "the password that was given is not enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_without_a_name_says_that_it_has_no_passkeys_and_everything_else_works() {
    let house = open("passkey-none").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    for path in [ADD, "/accounts/factors/"] {
        let page = page(&customer.visitor, path).await;
        assert!(page.text().contains("do not work at this address"), "{path}: {}", page.text());
    }
    let stranger = house.visitor().expect("a browser");
    assert!(page(&stranger, ALONE).await.text().contains("do not work at this address"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_with_a_passkey_that_was_checked_before_everything_was_ended_opens_nothing() {
    let house = named("passkey-ended").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (mut phone, _) = add(&customer, "my phone").await;
    let browser = house.visitor().expect("a browser");
    let form = page(&browser, ALONE).await;
    let signed = phone.sign(&form);
    let mut held = house.db().begin().await.expect("a transaction");
    sqlx::query("select id from passkeys for update").fetch_all(&mut *held).await.expect("the passkey is held");
    let ended = async {
        until("the log-in waits to note that the passkey was used", SOON, || async {
            let waits = "select count(*) from pg_stat_activity
                where datname = current_database() and wait_event_type = 'Lock' and query like '%passkeys%'";
            (count(house.db(), waits).await > 0).then_some(())
        })
        .await;
        let all = "update users set access_epoch = access_epoch + 1 where email = $1";
        sqlx::query(all).bind(&customer.email).execute(house.db()).await.expect("every session is ended");
        held.commit().await.expect("let go");
    };
    let (entered, ()) = tokio::join!(answer(&browser, &form, ALONE, &signed), ended);
    assert!(!is_in(&browser).await, "it began after everything was ended: {}", entered.text());
}
