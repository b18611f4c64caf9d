//! Drives an order through its story and lays its fault at the moment its row names.
use std::time::Duration;

use house::{Control, House};
use serde_json::{Value, json};
use temporalio_client::Client;
use tokio::sync::Mutex;

use super::{
    order::{Bought, LIMIT, Story, When},
    rows::{Row, Vendor},
};
use crate::{attention::staff, shop::until};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Machines that staff clone have numbers of their own.
const BY_HAND: u32 = 50_000;

/// The vendor call a fault is laid on, of one order alone.
pub(super) struct Aim {
    pub(super) vendor: Vendor,
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) contains: String,
}

impl Aim {
    /// The fault, meant for this call alone.
    pub(super) fn fault(&self, mut fault: Value) -> Value {
        fault["method"] = json!(self.method);
        fault["path"] = json!(self.path);
        fault["contains"] = json!(self.contains);
        fault
    }
}

/// Decides on the staff page as a person would who is told that Temporal did not answer: looks whether the step still waits,
/// and tries again.
pub(crate) async fn decide_firmly(house: &House, workflow_id: &str, values: &[(&str, &str)]) {
    let (person, action) = (staff(house).await, format!("/staff/attention/{}/", workflow_id.replace('/', "%2F")));
    until(&format!("staff's decision about {workflow_id} is taken"), LIMIT, || async {
        let page = person.visitor.open("/staff/").await.expect("the staff page").ok().expect("the staff page");
        if !page.text().contains(workflow_id) || !waits(house, workflow_id).await {
            return Some(());
        }
        let answer = person.visitor.submit(&page, &action, values).await;
        let answer = answer.expect("an answer");
        assert!([200, 409, 503].contains(&answer.status), "the decision was refused: {}", answer.text());
        (answer.status == 200).then_some(())
    })
    .await;
}

/// Waits until a step of a workflow waits for staff, and gives the step's word. Workers that are killed meanwhile take time.
pub(crate) async fn waiting_step(house: &House, workflow_id: &str) -> String {
    crate::attention::waiting_step_within(house, workflow_id, LIMIT).await
}

async fn waits(house: &House, workflow_id: &str) -> bool {
    sqlx::query_scalar("select exists (select from attention where workflow_id = $1 and settled_at is null)")
        .bind(workflow_id)
        .fetch_one(house.db())
        .await
        .expect("what waits")
}

/// The control API that lays faults on a vendor.
pub(super) fn control(house: &House, vendor: Vendor) -> &Control {
    match vendor {
        Vendor::Stripe => house.stripe(),
        Vendor::Machines => house.proxmox().expect("a stand-in"),
        Vendor::Names => house.names_gate().expect("a gate"),
    }
}

/// One cell on its way: its row, its order, and the faults laid on it.
pub(super) struct Cell<'a> {
    pub(super) row: &'static Row,
    pub(super) bought: Bought<'a>,
    client: Client,
    faults: &'a [Value],
    laid: Mutex<Vec<u64>>,
}

impl<'a> Cell<'a> {
    pub(super) async fn new(house: &'a House, client: &Client, row: &'static Row, faults: &'a [Value]) -> Self {
        let bought = Bought::new(house, row.story, row.activity).await;
        Self { row, bought, client: client.clone(), faults, laid: Default::default() }
    }

    async fn moment(&self, when: When) {
        if self.row.when != when {
            return;
        }
        let (aim, mut laid) = ((self.row.aim)(&self.bought), vec![]);
        for fault in self.faults {
            let added = control(self.bought.house, aim.vendor).add_fault(aim.fault(fault.clone())).await;
            laid.push(added.unwrap_or_else(|error| panic!("{}: {error:?}", self.row.activity)));
        }
        *self.laid.lock().await = laid;
    }

    /// Begins an order that will be delivered, and pays it once its fault is laid, if it comes to that.
    pub(super) async fn begin_to_its_fault(&mut self) {
        self.moment(When::Begin).await;
        self.bought.begin(&self.client).await;
        if self.row.when == When::Begin {
            return;
        }
        self.bought.page_opens().await;
        self.moment(When::Pay).await;
        self.bought.pay().await;
    }

    /// Lives the whole story, to its good end.
    pub(super) async fn live(&mut self) {
        self.moment(When::Begin).await;
        self.bought.begin(&self.client).await;
        self.bought.page_opens().await;
        self.moment(When::Pay).await;
        if self.row.story == Story::Lapsed {
            return self.bought.reaches("lapsed").await;
        }
        if self.row.story == Story::GivenUp {
            return self.give_up().await;
        }
        match self.row.story {
            Story::Renumbered => self.plant(self.bought.vmid, "somebody else").await,
            Story::Adopted => return self.adopt().await,
            _ => {}
        }
        self.bought.pay().await;
        self.moment(When::Paid).await;
        self.bought.reaches("delivered").await;
        self.bought.is_told("service_delivered").await;
        self.moment(When::Delivered).await;
        if self.row.story == Story::Renumbered {
            return self.bought.page_opens().await;
        }
        if self.row.story == Story::Grown {
            self.bought.is_repriced().await;
            return self.bought.is_told("service_resized").await;
        }
        if self.row.story == Story::Told {
            return self.bought.is_given_back(&self.client).await;
        }
        if self.row.story == Story::Delivered {
            return;
        }
        self.bought.stops_paying().await;
        if self.row.story == Story::Ended {
            self.bought.service_is("suspended").await;
            self.moment(When::Suspended).await;
            self.bought.service_is("expired").await;
            return self.bought.is_told("service_expired").await;
        }
        self.bought.service_is("suspended").await;
        self.bought.is_told("service_suspended").await;
        self.moment(When::Suspended).await;
        self.bought.pays_again().await;
        self.bought.service_is("running").await;
        self.bought.is_told("service_resumed").await;
    }

    async fn plant(&self, vmid: u32, description: &str) {
        let machine = json!({"vmid": vmid, "node": "pve1", "name": "planted", "description": description});
        let cluster = self.bought.house.proxmox().expect("a stand-in");
        cluster.post("/_control/vms", machine).await.expect("a machine we did not make");
    }

    /// The template cannot be cloned, and staff do it by hand.
    async fn adopt(&mut self) {
        let cluster = self.bought.house.proxmox().expect("a stand-in");
        let contains = format!("newid={}", self.bought.vmid);
        let broken = json!({"kind": "status", "status": 400, "path": "/clone", "contains": contains});
        let broken = cluster.add_fault(broken).await.expect("a fault");
        self.bought.pay().await;
        let workflow_id = self.bought.workflow_id();
        assert_eq!(waiting_step(self.bought.house, &workflow_id).await, "clone");
        cluster.remove_fault(broken).await.expect("repaired");
        let vmid = self.bought.vmid + BY_HAND;
        self.plant(vmid, &format!("ez-service: {}", self.bought.service)).await;
        let result = vmid.to_string();
        decide_firmly(
            self.bought.house,
            &workflow_id,
            &[("verdict", "skip"), ("reason", "by hand"), ("result", &result)],
        )
        .await;
        self.bought.reaches("delivered").await;
        self.bought.is_told("service_delivered").await;
        self.bought.page_opens().await;
    }

    /// The name cannot be published to its end, and staff give the order up.
    async fn give_up(&mut self) {
        let gate = self.bought.house.names_gate().expect("a gate");
        let contains = self.bought.reverse_name();
        let refused = json!({"kind": "status", "status": 422, "body": {"error": "no"}, "contains": contains});
        let refused = gate.add_fault(refused).await.expect("a fault");
        self.bought.pay().await;
        self.moment(When::Paid).await;
        let workflow_id = self.bought.workflow_id();
        assert_eq!(waiting_step(self.bought.house, &workflow_id).await, "name", "{}", self.row.activity);
        self.moment(When::GiveUp).await;
        gate.remove_fault(refused).await.expect("repaired");
        decide_firmly(self.bought.house, &workflow_id, &[("verdict", "abandon"), ("reason", "it cannot be named")])
            .await;
        self.bought.reaches("abandoned").await;
        self.bought.is_told("order_abandoned").await;
    }

    /// Waits until every fault that strikes a number of times has struck that often.
    pub(super) async fn has_struck(&self) {
        let aim = (self.row.aim)(&self.bought);
        let laid = self.laid.lock().await.clone();
        assert!(!laid.is_empty(), "{}: no fault was laid", self.row.activity);
        let vendor = control(self.bought.house, aim.vendor);
        let began = std::time::Instant::now();
        loop {
            let left = vendor.get("/_control/faults").await.expect("the faults");
            let mut left = left.as_array().expect("a list").iter();
            let Some(own) = left.find(|fault| fault["id"].as_u64().is_some_and(|id| laid.contains(&id))) else {
                return;
            };
            if began.elapsed() > LIMIT {
                let seen = vendor.requests(Some(&aim.path)).await.expect("the requests");
                panic!("{}: {own} never struck in {} requests: {seen:?}", self.row.activity, seen.len());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
