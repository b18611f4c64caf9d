//! Whether the time of an answer tells who is known.
mod letters;

use std::time::{Duration, Instant};

use house::{Customer, House, HouseOptions, Page, Visitor};

use crate::shop::open_with;

/// How often each is asked in one round, in turns.
const EACH: usize = 7;
/// A machine that is busy with something else may spoil a round, or several.
const ROUNDS: usize = 20;

async fn times(visitor: &Visitor, form: &Page, action: &str, values: &[(&str, &str)]) -> Duration {
    let began = Instant::now();
    let answer = visitor.submit(form, action, values).await.expect("an answer");
    let took = began.elapsed();
    assert!([200, 422].contains(&answer.status), "{} {}", answer.status, answer.text());
    took
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// Over a network nobody sees a millisecond or two.
fn are_alike(of_known: &[Duration], of_unknown: &[Duration]) -> bool {
    let (one, other) = (median(of_known), median(of_unknown));
    one.abs_diff(other) <= (one.max(other) / 10).max(Duration::from_millis(2))
}

/// Asks about an address that is known and about ones that are not, in turns and each after `before`, until a round or all of them
/// together took alike. What is written down for the known alone would take 30 ms more in each of them.
async fn assert_alike(
    visitor: &Visitor,
    (path, action): (&str, &str),
    email: &str,
    rest: &[(&str, &str)],
    before: impl AsyncFn(),
) {
    let form = visitor.open(path).await.expect("the form");
    let (mut all_known, mut all_unknown) = (vec![], vec![]);
    for round in 0..ROUNDS {
        let (mut of_known, mut of_unknown) = (vec![], vec![]);
        for number in 0..EACH {
            let nobody = format!("nobody-{round}-{number}@example.test");
            let with = |email| [&[("email", email)], rest].concat();
            // In no fixed order: another test that asks in turns, too, would meet the same one of the two each time.
            let known_first = rand::random::<bool>();
            for is_known in [known_first, !known_first] {
                before().await;
                let took = times(visitor, &form, action, &with(if is_known { email } else { &nobody })).await;
                if is_known { of_known.push(took) } else { of_unknown.push(took) }
            }
        }
        all_known.extend_from_slice(&of_known);
        all_unknown.extend_from_slice(&of_unknown);
        if are_alike(&of_known, &of_unknown) || are_alike(&all_known, &all_unknown) {
            return;
        }
    }
    let medians = (median(&all_known), median(&all_unknown));
    panic!("{action} tells by its time who is known: {medians:?} of {}", all_known.len());
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
