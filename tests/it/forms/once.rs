//! A form sent twice, by somebody else, or too large.
use house::Page;

use super::{FORM_LIMIT_BYTES, careful, careful_customer, get, hidden, location, post};
use crate::{
    shop::open,
    world::{count, vendors},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkout_form_sent_twice_is_one_order_and_one_payment_page_and_nobody_elses() {
    let house = open("twice-sent").await;
    let (_, browser) = careful_customer(&house).await;
    let (_, stranger) = careful_customer(&house).await;
    let form = browser.open("/billing/checkout/small/").await.expect("the form");
    let theirs = stranger.open("/billing/checkout/small/").await.expect("the form");
    let (csrf, order, other_csrf) = (hidden(&form, "csrf"), hidden(&form, "order"), hidden(&theirs, "csrf"));
    let fields = |csrf| {
        let typed = [("hostname", "only-once"), ("image", "debian-13"), ("term", "monthly"), ("ssh_key", "")];
        [("csrf", csrf), ("order", order.as_str())].into_iter().chain(typed).collect::<Vec<(&str, &str)>>()
    };
    let (own, foreign) = (fields(csrf.as_str()), fields(other_csrf.as_str()));
    let path = "/billing/checkout/small/";
    let (first, second) = tokio::join!(post(&browser, path, &own, &[]), post(&browser, path, &own, &[]));
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (303, 303));
    assert!(location(&first).starts_with(house.stripe().base().as_str()), "{}", location(&first));
    assert_eq!(location(&first), location(&second), "two payment pages for one form");
    let third = post(&browser, path, &own, &[]).await;
    assert_eq!(location(&first), location(&third), "two payment pages for one form");

    let answer = post(&stranger, path, &foreign, &[]).await;
    assert_eq!((answer.status().as_u16(), location(&answer)), (404, ""), "somebody else got the payment page");
    let told = answer.text().await.expect("a page");
    assert!(!told.contains("only-once") && !told.contains("/c/pay/"), "somebody else is shown the order: {told}");
    let another = stranger.submit(&theirs, path, &[("hostname", "another")]).await.expect("an answer");
    assert_eq!(another.status, 303, "a form of one's own is refused: {}", another.text());
    assert_eq!(count(house.db(), "select count(*) from orders").await, 2);
    assert_eq!(count(house.db(), "select count(*) from reservations").await, 2);
    assert_eq!(count(house.db(), "select count(distinct account_id) from orders").await, 2);
    assert_eq!(vendors(&house).await.money["sessions"].len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_accounts_that_send_the_same_order_at_once_get_one_order_of_one_of_them() {
    let house = open("same-order").await;
    let ((_, one), (_, two)) = tokio::join!(careful_customer(&house), careful_customer(&house));
    let order = uuid::Uuid::new_v4().to_string();
    let path = "/billing/checkout/small/";
    let csrf = [
        hidden(&one.open(path).await.expect("the form"), "csrf"),
        hidden(&two.open(path).await.expect("the form"), "csrf"),
    ];
    let fields = |csrf| {
        [("csrf", csrf), ("order", order.as_str()), ("hostname", "mine"), ("image", "debian-13"), ("term", "monthly")]
    };
    let (mine, theirs) = (fields(csrf[0].as_str()), fields(csrf[1].as_str()));
    let (mine, theirs) = tokio::join!(post(&one, path, &mine, &[]), post(&two, path, &theirs, &[]));
    let mut answers = [mine.status().as_u16(), theirs.status().as_u16()];
    answers.sort_unstable();
    assert_eq!(answers, [303, 404], "both or neither got the payment page");
    assert_eq!(count(house.db(), "select count(*) from orders").await, 1);
    assert_eq!(vendors(&house).await.money["sessions"].len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_over_the_limit_is_refused_with_a_page_and_an_order_id_cannot_be_made_up_of_anything() {
    let house = open("too-large").await;
    let (_, browser) = careful_customer(&house).await;
    let form = browser.open("/billing/checkout/small/").await.expect("the form");
    let csrf = hidden(&form, "csrf");
    let large = "x".repeat(FORM_LIMIT_BYTES);
    for path in ["/accounts/signup/", "/accounts/login/", "/billing/checkout/small/"] {
        let answer = post(&browser, path, &[("csrf", csrf.as_str()), ("name", &large)], &[]).await;
        assert_eq!(answer.status(), 413, "{path}");
        let (url, html) = (answer.url().clone(), answer.text().await.expect("a page"));
        let page = Page { url, status: 413, html };
        assert!(page.text().contains("too much") && page.link("/").is_ok(), "not friendly: {}", page.text());
    }
    for order in ["", "garbage", "../../x"] {
        let fields =
            [("csrf", csrf.as_str()), ("order", order), ("hostname", "a"), ("image", "debian-13"), ("term", "monthly")];
        let answer = post(&browser, "/billing/checkout/small/", &fields, &[]).await;
        assert_eq!(answer.status(), 400, "{order:?}");
    }
    assert_eq!(count(house.db(), "select count(*) from orders").await, 0);
    let answer = get(&careful(&house), "/billing/checkout/small/").await;
    assert_eq!(location(&answer), "/accounts/login/?next=%2Fbilling%2Fcheckout%2Fsmall%2F");
}
