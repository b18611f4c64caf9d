//! An app that shows codes, and recovery codes: each code once, whoever is faster.
use house::Customer;

use super::{add_app, codes_pass, half_in, send_code};
use crate::{
    accounts::{is_in, log_in},
    shop::{SOON, open},
    world::count,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_is_added_asked_for_and_removed_and_its_owner_is_told_each_time() {
    let house = open("factor-app").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let other = house.visitor().expect("a browser");
    log_in(&other, &customer.email, &customer.password).await;
    assert!(is_in(&other).await);

    let page = customer.visitor.open("/accounts/factors/app/").await.expect("a page").ok().expect("the page");
    assert!(page.html.contains("<svg") && !page.html.contains("<img class=\"qr"), "no picture to scan");
    let wrong = super::App::typed(&page).wrong();
    let refused =
        customer.visitor.submit(&page, "/accounts/factors/app/", &[("code", &wrong)]).await.expect("an answer");
    assert_eq!((refused.status, refused.attributes("#faults a", "href")), (422, vec!["#code".to_owned()]));
    assert_eq!(count(house.db(), "select count(*) from totp").await, 0, "added without a code");

    let (app, codes) = add_app(&customer).await;
    assert_eq!(codes.len(), 10, "{codes:?}");
    assert!(is_in(&customer.visitor).await, "whoever added it is logged out");
    assert!(!is_in(&other).await, "a session that showed no second factor outlived it");
    house.mail().wait_for(&customer.email, "log in with was changed", 1, SOON).await.expect("a letter tells");
    let listed = customer.visitor.open("/accounts/factors/").await.expect("a page").ok().expect("the list");
    assert!(listed.text().contains("10 left") && !listed.html.contains(&codes[0]), "{}", listed.text());

    let (browser, form) = half_in(&house, &customer).await;
    let refused = send_code(&browser, &form, &app.wrong()).await;
    assert_eq!((refused.status, refused.attributes("#faults a", "href")), (422, vec!["#code".to_owned()]));
    let refused = send_code(&browser, &refused, &app.first).await;
    assert_eq!(refused.status, 422, "the code that added the app let somebody in: {}", refused.text());
    let next = app.code_after(1);
    let entered = send_code(&browser, &refused, &next).await;
    assert!(entered.status == 200 && is_in(&browser).await, "{} {}", entered.status, entered.text());
    let (thief, form) = half_in(&house, &customer).await;
    let replayed = send_code(&thief, &form, &next).await;
    assert_eq!(replayed.status, 422, "a code worked two times: {}", replayed.text());
    assert!(!is_in(&thief).await);

    let page = browser.open("/accounts/factors/").await.expect("a page").ok().expect("the list");
    let removed = browser.submit(&page, "/accounts/factors/app/remove/", &[]).await.expect("an answer");
    assert!(removed.text().contains("app is removed"), "{}", removed.text());
    assert!(is_in(&browser).await && !is_in(&customer.visitor).await, "the others had to end");
    house.mail().wait_for(&customer.email, "log in with was changed", 2, SOON).await.expect("a letter tells");
    assert_eq!(count(house.db(), "select count(*) from recovery_codes").await, 0, "codes that stand in for nothing");
    log_in(&thief, &customer.email, &customer.password).await;
    assert!(is_in(&thief).await, "the password alone is enough again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_use_the_same_code_at_once_one_gets_in() {
    let house = open("factor-race").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (app, codes) = add_app(&customer).await;
    codes_pass(&house).await;
    for code in [app.code(), codes[0].clone()] {
        let mut halves = vec![];
        for _ in 0..4 {
            halves.push(half_in(&house, &customer).await);
        }
        let tries = halves.iter().map(|(browser, form)| send_code(browser, form, &code));
        let answers = futures::future::join_all(tries).await;
        let mut entered = 0;
        for (browser, _) in &halves {
            entered += usize::from(is_in(browser).await);
        }
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(entered, 1, "{statuses:?}");
        sqlx::query("delete from limits").execute(house.db()).await.expect("time passes");
    }
    assert_eq!(count(house.db(), "select count(*) from recovery_codes where used_at is not null").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_code_works_once_its_owner_is_told_and_new_ones_replace_the_old() {
    let house = open("factor-codes").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (_, codes) = add_app(&customer).await;
    let kept = "select count(*) from recovery_codes where encode(code_hash, 'escape') like '%' || $1 || '%'";
    let found: i64 = sqlx::query_scalar(kept).bind(&codes[0]).fetch_one(house.db()).await.expect("a count");
    assert_eq!(found, 0, "a code stands in the table");

    let (browser, form) = half_in(&house, &customer).await;
    let typed = codes[3].to_uppercase().replace('-', " ");
    send_code(&browser, &form, &typed).await.ok().expect("let in");
    assert!(is_in(&browser).await);
    house.mail().wait_for(&customer.email, "log in with was changed", 2, SOON).await.expect("a letter tells");
    let (again, form) = half_in(&house, &customer).await;
    assert_eq!(send_code(&again, &form, &codes[3]).await.status, 422, "a recovery code worked two times");

    let page = browser.open("/accounts/factors/").await.expect("a page").ok().expect("the list");
    assert!(page.text().contains("9 left"), "{}", page.text());
    let made = browser.submit(&page, "/accounts/factors/codes/", &[]).await.expect("an answer").ok().expect("codes");
    let new = made.texts("#recovery-codes li");
    assert!(new.len() == 10 && new.iter().all(|code| !codes.contains(code)), "{new:?}");
    assert!(is_in(&browser).await, "whoever made them is logged out");
    assert!(!is_in(&customer.visitor).await, "a session of before the new codes goes on");
    let late = send_code(&again, &form, &new[1]).await;
    assert_eq!(late.url.path(), "/accounts/login/", "half a log-in of before goes on: {}", late.text());
    let (again, form) = half_in(&house, &customer).await;
    let refused = send_code(&again, &form, &codes[4]).await;
    assert_eq!(refused.status, 422, "an old code works beside the new ones");
    send_code(&again, &refused, &new[0]).await.ok().expect("let in");
    assert!(is_in(&again).await);
}
