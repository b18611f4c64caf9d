//! A customer's invoices: every one of the account and nobody else's, what became of each, and the way to it at Stripe.
use std::collections::BTreeSet;

use domain::instruction::Ask;
use house::Page;
use serde_json::json;

use super::staff::Held;
use crate::{
    shop::{SOON, open, until},
    world::assert_stripe_contract,
};

const LIST: &str = "/billing/invoices/";

async fn list(held: &Held<'_>, from: &str) -> Page {
    held.customer.visitor.open(&format!("{LIST}{from}")).await.expect("the list").ok().expect("the list")
}

async fn lines(held: &Held<'_>) -> Vec<String> {
    list(held, "").await.texts("tbody tr")
}

/// Waits until one of the lines has all of the words.
async fn line_says(held: &Held<'_>, words: &[&str]) {
    until(&format!("an invoice says {words:?}"), SOON, || async {
        lines(held).await.iter().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    })
    .await;
}

/// Opens a page of an invoice.
async fn lead(held: &Held<'_>, invoice: &str, what: &str) -> Page {
    held.customer.visitor.open(&format!("{LIST}{invoice}/{what}/")).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_reads_every_own_invoice_and_what_became_of_it() {
    let house = open("invoices").await;
    let nobody = house.visitor().expect("a browser").open(LIST).await.expect("an answer");
    assert!(nobody.url.path().starts_with("/accounts/login/"), "{}", nobody.url);
    let (held, other) = (Held::new(&house, "bill-1").await, Held::new(&house, "bill-2").await);
    line_says(&held, &["EUR 5.00", "Paid", "bill-1", "PDF", "Receipt"]).await;
    assert!(lines(&held).await.iter().all(|line| !line.contains("bill-2")), "somebody else's invoice is listed");
    let (own, foreign) = (held.invoice().await, other.invoice().await);
    let number: String = sqlx::query_scalar("select number from invoices where id = $1")
        .bind(&own)
        .fetch_one(house.db())
        .await
        .expect("its number");
    line_says(&held, &[&number]).await;

    for (what, path) in [("page", format!("/i/{own}")), ("pdf", format!("/i/{own}/pdf"))] {
        let page = lead(&held, &own, what).await;
        assert_eq!((page.status, page.url.path()), (200, path.as_str()), "{what}");
    }
    let receipt = lead(&held, &own, "receipt").await;
    assert!(receipt.text().contains("You paid 5.00 EUR"), "{}", receipt.text());
    for what in ["page", "pdf", "receipt"] {
        assert_eq!(lead(&held, &foreign, what).await.status, 404, "somebody else's {what}");
        assert_eq!(lead(&held, "in_of_nobody", what).await.status, 404, "{what} of no invoice");
    }
    assert_eq!(lead(&held, &own, "lines").await.status, 404);

    assert_eq!(held.tell("refund", &[("amount", "2.00"), ("reason", "it was slow")]).await, "done");
    line_says(&held, &[&number, "EUR 2.00 given back"]).await;
    assert_eq!(held.tell("refund", &[("amount", "3.00"), ("reason", "it was very slow")]).await, "done");
    line_says(&held, &[&number, "EUR 5.00 given back, all of it"]).await;
    assert_eq!(held.tell("credit", &[("amount", "3.00"), ("reason", "and we are sorry")]).await, "done");
    held.customer.wait_until_page_says(LIST, "Your credit is EUR 3.00", SOON).await.expect("the credit is shown");
    until("staff see each refund of the charge", SOON, || async {
        let page = held.page().await.text();
        (page.matches("re_").count() >= 4 && page.contains("ch_")).then_some(())
    })
    .await;
    held.stops_paying().await;
    line_says(&held, &["EUR 2.00 after credit", "To be paid", "Pay"]).await;
    assert_eq!(held.told(Ask::CancelNow).await.0, "done");
    line_says(&held, &["EUR 2.00 after credit", "Void"]).await;
    assert_eq!(lines(&held).await.len(), 2);
    assert_eq!(lines(&other).await.len(), 1);
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_addresses_are_asked_for_again_and_long_lists_have_pages() {
    let house = open("old-invoices").await;
    let held = Held::new(&house, "old-1").await;
    let own = held.invoice().await;
    // The list is as good while Stripe is away; what was seen last is taken.
    let fault = json!({"kind": "status", "status": 503, "body": "later", "method": "GET", "path": "/v1/invoices/"});
    house.stripe().add_fault(fault).await.expect("a fault");
    let page = lead(&held, &own, "page").await;
    assert_eq!((page.status, page.url.path()), (200, format!("/i/{own}").as_str()), "the address that was known");
    assert_eq!(lines(&held).await.len(), 1);
    house.stripe().clear_faults().await.expect("mended");
    // From now on nobody looks at Stripe but the page.
    house.stop_worker().await.expect("the worker ends");
    for change in [
        "update invoices set hosted_url = replace(hosted_url, '/i/', '/gone/')",
        "insert into invoices (id, subscription_id, status, amount_due_minor, amount_paid_minor, currency, created_at)
         select 'in_old_' || n, i.subscription_id, 'paid', 500, 500, 'eur', i.created_at - n * interval '1 minute'
         from invoices i, generate_series(1, 69) as n",
    ] {
        sqlx::query(change).execute(house.db()).await.expect("a change");
    }
    let page = lead(&held, &own, "page").await;
    assert_eq!((page.status, page.url.path()), (200, format!("/i/{own}").as_str()), "an old address is followed");

    let first = list(&held, "").await;
    let older = first.link("?before=").expect("there are older ones");
    let second = held.customer.visitor.open(older.as_str()).await.expect("the older ones").ok().expect("a page");
    let both = [first.texts("tbody tr"), second.texts("tbody tr")];
    assert_eq!(both.each_ref().map(Vec::len), [50, 20]);
    let distinct: BTreeSet<String> =
        [&first, &second].iter().flat_map(|page| page.texts("tbody tr td:first-child")).collect();
    assert_eq!(distinct.len(), 70, "an invoice is on both pages or on none");
    assert!(second.link("?before=").is_err(), "there are still older ones");
    let nothing = list(&held, "?before=in_of_nobody").await;
    assert!(nothing.text().contains("There are no older invoices"), "{}", nothing.text());
}
