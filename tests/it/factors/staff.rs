//! Staff pages, where a second factor is required.
use house::{Customer, HouseOptions, OrderForm};

use super::{add_app, codes_pass, half_in, send_code};
use crate::{attention::staff, shop::open_with, world::count};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_without_a_second_factor_are_led_to_adding_one_before_any_staff_page() {
    let house = open_with(HouseOptions::named("factor-staff").with("EZ_STAFF_SECOND_FACTOR", "true")).await;
    let staff = staff(&house).await;
    for path in ["/staff/", "/staff/coming/", "/staff/factors/", "/staff/subscriptions/sub_none/"] {
        let page = staff.visitor.open(path).await.expect("a page");
        assert_eq!(page.url.path(), "/accounts/factors/", "{path}");
        assert!(page.text().contains("Staff pages open only"), "{path}: {}", page.text());
    }
    let page = staff.visitor.open("/accounts/factors/").await.expect("a page");
    let csrf = page.attributes("input[name=csrf]", "value").into_iter().next().expect("a token");
    for path in ["/staff/removals/", "/staff/factors/", "/staff/attention/order-1/", "/staff/subscriptions/sub_1/hold/"]
    {
        let fields = [("csrf", csrf.as_str()), ("email", house.staff_email()), ("reason", "a try")];
        let url = staff.visitor.home.join(path).expect("a path");
        let answer = staff.visitor.http.post(url).form(&fields).send().await.expect("an answer");
        assert_eq!(answer.url().path(), "/accounts/factors/", "{path}: {}", answer.status());
    }

    let owner = Customer::signed_in(&house).await.expect("a customer");
    let order = owner.buy(&OrderForm::small("not-for-a-password")).await.expect("an order");
    let stream = format!("{}events", order.path());
    for path in [order.path(), stream.as_str()] {
        let answer = staff.visitor.open(path).await.expect("an answer");
        assert_eq!(answer.status, 404, "a password alone reads somebody's order at {path}");
    }

    let (app, _) = add_app(&staff).await;
    staff.visitor.open(order.path()).await.expect("a page").ok().expect("the order, for staff with a second factor");
    staff.visitor.open("/staff/").await.expect("a page").ok().expect("the staff page");
    codes_pass(&house).await;
    let (browser, form) = half_in(&house, &staff).await;
    assert_eq!(browser.open("/staff/").await.expect("a page").status, 404, "a password alone opens staff pages");
    send_code(&browser, &form, &app.code()).await.ok().expect("let in");
    browser.open("/staff/").await.expect("a page").ok().expect("the staff page");

    let page = browser.open("/accounts/factors/").await.expect("a page").ok().expect("the list");
    browser.submit(&page, "/accounts/factors/app/remove/", &[]).await.expect("an answer").ok().expect("removed");
    let page = browser.open("/staff/").await.expect("a page");
    assert_eq!(page.url.path(), "/accounts/factors/", "staff pages outlived the factor");
    let theirs = browser.open(order.path()).await.expect("a page");
    assert_eq!(theirs.status, 404, "somebody's order outlived the factor");
    assert_eq!(count(house.db(), "select count(*) from factor_resets").await, 0);
}
