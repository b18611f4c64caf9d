//! The columns "run twice" and "undo run twice": a workflow is set back, as an operator can, to before one of its activities,
//! and everything from there on is done once more in the same world, database steps included.
use std::collections::BTreeSet;

use contract::attention::{Decision, Verdict};
use domain::order::Step;
use house::{House, HouseOptions};
use serde_json::json;
use temporalio_client::{Client, UntypedWorkflow, tonic::Request};
use temporalio_common::protos::temporal::api::{
    common::v1::WorkflowExecution,
    enums::v1::EventType,
    history::v1::{HistoryEvent, history_event::Attributes},
    workflowservice::v1::ResetWorkflowExecutionRequest,
};
use workflows::order::Order;

use super::{
    Cell, cell,
    checks::{Repeats, World},
    order::{Bought, LIMIT, Story, waiting},
    story::waiting_step,
};
use crate::{
    shop::{open_with, until},
    twice::contract_names,
    world::{tables, vendors},
};

/// The marker under which a database step stands in a history.
const LOCAL_ACTIVITY: &str = "core_local_activity";

/// Never asked for by a workflow that is set back, because the look before it is in the same workflow task and finds it
/// done. `twice` runs it two times.
pub(super) const ENDS: &str = "payment.end_subscription";
/// What people tell a subscription is done once for each of its names, whatever is set back. `twice` runs both two times.
pub(super) const TOLD: [&str; 2] = ["ledger.note_instruction", "payment.carry_out"];

struct Again<'a> {
    house: &'a House,
    client: Client,
    ran_twice: BTreeSet<String>,
}

/// An activity in a history: its name, and the workflow task that asked for it.
pub(super) fn asked(event: &HistoryEvent) -> Option<(String, i64)> {
    match event.attributes.as_ref()? {
        Attributes::ActivityTaskScheduledEventAttributes(it) => {
            Some((it.activity_type.as_ref()?.name.clone(), it.workflow_task_completed_event_id))
        }
        Attributes::MarkerRecordedEventAttributes(it) if it.marker_name == LOCAL_ACTIVITY => {
            let mut data = it.details.values().flat_map(|payloads| &payloads.payloads);
            let read = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
            let name = data.find_map(|payload| read(&payload.data)?["activity_type"].as_str().map(str::to_owned));
            Some((name?, it.workflow_task_completed_event_id))
        }
        _ => None,
    }
}

fn ended(events: &[HistoryEvent]) -> bool {
    events.last().is_some_and(|last| last.event_type() == EventType::WorkflowExecutionCompleted)
}

/// The activities asked for by this workflow task and those after it.
fn asked_since(events: &[HistoryEvent], task: i64) -> BTreeSet<String> {
    events.iter().filter_map(asked).filter(|(_, by)| *by >= task).map(|(name, _)| name).collect()
}

impl Again<'_> {
    async fn history(&self, workflow_id: &str) -> Vec<HistoryEvent> {
        let handle = self.client.get_workflow_handle::<UntypedWorkflow>(workflow_id);
        handle.fetch_history(Default::default()).into_events().await.expect("a history")
    }

    async fn ends(&self, workflow_id: &str) {
        let over = || async { ended(&self.history(workflow_id).await).then_some(()) };
        until(&format!("{workflow_id} is over"), LIMIT, over).await;
    }

    /// Waits until a history says what its world may say a moment before it: a database step is done before it is recorded.
    async fn recorded(&self, workflow_id: &str, activity: &str) {
        until(&format!("the history of {workflow_id} names {activity}"), LIMIT, || async {
            self.history(workflow_id).await.iter().filter_map(asked).any(|(name, _)| name == activity).then_some(())
        })
        .await;
    }

    /// Sets a workflow back to before it asked for an activity, and waits until all it had done since is done again, or at
    /// least what is named: what a look finds done already is not asked for.
    async fn from(&mut self, workflow_id: &str, activity: &str, least: &[&str]) {
        let before = self.history(workflow_id).await;
        let task = before.iter().filter_map(asked).find(|(name, _)| name == activity).map(|(_, task)| task);
        let task = task.unwrap_or_else(|| panic!("{workflow_id} never asked for {activity}"));
        let mut done = asked_since(&before, task);
        if !least.is_empty() {
            done.retain(|activity| least.contains(&activity.as_str()));
        }
        let reset = ResetWorkflowExecutionRequest {
            namespace: self.house.setting("TEMPORAL_NAMESPACE").expect("a namespace").to_owned(),
            workflow_execution: Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: String::new() }),
            reason: format!("{activity} once more"),
            workflow_task_finish_event_id: task,
            request_id: uuid::Uuid::new_v4().to_string(),
            ..ResetWorkflowExecutionRequest::default()
        };
        let mut service = self.client.connection().workflow_service();
        service.reset_workflow_execution(Request::new(reset)).await.expect("set back");
        until(&format!("{workflow_id} has done everything from {activity} on again"), LIMIT, || async {
            let now = self.history(workflow_id).await;
            let is_set_back = now.iter().any(|e| e.event_id == task && e.event_type() == EventType::WorkflowTaskFailed);
            let again = asked_since(&now, task).is_superset(&done) && (ended(&now) || !ended(&before));
            (is_set_back && again).then_some(())
        })
        .await;
        self.ran_twice.extend(done);
    }

    /// The same, and nothing in the world is otherwise than before.
    async fn in_the_same_world_from(&mut self, workflow_id: &str, activity: &str, least: &[&str]) {
        let (mut rows, world) = (tables(self.house.db()).await, vendors(self.house).await);
        rows.remove("payment_events");
        self.from(workflow_id, activity, least).await;
        let rows_now = tables(self.house.db()).await;
        for (table, rows) in rows {
            assert_eq!(
                rows_now.get(&table),
                Some(&rows),
                "{activity} and what follows changed {table} the second time"
            );
        }
        assert_eq!(vendors(self.house).await, world, "{activity} and what follows changed a vendor the second time");
    }

    /// Decides by a signal, which a workflow that is set back hears again.
    async fn decide(&self, bought: &Bought<'_>, step: Step, verdict: Verdict) {
        let decision =
            Decision { step, occurrence: None, verdict, by: "an operator".to_owned(), reason: "by hand".to_owned() };
        let order = self.client.get_workflow_handle::<Order>(bought.workflow_id());
        order.signal(Order::decided, decision, Default::default()).await.expect("a signal");
    }

    async fn ended_well(&self, what: &str, bought: &Bought<'_>) {
        let world = World::ask(self.house).await;
        world.assert_ended_well(what, bought, Repeats::Never).await;
    }
}

async fn delivered(again: &mut Again<'_>, house: &House) {
    let mut bought = Bought::new(house, Story::Delivered, "again").await;
    bought.begin(&again.client).await;
    bought.page_opens().await;
    bought.pay().await;
    bought.reaches("delivered").await;
    bought.is_told("service_delivered").await;
    again.in_the_same_world_from(&bought.workflow_id(), "ledger.reserve", &[]).await;
    again.in_the_same_world_from(&format!("letter-service_delivered/{}", bought.service), "mail.send", &[]).await;
    let (id, looked) = (bought.subscription_workflow_id(), ["payment.read_subscription", "ledger.mirror_subscription"]);
    again.in_the_same_world_from(&id, looked[0], &looked).await;
    again.ended_well("an order run twice", &bought).await;
}

/// Its number is somebody else's.
async fn renumbered(again: &mut Again<'_>, house: &House) {
    let mut bought = Bought::new(house, Story::Delivered, "again-taken").await;
    bought.begin(&again.client).await;
    bought.page_opens().await;
    let foreign = json!({"vmid": bought.vmid, "node": "pve1", "name": "not-ours", "description": "somebody else"});
    house.proxmox().expect("a stand-in").post("/_control/vms", foreign).await.expect("a foreign machine");
    bought.pay().await;
    bought.reaches("delivered").await;
    bought.is_told("service_delivered").await;
    again.in_the_same_world_from(&bought.workflow_id(), "ledger.renumber", &[]).await;
    bought.page_opens().await;
    again.ended_well("an order renumbered twice", &bought).await;
}

/// Staff clone its machine by hand.
async fn adopted(again: &mut Again<'_>, house: &House) {
    let mut bought = Bought::new(house, Story::Delivered, "again-adopted").await;
    bought.begin(&again.client).await;
    bought.page_opens().await;
    let cluster = house.proxmox().expect("a stand-in");
    let broken =
        json!({"kind": "status", "status": 400, "path": "/clone", "contains": format!("newid={}", bought.vmid)});
    let broken = cluster.add_fault(broken).await.expect("a fault");
    bought.pay().await;
    assert_eq!(waiting_step(house, &bought.workflow_id()).await, "clone");
    cluster.remove_fault(broken).await.expect("repaired");
    let description = format!("ez-service: {}", bought.service);
    let made = json!({"vmid": 170_000, "node": "pve1", "name": "by-hand", "description": description});
    cluster.post("/_control/vms", made).await.expect("cloned by hand");
    again.decide(&bought, Step::Clone, Verdict::Skip { result: Some("170000".to_owned()) }).await;
    bought.reaches("delivered").await;
    bought.is_told("service_delivered").await;
    again.in_the_same_world_from(&bought.workflow_id(), "ledger.adopt_number", &[]).await;
    bought.page_opens().await;
    assert_eq!(bought.vmid, 170_000);
    again.ended_well("a machine adopted twice", &bought).await;
}

/// Each step of its machine goes on alone once, because it does not succeed at one go.
async fn alone(again: &mut Again<'_>, house: &House) {
    let steps = [
        ("machine.clone", "POST", "/clone"),
        ("machine.configure", "POST", "/config"),
        ("machine.resize", "PUT", "/resize"),
        ("machine.protect", "PUT", "/firewall/options"),
        ("machine.start", "POST", "/status/start"),
        ("machine.answer", "GET", "/agent/network-get-interfaces"),
    ];
    for (activity, method, path) in steps {
        let mut bought = Bought::new(house, Story::Delivered, &format!("again-{activity}")).await;
        bought.begin(&again.client).await;
        bought.page_opens().await;
        let fault = json!({"kind": "status", "status": 400, "method": method, "path": path, "times": 1});
        house.proxmox().expect("a stand-in").add_fault(fault).await.expect("a fault");
        bought.pay().await;
        bought.reaches("delivered").await;
        bought.is_told("service_delivered").await;
        again.in_the_same_world_from(&bought.workflow_id(), activity, &[activity]).await;
        again.ended_well(&format!("{activity} run twice"), &bought).await;
    }
}

async fn lapsed(again: &mut Again<'_>, house: &House) {
    let mut bought = Bought::new(house, Story::Lapsed, "again-lapsed").await;
    bought.begin(&again.client).await;
    bought.page_opens().await;
    bought.reaches("lapsed").await;
    again.in_the_same_world_from(&bought.workflow_id(), "payment.expire_checkout", &[]).await;
    again.ended_well("an order that lapsed twice", &bought).await;
}

/// Given up at its name, and every step back taken twice.
async fn given_up(again: &mut Again<'_>, house: &House) {
    let mut bought = Bought::new(house, Story::GivenUp, "again-undone").await;
    bought.begin(&again.client).await;
    bought.page_opens().await;
    let gate = house.names_gate().expect("a gate");
    let contains = bought.reverse_name();
    let refused = json!({"kind": "status", "status": 422, "body": {"error": "no"}, "contains": contains});
    let refused = gate.add_fault(refused).await.expect("a fault");
    bought.pay().await;
    let id = bought.workflow_id();
    assert_eq!(waiting_step(house, &id).await, "name");
    again.recorded(&id, "ledger.raise_attention").await;
    again.from(&id, "name.publish", &[]).await;
    // Its table still holds the first waiting: only the workflow knows whether both tries were refused again.
    let order = again.client.get_workflow_handle::<Order>(&id);
    until("it waits again", LIMIT, || async {
        order.query(Order::attention, (), Default::default()).await.ok().flatten().map(drop)
    })
    .await;
    assert_eq!(waiting(house).await, 1, "the same waiting is shown twice");
    gate.remove_fault(refused).await.expect("repaired");
    again.decide(&bought, Step::Name, Verdict::Abandon).await;
    bought.reaches("abandoned").await;
    bought.is_told("order_abandoned").await;
    again.in_the_same_world_from(&id, "name.withdraw", &[]).await;
    again.ended_well("an order undone twice", &bought).await;
}

async fn life(again: &mut Again<'_>, house: &House) {
    let mut bought = Bought::new(house, Story::Ended, "again-life").await;
    bought.begin(&again.client).await;
    bought.page_opens().await;
    bought.pay().await;
    bought.reaches("delivered").await;
    bought.is_told("service_delivered").await;
    bought.stops_paying().await;
    bought.service_is("expired").await;
    bought.is_told("service_expired").await;
    let id = bought.subscription_workflow_id();
    again.ends(&id).await;
    // The look that comes before it finds the subscription ended already.
    again.in_the_same_world_from(&id, ENDS, &["payment.read_subscription"]).await;
    again.ended_well("a subscription ended twice", &bought).await;
}

/// Keeps services from being changed, but not from being read.
async fn unwritten(house: &House) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut lock = house.db().begin().await.expect("a transaction");
    sqlx::query("lock table services in share mode").execute(&mut *lock).await.expect("the lock");
    lock
}

async fn resumed(again: &mut Again<'_>, house: &House) {
    let mut bought = Bought::new(house, Story::Resumed, "again-resumed").await;
    bought.begin(&again.client).await;
    bought.page_opens().await;
    bought.pay().await;
    bought.reaches("delivered").await;
    bought.is_told("service_delivered").await;
    let id = bought.subscription_workflow_id();
    // What the machine has become cannot be written down meanwhile, so that a look finds it as it was.
    let unwritten = unwritten(house).await;
    bought.stops_paying().await;
    bought.machine_is("stopped").await;
    again.from(&id, "machine.suspend", &["machine.suspend", "ledger.services"]).await;
    unwritten.rollback().await.expect("released");
    bought.service_is("suspended").await;
    bought.is_told("service_suspended").await;
    again.in_the_same_world_from(&id, "ledger.change_service", &["ledger.change_service"]).await;
    again.in_the_same_world_from(&id, "ledger.ask_leave", &["ledger.ask_leave"]).await;
    let unwritten = self::unwritten(house).await;
    bought.pays_again().await;
    bought.machine_is("running").await;
    again.from(&id, "machine.resume", &["machine.resume"]).await;
    unwritten.rollback().await.expect("released");
    bought.service_is("running").await;
    bought.is_told("service_resumed").await;
    again.ended_well("a server suspended and resumed twice", &bought).await;
}

async fn grown(again: &mut Again<'_>, house: &House) {
    let mut bought = Bought::new(house, Story::Grown, "again-grown").await;
    bought.begin(&again.client).await;
    bought.page_opens().await;
    bought.pay().await;
    bought.reaches("delivered").await;
    bought.is_told("service_delivered").await;
    bought.is_repriced().await;
    bought.is_told("service_resized").await;
    let (id, done) = (bought.subscription_workflow_id(), ["machine.fit"]);
    again.in_the_same_world_from(&id, "machine.fit", &done).await;
    again.in_the_same_world_from(&id, "ledger.change_plan", &["ledger.change_plan"]).await;
    again.ended_well("a machine fitted twice", &bought).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_activity_done_again_by_a_workflow_that_is_set_back_leaves_the_same_world() {
    let house = open_with(HouseOptions::named("matrix-again").with_gates()).await;
    let client = house.temporal().await.expect("Temporal");
    let mut again = Again { house: &house, client, ran_twice: BTreeSet::new() };
    lapsed(&mut again, &house).await;
    delivered(&mut again, &house).await;
    alone(&mut again, &house).await;
    renumbered(&mut again, &house).await;
    adopted(&mut again, &house).await;
    given_up(&mut again, &house).await;
    life(&mut again, &house).await;
    resumed(&mut again, &house).await;
    grown(&mut again, &house).await;
    let here = |name: &String| matches!(cell(name, "run twice"), Some(Cell::Shown("again")));
    let missing: Vec<_> =
        contract_names().into_iter().filter(here).filter(|name| !again.ran_twice.contains(name)).collect();
    assert_eq!(missing, Vec::<String>::new(), "what the matrix says of an activity was not done");
}
