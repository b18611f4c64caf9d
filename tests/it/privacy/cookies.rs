//! The page of cookies against what a browser really gets.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use house::{Customer, OrderForm, Visitor};
use reqwest::{
    Url,
    cookie::{CookieStore, Jar},
    header::HeaderValue,
};

use super::{ask_and_confirm, house_of};
use crate::shop::open_with;

/// A jar that remembers every cookie it was given, redirects included.
#[derive(Default)]
struct Witness {
    jar: Jar,
    seen: Mutex<Vec<(u16, String)>>,
}

impl CookieStore for Witness {
    fn set_cookies(&self, headers: &mut dyn Iterator<Item = &HeaderValue>, url: &Url) {
        let lines: Vec<HeaderValue> = headers.cloned().collect();
        let port = url.port().unwrap_or(0);
        let mut seen = self.seen.lock().expect("no panic");
        seen.extend(lines.iter().map(|line| (port, line.to_str().expect("a text").to_owned())));
        drop(seen);
        self.jar.set_cookies(&mut lines.iter(), url);
    }

    fn cookies(&self, url: &Url) -> Option<HeaderValue> {
        self.jar.cookies(url)
    }
}

/// How long a cookie that was set lasts, by its own words.
enum Lasts {
    Secs(i64),
    AsLongAsTheBrowser,
    /// It is taken away.
    No,
}

fn lasts(line: &str) -> Lasts {
    let age = line.split(';').find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| value.parse::<i64>().expect("a number"))
    });
    match age {
        Some(age) if age > 0 => Lasts::Secs(age),
        Some(_) => Lasts::No,
        None => Lasts::AsLongAsTheBrowser,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cookie_that_is_set_stands_on_the_page_with_its_time_and_no_other_does() {
    let house = open_with(house_of("cookies", 600)).await;
    let witness = Arc::new(Witness::default());
    let http = reqwest::Client::builder()
        .cookie_provider(witness.clone())
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client");
    let mut customer = Customer::stranger(&house).expect("a stranger");
    customer.visitor = Visitor { home: house.url().clone(), http };
    for path in ["/", "/pricing/", "/about/", "/privacy/", "/terms/", "/cookies/"] {
        customer.visitor.open(path).await.expect("a page").ok().expect("a page for anybody");
    }
    assert_eq!(witness.seen.lock().expect("no panic").len(), 0, "a page without a form sets a cookie");
    customer.sign_up().await.expect("signing up");
    customer.verify().await.expect("confirming");
    customer.log_in().await.expect("logging in");
    let payment_page = customer.order(&OrderForm::small("cookie-1")).await.expect("the payment page");
    customer.abandon(&payment_page).await.expect("back again");
    for path in ["/dashboard/", "/accounts/", "/accounts/sessions/", "/accounts/data/", "/billing/invoices/"] {
        customer.visitor.open(path).await.expect("a page").ok().expect("a page of one's own");
    }
    let page = customer.visitor.open("/accounts/logout/").await.expect("a page");
    customer.visitor.submit(&page, "/accounts/logout/", &[]).await.expect("logging out");
    let mut other = Customer::stranger(&house).expect("somebody");
    other.visitor = customer.visitor.clone();
    other.sign_up().await.expect("signing up");
    other.verify().await.expect("confirming");
    other.log_in().await.expect("logging in");
    ask_and_confirm(&house, &other).await;

    let page = house.visitor().expect("a browser").open("/cookies/").await.expect("a page").ok().expect("the page");
    let (names, times) = (page.texts(".cookie"), page.attributes(".cookie", "data-secs"));
    assert_eq!(names.len(), times.len());
    let told: BTreeMap<String, Vec<i64>> = names
        .into_iter()
        .zip(times.iter().map(|times| times.split(' ').map(|secs| secs.parse().expect("a number")).collect()))
        .collect();
    let with_browser = page.texts(".cookie[data-browser]");
    assert_eq!(with_browser.len(), 1, "more than the session goes with the browser");
    let own = house.url().port().expect("a port");
    let seen: Vec<String> = witness
        .seen
        .lock()
        .expect("no panic")
        .iter()
        .filter(|(port, _)| *port == own)
        .map(|(_, line)| line.clone())
        .collect();
    let mut set = BTreeSet::new();
    for line in &seen {
        let name = line.split('=').next().expect("a name").to_owned();
        let times = told.get(&name).unwrap_or_else(|| panic!("{name} is set and does not stand on the page"));
        match lasts(line) {
            Lasts::No => continue,
            Lasts::Secs(age) => {
                let longest = times.iter().max().expect("a time");
                assert!(age <= *longest, "{name} lasts {age} s, and the page says at most {longest}");
            }
            Lasts::AsLongAsTheBrowser => assert!(with_browser.contains(&name), "a cookie without an end: {line}"),
        }
        assert!(line.contains("HttpOnly") && line.contains("SameSite=Lax") && line.contains("Path=/"), "{line}");
        set.insert(name);
    }
    let told: BTreeSet<String> = told.into_keys().collect();
    assert_eq!(set, told, "what is set is not what the page says");
}
