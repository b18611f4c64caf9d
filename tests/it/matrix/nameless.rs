//! The column "fails for good" for calls that name no order: a fault strikes whoever makes them, so orders live one after the
//! other here.
use futures::future::join_all;
use serde_json::json;

use super::{
    order::{Story, When},
    rows::{Row, Vendor},
    story::{Aim, Cell, control},
    stuck::{assert_all_ended_well, cells, house, refused, see_and_retry},
};

fn call(vendor: Vendor, method: &'static str, path: &str) -> Aim {
    Aim { vendor, method, path: path.to_owned(), contains: String::new() }
}

/// What is looked at before something is made or taken back, and what ends an unpaid invoice.
static CALLS: [Row; 6] = [
    Row {
        activity: "payment.open_checkout",
        story: Story::Delivered,
        when: When::Begin,
        aim: |_| call(Vendor::Stripe, "GET", "/v1/checkout/sessions?customer="),
    },
    Row {
        activity: "machine.clone",
        story: Story::Delivered,
        when: When::Pay,
        aim: |_| call(Vendor::Machines, "GET", "/cluster/resources"),
    },
    Row {
        activity: "machine.destroy",
        story: Story::GivenUp,
        when: When::GiveUp,
        aim: |_| call(Vendor::Machines, "GET", "/cluster/resources"),
    },
    Row {
        activity: "name.publish",
        story: Story::Delivered,
        when: When::Pay,
        aim: |_| call(Vendor::Names, "GET", "/zones"),
    },
    Row {
        activity: "name.withdraw",
        story: Story::GivenUp,
        when: When::GiveUp,
        aim: |_| call(Vendor::Names, "GET", "/zones"),
    },
    Row {
        activity: "payment.end_subscription",
        story: Story::Ended,
        when: When::Suspended,
        aim: |_| call(Vendor::Stripe, "POST", "/void"),
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_names_no_order_and_fails_for_good_is_seen_on_both_sides_and_a_retry_ends_it() {
    // An invoice that cannot be voided as it is may be about to be paid, and is tried again; without the right nothing is.
    let (house, faults) = (house("matrix-nameless").await, refused(403));
    for row in &CALLS {
        let mut alone = cells(&house, [row], &faults).await;
        tokio::join!(join_all(alone.iter_mut().map(Cell::live)), see_and_retry(&house, 1));
        assert_all_ended_well(&house, &alone, "retried").await;
    }
}

/// The tasks of steps that find done what they asked for when they are tried again, and the request that begins each.
static TASKS: [(&str, Row); 2] = [
    (
        "/clone",
        Row {
            activity: "machine.clone",
            story: Story::Delivered,
            when: When::Pay,
            aim: |_| call(Vendor::Machines, "GET", "%3Aqmclone%3A"),
        },
    ),
    (
        "/status/start",
        Row {
            activity: "machine.start",
            story: Story::Delivered,
            when: When::Pay,
            aim: |_| call(Vendor::Machines, "GET", "%3Aqmstart%3A"),
        },
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_nobody_may_ask_about_is_seen_on_both_sides_and_a_retry_finds_what_it_did() {
    let (house, faults) = (house("matrix-tasks").await, refused(403));
    for (request, row) in &TASKS {
        // What builds at one go is refused: a step that comes after it would find its task done.
        let once = json!({"kind": "status", "status": 400, "method": "POST", "path": request, "times": 1});
        control(&house, Vendor::Machines).add_fault(once).await.expect("a fault");
        let mut alone = cells(&house, [row], &faults).await;
        tokio::join!(join_all(alone.iter_mut().map(Cell::live)), see_and_retry(&house, 1));
        assert_all_ended_well(&house, &alone, "its task, retried").await;
    }
}
