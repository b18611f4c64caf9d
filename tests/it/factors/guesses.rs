//! Codes that are guessed by somebody who knows the password: they lock, the owner is told and opens it, and nobody is faster by it.
use futures::future::join_all;
use house::{Customer, House, HouseOptions, Page, Visitor};
use url::Url;

use super::{App, add_app, codes_pass, half_in, send_code};
use crate::{
    accounts::{is_in, log_in},
    shop::{SOON, open_with},
    world::count,
};

/// What the letter's subject says.
const ABOUT: &str = "too many wrong codes";
/// How many letters of this kind were written.
const LETTERS: &str = "select count(*) from letters where kind = 'codes_locked'";

/// A guess: of an app's code, or of a recovery code.
fn guess(app: &App, number: usize) -> String {
    if number.is_multiple_of(2) { app.wrong() } else { "abcd-efgh-jkmn-pqrs".to_owned() }
}

/// Sends a guess to one of several processes, whichever the form is from.
async fn send_to(web: &Url, (browser, form): &(Visitor, Page), code: &str) -> u16 {
    let csrf = form.attributes("main input[name=csrf]", "value").into_iter().next().expect("a token");
    let fields = [("csrf", csrf.as_str()), ("code", code)];
    let path = web.join("/accounts/login/second/").expect("a path");
    let request = browser.http.post(path).header("sec-fetch-site", "same-origin").form(&fields);
    request.send().await.expect("an answer").status().as_u16()
}

/// Presses the button of the owner's letter of this number.
async fn open_by_letter(house: &House, customer: &Customer, number: usize) {
    let letter = house.mail().wait_for(&customer.email, ABOUT, number, SOON).await.expect("the letter");
    assert!(letter.text.contains("somebody knows your password"), "{}", letter.text);
    let link = letter.link("/accounts/unlock/").expect("a link");
    let owner = house.visitor().expect("a browser");
    let page = owner.open(link.as_str()).await.expect("a page").ok().expect("the button");
    let opened = owner.submit(&page, "/accounts/unlock/", &[]).await.expect("an answer");
    assert!(opened.status == 200 && opened.text().contains("open again"), "{}", opened.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_codes_over_two_processes_lock_until_the_owner_opens_the_letter() {
    const LOCK: usize = 4;
    let options = HouseOptions::named("guesses-lock").with("EZ_LIMIT_ADDRESS", "4").with("EZ_LIMIT_LOCK", "4");
    let house = open_with(options).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (app, codes) = add_app(&customer).await;
    codes_pass(&house).await;
    let webs = [house.url().clone(), house.start_another_web().await.expect("another web")];
    let mut halves = vec![];
    for _ in 0..2 * LOCK {
        halves.push(half_in(&house, &customer).await);
    }
    let guesses: Vec<String> = (0..halves.len()).map(|number| guess(&app, number / 2)).collect();
    let tries = halves.iter().zip(&guesses).enumerate();
    let statuses = join_all(tries.map(|(number, (half, code))| send_to(&webs[number % 2], half, code))).await;
    let of = |status: u16| statuses.iter().filter(|one| **one == status).count();
    assert_eq!((of(422), of(429)), (LOCK, LOCK), "{statuses:?}");
    assert_eq!(count(house.db(), LETTERS).await, 1, "one lock, one letter");
    assert_eq!(count(house.db(), "select count(*) from audit where action = 'factor.locked'").await, 1);

    // Right codes, of a browser that guessed nothing.
    let (browser, form) = half_in(&house, &customer).await;
    for code in [&app.code(), &codes[0]] {
        let refused = send_code(&browser, &form, code).await;
        assert!(refused.status == 429 && refused.text().contains("Locked"), "{} {}", refused.status, refused.text());
    }
    assert_eq!(count(house.db(), "select count(*) from recovery_codes where used_at is not null").await, 0);
    assert!(!is_in(&browser).await, "the lock lets a right code in");

    open_by_letter(&house, &customer, 1).await;
    let (browser, form) = half_in(&house, &customer).await;
    send_code(&browser, &form, &app.code()).await.ok().expect("let in");
    assert!(is_in(&browser).await, "the letter did not open the second step");
    assert_eq!(house.mail().letters(&customer.email, ABOUT).await.expect("the mailbox").len(), 1);
    assert_eq!(count(house.db(), LETTERS).await, 1, "what was refused wrote another letter");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_hears_of_codes_whatever_else_was_locked_and_no_letter_makes_guessing_faster() {
    let options = HouseOptions::named("guesses-faster").with("EZ_LIMIT_ADDRESS", "2").with("EZ_LIMIT_LOCK", "2");
    let house = open_with(options).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (app, codes) = add_app(&customer).await;
    let (thief, form) = half_in(&house, &customer).await;
    let stranger = house.visitor().expect("a browser");
    for _ in 0..2 {
        assert_eq!(log_in(&stranger, &customer.email, "not the password").await.status, 422);
    }
    let of_passwords = "select count(*) from letters where kind = 'log_in_locked'";
    assert_eq!(count(house.db(), of_passwords).await, 1, "no letter that could stand in for the one about codes");
    for number in 1..=2 {
        for _ in 0..2 {
            assert_eq!(send_code(&thief, &form, &app.wrong()).await.status, 422, "lock {number}");
        }
        open_by_letter(&house, &customer, number).await;
    }
    assert_eq!(send_code(&thief, &form, &app.wrong()).await.status, 422, "the letter did not open the second step");
    let changed = "update limits set closed_until = now() + interval '1 hour'
        where route = 'second' and closed_until is not null";
    let waiting = sqlx::query(changed).execute(house.db()).await.expect("a longer wait than this test");
    assert_eq!(waiting.rows_affected(), 1, "two locks that were opened cost no wait");
    let slower = send_code(&thief, &form, &codes[0]).await;
    assert!(slower.status == 429 && !slower.text().contains("Locked"), "{} {}", slower.status, slower.text());
    assert!(!is_in(&thief).await, "whoever reads the owner's mail guesses on and on");
}
