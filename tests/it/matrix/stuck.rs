//! The column "fails for good": each vendor call is broken until somebody mends it. Staff see on their page and in Temporal the
//! same steps with the same reasons, and retry, skip and abandon each end them properly.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use house::{Customer, House, HouseOptions, Page};
use serde_json::{Value, json};

use super::{
    by_hand::by_hand,
    checks::{Repeats, World},
    order::{Bought, LIMIT, Story, When},
    rows::{ROWS, Row, Vendor, machine, stripe},
    story::{Aim, Cell, control, decide_firmly},
};
use crate::{
    attention::{needing_attention, staff},
    cluster::assert_asked_of_fakepve,
    shop::{open_with, until},
    world::count,
};

/// Longer than a failure takes to be written down.
const MOMENT: Duration = Duration::from_secs(2);

/// What the vendor says, in words that staff must read again.
pub(super) const WORDS: &str = "broken for good";

pub(super) async fn house(name: &str) -> House {
    open_with(HouseOptions::named(name).with_gates()).await
}

/// A refusal that stays, in the form of whichever vendor.
pub(super) fn refused(status: u16) -> [Value; 1] {
    let error = json!({"type": "invalid_request_error", "message": WORDS});
    [json!({"kind": "status", "status": status, "body": {"data": null, "message": WORDS, "error": error}})]
}

pub(super) fn broken() -> [Value; 1] {
    refused(400)
}

/// A cell for each row, all with the same faults.
pub(super) async fn cells<'a>(
    house: &'a House,
    rows: impl IntoIterator<Item = &'static Row>,
    faults: &'a [Value],
) -> Vec<Cell<'a>> {
    let client = house.temporal().await.expect("Temporal");
    let mut cells = vec![];
    for row in rows {
        cells.push(Cell::new(house, &client, row, faults).await);
    }
    cells
}

/// What waits with the vendor's words in its reason: the workflow and its step.
async fn stuck_now(house: &House) -> BTreeMap<String, String> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select workflow_id, step from attention where settled_at is null and reason like '%broken for good%'",
    )
    .fetch_all(house.db())
    .await
    .expect("what waits");
    rows.into_iter().collect()
}

/// How many orders have what stands in the way of their story: the step of a delivered one waits with the workflow of its
/// subscription, every other with its own.
async fn orders_stuck(house: &House) -> usize {
    let found = count(
        house.db(),
        "select count(*) from orders o where exists (select from attention a
         where a.settled_at is null and a.reason like '%broken for good%'
         and case when o.status = 'delivered' then a.subscription_id = o.subscription_id else a.order_id = o.id end)",
    )
    .await;
    usize::try_from(found).expect("few")
}

/// Waits until so many orders are stuck. A subscription whose order is being taken back may be stuck besides: it looks at
/// Stripe by itself, and later where the machine is busy.
async fn until_stuck(house: &House, number: usize) -> BTreeMap<String, String> {
    until(&format!("{number} orders are stuck"), LIMIT, || async {
        (orders_stuck(house).await == number).then_some(())
    })
    .await;
    stuck_now(house).await
}

/// What staff, Temporal and the tables say at one moment: gives the staff page, and what is stuck, when nothing changed
/// meanwhile and Temporal shows just that.
async fn both_sides(house: &House, staff: &Customer) -> Option<(Page, BTreeMap<String, String>)> {
    let stuck = stuck_now(house).await;
    let found: BTreeSet<String> = needing_attention(house).await.into_iter().collect();
    let page = staff.visitor.open("/staff/").await.expect("the staff page").ok().expect("the staff page");
    let same = found.iter().eq(stuck.keys()) && stuck_now(house).await == stuck;
    same.then_some((page, stuck))
}

/// Staff and Temporal show the same, each with its step and the vendor's words.
async fn assert_both_sides_agree(house: &House, staff: &Customer) {
    let (page, stuck) =
        until("Temporal shows exactly what staff see", LIMIT, || async { both_sides(house, staff).await }).await;
    let text = page.text();
    assert!(text.contains(&format!("Waiting for a person ({})", stuck.len())), "the count is not {}", stuck.len());
    let waiting = page.texts("article");
    assert_eq!(waiting.len(), stuck.len(), "{waiting:?}");
    for (workflow_id, step) in &stuck {
        let step: domain::order::Step = step.parse().expect("a step");
        let shown = waiting.iter().find(|text| text.contains(workflow_id.as_str()));
        let shown = shown.unwrap_or_else(|| panic!("{workflow_id} is not shown: {waiting:?}"));
        assert!(shown.contains(step.title()), "the step is not shown: {shown}");
        assert!(shown.contains(WORDS), "the vendor's words are not shown: {shown}");
        page.link(&format!("/workflows/{workflow_id}")).expect("a link to Temporal UI");
    }
}

async fn mend(house: &House) {
    for vendor in [Vendor::Stripe, Vendor::Machines, Vendor::Names] {
        control(house, vendor).clear_faults().await.expect("mended");
    }
}

/// Waits until so many steps are stuck, looks at them from both sides, mends the vendors and tells each step to try again.
pub(super) async fn see_and_retry(house: &House, number: usize) {
    let staff = staff(house).await;
    until_stuck(house, number).await;
    assert_both_sides_agree(house, &staff).await;
    mend(house).await;
    // What failed just before the mending is written down a moment after it.
    for _ in 0..4 {
        for workflow_id in stuck_now(house).await.keys() {
            decide_firmly(house, workflow_id, &[("verdict", "retry")]).await;
        }
        tokio::time::sleep(MOMENT).await;
    }
}

/// Nothing waits for a person any more, and each order ended as its story says.
pub(super) async fn assert_all_ended_well(house: &House, cells: &[Cell<'_>], how: &str) {
    until("Temporal shows nothing any more", LIMIT, || async {
        needing_attention(house).await.is_empty().then_some(())
    })
    .await;
    let world = World::ask(house).await;
    for cell in cells {
        let what = format!("{} × fails for good, {how}", cell.row.activity);
        world.assert_ended_well(&what, &cell.bought, Repeats::Never).await;
    }
    assert_asked_of_fakepve(house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vendor_call_that_fails_for_good_is_seen_on_both_sides_and_a_retry_ends_it() {
    let (house, faults) = (house("matrix-stuck").await, broken());
    let mut cells = cells(&house, ROWS.iter().chain(&LOOKS).chain(&OTHER_CALLS), &faults).await;
    let person = see_and_retry(&house, cells.len());
    tokio::join!(join_all(cells.iter_mut().map(Cell::live)), person);
    assert_all_ended_well(&house, &cells, "retried").await;
}

/// The rows an order can be given up at.
fn of_an_order() -> impl Iterator<Item = &'static Row> {
    let own = |row: &&Row| row.story == Story::Delivered && row.activity != "payment.read_subscription";
    ROWS.iter().filter(own)
}

/// Begins an order of each row, until each is stuck at its own call.
async fn all_stuck<'a>(
    house: &'a House,
    rows: &[&'static Row],
    faults: &'a [Value],
) -> (Vec<Cell<'a>>, BTreeMap<String, String>) {
    let mut cells = cells(house, rows.iter().copied(), faults).await;
    join_all(cells.iter_mut().map(Cell::begin_to_its_fault)).await;
    let stuck = until_stuck(house, cells.len()).await;
    (cells, stuck)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_stuck_for_good_can_be_abandoned_and_leaves_a_clean_slate() {
    let house = house("matrix-abandoned").await;
    let (faults, rows) = (broken(), of_an_order().collect::<Vec<_>>());
    let (mut cells, stuck) = all_stuck(&house, &rows, &faults).await;
    let staff = staff(&house).await;
    assert_both_sides_agree(&house, &staff).await;
    mend(&house).await;
    for workflow_id in stuck.keys() {
        decide_firmly(&house, workflow_id, &[("verdict", "abandon"), ("reason", "it cannot be built")]).await;
    }
    for cell in &mut cells {
        cell.bought.reaches("abandoned").await;
        // What was paid goes back; what never had a payment page was never paid.
        let paid = cell.row.when != When::Begin;
        cell.bought.story = if paid { Story::GivenUp } else { Story::Lapsed };
        if paid {
            cell.bought.is_told("order_abandoned").await;
        }
    }
    assert_all_ended_well(&house, &cells, "abandoned").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_stuck_for_good_that_staff_do_by_hand_is_skipped_with_its_result() {
    let house = house("matrix-skipped").await;
    let faults = broken();
    let rows: Vec<_> = of_an_order().filter(|row| row.when == When::Pay).collect();
    let (mut cells, stuck) = all_stuck(&house, &rows, &faults).await;
    let staff = staff(&house).await;
    assert_both_sides_agree(&house, &staff).await;
    mend(&house).await;
    for cell in &mut cells {
        let workflow_id = cell.bought.workflow_id();
        by_hand(&house, &workflow_id, &stuck[&workflow_id]).await;
        let result = match cell.row.activity {
            "payment.read_checkout" => cell.bought.subscription.clone(),
            at @ ("machine.clone" | "machine.build") => {
                let vmid = if at == "machine.clone" { 175_000 } else { 175_001 };
                let description = format!("ez-service: {}", cell.bought.service);
                let made = json!({"vmid": vmid, "node": "pve1", "name": "by-hand", "description": description});
                house.proxmox().expect("a stand-in").post("/_control/vms", made).await.expect("cloned by hand");
                vmid.to_string()
            }
            _ => String::new(),
        };
        let values = [("verdict", "skip"), ("reason", "done by hand"), ("result", result.as_str())];
        decide_firmly(&house, &workflow_id, &values).await;
        cell.bought.reaches("delivered").await;
        cell.bought.is_told("service_delivered").await;
        // A machine that was cloned by hand has a number of its own.
        cell.bought.page_opens().await;
        let recorded: i64 = sqlx::query_scalar(
            "select count(*) from attention
             where order_id = $1 and verdict = 'skip' and decided_because = 'done by hand' and decided_by is not null",
        )
        .bind(cell.bought.order.0)
        .fetch_one(house.db())
        .await
        .expect("the record");
        assert_eq!(recorded, 1, "{}: who and why is not recorded", cell.row.activity);
    }
    assert_all_ended_well(&house, &cells, "skipped").await;
}

/// The rows whose step belongs to a subscription, or takes something back.
fn of_later() -> impl Iterator<Item = &'static Row> {
    let later =
        ["machine.suspend", "machine.resume", "machine.fit", "machine.destroy", "name.withdraw", "payment.refund"];
    ROWS.iter().filter(move |row| later.contains(&row.activity))
}

/// Somebody tries to give up what cannot be given up any more, and is told so.
async fn assert_not_given_up(staff: &Customer, workflow_id: &str) {
    let action = format!("/staff/attention/{workflow_id}/");
    let answer = until("the workflow answers", LIMIT, || async {
        let page = staff.visitor.open("/staff/").await.expect("the staff page").ok().expect("the staff page");
        let values = [("verdict", "abandon"), ("reason", "nobody wants it")];
        let answer = staff.visitor.submit(&page, &action, &values).await.expect("an answer");
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert_eq!(answer.status, 409, "{workflow_id}: {}", answer.text());
    assert!(answer.text().contains("cannot be given up any more"), "{workflow_id}: {}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_a_subscription_and_a_step_back_cannot_be_given_up_and_are_skipped_once_they_are_done_by_hand() {
    let (house, faults) = (house("matrix-by-hand").await, broken());
    let mut cells = cells(&house, of_later(), &faults).await;
    let number = cells.len();
    assert_eq!(number, 6);
    let person = async {
        let staff = staff(&house).await;
        let stuck = until_stuck(&house, number).await;
        for workflow_id in stuck.keys() {
            assert_not_given_up(&staff, workflow_id).await;
        }
        assert_eq!(stuck_now(&house).await, stuck, "something was given up");
        mend(&house).await;
        for (workflow_id, step) in &stuck {
            by_hand(&house, workflow_id, step).await;
            decide_firmly(&house, workflow_id, &[("verdict", "skip"), ("reason", "done by hand")]).await;
        }
    };
    tokio::join!(join_all(cells.iter_mut().map(Cell::live)), person);
    assert_all_ended_well(&house, &cells, "done by hand").await;
}

/// How a task of the order's machine stands. A task's id names its kind and its machine, and is written into the path with its
/// colons encoded.
fn task(order: &Bought<'_>, kind: &str) -> Aim {
    let path = format!("%3A{kind}%3A{}%3A", order.vmid);
    Aim { vendor: Vendor::Machines, method: "GET", path, contains: String::new() }
}

/// What an activity asks for besides the one call that does its work.
///
/// `nameless` has the look for a payment page, whose customer nobody knows before, and the tasks of a clone and of a start: another
/// try finds those done, so the one before it is refused, and a clone's task bears its template's number. `instructions` has the
/// look for credit. The same look when an order is given up is not here: no order is paid with credit.
static OTHER_CALLS: [Row; 11] = [
    Row {
        activity: "payment.open_checkout",
        story: Story::Delivered,
        when: When::Begin,
        aim: |order| Aim {
            vendor: Vendor::Stripe,
            method: "POST",
            path: "/v1/customers".to_owned(),
            contains: order.email.split('@').next().unwrap_or_default().to_owned(),
        },
    },
    Row {
        activity: "machine.protect",
        story: Story::Delivered,
        when: When::Pay,
        aim: |order| Aim {
            vendor: Vendor::Machines,
            method: "POST",
            path: format!("/qemu/{}/firewall/ipset", order.vmid),
            contains: String::new(),
        },
    },
    Row {
        activity: "machine.destroy",
        story: Story::GivenUp,
        when: When::GiveUp,
        aim: |order| Aim {
            vendor: Vendor::Machines,
            method: "POST",
            path: format!("/qemu/{}/status/stop", order.vmid),
            contains: String::new(),
        },
    },
    Row {
        activity: "machine.configure",
        story: Story::Delivered,
        when: When::Pay,
        aim: |order| task(order, "qmconfig"),
    },
    Row {
        activity: "machine.destroy",
        story: Story::GivenUp,
        when: When::GiveUp,
        aim: |order| task(order, "qmdestroy"),
    },
    Row {
        activity: "payment.refund",
        story: Story::GivenUp,
        when: When::GiveUp,
        aim: |order| Aim {
            vendor: Vendor::Stripe,
            method: "DELETE",
            path: format!("/v1/subscriptions/{}", order.subscription),
            contains: String::new(),
        },
    },
    Row {
        activity: "machine.protect",
        story: Story::Delivered,
        when: When::Pay,
        aim: |order| machine(order, "GET", "/firewall/ipset"),
    },
    Row {
        activity: "machine.suspend",
        story: Story::Resumed,
        when: When::Delivered,
        aim: |order| machine(order, "GET", "/status/current"),
    },
    Row {
        activity: "payment.refund",
        story: Story::GivenUp,
        when: When::GiveUp,
        aim: |order| stripe("GET", format!("subscription={}", order.subscription), ""),
    },
    // Its charges are asked for by the same payment, to learn whose it was.
    Row {
        activity: "payment.refund",
        story: Story::GivenUp,
        when: When::GiveUp,
        aim: |order| stripe("GET", format!("/v1/refunds?limit=100&payment_intent={}", order.intent), ""),
    },
    Row {
        activity: "payment.open_checkout",
        story: Story::Delivered,
        when: When::Begin,
        aim: |order| {
            let name = order.email.split('@').next().unwrap_or_default();
            stripe("GET", format!("/v1/customers?email={name}"), "")
        },
    },
];

/// Steps back that look before they act, and the look.
static LOOKS: [Row; 3] = [
    Row {
        activity: "machine.destroy",
        story: Story::GivenUp,
        when: When::GiveUp,
        aim: |order| Aim {
            vendor: Vendor::Machines,
            method: "GET",
            path: format!("/qemu/{}/config", order.vmid),
            contains: String::new(),
        },
    },
    Row {
        activity: "name.withdraw",
        story: Story::GivenUp,
        when: When::GiveUp,
        aim: |order| Aim {
            vendor: Vendor::Names,
            method: "GET",
            path: format!("rrset_name={}", order.name),
            contains: String::new(),
        },
    },
    Row {
        activity: "payment.refund",
        story: Story::GivenUp,
        when: When::GiveUp,
        aim: |order| Aim {
            vendor: Vendor::Stripe,
            method: "GET",
            path: format!("/v1/subscriptions/{}", order.subscription),
            contains: String::new(),
        },
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_says_not_found_is_never_taken_for_absence() {
    let house = house("matrix-absent").await;
    let page = "<h1>404</h1> broken for good: Configuration file 'nodes/pve1/qemu-server/1.conf' does not exist";
    let faults = [json!({"kind": "status", "status": 404, "body": page})];
    let mut cells = cells(&house, &LOOKS, &faults).await;
    let orders: Vec<String> = cells.iter().map(|cell| cell.bought.workflow_id()).collect();
    let person = async {
        // Stripe's own answers are JSON; whatever is none is asked again, so the third goes on by itself once it is mended.
        let stuck = until_stuck(&house, 2).await;
        assert!(!stuck.contains_key(&orders[2]), "{stuck:?}");
        let state = house.stripe().state().await.expect("Stripe");
        assert_eq!(state["refunds"], json!([]), "refunded without a look");
        let machines = house.machines().vms().await.expect("the machines");
        assert!(machines.len() >= 2, "destroyed without a look: {machines:?}");
        mend(&house).await;
        for workflow_id in stuck.keys() {
            decide_firmly(&house, workflow_id, &[("verdict", "retry")]).await;
        }
    };
    tokio::join!(join_all(cells.iter_mut().map(Cell::live)), person);
    let world = World::ask(&house).await;
    for cell in &cells {
        let what = format!("{} × a page that says not found", cell.row.activity);
        world.assert_ended_well(&what, &cell.bought, Repeats::Never).await;
    }
}
