//! The column "malformed answer" for what is only read. Whoever takes an order back looks at each vendor before anything is
//! done there, and an answer that is none is taken neither for absence nor for leave to go on.
use futures::future::join_all;
use house::{House, HouseOptions};
use serde_json::json;

use super::{
    checks::{Repeats, World},
    order::{Bought, Story, waiting},
    rows::Vendor,
    story::{control, decide_firmly, waiting_step},
};
use crate::{
    shop::open_with,
    world::{assert_stripe_contract, count},
};

/// Everything that a broken vendor, or whatever stands before it, says with status 200.
const SHAPES: [&str; 7] = ["half", "empty", "html", "list", "hollow", "number", "short"];

/// Everything that is read while an order is taken back. The name server's zones are listed before anything else is asked of
/// it, so each lie about them has struck before their records are read.
const READS: [(Vendor, &str); 10] = [
    (Vendor::Names, "/zones"),
    (Vendor::Names, "rrset_name="),
    (Vendor::Machines, "/cluster/resources"),
    (Vendor::Machines, "/config"),
    (Vendor::Machines, "/status/current"),
    (Vendor::Machines, "/tasks/"),
    (Vendor::Stripe, "/v1/subscriptions/"),
    (Vendor::Stripe, "/v1/invoices?"),
    (Vendor::Stripe, "/v1/invoices/"),
    (Vendor::Stripe, "/v1/refunds"),
];

/// Each read is answered in each shape once, whoever asks.
async fn lie(house: &House) {
    for (vendor, path) in READS {
        for shape in SHAPES {
            let lie = json!({"kind": "malformed", "shape": shape, "method": "GET", "path": path, "times": 1});
            control(house, vendor).add_fault(lie).await.expect("a fault");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_look_before_a_step_back_takes_a_malformed_answer_for_absence() {
    let house = open_with(HouseOptions::named("matrix-reads").with_gates()).await;
    let client = house.temporal().await.expect("Temporal");
    let mut orders = vec![];
    for shape in SHAPES {
        orders.push(Bought::new(&house, Story::GivenUp, &format!("reads-{shape}")).await);
    }
    let gate = house.names_gate().expect("a gate");
    let reverse = r#""type":"PTR","changetype":"REPLACE""#;
    let refused = json!({"kind": "status", "status": 422, "body": {"error": "no"}, "contains": reverse});
    let refused = gate.add_fault(refused).await.expect("a fault");
    join_all(orders.iter_mut().map(async |order| {
        order.begin(&client).await;
        order.page_opens().await;
        order.pay().await;
        assert_eq!(waiting_step(&house, &order.workflow_id()).await, "name");
    }))
    .await;
    gate.remove_fault(refused).await.expect("repaired");
    lie(&house).await;
    join_all(orders.iter().map(async |order| {
        let verdict = [("verdict", "abandon"), ("reason", "it cannot be named")];
        decide_firmly(&house, &order.workflow_id(), &verdict).await;
        order.reaches("abandoned").await;
        order.is_told("order_abandoned").await;
    }))
    .await;
    let world = World::ask(&house).await;
    for order in &orders {
        world.assert_ended_well(&format!("{} × malformed looks", order.name), order, Repeats::Never).await;
    }
    world.assert_places_were_seen("malformed looks");
    for vendor in [Vendor::Stripe, Vendor::Machines, Vendor::Names] {
        let left = control(&house, vendor).get("/_control/faults").await.expect("the faults");
        assert_eq!(left, json!([]), "{vendor:?}: a fault never struck");
    }
    assert_eq!(waiting(&house).await, 0, "something waits for staff");
    let asked = count(house.db(), "select count(*) from attention where step <> 'name'").await;
    assert_eq!(asked, 0, "staff were asked although nothing was for them");
    assert_stripe_contract(&house).await;
}
