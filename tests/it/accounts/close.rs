//! Closing an account.
use house::{Customer, OrderForm};

use super::{is_in, log_in, send};
use crate::{
    shop::{SOON, open},
    world::count,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_closes_for_good_and_its_address_is_free_again() {
    let house = open("close").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let close =
        async |values: &[(&str, &str)]| send(&customer.visitor, "/accounts/close/", "/accounts/close/", values).await;
    let unsure = close(&[("password", &customer.password)]).await;
    assert_eq!((unsure.status, unsure.attributes("#faults a", "href")), (422, vec!["#sure".to_owned()]));
    let wrong = close(&[("password", "not my password"), ("sure", "yes")]).await;
    assert_eq!((wrong.status, wrong.attributes("#faults a", "href")), (422, vec!["#password".to_owned()]));
    assert!(is_in(&customer.visitor).await);
    let done = close(&[("password", &customer.password), ("sure", "yes")]).await;
    assert!(done.status == 200 && done.text().contains("is closed"), "{}", done.text());
    assert!(!is_in(&customer.visitor).await, "a session outlived the account");
    house.mail().wait_for(&customer.email, "account is closed", 1, SOON).await.expect("a letter tells");
    let stranger = house.visitor().expect("a browser");
    assert_eq!(log_in(&stranger, &customer.email, &customer.password).await.status, 422, "somebody gets in");
    assert_eq!(log_in(&stranger, "closed", &customer.password).await.status, 422, "somebody gets in");
    assert_eq!(
        count(house.db(), "select count(*) from users where email like 'ada-%'").await,
        0,
        "the address is left"
    );

    let back = Customer::at(&house, "Ada Again", &customer.email, "orange ladder in fog").expect("somebody");
    back.sign_up().await.expect("signing up");
    assert_eq!(count(house.db(), "select count(*) from users where email like 'ada-%'").await, 1, "nobody was made");
    assert_eq!(count(house.db(), "select count(*) from accounts where closed_at is not null").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_in_which_something_lives_stays_and_says_why() {
    let house = open("close-refused").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let form = customer.visitor.open("/accounts/close/").await.expect("a page").ok().expect("the form");
    customer.order(&OrderForm::small("unpaid-1")).await.expect("the payment page");
    let values = [("password", customer.password.as_str()), ("sure", "yes")];
    let refused = customer.visitor.submit(&form, "/accounts/close/", &values).await.expect("an answer");
    assert!(refused.status == 409 && refused.text().contains("unpaid-1"), "{} {}", refused.status, refused.text());
    let order = customer.buy(&OrderForm::small("bought-1")).await.expect("buying");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    let page = customer.visitor.open("/accounts/close/").await.expect("a page").ok().expect("the reasons");
    assert!(page.text().contains("bought-1") && !page.has_form("/accounts/close/"), "{}", page.text());
    assert!(is_in(&customer.visitor).await, "what was refused logged somebody out");

    let staff = crate::attention::staff(&house).await;
    let page = staff.visitor.open("/accounts/close/").await.expect("a page").ok().expect("the reasons");
    assert!(page.text().contains("You work here") && !page.has_form("/accounts/close/"), "{}", page.text());
    assert_eq!(count(house.db(), "select count(*) from accounts where closed_at is not null").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_comes_while_its_account_is_closed_holds_nothing_and_charges_nothing() {
    let house = open("close-late").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    sqlx::query("update accounts set closed_at = now() where id = (select account_id from users where email = $1)")
        .bind(&customer.email)
        .execute(house.db())
        .await
        .expect("closed at this moment");
    let late = customer.send_order(&OrderForm::small("late-1")).await.expect("an answer");
    assert_eq!(late.status, 409, "{}", late.text());
    assert_eq!(count(house.db(), "select count(*) from reservations").await, 0, "a place is held");
    assert_eq!(count(house.db(), "select count(*) from orders where status <> 'sold_out'").await, 0);
}
