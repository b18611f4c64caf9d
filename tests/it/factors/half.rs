//! Between the two steps of a log-in: nothing is reached, nothing lasts, and nobody guesses.
use house::Customer;

use super::{add_app, codes_pass, half_in, send_code};
use crate::{accounts::is_in, shop::open, world::count};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_showed_a_password_alone_reaches_nothing() {
    let house = open("half").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    add_app(&customer).await;
    let (browser, form) = half_in(&house, &customer).await;
    for path in [
        "/dashboard/",
        "/accounts/",
        "/accounts/password/",
        "/accounts/address/",
        "/accounts/sessions/",
        "/accounts/close/",
        "/accounts/again/",
        "/accounts/factors/",
        "/accounts/factors/app/",
        "/accounts/factors/passkey/",
        "/billing/portal/",
        "/billing/invoices/",
        "/billing/checkout/small/",
    ] {
        let page = browser.open(path).await.expect("a page");
        assert_eq!(page.url.path(), "/accounts/login/", "{path}: {} {}", page.status, page.text());
    }
    assert_eq!(browser.open("/staff/").await.expect("a page").status, 404);
    let csrf = form.attributes("main input[name=csrf]", "value").into_iter().next().expect("a token");
    for path in [
        "/accounts/factors/app/remove/",
        "/accounts/factors/codes/",
        "/accounts/factors/app/",
        "/accounts/password/",
        "/accounts/close/",
        "/accounts/again/",
    ] {
        let fields = [("csrf", csrf.as_str()), ("password", &customer.password), ("sure", "yes"), ("code", "000000")];
        let url = browser.home.join(path).expect("a path");
        let answer = browser.http.post(url).form(&fields).send().await.expect("an answer");
        assert_eq!(answer.url().path(), "/accounts/login/", "{path}: {}", answer.status());
    }
    assert_eq!(count(house.db(), "select count(*) from totp").await, 1, "the app was removed");
    let belongs = "select count(*) from sessions where user_id is not null and data ? 'half'";
    assert_eq!(count(house.db(), belongs).await, 0, "a session between two steps belongs to somebody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wanted_to_stay_logged_in_at_the_first_step_does_after_the_second() {
    let house = open("half-stays").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (app, _) = add_app(&customer).await;
    for (wish, remembered) in [(None, 0), (Some(("remember", "yes")), 1)] {
        codes_pass(&house).await;
        let browser = house.visitor().expect("a browser");
        let form = browser.open("/accounts/login/").await.expect("the form");
        let mut values = vec![("email", customer.email.as_str()), ("password", customer.password.as_str())];
        values.extend(wish);
        let form = browser.submit(&form, "/accounts/login/", &values).await.expect("an answer");
        send_code(&browser, &form, &app.code()).await.ok().expect("let in");
        assert!(is_in(&browser).await);
        let staying = "select count(*) from sessions where user_id is not null and remembered";
        assert_eq!(count(house.db(), staying).await, remembered, "{wish:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_step_ends_with_time_and_with_every_session() {
    let house = open("half-ends").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (app, _) = add_app(&customer).await;
    codes_pass(&house).await;
    for ends in [
        "update sessions set data = jsonb_set(data, '{half,until}', '1') where data ? 'half'",
        "update users set access_epoch = access_epoch + 1",
    ] {
        let (browser, form) = half_in(&house, &customer).await;
        sqlx::query(sqlx::AssertSqlSafe(ends)).execute(house.db()).await.expect("it ends");
        let late = send_code(&browser, &form, &app.code()).await;
        assert_eq!(late.url.path(), "/accounts/login/", "{ends}: {}", late.text());
        assert!(!is_in(&browser).await, "{ends}");
    }
    let (browser, form) = half_in(&house, &customer).await;
    send_code(&browser, &form, &app.code()).await.ok().expect("let in");
    assert!(is_in(&browser).await, "what ended used the code up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_guesses_a_code() {
    let house = open("half-guesses").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (app, codes) = add_app(&customer).await;
    let (browser, form) = half_in(&house, &customer).await;
    let mut statuses = vec![];
    while statuses.len() < 14 && !statuses.contains(&429) {
        statuses.push(send_code(&browser, &form, &app.wrong()).await.status);
    }
    assert!(statuses.len() > 5 && statuses[..5] == [422; 5], "nobody mistypes a code five times: {statuses:?}");
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    let (elsewhere, form) = half_in(&house, &customer).await;
    sqlx::query("update limits set closed_until = now() + interval '1 hour' where route = 'second' and closed_until is not null")
        .execute(house.db())
        .await
        .expect("a longer wait than this test");
    assert_eq!(send_code(&elsewhere, &form, &codes[0]).await.status, 429, "another browser begins anew");
    assert_eq!(count(house.db(), "select count(*) from recovery_codes where used_at is not null").await, 0);
}
