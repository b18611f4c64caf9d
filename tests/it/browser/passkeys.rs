//! Passkeys and the pages about second factors in a real browser, with the content policy on and a device in software.
use anyhow::{Result, ensure};
use house::{Customer, HouseOptions};

use super::{chromium::Browser, log_in};
use crate::shop::{SOON, open_with};

async fn log_out(browser: &Browser) -> Result<()> {
    browser.go("/accounts/logout/").await?;
    browser.press("Log out").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_is_added_and_used_in_a_real_browser() -> Result<()> {
    let options = HouseOptions::named("browser-passkey").at_localhost().with("EZ_STEP_UP_SECS", "600");
    let house = open_with(options).await;
    let (browser, customer) = (Browser::open(&house, true).await?, Customer::signed_in(&house).await?);
    log_in(&browser, &customer).await?;
    browser.with_device().await?;
    browser.go("/accounts/factors/").await?;
    browser.look("factors-none").await?;
    browser.go("/accounts/factors/app/").await?;
    browser.look("factor-app").await?;
    browser.go("/accounts/factors/passkey/").await?;
    browser.look("factor-passkey").await?;
    browser.fill("name", "my laptop").await?;
    browser.press("Add it").await?;
    browser.wait_for("Your passkey is added", SOON).await?;
    browser.look("factor-codes").await?;
    browser.press("I have them").await?;
    browser.look("factors").await?;

    log_out(&browser).await?;
    browser.go("/accounts/login/passkey/").await?;
    browser.look("login-passkey").await?;
    browser.press("Use a passkey").await?;
    ensure!(browser.url().await?.path() == "/dashboard/", "not let in: {}", browser.text("main").await?);

    log_out(&browser).await?;
    log_in(&browser, &customer).await?;
    ensure!(browser.url().await?.path() == "/accounts/login/second/", "no second step");
    browser.look("second").await?;
    browser.press("Use a passkey").await?;
    ensure!(browser.url().await?.path() == "/dashboard/", "not let in: {}", browser.text("main").await?);

    sqlx::query("update sessions set proven_at = now() - interval '11 minutes'").execute(house.db()).await?;
    browser.go("/accounts/factors/passkey/").await?;
    browser.look("again").await?;
    browser.press("Use a passkey").await?;
    ensure!(browser.url().await?.path() == "/accounts/factors/passkey/", "{}", browser.text("main").await?);
    // The device holds one for this account already, and the page says so without leaving.
    browser.fill("name", "the same laptop").await?;
    browser.press_at("form[data-passkey] button").await?;
    browser.wait_for("has a passkey for this account already", SOON).await?;
    browser.close().await
}
