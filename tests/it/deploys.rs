//! A deployment: workers of the release before this one and of this one share the task queues, in turn and together, and
//! every workflow goes on at whichever comes next.
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all};
use house::{Customer, House, HouseOptions, OrderForm};
use temporalio_common::{
    UntypedWorkflow,
    protos::temporal::api::{
        enums::v1::{EventType, WorkflowTaskFailedCause},
        history::v1::{HistoryEvent, history_event::Attributes},
    },
};

use crate::{
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
async fn take_turns(house: &House, stop: &AtomicBool) {
    let began = Instant::now();
    while began.elapsed() < SHARED {
        house.start_previous_worker().await.expect("a worker of the release before");
        tokio::time::sleep(TURN).await;
        house.stop_oldest_worker().await.expect("this release's worker ends");
        tokio::time::sleep(TURN).await;
        house.start_worker().await.expect("a worker of this release");
        tokio::time::sleep(TURN).await;
        house.stop_oldest_worker().await.expect("the worker of the release before ends");
    }
    stop.store(true, Ordering::Relaxed);
}

/// Why a workflow task failed, except for a new event that came between: then it is simply done again.
fn failure(event: &HistoryEvent) -> Option<String> {
    let Some(Attributes::WorkflowTaskFailedEventAttributes(failed)) = &event.attributes else { return None };
    (failed.cause() != WorkflowTaskFailedCause::UnhandledCommand).then(|| format!("{failed:?}"))
}

async fn assert_nothing_failed_to_replay(house: &House) {
    let client = house.temporal().await.expect("Temporal");
    let query = format!("TaskQueue = '{}'", house.task_queue());
    let orders = usize::try_from(count(house.db(), "select count(*) from orders").await).expect("a number");
    let runs = until("every workflow is listed", SOON, || async {
        let found = client.list_workflows(query.clone(), Default::default()).collect::<Vec<_>>().await;
        let found: Vec<_> = found.into_iter().filter_map(Result::ok).collect();
        (found.len() >= 2 * orders).then_some(found)
    })
    .await;
    let mut signed = std::collections::BTreeSet::new();
    for run in &runs {
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
    }
    assert!(signed.len() >= 4, "only {signed:?} took part");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_releases_share_the_work_for_half_a_minute_and_nothing_fails_to_replay() {
    let house = open_with(HouseOptions { wide: true, ..HouseOptions::named("two-releases") }).await;
    let customers = [Customer::signed_in(&house).await.expect("one"), Customer::signed_in(&house).await.expect("two")];
    let stop = AtomicBool::new(false);
    let buying = join_all(customers.iter().enumerate().map(|(number, one)| keep_buying(one, number, &stop)));
    let (bought, ()) = tokio::join!(buying, take_turns(&house, &stop));
    for (customer, pages) in customers.iter().zip(&bought) {
        for page in pages {
            customer.wait_until_page_says(page, "delivered", SOON).await.expect("delivered");
        }
    }
    let orders = bought.iter().map(Vec::len).sum::<usize>();
    assert!(orders >= 10, "only {orders} orders in half a minute is no load");
    let world = vendors(&house).await;
    assert_eq!((world.machines.len(), world.money["charges"].len()), (orders, orders));
    assert_nothing_failed_to_replay(&house).await;
}
