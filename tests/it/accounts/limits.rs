//! Tries are counted, by whoever makes them and for whomever they are made, and over every process.
use std::sync::Arc;

use futures::future::join_all;
use house::{Customer, House, HouseOptions, OrderForm, Page, Visitor};
use reqwest::cookie::{CookieStore as _, Jar};

use super::{FIREFOX, assert_stale, behind_a_proxy, browser_at, is_in, log_in, send};
use crate::{
    shop::{SOON, open_with, until},
    world::count,
};

/// Makes the wait after the third try longer or shorter than this test takes.
async fn third_wait(house: &House, ends: &'static str) {
    let changed = format!(
        "update limits set closed_until = now() + interval '{ends}' where attempts = 3 and closed_until is not null"
    );
    let changed = sqlx::query(sqlx::AssertSqlSafe(changed)).execute(house.db()).await.expect("time passes");
    assert_eq!(changed.rows_affected(), 1, "nothing was closed by a third try");
}

/// What a page says, without its numbers.
fn said(page: &Page) -> (u16, String) {
    (page.status, page.text().chars().filter(|letter| !letter.is_ascii_digit()).collect())
}

/// Tries wrong passwords until the log-in is locked; gives everything that was said.
async fn lock(house: &House, address: &str, email: &str) -> Vec<(u16, String)> {
    let browser = browser_at(house, address, FIREFOX);
    let mut all = vec![];
    for number in 1..=4 {
        let answer = log_in(&browser, email, &format!("wrong password {number}")).await;
        assert_eq!(answer.status, 422, "try {number}: {}", answer.text());
        all.push(said(&answer));
        if number == 3 {
            third_wait(house, "1 hour").await;
            let early = log_in(&browser, email, "wrong again").await;
            assert_eq!(early.status, 429, "no wait after try {number}: {}", early.text());
            all.push(said(&early));
            third_wait(house, "-1 second").await;
        }
    }
    let locked = log_in(&browser, email, "wrong for ever").await;
    assert!(locked.status == 429 && locked.text().contains("Locked"), "not locked: {}", locked.text());
    all.push(said(&locked));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wait_grows_into_a_lock_that_a_letter_opens_and_strangers_are_told_the_same() {
    let options = behind_a_proxy("lockout").with("EZ_LIMIT_ADDRESS", "2").with("EZ_LIMIT_LOCK", "4");
    let house = open_with(options).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let known = lock(&house, "198.51.100.1", &customer.email).await;
    let unknown = lock(&house, "198.51.100.2", "nobody@example.test").await;
    assert_eq!(known, unknown, "the answers tell who is known");
    let letters = "select count(*) from letters where kind = 'log_in_locked'";
    assert_eq!(count(house.db(), letters).await, 1, "a letter for nobody, or none for the owner");

    let elsewhere = browser_at(&house, "198.51.100.3", FIREFOX);
    let refused = log_in(&elsewhere, &customer.email, &customer.password).await;
    assert_eq!(refused.status, 429, "the lock lets the right password in: {}", refused.text());
    let letter = house.mail().wait_for(&customer.email, "locked", 1, SOON).await.expect("the letter");
    let link = letter.link("/accounts/unlock/").expect("a link");
    let page = elsewhere.open(link.as_str()).await.expect("the page").ok().expect("the page");
    let opened = elsewhere.submit(&page, "/accounts/unlock/", &[]).await.expect("an answer");
    assert!(opened.status == 200 && opened.text().contains("open again"), "{}", opened.text());
    log_in(&elsewhere, &customer.email, &customer.password).await.ok().expect("logged in");
    assert!(is_in(&elsewhere).await, "the letter did not open the log-in");
    let again = elsewhere.open(link.as_str()).await.expect("a page");
    assert_stale(&again, "used already", "/accounts/login/");
    let again = elsewhere.submit(&page, "/accounts/unlock/", &[]).await.expect("an answer");
    assert_eq!(again.status, 403, "a form from before the log-in: {}", again.text());
}

/// One guess that is ready to be sent: the browser, and the token of its form.
struct Guess {
    visitor: Visitor,
    csrf: String,
}

impl Guess {
    async fn new(house: &House, web: &url::Url, number: usize) -> Self {
        let mut visitor = browser_at(house, &format!("203.0.113.{number}"), FIREFOX);
        visitor.home = web.clone();
        let form = visitor.open("/accounts/login/").await.expect("the form");
        let csrf = form.attributes("main input[name=csrf]", "value").into_iter().next().expect("a token");
        Self { visitor, csrf }
    }

    async fn send(&self, email: &str) -> u16 {
        let path = self.visitor.home.join("/accounts/login/").expect("a path");
        let fields = [("csrf", self.csrf.as_str()), ("email", email), ("password", "a guess that is wrong")];
        // A hundred at once may be more than the database takes at once.
        until("an answer", SOON, || async {
            let request = self.visitor.http.post(path.clone()).header("sec-fetch-site", "same-origin").form(&fields);
            let status = request.send().await.expect("an answer").status().as_u16();
            (status != 503).then_some(status)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_guesses_at_once_from_a_hundred_addresses_over_two_processes_are_at_most_six() {
    let house = open_with(behind_a_proxy("guesses").with("EZ_LIMIT_LOCK", "6")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let webs = [house.url().clone(), house.start_another_web().await.expect("another web")];
    let guesses = join_all((1..=100).map(|number| Guess::new(&house, &webs[number % 2], number))).await;
    let answers = join_all(guesses.iter().map(|guess| guess.send(&customer.email))).await;
    let of = |status: u16| answers.iter().filter(|answer| **answer == status).count();
    assert!((1..=6).contains(&of(422)) && of(422) + of(429) == 100, "{answers:?}");

    let elsewhere = browser_at(&house, "198.51.100.9", FIREFOX);
    assert_eq!(log_in(&elsewhere, &customer.email, &customer.password).await.status, 429, "a lock holds everywhere");
    send(&customer.visitor, "/accounts/logout/", "/accounts/logout/", &[]).await;
    log_in(&customer.visitor, &customer.email, &customer.password).await;
    assert!(is_in(&customer.visitor).await, "strangers lock the owner out of a browser that is known");
    let told = "select count(*) from letters where kind = 'log_in_locked'";
    assert_eq!(count(house.db(), told).await, 1, "one lock, one letter");
}

/// What a browser keeps to be known by, once somebody logged in with it.
pub(crate) async fn device_of(house: &House, customer: &Customer) -> String {
    let jar = Arc::new(Jar::default());
    let http = reqwest::Client::builder().cookie_provider(Arc::clone(&jar)).build().expect("a client");
    let browser = Visitor { home: house.url().clone(), http };
    log_in(&browser, &customer.email, &customer.password).await.ok().expect("logged in");
    let kept = jar.cookies(house.url()).expect("cookies");
    let mut pairs = kept.to_str().expect("text").split("; ");
    pairs.find(|pair| pair.starts_with("ez-device=")).expect("the browser is not remembered").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_account_that_logs_in_many_times_at_once_has_to_wait_and_others_do_not() {
    const AT_ONCE: usize = 40;
    // Counting alone asks nobody to wait here.
    let options = HouseOptions::named("crowd-of-one")
        .with("EZ_LIMIT_ADDRESS", "1000")
        .with("EZ_LIMIT_NETWORK", "1000")
        .with("EZ_LIMIT_LOCK", "1000");
    let house = open_with(options).await;
    let greedy = Customer::signed_in(&house).await.expect("a customer");
    let other = Customer::signed_in(&house).await.expect("another customer");
    send(&other.visitor, "/accounts/logout/", "/accounts/logout/", &[]).await;
    let device = device_of(&house, &greedy).await;
    let mut ready = vec![];
    for _ in 0..AT_ONCE {
        let browser = Visitor::with_cookie(house.url(), &device).expect("a browser");
        let form = browser.open("/accounts/login/").await.expect("a page").ok().expect("the form");
        ready.push((browser, form));
    }
    let values = [("email", greedy.email.as_str()), ("password", greedy.password.as_str())];
    let flood = join_all(ready.iter().map(|(browser, form)| browser.submit(form, "/accounts/login/", &values)));
    let (answers, entered) = tokio::join!(flood, log_in(&other.visitor, &other.email, &other.password));
    let answers: Vec<u16> = answers.into_iter().map(|answer| answer.expect("an answer").status).collect();
    assert!(answers.contains(&200) && answers.contains(&429), "one account holds every place: {answers:?}");
    assert_eq!(entered.status, 200, "{}", entered.text());
    assert!(is_in(&other.visitor).await, "somebody else's log-ins keep a browser out that is known");
    let waited = answers.iter().position(|status| *status == 429).expect("somebody waited");
    log_in(&ready[waited].0, &greedy.email, &greedy.password).await.ok().expect("logged in later");
    assert!(is_in(&ready[waited].0).await, "whoever waited does not get in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_nobody_had_the_time_to_check_is_not_counted_as_tried() {
    const AT_ONCE: usize = 40;
    let options = HouseOptions::named("not-tried").with("EZ_LIMIT_ADDRESS", "1000").with("EZ_LIMIT_NETWORK", "1000");
    let house = open_with(options).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let path = "/accounts/password/";
    let form = customer.visitor.open(path).await.expect("a page").ok().expect("the form");
    let values = [("old", "not my password"), ("password", "green bottle on sand")];
    let mut answers: Vec<u16> = vec![];
    for _ in 0..5 {
        let burst = join_all((0..AT_ONCE).map(|_| customer.visitor.submit(&form, path, &values))).await;
        answers.extend(burst.into_iter().map(|answer| answer.expect("an answer").status));
        if answers.contains(&429) {
            break;
        }
    }
    let of = |status: u16| i64::try_from(answers.iter().filter(|one| **one == status).count()).expect("a small number");
    assert!(of(422) > 0 && of(429) > 0, "nobody had to wait: {answers:?}");
    let counted = count(house.db(), "select max(attempts)::bigint from limits where route = 'password'").await;
    // The database may be away before or after a try is counted.
    assert!((of(422)..=of(422) + of(503)).contains(&counted), "{counted} are counted: {answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_asks_too_often_waits_and_cannot_pretend_to_be_another() {
    let house = open_with(behind_a_proxy("networks").with("EZ_LIMIT_NETWORK", "3")).await;
    let ask = |address: &'static str, number: usize| {
        let browser = browser_at(&house, address, FIREFOX);
        async move {
            let email = format!("somebody-{number}@example.test");
            send(&browser, "/accounts/reset/", "/accounts/reset/", &[("email", &email)]).await
        }
    };
    // Two at once: the later one is counted first, and nothing is forgotten before it was.
    ask("198.51.100.9", 0).await;
    sqlx::query("update limits set last_at = now() + interval '1 minute'").execute(house.db()).await.expect("later");
    ask("198.51.100.9", 0).await;
    let most = count(house.db(), "select max(attempts)::bigint from limits").await;
    assert_eq!(most, 2, "two tries are counted as {most}");
    let mut refused = None;
    for number in 1..=12 {
        let answer = ask("198.51.100.1", number).await;
        if answer.status == 429 {
            refused = Some(number);
            break;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert!(refused.is_some_and(|number| number > 4), "refused at {refused:?}");
    sqlx::query("update limits set closed_until = now() + interval '1 hour' where closed_until is not null")
        .execute(house.db())
        .await
        .expect("a long wait");
    for pretended in ["198.51.100.1", "198.51.100.7, 198.51.100.1", "127.0.0.1, 198.51.100.1"] {
        assert_eq!(ask(pretended, 20).await.status, 429, "{pretended}");
    }
    for other in ["198.51.100.2", "2001:db8::1", "198.51.100.1, 198.51.100.2"] {
        assert_eq!(ask(other, 30).await.status, 200, "{other}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_tries_one_password_on_many_addresses_waits_and_one_where_many_log_in_does_not() {
    let house = open_with(behind_a_proxy("spraying").with("EZ_LIMIT_NETWORK", "3")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    for number in 1..=6 {
        let desk = browser_at(&house, "198.51.100.2", FIREFOX);
        log_in(&desk, &customer.email, &customer.password).await;
        assert!(is_in(&desk).await, "log-in {number} of an office is counted like a guess");
    }
    let thief = browser_at(&house, "198.51.100.1", FIREFOX);
    let mut statuses = vec![];
    while statuses.len() < 14 && !statuses.contains(&429) {
        let email = format!("somebody-{}@example.test", statuses.len());
        statuses.push(log_in(&thief, &email, "purple lantern on ice").await.status);
    }
    assert!(statuses.len() > 3 && statuses[..3] == [422; 3], "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429), "one network guesses for ever: {statuses:?}");
    let longer = "update limits set closed_until = now() + interval '1 hour'
        where route = 'login' and closed_until is not null";
    let waiting = sqlx::query(longer).execute(house.db()).await.expect("a longer wait than this test");
    assert_eq!(waiting.rows_affected(), 1, "more than the network waits");
    assert_eq!(log_in(&thief, &customer.email, &customer.password).await.status, 429);
    let elsewhere = browser_at(&house, "198.51.100.3", FIREFOX);
    log_in(&elsewhere, &customer.email, &customer.password).await;
    assert!(is_in(&elsewhere).await, "a network keeps others out");
}

/// Orders from a network of its own, and gives the status.
async fn order_from(house: &House, customer: &mut Customer, number: u8) -> u16 {
    customer.visitor = browser_at(house, &format!("198.51.100.{number}"), FIREFOX);
    customer.log_in().await.expect("logged in");
    customer.send_order(&OrderForm::small(&format!("often-{number}"))).await.expect("an answer").status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_orders_too_often_waits_wherever_it_is_and_one_that_orders_every_day_does_not() {
    let house = open_with(behind_a_proxy("orders-often").with("EZ_LIMIT_NETWORK", "3")).await;
    let mut customer = Customer::signed_in(&house).await.expect("a customer");
    for number in 1..=4 {
        assert_eq!(order_from(&house, &mut customer, number).await, 200, "order {number}");
    }
    let longer = "update limits set closed_until = now() + interval '1 hour'
        where route = 'checkout' and closed_until is not null";
    let waiting = sqlx::query(longer).execute(house.db()).await.expect("a longer wait than this test");
    assert_eq!(waiting.rows_affected(), 1, "a fourth order costs no wait");
    assert_eq!(order_from(&house, &mut customer, 5).await, 429, "another network orders on and on for one account");
    let other = Customer::signed_in(&house).await.expect("another customer");
    other.order(&OrderForm::small("other-1")).await.expect("somebody else does not wait");

    // Less than a day without an order: half of them are forgotten, and one more costs no wait.
    let later =
        "update limits set closed_until = null, last_at = last_at - interval '20 hours' where route = 'checkout'";
    sqlx::query(later).execute(house.db()).await.expect("time passes");
    assert_eq!(order_from(&house, &mut customer, 6).await, 200, "whoever ordered yesterday waits today");
    let waits = "select count(*) from limits where route = 'checkout' and closed_until is not null";
    assert_eq!(count(house.db(), waits).await, 0, "whoever orders every day waits longer and longer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forwarded_address_is_believed_of_our_own_proxy_alone() {
    let house = open_with(HouseOptions::named("no-proxy").with("EZ_LIMIT_NETWORK", "2")).await;
    let mut statuses = vec![];
    for number in 1..=12 {
        let browser = browser_at(&house, &format!("198.51.100.{number}"), FIREFOX);
        let email = format!("somebody-{number}@example.test");
        let answer = send(&browser, "/accounts/reset/", "/accounts/reset/", &[("email", &email)]).await;
        statuses.push(answer.status);
    }
    assert!(statuses.contains(&429), "whoever writes another address into a header is never slowed down: {statuses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobodys_mailbox_is_filled_from_a_form_of_ours() {
    let house = open_with(behind_a_proxy("mailboxes")).await;
    let customer = Customer::stranger(&house).expect("a stranger");
    customer.sign_up().await.expect("signing up");
    for (path, action) in [("/accounts/reset/", "/accounts/reset/"), ("/accounts/verify/", "/accounts/verify/resend/")]
    {
        let mut known = vec![];
        let mut unknown = vec![];
        for number in 1..=12 {
            let browser = browser_at(&house, &format!("198.51.100.{number}"), FIREFOX);
            known.push(send(&browser, path, action, &[("email", &customer.email)]).await.status);
            unknown.push(send(&browser, path, action, &[("email", "nobody@example.test")]).await.status);
        }
        assert_eq!(known[..6], [200; 6], "{path}");
        assert_eq!(unknown[..6], [200; 6], "{path}");
        assert!(known.contains(&429) && unknown.contains(&429), "{path}: {known:?} {unknown:?}");
    }
    let letters = "select count(*) from letters where kind in ('password_reset', 'verify_address')";
    assert!(count(house.db(), letters).await <= 4, "more than one of a kind within a minute");
    let private = "select count(*) from limits where encode(subject, 'escape') like '%example.test%'";
    assert_eq!(count(house.db(), private).await, 0, "the counts name somebody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_host_stands_in_no_page_and_no_letter_and_leads_nobody_away() {
    const FORGED: &str = "forged.example.test";
    let house = open_with(behind_a_proxy("forged-host")).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let forging = |names: &[&str]| {
        let headers = names.iter().map(|name| {
            let value = if *name == "forwarded" { "host=forged.example.test" } else { FORGED };
            (name.parse().expect("a name"), value.parse().expect("a header"))
        });
        let http = reqwest::Client::builder().cookie_store(true).default_headers(headers.collect());
        Visitor { home: house.url().clone(), http: http.build().expect("a client") }
    };
    let (misled, forger) = (forging(&["host"]), forging(&["x-forwarded-host", "forwarded", "x-original-url"]));
    for path in ["/", "/pricing/", "/accounts/login/", "/accounts/signup/", "/dashboard/"] {
        for (visitor, statuses) in [(&misled, [421, 421]), (&forger, [200, 401])] {
            let page = visitor.open(path).await.expect("a page");
            let here = page.url.host_str() == house.url().host_str();
            assert!(!page.html.contains(FORGED) && here, "{path}: {}", page.url);
            assert!(statuses.contains(&page.status), "{path}: {}", page.status);
        }
    }
    let asked = send(&forger, "/accounts/reset/", "/accounts/reset/", &[("email", &customer.email)]).await;
    assert!(asked.status == 200 && !asked.html.contains(FORGED), "{}", asked.text());
    let letter = house.mail().wait_for(&customer.email, "choose a new password", 1, SOON).await.expect("the letter");
    assert!(!letter.text.contains(FORGED), "{}", letter.text);
    let link = letter.link("/accounts/reset/").expect("a link");
    assert_eq!(link.origin(), house.url().origin(), "the link leads elsewhere");
}
