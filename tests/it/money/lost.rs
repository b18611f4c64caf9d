//! What a subscription was told and nobody said what became of: its workflow is asked, and does it, or it comes to its end
//! with a word of it; never is something *being done* for ever.
use domain::instruction::Ask;
use house::{HouseOptions, PolicySecs};
use serde_json::json;
use temporalio_client::{WorkflowDescribeOptions, WorkflowExecutionStatus, WorkflowTerminateOptions};
use uuid::Uuid;
use workflows::subscription::Subscription;

use super::{plan::at_stripe, staff::Held};
use crate::{
    shop::{SOON, open_with, until},
    world::{assert_stripe_contract, count},
};

/// Writes down what nobody was told, as it stands in the table when the workflow has forgotten it.
async fn forgotten(held: &Held<'_>, kind: &str, hours_ago: i32, amount_minor: Option<i64>) -> Uuid {
    let id = Uuid::new_v4();
    sqlx::query(
        "insert into instructions (id, subscription_id, order_id, kind, amount_minor, currency, actor, reason, state,
            asked_at)
         select $1, s.id, s.order_id, $3, $4, case when $4 is null then null else 'eur' end, 'an operator', 'a try',
            'accepted', now() - make_interval(hours => $5)
         from subscriptions s where s.id = $2",
    )
    .bind(id)
    .bind(&held.subscription)
    .bind(kind)
    .bind(amount_minor)
    .bind(hours_ago)
    .execute(held.house.db())
    .await
    .expect("written down");
    id
}

/// Waits until it came to its end, and gives which, and the words about it.
async fn ends(held: &Held<'_>, id: Uuid) -> (String, Option<String>) {
    until("it comes to its end", SOON * 2, || async {
        sqlx::query_as("select state, words from instructions where id = $1 and state <> 'accepted'")
            .bind(id)
            .fetch_optional(held.house.db())
            .await
            .expect("the instruction")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_subscription_was_told_is_shown_to_staff_when_its_workflow_is_lost_and_carried_on_with_another() {
    let policy = PolicySecs { comparison: 1, step_patience: 600, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("told-lost") }).await;
    let held = Held::new(&house, "told-lost-1").await;
    let fault = json!({"kind": "status", "status": 503, "body": "later", "method": "POST", "path": "/v1/refunds"});
    house.stripe().add_fault(fault).await.expect("a fault");
    let values = [("amount", "2.00"), ("reason", "it was slow in May")];
    assert_eq!(held.send(&held.page().await, "refund", &values).await.status, 200);
    until("it is being done", SOON, || async {
        let asked = house.stripe().requests(Some("/v1/refunds")).await.expect("the requests");
        asked.iter().any(|request| request["method"] == "POST").then_some(())
    })
    .await;
    let client = house.temporal().await.expect("Temporal");
    let handle = client.get_workflow_handle::<Subscription>(format!("subscription-{}", held.subscription));
    handle.terminate(WorkflowTerminateOptions::default()).await.expect("terminated");
    house.stripe().clear_faults().await.expect("mended");
    sqlx::query("update instructions set asked_at = asked_at - interval '1 hour'")
        .execute(house.db())
        .await
        .expect("time passes");
    until("staff are shown it", SOON, || async {
        sqlx::query("update payment_events set attempts = 100, next_attempt_at = now() where state = 'received'")
            .execute(house.db())
            .await
            .expect("time passes");
        let shown = "select count(*) from payment_events
            where type = 'difference' and object_kind = 'instruction' and state = 'unclaimed'";
        (count(house.db(), shown).await == 1).then_some(())
    })
    .await;
    let board = held.staff.visitor.open("/staff/").await.expect("the staff page").text();
    assert!(board.contains("it was told something, and no workflow lives with this subscription"), "{board}");
    let told = house.run_ez(&["reconcile"], "").await.expect("reconciled");
    assert!(told.contains("subscriptions given a workflow: 1"), "{told}");
    assert_eq!(held.settled("refund").await, "done");
    assert_eq!(held.refunds().await, [200], "given back otherwise than once");
    held.service_is("running").await;
    assert_stripe_contract(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_workflow_has_forgotten_is_done_or_ended_with_a_word_of_it() {
    let policy = PolicySecs { comparison: 1, retention: 3, retention_warning: 1, ..PolicySecs::default() };
    let house = open_with(HouseOptions { policy, ..HouseOptions::named("forgotten") }).await;
    let held = Held::new(&house, "forgotten-1").await;
    let credit = forgotten(&held, "credit", 1, Some(300)).await;
    assert_eq!(ends(&held, credit).await.0, "done");
    let page = held.page().await.text();
    assert!(page.contains("EUR 3.00 were credited"), "{page}");

    // What was wanted before something else was done may not be wanted any more.
    let end = forgotten(&held, "cancel_at_end", 2, None).await;
    let (state, words) = ends(&held, end).await;
    assert!(state == "refused" && words.clone().expect("why").contains("something else was done since"), "{words:?}");
    assert_eq!(at_stripe(&held).await["cancel_at_period_end"], json!(false));
    let page = held.page().await.text();
    assert!(page.contains("“cancel at end”) was not done"), "the history says nothing: {page}");
    let noted = "select count(*) from audit where action = 'instruction.refused'";
    assert_eq!(count(house.db(), noted).await, 1, "the trail says nothing");

    assert_eq!(held.told(Ask::CancelNow).await.0, "done");
    held.service_is("expired").await;
    let client = house.temporal().await.expect("Temporal");
    let handle = client.get_workflow_handle::<Subscription>(format!("subscription-{}", held.subscription));
    until("its workflow is over", SOON, || async {
        let described = handle.describe(WorkflowDescribeOptions::default()).await.ok()?;
        (described.status() == WorkflowExecutionStatus::Completed).then_some(())
    })
    .await;
    let late = forgotten(&held, "go_on", 0, None).await;
    sqlx::query("update instructions set asked_at = now() - interval '2 minutes' where id = $1")
        .bind(late)
        .execute(house.db())
        .await
        .expect("time passes");
    let (state, words) = ends(&held, late).await;
    assert_eq!((state.as_str(), words.as_deref()), ("refused", Some("The subscription is over.")));
    assert_stripe_contract(&house).await;
}
