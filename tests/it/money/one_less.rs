//! A customer takes away one further server that the plan covers: asked for once however often the form is sent, stopped and
//! kept, then destroyed alone, whatever happens to the subscription, the worker or the wish meanwhile.
use domain::{ids::ServiceId, instruction::Ask};
use house::{Customer, House, Page, PolicySecs, Visitor, Vm};
use serde_json::json;
use uuid::Uuid;

use super::{
    entitlement::{address, all_are, becomes_delivered, covering, nothing_is_left, order},
    plan::charged,
    staff::{Held, day},
    story::becomes,
};
use crate::{
    histories,
    shop::{SOON, until},
    world::{assert_stripe_contract, count, vendors},
};

async fn service(house: &House, hostname: &str) -> Uuid {
    let asked = sqlx::query_scalar("select id from services where hostname = $1").bind(hostname);
    asked.fetch_one(house.db()).await.expect("the service")
}

async fn vms(house: &House) -> Vec<Vm> {
    house.machines().vms().await.expect("the machines").into_values().collect()
}

/// Waits until a service and its machine are in these states; nothing stands for a machine that is gone.
async fn is(house: &House, hostname: &str, status: &str, machine: Option<&str>) {
    until(&format!("{hostname} is {status}"), SOON * 2, || async {
        let now: String = sqlx::query_scalar("select status from services where hostname = $1")
            .bind(hostname)
            .fetch_one(house.db())
            .await
            .expect("the service");
        let found = vms(house).await.into_iter().find(|vm| vm.name.starts_with(hostname)).map(|vm| vm.status);
        (now == status && found.as_deref() == machine).then_some(())
    })
    .await;
}

fn way(service: Uuid) -> String {
    format!("/dashboard/vps/{service}/remove/")
}

async fn page_of(visitor: &Visitor, service: Uuid) -> Page {
    visitor.open(&way(service)).await.expect("an answer")
}

async fn send(held: &Held<'_>, page: &Page, values: &[(&str, &str)]) -> Page {
    held.customer.visitor.submit(page, "/remove/", values).await.expect("an answer")
}

/// Asks for it as a customer does, who is sure.
async fn remove(held: &Held<'_>, service: Uuid) {
    let page = page_of(&held.customer.visitor, service).await.ok().expect("the page");
    let sent = send(held, &page, &[("sure", "yes")]).await;
    assert!(sent.status == 200 && sent.url.path() == format!("/dashboard/vps/{service}/"), "{}", sent.text());
}

async fn letters(held: &Held<'_>, words: &str) -> usize {
    held.customer.mailbox().letters(&held.customer.email, words).await.expect("letters").len()
}

/// The servers that the dashboard shows as there, by name, and the lines of those that have ended.
async fn on_the_dashboard(held: &Held<'_>) -> (Vec<String>, Vec<String>) {
    let board = held.customer.dashboard().await.expect("the dashboard");
    let mut there = board.texts("section[aria-labelledby=servers] h3");
    there.sort();
    (there, board.texts("section[aria-labelledby=ended] tbody tr"))
}

/// A subscription with a further server beside its own.
async fn with_two<'a>(house: &'a House, name: &str) -> Held<'a> {
    let held = Held::new(house, &format!("{name}-1")).await;
    becomes_delivered(&held, &order(&held, &format!("{name}-2")).await).await;
    all_are(house, "running", "running", 2).await;
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_server_is_taken_away_alone_and_once_and_its_place_is_given_again_when_it_is_gone() {
    let policy = PolicySecs { retention: 2, retention_warning: 1, subscription_poll: 2, ..PolicySecs::default() };
    let house = covering("one-less", policy).await;
    let held = with_two(&house, "less").await;
    let (first, second) = (service(&house, "less-1").await, service(&house, "less-2").await);
    let paid_for = page_of(&held.customer.visitor, first).await;
    assert!(paid_for.status == 409 && paid_for.text().contains("Cancel the plan instead"), "{}", paid_for.text());
    assert!(!paid_for.has_form("/remove/"), "the server that is paid for can be removed by itself");
    let stranger = Customer::signed_in(&house).await.expect("somebody else");
    assert_eq!(page_of(&stranger.visitor, second).await.status, 404, "somebody else sees it");
    let own = held.customer.visitor.open(&format!("/dashboard/vps/{second}/")).await.expect("the server's page");
    let link = own.link("/remove/").expect("the way to its end");
    let page = held.customer.visitor.open(link.as_str()).await.expect("an answer").ok().expect("the page");
    assert!(page.text().contains("less-2") && page.text().contains("destroyed for good"), "{}", page.text());
    assert!(!page.text().contains("less-1"), "it speaks of another server: {}", page.text());
    let unsure = send(&held, &page, &[]).await;
    assert_eq!(unsure.status, 422, "removed without a confirmation: {}", unsure.text());

    let other_tab = page_of(&held.customer.visitor, second).await.ok().expect("the page");
    // Nothing is destroyed before its customer was told, so what is between can be looked at.
    house.kill_mail().await.expect("no mail");
    let sure = [("sure", "yes")];
    let (once, twice) = tokio::join!(send(&held, &page, &sure), send(&held, &page, &sure));
    assert_eq!((once.status, twice.status), (200, 200), "{}", once.text());
    assert_eq!(held.settled("remove_server").await, "done");
    let third = send(&held, &page, &sure).await;
    assert_eq!(third.status, 200, "the same form is another wish: {}", third.text());
    assert_eq!(send(&held, &other_tab, &sure).await.status, 200);
    assert_eq!(held.settled("remove_server").await, "refused");
    is(&house, "less-2", "retained", Some("stopped")).await;
    is(&house, "less-1", "running", Some("running")).await;
    let told = held.customer.visitor.open(&format!("/dashboard/vps/{second}/")).await.expect("its page").text();
    assert!(told.contains("You removed this server") && told.contains("is destroyed with everything on it"), "{told}");
    let full = held.customer.visitor.open(&address(&held)).await.expect("an answer");
    assert!(full.status == 409 && full.text().contains("every place is taken"), "{}", full.text());
    let waits = "select count(*) from removals where cause = 'notice' and kind = 'expire' and service_id is not null";
    becomes(&house, "it waits until its letter is there", waits, 1).await;
    assert_eq!(vms(&house).await.len(), 2, "destroyed before its customer was told");
    let board = held.page().await.text();
    for words in ["removed by its customer", "Remove a server", "Destroy one server", "does not have the letter"] {
        assert!(board.contains(words), "{words} is not on the page: {board}");
    }

    house.start_mail().await.expect("the mail server is back");
    held.customer
        .mailbox()
        .wait_for(&held.customer.email, "removed your server less-2", 1, SOON * 2)
        .await
        .expect("it");
    is(&house, "less-2", "expired", None).await;
    let gone = held.customer.mailbox().wait_for(&held.customer.email, "less-2 is gone", 1, SOON).await.expect("it");
    assert!(gone.text.contains("as you asked") && gone.text.contains("is free again"), "{}", gone.text);
    assert_eq!((vms(&house).await.len(), vendors(&house).await.names.len()), (1, 4), "more or less went");
    becomes(&house, "one place", "select count(*) from reservations where released_at is null", 1).await;
    becomes_delivered(&held, &order(&held, "less-3").await).await;
    is(&house, "less-3", "running", Some("running")).await;
    is(&house, "less-1", "running", Some("running")).await;
    let wishes = "select count(*) from instructions where kind = 'remove_server' and state = 'done'";
    assert_eq!((count(house.db(), wishes).await, letters(&held, "removed your server").await), (1, 1));
    let noted = "select count(*) from audit a join audit_particulars p on p.audit_id = a.id
        where a.action = 'instruction.done' and p.after->>'kind' = 'remove_server' and a.actor_kind = 'user'";
    assert_eq!(count(house.db(), noted).await, 1, "the trail does not say who wanted it");
    assert_eq!((charged(&held).await, count(house.db(), "select count(*) from attention").await), (vec![500], 0));
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_customer_took_away_stays_stopped_when_they_pay_and_runs_again_when_staff_keep_it() {
    let policy = PolicySecs {
        reminders: vec![1],
        suspend_after: 2,
        retention: 600,
        subscription_poll: 2,
        ..PolicySecs::default()
    };
    let house = covering("one-kept", policy).await;
    let held = with_two(&house, "kept").await;
    let second = service(&house, "kept-2").await;
    held.stops_paying().await;
    all_are(&house, "suspended", "stopped", 2).await;
    remove(&held, second).await;
    is(&house, "kept-2", "retained", Some("stopped")).await;
    assert_eq!(held.settled("remove_server").await, "done");
    held.customer.at_stripe("good-card").await.expect("another card");
    held.customer.at_stripe("pay").await.expect("paid");
    is(&house, "kept-1", "running", Some("running")).await;
    is(&house, "kept-2", "retained", Some("stopped")).await;
    let (there, ended) = on_the_dashboard(&held).await;
    assert_eq!(there, ["kept-1"], "what was taken away stands among the others");
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert!(ended[0].contains("kept-2") && ended[0].contains("Kept until"), "{ended:?}");

    let id = second.to_string();
    let silent = held.send(&held.page().await, "keep_server", &[("service", id.as_str())]).await;
    assert_eq!(silent.status, 422, "kept without a reason: {}", silent.text());
    assert_eq!(held.tell("keep_server", &[("service", id.as_str()), ("reason", "they called")]).await, "done");
    is(&house, "kept-2", "running", Some("running")).await;
    assert_eq!(on_the_dashboard(&held).await, (vec!["kept-1".to_owned(), "kept-2".to_owned()], vec![]));
    let again = held.customer.mailbox().wait_for(&held.customer.email, "kept-2 was started again", 1, SOON).await;
    assert!(again.expect("a letter").text.contains("It is not removed"));
    let keep = Ask::KeepServer { service: ServiceId(second) };
    let (state, words) = held.told(keep).await;
    assert_eq!((state.as_str(), words.as_deref()), ("refused", Some("It is not being removed.")));

    remove(&held, second).await;
    is(&house, "kept-2", "retained", Some("stopped")).await;
    until("the second wish has a letter of its own", SOON, || async {
        (letters(&held, "removed your server kept-2").await == 2).then_some(())
    })
    .await;
    is(&house, "kept-1", "running", Some("running")).await;
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_taken_away_once_although_the_worker_dies_and_nothing_else_ever_is() {
    let policy = PolicySecs {
        retention: 3,
        retention_warning: 1,
        subscription_poll: 2,
        step_patience: 600,
        ..PolicySecs::default()
    };
    let house = covering("one-dies", policy).await;
    let held = Held::new(&house, "dies-1").await;
    let cluster = house.proxmox().expect("a stand-in");
    let broken = json!({"kind": "status", "status": 500, "method": "PUT", "path": "/resize"});
    cluster.add_fault(broken).await.expect("broken");
    let page = order(&held, "dies-2").await;
    let (first, second) = (service(&house, "dies-1").await, service(&house, "dies-2").await);
    let wish = |service| held.told(Ask::RemoveServer { service: ServiceId(service) });
    for (service, why) in [
        (second, "It is still being set up. Remove it when it is ready."),
        (first, "It is the server that the plan was begun for. Cancel the plan instead."),
        (Uuid::new_v4(), "There is no such server any more."),
    ] {
        let (state, words) = wish(service).await;
        assert_eq!((state.as_str(), words.as_deref()), ("refused", Some(why)));
    }
    cluster.clear_faults().await.expect("repaired");
    becomes_delivered(&held, &page).await;
    let stranger = Held::new(&house, "dies-9").await;
    let theirs = service(&house, "dies-9").await;
    assert_eq!(wish(theirs).await.0, "refused", "somebody else's");

    for (path, method) in [("/status/shutdown", "POST"), ("/qemu/", "DELETE")] {
        let slow = json!({"kind": "delay", "ms": 2000, "after_work": true, "times": 1, "method": method, "path": path});
        cluster.add_fault(slow).await.expect("a slow answer");
    }
    cluster.forget_requests().await.expect("a new page");
    remove(&held, second).await;
    for (path, method) in [("/status/shutdown", "POST"), ("/qemu/", "DELETE")] {
        until(&format!("{method} {path} is under way"), SOON, || async {
            let asked = cluster.requests(Some(path)).await.expect("the requests");
            asked.iter().any(|request| request["method"] == method).then_some(())
        })
        .await;
        house.kill_worker().await.expect("kill -9");
        house.start_worker().await.expect("a worker");
    }
    is(&house, "dies-2", "expired", None).await;
    is(&house, "dies-1", "running", Some("running")).await;
    is(&house, "dies-9", "running", Some("running")).await;
    held.customer.mailbox().wait_for(&held.customer.email, "dies-2 is gone", 1, SOON).await.expect("a letter");
    assert_eq!((letters(&held, "removed your server").await, letters(&held, "is gone").await), (1, 1));
    assert_eq!(vendors(&house).await.names.len(), 8, "a name is left, or too many went");
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
    assert_eq!(held.told(Ask::CancelNow).await.0, "done");
    is(&house, "dies-1", "expired", None).await;
    let workflow_id = format!("subscription-{}", held.subscription);
    histories::keep(&house, &workflow_id, "subscription-one-less").await;
    assert_eq!(charged(&stranger).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_ends_takes_along_what_was_being_taken_away_and_a_lost_workflow_forgets_none_of_it() {
    let policy = PolicySecs { retention: 5, retention_warning: 1, subscription_poll: 2, ..PolicySecs::default() };
    let house = covering("one-ends", policy).await;
    let held = with_two(&house, "goes").await;
    let second = service(&house, "goes-2").await;
    assert_eq!(held.tell("hold", &[("until", &day(3)), ("reason", "it is looked at")]).await, "done");
    remove(&held, second).await;
    let full = form_is_refused(&held).await;
    assert!(full.contains("every place is taken"), "{full}");
    // Nothing is stopped while staff hold; the wish waits, and its workflow is lost meanwhile.
    let client = house.temporal().await.expect("Temporal");
    let handle = client
        .get_workflow_handle::<workflows::subscription::Subscription>(format!("subscription-{}", held.subscription));
    handle.terminate(temporalio_client::WorkflowTerminateOptions::default()).await.expect("terminated");
    let told = house.run_ez(&["reconcile"], "").await.expect("reconciled");
    assert!(told.contains("subscriptions given a workflow: 1"), "{told}");
    is(&house, "goes-2", "running", Some("running")).await;
    assert_eq!(held.tell("release", &[("reason", "it has been looked at")]).await, "done");
    assert_eq!(held.settled("remove_server").await, "done");
    is(&house, "goes-1", "running", Some("running")).await;
    held.customer.at_stripe("cancel-now").await.expect("ended");
    nothing_is_left(&house, 2).await;
    let expired = "select count(*) from letters where kind = 'service_expired' and state = 'sent'";
    becomes(&house, "each has its letter", expired, 2).await;
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
    assert_eq!(charged(&held).await, [500]);
    assert_stripe_contract(&house).await;
}

/// What is answered to whoever wants another server.
async fn form_is_refused(held: &Held<'_>) -> String {
    let answer = held.customer.visitor.open(&address(held)).await.expect("an answer");
    assert_eq!(answer.status, 409, "{}", answer.text());
    answer.text()
}
