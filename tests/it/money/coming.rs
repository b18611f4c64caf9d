//! What happens next: staff read beforehand what the portal will do, and a hold moves it.
use house::{HouseOptions, PolicySecs};

use super::staff::{Held, day};
use crate::shop::{SOON, open_with, until};

const DAY_SECS: u32 = 86_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_read_what_happens_next_and_a_hold_moves_it() {
    let (reminders, suspend_after) = (vec![DAY_SECS], 3 * DAY_SECS);
    let policy = PolicySecs { reminders, suspend_after, subscription_poll: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("coming") }).await;
    let held = Held::new(&house, "coming-1").await;
    let coming = || async {
        let page = held.staff.visitor.open("/staff/coming/").await.expect("the page").ok().expect("the page");
        page.texts("tbody tr")
    };
    assert_eq!(coming().await, Vec::<String>::new(), "something happens to a paid server within two weeks");
    held.stops_paying().await;
    until("the page says that it will be suspended", SOON, || async {
        let lines = coming().await;
        let told = |what: &str| lines.iter().any(|line| line.contains(what) && line.contains("coming-1"));
        (told("Reminder") && told("Suspend")).then_some(())
    })
    .await;
    assert_eq!(held.tell("hold", &[("until", &day(9)), ("reason", "they are away")]).await, "done");
    let lines = coming().await;
    let nine = (time::OffsetDateTime::now_utc() + time::Duration::days(9)).date();
    let suspend = lines.iter().find(|line| line.contains("Suspend")).expect("it is suspended some day");
    let written = format!("{} {} {}", nine.day(), &nine.month().to_string()[..3], nine.year());
    assert!(suspend.starts_with(&written), "{suspend} is not on {written}");
    assert!(lines.iter().any(|line| line.contains("Reminder")), "{lines:?}");
    let stranger = held.customer.visitor.open("/staff/coming/").await.expect("an answer");
    assert_eq!(stranger.status, 404, "a customer sees what staff see");

    house.kill_worker().await.expect("kill -9");
    until("the page admits what it does not know", SOON, || async {
        let page = held.staff.visitor.open("/staff/coming/").await.expect("the page").ok().expect("the page").text();
        (page.contains("Not known just now") && page.contains("coming-1")).then_some(())
    })
    .await;
}
