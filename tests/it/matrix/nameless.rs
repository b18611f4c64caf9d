//! The column "fails for good" for calls that name no order: a fault strikes whoever makes them, so orders live one after the
//! other here.
use futures::future::join_all;

use super::{
    order::{Story, When},
    rows::{Row, Vendor},
    story::{Aim, Cell},
    stuck::{assert_all_ended_well, cells, house, refused, see_and_retry},
};

fn call(vendor: Vendor, method: &'static str, path: &str) -> Aim {
    Aim { vendor, method, path: path.to_owned(), contains: String::new() }
}

/// What is looked at before something is made or taken back, and what ends an unpaid invoice.
static CALLS: [Row; 5] = [
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
