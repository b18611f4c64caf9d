//! Many people who look at the same moment: what is read for all of them together is given to each alone.
use std::{collections::BTreeSet, sync::Arc, time::Duration};

use house::{House, HouseOptions, Past, Visitor};
use tokio::{task::JoinSet, time::sleep};

use super::{is_in, log_in, send};
use crate::shop::open_with;

const PEOPLE: i32 = 16;
const LOOKS_EACH: usize = 20;

/// Somebody logged in, and what their servers are called.
struct Person {
    visitor: Visitor,
    servers: BTreeSet<String>,
}

/// People with two servers each, all of them with the first staff user's password.
async fn people(house: &House) -> Vec<Arc<Person>> {
    house.crowd(PEOPLE, Past { running: 2, ..Past::default() }).await.expect("a crowd");
    let made = "update users set password_hash = staff.password_hash from users staff
        where staff.email = $1 and users.email like '%@crowd.test' returning users.email, users.account_id::text";
    let rows: Vec<(String, String)> =
        sqlx::query_as(made).bind(house.staff_email()).fetch_all(house.db()).await.expect("their passwords");
    let mut people = Vec::new();
    for (email, account) in rows {
        let visitor = Visitor::new(house.url()).expect("a browser");
        log_in(&visitor, &email, house.staff_password()).await;
        let servers = "select hostname from services where account_id = $1::uuid";
        let servers: Vec<String> =
            sqlx::query_scalar(servers).bind(account).fetch_all(house.db()).await.expect("their servers");
        assert_eq!(servers.len(), 2);
        people.push(Arc::new(Person { visitor, servers: servers.into_iter().collect() }));
    }
    people
}

impl Person {
    /// Looks at the dashboard; nothing when the portal is away for a moment.
    async fn look(&self) -> Option<BTreeSet<String>> {
        let page = self.visitor.open("/dashboard/").await.expect("a page");
        if page.status == 503 {
            return None;
        }
        assert_eq!((page.status, page.url.path()), (200, "/dashboard/"), "{}", page.text());
        let text = page.text();
        let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '-');
        // The name of a server in the house's zone stands beside its host name.
        Some(words.filter(|word| word.starts_with("crowd-")).map(str::to_owned).collect())
    }

    /// Looks again and again, and gives how many looks were answered.
    async fn looks(self: Arc<Self>, times: usize) -> usize {
        let mut answered = 0;
        for _ in 0..times {
            if let Some(seen) = self.look().await {
                assert_eq!(seen, self.servers, "somebody else's servers");
                answered += 1;
            }
        }
        answered
    }
}

async fn all(mut looking: JoinSet<usize>) -> usize {
    let mut answered = 0;
    while let Some(looks) = looking.join_next().await {
        answered += looks.expect("their own servers, or nothing");
    }
    answered
}

fn looking(people: &[Arc<Person>], times: usize) -> JoinSet<usize> {
    // Each in two windows, so that the same session is asked for twice at once.
    people.iter().chain(people).map(|person| Arc::clone(person).looks(times)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_sees_their_own_servers_while_many_look_and_whoever_logs_out_is_out() {
    let house = open_with(HouseOptions::named("crowded")).await;
    let mut people = people(&house).await;
    let leaving = people.split_off(people.len() / 2);
    let others = looking(&people, LOOKS_EACH);
    for person in &leaving {
        assert_eq!(person.look().await.expect("a page"), person.servers);
        send(&person.visitor, "/dashboard/", "/accounts/logout/", &[]).await;
        assert!(!is_in(&person.visitor).await, "logged out and still in");
    }
    assert_eq!(all(others).await, people.len() * 2 * LOOKS_EACH, "a look was not answered");
    house.stop().await.expect("the house ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_in_between_gives_nobody_what_is_somebody_elses() {
    let house = open_with(HouseOptions::named("crowded-cut").with_links()).await;
    let people = people(&house).await;
    let link = house.database_link().expect("links");
    let others = looking(&people, LOOKS_EACH);
    for _ in 0..3 {
        sleep(Duration::from_millis(150)).await;
        link.cut().await.expect("cut");
        link.heal().await.expect("healed");
    }
    assert!(all(others).await > 0, "nobody saw anything");
    for person in &people {
        assert_eq!(person.look().await.expect("it is back"), person.servers);
    }
    house.stop().await.expect("the house ends");
}
