//! Second factors: an app, recovery codes and passkeys; saying again who one is; what staff need and do; and keys that are replaced.
mod app;
mod authenticator;
mod first;
mod guesses;
mod half;
mod lost;
mod passkeys;
mod rotation;
mod staff;
mod step_up;

use std::time::{SystemTime, UNIX_EPOCH};

use house::{Customer, House, Page, Visitor};
use totp_rs::{Algorithm, Secret, TOTP};

use crate::accounts::log_in;

const STEP_SECS: u64 = 30;

/// An app on somebody's phone.
pub(crate) struct App {
    totp: TOTP,
    /// What was typed into it.
    pub(crate) seed: String,
    /// The code it was added with.
    first: String,
}

impl App {
    /// Reads what is typed into an app that has no camera.
    fn typed(page: &Page) -> Self {
        let secret = page.texts("#secret").concat().replace(' ', "");
        let bytes = Secret::Encoded(secret.clone()).to_bytes().expect("a secret in base32");
        let totp = TOTP::new(Algorithm::SHA1, 6, 1, STEP_SECS, bytes).expect("an app");
        Self { totp, seed: secret, first: String::new() }
    }

    /// The code it shows now.
    pub(crate) fn code(&self) -> String {
        self.code_after(0)
    }

    /// The code it shows so many steps later.
    fn code_after(&self, steps: u64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        self.totp.generate(now + steps * STEP_SECS)
    }

    /// Six digits that are none of the present ones.
    fn wrong(&self) -> String {
        let right: Vec<String> = (0..4).map(|steps| self.code_after(steps)).collect();
        let wrong = (0..10).map(|digit| digit.to_string().repeat(6)).find(|code| !right.contains(code));
        wrong.expect("one of ten is wrong")
    }
}

/// Adds an app, and gives it with the recovery codes.
pub(crate) async fn add_app(customer: &Customer) -> (App, Vec<String>) {
    let page = customer.visitor.open("/accounts/factors/app/").await.expect("a page").ok().expect("the page");
    let mut app = App::typed(&page);
    app.first = app.code();
    let added =
        customer.visitor.submit(&page, "/accounts/factors/app/", &[("code", &app.first)]).await.expect("an answer");
    assert!(added.status == 200 && added.text().contains("app is added"), "{} {}", added.status, added.text());
    (app, added.texts("#recovery-codes li"))
}

/// As when every code that was shown until now is long over.
pub(crate) async fn codes_pass(house: &House) {
    sqlx::query("update totp set last_step = 0").execute(house.db()).await.expect("time passes");
}

/// A browser in which the password was right.
pub(crate) async fn half_in(house: &House, customer: &Customer) -> (Visitor, Page) {
    let browser = house.visitor().expect("a browser");
    let page = log_in(&browser, &customer.email, &customer.password).await;
    assert_eq!((page.status, page.url.path()), (200, "/accounts/login/second/"), "{}", page.text());
    (browser, page)
}

/// Sends a code in the second step.
pub(crate) async fn send_code(browser: &Visitor, page: &Page, code: &str) -> Page {
    browser.submit(page, "/accounts/login/second/", &[("code", code)]).await.expect("an answer")
}
