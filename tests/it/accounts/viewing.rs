//! Staff who look at a customer's pages: they see, change nothing, and it is written down.
use house::{Customer, House, OrderForm, Page};

use super::{is_in, send, staff::person};
use crate::{
    attention::staff,
    shop::{SOON, open, until},
    world::{count, table},
};

async fn look(by: &Customer, whom: &str, reason: &str) -> Page {
    send(&by.visitor, "/staff/viewing/", "/staff/viewing/", &[("whom", whom), ("reason", reason)]).await
}

async fn end(by: &Customer) {
    let page = send(&by.visitor, "/staff/viewing/", "/staff/viewing/end/", &[]).await;
    assert!(page.status == 200 && !page.text().contains("You look at"), "{}", page.text());
}

/// Sends a form to a path as whoever looks, with a good token, although no page offers it.
async fn force(by: &Customer, path: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let page = by.visitor.open("/staff/viewing/").await.expect("a page").ok().expect("a form");
    let csrf = page.attributes("main input[name=csrf]", "value").remove(0);
    let mut all = vec![("csrf", csrf.as_str())];
    all.extend(fields);
    let path = by.visitor.home.join(path).expect("a path");
    let answer = by.visitor.http.post(path).form(&all).send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a page"))
}

/// What forms change.
async fn own_rows(house: &House) -> Vec<Vec<serde_json::Value>> {
    let mut rows = Vec::new();
    for name in ["users", "members", "invitations", "orders", "instructions", "viewings"] {
        rows.push(table(house.db(), name).await);
    }
    rows
}

async fn bought(house: &House, customer: &Customer) -> (String, String) {
    let order = customer.buy(&OrderForm::small("looked-at")).await.expect("buying");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let service = customer.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a link");
    let invoice: String = until("the invoice is known", SOON, || async {
        let asked = sqlx::query_scalar("select id from invoices limit 1").fetch_optional(house.db());
        asked.await.expect("the table")
    })
    .await;
    (service.path().to_owned(), invoice)
}

/// Whatever form is sent by whoever looks, it is refused and changes nothing.
async fn assert_nothing_is_changed(house: &House, support: &Customer, customer: &Customer, service: &str) {
    let before = own_rows(house).await;
    let paths = [
        format!("{service}password/"),
        format!("{service}cancel/cancel_now/"),
        format!("{service}cancel/cancel_at_end/"),
        "/billing/portal/".to_owned(),
        "/billing/checkout/small/".to_owned(),
        "/accounts/members/leave/".to_owned(),
        "/accounts/members/invite/".to_owned(),
        "/accounts/password/".to_owned(),
        "/accounts/current/".to_owned(),
        "/accounts/login/".to_owned(),
        "/accounts/reset/".to_owned(),
        "/staff/removals/".to_owned(),
        "/staff/people/".to_owned(),
        "/staff/viewing/".to_owned(),
    ];
    let email = ("email", customer.email.as_str());
    let fields = [email, ("password", support.password.as_str()), ("sure", "yes"), ("reason", "x"), ("role", "owner")];
    for path in paths {
        let (status, text) = force(support, &path, &fields).await;
        assert!(status == 403 && text.contains("You only look"), "{path}: {status}");
    }
    assert_eq!(own_rows(house).await, before, "whoever looks changed something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_see_what_a_customer_sees_with_a_banner_and_change_nothing() {
    let house = open("viewing").await;
    let admin = staff(&house).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (service, invoice) = bought(&house, &customer).await;
    let support = person(&house, &admin, "support").await;
    let seen = async |path: &str| support.visitor.open(path).await.expect("a page");
    assert_eq!(seen(&service).await.status, 404, "a customer's server is seen without a reason");
    for (whom, reason, field) in
        [(customer.email.as_str(), "", "#reason"), ("nobody@example.test", "ticket 7", "#whom"), ("", "", "#whom")]
    {
        let refused = look(&support, whom, reason).await;
        assert_eq!(refused.status, 422, "{}", refused.text());
        assert!(refused.attributes("#faults a", "href").contains(&field.to_owned()), "{}", refused.text());
    }

    let page = look(&support, &customer.email, "ticket 7 <b>").await;
    assert_eq!(page.url.path(), "/dashboard/");
    for path in ["/dashboard/", service.as_str(), "/billing/invoices/", "/accounts/members/", "/pricing/", "/staff/"] {
        let page = seen(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text());
        let banner = page.texts(".notice-warn").concat();
        assert!(banner.contains("You look at") && banner.contains("ticket 7 <b>"), "{path} has no banner: {banner}");
    }
    let page = seen(&service).await;
    assert!(page.text().contains("looked-at") && !page.has_form("/password/"), "{}", page.text());
    assert!(page.link("/cancel/").is_err() && page.link("/billing/portal/").is_err(), "{}", page.text());
    let invoice_page = format!("/billing/invoices/{invoice}/page/");
    let alone = ["/billing/portal/", invoice_page.as_str(), "/accounts/", "/accounts/password/", "/accounts/close/"];
    for path in alone.into_iter().chain(["/billing/checkout/small/", "/accounts/sessions/"]) {
        let page = seen(path).await;
        assert!(page.status == 403 && page.text().contains("You only look"), "{path}: {} {}", page.status, page.text());
        assert!(page.link("/staff/viewing/").is_ok(), "{path} leads nowhere");
    }

    assert_nothing_is_changed(&house, &support, &customer, &service).await;
    let page = customer.visitor.open(&service).await.expect("a page").ok().expect("the server's page");
    assert!(page.has_form("/password/"), "whoever looks took the password away");

    end(&support).await;
    assert_eq!(seen(&service).await.status, 404, "it goes on");
    assert!(is_in(&support.visitor).await);
    let kept = "select count(*) from viewings v join users u on u.id = v.user_id
        where v.reason = 'ticket 7 <b>' and v.ended_at is not null and u.staff_role = 'support'";
    assert_eq!(count(house.db(), kept).await, 1, "it is not written down");
    let list = admin.visitor.open("/staff/viewing/").await.expect("a page").ok().expect("the list");
    assert!(list.texts("#looked tbody tr").concat().contains("ticket 7 <b>"), "{}", list.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_ends_by_itself_and_with_the_session_and_with_the_role() {
    let house = open("viewing-ends").await;
    let admin = staff(&house).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    customer.order(&OrderForm::small("seen-1")).await.expect("the payment page");
    let support = person(&house, &admin, "support").await;
    let sees = async || {
        let page = support.visitor.open("/dashboard/").await.expect("a page").ok().expect("a dashboard");
        page.text().contains("seen-1")
    };
    let begin = async || assert_eq!(look(&support, &customer.email, "ticket 8").await.url.path(), "/dashboard/");
    begin().await;
    assert!(sees().await);
    let long = "select count(*) from viewings where ends_at > now() + interval '31 minutes'";
    assert_eq!(count(house.db(), long).await, 0, "it may last longer than half an hour");
    let later = "update viewings set ends_at = now() - interval '1 second'";
    sqlx::query(later).execute(house.db()).await.expect("time passes");
    assert!(!sees().await, "it never ends");

    begin().await;
    assert!(sees().await);
    send(&support.visitor, "/accounts/logout/", "/accounts/logout/", &[]).await;
    support.log_in().await.expect("logged in again");
    assert!(!sees().await, "it goes on in another session");

    begin().await;
    assert!(sees().await);
    super::staff::make(&admin, &support.email, "finance").await;
    support.log_in().await.expect("logged in again");
    assert!(!sees().await, "it goes on without the role");
    let open = "select count(*) from viewings where ended_at is null and ends_at > now()";
    assert!(count(house.db(), open).await <= 1, "more is open than the one whose session ended");
}
