//! Somebody lost every factor: staff ask, the owner may object, time passes.
use house::{Customer, House, Page};

use super::{add_app, codes_pass, half_in, send_code};
use crate::{
    accounts::{
        is_in, log_in, send,
        staff::{make, person},
    },
    attention::staff,
    shop::{SOON, open, until},
    world::count,
};

async fn ask(staff: &Customer, email: &str, reason: &str) -> Page {
    send(&staff.visitor, "/staff/factors/", "/staff/factors/", &[("email", email), ("reason", reason)]).await
}

/// As when the waiting is over and a worker looks.
async fn waiting_ends(house: &House) {
    sqlx::query("update factor_resets set due_at = now()").execute(house.db()).await.expect("time passes");
    house.stop_worker().await.expect("a worker stops");
    house.start_worker().await.expect("a worker starts, and looks at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_factors_go_after_a_waiting_in_which_their_owner_may_object() {
    let house = open("lost").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let staff = staff(&house).await;
    for (email, reason, field) in [
        (customer.email.as_str(), "", "reason"),
        ("nobody@example.test", "a call", "email"),
        (&customer.email, "there is none to lose", "email"),
        (house.staff_email(), "it is me", "email"),
    ] {
        let refused = ask(&staff, email, reason).await;
        assert_eq!(refused.status, 422, "{email} {reason:?}: {}", refused.text());
        assert_eq!(refused.attributes("#faults a", "href"), [format!("#{field}")], "{email} {reason:?}");
    }
    let (app, codes) = add_app(&customer).await;
    let asked = ask(&staff, &customer.email, "called from the number on the invoice").await;
    assert!(asked.status == 200 && asked.text().contains("called from the number"), "{}", asked.text());
    assert_eq!(ask(&staff, &customer.email, "again").await.status, 422, "asked two times at once");
    assert_eq!(count(house.db(), "select count(*) from totp").await, 1, "taken away at once");

    // The owner objects by the letter's button; following the link alone changes nothing.
    let letter = house.mail().wait_for(&customer.email, "Did you lose", 1, SOON).await.expect("the letter");
    let link = letter.link("/accounts/factors/keep/").expect("a link");
    let stranger = house.visitor().expect("a browser");
    let garbled = format!("{}x", link.as_str());
    assert_eq!(stranger.open(&garbled).await.expect("a page").status, 400);
    let page = stranger.open(link.as_str()).await.expect("a page").ok().expect("the button");
    assert_eq!(count(house.db(), "select count(*) from factor_resets where ended_at is null").await, 1);
    let kept = stranger.submit(&page, "/accounts/factors/keep/", &[]).await.expect("an answer");
    assert!(kept.status == 200 && kept.text().contains("They stay"), "{}", kept.text());
    assert_eq!(stranger.submit(&page, "/accounts/factors/keep/", &[]).await.expect("an answer").status, 400);

    // Whoever still logs in with it objects, too.
    assert_eq!(ask(&staff, &customer.email, "a second call").await.status, 200);
    codes_pass(&house).await;
    let (browser, form) = half_in(&house, &customer).await;
    send_code(&browser, &form, &app.code()).await.ok().expect("let in");
    let outcomes = "select count(*) from factor_resets where outcome = 'kept'";
    assert_eq!(count(house.db(), outcomes).await, 2, "a factor that is not lost is still taken away");
    waiting_ends(&house).await;

    assert_eq!(ask(&staff, &customer.email, "a third call").await.status, 200);
    let (half, form) = half_in(&house, &customer).await;
    waiting_ends(&house).await;
    until("the factors are gone", SOON, || async {
        (count(house.db(), "select count(*) from totp").await == 0).then_some(())
    })
    .await;
    assert!(!is_in(&browser).await && !is_in(&customer.visitor).await, "a session outlived it");
    let late = send_code(&half, &form, &codes[0]).await;
    assert_eq!(late.url.path(), "/accounts/login/", "{}", late.text());
    assert_eq!(count(house.db(), "select count(*) from recovery_codes").await, 0);
    house.mail().wait_for(&customer.email, "log in with was changed", 2, SOON).await.expect("a letter tells");
    log_in(&stranger, &customer.email, &customer.password).await;
    assert!(is_in(&stranger).await, "the password is not enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_factors_of_a_colleague_are_taken_away_by_an_admin_alone_and_every_admin_is_told() {
    let house = open("lost-colleague").await;
    let (admin, customer) = (staff(&house).await, Customer::signed_in(&house).await.expect("a customer"));
    let support = person(&house, &admin, "support").await;
    let operator = person(&house, &admin, "operator").await;
    add_app(&admin).await;
    add_app(&operator).await;
    add_app(&customer).await;
    for email in [house.staff_email(), &operator.email] {
        let refused = ask(&support, email, "they called").await;
        assert_eq!(refused.status, 422, "{email}: {}", refused.text());
        assert!(refused.text().contains("An admin has to ask"), "{email}: {}", refused.text());
    }
    let waits = "select count(*) from factor_resets where ended_at is null";
    assert_eq!(count(house.db(), waits).await, 0, "one password and a role that is no admin's make an admin");
    assert_eq!(ask(&admin, &operator.email, "stood before my desk").await.status, 200);
    house.mail().wait_for(house.staff_email(), "A colleague", 1, SOON).await.expect("admins are told");

    // What was asked of a customer is not done to somebody who began to work here meanwhile.
    assert_eq!(ask(&support, &customer.email, "they called").await.status, 200);
    assert_eq!(count(house.db(), waits).await, 2);
    let told = "select count(*) from letters where kind = 'colleague_factors_reset'";
    assert_eq!(count(house.db(), told).await, 1, "admins are told of customers, too");
    make(&admin, &customer.email, "support").await.ok().expect("a colleague");
    assert_eq!(count(house.db(), waits).await, 1, "a wish about a customer takes an employee's factors away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_lost_factors_does_not_exist_for_customers() {
    let house = open("lost-customers").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    assert_eq!(customer.visitor.open("/staff/factors/").await.expect("a page").status, 404);
    let page = customer.visitor.open("/accounts/").await.expect("a page");
    let csrf = page.attributes("input[name=csrf]", "value").into_iter().next().expect("a token");
    let fields = [("csrf", csrf.as_str()), ("email", house.staff_email()), ("reason", "a try")];
    let url = customer.visitor.home.join("/staff/factors/").expect("a path");
    let answer = customer.visitor.http.post(url).form(&fields).send().await.expect("an answer");
    assert_eq!(answer.status(), 404);
    assert_eq!(count(house.db(), "select count(*) from factor_resets").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_runs_the_portal_takes_lost_factors_away_at_once() {
    let house = open("lost-alone").await;
    let staff = staff(&house).await;
    add_app(&staff).await;
    house.run_ez(&["user", "factors", "--email", house.staff_email()], "").await.expect("taken away");
    assert!(!is_in(&staff.visitor).await, "a session outlived it");
    house.mail().wait_for(house.staff_email(), "log in with was changed", 2, SOON).await.expect("a letter tells");
    staff.log_in().await.expect("the password is enough");
    let nobody = house.run_ez(&["user", "factors", "--email", "nobody@example.test"], "").await;
    assert!(nobody.is_err(), "nobody had factors");
}
