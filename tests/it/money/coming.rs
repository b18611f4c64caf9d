//! What happens next: staff read beforehand what the portal will do, a hold moves it, and whoever is not shown is on the next
//! page.
use std::collections::BTreeSet;

use domain::instruction::Ask;
use house::{HouseOptions, Page, PolicySecs};

use super::staff::{Held, day};
use crate::shop::{DAY_SECS, SOON, open_with, until};

async fn page(held: &Held<'_>, address: &str) -> Page {
    held.staff.visitor.open(address).await.expect("the page").ok().expect("the page")
}

async fn coming(held: &Held<'_>) -> Vec<String> {
    page(held, "/staff/coming/").await.texts("tbody tr")
}

/// Waits until each of these lines stands on the page in this order and none with one of the other words, and gives all of
/// them.
async fn becomes(held: &Held<'_>, wanted: &[&str], gone: &[&str]) -> Vec<String> {
    until(&format!("the page says {wanted:?}"), SOON, || async {
        let lines = coming(held).await;
        let at = |words: &&str| lines.iter().position(|line| line.contains(*words) && line.contains("coming-1"));
        let places: Option<Vec<usize>> = wanted.iter().map(at).collect();
        let is_told = places.is_some_and(|places| places.is_sorted()) && gone.iter().all(|words| at(words).is_none());
        is_told.then_some(lines)
    })
    .await
}

/// The subscriptions that a page leads to.
fn named(page: &Page) -> BTreeSet<String> {
    let links = page.attributes("a[href^='/staff/subscriptions/']", "href");
    links.into_iter().filter(|link| link.ends_with('/')).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_read_what_happens_next_and_a_hold_moves_it() {
    let policy = PolicySecs {
        reminders: vec![DAY_SECS],
        suspend_after: 3 * DAY_SECS,
        grace: DAY_SECS,
        retention: 2 * DAY_SECS,
        retention_warning: DAY_SECS,
        subscription_poll: 1,
        ..PolicySecs::default()
    };
    let house =
        open_with(HouseOptions { policy, month_secs: Some(10 * DAY_SECS), ..HouseOptions::named("coming") }).await;
    let held = Held::new(&house, "coming-1").await;
    let lines = becomes(&held, &["Renews Stripe charges EUR 5.00"], &["Receipt"]).await;
    assert_eq!(lines.len(), 1, "something else happens to a paid server: {lines:?}");
    assert_eq!(held.told(Ask::CancelAtEnd).await.0, "done");
    let ended = ["Letter it will end", "Ends it was cancelled", "Stop and keep it", "Destroy with everything on it"];
    becomes(&held, &ended, &["Renews"]).await;
    assert_eq!(held.told(Ask::GoOn).await.0, "done");
    becomes(&held, &["Renews"], &["Ends", "Destroy"]).await;
    held.stops_paying().await;
    becomes(&held, &["Reminder", "Suspend", "Stop", "last call", "Destroy"], &["Renews"]).await;
    assert_eq!(held.tell("hold", &[("until", &day(9)), ("reason", "they are away")]).await, "done");
    let lines = coming(&held).await;
    let nine = (time::OffsetDateTime::now_utc() + time::Duration::days(9)).date();
    let suspend = lines.iter().find(|line| line.contains("Suspend")).expect("it is suspended some day");
    let written = format!("{} {} {}", nine.day(), &nine.month().to_string()[..3], nine.year());
    assert!(suspend.starts_with(&written), "{suspend} is not on {written}");
    assert!(lines.iter().any(|line| line.contains("Reminder")), "{lines:?}");
    let stranger = held.customer.visitor.open("/staff/coming/").await.expect("an answer");
    assert_eq!(stranger.status, 404, "a customer sees what staff see");

    house.kill_worker().await.expect("kill -9");
    until("the page admits what it does not know", SOON, || async {
        let page = page(&held, "/staff/coming/").await.text();
        (page.contains("Not known just now") && page.contains("coming-1")).then_some(())
    })
    .await;
    let one = page(&held, "/staff/coming/").await;
    assert!(one.link("?after=").is_err() && one.texts("#part").is_empty(), "{}", one.text());

    // Nobody lives with these; the page asks for each all the same.
    let more = "insert into subscriptions (id, account_id, order_id, plan_id, price_id, status, phase, period_start, period_end)
        select 'sub_more_' || n, account_id, order_id, plan_id, price_id, 'past_due', 'past_due', period_start,
            period_end + n / 2 * interval '1 minute'
        from subscriptions, generate_series(1, 101) as n";
    sqlx::query(more).execute(house.db()).await.expect("a hundred more");
    let first = page(&held, "/staff/coming/").await;
    assert!(first.text().contains("of 100 subscriptions; there are more than these"), "{}", first.text());
    let second = page(&held, first.link("?after=").expect("there are more").as_str()).await;
    assert!(second.text().contains("of 2 subscriptions; there are others before"), "{}", second.text());
    assert!(second.link("?after=").is_err(), "there are still more");
    let (first, second) = (named(&first), named(&second));
    assert_eq!((first.len(), second.len(), first.union(&second).count()), (100, 2, 102), "{second:?}");
}
