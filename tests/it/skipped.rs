//! Time skipped: the subscription's own timers fire in the time of their workflow, on a server that skips what is only waited
//! for. Stripe's clock and the database's go along; web and worker stay in the present, and nothing may depend on that.
mod skipper;

use futures::{StreamExt as _, stream};
use house::{Engine, House, HouseOptions, PolicySecs};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use tokio::sync::OnceCell;

use crate::{
    buyers::customers,
    money::{
        clock::{
            anchors::{AT_ONCE, DAY, MONTHS, Renewed, agree, assert_histories_stay_small, begin, move_to_anchor},
            months::{advance, end_of_month},
        },
        story::{act, at_dashboard, becomes, buy},
        told,
    },
    shop::{DAY_SECS, SOON, until},
    storm::assert_letters_by_occasion,
    world::{count, list},
};
use skipper::Skipper;

static ENGINE: OnceCell<Engine> = OnceCell::const_new();

const DAYS: i64 = 60;

/// A house with the patience that is usual in production.
async fn patient(name: &str) -> House {
    let policy = PolicySecs {
        reminders: vec![DAY_SECS, 3 * DAY_SECS, 6 * DAY_SECS],
        suspend_after: 7 * DAY_SECS,
        grace: 14 * DAY_SECS,
        retention: 14 * DAY_SECS,
        retention_warning: 3 * DAY_SECS,
        expiry_warning: 3 * DAY_SECS,
        subscription_poll: DAY_SECS,
        ..PolicySecs::default()
    };
    let started = || async {
        let engine = Engine::start_skipping().await.expect("servers that skip time");
        engine.with_stripe_mock().await.expect("stripe-mock starts")
    };
    let engine = ENGINE.get_or_init(started).await;
    let options = HouseOptions { policy, wide: true, ..HouseOptions::named(name) };
    House::start(engine, options).await.expect("a house")
}

fn workflow(subscription: &str) -> String {
    format!("subscription-{subscription}")
}

/// Everything that Stripe told is driven on.
async fn driven(house: &House) {
    told(house).await;
    becomes(house, "the inbox is empty", "select count(*) from payment_events where state = 'received'", 0).await;
}

/// Everybody goes on to a time of their own at once.
async fn all_skip(skipper: &Skipper<'_>, all: &[Renewed], to: impl Fn(&Renewed) -> OffsetDateTime) {
    stream::iter(all)
        .for_each_concurrent(AT_ONCE, async |renewed| {
            skipper.skip(&workflow(&renewed.subscription), to(renewed)).await;
        })
        .await;
}

/// When the one letter of a kind left, by the database's clock.
async fn left_at(house: &House, occasion: &str) -> OffsetDateTime {
    let sent: Vec<Option<OffsetDateTime>> =
        sqlx::query_scalar("select sent_at from letters where occasion like $1 order by occasion")
            .bind(occasion)
            .fetch_all(house.db())
            .await
            .expect("the letters");
    assert_eq!(sent.len(), 1, "{occasion}");
    sent[0].unwrap_or_else(|| panic!("{occasion} did not leave"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs a server that skips time: make test-long"]
async fn whoever_stops_paying_is_reminded_suspended_and_ended_on_the_days_that_were_promised() {
    let house = patient("stops-paying").await;
    let customer = customers(&house, 1).await.remove(0);
    let bought = buy(&house, &customer, "stops-1").await;
    becomes(&house, "it is delivered", "select count(*) from orders where status = 'delivered'", 1).await;
    driven(&house).await;
    let skipper = Skipper::of(&house).await;
    act(&house, &format!("customers/{}/card", bought.customer), json!({"fails": true})).await;
    let due: OffsetDateTime =
        sqlx::query_scalar("select period_end from subscriptions").fetch_one(house.db()).await.expect("a period");
    let end = due + Duration::days(DAYS);
    let mut today = skipper.began();
    while today < end {
        today += Duration::days(1);
        skipper.move_database(today).await;
        skipper.skip(&workflow(&bought.subscription), today).await;
        advance(&house, today).await;
        driven(&house).await;
        until("every letter has left", SOON, || async {
            (count(house.db(), "select count(*) from letters where state <> 'sent'").await == 0).then_some(())
        })
        .await;
    }
    // Seen on the day it fell due; from then on each on its day, a letter that has to leave first and a night later at most.
    let mut earliest = due;
    let slack = Duration::days(2) + Duration::hours(1);
    let steps = [
        ("payment_reminder/%/1", 1),
        ("payment_reminder/%/2", 2),
        ("payment_reminder/%/3", 3),
        ("service_suspended/%", 1),
        ("service_retained/%", 14),
        ("destruction_warning/%", 11),
        ("service_expired/%", 3),
    ];
    for (occasion, days) in steps {
        let (left, from) = (left_at(&house, occasion).await, earliest + Duration::days(days));
        let late = left - from;
        assert!(late > -Duration::days(1) && late < slack, "{occasion} left at {left}, promised from {from}");
        earliest = left;
    }
    let state = house.stripe().state().await.expect("Stripe");
    assert_eq!(list(&state["charges"]).iter().filter(|charge| charge["paid"] == true).count(), 1, "charged again");
    assert_eq!(list(&state["subscriptions"])[0]["status"], "canceled");
    assert!(house.machines().vms().await.expect("the machines").is_empty(), "a machine is left");
    assert_letters_by_occasion(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs a server that skips time: make test-long"]
async fn every_day_of_the_month_is_lived_for_three_years_in_the_time_of_its_own_workflow() {
    let house = patient("skipped").await;
    let mut all = begin(&house).await;
    all.sort_by_key(|renewed| renewed.anchor.day);
    becomes(&house, "every server is delivered", "select count(*) from orders where status = 'delivered'", 31).await;
    driven(&house).await;
    let skipper = Skipper::of(&house).await;
    agree(&house, "bought", 0).await;
    stream::iter(&all).for_each_concurrent(AT_ONCE, |renewed| move_to_anchor(&house, renewed)).await;
    let (year, minute) = (all[0].anchor.after(0).year(), Duration::minutes(1));
    let mut since = 0;
    for number in 0..=MONTHS {
        let said = agree(&house, &format!("month {number}"), since).await;
        for renewed in &all {
            let (told, due) = (&said[&renewed.subscription], renewed.anchor.after(number));
            assert_eq!(told.period.1, due.unix_timestamp(), "day {}, month {number}", renewed.anchor.day);
        }
        assert_histories_stay_small(&house, &all).await;
        if number == MONTHS {
            break;
        }
        since = end_of_month(year, number).unix_timestamp() - i64::from(32 * DAY_SECS);
        all_skip(&skipper, &all, |renewed| renewed.anchor.after(number) + minute).await;
        skipper.move_database(end_of_month(year, number)).await;
        advance(&house, end_of_month(year, number)).await;
        driven(&house).await;
    }
    end_all(&house, &skipper, &all, end_of_month(year, MONTHS)).await;
    assert_letters_by_occasion(&house).await;
    house.stop().await.expect("a clean end");
}

/// Everybody cancels at the end, is told of it before, and everything goes on its day.
async fn end_all(house: &House, skipper: &Skipper<'_>, all: &[Renewed], last: OffsetDateTime) {
    stream::iter(all)
        .for_each_concurrent(AT_ONCE, async |renewed| {
            let address = format!("/v1/subscriptions/{}", renewed.subscription);
            at_dashboard(house, &address, &[("cancel_at_period_end", "true")]).await;
        })
        .await;
    driven(house).await;
    all_skip(skipper, all, |renewed| renewed.anchor.after(MONTHS) - Duration::days(2)).await;
    for renewed in all {
        let day = renewed.anchor.after(MONTHS).format(DAY).expect("a day");
        let letter = renewed.customer.mailbox().wait_for(&renewed.customer.email, " ends", 1, SOON).await;
        let letter = letter.unwrap_or_else(|fault| panic!("day {}: {fault}", renewed.anchor.day));
        assert!(letter.text.contains(&format!("It runs until {day}")), "{day}: {}", letter.text);
    }
    all_skip(skipper, all, |renewed| renewed.anchor.after(MONTHS) + Duration::minutes(1)).await;
    skipper.move_database(last).await;
    advance(house, last).await;
    driven(house).await;
    becomes(house, "all are kept", "select count(*) from services where status = 'retained'", 31).await;
    for days in [12, 20] {
        let later = last + Duration::days(days);
        skipper.move_database(later).await;
        all_skip(skipper, all, |_| later).await;
    }
    becomes(house, "all are gone", "select count(*) from services where status = 'expired'", 31).await;
    assert!(house.machines().vms().await.expect("the machines").is_empty(), "a machine is left");
    for kind in ["subscription_ending", "service_retained", "destruction_warning", "service_expired"] {
        let sent: i64 = sqlx::query_scalar("select count(*) from letters where kind = $1 and state = 'sent'")
            .bind(kind)
            .fetch_one(house.db())
            .await
            .expect("the letters");
        assert_eq!(sent, 31, "letters of the kind {kind}");
    }
}
