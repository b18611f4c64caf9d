//! The faults a real cluster has, as fakepve makes them: each order ends delivered once, or waits for staff and leaves nothing.
use house::{Cluster, House, HouseOptions};
use serde_json::{Value, json};
use temporalio_client::Client;

use crate::{
    attention::waiting_step,
    matrix::{Bought, LIMIT, Story, decide_firmly},
    shop::{open_with, until},
    world::{count, list},
};

/// What every order here is a copy of.
const TEMPLATE: u32 = 9000;

struct Pve {
    house: House,
    client: Client,
}

impl Pve {
    async fn act(&self, name: &str, args: Value) {
        self.house.machines().act(name, args).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }

    /// An order whose machine is about to be touched by `method` on `path`: that request is held at the gate, and with it the
    /// order, while the trouble begins.
    async fn held_at(&self, word: &str, method: &str, path: &str) -> Bought<'_> {
        let mut order = Bought::new(&self.house, Story::Delivered, word).await;
        order.begin(&self.client).await;
        order.page_opens().await;
        let (path, contains) = match path {
            "/clone" => (path.to_owned(), format!("newid={}", order.vmid)),
            act => (format!("/qemu/{}{act}", order.vmid), String::new()),
        };
        let gate = self.house.machines_gate().expect("a gate");
        let hold =
            json!({"kind": "delay", "ms": 1500, "method": method, "path": path, "contains": contains, "times": 1});
        gate.add_fault(hold).await.expect("a fault");
        order.pay().await;
        until(&format!("{word}: {method} {path} is held"), LIMIT, || async {
            let requests = gate.requests(Some(&path)).await.expect("the requests");
            requests.iter().any(|request| request["fault"] == "delay").then_some(())
        })
        .await;
        order
    }

    /// Waits until the portal was told of the trouble.
    async fn told(&self, order: &Bought<'_>, word: &str, told: impl Fn(u64) -> bool) {
        let part = if word == "clone race" { "/clone".to_owned() } else { format!("/qemu/{}/", order.vmid) };
        until(&format!("{word}: the portal was told"), LIMIT, || async {
            let requests =
                self.house.machines_gate().expect("a gate").requests(Some(&part)).await.expect("the requests");
            requests.iter().any(|request| request["status"].as_u64().is_some_and(&told)).then_some(())
        })
        .await;
    }

    /// Two orders ask for a copy of one template, whose lock neither gets; both copies are made when it is free.
    async fn two_clones_of_one_template(&self) {
        self.act("snapshot_lock", json!([TEMPLATE, "backup"])).await;
        let mut orders = vec![];
        for word in ["one-of-two", "two-of-two"] {
            let mut order = Bought::new(&self.house, Story::Delivered, word).await;
            order.begin(&self.client).await;
            order.page_opens().await;
            order.pay().await;
            orders.push(order);
        }
        let gate = self.house.machines_gate().expect("a gate");
        let path = format!("/qemu/{TEMPLATE}/clone");
        for order in &orders {
            let number = order.vmid.to_string();
            until(&format!("{number} meets the lock of its template"), LIMIT, || async {
                let requests = gate.requests(Some(&path)).await.expect("the requests");
                let refused = |request: &Value| request["params"]["newid"] == number && request["status"] == 500;
                requests.iter().any(refused).then_some(())
            })
            .await;
        }
        self.act("unlock", json!([TEMPLATE])).await;
        for order in &mut orders {
            self.delivered_once(order, "two clones of one template").await;
        }
        assert_ne!(orders[0].vmid, orders[1].vmid, "two orders have one machine");
    }

    async fn delivered_once(&self, order: &mut Bought<'_>, word: &str) {
        order.reaches("delivered").await;
        order.page_opens().await;
        let machines = self.house.machines().vms().await.expect("the machines");
        let label = order.name.split('.').next().unwrap_or_default().to_owned();
        let own: Vec<_> = machines.iter().filter(|(_, vm)| vm.name == label).collect();
        assert_eq!(own.len(), 1, "{word}: {machines:?}");
        assert_eq!((*own[0].0, own[0].1.status.as_str()), (order.vmid, "running"), "{word}");
        let names = self.house.dns().records().await.expect("the names");
        let own = names.iter().filter(|record| record.name == order.name || record.content == order.name).count();
        assert_eq!(own, 4, "{word}: {names:?}");
    }
}

/// One of fakepve's scenarios: its name and what it is given, made of the machine's number.
type Act = fn(u32) -> (&'static str, Value);

struct Trouble {
    word: &'static str,
    /// The request it meets.
    at: (&'static str, &'static str),
    begin: Act,
    /// Whether the portal was told of it with this status.
    told: fn(u64) -> bool,
    end: Act,
}

fn troubles() -> [Trouble; 6] {
    let config = ("POST", "/config");
    let refused: fn(u64) -> bool = |status| status == 500;
    [
        Trouble {
            word: "lock timeout",
            at: config,
            begin: |vmid| ("hold_config_lock", json!([vmid, 600])),
            told: refused,
            end: |vmid| ("release_config_lock", json!([vmid])),
        },
        Trouble {
            word: "locked by backup",
            at: config,
            begin: |vmid| ("snapshot_lock", json!([vmid, "backup"])),
            told: refused,
            end: |vmid| ("unlock", json!([vmid])),
        },
        Trouble {
            word: "no quorum",
            at: config,
            begin: |_| ("lose_quorum", json!([])),
            told: refused,
            end: |_| ("regain_quorum", json!([])),
        },
        Trouble {
            word: "node offline",
            at: config,
            begin: |_| ("set_node_offline", json!(["pve1", true])),
            told: |status| status == 595,
            end: |_| ("set_node_offline", json!(["pve1", false])),
        },
        Trouble {
            word: "proxy timeout",
            at: config,
            begin: |_| ("fail", json!(["POST", "/config", 596, "Connection timed out", false, null, 2])),
            told: |status| status == 596,
            end: |_| ("regain_quorum", json!([])),
        },
        Trouble {
            word: "agent hangs",
            at: ("GET", "/agent/network-get-interfaces"),
            begin: |vmid| ("agent_hangs", json!([vmid, true])),
            told: |status| status >= 500,
            end: |vmid| ("agent_hangs", json!([vmid, false])),
        },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_in_trouble_delays_an_order_which_is_delivered_once_when_it_is_well_again() {
    let options = HouseOptions { cluster: Cluster::Fakepve, ..HouseOptions::named("fakepve-faults") };
    let house = open_with(options.with_gates()).await;
    let pve = Pve { client: house.temporal().await.expect("Temporal"), house };
    for Trouble { word, at: (method, path), begin, told, end } in troubles() {
        let mut order = pve.held_at(&word.replace(' ', "-"), method, path).await;
        let (name, args) = begin(order.vmid);
        pve.act(name, args).await;
        pve.told(&order, word, told).await;
        let (name, args) = end(order.vmid);
        pve.act(name, args).await;
        pve.delivered_once(&mut order, word).await;
    }
    pve.two_clones_of_one_template().await;
    // Somebody else is faster with the number, between our look and our clone.
    let mut order = pve.held_at("clone-race", "POST", "/clone").await;
    let taken = order.vmid;
    pve.act("add_vm", json!([taken, "not-ours"])).await;
    pve.told(&order, "clone race", |status| status == 500 || status == 400).await;
    pve.delivered_once(&mut order, "clone race").await;
    assert_ne!(order.vmid, taken, "somebody else's machine was taken over");
    let machines = pve.house.machines().vms().await.expect("the machines");
    assert_eq!(
        machines.get(&taken).map(|vm| vm.name.as_str()),
        Some("not-ours"),
        "somebody else's machine was touched"
    );
    let asked = count(pve.house.db(), "select count(*) from attention").await;
    assert_eq!(asked, 0, "staff were asked although nothing was for them");

    // A refusal that stays, at one go and alone: it waits for staff.
    pve.act(
        "fail",
        json!(["POST", "/status/start", 403, "Permission check failed (/vms, VM.PowerMgmt)", false, null, 2]),
    )
    .await;
    let order = pve.held_at("refused", "POST", "/status/start").await;
    assert_eq!(waiting_step(&pve.house, &order.workflow_id()).await, "start");
    decide_firmly(&pve.house, &order.workflow_id(), &[("verdict", "abandon"), ("reason", "it may not be started")])
        .await;
    order.reaches("abandoned").await;
    order.is_told("order_abandoned").await;
    let machines = pve.house.machines().vms().await.expect("the machines");
    assert!(!machines.contains_key(&order.vmid), "a machine is left: {machines:?}");
    let names = pve.house.dns().records().await.expect("the names");
    let said = names.iter().any(|record| record.name == order.name || record.content == order.name);
    assert!(!said, "a name is left: {names:?}");
    assert_nothing_is_kept(&pve.house, &order).await;
}

/// What was paid went back, and nothing is held for it any more.
async fn assert_nothing_is_kept(house: &House, order: &Bought<'_>) {
    let stripe = house.stripe().state().await.expect("Stripe");
    let of_customer = |row: &Value| row["customer"] == order.customer.as_str();
    let own = |kind: &str| list(&stripe[kind]).into_iter().filter(of_customer).collect::<Vec<_>>();
    for subscription in own("subscriptions") {
        assert_eq!(subscription["status"], "canceled", "a subscription lives");
    }
    let payments = own("payments");
    assert!(!payments.is_empty(), "nothing was ever paid");
    for payment in payments {
        assert_eq!(payment["refunded"], payment["charged"], "money was kept: {payment}");
        assert_ne!(payment["status"], "open", "an invoice is open: {payment}");
    }
    for (what, query) in [
        ("a place", "select count(*) from reservations where order_id = $1 and released_at is null"),
        (
            "an entitlement",
            "select count(*) from entitlements e join subscriptions s on s.id = e.subscription_id
             where s.order_id = $1 and e.closed_at is null",
        ),
        ("a wait for staff", "select count(*) from attention where order_id = $1 and settled_at is null"),
    ] {
        let left: i64 = sqlx::query_scalar(query).bind(order.order.0).fetch_one(house.db()).await.expect("a count");
        assert_eq!(left, 0, "{what} is left");
    }
}
