//! What is ended for somebody by those who run the portal: a customer's sessions by a command, a colleague's by a page.
use house::Customer;

use super::{
    is_in, log_in,
    staff::{make, person},
};
use crate::{
    attention::staff,
    shop::{SOON, open},
    world::count,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_of_somebody_is_ended_by_a_command_and_of_a_colleague_by_an_admin() {
    let house = open("sessions-of-others").await;
    let admin = staff(&house).await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let other = Customer::signed_in(&house).await.expect("somebody else");
    let phone = house.visitor().expect("a browser");
    log_in(&phone, &customer.email, &customer.password).await;
    assert!(is_in(&phone).await);
    house
        .run_ez(&["user", "password", "--email", &customer.email], "velvet anchor 88 lantern")
        .await
        .expect("another password");
    assert!(!is_in(&customer.visitor).await && !is_in(&phone).await, "a session outlived the command");
    assert_eq!(log_in(&phone, &customer.email, &customer.password).await.status, 422, "the former password fits");
    assert!(is_in(&other.visitor).await && is_in(&admin.visitor).await, "somebody else was logged out");
    house.mail().wait_for(&customer.email, "password was changed", 1, SOON).await.expect("a letter tells");
    let noted = "select count(*) from audit where action = 'session.ended' and actor_kind = 'hand'";
    assert_eq!(count(house.db(), noted).await, 2, "the trail does not say who ended them");

    let colleague = person(&house, &admin, "support").await;
    let desk = house.visitor().expect("a browser");
    log_in(&desk, &colleague.email, &colleague.password).await;
    assert!(is_in(&desk).await);
    let changed = make(&admin, &colleague.email, "operator").await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert!(!is_in(&colleague.visitor).await && !is_in(&desk).await, "a session outlived what an admin decided");
    assert!(is_in(&other.visitor).await && is_in(&admin.visitor).await, "somebody else was logged out");
}
