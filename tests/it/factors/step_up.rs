//! Saying again who one is, before what cannot be taken back.
use house::{Customer, HouseOptions, OrderForm, Visitor};

use crate::{
    attention::staff,
    shop::{SOON, open_with},
    world::count,
};

/// As when everybody said who they are so long ago.
async fn minutes_pass(house: &house::House, minutes: i32) {
    sqlx::query("update sessions set proven_at = proven_at - make_interval(mins => $1)")
        .bind(minutes)
        .execute(house.db())
        .await
        .expect("time passes");
}

async fn ends(house: &house::House, email: &str) -> Vec<(String, time::OffsetDateTime)> {
    let query = "select s.id, s.expires_at from sessions s join users u on u.id = s.user_id where u.email = $1";
    sqlx::query_as(query).bind(email).fetch_all(house.db()).await.expect("the sessions")
}

/// Says again who one is on the page that asks, with this password.
async fn say(visitor: &Visitor, page: &house::Page, password: &str) -> house::Page {
    visitor.submit(page, "/accounts/again/", &[("password", password)]).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_back_asks_again_who_one_is_and_for_ten_minutes() {
    let house = open_with(HouseOptions::named("step-up").with("EZ_STEP_UP_SECS", "600")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let order = customer.buy(&OrderForm::small("step-up-1")).await.expect("buying");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let server = customer.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link");
    let form = customer.visitor.open(&format!("{}cancel/", server.path())).await.expect("a page").ok().expect("it");

    minutes_pass(&house, 9).await;
    let page = customer.visitor.open("/accounts/factors/app/").await.expect("a page");
    assert_eq!(page.url.path(), "/accounts/factors/app/", "asked too early");
    minutes_pass(&house, 2).await;
    let page = customer.visitor.open("/accounts/factors/app/").await.expect("a page");
    assert_eq!(page.url.path(), "/accounts/again/", "{}", page.text());

    let before = ends(&house, &customer.email).await;
    let asked = customer.visitor.submit(&form, "/cancel/cancel_now/", &[("sure", "yes")]).await.expect("an answer");
    assert_eq!(asked.url.path(), "/accounts/again/", "{}", asked.text());
    let told = "select count(*) from instructions where kind = 'cancel_now'";
    assert_eq!(count(house.db(), told).await, 0, "done without asking");
    let csrf = form.attributes("main input[name=csrf]", "value").remove(0);
    let instruction = uuid::Uuid::new_v4().to_string();
    let fields = [("csrf", csrf.as_str()), ("instruction", &instruction), ("sure", "yes")];
    let remove = server.join("remove/").expect("an address");
    let removed = customer.visitor.http.post(remove).form(&fields).send().await.expect("an answer");
    assert_eq!(removed.url().path(), "/accounts/again/", "a server can be removed without asking");
    let wrong = say(&customer.visitor, &asked, "not my password").await;
    assert_eq!((wrong.status, wrong.attributes("#faults a", "href")), (422, vec!["#password".to_owned()]));
    let back = say(&customer.visitor, &wrong, &customer.password).await;
    assert_eq!(back.url.path(), form.url.path(), "it does not lead back: {}", back.text());
    let after = ends(&house, &customer.email).await;
    assert_eq!((before.len(), after.len()), (1, 1));
    assert_ne!(before[0].0, after[0].0, "the session's id stays although it may do more");
    assert!((after[0].1 - before[0].1).abs() < time::Duration::seconds(2), "the session lasts longer by it");
    let done = customer.visitor.submit(&back, "/cancel/cancel_now/", &[("sure", "yes")]).await.expect("an answer");
    assert_eq!((done.status, done.url.path()), (200, server.path()), "{}", done.text());
    assert_eq!(count(house.db(), told).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stripes_page_opens_for_whoever_said_again_who_they_are() {
    let house = open_with(HouseOptions::named("step-up-billing").with("EZ_STEP_UP_SECS", "600")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let order = customer.buy(&OrderForm::small("step-up-3")).await.expect("buying");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let (browser, path) = (&customer.visitor, "/billing/portal/");
    minutes_pass(&house, 11).await;
    let form = browser.open(path).await.expect("a page").ok().expect("the page with the button");
    assert_eq!(form.url.path(), path, "it is asked for before the button is pressed");
    let asked = browser.submit(&form, path, &[]).await.expect("an answer");
    assert_eq!(asked.url.origin(), house.url().origin(), "a stolen session opens Stripe's page: {}", asked.url);
    assert_eq!(asked.url.path(), "/accounts/again/", "{}", asked.text());
    let back = say(browser, &asked, &customer.password).await;
    assert_eq!(back.url.path(), path, "it does not lead back: {}", back.text());
    let opened = browser.submit(&back, path, &[]).await.expect("an answer").ok().expect("Stripe's page");
    assert_ne!(opened.url.origin(), house.url().origin(), "{}", opened.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_say_again_who_they_are_before_money_moves() {
    let house = open_with(HouseOptions::named("step-up-staff").with("EZ_STEP_UP_SECS", "600")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let order = customer.buy(&OrderForm::small("step-up-2")).await.expect("buying");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let staff = staff(&house).await;
    let subscription: String =
        sqlx::query_scalar("select id from subscriptions").fetch_one(house.db()).await.expect("a subscription");
    let address = format!("/staff/subscriptions/{subscription}/");
    let form = staff.visitor.open(&address).await.expect("a page").ok().expect("its page");
    minutes_pass(&house, 11).await;
    let action = format!("{address}credit/");
    let values = [("amount", "1.00"), ("reason", "a kindness")];
    let asked = staff.visitor.submit(&form, &action, &values).await.expect("an answer");
    assert_eq!(asked.url.path(), "/accounts/again/", "{}", asked.text());
    assert_eq!(count(house.db(), "select count(*) from instructions").await, 0, "money moved without asking");
    let back = say(&staff.visitor, &asked, &staff.password).await;
    assert_eq!(back.url.path(), address, "{}", back.text());
    let told = staff.visitor.submit(&back, &action, &values).await.expect("an answer");
    assert_eq!((told.status, told.url.path()), (200, address.as_str()), "{}", told.text());
    assert_eq!(count(house.db(), "select count(*) from instructions where kind = 'credit'").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_session_does_not_guess_the_password_and_leads_nowhere_else() {
    let house = open_with(HouseOptions::named("step-up-guess").with("EZ_STEP_UP_SECS", "600")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    minutes_pass(&house, 11).await;
    let away = customer.visitor.open("/accounts/again/?next=https://evil.example/").await.expect("a page");
    assert_eq!(away.attributes("main input[name=next]", "value"), ["/dashboard/"]);
    let mut statuses = vec![];
    while statuses.len() < 14 && !statuses.contains(&429) {
        statuses.push(say(&customer.visitor, &away, &format!("my guess {}", statuses.len())).await.status);
    }
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    let stranger = house.visitor().expect("a browser");
    let page = stranger.open("/accounts/again/").await.expect("a page");
    assert_eq!(page.url.path(), "/accounts/login/");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_and_the_address_are_changed_by_whoever_said_again_who_they_are_and_by_nobody_else() {
    let house = open_with(HouseOptions::named("step-up-members").with("EZ_STEP_UP_SECS", "600")).await;
    let owner = Customer::signed_in(&house).await.expect("an owner");
    let browser = &owner.visitor;
    let members = browser.open("/accounts/members/").await.expect("a page").ok().expect("the members");
    let (invite, withdraw) = ("/accounts/members/invite/", "/accounts/members/withdraw/");
    let wish = [("email", "guest@example.test"), ("role", "technical")];
    let open = "select count(*) from invitations where withdrawn_at is null";
    minutes_pass(&house, 11).await;
    let asked = browser.submit(&members, invite, &wish).await.expect("an answer");
    assert_eq!(asked.url.path(), "/accounts/again/", "{}", asked.text());
    assert_eq!(count(house.db(), open).await, 0, "invited without asking");
    let back = say(browser, &asked, &owner.password).await;
    assert_eq!(back.url.path(), "/accounts/members/", "{}", back.text());
    let sent = browser.submit(&back, invite, &wish).await.expect("an answer");
    assert!(sent.status == 200 && sent.text().contains("on its way"), "{}", sent.text());

    // This page is the answer to a form; whoever goes on from it comes back to the page the form stands on.
    minutes_pass(&house, 11).await;
    let asked = browser.submit(&sent, withdraw, &[]).await.expect("an answer");
    assert_eq!(asked.url.path(), "/accounts/again/", "{}", asked.text());
    assert_eq!(count(house.db(), open).await, 1, "taken back without asking");
    let back = say(browser, &asked, &owner.password).await;
    assert_eq!((back.status, back.url.path()), (200, "/accounts/members/"), "{}", back.text());
    browser.submit(&back, withdraw, &[]).await.expect("an answer").ok().expect("taken back");
    assert_eq!(count(house.db(), open).await, 0);

    minutes_pass(&house, 11).await;
    let asked = browser.open("/accounts/address/").await.expect("a page");
    assert_eq!(asked.url.path(), "/accounts/again/", "{}", asked.text());
    let form = say(browser, &asked, &owner.password).await;
    assert_eq!(form.url.path(), "/accounts/address/", "{}", form.text());
    minutes_pass(&house, 11).await;
    let values = [("email", "moved@example.test")];
    let asked = browser.submit(&form, "/accounts/address/", &values).await.expect("an answer");
    assert_eq!(asked.url.path(), "/accounts/again/", "{}", asked.text());
    let wishes = "select count(*) from access_changes where kind = 'change_address'";
    assert_eq!(count(house.db(), wishes).await, 0, "asked for without asking who it is");
    let form = say(browser, &asked, &owner.password).await;
    let sent = browser.submit(&form, "/accounts/address/", &values).await.expect("an answer");
    assert!(sent.text().contains("Open the letter"), "{}", sent.text());
    assert_eq!(count(house.db(), wishes).await, 1);
}
