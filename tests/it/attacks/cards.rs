//! Card data stays with Stripe: nothing of ours asks for it, takes it, or loads a script that does.
use house::{Customer, OrderForm, Page, Visitor};

use crate::{
    attention::staff,
    forms::{careful_customer, filled, get, hidden, location, post, routes},
    shop::{SOON, open, until},
};

/// A page has no field for a card, and no script and no frame from elsewhere.
fn assert_no_card(visitor: &Visitor, page: &Page) {
    for name in page.attributes("input, textarea, select", "name") {
        for word in ["card", "cvc", "cvv", "iban", "expiry", "exp_month"] {
            assert!(!name.to_lowercase().contains(word), "{} asks for {name}", page.url);
        }
    }
    for autocomplete in page.attributes("input", "autocomplete") {
        assert!(!autocomplete.starts_with("cc-"), "{} asks for {autocomplete}", page.url);
    }
    for source in page.attributes("script, iframe, img, link[rel=stylesheet], embed, object", "src") {
        let address = page.url.join(&source).expect("an address");
        assert_eq!(address.origin(), visitor.home.origin(), "{} loads {source}", page.url);
    }
    assert!(!page.html.to_lowercase().contains("js.stripe.com"), "{} speaks of Stripe's script", page.url);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_asks_for_a_card_or_loads_a_script_of_stripe() {
    let house = open("no-cards").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let order = customer.buy(&OrderForm::small("paid-there")).await.expect("buying");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let server = customer.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link");
    let colleague = staff(&house).await;
    for visitor in [&house.visitor().expect("a browser"), &customer.visitor, &colleague.visitor] {
        for path in routes().iter().map(|(route, _)| filled(route)).filter(|path| !path.ends_with("/events")) {
            let page = visitor.open(&path).await.expect("a page");
            assert_no_card(visitor, &page);
            let policy = get(visitor, &path).await;
            let policy = policy.headers()["content-security-policy"].to_str().expect("text").to_owned();
            let scripts = policy.split(';').find(|part| part.trim_start().starts_with("script-src")).expect("scripts");
            assert_eq!(scripts.trim(), "script-src 'self'", "{path}");
        }
    }
    for path in [order.path(), server.path(), "/billing/invoices/"] {
        assert_no_card(&customer.visitor, &customer.visitor.open(path).await.expect("a page").ok().expect("a page"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paying_and_managing_cards_lead_to_stripe_by_303_alone() {
    let house = open("by-303").await;
    let (_, browser) = careful_customer(&house).await;
    let stripes = house.stripe().base().as_str().to_owned();
    let form = browser.open("/billing/checkout/small/").await.expect("the form");
    let (csrf, order) = (hidden(&form, "csrf"), hidden(&form, "order"));
    let fields = [
        ("csrf", csrf.as_str()),
        ("order", &order),
        ("hostname", "by-303"),
        ("image", "debian-13"),
        ("term", "monthly"),
        ("ssh_key", ""),
        ("card", "4242424242424242"),
    ];
    let answer = post(&browser, "/billing/checkout/small/", &fields, &[]).await;
    assert_eq!(answer.status(), 303);
    let page = location(&answer).to_owned();
    assert!(page.starts_with(&stripes), "{page}");
    let log = std::fs::read_to_string(house.logs().join("ez-serve.log")).expect("a log");
    assert!(!log.contains("4242424242424242"), "a card that somebody sent us is written down");
    let stored: i64 =
        sqlx::query_scalar("select count(*) from orders o where to_jsonb(o)::text like '%4242424242424242%'")
            .fetch_one(house.db())
            .await
            .expect("the orders");
    assert_eq!(stored, 0);

    // An address that is not Stripe's is not followed, whoever wrote it down.
    let written = async |address: &str| {
        let changed = sqlx::query("update orders set checkout_url = $1").bind(address).execute(house.db()).await;
        assert_eq!(changed.expect("the order").rows_affected(), 1);
    };
    written("https://evil.example/c/pay/x").await;
    let answer = post(&browser, "/billing/checkout/small/", &fields, &[]).await;
    assert!(answer.status().is_server_error() && location(&answer).is_empty(), "led to {}", location(&answer));
    written(&page).await;
    assert_eq!(location(&post(&browser, "/billing/checkout/small/", &fields, &[]).await), page);

    let passer_by = house.visitor().expect("a browser");
    let payment_page = passer_by.open(&page).await.expect("Stripe's page");
    let paid = passer_by.submit(&payment_page, "/c/pay/", &[("card", house::GOOD_CARD), ("action", "pay")]).await;
    paid.expect("an answer").ok().expect("paid");
    let path = "/billing/portal/";
    until("the portal opens", SOON, || async {
        let answer = post(&browser, path, &[("csrf", csrf.as_str())], &[]).await;
        (answer.status() == 303 && location(&answer).starts_with(&stripes)).then_some(())
    })
    .await;
}
