//! A step out of patience: staff see it on their page and in Temporal, and retry, skip and abandon each end it.
use std::time::{Duration, Instant};

use contract::attention::{Decision, Verdict};
use domain::order::Step;
use futures::StreamExt;
use house::{Customer, House, HouseOptions, OrderForm, PolicySecs};
use serde_json::{Value, json};
use workflows::order::Order;

use crate::{
    histories,
    shop::{SOON, open_with, until},
    world::{assert_clean_slate, count, list},
};

/// How long staff go on trying to log in.
const LOGGED_IN_WITHIN: Duration = Duration::from_mins(2);

/// A house whose steps lose their patience after some seconds.
pub(crate) async fn impatient(name: &str) -> House {
    let policy = PolicySecs { step_patience: 6, ..PolicySecs::default() };
    open_with(HouseOptions { policy, ..HouseOptions::named(name) }).await
}

/// Somebody of the staff, logged in. Where many log in under one name at once, the portal asks them to wait a little.
pub(crate) async fn staff(house: &House) -> Customer {
    const PAUSE: Duration = Duration::from_secs(3);
    let staff = Customer::at(house, "Staff", house.staff_email(), house.staff_password()).expect("staff");
    let began = Instant::now();
    while let Err(fault) = staff.log_in().await {
        let is_asked_to_wait = fault.to_string().contains("429");
        assert!(is_asked_to_wait && began.elapsed() < LOGGED_IN_WITHIN, "staff log in: {fault:?}");
        tokio::time::sleep(PAUSE).await;
    }
    staff
}

/// Waits until a step of a workflow waits for staff, and gives the step's word.
pub(crate) async fn waiting_step(house: &House, workflow_id: &str) -> String {
    waiting_step_within(house, workflow_id, SOON).await
}

/// The same with a limit of one's own.
pub(crate) async fn waiting_step_within(house: &House, workflow_id: &str, limit: Duration) -> String {
    until(&format!("{workflow_id} waits for staff"), limit, || async {
        sqlx::query_scalar("select step from attention where workflow_id = $1 and settled_at is null")
            .bind(workflow_id)
            .fetch_optional(house.db())
            .await
            .expect("the table")
    })
    .await
}

/// Decides through the staff page as a person would.
pub(crate) async fn decide(staff: &Customer, workflow_id: &str, values: &[(&str, &str)]) {
    let page = staff.visitor.open("/staff/").await.expect("the staff page").ok().expect("the staff page");
    let action = format!("/staff/attention/{workflow_id}/");
    let answer = staff.visitor.submit(&page, &action, values).await.expect("a decision");
    assert!(answer.status == 200, "the decision was refused: {}", answer.text());
}

/// The workflows that Temporal shows under the operators' filter.
pub(crate) async fn needing_attention(house: &House) -> Vec<String> {
    let client = house.temporal().await.expect("Temporal");
    let query = format!("EzNeedsAttention = true and TaskQueue = '{}'", house.task_queue());
    let found = client.list_workflows(query, Default::default()).collect::<Vec<_>>().await;
    found.into_iter().map(|run| run.expect("a run").id().to_owned()).collect()
}

async fn stuck_order(house: &House, customer: &Customer, hostname: &str, fault: Value) -> (String, url::Url) {
    house.proxmox().expect("a stand-in").add_fault(fault).await.expect("a fault");
    let page = customer.buy(&OrderForm::small(hostname)).await.expect("buying");
    let workflow_id = format!("order-{}", house::order_id(&page).expect("an id"));
    waiting_step(house, &workflow_id).await;
    (workflow_id, page)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_step_is_seen_by_staff_and_in_temporal_and_retried() {
    let house = impatient("retry").await;
    let (customer, staff) = (Customer::signed_in(&house).await.expect("a customer"), staff(&house).await);
    let fault = json!({"kind": "status", "status": 500, "method": "PUT", "path": "/resize"});
    let (workflow_id, page) = stuck_order(&house, &customer, "retry-1", fault).await;

    let told = customer.visitor.open(page.as_str()).await.expect("the order's page").text();
    assert!(told.to_lowercase().contains("delayed"), "the customer is not told: {told}");
    let board = staff.visitor.open("/staff/").await.expect("the staff page");
    assert!(board.text().contains(&workflow_id), "staff do not see it: {}", board.text());
    let link = board.link(&format!("/workflows/{workflow_id}")).expect("a link to Temporal UI");
    assert!(link.as_str().starts_with(house.temporal_ui().as_str()), "{link}");
    until("Temporal shows it", SOON, || async { needing_attention(&house).await.contains(&workflow_id).then_some(()) })
        .await;
    assert_eq!(
        usize::try_from(count(house.db(), "select count(*) from attention where settled_at is null").await)
            .expect("few"),
        needing_attention(&house).await.len(),
        "the staff page and Temporal disagree"
    );
    house.mail().wait_for(house.staff_email(), "", 1, SOON).await.expect("a letter to staff");

    house.proxmox().expect("a stand-in").clear_faults().await.expect("repaired");
    decide(&staff, &workflow_id, &[("verdict", "retry")]).await;
    customer.wait_until_page_says(page.as_str(), "delivered", SOON).await.expect("delivery");
    let (by, when): (Option<String>, Option<time::OffsetDateTime>) =
        sqlx::query_as("select decided_by, settled_at from attention where workflow_id = $1")
            .bind(&workflow_id)
            .fetch_one(house.db())
            .await
            .expect("the record");
    assert!(by.is_some() && when.is_some(), "who and when are not recorded");
    let noted = "select count(*) from audit a join audit_particulars p on p.audit_id = a.id
        where a.action = 'step.decided' and a.actor_kind = 'staff' and p.before->>'step' = 'resize'
            and p.after->>'verdict' = 'retry'";
    assert_eq!(count(house.db(), noted).await, 1, "the trail does not say who decided what");
    let letters = house.mail().letters(house.staff_email(), "").await.expect("letters");
    assert_eq!(letters.len(), 1, "staff were written to more than once");
    histories::keep(&house, &workflow_id, "order-retried").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_done_by_hand_is_skipped_with_its_result_and_a_reason() {
    let house = impatient("skip").await;
    let (customer, staff) = (Customer::signed_in(&house).await.expect("a customer"), staff(&house).await);
    let fault = json!({"kind": "status", "status": 500, "method": "POST", "path": "/clone"});
    let (workflow_id, page) = stuck_order(&house, &customer, "skip-1", fault).await;
    let board = staff.visitor.open("/staff/").await.expect("the staff page");
    let action = format!("/staff/attention/{workflow_id}/");
    let silent = staff.visitor.submit(&board, &action, &[("verdict", "skip"), ("result", "150000")]).await;
    assert_ne!(silent.expect("an answer").status, 200, "skipped without a reason");
    let empty = staff.visitor.submit(&board, &action, &[("verdict", "skip"), ("reason", "by hand")]).await;
    assert_ne!(empty.expect("an answer").status, 200, "skipped without the missing result");

    let service: uuid::Uuid =
        sqlx::query_scalar("select service_id from orders").fetch_one(house.db()).await.expect("the order");
    let cluster = house.proxmox().expect("a stand-in");
    cluster.clear_faults().await.expect("repaired");
    let made =
        json!({"vmid": 150_000, "node": "pve1", "name": "by-hand", "description": format!("ez-service: {service}")});
    cluster.post("/_control/vms", made).await.expect("cloned by hand");
    decide(&staff, &workflow_id, &[("verdict", "skip"), ("reason", "cloned by hand"), ("result", "150000")]).await;
    customer.wait_until_page_says(page.as_str(), "delivered", SOON).await.expect("delivery");
    let state = cluster.state().await.expect("the cluster");
    assert_eq!(state["vms"]["150000"]["status"], "running", "the machine made by hand was not used");
    let vmid: i32 = sqlx::query_scalar("select vmid from reservations where released_at is null")
        .fetch_one(house.db())
        .await
        .expect("the reservation");
    assert_eq!(vmid, 150_000);
    histories::keep(&house, &workflow_id, "order-skipped").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_somebody_else_uses_is_left_alone_and_another_is_taken() {
    let house = impatient("taken").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let cluster = house.proxmox().expect("a stand-in");
    let foreign =
        json!({"vmid": 100_000, "node": "pve1", "name": "not-ours", "description": "somebody else", "running": true});
    cluster.post("/_control/vms", foreign).await.expect("a foreign machine");
    let page = customer.buy(&OrderForm::small("second-1")).await.expect("buying");
    customer.wait_until_page_says(page.as_str(), "delivered", SOON).await.expect("delivery");
    let state = cluster.state().await.expect("the cluster");
    assert_eq!(state["vms"]["100000"]["name"], "not-ours");
    assert_eq!(state["vms"]["100000"]["status"], "running", "somebody else's machine was touched");
    let machines = list(&state["vms"]).into_iter().filter(|vm| vm["template"] != true).count();
    assert_eq!(machines, 2);
    let workflow_id = format!("order-{}", house::order_id(&page).expect("an id"));
    histories::keep(&house, &workflow_id, "order-renumbered").await;
}

/// It may be a copy of ours that has no stamp yet: an answer that was lost is no reason for a second machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_still_being_made_is_nobodys_and_no_second_one_is_made_beside_it() {
    let house = impatient("unstamped").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let cluster = house.proxmox().expect("a stand-in");
    let planted = |lock: Option<&str>| json!({"vmid": 100_000, "node": "pve1", "name": "being-made", "lock": lock});
    cluster.post("/_control/vms", planted(Some("clone"))).await.expect("a machine that is being made");
    let page = customer.buy(&OrderForm::small("unstamped-1")).await.expect("buying");
    let workflow_id = format!("order-{}", house::order_id(&page).expect("an id"));
    assert_eq!(waiting_step_within(&house, &workflow_id, Duration::from_mins(1)).await, "clone");
    let told: String = sqlx::query_scalar("select reason from attention where settled_at is null")
        .fetch_one(house.db())
        .await
        .expect("the reason");
    assert!(told.contains("machine 100000"), "{told}");
    let state = cluster.state().await.expect("the cluster");
    assert_eq!(list(&state["vms"]).into_iter().filter(|vm| vm["template"] != true).count(), 1, "a second machine");
    // It turns out to be somebody else's.
    cluster.delete("/_control/vms/100000").await.expect("gone");
    cluster.post("/_control/vms", planted(None)).await.expect("finished");
    decide(&staff(&house).await, &workflow_id, &[("verdict", "retry")]).await;
    customer.wait_until_page_says(page.as_str(), "delivered", SOON).await.expect("delivery");
    let state = cluster.state().await.expect("the cluster");
    assert_eq!(state["vms"]["100000"]["name"], "being-made");
    assert_eq!(list(&state["vms"]).into_iter().filter(|vm| vm["template"] != true).count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_decides_in_temporal_by_update_and_by_signal() {
    let house = impatient("operator").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let fault = json!({"kind": "status", "status": 500, "method": "PUT", "path": "/resize"});
    let (workflow_id, page) = stuck_order(&house, &customer, "operator-1", fault).await;
    let client = house.temporal().await.expect("Temporal");
    let order = client.get_workflow_handle::<Order>(&workflow_id);
    let decision = |step: Step, by: &str| Decision {
        step,
        occurrence: None,
        verdict: Verdict::Retry,
        by: by.to_owned(),
        reason: String::new(),
    };
    let refused = order.execute_update(Order::decide, decision(Step::Clone, "op"), Default::default()).await;
    assert!(refused.is_err(), "a decision about another step was taken");
    order.signal(Order::decided, decision(Step::Clone, "op"), Default::default()).await.expect("a signal is taken");
    order.execute_update(Order::decide, decision(Step::Resize, "op-1"), Default::default()).await.expect("an update");
    until("it waits again", SOON, || async {
        let waits = "select count(*) from attention where occurrence = 2 and settled_at is null";
        (count(house.db(), waits).await == 1).then_some(())
    })
    .await;
    house.proxmox().expect("a stand-in").clear_faults().await.expect("repaired");
    order.signal(Order::decided, decision(Step::Resize, "op-2"), Default::default()).await.expect("a signal");
    customer.wait_until_page_says(page.as_str(), "delivered", SOON).await.expect("delivery");
    let by: Vec<String> = sqlx::query_scalar("select decided_by from attention order by occurrence")
        .fetch_all(house.db())
        .await
        .expect("the records");
    assert_eq!(by, ["op-1", "op-2"]);
    histories::keep(&house, &workflow_id, "order-retried-twice").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_runs_out_of_time_says_what_the_vendor_answered_last() {
    let house = impatient("last-words").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let (workflow_id, _) = stuck_order(&house, &customer, "last-1", json!({"kind": "agent_never"})).await;
    let reason: String = sqlx::query_scalar("select reason from attention where workflow_id = $1")
        .bind(&workflow_id)
        .fetch_one(house.db())
        .await
        .expect("the reason");
    assert!(reason.contains("QEMU guest agent is not running"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_staff_decides() {
    let house = impatient("not-staff").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    assert_eq!(customer.visitor.open("/staff/").await.expect("an answer").status, 404);
    let stranger = Customer::stranger(&house).expect("a stranger");
    assert_eq!(stranger.visitor.open("/staff/").await.expect("an answer").status, 404);
    assert_clean_slate(&house, "nothing happened").await;
}
