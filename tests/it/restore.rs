//! A restore: the portal's database comes back from before the last orders, and nothing that was acknowledged is lost.
use house::{Customer, GOOD_CARD, House, HouseOptions, OrderForm, PolicySecs, order_id};
use serde_json::json;
use temporalio_client::{WorkflowCountOptions, WorkflowTerminateOptions, tonic::Request};
use temporalio_common::protos::temporal::api::{
    common::v1::WorkflowExecution, workflowservice::v1::DeleteWorkflowExecutionRequest,
};
use workflows::{order::Order, subscription::Subscription};

use crate::{
    attention::{decide, impatient, staff, waiting_step},
    money::{staff::Held, story::becomes},
    shop::{SOON, open, open_with, until},
    world::{assert_clean_slate, count, distinct, vendors},
};

const DELIVERED: &str = "select count(*) from orders where status = 'delivered'";

/// Buys one server and gives the order's id.
async fn buy(customer: &Customer, hostname: &str) -> String {
    let page = customer.order(&OrderForm::small(hostname)).await.expect("the payment page");
    let back = customer.pay(&page, GOOD_CARD).await.expect("paying");
    let order = customer.order_page(&back).await.expect("the order's page");
    customer.wait_until_page_says(order.as_str(), "delivered", SOON).await.expect("delivery");
    order_id(&order).expect("an id")
}

/// Temporal forgets an order's workflow, as if its database were older than the order.
async fn forget(house: &House, workflow: &str) {
    let client = house.temporal().await.expect("Temporal");
    let found = format!("WorkflowId = '{workflow}'");
    let known = || async {
        let counted = client.count_workflows(found.as_str(), WorkflowCountOptions::default()).await;
        counted.expect("a count").count()
    };
    until("Temporal lists the workflow", SOON, || async { (known().await > 0).then_some(()) }).await;
    let question = DeleteWorkflowExecutionRequest {
        namespace: "default".to_owned(),
        workflow_execution: Some(WorkflowExecution { workflow_id: workflow.to_owned(), run_id: String::new() }),
    };
    client.connection().workflow_service().delete_workflow_execution(Request::new(question)).await.expect("deleted");
    until("Temporal has forgotten the workflow", SOON, || async { (known().await == 0).then_some(()) }).await;
}

async fn everything_is_sent(house: &House) {
    until("no letter is under way", SOON, || async {
        (count(house.db(), "select count(*) from letters where state <> 'sent'").await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_a_restored_database_does_not_know_are_found_and_keep_their_machines() {
    let house = open("restore").await;
    let mut customers = vec![];
    for _ in 0..3 {
        customers.push(Customer::signed_in(&house).await.expect("a customer"));
    }
    buy(&customers[0], "kept-before").await;
    let folder = house.logs().join("backup");
    let folder = folder.to_str().expect("UTF-8");
    let told = house.run_ez(&["backup", folder], "").await.expect("a backup");
    assert!(told.contains("NOT in this backup"), "{told}");

    // The first of these Temporal still knows; of the second only Stripe does.
    buy(&customers[1], "kept-in-temporal").await;
    let at_stripe = buy(&customers[2], "kept-at-stripe").await;
    house.stop_web().await.expect("stopped");
    let refused = house.run_ez(&["restore", folder, "--overwrite"], "").await.expect_err("a worker is running");
    assert!(format!("{refused:?}").contains("stop every"), "{refused:?}");
    house.stop_worker().await.expect("stopped");
    forget(&house, &format!("order-{at_stripe}")).await;
    let before = vendors(&house).await;
    house.run_ez(&["restore", folder, "--overwrite"], "").await.expect("restored");
    assert_eq!(count(house.db(), DELIVERED).await, 1, "the last two are forgotten");

    let told = house.run_ez(&["reconcile", "--restored"], "").await.expect("reconciled");
    assert!(told.contains("orders written down again: 2"), "{told}");
    house.start_worker().await.expect("a worker");
    house.start_web().await.expect("the web");
    until("every order is delivered again", SOON * 2, || async {
        (count(house.db(), DELIVERED).await == 3).then_some(())
    })
    .await;
    let after = vendors(&house).await;
    let numbers = |world: &crate::world::Vendors| world.machines.keys().copied().collect::<Vec<_>>();
    assert_eq!(numbers(&after), numbers(&before), "machines");
    assert_eq!(after.names, before.names, "names");
    for kind in ["charges", "refunds", "subscriptions", "sessions", "customers"] {
        assert_eq!(after.money[kind].len(), before.money[kind].len(), "{kind}");
    }
    let held = "select count(*) from reservations where released_at is null";
    assert_eq!(count(house.db(), held).await, 3, "places");
    assert_eq!(count(house.db(), "select count(*) from services where status = 'running'").await, 3, "services");
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
    let told = house.run_ez(&["reconcile"], "").await.expect("reconciled once more");
    assert!(told.contains("orders written down again: 0"), "{told}");
    let told = house.run_ez(&["audit", "verify"], "").await.expect("the trail is right after a restore, too");
    assert!(told.contains("right: links 1 to"), "{told}");
    assert_eq!(count(house.db(), "select count(*) from audit where action = 'reconcile.run'").await, 2);
    house.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_begins_again_looks_at_its_payment_although_every_event_about_it_is_gone() {
    let house = open("begins-again").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    buy(&customer, "paid-long-ago").await;
    until("the receipt is written", SOON, || async {
        (count(house.db(), "select count(*) from letters where kind = 'payment_received'").await == 1).then_some(())
    })
    .await;
    everything_is_sent(&house).await;
    let before = vendors(&house).await;
    house.stop_web().await.expect("stopped");
    house.stop_worker().await.expect("stopped");
    // What a database from between the payment and the delivery says.
    let older = [
        "update orders set status = 'provisioning'",
        "update services set status = 'provisioning'",
        "delete from payment_events",
        "update letters set state = 'started', sent_at = null",
    ];
    for older in older {
        sqlx::query(older).execute(house.db()).await.expect("an older database");
    }
    let told = house.run_ez(&["reconcile"], "").await.expect("reconciled");
    assert!(told.contains("orders begun again: 1"), "{told}");
    house.start_worker().await.expect("a worker");
    house.start_web().await.expect("the web");
    until("the order is delivered again", SOON, || async { (count(house.db(), DELIVERED).await == 1).then_some(()) })
        .await;
    everything_is_sent(&house).await;
    let after = vendors(&house).await;
    // What was under way is handed over again under its own Message-ID.
    assert_eq!(distinct(&after.letters), distinct(&before.letters), "letters");
    assert_eq!(after.machines.keys().collect::<Vec<_>>(), before.machines.keys().collect::<Vec<_>>(), "machines");
    assert_eq!(after.money["charges"].len(), 1, "charges");
    house.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_order_that_begins_again_is_shown_to_staff_again_and_its_old_line_is_gone() {
    let house = impatient("stuck-again").await;
    let (customer, staff) = (Customer::signed_in(&house).await.expect("a customer"), staff(&house).await);
    let cluster = house.proxmox().expect("a stand-in");
    let broken = json!({"kind": "status", "status": 500, "method": "PUT", "path": "/resize"});
    cluster.add_fault(broken).await.expect("a fault");
    let page = customer.buy(&OrderForm::small("stuck-again-1")).await.expect("buying");
    let workflow_id = format!("order-{}", order_id(&page).expect("an id"));
    assert_eq!(waiting_step(&house, &workflow_id).await, "resize");
    let written_to = async |times: i64| {
        let letters = "select count(*) from letters where kind = 'staff_attention'";
        until(&format!("staff are written to {times} times"), SOON, || async {
            (count(house.db(), letters).await == times).then_some(())
        })
        .await;
    };
    written_to(1).await;
    let client = house.temporal().await.expect("Temporal");
    let handle = client.get_workflow_handle::<Order>(&workflow_id);
    handle.terminate(WorkflowTerminateOptions::default()).await.expect("terminated");
    let told = house.run_ez(&["reconcile"], "").await.expect("reconciled");
    assert!(told.contains("orders begun again: 1"), "{told}");
    let old = "select count(*) from attention where occurrence = 1 and verdict = 'retry' and decided_by = 'system'";
    assert_eq!(count(house.db(), old).await, 1, "what the lost workflow waited for stays for ever");
    until("staff are shown the new wait", SOON, || async {
        let again = "select count(*) from attention where occurrence = 2 and settled_at is null";
        (count(house.db(), again).await == 1).then_some(())
    })
    .await;
    written_to(2).await;
    cluster.clear_faults().await.expect("repaired");
    decide(&staff, &workflow_id, &[("verdict", "retry")]).await;
    customer.wait_until_page_says(page.as_str(), "delivered", SOON).await.expect("delivery");
    assert_eq!(count(house.db(), "select count(*) from attention where settled_at is null").await, 0, "a line is left");
    house.stop().await.expect("a clean end");
}

/// An order that was given up and whose machine cannot be destroyed: the money has not gone back yet.
async fn half_given_up(house: &House, customer: &Customer, hostname: &str) -> String {
    let cluster = house.proxmox().expect("a stand-in");
    let broken = |method: &str, path: &str| json!({"kind": "status", "status": 500, "method": method, "path": path});
    let resize = cluster.add_fault(broken("PUT", "/resize")).await.expect("a fault");
    let page = customer.buy(&OrderForm::small(hostname)).await.expect("buying");
    let workflow_id = format!("order-{}", order_id(&page).expect("an id"));
    assert_eq!(waiting_step(house, &workflow_id).await, "resize");
    cluster.add_fault(broken("DELETE", "/qemu/")).await.expect("a fault");
    cluster.remove_fault(resize).await.expect("repaired");
    let why = [("verdict", "abandon"), ("reason", "it cannot be built")];
    decide(&staff(house).await, &workflow_id, &why).await;
    assert_eq!(waits_to_destroy(house, 2).await, 1);
    workflow_id
}

/// Waits until an order's machine waits to be destroyed, in that occurrence, and gives how many steps wait at all.
async fn waits_to_destroy(house: &House, occurrence: u32) -> i64 {
    until("the machine waits to be destroyed", SOON, || async {
        let waits = sqlx::query_scalar::<_, i64>(
            "select count(*) from attention where step = 'destroy' and occurrence = $1 and settled_at is null",
        );
        let waits = waits.bind(i32::try_from(occurrence).expect("few")).fetch_one(house.db()).await;
        (waits.expect("the table") == 1).then_some(())
    })
    .await;
    count(house.db(), "select count(*) from attention where settled_at is null").await
}

/// The machine can be destroyed again: what was given up ends so, and is paid back once.
async fn ends_given_up(house: &House, customer: &Customer, workflow_id: &str) {
    house.proxmox().expect("a stand-in").clear_faults().await.expect("repaired");
    decide(&staff(house).await, workflow_id, &[("verdict", "retry")]).await;
    until("the order is abandoned", SOON, || async {
        let abandoned = "select count(*) from orders where status = 'abandoned'";
        (count(house.db(), abandoned).await == 1).then_some(())
    })
    .await;
    customer.mailbox().wait_for(&customer.email, "sorry", 1, SOON).await.expect("an apology");
    assert_clean_slate(house, "given up").await;
    assert_eq!(vendors(house).await.money["refunds"].len(), 1, "paid back otherwise than once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_being_given_up_is_not_begun_again_when_nothing_was_restored() {
    let house = impatient("giving-up").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let workflow_id = half_given_up(&house, &customer, "giving-up-1").await;
    let told = house.run_ez(&["reconcile"], "").await.expect("reconciled");
    assert!(told.contains("orders begun again: 0") && told.contains("orders whose workflow runs: 1"), "{told}");
    assert_eq!(waits_to_destroy(&house, 2).await, 1, "staff are not shown what waits");
    ends_given_up(&house, &customer, &workflow_id).await;
    house.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_was_being_given_up_goes_on_being_given_up_when_it_begins_again() {
    let house = impatient("gives-up-again").await;
    let customer = Customer::signed_in(&house).await.expect("a customer");
    let workflow_id = half_given_up(&house, &customer, "gives-up-again-1").await;
    let why = "select count(*) from orders o join attention a on a.order_id = o.id and a.occurrence = 1
        where a.step = 'resize' and o.reason = a.reason";
    let told = house.run_ez(&["reconcile", "--restored"], "").await.expect("reconciled");
    assert!(told.contains("orders begun again: 1"), "{told}");
    assert_eq!(waits_to_destroy(&house, 3).await, 1, "the line of the workflow before stays");
    ends_given_up(&house, &customer, &workflow_id).await;
    assert_eq!(count(house.db(), why).await, 1, "it was closed for another reason");
    house.stop().await.expect("a clean end");
}

/// An order that waits for staff, because its own machine cannot grow.
async fn waits_for_staff(house: &House, customer: &Customer, hostname: &str) -> String {
    let cluster = house.proxmox().expect("a stand-in");
    let broken = |path: &str| json!({"kind": "status", "status": 500, "method": "PUT", "path": path});
    let every = cluster.add_fault(broken("/resize")).await.expect("a fault");
    let page = customer.buy(&OrderForm::small(hostname)).await.expect("buying");
    let workflow_id = format!("order-{}", order_id(&page).expect("an id"));
    assert_eq!(waiting_step(house, &workflow_id).await, "resize");
    let own: i32 = sqlx::query_scalar("select vmid from reservations where 'order-' || order_id::text = $1")
        .bind(&workflow_id)
        .fetch_one(house.db())
        .await
        .expect("its place");
    cluster.add_fault(broken(&format!("/{own}/resize"))).await.expect("a fault");
    cluster.remove_fault(every).await.expect("repaired");
    workflow_id
}

/// Everybody has what was acknowledged, and what was given up is nobody's.
async fn assert_kept(house: &House) {
    let given_up = "select count(*) from letters l join orders o on o.id = l.order_id or o.service_id = l.service_id
        where o.status = 'abandoned' and l.kind = 'service_delivered'";
    assert_eq!(count(house.db(), given_up).await, 0, "what was given up was delivered");
    assert_eq!(count(house.db(), "select count(*) from attention where settled_at is null").await, 0, "a line is left");
    let world = vendors(house).await;
    assert_eq!(world.machines.len(), 3, "machines: {:?}", world.machines);
    let paid = world.money["charges"].iter().filter(|charge| charge["paid"] == true).count();
    assert_eq!((paid, world.money["refunds"].len()), (4, 1), "charges and refunds");
    let living = world.money["subscriptions"].iter().filter(|row| row["status"] != "canceled").count();
    assert_eq!(living, 3, "subscriptions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_given_up_or_was_warned_when_a_backup_is_made_goes_on_after_its_restore() {
    let policy = PolicySecs { step_patience: 6, reminders: vec![1], suspend_after: 30, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("restore-waits") }).await;
    let mut customers = vec![];
    for _ in 0..3 {
        customers.push(Customer::signed_in(&house).await.expect("a customer"));
    }
    let warned = Held::new(&house, "warned").await;
    let given_up = half_given_up(&house, &customers[0], "given-up").await;
    let waiting = waits_for_staff(&house, &customers[1], "waiting").await;
    warned.stops_paying().await;
    let reminders = "select count(*) from letters where kind = 'payment_reminder' and state = 'sent'";
    becomes(&house, "the customer is warned", reminders, 1).await;
    everything_is_sent(&house).await;
    let suspended = "select count(*) from subscriptions where phase = 'suspended'";
    assert_eq!(count(house.db(), suspended).await, 0, "it is not only warned");
    let folder = house.logs().join("backup");
    let folder = folder.to_str().expect("UTF-8");
    house.run_ez(&["backup", folder], "").await.expect("a backup");

    buy(&customers[2], "kept-after").await;
    let client = house.temporal().await.expect("Temporal");
    let lost = client.get_workflow_handle::<Subscription>(format!("subscription-{}", warned.subscription));
    lost.terminate(WorkflowTerminateOptions::default()).await.expect("terminated");
    house.stop_web().await.expect("stopped");
    house.stop_worker().await.expect("stopped");
    house.run_ez(&["restore", folder, "--overwrite"], "").await.expect("restored");
    assert_eq!(count(house.db(), DELIVERED).await, 1, "the last one is forgotten");
    let told = house.run_ez(&["reconcile", "--restored"], "").await.expect("reconciled");
    assert!(told.contains("orders written down again: 1") && told.contains("orders begun again: 3"), "{told}");
    house.start_worker().await.expect("a worker");
    house.start_web().await.expect("the web");

    becomes(&house, "what was acknowledged is delivered again", DELIVERED, 2).await;
    assert_eq!(waiting_step(&house, &waiting).await, "resize");
    assert_eq!(waits_to_destroy(&house, 3).await, 2, "staff are shown something else than what waits");
    let staff = staff(&house).await;
    let board = staff.visitor.open("/staff/").await.expect("an answer").ok().expect("the staff page").text();
    assert!(board.contains(&waiting) && board.contains(&given_up), "staff do not see what waits: {board}");

    house.proxmox().expect("a stand-in").clear_faults().await.expect("repaired");
    decide(&staff, &waiting, &[("verdict", "retry")]).await;
    decide(&staff, &given_up, &[("verdict", "retry")]).await;
    becomes(&house, "what waited is delivered", DELIVERED, 3).await;
    becomes(&house, "what was given up is over", "select count(*) from orders where status = 'abandoned'", 1).await;
    becomes(&house, "who was warned is suspended", suspended, 1).await;
    everything_is_sent(&house).await;
    assert_kept(&house).await;
    let letters = house.mail().letters(&warned.customer.email, "is missing").await.expect("letters");
    assert_eq!((letters.len(), count(house.db(), reminders).await), (1, 1), "warned otherwise than once");
    house.stop().await.expect("a clean end");
}
