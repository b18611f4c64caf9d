//! A further server that the plan covers: nothing is paid for it, the last place is given once, what cannot be built gives
//! its place back, and whatever happens to the subscription happens to all of its servers.
use futures::future::join_all;
use house::{Catalogue, Customer, House, HouseOptions, Page, PolicySecs, SizeEntry, Vm};
use serde_json::{Value, json};
use temporalio_client::WorkflowTerminateOptions;
use workflows::covered::CoveredOrder;

use super::{plan::charged, staff::Held, story::becomes};
use crate::{
    attention::{decide, waiting_step},
    histories,
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, count, list, vendors},
};

/// The smallest plan covers a second, smaller server; the next one two of its own size; the largest only one.
fn covers_two(catalogue: &mut Catalogue) {
    catalogue.plans[0].service_limit = 2;
    catalogue.plans[0].further = Some(SizeEntry { cores: 1, memory_mib: 1_024, disk_gib: 20 });
    catalogue.plans[1].service_limit = 2;
}

pub(super) async fn covering(name: &str, policy: PolicySecs) -> House {
    open_with(HouseOptions { change_catalogue: covers_two, policy, ..HouseOptions::named(name) }).await
}

/// Where a subscription's further servers are ordered.
pub(super) fn address(held: &Held<'_>) -> String {
    format!("/dashboard/subscriptions/{}/server/", held.subscription)
}

async fn form(held: &Held<'_>) -> Page {
    let dashboard = held.customer.dashboard().await.expect("the dashboard");
    let link = dashboard.link(&address(held)).expect("the way to another server");
    held.customer.visitor.open(link.as_str()).await.expect("an answer").ok().expect("the form")
}

async fn send(held: &Held<'_>, form: &Page, hostname: &str) -> Page {
    // The portal may be busy, and then offers the same order once more.
    until(&format!("{hostname} is answered"), SOON, || async {
        let sent = held.customer.visitor.submit(form, "/server/", &[("hostname", hostname)]).await;
        sent.ok().filter(|page| page.status != 503)
    })
    .await
}

/// Orders a further server, and gives its order's page.
pub(super) async fn order(held: &Held<'_>, hostname: &str) -> Page {
    let page = send(held, &form(held).await, hostname).await;
    assert!(page.status == 200 && page.url.path().starts_with("/dashboard/orders/"), "{}", page.text());
    page
}

fn workflow_id(order: &Page) -> String {
    format!("order-{}", house::order_id(&order.url).expect("an id"))
}

async fn says(held: &Held<'_>, page: &Page, words: &str) {
    held.customer.wait_until_page_says(page.url.as_str(), words, SOON * 2).await.expect("the order's page says so");
}

pub(super) async fn becomes_delivered(held: &Held<'_>, page: &Page) {
    says(held, page, "your server is ready").await;
}

async fn vms(house: &House) -> Vec<Vm> {
    vendors(house).await.machines.into_values().collect()
}

/// Waits until every service of the house is in one state, and every machine in another.
pub(super) async fn all_are(house: &House, status: &str, machine: &str, many: usize) {
    until(&format!("all {many} are {status}"), SOON * 2, || async {
        let found: Vec<String> =
            sqlx::query_scalar("select status from services").fetch_all(house.db()).await.expect("the services");
        let vms = vms(house).await;
        let so = found.len() == many && found.iter().all(|state| state == status);
        (so && vms.len() == many && vms.iter().all(|vm| vm.status == machine)).then_some(())
    })
    .await;
}

pub(super) async fn nothing_is_left(house: &House, services: usize) {
    until("everything is destroyed", SOON * 2, || async {
        let gone = "select count(*) from services where status = 'expired'";
        let gone = usize::try_from(count(house.db(), gone).await).expect("few");
        (gone == services && vms(house).await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(vendors(house).await.names.len(), 0, "a name is left");
    for open in [
        "select count(*) from entitlements where closed_at is null",
        "select count(*) from reservations where released_at is null",
    ] {
        becomes(house, open, open, 0).await;
    }
}

async fn letters(held: &Held<'_>, kind: &str) -> i64 {
    sqlx::query_scalar("select count(distinct service_id) from letters where kind = $1 and state = 'sent'")
        .bind(kind)
        .fetch_one(held.house.db())
        .await
        .expect("the letters")
}

async fn told_of_both(held: &Held<'_>, kind: &str) {
    until(&format!("{kind} was written for both"), SOON, || async { (letters(held, kind).await == 2).then_some(()) })
        .await;
}

async fn sizes(house: &House) -> Vec<String> {
    let state = house.proxmox().expect("a stand-in").state().await.expect("the cluster");
    let ours = list(&state["vms"]).into_iter().filter(|vm| vm["template"] != true);
    let word = |value: &Value| value.to_string().trim_matches('"').to_owned();
    let mut sizes: Vec<String> =
        ours.map(|vm| format!("{} {}", word(&vm["config"]["cores"]), word(&vm["config"]["memory"]))).collect();
    sizes.sort();
    sizes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_server_costs_nothing_and_lives_as_its_subscription_does() {
    let policy = PolicySecs {
        reminders: vec![1],
        suspend_after: 2,
        retention: 3,
        retention_warning: 1,
        subscription_poll: 2,
        ..PolicySecs::default()
    };
    let house = covering("covered", policy).await;
    let held = Held::new(&house, "cover-1").await;
    let page = form(&held).await;
    assert!(page.text().contains("1 of 2 servers") && page.text().contains("nothing"), "{}", page.text());
    let typo = send(&held, &page, "not a name").await;
    assert_eq!(typo.status, 422, "{}", typo.text());
    let (one, two) = tokio::join!(send(&held, &page, "cover-2"), send(&held, &page, "cover-2"));
    assert_eq!((one.status, one.url.as_str()), (two.status, two.url.as_str()), "one form was two orders");
    becomes_delivered(&held, &one).await;
    let seen = held.customer.visitor.open(one.url.as_str()).await.expect("the order").text();
    assert!(seen.contains("Covered by your plan") && !seen.contains("Receive your payment"), "{seen}");
    all_are(&house, "running", "running", 2).await;
    told_of_both(&held, "service_delivered").await;
    assert_eq!((charged(&held).await, vendors(&house).await.names.len()), (vec![500], 8));
    assert_eq!(sizes(&house).await, ["1 1024", "1 2048"]);
    histories::keep(&house, &workflow_id(&one), "covered-delivered").await;

    let dashboard = held.customer.dashboard().await.expect("the dashboard");
    assert!(dashboard.text().contains("2 of 2 servers used"), "{}", dashboard.text());
    let full = send(&held, &page, "cover-3").await;
    assert!(full.url.as_str() == one.url.as_str(), "the same form was another order: {}", full.url);
    let full = held.customer.visitor.open(&address(&held)).await.expect("an answer");
    assert!(full.status == 409 && full.text().contains("every place is taken"), "{}", full.text());
    let staff = held.page().await.text();
    assert!(staff.contains("cover-1") && staff.contains("cover-2") && staff.contains("covered"), "{staff}");

    held.stops_paying().await;
    all_are(&house, "suspended", "stopped", 2).await;
    told_of_both(&held, "service_suspended").await;
    for name in ["server cover-1 is suspended", "server cover-2 is suspended"] {
        held.customer.mailbox().wait_for(&held.customer.email, name, 1, SOON).await.expect(name);
    }
    let unpaid = held.customer.visitor.open(&address(&held)).await.expect("an answer");
    assert!(unpaid.status == 409 && unpaid.text().contains("A payment is missing"), "{}", unpaid.text());
    held.customer.at_stripe("good-card").await.expect("another card");
    held.customer.at_stripe("pay").await.expect("paid");
    all_are(&house, "running", "running", 2).await;
    told_of_both(&held, "service_resumed").await;

    held.customer.at_stripe("cancel-now").await.expect("ended");
    nothing_is_left(&house, 2).await;
    told_of_both(&held, "service_expired").await;
    let over = held.customer.visitor.open(&address(&held)).await.expect("an answer");
    assert!(over.status == 409 && over.text().contains("ends or has ended"), "{}", over.text());
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_who_want_the_last_place_at_once_are_one_server_and_nobody_elses() {
    const MANY: usize = 20;
    let house = covering("last-place", PolicySecs::default()).await;
    let held = Held::new(&house, "place-0").await;
    let stranger = Customer::signed_in(&house).await.expect("somebody else");
    let seen = stranger.visitor.open(&address(&held)).await.expect("an answer");
    assert_eq!(seen.status, 404, "somebody else sees it: {}", seen.text());
    let forms = join_all((0..MANY).map(|_| form(&held))).await;
    let own = form(&held).await;
    let theirs = stranger.visitor.open("/billing/checkout/small/").await.expect("a form");
    let csrf = theirs.attributes("input[name=csrf]", "value").pop().expect("a token");
    let typed = [("csrf", csrf.as_str()), ("order", &uuid::Uuid::new_v4().to_string()), ("hostname", "stolen")];
    let path = house.visitor().expect("a browser").home.join(own.url.path()).expect("an address");
    let foreign = stranger.visitor.http.post(path).form(&typed).send().await.expect("an answer");
    assert_eq!(foreign.status().as_u16(), 404, "somebody else may order");

    let names: Vec<String> = (1..=MANY).map(|nth| format!("place-{nth}")).collect();
    let answers = join_all(forms.iter().zip(&names).map(|(form, name)| send(&held, form, name))).await;
    let (given, refused): (Vec<&Page>, Vec<&Page>) = answers.iter().partition(|page| page.status == 200);
    assert_eq!(given.len(), 1, "the last place was given otherwise than once");
    assert!(refused.iter().all(|page| page.status == 409), "refused in another way");
    assert!(refused.iter().all(|page| page.text().contains("every place is taken")), "refused without a reason");
    becomes_delivered(&held, given[0]).await;
    all_are(&house, "running", "running", 2).await;
    assert_eq!(charged(&held).await, [500]);
    assert_eq!(count(house.db(), "select count(*) from reservations where released_at is null").await, 2);
    assert_eq!(count(house.db(), "select count(*) from orders where status = 'provisioning'").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_server_that_cannot_be_built_gives_its_place_back() {
    let house = covering("unbuilt", PolicySecs { delivery: 10, ..PolicySecs::default() }).await;
    let held = Held::new(&house, "unbuilt-1").await;
    let cluster = house.proxmox().expect("a stand-in");
    let broken = json!({"kind": "status", "status": 500, "method": "PUT", "path": "/resize"});
    cluster.add_fault(broken).await.expect("broken");
    let late = order(&held, "unbuilt-2").await;
    says(&held, &late, "place in your plan is free again").await;
    let letter = held.customer.mailbox().wait_for(&held.customer.email, "could not deliver", 1, SOON).await;
    let letter = letter.expect("a letter").text;
    assert!(letter.contains("in the time we promise") && letter.contains("nothing was charged"), "{letter}");
    assert!(letter.contains("unbuilt-2"), "{letter}");

    histories::keep(&house, &workflow_id(&late), "covered-late").await;
    assert_eq!(vms(&house).await.len(), 1, "a machine is left");
    assert_eq!(vendors(&house).await.names.len(), 4, "a name is left");
    assert_eq!(count(house.db(), "select count(*) from reservations where released_at is null").await, 1);
    assert_eq!(count(house.db(), "select count(*) from subscriptions where phase = 'active'").await, 1);

    cluster.clear_faults().await.expect("repaired");
    becomes_delivered(&held, &order(&held, "unbuilt-3").await).await;
    assert_eq!(vms(&house).await.len(), 2);
    let world = vendors(&house).await;
    assert_eq!((charged(&held).await, world.money["refunds"].len()), (vec![500], 0));
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_server_is_delivered_once_although_its_worker_dies_and_its_workflow_is_lost() {
    let house = covering("covered-lost", PolicySecs::default()).await;
    let held = Held::new(&house, "lost-1").await;
    let cluster = house.proxmox().expect("a stand-in");
    let slow = json!({"kind": "delay", "ms": 1500, "path": "/config", "after_work": true, "times": 1});
    cluster.add_fault(slow).await.expect("a slow answer");
    let broken = json!({"kind": "status", "status": 500, "method": "PUT", "path": "/resize"});
    cluster.add_fault(broken).await.expect("broken");
    cluster.forget_requests().await.expect("a new page");
    let page = order(&held, "lost-2").await;
    let asked = |path: &'static str, method: &'static str| async move {
        until(&format!("{method} {path} is asked"), SOON, || async {
            let asked = cluster.requests(Some(path)).await.expect("the requests");
            asked.iter().any(|request| request["method"] == method).then_some(())
        })
        .await;
    };
    asked("/config", "POST").await;
    house.kill_worker().await.expect("kill -9");
    house.start_worker().await.expect("a new worker");
    asked("/resize", "PUT").await;
    let client = house.temporal().await.expect("Temporal");
    let handle = client.get_workflow_handle::<CoveredOrder>(workflow_id(&page));
    handle.terminate(WorkflowTerminateOptions::default()).await.expect("terminated");
    let told = house.run_ez(&["reconcile"], "").await.expect("reconciled");
    assert!(told.contains("orders begun again: 1"), "{told}");
    cluster.clear_faults().await.expect("repaired");
    becomes_delivered(&held, &page).await;
    all_are(&house, "running", "running", 2).await;
    told_of_both(&held, "service_delivered").await;
    let world = vendors(&house).await;
    assert_eq!((charged(&held).await, world.names.len()), (vec![500], 8));
    assert_eq!(count(house.db(), "select count(*) from attention").await, 0, "somebody had to help");
    let differences = "select count(*) from payment_events where type = 'difference'";
    assert_eq!(count(house.db(), differences).await, 0, "it was taken for an order that nobody paid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_while_a_further_server_is_being_built_leaves_no_machine() {
    let policy = PolicySecs { retention: 2, retention_warning: 1, subscription_poll: 1, ..PolicySecs::default() };
    let house = covering("covered-end", policy).await;
    let held = Held::new(&house, "ends-1").await;
    let cluster = house.proxmox().expect("a stand-in");
    let slow = json!({"kind": "delay", "ms": 4000, "path": "/resize", "times": 1});
    cluster.add_fault(slow).await.expect("a slow answer");
    let page = order(&held, "ends-2").await;
    held.customer.at_stripe("cancel-now").await.expect("ended");
    until("its end is known", SOON, || async {
        let known = "select count(*) from services where status = 'retained'";
        (count(house.db(), known).await > 0).then_some(())
    })
    .await;
    let refused = held.customer.visitor.open(&address(&held)).await.expect("an answer");
    assert_eq!(refused.status, 409, "{}", refused.text());
    nothing_is_left(&house, 2).await;
    becomes_delivered(&held, &page).await;
    told_of_both(&held, "service_expired").await;
    assert_eq!(charged(&held).await, [500]);
    let waiting = "select count(*) from attention where settled_at is null";
    assert_eq!(count(house.db(), waiting).await, 0, "somebody had to help");
    histories::keep(&house, &format!("subscription-{}", held.subscription), "subscription-ended-while-building").await;
}

/// Nothing says yet that it is over when the place is given: the first machine is just being stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_server_ordered_while_the_first_is_just_being_stopped_is_stopped_after_it() {
    let policy = PolicySecs { retention: 600, subscription_poll: 1, ..PolicySecs::default() };
    let house = covering("covered-race", policy).await;
    let held = Held::new(&house, "race-1").await;
    let page = form(&held).await;
    let cluster = house.proxmox().expect("a stand-in");
    let slow = json!({"kind": "delay", "ms": 6000, "after_work": true, "path": "/status/shutdown", "times": 1});
    cluster.add_fault(slow).await.expect("a slow answer");
    cluster.forget_requests().await.expect("a new page");
    held.customer.at_stripe("cancel-now").await.expect("ended");
    until("it is being stopped", SOON, || async {
        let asked = cluster.requests(Some("/status/shutdown")).await.expect("the requests");
        (!asked.is_empty()).then_some(())
    })
    .await;
    let order = send(&held, &page, "race-2").await;
    assert_eq!(order.status, 200, "it was known already that it is over: {}", order.text());
    becomes_delivered(&held, &order).await;
    all_are(&house, "retained", "stopped", 2).await;
    told_of_both(&held, "service_retained").await;
    let refused = held.customer.visitor.open(&address(&held)).await.expect("an answer");
    assert_eq!(refused.status, 409, "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_plan_fits_every_server_and_one_that_covers_fewer_is_refused() {
    let house = covering("covered-plan", PolicySecs { step_patience: 6, ..PolicySecs::default() }).await;
    let held = Held::new(&house, "plan-1").await;
    let first = held.customer.dashboard().await.expect("the dashboard").link("/dashboard/vps/").expect("a server");
    let cluster = house.proxmox().expect("a stand-in");
    let broken = json!({"kind": "status", "status": 500, "method": "PUT", "path": "/resize"});
    cluster.add_fault(broken).await.expect("broken");
    let given_up = order(&held, "plan-0").await;
    assert_eq!(waiting_step(&house, &workflow_id(&given_up)).await, "resize");
    let because = [("verdict", "abandon"), ("reason", "the storage is broken")];
    decide(&held.staff, &workflow_id(&given_up), &because).await;
    says(&held, &given_up, "place in your plan is free again").await;
    histories::keep(&house, &workflow_id(&given_up), "covered-abandoned").await;
    cluster.clear_faults().await.expect("repaired");
    becomes_delivered(&held, &order(&held, "plan-2").await).await;
    let dashboard = held.customer.dashboard().await.expect("the dashboard");
    let servers = dashboard.attributes("h3 a", "href");
    let second = servers.iter().find(|server| !first.as_str().ends_with(server.as_str())).expect("the second");
    let own = held.customer.visitor.open(second).await.expect("its page").text();
    assert!(own.contains("covered by your plan") && own.contains("1 GiB"), "{own}");
    for part in ["plan/", "cancel/"] {
        let page = held.customer.visitor.open(&format!("{second}{part}")).await.expect("an answer");
        assert_eq!(page.status, 404, "a covered server offers {part}");
    }
    let ends = held.customer.visitor.open(&format!("{first}cancel/")).await.expect("an answer").text();
    assert!(ends.contains("plan-2"), "who cancels is not told of the other server: {ends}");

    let change = |plan: &'static str| {
        let address = format!("{first}plan/{plan}/");
        let held = &held;
        async move {
            let page = held.customer.visitor.open(&address).await.expect("an answer").ok().expect("a price");
            let form = format!("/plan/{plan}/");
            let answer = held.customer.visitor.submit(&page, &form, &[("restart", "yes")]).await.expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            held.settled("change_plan").await
        }
    };
    assert_eq!(change("large").await, "refused");
    assert!(held.page().await.text().contains("covers fewer servers"), "refused without a reason");
    assert_eq!((charged(&held).await.len(), sizes(&house).await), (1, vec!["1 1024".to_owned(), "1 2048".to_owned()]));
    assert_eq!(change("medium").await, "done");
    until("both have the size of the plan", SOON, || async {
        (sizes(&house).await == ["2 4096", "2 4096"]).then_some(())
    })
    .await;
    told_of_both(&held, "service_resized").await;
    let held_mib = "select coalesce(sum(memory_mib), 0)::bigint from reservations where released_at is null";
    assert_eq!(count(house.db(), held_mib).await, 8_192);
    assert_eq!(charged(&held).await.len(), 2);
    assert_stripe_contract(&house).await;
}
