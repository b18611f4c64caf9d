//! Many customers at once: accounts the store makes, everything else as each of them would do it.
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use house::{Customer, House, Page};
use store::{NewUser, SessionRows, Store, sessions::USER_KEY};
use tower_sessions::{
    SessionStore as _,
    session::{Id, Record},
};
use uuid::Uuid;

/// How long one customer keeps sending the same form while the portal is busy or away.
const PATIENCE: Duration = Duration::from_mins(2);
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Each needs one connection of the store's pool.
const MADE_AT_ONCE: usize = 4;
const PLAN: &str = "small";

/// What a checkout led to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Stripe's payment page.
    Pay(Page),
    /// Nothing is left.
    SoldOut(Page),
    /// The portal was away for so long that the order lapsed meanwhile.
    Lapsed,
}

/// Customers who confirmed their addresses and are logged in. Only the password, which nobody types here, was never hashed.
pub(crate) async fn customers(house: &House, many: usize) -> Vec<Customer> {
    let store = Store::connect(house.database_url().as_str(), 4).expect("the store");
    stream::iter(0..many).map(|_| customer(house, &store)).buffer_unordered(MADE_AT_ONCE).collect().await
}

async fn customer(house: &House, store: &Store) -> Customer {
    let email = format!("buyer-{}@example.test", Uuid::new_v4().simple());
    let new = NewUser { name: "Ada Example".to_owned(), email: email.clone(), password_hash: String::new() };
    // The only user the store makes with a confirmed address is one of the staff.
    let user = store.create_staff(new).await.expect("a user");
    sqlx::query("update users set is_staff = false where id = $1")
        .bind(user.0)
        .execute(house.db())
        .await
        .expect("a customer");
    let mut record = Record {
        id: Id::default(),
        data: [(USER_KEY.to_owned(), serde_json::json!(user))].into(),
        expiry_date: time::OffsetDateTime::now_utc() + time::Duration::days(1),
    };
    SessionRows(store.clone()).create(&mut record).await.expect("a session");
    Customer::with_cookie(house, &email, &format!("ez={}", record.id)).expect("a browser")
}

/// The checkout form, or the page that says there is nothing to order.
pub(crate) async fn form(customer: &Customer) -> Page {
    let address = format!("/billing/checkout/{PLAN}/");
    let until = Instant::now() + PATIENCE;
    loop {
        match customer.visitor.open(&address).await {
            Ok(page) if [200, 409].contains(&page.status) => return page,
            other => assert!(Instant::now() < until, "no form for {PATIENCE:?}, but {other:?}"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Sends a checkout form as often as it takes, as the page itself offers when the portal is busy: it stays the same order.
pub(crate) async fn order(customer: &Customer, form: Page, hostname: &str) -> Answer {
    if form.status == 409 {
        return Answer::SoldOut(form);
    }
    let values = [("hostname", hostname)];
    let until = Instant::now() + PATIENCE;
    loop {
        let sent = customer.visitor.submit(&form, "/billing/checkout/", &values).await;
        match sent {
            Ok(page) if page.status == 409 => return Answer::SoldOut(page),
            Ok(page) if page.status == 200 && page.url.path().starts_with("/c/pay/") => return Answer::Pay(page),
            Ok(page) if page.status == 200 && page.url.path().starts_with("/dashboard/orders/") => {
                if let Some(answer) = from_order_page(customer, page).await {
                    return answer;
                }
            }
            // So busy that the payment page closed before it was seen.
            Ok(page) if page.status == 410 && page.url.path().starts_with("/c/pay/") => return Answer::Lapsed,
            Ok(page) if page.status == 503 => {}
            Ok(page) => panic!("the checkout led to {} {}: {}", page.status, page.url, page.text()),
            Err(_) => {}
        }
        assert!(Instant::now() < until, "no answer to {hostname} for {PATIENCE:?}");
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// An answer that was lost stands on the order's own page.
async fn from_order_page(customer: &Customer, page: Page) -> Option<Answer> {
    if let Ok(link) = page.link("/c/pay/") {
        let payment = customer.visitor.open(link.as_str()).await.ok()?;
        return (payment.status == 200).then_some(Answer::Pay(payment));
    }
    let says = |words: &str| page.text().to_lowercase().contains(words);
    if says("not paid in time") {
        return Some(Answer::Lapsed);
    }
    says("sold out").then_some(Answer::SoldOut(page))
}

/// The Checkout Session behind a payment page.
pub(crate) fn session(payment_page: &Page) -> String {
    let last = payment_page.url.path_segments().and_then(|mut parts| parts.nth(2));
    last.expect("a payment page has its session's id in its address").to_owned()
}
