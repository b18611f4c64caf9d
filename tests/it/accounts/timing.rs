//! Whether the time of an answer tells who is known.
mod judge;
mod letters;

use std::time::{Duration, Instant};

use house::{Customer, House, HouseOptions, Page, Visitor};
use judge::{Pairs, Verdict};

use crate::shop::open_with;

/// How many pairs are asked for before they are judged again, with all before them.
const EACH: usize = 7;
/// A quiet machine needs two rounds; one that is busy with something else needs more to be sure.
const ROUNDS: usize = 40;

async fn times(visitor: &Visitor, form: &Page, action: &str, values: &[(&str, &str)]) -> Duration {
    let began = Instant::now();
    let answer = visitor.submit(form, action, values).await.expect("an answer");
    let took = began.elapsed();
    assert!([200, 422].contains(&answer.status), "{} {}", answer.status, answer.text());
    took
}

/// Asks about an address that is known and about ones that are not, in pairs and each after `before`, until all of them together say
/// for sure whether they take alike. What is written down for the known alone would take 30 ms more in each of them.
async fn assert_alike(
    visitor: &Visitor,
    (path, action): (&str, &str),
    email: &str,
    rest: &[(&str, &str)],
    before: impl AsyncFn(),
) {
    let form = visitor.open(path).await.expect("the form");
    let mut pairs = Pairs::default();
    for round in 0..ROUNDS {
        for number in 0..EACH {
            let nobody = format!("nobody-{round}-{number}@example.test");
            let with = |email| [&[("email", email)], rest].concat();
            // In no fixed order: another test that asks in turns, too, would meet the same one of the two each time.
            let known_first = rand::random::<bool>();
            let (mut of_known, mut of_unknown) = (Duration::ZERO, Duration::ZERO);
            for is_known in [known_first, !known_first] {
                before().await;
                let took = times(visitor, &form, action, &with(if is_known { email } else { &nobody })).await;
                *(if is_known { &mut of_known } else { &mut of_unknown }) = took;
            }
            pairs.add(of_known, of_unknown);
        }
        match pairs.verdict() {
            Verdict::Alike => return,
            Verdict::Differ => break,
            Verdict::Unsure => {}
        }
    }
    let said = pairs.told();
    let is_told = pairs.verdict() == Verdict::Differ || pairs.last_verdict() == Verdict::Differ;
    assert!(!is_told, "{action} tells by its time who is known: {said}");
    eprintln!("{action}: nothing to be seen on so busy a machine: {said}");
}

async fn slow_disk(house: &House) {
    for change in [
        "create function slow() returns trigger language plpgsql as
         $$ begin perform pg_sleep(0.03); return new; end $$",
        "create trigger slow before insert on access_changes for each row execute function slow()",
        "create trigger slow before insert on letters for each row execute function slow()",
    ] {
        sqlx::query(change).execute(house.db()).await.expect("a slow disk");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_an_answer_does_not_tell_who_is_known() {
    let options = HouseOptions::named("timing").with("EZ_LIMIT_ADDRESS", "100000").with("EZ_LIMIT_LOCK", "100000");
    let house = open_with(options).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    // Every question about the known address does all it ever does, however soon it is asked again.
    sqlx::query("alter table access_changes alter column created_at set default now() - interval '1 hour'")
        .execute(house.db())
        .await
        .expect("as if asked an hour ago");
    slow_disk(&house).await;
    let (visitor, email) = (house.visitor().expect("a browser"), customer.email.as_str());
    let reset = ("/accounts/reset/", "/accounts/reset/");
    assert_alike(&visitor, reset, email, &[], async || {}).await;
    let log_in = ("/accounts/login/", "/accounts/login/");
    assert_alike(&visitor, log_in, email, &[("password", "not the password")], async || {}).await;
    let sign_up = ("/accounts/signup/", "/accounts/signup/");
    assert_alike(&visitor, sign_up, email, &[("name", "Ada"), ("password", "purple lantern on ice")], async || {})
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_the_try_that_locks_does_not_tell_who_is_known() {
    let options = HouseOptions::named("timing-lock").with("EZ_LIMIT_ADDRESS", "1").with("EZ_LIMIT_LOCK", "1");
    let house = open_with(options).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    slow_disk(&house).await;
    let visitor = house.visitor().expect("a browser");
    // Every try is the first and the last, and every lock is one that is told of.
    let anew = async || {
        for forget in ["delete from limits", "update access_changes set used_at = now() where used_at is null"] {
            sqlx::query(forget).execute(house.db()).await.expect("nothing was tried");
        }
    };
    let log_in = ("/accounts/login/", "/accounts/login/");
    assert_alike(&visitor, log_in, &customer.email, &[("password", "not the password")], anew).await;
}
