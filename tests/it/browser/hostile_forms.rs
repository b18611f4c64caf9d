//! Strings that are code to a browser in the fields of members, second factors, tokens, own data and staff, seen in a real browser
//! with the content policy on: one house, one window, everybody in turn.
use anyhow::{Context as _, Result, ensure};
use house::{Catalogue, Customer, House, HouseOptions, OrderForm, PolicySecs, SizeEntry};
use serde_json::json;

use super::{
    chromium::Browser,
    hostile::{CODE, assert_harmless, attack_with},
    log_in,
};
use crate::{
    accounts::{
        invitations::{invite, link},
        send,
    },
    attention::{staff, waiting_step},
    money::{
        staff::day,
        story::{act, at_dashboard},
    },
    shop::{SOON, open_with, until},
};

/// An address that could exist, and ends an attribute where nobody minds.
const ADDRESS: &str = "'/onfocus='document.body.id=1'/autofocus='{{7*7}}@example.test";

/// Fills in and sends the first form that goes there: a reason, and a day where it asks for one.
const GIVE: &str = "
    const [action, reason, day] = arguments;
    const form = document.querySelector(`main form[action='${action}']`);
    form.querySelector('[name=reason]').value = reason;
    for (const until of form.querySelectorAll('[name=until]:not([type=hidden])')) { until.value = day }
    window.leaving = true;
    HTMLFormElement.prototype.submit.call(form)";

/// All of them in one line, which is as long as the longest field takes.
fn whole() -> String {
    CODE.join(" ")
}

/// The smallest plan covers a second server.
fn covers_two(catalogue: &mut Catalogue) {
    catalogue.plans[0].service_limit = 2;
    catalogue.plans[0].further = Some(SizeEntry { cores: 1, memory_mib: 1_024, disk_gib: 20 });
}

/// A house in which guesses cost nothing, steps lose their patience, nothing is taken away that staff do not approve, and passkeys
/// are bound to a name.
async fn house_of_forms() -> House {
    let policy = PolicySecs { step_patience: 6, breaker: 0, ..PolicySecs::default() };
    let options = HouseOptions { policy, change_catalogue: covers_two, ..HouseOptions::named("hostile-forms") };
    let options = options.at_localhost().with("EZ_LIMIT_ADDRESS", "100000").with("EZ_LIMIT_LOCK", "100000");
    open_with(options.with("EZ_POLICY_BREAKER_PERCENT", "0")).await
}

/// Somebody whose name is code, with a server, an order that waits for staff, and two invitations. Gives them, the order's
/// workflow, and the link of one invitation.
async fn somebody(house: &House) -> Result<(Customer, String, url::Url)> {
    let stranger = Customer::stranger(house)?;
    let customer = Customer::at(house, CODE[0], &stranger.email, &stranger.password)?;
    customer.sign_up().await?;
    customer.verify().await?;
    customer.log_in().await?;
    let order = customer.buy(&OrderForm::small("hostile-1")).await?;
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await?;
    let told = json!({"data": null, "message": CODE[1]});
    let fault = json!({"kind": "status", "status": 500, "method": "POST", "path": "/clone", "body": told});
    house.proxmox()?.add_fault(fault).await?;
    let stuck = customer.buy(&OrderForm::small("hostile-2")).await?;
    for email in [ADDRESS, "guest@example.test"] {
        invite(&customer, email, "read_only").await.ok()?;
    }
    let invitation = link(house, "guest@example.test", 1).await;
    Ok((customer, format!("order-{}", house::order_id(&stuck)?), invitation))
}

/// Opens a page that shows this text, and nothing of it is more than words.
async fn shows(browser: &Browser, house: &House, path: &str, text: &str) -> Result<()> {
    browser.go(path).await?;
    assert_harmless(browser, house, path).await?;
    let shown = browser.text("body").await?;
    ensure!(shown.contains(text), "{path} does not show “{text}” as it was written: {shown}");
    Ok(())
}

/// Sends a form that has nothing to be filled in.
async fn send_as_it_is(browser: &Browser, action: &str) -> Result<()> {
    let form = format!("document.querySelector(\"main form[action='{action}']\")");
    browser.ask(&format!("window.leaving = true; HTMLFormElement.prototype.submit.call({form})")).await?;
    browser.left(SOON).await
}

async fn log_out(browser: &Browser) -> Result<()> {
    browser.go("/accounts/logout/").await?;
    browser.press("Log out").await
}

/// The subscription of the server that was delivered.
async fn first_subscription(house: &House) -> Result<String> {
    let found = sqlx::query_scalar("select subscription_id from services where hostname = 'hostile-1'");
    Ok(found.fetch_one(house.db()).await?)
}

/// What the owner of an account fills in and reads.
async fn as_owner(browser: &Browser, house: &House, customer: &Customer) -> Result<()> {
    let subscription = first_subscription(house).await?;
    shows(browser, house, "/accounts/members/", ADDRESS).await?;
    ensure!(browser.text("h1").await?.contains(CODE[0]), "the account's name is not shown as it was written");
    for name in [CODE[2], CODE[4]] {
        browser.go("/accounts/tokens/").await?;
        browser.fill("name", name).await?;
        browser.press_at("label[for=scope-1]").await?;
        browser.fill("password", &customer.password).await?;
        browser.press("Make a token").await?;
        ensure!(browser.text("h1").await?.contains(name), "not made: {}", browser.text("main").await?);
        assert_harmless(browser, house, "a token that was made").await?;
    }
    shows(browser, house, "/accounts/tokens/", CODE[4]).await?;
    browser.with_device().await?;
    browser.go("/accounts/factors/passkey/").await?;
    browser.fill("name", CODE[1]).await?;
    browser.press("Add it").await?;
    browser.wait_for("Your passkey is added", SOON).await?;
    assert_harmless(browser, house, "a passkey that was added").await?;
    shows(browser, house, "/accounts/factors/", CODE[1]).await?;
    shows(browser, house, "/accounts/activity/", CODE[2]).await?;
    let further = format!("/dashboard/subscriptions/{subscription}/server/");
    for path in [
        "/accounts/tokens/",
        "/accounts/members/",
        "/accounts/factors/passkey/",
        "/accounts/factors/app/",
        "/accounts/data/",
        &further,
    ] {
        attack_with(browser, house, path, &[&whole()]).await?;
    }
    sqlx::query("update sessions set proven_at = now() - interval '2 days'").execute(house.db()).await?;
    attack_with(browser, house, "/accounts/again/", &[&whole()]).await?;
    sqlx::query("update sessions set proven_at = now()").execute(house.db()).await?;
    Ok(())
}

/// What staff fill in and read, and what everybody sees while they look at a customer's pages.
async fn as_staff(browser: &Browser, house: &House, customer: &Customer) -> Result<()> {
    let reason = whole();
    // Each form of a subscription also wants a day or an amount, which code is not: nothing is told to it.
    let told = format!("/staff/subscriptions/{}/", first_subscription(house).await?);
    for path in ["/staff/", "/staff/people/", "/staff/viewing/", "/staff/factors/", &told] {
        attack_with(browser, house, path, &[&reason]).await?;
    }
    for code in CODE {
        let code: String = url::form_urlencoded::byte_serialize(code.as_bytes()).collect();
        for asked in [
            format!("person={code}&account={code}&action={code}&subject={code}&from={code}&until={code}"),
            format!("action={code}&subject={code}"),
        ] {
            browser.go(&format!("/staff/audit/?{asked}")).await?;
            assert_harmless(browser, house, "the search of the trail").await?;
        }
    }
    shows(browser, house, "/staff/audit/?action=token.made", CODE[2]).await?;

    let colleague = staff(house).await;
    let values = [("email", customer.email.as_str()), ("reason", reason.as_str())];
    send(&colleague.visitor, "/staff/factors/", "/staff/factors/", &values).await.ok()?;
    shows(browser, house, "/staff/factors/", &reason).await?;

    browser.go("/staff/viewing/").await?;
    browser.fill("whom", &customer.email).await?;
    browser.fill("reason", &reason).await?;
    browser.press("Look").await?;
    ensure!(browser.url().await?.path() == "/dashboard/", "not looking: {}", browser.text("main").await?);
    for path in ["/dashboard/", "/accounts/members/", "/billing/invoices/", "/pricing/", "/staff/", "/staff/viewing/"] {
        shows(browser, house, path, &reason).await?;
    }
    send_as_it_is(browser, "/staff/viewing/end/").await?;
    ensure!(!browser.text("body").await?.contains("You look at"), "it goes on");
    shows(browser, house, "/staff/viewing/", &reason).await
}

/// Waits until a query about one thing counts something.
async fn is_there(house: &House, what: &str, query: &'static str, about: &str) {
    until(what, SOON * 2, || async {
        let found: i64 = sqlx::query_scalar(query).bind(about).fetch_one(house.db()).await.expect("a number");
        (found > 0).then_some(())
    })
    .await;
}

/// Sends the first form that goes to `action` with a reason that is code, and gives the reason.
async fn gives_reason(browser: &Browser, house: &House, action: &str, word: &str) -> Result<String> {
    let reason = format!("{word} {}", CODE[..6].join(" "));
    browser.ask_with(GIVE, vec![json!(action), json!(reason), json!(day(3))]).await?;
    browser.left(SOON).await?;
    assert_harmless(browser, house, action).await?;
    Ok(reason)
}

/// The reasons staff give for a hold, for what is held back, and for money that did not arrive.
async fn as_staff_over_what_is_held(browser: &Browser, house: &House) -> Result<()> {
    let subscription = first_subscription(house).await?;
    let page = format!("/staff/subscriptions/{subscription}/");
    for (word, done) in [
        ("hold", "select count(*) from instructions where subscription_id = $1 and kind = 'hold' and state = 'done'"),
        (
            "release",
            "select count(*) from instructions where subscription_id = $1 and kind = 'release' and state = 'done'",
        ),
    ] {
        browser.go(&page).await?;
        let reason = gives_reason(browser, house, &format!("{page}{word}/"), word).await?;
        is_there(house, word, done, &subscription).await;
        shows(browser, house, &page, &reason).await?;
    }

    let payment = "select id from payments where subscription_id = $1 and status = 'succeeded'";
    let payment: String = until("the payment is mirrored", SOON, || async {
        sqlx::query_scalar(payment).bind(&subscription).fetch_optional(house.db()).await.expect("the payments")
    })
    .await;
    let refund = at_dashboard(house, "/v1/refunds", &[("charge", &payment), ("amount", "100")]).await;
    let refund = refund["id"].as_str().context("an id")?;
    act(house, &format!("refunds/{refund}/fail"), json!({})).await;
    let lost =
        "select count(*) from payment_events where object_id = $1 and type = 'difference' and state = 'unclaimed'";
    is_there(house, "staff are shown the refund", lost, refund).await;
    browser.go("/staff/").await?;
    let reason = gives_reason(browser, house, "/staff/refunds/", "settle").await?;
    shows(browser, house, "/staff/audit/?action=refund.settled", &reason).await?;

    act(house, &format!("subscriptions/{subscription}/cancel"), json!({})).await;
    let held = "select count(*) from removals where subscription_id = $1 and cause = 'breaker'";
    is_there(house, "its end waits for staff", held, &subscription).await;
    browser.go("/staff/coming/").await?;
    let reason = gives_reason(browser, house, "/staff/removals/", "approve").await?;
    shows(browser, house, &page, &reason).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strings_that_are_code_to_a_browser_are_words_to_members_and_to_staff() -> Result<()> {
    let house = house_of_forms().await;
    let (customer, workflow_id, invitation) = somebody(&house).await?;
    let colleague = Customer::at(&house, "Staff", house.staff_email(), house.staff_password())?;
    let browser = Browser::open(&house, true).await?;

    // Somebody who is invited: the name of the account stands on the page, and both fields stay empty of code.
    browser.go(invitation.as_str()).await?;
    ensure!(browser.text("main").await?.contains(CODE[0]), "the account is not named: {}", browser.text("main").await?);
    assert_harmless(&browser, &house, "an invitation").await?;
    attack_with(&browser, &house, invitation.as_str(), &[&whole()]).await?;

    // Only who has no server may have everything erased.
    let newcomer = Customer::signed_in(&house).await?;
    log_in(&browser, &newcomer).await?;
    attack_with(&browser, &house, "/accounts/erase/", &[&whole()]).await?;
    log_out(&browser).await?;

    log_in(&browser, &customer).await?;
    as_owner(&browser, &house, &customer).await.context("as an owner")?;
    log_out(&browser).await?;

    log_in(&browser, &customer).await?;
    ensure!(browser.url().await?.path() == "/accounts/login/second/", "no second step");
    attack_with(&browser, &house, "/accounts/login/second/", &[&whole()]).await?;

    waiting_step(&house, &workflow_id).await;
    log_in(&browser, &colleague).await?;
    as_staff(&browser, &house, &customer).await.context("as staff")?;
    as_staff_over_what_is_held(&browser, &house).await.context("as staff, over what is held")?;
    browser.close().await
}
