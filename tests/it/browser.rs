//! The customer's and the staff's journey in a real browser, with and without JavaScript, with and without a mouse.
//!
//! Every page is looked at on a desk and on a phone, by day and by night; the pictures are in `build/screenshots/`.
mod chromium;
mod hostile;
mod hostile_forms;
mod passkeys;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chromium::Browser;
use house::{Customer, House, HouseOptions, OrderForm, PolicySecs};
use serde_json::{Value, json};
use thirtyfour::Key;

use crate::{
    attention::{staff, waiting_step},
    shop::{SOON, open, open_with},
};

/// A disk that cannot grow: an order stays on its way until the fault is cleared.
fn stuck_disk() -> Value {
    json!({"kind": "status", "status": 500, "method": "PUT", "path": "/resize"})
}

async fn log_in(browser: &Browser, customer: &Customer) -> Result<()> {
    browser.go("/accounts/login/").await?;
    browser.fill("email", &customer.email).await?;
    browser.fill("password", &customer.password).await?;
    browser.press("Log in").await
}

/// From the front page to an account whose address is confirmed.
async fn sign_up(browser: &Browser, customer: &Customer) -> Result<()> {
    browser.go("/").await?;
    browser.look("home").await?;
    browser.go("/pricing/").await?;
    browser.look("pricing").await?;
    browser.go("/about/").await?;
    browser.look("about").await?;
    browser.go("/nowhere/").await?;
    browser.look("not-found").await?;
    browser.go("/accounts/signup/").await?;
    browser.look("signup").await?;
    browser.fill("name", &customer.name).await?;
    browser.fill("email", "nobody").await?;
    browser.fill("password", "short").await?;
    browser.press("Create account").await?;
    browser.look("signup-refused").await?;
    ensure!(browser.attribute("#name", "value").await?.as_deref() == Some(customer.name.as_str()), "the name is lost");
    browser.fill("email", &customer.email).await?;
    browser.fill("password", &customer.password).await?;
    browser.press("Create account").await?;
    browser.look("inbox").await?;
    browser.go(customer.verification_link().await?.as_str()).await?;
    browser.look("login").await?;
    browser.fill("email", &customer.email).await?;
    browser.fill("password", &customer.password).await?;
    browser.press("Log in").await?;
    browser.look("verify").await?;
    browser.press("Yes, this is my address").await?;
    browser.look("dashboard-empty").await
}

/// From the plans through a refused and a good form to Stripe's page.
async fn order(browser: &Browser) -> Result<()> {
    browser.go("/pricing/").await?;
    browser.press("Small").await?;
    browser.look("plan").await?;
    browser.press("Order, paid monthly").await?;
    browser.look("checkout").await?;
    browser.fill("hostname", "-not a name-").await?;
    browser.press("Go to payment").await?;
    browser.look("checkout-refused").await?;
    ensure!(
        browser.attribute("#hostname", "aria-invalid").await?.as_deref() == Some("true"),
        "the field is not marked"
    );
    ensure!(
        browser.attribute("#hostname", "value").await?.as_deref() == Some("-not a name-"),
        "what was typed is lost"
    );
    ensure!(!browser.text("#hostname-fault").await?.is_empty(), "nothing beside the field says what is wrong");
    let described = browser.attribute("#hostname", "aria-describedby").await?.unwrap_or_default();
    ensure!(described.contains("hostname-fault"), "the fault does not describe the field");
    browser.press_at("#faults a").await?;
    ensure!(browser.ask("return document.activeElement.id").await? == json!("hostname"), "the summary leads nowhere");
    browser.fill("hostname", "web-1").await?;
    browser.press_at("label[for=image-debian-13]").await?;
    browser.press("Go to payment").await
}

/// On the order's page from paid to delivered without a reload, then to the server and its password.
async fn receive(browser: &Browser, house: &House) -> Result<()> {
    browser.press("Follow your order").await?;
    browser.wait_for("In progress", SOON).await?;
    browser.look("order").await?;
    browser.ask("window.sinceTheFirstLook = true").await?;
    house.proxmox()?.clear_faults().await?;
    browser.wait_for("Your server is ready", SOON).await?;
    ensure!(browser.ask("return window.sinceTheFirstLook").await? == json!(true), "the page was loaded again");
    let announced = browser.ask("return document.querySelector('[role=status]').textContent").await?;
    ensure!(announced.as_str().is_some_and(|words| !words.is_empty()), "nothing is announced: {announced}");
    browser.look("order-delivered").await?;
    browser.press("To your server").await?;
    browser.look("vps").await?;
    browser.press("Show the password once").await?;
    ensure!(browser.text("#password").await?.len() >= 12, "no password");
    browser.look("password").await?;
    browser.press("Back to the server").await?;
    browser.press("cancel").await?;
    browser.look("cancel").await?;
    browser.press("Back to the server").await?;
    ensure!(!browser.text("main").await?.contains("Show the password once"), "the password is offered twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_buys_a_server_in_a_real_browser() -> Result<()> {
    let house = open("browser").await;
    let (browser, customer) = (Browser::open(&house, true).await?, Customer::stranger(&house)?);
    sign_up(&browser, &customer).await?;
    order(&browser).await?;
    browser.arrive(house.stripe().base(), SOON).await?;
    house.proxmox()?.add_fault(stuck_disk()).await?;
    browser.forget_complaints().await?;
    browser.press_at("#pay").await?;
    browser.arrive(house.url(), SOON).await?;
    browser.look("return").await?;
    receive(&browser, &house).await?;
    browser.go("/dashboard/").await?;
    browser.wait_for("Running", SOON).await?;
    browser.look("dashboard").await?;
    browser.go("/billing/portal/").await?;
    browser.look("billing").await?;
    browser.press("Invoices and receipts").await?;
    browser.look("invoices").await?;
    browser.go("/accounts/logout/").await?;
    browser.look("logout").await?;
    browser.press("Log out").await?;
    browser.go("/dashboard/").await?;
    ensure!(browser.url().await?.path() == "/accounts/login/", "still logged in");
    browser.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_javascript_an_order_is_followed_by_reloading() -> Result<()> {
    let house = open("no-script").await;
    let (browser, customer) = (Browser::open(&house, false).await?, Customer::signed_in(&house).await?);
    house.proxmox()?.add_fault(stuck_disk()).await?;
    log_in(&browser, &customer).await?;
    browser.go("/billing/checkout/small/").await?;
    browser.fill("hostname", "plain-1").await?;
    browser.press_at("label[for=image-debian-13]").await?;
    browser.press("Go to payment").await?;
    browser.arrive(house.stripe().base(), SOON).await?;
    browser.press_at("#pay").await?;
    browser.arrive(house.url(), SOON).await?;
    browser.press("Follow your order").await?;
    browser.wait_for("Refresh", SOON).await?;
    ensure!(!browser.text("main").await?.contains("Your server is ready"), "delivered although the disk cannot grow");
    house.proxmox()?.clear_faults().await?;
    let page = browser.url().await?;
    customer.wait_until_page_says(page.as_str(), "Your server is ready", SOON).await?;
    ensure!(!browser.text("main").await?.contains("Your server is ready"), "JavaScript is on");
    browser.press("Refresh").await?;
    browser.wait_for("Your server is ready", SOON).await?;
    browser.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_payment_and_an_end_are_told_plainly() -> Result<()> {
    let policy = PolicySecs { suspend_after: 15, retention: 120, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, month_secs: Some(12), ..HouseOptions::named("unpaid") }).await;
    let (browser, customer) = (Browser::open(&house, true).await?, Customer::signed_in(&house).await?);
    let page = customer.buy(&OrderForm::small("late-1")).await?;
    customer.wait_until_page_says(page.as_str(), "delivered", SOON).await?;
    customer.at_stripe("failing-card").await?;
    log_in(&browser, &customer).await?;
    customer.wait_until_page_says("/dashboard/", "Payment missing", SOON).await?;
    browser.go("/dashboard/").await?;
    browser.look("dashboard-unpaid").await?;
    browser.press("late-1").await?;
    browser.look("vps-unpaid").await?;
    let server = browser.url().await?;
    customer.wait_until_page_says(server.as_str(), "Your server is stopped", SOON).await?;
    browser.go(server.as_str()).await?;
    browser.look("vps-suspended").await?;
    customer.at_stripe("cancel-now").await?;
    customer.wait_until_page_says(server.as_str(), "Your subscription has ended", SOON).await?;
    browser.go(server.as_str()).await?;
    browser.look("vps-retained").await?;
    customer.wait_until_page_says("/dashboard/", "Kept until", SOON).await?;
    browser.go("/dashboard/").await?;
    browser.look("dashboard-ended").await?;
    browser.close().await
}

/// Waits until nothing waits for staff, who press what the page says as long as their decision is being carried out.
async fn calm(browser: &Browser) -> Result<()> {
    let began = Instant::now();
    loop {
        let said = browser.text("main").await.unwrap_or_default();
        if said.contains("Nothing waits") {
            return Ok(());
        }
        ensure!(began.elapsed() < SOON, "staff are not told what became of their decision: {said}");
        if said.contains("Your decision was taken") {
            browser.press("look again").await?;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_free_a_stuck_order_with_the_keyboard_alone() -> Result<()> {
    let policy = PolicySecs { step_patience: 8, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("keyboard") }).await;
    let (customer, colleague) = (Customer::signed_in(&house).await?, staff(&house).await);
    house.proxmox()?.add_fault(stuck_disk()).await?;
    let page = customer.buy(&OrderForm::small("stuck-1")).await?;
    let workflow_id = format!("order-{}", house::order_id(&page)?);
    waiting_step(&house, &workflow_id).await;
    let (at_home, at_work) = (Browser::open(&house, true).await?, Browser::open(&house, true).await?);
    log_in(&at_home, &customer).await?;
    at_home.go(page.as_str()).await?;
    at_home.wait_for("we are on it", SOON).await?;
    at_home.look("order-delayed").await?;

    log_in(&at_work, &colleague).await?;
    at_work.go("/staff/").await?;
    at_work.look("staff").await?;
    let link = at_work.attribute(&format!("a[href*='/workflows/{workflow_id}']"), "href").await?.unwrap_or_default();
    ensure!(link.starts_with(house.temporal_ui().as_str()), "{link} does not lead to Temporal");
    house.proxmox()?.clear_faults().await?;
    at_work.tab_to("button[value=retry]").await?;
    at_work.key(Key::Enter).await?;
    calm(&at_work).await?;
    at_work.look("staff-calm").await?;
    let subscription = at_work.attribute("a[href^='/staff/subscriptions/']", "href").await?;
    at_work.go(&subscription.context("a link to the subscription")?).await?;
    at_work.look("subscription").await?;
    at_home.wait_for("Your server is ready", SOON).await?;
    at_work.close().await?;
    at_home.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_of_an_account_are_plain_on_every_screen() -> Result<()> {
    let house = open("browser-account").await;
    let (browser, customer) = (Browser::open(&house, true).await?, Customer::signed_in(&house).await?);
    browser.go("/accounts/reset/").await?;
    browser.look("reset").await?;
    browser.fill("email", &customer.email).await?;
    browser.press("Send me a link").await?;
    browser.look("reset-sent").await?;
    let letter = house.mail().wait_for(&customer.email, "choose a new password", 1, SOON).await?;
    browser.go(letter.link("/accounts/reset/")?.as_str()).await?;
    browser.look("reset-new").await?;
    browser.go("/accounts/reset/?id=x&tag=y").await?;
    browser.look("link-garbled").await?;
    log_in(&browser, &customer).await?;
    for (path, name) in [
        ("/accounts/", "account"),
        ("/accounts/password/", "account-password"),
        ("/accounts/sessions/", "account-sessions"),
        ("/accounts/address/", "account-address"),
        ("/accounts/members/", "account-members"),
        ("/accounts/activity/", "account-activity"),
        ("/accounts/tokens/", "account-tokens"),
        ("/privacy/", "privacy"),
        ("/cookies/", "cookies"),
        ("/terms/", "terms"),
        ("/accounts/data/", "account-data"),
        ("/accounts/erase/", "account-erase"),
        ("/accounts/close/", "account-close"),
    ] {
        browser.go(path).await?;
        browser.look(name).await?;
    }
    browser.press("Close my account").await?;
    browser.look("account-close-refused").await?;
    browser.close().await
}
