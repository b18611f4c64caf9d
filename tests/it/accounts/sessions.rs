//! Where somebody is logged in, for how long, and who is told of a new browser.
use house::{Customer, House, HouseOptions, Page, Visitor};

use super::{FIREFOX, SAFARI, behind_a_proxy, browser_at, is_in, log_in, send, staff::person, stolen_cookie};
use crate::{
    attention::staff,
    shop::{SOON, open, open_with},
    world::count,
};

async fn list(visitor: &Visitor) -> Page {
    visitor.open("/accounts/sessions/").await.expect("a page").ok().expect("the list")
}

/// The row of the list that says all of this, from nought.
fn row(page: &Page, words: &[&str]) -> usize {
    let rows = page.texts("main tbody tr");
    let found = rows.iter().position(|row| words.iter().all(|word| row.contains(word)));
    found.unwrap_or_else(|| panic!("no row with {words:?}: {rows:?}"))
}

async fn end(visitor: &Visitor, page: &Page, which: &str) {
    let answer = visitor.submit(page, "/accounts/sessions/end/", &[("which", which)]).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn handles(page: &Page) -> Vec<String> {
    page.attributes("main tbody input[name=which]", "value")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_is_listed_and_is_ended_alone_or_with_all_others() {
    let house = open_with(behind_a_proxy("session-list")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let other = Customer::signed_in(&house).await.expect("somebody else");
    let (desk, phone) = (browser_at(&house, "198.51.100.1", FIREFOX), browser_at(&house, "2001:db8::7", SAFARI));
    for browser in [&desk, &phone] {
        log_in(browser, &customer.email, &customer.password).await;
    }
    let page = list(&desk).await;
    assert_eq!(page.texts("main tbody tr").len(), 3, "{}", page.text());
    row(&page, &["Firefox on Linux", "198.51.100.1", "This one"]);
    let at = row(&page, &["Safari on iPhone", "2001:db8::7"]);
    row(&page, &["unknown browser", "127.0.0.1"]);
    assert_eq!(page.text().matches("This one").count(), 1, "{}", page.text());

    let theirs = handles(&list(&other.visitor).await);
    assert_eq!(theirs.len(), 1, "somebody else's sessions are listed");
    end(&desk, &page, &theirs[0]).await;
    assert!(is_in(&other.visitor).await, "somebody else was logged out");
    end(&desk, &page, &handles(&page)[at]).await;
    assert!(!is_in(&phone).await, "an ended session goes on");
    assert!(is_in(&desk).await && is_in(&customer.visitor).await, "another one ended, too");
    let page = list(&desk).await;
    assert_eq!(page.texts("main tbody tr").len(), 2, "{}", page.text());
    end(&desk, &page, "others").await;
    assert!(!is_in(&customer.visitor).await, "an ended session goes on");
    assert!(is_in(&desk).await, "the one that asked ended, too");
    let page = list(&desk).await;
    assert!(!page.text().contains("everywhere else"), "{}", page.text());
    let mine = handles(&page);
    end(&desk, &page, &mine[0]).await;
    assert!(!is_in(&desk).await, "its own session goes on");
}

async fn changed(house: &House, change: &'static str) {
    sqlx::query(change).execute(house.db()).await.expect("time passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_when_it_rests_or_lives_too_long_and_its_use_is_noted() {
    let house = open("session-ends").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    changed(&house, "update sessions set used_at = now() - interval '10 minutes' where user_id is not null").await;
    assert!(is_in(&customer.visitor).await);
    let noted = "select count(*) from sessions where user_id is not null and used_at > now() - interval '5 minutes'";
    assert_eq!(count(house.db(), noted).await, 1, "its use is not noted");
    changed(&house, "update sessions set used_at = now() - interval '4 days' where user_id is not null").await;
    assert!(!is_in(&customer.visitor).await, "it may rest for ever");
    assert_eq!(count(house.db(), noted).await, 0, "a session that is over was used");

    customer.log_in().await.expect("logged in again");
    changed(&house, "update sessions set expires_at = now() - interval '1 second' where user_id is not null").await;
    assert!(!is_in(&customer.visitor).await, "it may live for ever");
    customer.log_in().await.expect("logged in again");
    let long = "select count(*) from sessions where user_id is not null and expires_at > now() + interval '15 days'";
    assert_eq!(count(house.db(), long).await, 0, "it lives longer than it should");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_who_rest_log_in_again_where_a_customer_and_staff_at_work_need_not() {
    let house = open_with(HouseOptions::named("staff-rest").with("EZ_SESSION_STAFF_IDLE_SECS", "1800")).await;
    let admin = staff(&house).await;
    let (resting, busy) = (person(&house, &admin, "support").await, person(&house, &admin, "support").await);
    let customer = Customer::signed_in(&house).await.expect("a customer");
    assert!(is_in(&resting.visitor).await, "not logged in at all");
    for minutes in [20, 40] {
        changed(&house, "update sessions set used_at = used_at - interval '20 minutes' where user_id is not null")
            .await;
        assert!(is_in(&busy.visitor).await, "whoever works is logged out after {minutes} minutes");
    }
    let page = resting.visitor.open("/dashboard/").await.expect("a page");
    assert_eq!(page.url.path(), "/accounts/login/", "staff rest for longer than they may: {}", page.text());
    assert!(is_in(&customer.visitor).await, "a customer is held to what staff are held to");
    resting.log_in().await.expect("logged in again");
    assert!(is_in(&resting.visitor).await);
}

/// Sends the form of a log-in with these values, and gives what the answer says of the session's cookie.
async fn cookie_of_log_in(careful: &Visitor, page: &Page, path: &str, values: &[(&str, &str)]) -> String {
    let csrf = page.attributes("main input[name=csrf]", "value").into_iter().next().expect("a token");
    let url = careful.home.join(path).expect("a path");
    let fields = [&[("csrf", csrf.as_str())], values].concat();
    let answer = careful.http.post(url).form(&fields).send().await.expect("an answer");
    assert_eq!(answer.status(), 303, "{path} did not take it");
    let mut set = answer.headers().get_all("set-cookie").iter().filter_map(|line| line.to_str().ok());
    set.find(|line| line.starts_with("ez=")).expect("the session's cookie").to_owned()
}

/// A browser that is not led on by itself, so that every cookie can be read.
fn careful(house: &House) -> Visitor {
    let none = reqwest::redirect::Policy::none();
    let http = reqwest::Client::builder().cookie_store(true).redirect(none).build().expect("a client");
    Visitor { home: house.url().clone(), http }
}

/// In how many seconds the session begun last ends.
async fn left(house: &House) -> i64 {
    count(
        house.db(),
        "select extract(epoch from expires_at - now())::bigint from sessions where user_id is not null
         order by created_at desc limit 1",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_with_the_browser_unless_its_owner_wants_to_stay() {
    let house = open_with(
        HouseOptions::named("session-stay").with("EZ_SESSION_BRIEF_SECS", "3600").with("EZ_STEP_UP_SECS", "600"),
    )
    .await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (email, password) = (customer.email.as_str(), customer.password.as_str());
    let path = "/accounts/login/";
    let brief = careful(&house);
    let form = brief.open(path).await.expect("the form");
    assert!(form.attributes("#remember", "checked").is_empty(), "nobody asked to be remembered");
    let cookie = cookie_of_log_in(&brief, &form, path, &[("email", email), ("password", password)]).await;
    assert!(!cookie.to_lowercase().contains("max-age") && !cookie.to_lowercase().contains("expires"), "{cookie}");
    let ends = left(&house).await;
    assert!((3_000..=3_600).contains(&ends), "it ends after {ends} s");
    // Whoever says again who they are stays as they are.
    changed(&house, "update sessions set proven_at = now() - interval '11 minutes'").await;
    let again = brief.open("/accounts/again/?next=/accounts/").await.expect("the form");
    let said = [("password", password), ("next", "/accounts/")];
    let cookie = cookie_of_log_in(&brief, &again, "/accounts/again/", &said).await;
    assert!(!cookie.to_lowercase().contains("max-age"), "{cookie}");
    assert!(left(&house).await <= ends, "it lasts longer now");

    let long = careful(&house);
    let form = long.open(path).await.expect("the form");
    let wrong = long.submit(&form, path, &[("email", email), ("password", "no"), ("remember", "yes")]).await;
    let form = wrong.expect("an answer");
    assert_eq!((form.status, form.attributes("#remember", "checked").len()), (422, 1), "what was chosen is forgotten");
    let values = [("email", email), ("password", password), ("remember", "yes")];
    let cookie = cookie_of_log_in(&long, &form, path, &values).await;
    assert!(cookie.contains("Max-Age=12"), "{cookie}");
    assert!(left(&house).await > 1_000_000);

    let page = list(&long).await;
    row(&page, &["This one", "also after the browser was closed"]);
    row(&page, &["or until the browser is closed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_session_nor_a_browsers_token_can_be_read_from_the_database() {
    let house = open("session-rows").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let cookie = stolen_cookie(&house, &customer.email, &customer.password).await;
    let id = cookie.trim_start_matches("ez=");
    assert!(is_in(&Visitor::with_cookie(house.url(), &cookie).expect("a browser")).await);
    let rows: Vec<String> = sqlx::query_scalar("select to_jsonb(s)::text from sessions s")
        .fetch_all(house.db())
        .await
        .expect("the sessions");
    assert!(rows.len() >= 2 && rows.iter().all(|row| !row.contains(id)), "{id} stands in {rows:?}");
    // What stands there is of no use as a cookie.
    let kept: Vec<String> = sqlx::query_scalar("select id from sessions union all select handle::text from sessions")
        .fetch_all(house.db())
        .await
        .expect("the sessions");
    for kept in kept {
        let thief = Visitor::with_cookie(house.url(), &format!("ez={kept}")).expect("a browser");
        assert!(!is_in(&thief).await, "{kept} opens the dashboard");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_with_a_new_browser_is_told_by_letter_and_one_with_a_known_browser_is_not() {
    let house = open_with(behind_a_proxy("new-browser")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let told = "select count(*) from letters where kind = 'new_device'";
    assert_eq!(count(house.db(), told).await, 0, "the first browser is told of");
    let desk = browser_at(&house, "198.51.100.1", FIREFOX);
    log_in(&desk, &customer.email, &customer.password).await;
    let letter = house.mail().wait_for(&customer.email, "new log-in", 1, SOON).await.expect("the letter");
    assert!(letter.text.contains("Firefox on Linux") && letter.text.contains("198.51.100.1"), "{}", letter.text);
    assert!(letter.link("/accounts/sessions/").is_ok());
    send(&desk, "/accounts/logout/", "/accounts/logout/", &[]).await;
    log_in(&desk, &customer.email, &customer.password).await;
    assert!(is_in(&desk).await);
    let forgetful = browser_at(&house, "198.51.100.1", FIREFOX);
    log_in(&forgetful, &customer.email, &customer.password).await;
    assert_eq!(count(house.db(), told).await, 1, "a browser that is known is told of");
    log_in(&browser_at(&house, "198.51.100.2", FIREFOX), &customer.email, &customer.password).await;
    assert_eq!(count(house.db(), told).await, 2, "another place is not told of");
    let wrong = browser_at(&house, "198.51.100.3", SAFARI);
    log_in(&wrong, &customer.email, "not the password").await;
    assert_eq!(count(house.db(), told).await, 2, "a try that did not succeed is told of");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_of_somebody_logged_in_has_the_way_out() {
    let house = open("way-out").await;
    let (customer, colleague) = (Customer::signed_in(&house).await.expect("a customer"), staff(&house).await);
    let own =
        ["", "password/", "sessions/", "address/", "activity/", "tokens/", "factors/", "members/", "data/", "close/"];
    let own = own.map(|page| format!("/accounts/{page}"));
    let of_staff = ["", "coming/", "factors/", "audit/", "erasures/", "people/", "viewing/"];
    let of_staff = of_staff.map(|page| format!("/staff/{page}"));
    for (visitor, paths) in [(&customer.visitor, &own[..]), (&colleague.visitor, &of_staff[..])] {
        for path in paths.iter().map(String::as_str).chain(["/dashboard/", "/pricing/"]) {
            let page = visitor.open(path).await.expect("a page").ok().expect("the page");
            let buttons = page.attributes("header form", "action");
            let is_there = page.link("/accounts/logout/").is_ok() || buttons.iter().any(|to| to == "/accounts/logout/");
            assert!(is_there, "{path}: no way out: {}", page.text());
        }
        send(visitor, "/accounts/logout/", "/accounts/logout/", &[]).await.ok().expect("logged out");
        assert!(!is_in(visitor).await, "the way out leads nowhere");
    }
}
