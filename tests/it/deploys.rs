//! A deployment: workers of the release before this one and of this one share the task queues, in turn and together, and
//! every workflow goes on at whichever comes next.
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all};
use house::{Customer, House, HouseOptions, OrderForm};
use serde_json::json;
use temporalio_client::Client;
use temporalio_common::{
    UntypedWorkflow,
    protos::temporal::api::{
        enums::v1::{EventType, WorkflowTaskFailedCause},
        history::v1::{HistoryEvent, history_event::Attributes},
    },
};

use crate::{
    matrix::{Bought, LIMIT, Story},
    shop::{SOON, open_with, until},
    world::{count, vendors},
};

/// How long both releases take turns while orders come in.
const SHARED: Duration = Duration::from_secs(30);
/// How long each turn is.
const TURN: Duration = Duration::from_secs(4);
/// A customer thinks for so long between two orders.
const PAUSE: Duration = Duration::from_millis(800);

/// Buys until told to stop; gives the pages of what was bought.
async fn keep_buying(customer: &Customer, number: usize, stop: &AtomicBool) -> Vec<String> {
    let mut pages = vec![];
    while !stop.load(Ordering::Relaxed) {
        let name = format!("shared-{number}-{}", pages.len());
        pages.push(customer.buy(&OrderForm::small(&name)).await.expect("buying").to_string());
        tokio::time::sleep(PAUSE).await;
    }
    pages
}

/// This release alone, both, the one before alone, both: work is handed over in both directions, as when a deployment rolls
/// forward and back.
/// Gives the names under which the workers of the release before sign what they do.
async fn take_turns(house: &House, stop: &AtomicBool, lived: &AtomicBool) -> BTreeSet<String> {
    let (began, mut before) = (Instant::now(), BTreeSet::new());
    while began.elapsed() < SHARED || !lived.load(Ordering::Relaxed) {
        house.start_previous_worker().await.expect("a worker of the release before");
        let newest = house.worker_pids().await.last().copied().expect("a worker runs");
        before.insert(format!("ez@{newest}"));
        tokio::time::sleep(TURN).await;
        house.stop_oldest_worker().await.expect("this release's worker ends");
        tokio::time::sleep(TURN).await;
        house.start_worker().await.expect("a worker of this release");
        tokio::time::sleep(TURN).await;
        house.stop_oldest_worker().await.expect("the worker of the release before ends");
    }
    stop.store(true, Ordering::Relaxed);
    before
}

/// One more is bought, renewed, suspended for want of money, and runs again once it is paid.
async fn live(house: &House, client: &Client, lived: &AtomicBool) {
    let mut life = Bought::new(house, Story::Resumed, "shared-life").await;
    life.begin(client).await;
    life.page_opens().await;
    life.pay().await;
    life.reaches("delivered").await;
    let renew = format!("/_control/subscriptions/{}/renew", life.subscription);
    house.stripe().post(&renew, json!({})).await.expect("the next month");
    until("the renewal is known", LIMIT, || async {
        let paid = "select count(*) from invoices where subscription_id = $1 and status = 'paid'";
        let paid: i64 =
            sqlx::query_scalar(paid).bind(&life.subscription).fetch_one(house.db()).await.expect("its invoices");
        (paid == 2).then_some(())
    })
    .await;
    life.stops_paying().await;
    life.service_is("suspended").await;
    life.pays_again().await;
    life.service_is("running").await;
    life.machine_is("running").await;
    lived.store(true, Ordering::Relaxed);
}

/// Why a workflow task failed, except for a new event that came between: then it is simply done again.
fn failure(event: &HistoryEvent) -> Option<String> {
    let Some(Attributes::WorkflowTaskFailedEventAttributes(failed)) = &event.attributes else { return None };
    (failed.cause() != WorkflowTaskFailedCause::UnhandledCommand).then(|| format!("{failed:?}"))
}

/// No task failed, and both releases had a hand in it: each did some, and some workflow was handed from one to the other.
async fn assert_nothing_failed_to_replay(house: &House, before: &BTreeSet<String>) {
    let client = house.temporal().await.expect("Temporal");
    let query = format!("TaskQueue = '{}'", house.task_queue());
    let orders = usize::try_from(count(house.db(), "select count(*) from orders").await).expect("a number");
    let runs = until("every workflow is listed", SOON, || async {
        let found = client.list_workflows(query.clone(), Default::default()).collect::<Vec<_>>().await;
        let found: Vec<_> = found.into_iter().filter_map(Result::ok).collect();
        (found.len() >= 2 * orders).then_some(found)
    })
    .await;
    let (mut by_before, mut by_this, mut by_both) = (0, 0, 0);
    for run in &runs {
        let mut signed = BTreeSet::new();
        let handle = client.get_workflow_handle::<UntypedWorkflow>(run.id());
        let events = handle.fetch_history(Default::default()).into_events().await.expect("a history");
        for event in &events {
            assert_eq!(failure(event), None, "{} failed to replay", run.id());
            if event.event_type() == EventType::WorkflowTaskCompleted
                && let Some(Attributes::WorkflowTaskCompletedEventAttributes(done)) = &event.attributes
            {
                signed.insert(done.identity.clone());
            }
        }
        let (old, new) = (!signed.is_disjoint(before), !signed.is_subset(before));
        by_before += usize::from(old);
        by_this += usize::from(new);
        by_both += usize::from(old && new);
    }
    let told =
        format!("{by_before} by the release before, {by_this} by this one, {by_both} by both; before: {before:?}");
    assert!(by_before > 0 && by_this > 0, "one of the releases did nothing: {told}");
    assert!(by_both > 0, "nothing was handed over: {told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_releases_share_the_work_for_half_a_minute_and_nothing_fails_to_replay() {
    let house = open_with(HouseOptions { wide: true, ..HouseOptions::named("two-releases") }).await;
    let customers = [Customer::signed_in(&house).await.expect("one"), Customer::signed_in(&house).await.expect("two")];
    let client = house.temporal().await.expect("Temporal");
    let (stop, lived) = (AtomicBool::new(false), AtomicBool::new(false));
    let buying = join_all(customers.iter().enumerate().map(|(number, one)| keep_buying(one, number, &stop)));
    let (bought, before, ()) = tokio::join!(buying, take_turns(&house, &stop, &lived), live(&house, &client, &lived));
    for (customer, pages) in customers.iter().zip(&bought) {
        for page in pages {
            customer.wait_until_page_says(page, "delivered", SOON).await.expect("delivered");
        }
    }
    let orders = bought.iter().map(Vec::len).sum::<usize>();
    assert!(orders >= 10, "only {orders} orders in half a minute is no load");
    let world = vendors(&house).await;
    let charges = world.money["charges"].iter().filter(|charge| charge["paid"] == true).count();
    // The one that lived on was charged for three months.
    assert_eq!((world.machines.len(), charges), (orders + 1, orders + 3));
    assert_nothing_failed_to_replay(&house, &before).await;
}
